//! The client: fly's commands, flags and output over the routes of Concourse's API, one command a file.

mod client;
mod console;
mod failure;
mod number;
mod one_off;
mod printed;
mod progress;
mod prompt;
mod reference;
mod render;
mod shapes;
mod stream;
mod table;
mod target;
mod team;
mod template;
mod terminal;
mod usage;

mod abort_build;
mod archive_pipeline;
mod builds;
mod check_resource;
mod clear;
mod completion;
mod components;
mod containers;
mod curl;
mod destroy_pipeline;
mod enable_version;
mod execute;
mod get_pipeline;
mod hijack;
mod jobs;
mod login;
mod logout;
mod order_pipelines;
mod pause_job;
mod pause_pipeline;
mod pin_resource;
mod pipelines;
mod rename_pipeline;
mod rerun_build;
mod resource_versions;
mod resources;
pub mod secrets;
mod set_pipeline;
mod set_team;
mod status;
mod sync;
mod targets;
mod teams;
mod tokens;
mod trigger_job;
mod userinfo;
mod validate_pipeline;
mod volumes;
mod wall;
mod watch;
mod workers;

use std::ffi::OsString;
use std::sync::Arc;

use tokio::sync::OnceCell;

use self::client::{ApiError, Client};
use self::console::{Console, Style};
use self::failure::{Failure, Outcome};
use self::shapes::Info;
use self::target::{Target, TargetError, Targets};
use self::team::Team;
use crate::base::clock::{Clock, System};
use crate::base::{CONCOURSE_VERSION, REAL_VERSION};
use crate::cli::said;
use crate::pipeline::Warning;

