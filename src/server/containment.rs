//! Settings of the walls around steps, and of what is kept of them.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

use crate::base::duration;
use crate::base::network::{METADATA, open_metadata};
use crate::base::outgoing::Proxies;
use crate::engine::Retention;
use crate::pipeline::parse_memory;
use crate::runtime::Limits;
use crate::runtime::docker;
use crate::runtime::isolation::{Isolation, PrivilegedMode, usual_processes};
use crate::runtime::network::{Doors, HostEntry, Mode, Policy, parse_net};
use crate::runtime::room::Watermark;

/// Which network steps get where Docker does not run them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum StepNetwork {
    /// One of their own where this host lets us make it (as root), else the host's.
    #[default]
    Auto,
    /// One of their own, or they do not start.
    Own,
    /// The host's, without walls.
    Host,
}

/// What `privileged: true` gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Privileged {
    /// All that the host has.
    #[default]
    Full,
    /// Enough to mount file systems in a user namespace, such as fuse-overlayfs.
    FuseOnly,
    /// Nothing more than other steps have.
    Ignore,
}

impl From<Privileged> for PrivilegedMode {
    fn from(word: Privileged) -> PrivilegedMode {
        match word {
            Privileged::Full => PrivilegedMode::Full,
            Privileged::FuseOnly => PrivilegedMode::FuseOnly,
            Privileged::Ignore => PrivilegedMode::Ignore,
        }
    }
}

fn team_privileged(text: &str) -> Result<(String, Privileged), String> {
    let wrong = || format!("'{text}' is not TEAM=MODE: MODE is full, fuse-only or ignore");
    let (team, mode) = text.split_once('=').filter(|(team, _)| !team.is_empty()).ok_or_else(wrong)?;
    Ok((team.to_owned(), Privileged::from_str(mode, true).map_err(|_| wrong())?))
}

/// A watermark as it is written: `500MB`, `5%`.
pub fn watermark(text: &str) -> Result<Watermark, String> {
    if let Some(number) = text.strip_suffix('%') {
        let percent = number.trim().parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
        return percent.map(Watermark::Percent).ok_or_else(|| format!("'{text}' is no share of a disk, such as 5%"));
    }
    bytes(text).map(Watermark::Bytes)
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_memory(text).map_err(|_| format!("'{text}' is no size, such as 500MB or 2GB"))
}

