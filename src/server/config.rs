//! What an operator can set: by flag, by environment, or in a YAML file, in this order of precedence.
//!
//! Flags are named as Concourse names them where they mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, ValueEnum};

use super::containment::Containment;
use super::foreign_flags;
use super::main_team::MainTeamFlags;
use super::nearest::nearest;
use super::network::NetworkFlags;
use super::sign_in::SignInFlags;
use crate::auth::action::Category;
use crate::login::LocalUser;

/// Where steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RuntimeChoice {
    /// Docker if it can be reached, else embedded.
    #[default]
    Auto,
    /// Docker.
    Docker,
    /// Containers of our own making.
    Embedded,
    /// What Concourse's workers have: as `auto`, with a notice.
    #[value(name = "containerd", aliases = ["guardian", "houdini"], hide = true)]
    OfConcourse,
}

impl RuntimeChoice {
    /// How long an engine is given to say that it is there: one that was asked for may be busy, and one that only might be
    /// there holds the start up.
    pub fn patience(self) -> Duration {
        Duration::from_secs(if self == RuntimeChoice::Docker { 30 } else { 2 })
    }
}

/// What this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum RoleChoice {
    /// API and pages.
    Web,
    /// Checks, scheduling and tracking of builds.
    Scheduler,
    /// Running steps.
    Worker,
}

