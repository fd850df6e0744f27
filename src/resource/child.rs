//! A native type as a program: `whistlestop resource NAME check|in|out [DIR]`, and the same binary placed in an
//! image as `/opt/resource/{check,in,out}`.
//!
//! The contract is that of any resource type: a request on standard input, the answer on standard output, text for
//! the log on standard error, 1 as the exit status of a failure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::json;

use super::native::mirror::{HOST_FILE, TYPE_FILE};
use super::registry::Registries;
use super::{Env, Failure, Mirror, Native, Request, SCRIPTS, Script, native};
use crate::base::clock::{Clock, System};
use crate::base::network;
use crate::base::outgoing::Outgoing;
use crate::base::version::Version;

/// The variables of the server that native types need to reach the network.
pub const INHERITED: [&str; 11] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// The hidden command's name.
pub const COMMAND: &str = "resource";

/// How the word begins that names another user for a program: `--as=USER:GROUP PROGRAM …`.
pub const AS: &str = "--as=";

/// What the operator allows a native script; carried from the server to the child by its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// See [`Env::allow_local`].
    pub allow_local: bool,
    /// See [`Env::mirror`].
    pub mirror: Mirror,
    /// Where requests may not go.
    pub outgoing: Outgoing,
}

/// The arguments that make [`dispatch`] run `script` of the native type `name` in `directory`.
pub fn arguments(name: &str, script: Script, directory: &str, settings: &Settings) -> Vec<String> {
    let mut args = vec![COMMAND.to_owned()];
    args.extend(settings.allow_local.then(|| "--allow-local-git".to_owned()));
    args.extend(match settings.mirror {
        Mirror::Nothing => None,
        Mirror::HostRootfs => Some("--mirror=host".to_owned()),
        Mirror::Container => Some("--mirror=container".to_owned()),
    });
    let denied = settings.outgoing.denied().iter().map(ToString::to_string).collect::<Vec<_>>();
    args.push(format!("--deny-networks={}", denied.join(",")));
    args.extend([name.to_owned(), script.name().to_owned(), directory.to_owned()]);
    args
}

struct Call {
    name: String,
    script: Script,
    directory: Option<PathBuf>,
    settings: Settings,
    contained: bool,
}

/// Runs a native script if that is what the process was started for, and gives its exit status; `None` for
/// anything else. `main` asks this first, before any thread is started.
pub fn dispatch(args: &[OsString]) -> Option<i32> {
    let arg = |n: usize| args.get(n).and_then(|a| a.to_str());
    let contained = Path::new(arg(0)?).strip_prefix(SCRIPTS).ok().and_then(Path::to_str).and_then(Script::find);
    let call = match contained {
        Some(script) => contained_call(script, args.get(1)),
        None if arg(1) == Some(COMMAND) && arg(2).is_some_and(|word| word.starts_with(AS)) => {
            let error = become_other(arg(2).unwrap_or_default(), args.get(3..).unwrap_or_default());
            let _ = io::stderr().write_all(format!("{error}\n").as_bytes());
            return Some(1);
        }
        None if arg(1) == Some(COMMAND) => parse(args.get(2..).unwrap_or_default()),
        None => return None,
    };
    Some(match call.and_then(|call| run(&call)) {
        Ok(()) => 0,
        Err(text) => {
            // In one piece, so that a reader gets whole lines. Nobody reads any more where this fails.
            let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
            1
        }
    })
}

/// Goes on as a program of another user's, with nothing of ours: a repository's owner receives what is pushed to it.
fn become_other(who: &str, command: &[OsString]) -> String {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    use std::os::unix::process::CommandExt;
    let ids = who[AS.len()..].split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    let (Some((user, group)), Some((program, args))) = (ids, command.split_first()) else {
        return format!("usage: whistlestop {COMMAND} {AS}USER:GROUP PROGRAM …");
    };
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    if let Err(error) = setgroups(&[group]).and_then(|()| setgid(group)).and_then(|()| setuid(user)) {
        return format!("cannot become user {user} of group {group}: {error}");
    }
    let settings =
        [("safe.directory", "*"), ("receive.autogc", "false"), ("core.alternateRefsCommand", "true")].into_iter();
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir("/").env("HOME", "/").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (n, (name, value)) in settings.enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{n}"), name).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    format!("cannot run {}: {}", program.display(), command.exec())
}