/// Settings about steps' containers.
#[derive(Debug, Clone, Args)]
pub struct Containment {
    /// The network of steps that do not run in Docker
    #[arg(long, value_enum, default_value_t)]
    pub step_network: StepNetwork,
    /// Networks that no step may reach (needs root on the host that runs them), nor a request made for one; in place of
    /// the usual ones, which are where clouds keep a machine's credentials
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_net, default_value = METADATA)]
    pub deny_networks: Vec<IpNet>,
    /// A name server for steps in place of the host's; may be repeated
    #[arg(long, value_name = "IP")]
    pub dns_server: Vec<std::net::IpAddr>,
    /// One more name in steps' /etc/hosts; may be repeated
    #[arg(long, value_name = "NAME:IP")]
    pub extra_host: Vec<HostEntry>,
    /// Where addresses of steps come from that do not run in Docker
    #[arg(long, value_name = "CIDR", default_value = "10.80.0.0/16")]
    pub network_pool: Ipv4Net,
    /// Let steps reach whatever listens on this host's addresses, and not only this server
    #[arg(long)]
    pub allow_host_access: bool,
    /// Proxy for http that steps and built-in resource types are told of
    #[arg(long, value_name = "URL", value_parser = Proxies::address)]
    pub http_proxy: Option<String>,
    /// Proxy for https that steps and built-in resource types are told of
    #[arg(long, value_name = "URL", value_parser = Proxies::address)]
    pub https_proxy: Option<String>,
    /// Hosts that steps and built-in resource types reach without the proxies, with commas between
    #[arg(long, value_name = "HOSTS")]
    pub no_proxy: Option<String>,
    /// The Docker network of all steps, in place of one for each team and without walls of ours around it
    #[arg(long, value_name = "NAME")]
    pub docker_network: Option<String>,
    /// Networks kept ready for unprivileged steps in Docker, at most: a team's steps have them one after another
    #[arg(long, value_name = "N", default_value_t = docker::LEASES)]
    pub docker_leases: usize,
    /// What privileged steps get
    #[arg(long, value_enum, default_value_t)]
    pub privileged_mode: Privileged,
    /// What privileged steps of one team get, in place of that; may be repeated
    #[arg(long, value_name = "TEAM=MODE", value_parser = team_privileged)]
    pub team_privileged_mode: Vec<(String, Privileged)>,
    /// Keep programs in steps from gaining rights by set-user-id files (sudo does not work then)
    #[arg(long)]
    pub step_no_new_privileges: bool,
    /// CPU shares of tasks that name none
    #[arg(long, value_name = "SHARES")]
    pub default_task_cpu_limit: Option<u64>,
    /// Memory of tasks that name none
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub default_task_memory_limit: Option<u64>,
    /// Processes and threads in one container, at most; 0 for no bound [default: 16384, or an eighth of what the host has
    /// if that is less]
    #[arg(long, value_name = "N")]
    pub max_step_processes: Option<u64>,
    /// Open files of each process in a step [default: as this server's or the engine's]
    #[arg(long, value_name = "N")]
    pub max_step_open_files: Option<u64>,
    /// Output of one step, at most: it is ended beyond [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_step_output: Option<u64>,
    /// How long containers of a job's last build stay for hijack when it did not succeed; 0 for until the next build
    #[arg(long, value_name = "DURATION", default_value = "120h", value_parser = duration::parse)]
    pub gc_failed_grace_period: Duration,
    /// How long containers of one-off builds stay for hijack
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub gc_one_off_grace_period: Duration,
    /// How long a container stays after somebody was in it with hijack
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    pub gc_hijack_grace_period: Duration,
    /// Free space on the disk below which no build starts and no image is unpacked, as a size or a share
    #[arg(long, value_name = "SIZE|PERCENT", default_value = "1GB", value_parser = watermark)]
    pub low_disk_watermark: Watermark,
    /// Space for fetched versions, with their images, and task caches; the longest unused go first [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub max_cache_size: Option<u64>,
}

impl Containment {
    /// For the runtimes. `doors` lead to the server.
    pub fn isolation(&self, doors: &Doors) -> Isolation {
        Isolation {
            network: Policy {
                mode: match self.step_network {
                    StepNetwork::Auto => Mode::Auto,
                    StepNetwork::Own => Mode::Own,
                    StepNetwork::Host => Mode::Host,
                },
                deny: self.deny_networks.clone(),
                dns: self.dns_server.clone(),
                hosts: self.extra_host.clone(),
                pool: self.network_pool.trunc(),
                allow_host: self.allow_host_access,
                doors: doors.clone(),
            },
            privileged: self.privileged_mode.into(),
            privileged_by_team: self
                .team_privileged_mode
                .iter()
                .map(|(team, mode)| (team.clone(), (*mode).into()))
                .collect(),
            no_new_privileges: self.step_no_new_privileges,
            tasks: Limits { cpu: self.default_task_cpu_limit, memory: self.default_task_memory_limit },
            processes: Some(self.max_step_processes.unwrap_or_else(usual_processes)).filter(|n| *n > 0),
            open_files: self.max_step_open_files,
            output: self.max_step_output,
        }
    }