impl RoleChoice {
    /// Its name, as in `--roles` and the lock's file.
    pub fn name(self) -> &'static str {
        match self {
            RoleChoice::Web => "web",
            RoleChoice::Scheduler => "scheduler",
            RoleChoice::Worker => "worker",
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// Settings of `whistlestop serve`.
///
/// Each flag can also be given by environment, as WHISTLESTOP_ and its name in capitals with underscores (those that
/// Concourse has also as CONCOURSE_…), or in the YAML file named by --config. Flags win over the environment, which
/// wins over the file.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct Serve {
    /// Settings as YAML: the names of these flags without dashes in front, and their values
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept: database, build logs, volumes of the embedded runtime
    #[arg(long, value_name = "DIR", default_value = "whistlestop-state")]
    pub state_dir: PathBuf,
    /// What this process does
    #[arg(long, value_name = "ROLE", value_delimiter = ',', default_value = "web,scheduler,worker")]
    pub roles: Vec<RoleChoice>,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_ip: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub bind_port: u16,
    /// Where people and fly reach this server [default: http://127.0.0.1:PORT]
    #[arg(long, value_name = "URL")]
    pub external_url: Option<String>,
    /// The installation's name, shown on pages
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Name of the worker in this process, as builds and `fly workers` show it
    #[arg(long, value_name = "NAME", default_value = "whistlestop")]
    pub worker_name: String,
    /// A tag of this server's worker, for steps and resources that ask for it; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Where steps run
    #[arg(long, value_enum, default_value_t)]
    pub runtime: RuntimeChoice,
    /// A user who signs in with a password, plain or as bcrypt or argon2 hash; may be repeated. Users can also be added
    /// while the server runs, with `whistlestop user`
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub add_local_user: Vec<LocalUser>,
    /// Who administers this server
    #[command(flatten)]
    pub main_team: MainTeamFlags,
    /// Other ways to sign in
    #[command(flatten)]
    pub sign_in: SignInFlags,
    /// Encryption, proxies, who may call
    #[command(flatten)]
    pub network: NetworkFlags,
    /// How long a sign-in lasts
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::base::duration::parse)]
    pub auth_duration: Duration,
    /// Send session cookies over TLS only; always so if the external URL is https
    #[arg(long)]
    pub cookie_secure: bool,
    /// A YAML file that moves actions to other roles (role: [action, …])
    #[arg(long, value_name = "FILE")]
    pub config_rbac: Option<PathBuf>,
    /// The version of Concourse to speak as; fly talks only to a server of its own minor version
    #[arg(long, value_name = "VERSION", default_value = crate::base::CONCOURSE_VERSION, value_parser = semantic)]
    pub concourse_version: String,
    /// Clients for other platforms as Concourse releases them: fly-darwin-arm64.tgz, fly-windows-amd64.zip …
    #[arg(long, value_name = "DIR")]
    pub cli_artifacts_dir: Option<PathBuf>,
    /// How often a resource is checked unless it says otherwise
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::base::duration::parse)]
    pub resource_checking_interval: Duration,
    /// How often a resource with a webhook is checked unless it says otherwise [default: as the others]
    #[arg(long, value_name = "DURATION", value_parser = crate::base::duration::parse)]
    pub resource_with_webhook_checking_interval: Option<Duration>,
    /// How often the image of a resource type is checked unless it says otherwise
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::base::duration::parse)]
    pub resource_type_checking_interval: Duration,
    /// How long a check may take unless the resource says otherwise; 0 for no bound
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = crate::base::duration::parse)]
    pub global_resource_check_timeout: Duration,
    /// How many checks that nobody has asked for begin within a second; 0 and -1 for no bound but the intervals (Concourse
    /// spreads checks over the interval with 0, which here follows from when each was last checked)
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub max_checks_per_second: i64,
    /// Tasks that run at once, at most; others wait and teams are served in turn. 0 for no bound (in Concourse it has an
    /// effect only with --container-placement-strategy limit-active-tasks)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_active_tasks_per_worker: usize,
    /// How long a get step may take unless it says otherwise; 0 for no bound
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::base::duration::parse)]
    pub default_get_timeout: Duration,
    /// How long a put step may take unless it says otherwise; 0 for no bound
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::base::duration::parse)]
    pub default_put_timeout: Duration,
    /// How long a task may take unless it says otherwise; 0 for no bound
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::base::duration::parse)]
    pub default_task_timeout: Duration,
    /// How long a task's cache is kept after its last use unless the task says otherwise; 0 for ever
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::base::duration::parse)]
    pub default_task_cache_ttl: Duration,
    /// Let resources of equal type and source share one version history within their team
    #[arg(long)]
    pub enable_global_resources: bool,
    /// Builds of a job whose logs are kept unless it says otherwise; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub default_build_logs_to_retain: u32,
    /// Builds of a job whose logs are kept at most, whatever it says; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_build_logs_to_retain: u32,
    /// Days for which build logs are kept unless the job says otherwise; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub default_days_to_retain_build_logs: u32,
    /// Days for which build logs are kept at most, whatever the job says; 0 for no limit
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub max_days_to_retain_build_logs: u32,
    /// Pause a pipeline that had no build for so many days; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub pause_pipelines_after: u32,
    /// Resource types as Concourse's worker brings them: NAME/rootfs.tgz and NAME/resource_metadata.json
    #[arg(long, value_name = "DIR")]
    pub resource_types: Option<PathBuf>,
    /// The image of a resource type that pipelines need not declare; without an image there is none; may be repeated
    #[arg(long, value_name = "NAME=IMAGE")]
    pub base_resource_type: Vec<crate::resource::base_type::Change>,
    /// A YAML file of what the sources of built-in and base resource types hold beneath what resources say: type → source
    #[arg(long, value_name = "FILE")]
    pub base_resource_type_defaults: Option<PathBuf>,
    /// Let tasks run on this host's own files, read-only (rootfs_uri: host:///)
    #[arg(long)]
    pub allow_host_rootfs: bool,
    /// Let git resources use file:// addresses and plain paths of this host: gets read them, puts push to them
    #[arg(long)]
    pub allow_local_git: bool,
    /// What is logged: debug, info, warn, error, or a filter such as info,whistlestop::engine=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// How the log is written
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Address of the metrics listener
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub prometheus_bind_ip: IpAddr,
    /// Port of the metrics listener; without it there is none
    #[arg(long, value_name = "PORT")]
    pub prometheus_bind_port: Option<u16>,
    /// A label of every metric; may be repeated
    #[arg(long, value_name = "NAME:VALUE", value_parser = super::metrics::attribute)]
    pub metrics_attribute: Vec<(String, String)>,
    /// Walls around steps, and what is kept of them
    #[command(flatten)]
    pub containment: Containment,
    /// Where images come from
    #[command(flatten)]
    pub registries: super::registries::RegistryFlags,
    /// What is written to the log for whom
    #[command(flatten)]
    pub auditing: Auditing,
    /// Where secrets come from
    #[command(flatten)]
    pub secrets: super::secrets::SecretsFlags,
    /// What is told at the start about flags and variables of Concourse's
    #[arg(skip)]
    pub notice: Option<String>,
    /// The flags that were given in any way: on the command line, in the environment, in the file
    #[arg(skip)]
    pub given: BTreeSet<String>,
}

