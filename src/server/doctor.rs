//! What this host isolates and what not, what follows, and what to do about it.

use std::path::Path;

use serde::Serialize;

use super::Serve;
use crate::runtime::docker::{Docker, EngineFacts};
use crate::runtime::embedded::{Embedded, Found};
use crate::runtime::network::Doors;
use crate::runtime::room;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Something is less than it could be.
    Note,
    /// Steps cannot run, or walls are down that were asked for.
    Bad,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How good it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What follows from it; empty where all is well.
    pub follows: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        let (follows, remedy) = Default::default();
        Finding { what, level: Level::Good, found: found.into(), follows, remedy }
    }

    fn less(what: &'static str, level: Level, found: impl Into<String>, follows: &str, remedy: &str) -> Finding {
        Finding { what, level, found: found.into(), follows: follows.to_owned(), remedy: remedy.to_owned() }
    }
}

const NAMES: &str = "name servers";

/// What concerns both ways to run steps.
pub fn of_host(serve: &Serve) -> Vec<Finding> {
    let mut findings = vec![disk_room(serve), user(), denied(serve)];
    let resolv = serve.containment.isolation(&Doors::default()).network.resolv(true);
    findings.push(match resolv.lines().find_map(|line| line.strip_prefix("nameserver ")) {
        Some(server) => Finding::good(NAMES, server),
        None => Finding::less(
            NAMES,
            Level::Note,
            "only on this host's loopback, or none",
            "steps with a network of their own cannot find names",
            "name one that they reach with --dns-server",
        ),
    });
    findings
}

fn denied(serve: &Serve) -> Finding {
    let list = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let open = serve.containment.open_metadata();
    if open.is_empty() {
        return Finding::good("denied networks", list(&serve.containment.deny_networks));
    }
    Finding::less(
        "denied networks",
        Level::Note,
        format!("not {}", list(&open)),
        "in a cloud, steps can take this machine's own credentials",
        "name them in --deny-networks too: the flag replaces the usual list",
    )
}

fn disk_room(serve: &Serve) -> Finding {
    let place = serve.state_dir.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    let Some((free, whole)) = room::room(place) else {
        return Finding::less("disk", Level::Note, "cannot be looked at", "", "");
    };
    let least = serve.containment.low_disk_watermark.of(whole);
    let found = format!("{} MB free of {} MB at {}", free >> 20, whole >> 20, place.display());
    match free < least {
        true => Finding::less("disk", Level::Bad, found, "no build starts", "make room, or lower --low-disk-watermark"),
        false => Finding::good("disk", found),
    }
}

fn user() -> Finding {
    if nix::unistd::Uid::effective().is_root() {
        return Finding::good("user", "root");
    }
    Finding::less(
        "user",
        Level::Note,
        "an ordinary user",
        "without Docker, steps have no user but root, the host's network and no bound on memory",
        "run the server as root, or give it a Docker engine",
    )
}

/// What concerns containers of our own making.
pub async fn of_embedded(embedded: &Embedded) -> Vec<Finding> {
    let probed = match embedded.probe().await {
        Ok(found) => found,
        Err(error) => {
            return vec![Finding::less(
                "own containers",
                Level::Bad,
                error.to_string(),
                "steps cannot run",
                "use Docker",
            )];
        }
    };
    let mut findings = kernel(&probed);
    findings.push(layers(embedded.on_overlay()));
    findings.push(cgroups());
    findings.push(match embedded.leases().shortcoming() {
        None => Finding::good("network", "a network of its own for each step, behind nftables rules"),
        Some(why) => Finding::less(
            "network",
            Level::Note,
            format!("the host's: {why}"),
            "steps reach this host's loopback, metadata addresses and each other",
            "run as root with nf_tables in the kernel, or use Docker; --step-network own makes it an error",
        ),
    });
    findings
}

fn kernel(probed: &Found) -> Vec<Finding> {
    let allow = "run as root with CAP_SYS_ADMIN, allow user namespaces (sysctl user.max_user_namespaces, \
                 kernel.apparmor_restrict_unprivileged_userns=0), or use Docker";
    let needed = |what, found: &Option<String>, remedy: &str| match found {
        None => Finding::good(what, "work"),
        Some(why) => Finding::less(what, Level::Bad, why, "steps cannot run in containers of our own making", remedy),
    };
    vec![
        needed("user namespaces", &probed.users, allow),
        needed("namespaces", &probed.namespaces, allow),
        needed(
            "layers (overlayfs)",
            &probed.overlay,
            "load the module overlay, or keep the state on ext4, xfs or btrfs",
        ),
        needed("seccomp", &probed.seccomp, "use a kernel with CONFIG_SECCOMP_FILTER"),
        Finding::good("idmapped mounts", "not needed: numbers of users are the same inside and outside"),
    ]
}

