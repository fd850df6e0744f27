//! `whistlestop demo`: a server on this machine alone, with a user, a local git repository and a pipeline that goes
//! green by itself. Needs neither Docker nor network.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};

use crate::base::chance;
use crate::base::id::BuildId;
use crate::login::LocalUser;
use crate::pipeline;
use crate::server::compose::{Seams, World, signal};
use crate::server::config::RuntimeChoice;
use crate::server::{Serve, config::LogFormat};
use crate::store::build::Status;
use crate::store::config::SaveConfig;
use crate::store::pipeline::PipelineRef;

/// The files of the repository that the pipeline tests.
const FILES: [(&str, &str); 3] = [
    ("greet.sh", include_str!("demo/greet.sh")),
    ("test.sh", include_str!("demo/test.sh")),
    ("README.md", include_str!("demo/README.md")),
];
const PIPELINE: &str = include_str!("demo/pipeline.yml");
const NAME: &str = "demo";

/// A throw-away server with a pipeline that goes green by itself
///
/// Takes the flags of `serve` as well. Without --state-dir everything is kept in a directory of its own, which is removed at the end.
#[derive(Debug, Args)]
pub struct Demo {
    /// Stop with success as soon as the pipeline is green
    #[arg(long)]
    once: bool,
    /// With --once: how long that may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::base::duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    serve: Serve,
}

/// Runs the demo until a signal, or until it is green.
pub fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let demo = Demo::from_arg_matches(matches)?;
    let mut serve = Serve::complete(matches, |name| std::env::var(name).ok())?;
    let given = |id: &str| matches.value_source(id).is_some_and(|s| s != clap::parser::ValueSource::DefaultValue);
    let own = if given("state_dir") {
        None
    } else {
        Some(tempfile::Builder::new().prefix("whistlestop-demo-").tempdir().context("cannot make a directory")?)
    };
    let base = own.as_ref().map_or_else(|| serve.state_dir.clone(), |d| d.path().to_owned());
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    let base = std::path::absolute(&base)?;
    serve.state_dir = base.join("state");
    if !given("bind_ip") {
        serve.bind_ip = std::net::Ipv4Addr::LOCALHOST.into();
    }
    if !given("bind_port") && demo.once {
        serve.bind_port = 0;
    }
    if !given("runtime") {
        serve.runtime = RuntimeChoice::Embedded;
    }
    if !given("log_level") && serve.log_format == LogFormat::Human {
        serve.log_level = "warn".to_owned();
    }
    serve.allow_host_rootfs = true;
    serve.allow_local_git = true;
    let password = chance::hex::<6>();
    let user = (serve.add_local_user.is_empty()).then(|| format!("{NAME}:{password}"));
    if let Some(user) = &user {
        serve.add_local_user.push(user.parse::<LocalUser>().map_err(anyhow::Error::msg)?);
        serve.main_team.main_team_local_user.push(NAME.to_owned());
    }
    let runtime = super::runtime()?;
    let run = async {
        let world = start(serve, &base, user.is_some().then_some(password)).await?;
        let result = wait(&world, &demo).await;
        match own {
            Some(_) => world.end().await,
            None => world.stop().await,
        }
        result
    };
    let result = runtime.block_on(run);
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn start(serve: Serve, base: &Path, password: Option<String>) -> anyhow::Result<World> {
    let repository = base.join("hello.git");
    make_repository(&repository).context("cannot make the demo's git repository")?;
    let world = World::start(serve, Seams::default()).await?;
    set_pipeline(&world, &repository).await?;
    tell(&world.app.settings.external_url, &repository, password.as_deref());
    Ok(world)
}

/// Until a signal, or with --once until the pipeline is green.
async fn wait(world: &World, demo: &Demo) -> anyhow::Result<()> {
    if !demo.once {
        return signal().await;
    }
    tokio::select! {
        green = tokio::time::timeout(demo.timeout, wait_until_green(world)) => match green {
            Ok(green) => green,
            Err(_) => Err(anyhow::anyhow!("not green within {}: {}",
                crate::base::duration::format(demo.timeout), state(world).await)),
        },
        stopped = signal() => stopped.and_then(|()| bail!("stopped before the pipeline was green")),
    }
}