/// The command line of `fly`.
#[derive(Debug, clap::Parser)]
#[command(name = "fly", disable_help_subcommand = true, disable_help_flag = true)]
struct Cli {
    /// Concourse target name
    #[arg(short, long, global = true, value_name = "TARGET")]
    target: Option<String>,
    /// Print API requests and responses
    #[arg(long, global = true)]
    verbose: bool,
    /// Print table headers even for redirected output
    #[arg(long, global = true)]
    print_table_headers: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Names every command once: its variant with clap's attributes, and the arguments that run it.
macro_rules! commands {
    ($($(#[$meta:meta])* $name:ident($args:ty),)*) => {
        #[derive(Debug, clap::Subcommand)]
        enum Command {
            $($(#[$meta])* $name($args),)*
        }

        impl Command {
            async fn run(self, fly: &Fly) -> Outcome {
                match self {
                    $(Command::$name(args) => args.run(fly).await,)*
                }
            }
        }
    };
}

commands! {
    /// Print this help message
    Help(Help),
    /// Authenticate with the target
    #[command(alias = "l")]
    Login(login::Login),
    /// Release authentication with the target
    #[command(alias = "o")]
    Logout(logout::Logout),
    /// Login status
    Status(status::Status),
    /// List saved targets
    #[command(alias = "ts")]
    Targets(targets::List),
    /// Delete target
    #[command(alias = "dtg")]
    DeleteTarget(targets::Delete),
    /// Edit a target
    #[command(alias = "etg")]
    EditTarget(targets::Edit),
    /// Download and replace the current fly from the target
    #[command(alias = "s")]
    Sync(sync::Sync),
    /// User information
    Userinfo(userinfo::Userinfo),
    /// List the active users since a date or for the past 2 months
    #[command(alias = "au")]
    ActiveUsers(userinfo::ActiveUsers),
    /// List the configured teams
    #[command(alias = "t")]
    Teams(teams::List),
    /// Show team configuration
    #[command(alias = "gt")]
    GetTeam(teams::Get),
    /// Create or modify a team to have the given credentials
    #[command(alias = "st")]
    SetTeam(set_team::SetTeam),
    /// Rename a team
    #[command(alias = "rt")]
    RenameTeam(teams::Rename),
    /// Destroy a team and delete all of its data
    #[command(alias = "dt")]
    DestroyTeam(teams::Destroy),
    /// Execute a one-off build using local bits
    #[command(alias = "e")]
    Execute(execute::Execute),
    /// Stream a build's output
    #[command(alias = "w")]
    Watch(watch::Watch),
    /// List the jobs in the pipelines
    #[command(alias = "js")]
    Jobs(jobs::List),
    /// List the paused jobs in the pipelines
    #[command(alias = "pjs")]
    PausedJobs(jobs::Paused),
    /// Pause a job
    #[command(alias = "pj")]
    PauseJob(pause_job::Pause),
    /// Unpause a job
    #[command(alias = "uj")]
    UnpauseJob(pause_job::Unpause),
    /// Request the scheduler to run for a job
    #[command(alias = "sj")]
    ScheduleJob(pause_job::Schedule),
    /// Start a job in a pipeline
    #[command(alias = "tj")]
    TriggerJob(trigger_job::TriggerJob),
    /// List builds data
    #[command(alias = "bs")]
    Builds(builds::Builds),
    /// Abort a build
    #[command(alias = "ab")]
    AbortBuild(abort_build::AbortBuild),
    /// Rerun a build
    #[command(alias = "rb")]
    RerunBuild(rerun_build::RerunBuild),
    /// Execute a command in a container
    #[command(aliases = ["intercept", "i"])]
    Hijack(hijack::Hijack),
    /// List the configured pipelines
    #[command(alias = "ps")]
    Pipelines(pipelines::List),
    /// List the configured paused pipelines
    #[command(alias = "pps")]
    PausedPipelines(pipelines::Paused),
    /// Pause a pipeline
    #[command(alias = "pp")]
    PausePipeline(pause_pipeline::Pause),
    /// Un-pause a pipeline
    #[command(alias = "up")]
    UnpausePipeline(pause_pipeline::Unpause),
    /// Make a pipeline publicly viewable
    #[command(alias = "ep")]
    ExposePipeline(pause_pipeline::Expose),
    /// Hide a pipeline from the public
    #[command(alias = "hp")]
    HidePipeline(pause_pipeline::Hide),
    /// Archive a pipeline
    #[command(alias = "ap")]
    ArchivePipeline(archive_pipeline::ArchivePipeline),
    /// Get a pipeline's current configuration
    #[command(alias = "gp")]
    GetPipeline(get_pipeline::GetPipeline),
    /// Create or update a pipeline's configuration
    #[command(alias = "sp")]
    SetPipeline(set_pipeline::SetPipeline),
    /// Validate a pipeline config
    #[command(alias = "vp")]
    ValidatePipeline(validate_pipeline::Validate),
    /// Format a pipeline config
    #[command(alias = "fp")]
    FormatPipeline(validate_pipeline::Format),
    /// Rename a pipeline
    #[command(alias = "rp")]
    RenamePipeline(rename_pipeline::RenamePipeline),
    /// Destroy a pipeline
    #[command(alias = "dp")]
    DestroyPipeline(destroy_pipeline::DestroyPipeline),
    /// Orders pipelines
    #[command(alias = "op")]
    OrderPipelines(order_pipelines::Order),
    /// Orders instanced pipelines within an instance group
    #[command(alias = "oip")]
    OrderInstancedPipelines(order_pipelines::OrderInstanced),
    /// Print a Checkfile of the given pipeline
    #[command(alias = "cl")]
    Checklist(jobs::Checklist),
    /// List the resources in the pipeline
    #[command(alias = "rs")]
    Resources(resources::Resources),
    /// List the versions of a resource
    #[command(alias = "rvs")]
    ResourceVersions(resource_versions::ResourceVersions),
    /// Check a resource
    #[command(alias = "cr")]
    CheckResource(check_resource::CheckResource),
    /// Check a resource-type
    #[command(alias = "crt")]
    CheckResourceType(check_resource::CheckResourceType),
    /// Pin a version to a resource
    #[command(alias = "pr")]
    PinResource(pin_resource::Pin),
    /// Unpin a resource
    #[command(alias = "ur")]
    UnpinResource(pin_resource::Unpin),
    /// Enable a version of a resource
    #[command(alias = "erv")]
    EnableResourceVersion(enable_version::Enable),
    /// Disable a version of a resource
    #[command(alias = "drv")]
    DisableResourceVersion(enable_version::Disable),
    /// Print the active containers
    #[command(alias = "cs")]
    Containers(containers::Containers),
    /// List the active volumes
    #[command(alias = "vs")]
    Volumes(volumes::Volumes),
    /// List the registered workers
    #[command(alias = "ws")]
    Workers(workers::List),
    /// Land a worker
    #[command(alias = "lw")]
    LandWorker(workers::Land),
    /// Prune a stalled, landing, landed, or retiring worker
    #[command(alias = "pw")]
    PruneWorker(workers::Prune),
    /// curl the api
    #[command(alias = "c")]
    Curl(curl::Curl),
    /// Get the current wall message
    #[command(alias = "gw")]
    GetWall(wall::Get),
    /// Set a wall message
    #[command(alias = "sw")]
    SetWall(wall::Set),
    /// Clear the wall message
    #[command(alias = "cw")]
    ClearWall(wall::Clear),
    /// Get details about all web components
    #[command(alias = "gc")]
    GetComponents(components::Get),
    /// List the service accounts of a team
    ServiceAccounts(tokens::Accounts),
    /// Make a token for scripts, with one role on one team
    CreateServiceAccount(tokens::Create),
    /// Remove a service account
    RemoveServiceAccount(tokens::Remove),
    /// List where you are logged in
    Sessions(tokens::Sessions),
    /// End one of your logins
    EndSession(tokens::End),
    /// Show who did what
    Audit(tokens::Audit),
    /// Pause one or more web components
    #[command(alias = "pc")]
    PauseComponent(components::Pause),
    /// Unpause one or more web components
    #[command(alias = "uc")]
    UnpauseComponent(components::Unpause),
    /// Clears cache from a task container
    #[command(alias = "ctc")]
    ClearTaskCache(clear::TaskCache),
    /// Clear cache of a resource
    #[command(alias = "crc")]
    ClearResourceCache(clear::ResourceCache),
    /// Clear versions of a resource or resource type
    #[command(alias = "cv")]
    ClearVersions(clear::Versions),
    /// generate shell completion code
    Completion(completion::Completion),
}

/// `help` takes nothing, and is answered before anything runs.
#[derive(Debug, clap::Args)]
struct Help {}

impl Help {
    async fn run(self, _: &Fly) -> Outcome {
        Ok(0)
    }
}

/// Runs the client with `args`, the name it was called under first, and tells the exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    let console = Console::of_process();
    if std::env::var_os(completion::ASKED).is_some_and(|v| !v.is_empty()) {
        return complete(&args, console);
    }
    let program = args.first().map_or("fly".into(), |a| a.to_string_lossy()).into_owned();
    let shown = |result: std::io::Result<()>| i32::from(result.is_err());
    let (cli, target) = match usage::read(&args) {
        usage::Usage::Run(cli, target) => (*cli, target),
        usage::Usage::Show(text) => return shown(console.print(text)),
        usage::Usage::Wrong(text, shown) => {
            said::complain(&format!("error: {text}\nhint: see how it is done with `{program} {shown}`"));
            return 1;
        }
    };
    let Some(command) = cli.command else { return 1 };
    let fly = Fly {
        target,
        verbose: cli.verbose,
        headers: cli.print_table_headers,
        console,
        program,
        clock: Arc::new(System),
    };
    block_on(run(command, &args, &fly), &fly)
}

/// Answers the shell that asks what the last word may become.
fn complete(args: &[OsString], console: Console) -> i32 {
    let words: Vec<String> = args.iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let target = words.windows(2).find(|w| w[0] == "-t" || w[0] == "--target").map(|w| w[1].clone());
    let joined = words.iter().find_map(|w| w.strip_prefix("--target=").or(w.strip_prefix("-t="))).map(str::to_owned);
    let fly = Fly {
        target: target.or(joined),
        verbose: false,
        headers: false,
        console,
        program: "fly".to_owned(),
        clock: Arc::new(System),
    };
    block_on(completion::complete(&fly, &words), &fly)
}

/// Runs a command. Where nobody is logged in and somebody sits at a terminal, logs in and runs it again.
async fn run(command: Command, args: &[OsString], fly: &Fly) -> Outcome {
    match command.run(fly).await {
        Err(Failure::Api(ApiError::Unauthorized)) if fly.console.is_interactive() => {}
        outcome => return outcome,
    }
    fly.console.tell("could not find a valid token.")?;
    login::Login::default().run(fly).await?;
    let again = match usage::read(args) {
        usage::Usage::Run(cli, _) => cli.command,
        usage::Usage::Show(_) | usage::Usage::Wrong(..) => None,
    };
    match again {
        Some(command) => command.run(fly).await,
        None => Ok(0),
    }
}

/// Runs a command to its end, tells its failure, and gives the exit code.
fn block_on(command: impl Future<Output = Outcome>, fly: &Fly) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            said::complain(&format!("error: {e}"));
            return 1;
        }
    };
    let outcome = runtime.block_on(command);
    // A thread that still waits for the keyboard must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        // Whoever read our output has gone; there is nobody to tell.
        Err(Failure::Io(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => 1,
        Err(failure) => {
            let target = fly.target.as_deref().unwrap_or_default();
            said::complain(&failure.text(fly.console, &fly.program, target));
            1
        }
    }
}

/// What every command is given.
pub struct Fly {
    target: Option<String>,
    verbose: bool,
    headers: bool,
    console: Console,
    program: String,
    clock: Arc<dyn Clock>,
}

impl Fly {
    /// The name given with `-t`.
    fn target_name(&self) -> Result<&str, Failure> {
        self.target.as_deref().filter(|t| !t.is_empty()).ok_or(Failure::Target(TargetError::NotNamed))
    }

    /// Connects to a target without asking it anything.
    fn connect(&self, name: &str, target: Target) -> Result<Session, Failure> {
        let client = Client::new(&target, self.verbose.then(|| Arc::clone(&self.clock)))?;
        Ok(Session { name: name.to_owned(), target, client, info: OnceCell::new() })
    }

    /// The saved target, not yet asked whether it fits.
    fn saved(&self) -> Result<Session, Failure> {
        let name = self.target_name()?;
        let target = Targets::load()?.get(name)?.clone();
        self.connect(name, target)
    }

    /// The saved target, of a version that fits ours.
    async fn session(&self) -> Result<Session, Failure> {
        let session = self.saved()?;
        self.check_version(&session, false).await?;
        Ok(session)
    }

    /// Compares versions: another minor version is refused (or only told of), another patch told of.
    async fn check_version(&self, session: &Session, only_warn: bool) -> Result<(), Failure> {
        let server = &session.info().await?.version;
        if server == CONCOURSE_VERSION {
            return Ok(());
        }
        let parse = |v: &str| semver::Version::parse(v).map_err(|e| Failure::said(format!("version {v}: {e}")));
        let (theirs, ours) = (parse(server)?, parse(CONCOURSE_VERSION)?);
        let mismatch = Failure::Version {
            client: self.console.bold(CONCOURSE_VERSION),
            server: self.console.bold(server),
            program: self.program.clone(),
            target: session.name.clone(),
        };
        if !only_warn && (theirs.major, theirs.minor) != (ours.major, ours.minor) {
            return Err(mismatch);
        }
        self.console.tell(self.console.paint(Style::Red, "WARNING:\n"))?;
        self.console.tell(self.console.paint(Style::Red, &mismatch.to_string()))?;
        Ok(())
    }

    /// Fewer than none cannot be listed; fly breaks down there, with the exit code of that.
    fn refuse_count(&self, count: i64) -> Outcome {
        self.console
            .tell(format!("error: --count {count} is less than none; leave it out, or give a number from 1 on"))?;
        Ok(2)
    }

    /// Prints a table.
    fn table(&self, table: &table::Table) -> Outcome {
        self.console.print(table.render(self.console.is_terminal(), self.headers))?;
        Ok(0)
    }

    /// Prints JSON.
    fn json(&self, value: &serde_json::Value) -> Outcome {
        self.console.json(value)?;
        Ok(0)
    }

    /// Prints a line.
    fn say(&self, line: impl AsRef<str>) -> Outcome {
        self.console.say(line)?;
        Ok(0)
    }

    /// Shows what the server, or we, would rather see done otherwise.
    fn show_warnings(&self, warnings: &[Warning]) -> Result<(), Failure> {
        if warnings.is_empty() {
            return Ok(());
        }
        let head = self.console.paint(Style::BoldRed, "DEPRECATION WARNING:");
        self.console.tell(format!("\n{head}"))?;
        for warning in warnings {
            self.console.tell(format!("  - {}", warning.message))?;
        }
        self.console.tell("")?;
        if warnings.iter().any(|w| w.kind == "invalid_identifier") {
            self.console.tell(
                "identifier schema documentation: https://concourse-ci.org/config-basics.html#schema.identifier\n",
            )?;
        }
        Ok(())
    }

    /// The present moment, as a local time.
    fn now(&self) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(self.clock.now().0).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system())
    }
}