fn contained_call(script: Script, directory: Option<&OsString>) -> Result<Call, String> {
    let path = Path::new(SCRIPTS).join(TYPE_FILE);
    let name = std::fs::read_to_string(&path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    let (name, directory) = (name.trim().to_owned(), directory.map(PathBuf::from));
    // In a container of its own there is nothing local but what the step has.
    let settings = Settings { allow_local: true, mirror: contained_mirror(), ..Settings::default() };
    Ok(Call { name, script, directory, settings, contained: true })
}

fn contained_mirror() -> Mirror {
    if Path::new(SCRIPTS).join(HOST_FILE).exists() { Mirror::HostRootfs } else { Mirror::Container }
}

fn parse(args: &[OsString]) -> Result<Call, String> {
    let usage = || format!("usage: whistlestop {COMMAND} NAME check|in|out [DIR]");
    let mut settings = Settings::default();
    let mut rest = Vec::new();
    for arg in args {
        match arg.to_str() {
            Some("--allow-local-git") => settings.allow_local = true,
            Some("--mirror=host") => settings.mirror = Mirror::HostRootfs,
            Some("--mirror=container") => settings.mirror = Mirror::Container,
            Some(text) if text.starts_with("--deny-networks=") => {
                settings.outgoing = networks(&text["--deny-networks=".len()..])?;
            }
            _ => rest.push(arg),
        }
    }
    let script = rest.get(1).and_then(|a| a.to_str()).and_then(Script::find).ok_or_else(usage)?;
    let name = rest.first().and_then(|a| a.to_str()).ok_or_else(usage)?.to_owned();
    Ok(Call { name, script, directory: rest.get(2).map(PathBuf::from), settings, contained: false })
}

fn networks(list: &str) -> Result<Outgoing, String> {
    let wrong = |text: &str| format!("{text:?} is no network: write it as 169.254.0.0/16 or fd00:ec2::254");
    let networks = list.split(',').map(str::trim).filter(|text| !text.is_empty());
    networks.map(|text| network::read(text).ok_or_else(|| wrong(text))).collect::<Result<_, _>>().map(Outgoing::new)
}

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn terminate(_: i32) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// SIGTERM asks the script to stop, so that it can end what it started.
fn listen() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::Handler(terminate), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: `terminate` does nothing but an atomic store, which is allowed in a signal handler.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

fn run(call: &Call) -> Result<(), String> {
    let native = native::find(&call.name).ok_or_else(|| {
        let names: Vec<_> = native::all().iter().map(|n| n.name()).collect();
        format!("there is no built-in resource type {:?}: it is one of {}", call.name, names.join(", "))
    })?;
    listen();
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input).map_err(|err| format!("cannot read the request: {err}"))?;
    let request = request(&input)?;
    let build: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let privileged = call.contained && is_privileged();
    let mut env = Env {
        log: &mut io::stderr(),
        cache: None,
        allow_local: call.settings.allow_local,
        cancelled: &|| TERMINATED.load(Ordering::Relaxed),
        build: &build,
        now: System.now(),
        privileged,
        registries: Registries { outgoing: call.settings.outgoing.clone(), ..Registries::default() },
        mirror: call.settings.mirror,
    };
    let answer = answer(native, call, &request, &mut env).map_err(|failure| failure.to_string())?;
    writeln!(io::stdout(), "{answer}").map_err(|err| format!("cannot write the answer: {err}"))
}

fn answer(
    native: &dyn Native,
    call: &Call,
    request: &Request,
    env: &mut Env<'_>,
) -> Result<serde_json::Value, Failure> {
    let directory = || {
        let dir = call.directory.clone();
        dir.ok_or_else(|| Failure::Config(format!("usage: {} <directory>", call.script.path())))
    };
    Ok(match call.script {
        Script::Check => json!(native.check(request, env)?),
        Script::In => json!(native.get(request, &directory()?, env)?),
        Script::Out => json!(native.put(request, &directory()?, env)?),
    })
}

/// As [`Request`], but a null stands for nothing, since scripts are also called by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(default)]
    source: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    params: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    version: Option<Version>,
}

fn request(input: &[u8]) -> Result<Request, String> {
    let payload: Payload = serde_json::from_slice(input).map_err(|err| format!("invalid payload: {err}"))?;
    Ok(Request { source: payload.source.unwrap_or_default(), params: payload.params, version: payload.version })
}

/// Whether this is a privileged container: of all users, and with the right that only those have. The original looks at
/// the users only, which an engine that does not remap them leaves to all its containers.
fn is_privileged() -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    has_all_rights(&read("uid_map"), &read("status"))
}

fn has_all_rights(uid_map: &str, status: &str) -> bool {
    const SYS_ADMIN: u32 = 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    uid_map.split_whitespace().eq(["0", "0", "4294967295"]) && effective >> SYS_ADMIN & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_is_who_is_root_of_the_host_with_all_rights() {
        let (host, mapped) = ("         0          0 4294967295\n", "0 4294967294 1\n1 1 4294967293\n");
        let (all, usual) = ("Name:\tin\nCapEff:\t000001ffffffffff\n", "Name:\tin\nCapEff:\t00000000a80425fb\n");
        assert!(has_all_rights(host, all));
        assert!(!has_all_rights(host, usual) && !has_all_rights(mapped, all) && !has_all_rights("", ""));
    }

    #[test]
    fn arguments_are_read_as_they_were_written() {
        for settings in [
            Settings::default(),
            Settings { allow_local: true, mirror: Mirror::HostRootfs, ..Settings::default() },
            Settings { mirror: Mirror::Container, ..Settings::default() },
            Settings { outgoing: Outgoing::new(vec!["10.0.0.0/8".parse().unwrap()]), ..Settings::default() },
            Settings { outgoing: Outgoing::new(Vec::new()), ..Settings::default() },
        ] {
            for script in [Script::Check, Script::In, Script::Out] {
                let args: Vec<OsString> =
                    arguments("mock", script, "/dir", &settings).into_iter().skip(1).map(Into::into).collect();
                let call = parse(&args).unwrap();
                assert_eq!((call.name.as_str(), call.script, call.settings), ("mock", script, settings.clone()));
                assert_eq!(call.directory.as_deref(), Some(Path::new("/dir")));
            }
        }
    }

    #[test]
    fn other_command_lines_are_not_for_a_script() {
        for args in [&["whistlestop", "serve"][..], &["/usr/bin/check"], &["/opt/resource/other"], &[]] {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            assert_eq!(dispatch(&args), None, "{args:?}");
        }
    }

    #[test]
    fn a_payload_may_have_nulls_but_no_members_of_its_own() {
        let r = request(br#"{"source":{"uri":"x"},"version":null}"#).unwrap();
        assert_eq!(r.version, None);
        assert!(request(br#"{"source":{},"resource":1}"#).unwrap_err().starts_with("invalid payload: "));
    }
}