/// Whether volumes can be layered over each other where the state is.
fn layers(on_overlay: bool) -> Finding {
    let what = "copies";
    if !on_overlay {
        return Finding::good(what, "are layers over what they are copies of");
    }
    Finding::less(
        what,
        Level::Note,
        "the state directory lies on an overlay, as in a container without a volume",
        "every input and cache is copied whole, and what steps change in their image is kept in memory",
        "put --state-dir on a disk: mount a volume there (docker run -v NAME:DIR)",
    )
}

/// What concerns both ways to run steps and keeps them from running well: for the word at the start.
pub fn of_start(serve: &Serve) -> Vec<Finding> {
    let serious = |finding: &Finding| finding.level == Level::Bad || finding.what == NAMES;
    of_host(serve).into_iter().filter(serious).collect()
}

fn cgroups() -> Finding {
    let root = Path::new("/sys/fs/cgroup");
    let writable = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    let (version, place) = match root.join("cgroup.controllers").exists() {
        true => ("2", root.to_owned()),
        false => ("1", root.join("pids")),
    };
    if writable(&place) {
        return Finding::good("cgroups", format!("version {version}"));
    }
    Finding::less(
        "cgroups",
        Level::Note,
        format!("version {version}, and we cannot write there"),
        "container_limits have no effect",
        "run as root, or use Docker",
    )
}

/// What concerns a Docker engine. Where it is and what stands around its steps is only tried if `really`: that takes it
/// a while.
pub async fn of_docker(docker: &Docker, really: bool) -> Vec<Finding> {
    match docker.facts().await {
        Ok(facts) => {
            let standing = match docker.fixed_network() {
                Some(_) => Ok(()),
                None => docker.networks().standing(really).await,
            };
            let mut findings = engine(&facts, walls(standing, docker.fixed_network()));
            findings.extend(fuse(&facts, docker.gives_fuse()));
            findings
        }
        Err(error) => {
            let follows = "steps run in containers of our own making, unless --runtime docker was asked for";
            let remedy = "start the engine, or point DOCKER_HOST at one";
            vec![Finding::less("Docker", Level::Note, error.to_string(), follows, remedy)]
        }
    }
}

/// What follows beside an engine where this host lets us make no containers of our own.
pub fn of_natives(shortcoming: Option<&str>) -> Vec<Finding> {
    let Some(why) = shortcoming else { return Vec::new() };
    vec![Finding::less(
        "containers of our own beside Docker",
        Level::Note,
        format!("none: {why}"),
        "gets and puts of built-in types run in the engine's containers; images that the engine cannot pull itself \
         (source.ca_certs, insecure registries, saved ones) cannot be unpacked",
        "a server in a container needs --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined for that",
    )]
}

fn engine(facts: &EngineFacts, walls: Finding) -> Vec<Finding> {
    let mut findings = vec![Finding::good("Docker", format!("{}, layers by {}", facts.version, facts.storage))];
    findings.push(match flaws(&facts.runc) {
        None => Finding::good("Docker's runc", facts.runc.clone()),
        Some(flaws) => Finding::less(
            "Docker's runc",
            Level::Note,
            facts.runc.clone(),
            &format!("a step can break out of its container ({flaws})"),
            "update runc to 1.2.8, 1.3.3 or later",
        ),
    });
    let has = |word: &str| facts.security.iter().any(|s| s.contains(word));
    if !has("seccomp") {
        findings.push(Finding::less(
            "Docker's seccomp",
            Level::Note,
            "off",
            "steps may call whatever the kernel has",
            "use an engine with seccomp",
        ));
    }
    if !has("rootless") && !has("userns") {
        findings.push(Finding::less(
            "Docker's users",
            Level::Note,
            "root in a step is the host's root with fourteen capabilities",
            "programs that ask /proc/self/uid_map take every step for privileged",
            "run the engine rootless",
        ));
    }
    if has("userns") && !has("rootless") {
        findings.push(Finding::less(
            "Docker's users",
            Level::Note,
            "remapped (--userns-remap)",
            "images that come out of steps, or from --resource-types, may be refused by the engine",
            "run the engine rootless instead",
        ));
    }
    findings.push(match facts.bounds {
        true => Finding::good("Docker's cgroups", format!("version {}", facts.cgroups)),
        false => Finding::less(
            "Docker's cgroups",
            Level::Note,
            format!("version {}, without bounds on memory or processes", facts.cgroups),
            "container_limits have no effect",
            "let the engine manage cgroups (a rootless one needs version 2 with delegation)",
        ),
    });
    findings.push(walls);
    findings
}

/// What `--privileged-mode fuse-only` comes to on an engine whose root is the host's.
fn fuse(facts: &EngineFacts, given: bool) -> Option<Finding> {
    let own_users = facts.security.iter().any(|word| word.contains("rootless") || word.contains("userns"));
    (given && !own_users).then(|| {
        Finding::less(
            "privileged steps",
            Level::Note,
            "fuse-only without mounts: the engine has no user namespaces",
            "privileged steps get /dev/fuse and no more rights than others: whoever may mount there is this host's root",
            "run the engine rootless or with --userns-remap, or steps with --runtime embedded",
        )
    })
}