/// A bare repository with one commit; one that is there already stays.
fn make_repository(repository: &Path) -> anyhow::Result<()> {
    if repository.join("HEAD").exists() {
        return Ok(());
    }
    let work = tempfile::tempdir()?;
    for (name, text) in FILES {
        let path = work.path().join(name);
        std::fs::write(&path, text)?;
        if name.ends_with(".sh") {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    git(work.path(), &["init", "--quiet", "--initial-branch=main"])?;
    git(work.path(), &["add", "."])?;
    git(work.path(), &["commit", "--quiet", "--message=Greet the world"])?;
    let target = repository.to_string_lossy();
    git(work.path(), &["clone", "--quiet", "--bare", ".", &target])
}

fn git(directory: &Path, args: &[&str]) -> anyhow::Result<()> {
    let who = ["-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
    let output = Command::new("git")
        .args(who)
        .args(args)
        .current_dir(directory)
        .output()
        .context("cannot run git: install it (Debian: apt-get install git)")?;
    if !output.status.success() {
        bail!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

async fn set_pipeline(world: &World, repository: &Path) -> anyhow::Result<()> {
    let text = PIPELINE.replace("REPOSITORY", &repository.display().to_string());
    let (config, _) = pipeline::load(text.as_bytes()).map_err(|problems| {
        anyhow::anyhow!(
            "the demo's pipeline: {}",
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        )
    })?;
    let now = world.app.clock.now();
    world
        .app
        .store
        .write(move |tx| {
            let Some(team) = tx.find_team("main")? else { return Ok(()) };
            let pipeline = PipelineRef::named(NAME);
            if tx.find_pipeline(team.id, &pipeline)?.is_none() {
                tx.save_config(&SaveConfig {
                    team: team.id,
                    pipeline: &pipeline,
                    config: &config,
                    from_version: 0,
                    paused_if_new: false,
                    parent: None,
                    now,
                })?;
            }
            Ok(())
        })
        .await?;
    world.app.wakes.check.ring();
    world.app.wakes.schedule.ring();
    Ok(())
}

fn tell(url: &str, repository: &Path, password: Option<&str>) {
    let fly = "whistlestop fly -t demo";
    println!("whistlestop demo: {url}");
    if let Some(password) = password {
        println!("  sign in as {NAME} with the password {password}\n\nTry, in another terminal:");
        println!("  {fly} login -c {url} -u {NAME} -p {password}");
    } else {
        println!("\nTry, in another terminal:\n  {fly} login -c {url}");
    }
    println!("  {fly} watch -j {NAME}/test");
    println!("  {fly} trigger-job -j {NAME}/release -w");
    println!("  {fly} get-pipeline -p {NAME}");
    println!("  git clone {} hello    # push a commit and see it tested\n", repository.display());
}

/// A job of the demo with the status of its latest build.
struct State {
    name: String,
    build: Option<(Status, BuildId)>,
}

async fn jobs(world: &World) -> anyhow::Result<Vec<State>> {
    let jobs = world.app.store.read(|tx| {
        let Some(team) = tx.find_team("main")? else { return Ok(Vec::new()) };
        let Some(pipeline) = tx.find_pipeline(team.id, &PipelineRef::named(NAME))? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for job in tx.jobs_of_pipeline(pipeline.id)? {
            let build = tx.latest_build(job.id)?;
            found.push(State { name: job.name, build: build.map(|b| (b.status, b.id)) });
        }
        Ok(found)
    });
    Ok(jobs.await?)
}

async fn wait_until_green(world: &World) -> anyhow::Result<()> {
    loop {
        let jobs = jobs(world).await?;
        if !jobs.is_empty() && jobs.iter().all(|j| matches!(j.build, Some((Status::Succeeded, _)))) {
            println!("green: {}", jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", "));
            return Ok(());
        }
        if jobs.iter().any(|j| matches!(j.build, Some((Status::Failed | Status::Errored, _)))) {
            bail!("not green: {}", state(world).await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What each job has come to, and what the log of one that went wrong says last.
async fn state(world: &World) -> String {
    let Ok(jobs) = jobs(world).await else { return "the store cannot be read".to_owned() };
    let mut words = Vec::new();
    for job in jobs {
        words.push(match job.build {
            Some((status, id)) if matches!(status, Status::Failed | Status::Errored) => {
                format!("{} {}:\n{}", job.name, status.as_str(), log(world, id).await)
            }
            Some((status, _)) => format!("{} {}", job.name, status.as_str()),
            None => format!("{} has not started", job.name),
        });
    }
    words.join(", ")
}

/// The text of a build that is over.
async fn log(world: &World, build: BuildId) -> String {
    let mut follower = world.app.feed.follow(build, 0);
    let mut text = String::new();
    while let Some(batch) = follower.next().await {
        for frame in &batch.frames {
            let event: serde_json::Value = serde_json::from_slice(&frame.json()).unwrap_or_default();
            let said = [&event["data"]["payload"], &event["data"]["message"]];
            said.iter().filter_map(|s| s.as_str()).for_each(|s| text.push_str(s));
        }
    }
    text
}