/// A version of three numbers, which is what the client compares.
fn semantic(text: &str) -> Result<String, String> {
    semver::Version::parse(text).map(|v| v.to_string()).map_err(|e| format!("{e}; write it as 8.2.5"))
}

/// Headings under which requests are logged. Changes are always kept in the database.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Auditing {
    /// How long the audit trail is kept
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = crate::base::duration::parse)]
    pub audit_retention: Duration,
    /// Log requests about builds
    #[arg(long)]
    pub enable_build_auditing: bool,
    /// Log requests about containers
    #[arg(long)]
    pub enable_container_auditing: bool,
    /// Log requests about jobs
    #[arg(long)]
    pub enable_job_auditing: bool,
    /// Log requests about pipelines
    #[arg(long)]
    pub enable_pipeline_auditing: bool,
    /// Log requests about resources
    #[arg(long)]
    pub enable_resource_auditing: bool,
    /// Log requests about configurations and the server itself
    #[arg(long)]
    pub enable_system_auditing: bool,
    /// Log requests about teams
    #[arg(long)]
    pub enable_team_auditing: bool,
    /// Log requests about workers
    #[arg(long)]
    pub enable_worker_auditing: bool,
    /// Log requests about volumes
    #[arg(long)]
    pub enable_volume_auditing: bool,
}

impl Auditing {
    /// The headings that are on.
    pub fn categories(self) -> impl Iterator<Item = Category> {
        [
            (self.enable_build_auditing, Category::Build),
            (self.enable_container_auditing, Category::Container),
            (self.enable_job_auditing, Category::Job),
            (self.enable_pipeline_auditing, Category::Pipeline),
            (self.enable_resource_auditing, Category::Resource),
            (self.enable_system_auditing, Category::System),
            (self.enable_team_auditing, Category::Team),
            (self.enable_worker_auditing, Category::Worker),
            (self.enable_volume_auditing, Category::Volume),
        ]
        .into_iter()
        .filter_map(|(on, category)| on.then_some(category))
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a map of settings.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A key that is no setting.
    #[error("{}: there is no setting {key:?}{}", path.display(), meant.as_ref().map(|m| format!("; did you mean {m:?}?")).unwrap_or_default())]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it may have meant.
        meant: Option<String>,
    },
    /// A value that came from environment or file does not fit.
    #[error("{0}")]
    Value(String),
}

/// One command that has nothing but these settings, for reading values that did not come by flag.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Alone {
    #[command(flatten)]
    serve: Serve,
}

impl Serve {
    /// These arguments alone, without environment; for tests and for commands that start a server themselves.
    pub fn from_args<I: IntoIterator<Item = T>, T: Into<OsString> + Clone>(args: I) -> Result<Serve, clap::Error> {
        <Alone as clap::Parser>::try_parse_from(args).map(|a| a.serve)
    }