/// Whether rules of ours stand around an engine's steps, or why not; `fixed` is the one network that the operator has all
/// share.
fn walls(standing: Result<(), String>, fixed: Option<&str>) -> Finding {
    let what = "Docker's walls";
    if let Some(network) = fixed {
        return Finding::less(
            what,
            Level::Note,
            format!("none: all steps share the network {network} (--docker-network)"),
            "steps reach metadata addresses, this host's listeners and other teams' steps",
            "leave --docker-network out, or keep the rules on that network yourself (iptables -I DOCKER-USER …)",
        );
    }
    match standing {
        Ok(()) => Finding::good(what, "rules of ours keep steps from --deny-networks and this host's listeners"),
        Err(why) => Finding::less(
            what,
            Level::Note,
            format!("none: {why}"),
            "steps reach metadata addresses and what listens on the engine's host",
            "on its host: iptables -I DOCKER-USER -d 169.254.0.0/16 -j REJECT",
        ),
    }
}

/// Known ways out of containers that this version still has.
fn flaws(runc: &str) -> Option<&'static str> {
    let version = runc.strip_prefix("runc ")?;
    let mut numbers = version.split(['.', '-', '+', '~']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0));
    match version {
        v if v < (1, 1, 12) => Some("CVE-2024-21626, CVE-2025-31133"),
        v if v < (1, 2, 8) || ((1, 3, 0)..(1, 3, 3)).contains(&v) => {
            Some("CVE-2025-31133, CVE-2025-52565, CVE-2025-52881")
        }
        _ => None,
    }
}

/// One line for the log.
pub fn summary(findings: &[Finding]) -> String {
    let less: Vec<String> = findings
        .iter()
        .filter(|f| f.level != Level::Good)
        .map(|f| format!("{}: {}", f.what, f.found.lines().next().unwrap_or_default()))
        .collect();
    match less.is_empty() {
        true => "every wall around steps stands".to_owned(),
        false => format!("{} (whistlestop doctor says what follows)", less.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_that_let_steps_out_are_known() {
        for (runc, out) in [
            ("runc 1.1.5+ds1", true),
            ("runc 1.1.14", true),
            ("runc 1.2.7", true),
            ("runc 1.2.8", false),
            ("runc 1.3.0", true),
            ("runc 1.3.3", false),
            ("runc 1.4.0-rc.1", false),
            ("crun 1.8", false),
            ("", false),
        ] {
            assert_eq!(flaws(runc).is_some(), out, "{runc}");
        }
    }

    #[test]
    fn a_network_that_all_share_has_no_walls() {
        for standing in [Ok(()), Err("elsewhere".to_owned())] {
            let finding = walls(standing, Some("shared"));
            assert_eq!(finding.level, Level::Note);
            assert!(finding.found.contains("none: all steps share the network shared"), "{}", finding.found);
            assert!(finding.follows.contains("other teams' steps") && !finding.remedy.is_empty());
        }
        assert_eq!(walls(Ok(()), None).level, Level::Good);
        let none = walls(Err("the engine is elsewhere".to_owned()), None);
        assert!(none.level == Level::Note && none.found.ends_with("the engine is elsewhere"), "{none:?}");
    }

    #[test]
    fn what_privileged_steps_do_not_get_is_a_finding() {
        let of = |word: &str| EngineFacts { security: vec![word.to_owned()], ..EngineFacts::default() };
        assert!(fuse(&of("name=seccomp"), true).is_some_and(|f| !f.remedy.is_empty()));
        assert_eq!(fuse(&of("name=seccomp"), false), None);
        assert_eq!(fuse(&of("name=userns"), true), None);
    }

    #[test]
    fn metadata_that_is_not_denied_is_a_finding() {
        let of = |args: &[&str]| denied(&Serve::from_args(args).unwrap());
        assert_eq!(of(&[]).level, Level::Good);
        let less = of(&["--deny-networks", "10.0.0.0/8,169.254.0.0/16"]);
        assert_eq!(less.level, Level::Note);
        assert!(less.found.contains("100.100.100.200") && !less.found.contains("169.254"), "{}", less.found);
    }

    #[test]
    fn the_word_at_the_start_tells_of_a_full_disk() {
        let told = |args: &[&str]| summary(&of_start(&Serve::from_args(args).unwrap()));
        assert!(told(&["--low-disk-watermark", "100%"]).contains("disk: "));
        assert!(!told(&["--low-disk-watermark", "0%", "--dns-server", "9.9.9.9"]).contains("disk: "));
        assert_eq!((layers(true).level, layers(false).level), (Level::Note, Level::Good));
    }

    #[test]
    fn the_summary_names_what_is_less() {
        let good = Finding::good("disk", "plenty");
        let less = Finding::less("network", Level::Note, "the host's", "", "");
        assert_eq!(summary(std::slice::from_ref(&good)), "every wall around steps stands");
        assert_eq!(summary(&[good, less]), "network: the host's (whistlestop doctor says what follows)");
    }
}