/// A target that is being talked to.
pub struct Session {
    name: String,
    target: Target,
    client: Client,
    info: OnceCell<Info>,
}

impl Session {
    /// What the server says of itself, asked once.
    async fn info(&self) -> Result<&Info, ApiError> {
        let ask = || async {
            let answer = self.client.get(&["info"]).send().await?.success()?;
            let mut info: Info = serde_json::from_slice(&answer.body)?;
            // It may speak as another for the sake of fly, which goes by nothing else.
            if let Some(real) = answer.header(REAL_VERSION) {
                real.clone_into(&mut info.version);
            }
            Ok(info)
        };
        self.info.get_or_try_init(ask).await
    }

    /// The target's team.
    fn own_team(&self) -> Team<'_> {
        self.team_named(&self.target.team)
    }

    /// A team by its name, unasked.
    fn team_named(&self, name: &str) -> Team<'_> {
        Team { client: &self.client, name: name.to_owned() }
    }

    /// The team given with `--team`, which must exist, or the target's.
    async fn team(&self, given: Option<&str>) -> Result<Team<'_>, Failure> {
        let Some(name) = given.filter(|n| !n.is_empty()) else {
            return Ok(self.own_team());
        };
        let found: Result<shapes::TeamInfo, _> = self.client.get(&["teams", name]).fetch().await;
        match found {
            Ok(_) => Ok(self.team_named(name)),
            Err(ApiError::Forbidden(_)) => {
                Err(Failure::said(format!("you do not have a role on team '{name}'")).see("userinfo"))
            }
            Err(ApiError::NotFound(_)) => Err(Failure::said(format!("team '{name}' does not exist")).see("teams")),
            Err(e) => Err(e.into()),
        }
    }
}

/// A unix time as people here read it.
fn local(unix: i64) -> jiff::Zoned {
    jiff::Timestamp::from_second(unix).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system())
}

/// A unix time as Go prints it; nothing for none.
fn go_time(unix: i64) -> String {
    if unix == 0 { String::new() } else { local(unix).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string() }
}