    /// Flags that give a team something by its name.
    pub fn named_teams(&self) -> Option<&'static str> {
        (!self.team_privileged_mode.is_empty()).then_some("--team-privileged-mode")
    }

    /// Where clouds keep a machine's credentials and steps may go by the operator's word.
    pub fn open_metadata(&self) -> Vec<IpNet> {
        open_metadata(&self.deny_networks)
    }

    /// What the operator should know of their words, when the server starts.
    pub fn notices(&self, docker: bool) -> Vec<String> {
        let mut notices = Vec::new();
        let open: Vec<_> = self.open_metadata().iter().map(ToString::to_string).collect();
        if !open.is_empty() {
            notices.push(format!(
                "--deny-networks replaces the usual list: steps and requests made for them may reach {}, where clouds keep \
                 this machine's credentials; add them unless that is meant",
                open.join(",")
            ));
        }
        if let Some(network) = self.docker_network.as_ref().filter(|_| docker) {
            notices.push(format!(
                "--docker-network {network}: steps in Docker share it without walls of ours, so they reach metadata \
                 addresses, this host's listeners and other teams' steps"
            ));
        }
        notices
    }

    /// For requests and for programs in steps.
    pub fn proxies(&self) -> Proxies {
        Proxies { http: self.http_proxy.clone(), https: self.https_proxy.clone(), none: self.no_proxy.clone() }
    }

    /// For the collector.
    pub fn retention(&self) -> Retention {
        Retention {
            failed: Some(self.gc_failed_grace_period).filter(|d| !d.is_zero()),
            one_off: self.gc_one_off_grace_period,
            caches: self.max_cache_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Serve;

    #[test]
    fn the_operators_words_reach_the_runtime() {
        let words =
            ["--deny-networks", "10.0.0.0/8,169.254.0.0/16", "--extra-host", "db:10.9.9.9", "--privileged-mode"];
        let teams = ["--team-privileged-mode", "ops=full", "--team-privileged-mode", "apps=fuse-only"];
        let more =
            ["ignore", "--max-step-processes", "0", "--default-task-memory-limit", "1GB", "--dns-server", "9.9.9.9"];
        let serve = Serve::from_args(words.iter().chain(&more).chain(&teams)).unwrap();
        let isolation = serve.containment.isolation(&Doors::new(vec![8080], None));
        assert_eq!(isolation.network.deny.len(), 2);
        assert_eq!((isolation.processes, isolation.privileged), (None, PrivilegedMode::Ignore));
        assert_eq!(isolation.privileged_by_team["apps"], PrivilegedMode::FuseOnly);
        assert!(Serve::from_args(["--team-privileged-mode", "ops"]).is_err());
        assert_eq!((isolation.tasks.memory, isolation.network.doors.ports), (Some(1 << 30), vec![8080]));
        let usual = Serve::from_args::<_, &str>([]).unwrap().containment;
        assert_eq!(usual.isolation(&Doors::default()), Isolation::default());
        assert_eq!(usual.retention(), Retention::default());
    }

    #[test]
    fn words_that_take_walls_down_are_told_of() {
        let told = |args: &[&str], docker| Serve::from_args(args).unwrap().containment.notices(docker);
        assert_eq!(told(&[], true), [] as [&str; 0]);
        let open = told(&["--deny-networks", "10.0.0.0/8,169.254.0.0/16"], true);
        assert!(open.len() == 1 && open[0].contains("fd00:ec2::254") && !open[0].contains("169.254"), "{open:?}");
        let shared = told(&["--docker-network", "ci"], true);
        assert!(shared.len() == 1 && shared[0].starts_with("--docker-network ci: "), "{shared:?}");
        assert_eq!(told(&["--docker-network", "ci"], false), [] as [&str; 0]);
    }

    #[test]
    fn watermarks_are_sizes_or_shares() {
        assert_eq!(watermark("5%").unwrap().of(1000), 50);
        assert_eq!(watermark("2GB").unwrap().of(1000), 2 << 30);
        for bad in ["5 %x", "101%", "-1%", "much"] {
            assert!(watermark(bad).is_err(), "{bad}");
        }
    }
}