    /// Completes what the command line said (`matches` of a command that flattens [`Serve`]) from the environment and
    /// the file. A variable that is empty counts as not set.
    pub fn complete(matches: &ArgMatches, env: impl Fn(&str) -> Option<String>) -> Result<Serve, ConfigError> {
        let mut arguments = Vec::new();
        let mut open = BTreeMap::new();
        let command = Alone::command();
        for arg in command.get_arguments() {
            let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
            if matches.value_source(id) == Some(ValueSource::CommandLine) {
                push_raw(&mut arguments, arg, long, matches)?;
            } else {
                open.insert(long.to_owned(), arg);
            }
        }
        let from_env = |long: &str| {
            variables(long).find_map(|name| env(&name).filter(|value| !value.is_empty()).map(|value| (name, value)))
        };
        let file = matches.get_one::<PathBuf>("config").cloned();
        let file = file.or_else(|| from_env("config").map(|(_, path)| PathBuf::from(path)));
        let mut file = file.map(|path| read_file(&path, &command)).transpose()?.unwrap_or_default();
        for (long, arg) in open {
            let (place, values) = match from_env(&long) {
                Some((name, text)) if matches!(arg.get_action(), ArgAction::Append) => {
                    (name, text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
                }
                Some((name, text)) => (name, vec![text]),
                None => (long.clone(), file.remove(&long).unwrap_or_default()),
            };
            for value in values {
                push(&mut arguments, arg, &long, (value.into(), place.as_str()))?;
            }
        }
        let parsed = Alone::command().try_get_matches_from(arguments);
        let parsed = parsed.and_then(|all| {
            let of_line = |arg: &&clap::Arg| all.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
            let given = command.get_arguments().filter(of_line).filter_map(|arg| arg.get_long().map(str::to_owned));
            Ok(Serve { given: given.collect(), ..Alone::from_arg_matches(&all)?.serve })
        });
        parsed.map_err(|e| ConfigError::Value(e.render().to_string().trim_end().to_owned()))
    }
}

/// The variables that a flag may be given by, the first first.
fn variables(long: &str) -> impl Iterator<Item = String> + use<> {
    let upper = |name: &str| name.to_uppercase().replace('-', "_");
    // Those that every program of a host behind a proxy has; so does Concourse's worker.
    let bare = matches!(long, "http-proxy" | "https-proxy" | "no-proxy").then(|| long.replace('-', "_"));
    let own = [format!("WHISTLESTOP_{}", upper(long)), format!("CONCOURSE_{}", upper(long))];
    let others = foreign_flags::also_called(long).map(move |name| format!("CONCOURSE_{}", upper(&name)));
    own.into_iter().chain(others).chain(bare)
}

/// Whether a server has a flag of this name.
pub fn is_own(name: &str) -> bool {
    static NAMES: OnceLock<BTreeSet<String>> = OnceLock::new();
    let names = || Alone::command().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect();
    NAMES.get_or_init(names).contains(name)
}

fn push_raw(arguments: &mut Vec<OsString>, arg: &clap::Arg, long: &str, from: &ArgMatches) -> Result<(), ConfigError> {
    if !arg.get_action().takes_values() {
        arguments.push(format!("--{long}").into());
        return Ok(());
    }
    let mut values = from.get_raw(arg.get_id().as_str()).into_iter().flatten();
    values.try_for_each(|value| push(arguments, arg, long, (value.to_owned(), long)))
}

/// Adds one value that came from `place`.
fn push(
    arguments: &mut Vec<OsString>,
    arg: &clap::Arg,
    long: &str,
    (value, place): (OsString, &str),
) -> Result<(), ConfigError> {
    if !arg.get_action().takes_values() {
        let text = value.to_string_lossy();
        let on = truth(&text).ok_or_else(|| {
            ConfigError::Value(format!("{place} is {text:?}, which is neither yes nor no: write true or false"))
        })?;
        arguments.extend(on.then(|| format!("--{long}").into()));
        return Ok(());
    }
    let mut whole = OsString::from(format!("--{long}="));
    whole.push(value);
    arguments.push(whole);
    Ok(())
}

/// The words that Go, and so Concourse, reads as yes or no.
pub(super) fn truth(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads the file: every key must be a setting.
fn read_file(path: &std::path::Path, command: &clap::Command) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let malformed = |message: String| ConfigError::Malformed { path: path.to_owned(), message };
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let map: Option<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let mut settings = BTreeMap::new();
    for (key, value) in map.unwrap_or_default() {
        if key == "config" || !known.contains(&key.as_str()) {
            let meant = nearest(&key, known.iter().copied()).map(str::to_owned);
            return Err(ConfigError::Unknown { path: path.to_owned(), key, meant });
        }
        let values = match value {
            serde_yaml::Value::Sequence(items) => items,
            one => vec![one],
        };
        let texts: Option<Vec<String>> = values.iter().map(scalar).collect();
        let texts = texts.ok_or_else(|| malformed(format!("{key} must be a value or a list of values")))?;
        settings.insert(key, texts);
    }
    Ok(settings)
}

fn scalar(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(s) => Some(s.clone()),
        serde_yaml::Value::Number(n) => Some(n.to_string()),
        serde_yaml::Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(args: &[&str], env: &[(&str, &str)]) -> Result<Serve, String> {
        let matches = Alone::command().try_get_matches_from(args).map_err(|e| e.to_string())?;
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Serve::complete(&matches, env).map_err(|e| e.to_string())
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.yml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_the_file() {
        let (_dir, path) = file("bind-port: 1\ncluster-name: file\nlog-format: json\nallow-host-rootfs: true\n");
        let env = [("WHISTLESTOP_BIND_PORT", "2"), ("CONCOURSE_BIND_PORT", "3"), ("CONCOURSE_CLUSTER_NAME", "env")];
        let serve = complete(&["--config", &path, "--bind-port", "4"], &env).unwrap();
        assert_eq!((serve.bind_port, serve.cluster_name.as_deref()), (4, Some("env")));
        assert_eq!((serve.log_format, serve.allow_host_rootfs), (LogFormat::Json, true));
        let serve = complete(&["--config", &path], &env).unwrap();
        assert_eq!(serve.bind_port, 2);
        assert_eq!(complete(&["--config", &path], &env[1..]).unwrap().bind_port, 3);
        assert_eq!(complete(&["--config", &path], &[]).unwrap().bind_port, 1);
        assert_eq!(complete(&[], &[]).unwrap().bind_port, 8080);
    }

    #[test]
    fn what_was_given_is_known_however_it_was() {
        let (_dir, path) = file("cluster-name: file\n");
        let env = [("WHISTLESTOP_BIND_PORT", "8080"), ("CONCOURSE_RUNTIME", "containerd"), ("WHISTLESTOP_BIND_IP", "")];
        let serve = complete(&["--config", &path, "--log-level", "info"], &env).unwrap();
        assert_eq!(Vec::from_iter(&serve.given), ["bind-port", "cluster-name", "config", "log-level", "runtime"]);
    }

    #[test]
    fn lists_come_from_commas_in_the_environment_and_from_lists_in_the_file() {
        let (_dir, path) = file("add-local-user: [a:1, 'b:2']\nmain-team-local-user: a\n");
        let serve = complete(&["--config", &path], &[("CONCOURSE_MAIN_TEAM_LOCAL_USER", "x,y")]).unwrap();
        assert_eq!(serve.add_local_user.iter().map(LocalUser::name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(serve.main_team.main_team_local_user, ["x", "y"]);
        let serve = complete(&["--add-local-user", "a:1,2"], &[]).unwrap();
        assert_eq!(serve.add_local_user.len(), 1);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let (_dir, path) = file("cluster-name: file\n");
        let empty = [("WHISTLESTOP_BIND_PORT", ""), ("CONCOURSE_BIND_PORT", "2"), ("CONCOURSE_CLUSTER_NAME", "")];
        let more =
            [("CONCOURSE_COOKIE_SECURE", ""), ("CONCOURSE_MAIN_TEAM_LOCAL_USER", ",a,"), ("CONCOURSE_CONFIG", "")];
        let serve = complete(&["--config", &path], &[&empty[..], &more].concat()).unwrap();
        assert_eq!((serve.bind_port, serve.cluster_name.as_deref(), serve.cookie_secure), (2, Some("file"), false));
        assert_eq!(serve.main_team.main_team_local_user, ["a"]);
        assert_eq!(complete(&[], &more).unwrap().config, None);
    }

    #[test]
    fn yes_and_no_are_go_s_words() {
        for (word, on) in [("1", true), ("T", true), ("True", true), ("0", false), ("f", false), ("FALSE", false)] {
            assert_eq!(complete(&[], &[("CONCOURSE_COOKIE_SECURE", word)]).unwrap().cookie_secure, on, "{word}");
        }
        for word in ["yes", "on", "tRUE", "2"] {
            let error = complete(&[], &[("CONCOURSE_COOKIE_SECURE", word)]).unwrap_err();
            assert!(error.contains("CONCOURSE_COOKIE_SECURE") && error.contains(word), "{error}");
        }
        let (_dir, path) = file("cookie-secure: maybe\n");
        assert!(complete(&["--config", &path], &[]).unwrap_err().starts_with("cookie-secure is"));
    }

    #[test]
    fn of_a_flag_given_twice_the_last_wins() {
        let words = ["--bind-port=1", "--tag=a", "--cookie-secure", "--bind-port=2", "--tag=b", "--cookie-secure"];
        let serve = complete(&words, &[]).unwrap();
        assert_eq!((serve.bind_port, serve.tag, serve.cookie_secure), (2, vec!["a".into(), "b".into()], true));
    }

    #[test]
    fn what_concourse_calls_otherwise_is_read() {
        let env = [
            ("CONCOURSE_CONTAINERD_DNS_SERVER", "9.9.9.9"),
            ("CONCOURSE_WORKER_CONTAINERD_NETWORK_POOL", "10.9.0.0/16"),
            ("CONCOURSE_CONTAINERD_ALLOW_HOST_ACCESS", "true"),
            ("CONCOURSE_CONTAINERD_ADDITIONAL_HOSTS", "10.1.2.3 db"),
            ("CONCOURSE_RUNTIME", "guardian"),
            ("http_proxy", "http://proxy:3128"),
        ];
        let serve = complete(&[], &env).unwrap();
        assert_eq!(serve.containment.dns_server, ["9.9.9.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(serve.containment.network_pool.to_string(), "10.9.0.0/16");
        assert!(serve.containment.allow_host_access && serve.containment.extra_host[0].name == "db");
        assert_eq!(serve.runtime, RuntimeChoice::OfConcourse);
        assert_eq!(serve.containment.http_proxy.as_deref(), Some("http://proxy:3128"));
        let serve = complete(&["--runtime", "docker"], &env).unwrap();
        assert_eq!(serve.runtime, RuntimeChoice::Docker);
    }

    #[test]
    fn the_cache_of_secrets_is_on_with_and_without_a_word() {
        for (words, on) in [
            (&["--secret-cache-enabled", "--bind-port=1"][..], true),
            (&["--secret-cache-enabled=false"], false),
            (&[], true),
        ] {
            assert_eq!(complete(words, &[]).unwrap().secrets.secret_cache_enabled, on, "{words:?}");
        }
        assert!(!complete(&[], &[("CONCOURSE_SECRET_CACHE_ENABLED", "false")]).unwrap().secrets.secret_cache_enabled);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (_dir, path) = file("bind-prot: 1\n");
        assert!(complete(&["--config", &path], &[]).unwrap_err().ends_with("did you mean \"bind-port\"?"));
        let (_dir, path) = file("bind-port: {a: 1}\n");
        assert!(complete(&["--config", &path], &[]).unwrap_err().contains("bind-port must be a value"));
        assert!(complete(&["--config", "/nowhere"], &[]).unwrap_err().starts_with("cannot read /nowhere"));
        let error = complete(&[], &[("WHISTLESTOP_BIND_PORT", "many")]).unwrap_err();
        assert!(error.contains("many") && error.contains("--bind-port"), "{error}");
    }
}
