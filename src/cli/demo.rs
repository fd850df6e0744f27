//! `whistlestop demo`: a server on this machine alone, with a user, a local git repository and a pipeline that goes
//! green by itself. Needs neither Docker nor network.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};

use super::said;
use crate::base::chance;
use crate::base::id::BuildId;
use crate::login::LocalUser;
use crate::pipeline;
use crate::server::compose::{Seams, World, signal};
use crate::server::config::RuntimeChoice;
use crate::server::{Serve, config::LogFormat, program};
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
    let own = if serve.given.contains("state-dir") {
        None
    } else {
        Some(tempfile::Builder::new().prefix("whistlestop-demo-").tempdir().context("cannot make a directory")?)
    };
    let base = own.as_ref().map_or_else(|| serve.state_dir.clone(), |d| d.path().to_owned());
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    let base = std::path::absolute(&base)?;
    let password = settle(&mut serve, &base, demo.once)?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(async {
        let world = World::start(serve, Seams::default()).await?;
        let result = show(&world, &demo, &base, password.as_deref()).await;
        let end = async {
            match own {
                Some(_) => world.end().await,
                None => world.stop().await,
            }
        };
        tokio::select! {
            () = end => {}
            second = signal() => second?,
        }
        result
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Settings of the demo's own, where there are no others; the password of its user, if it makes one.
fn settle(serve: &mut Serve, base: &Path, once: bool) -> anyhow::Result<Option<String>> {
    serve.state_dir = base.join("state");
    let open = |name: &str| !serve.given.contains(name);
    let (ip, port, runtime, level) = (open("bind-ip"), open("bind-port"), open("runtime"), open("log-level"));
    if ip {
        serve.bind_ip = std::net::Ipv4Addr::LOCALHOST.into();
    }
    if port && once {
        serve.bind_port = 0;
    }
    if runtime {
        serve.runtime = RuntimeChoice::Embedded;
    }
    if level && serve.log_format == LogFormat::Human {
        serve.log_level = "warn".to_owned();
    }
    serve.allow_host_rootfs = true;
    serve.allow_local_git = true;
    if !serve.add_local_user.is_empty() {
        return Ok(None);
    }
    let password = chance::hex::<6>();
    serve.add_local_user.push(format!("{NAME}:{password}").parse::<LocalUser>().map_err(anyhow::Error::msg)?);
    serve.main_team.main_team_local_user.push(NAME.to_owned());
    Ok(Some(password))
}

/// Sets the pipeline, tells what there is to try, and waits.
async fn show(world: &World, demo: &Demo, base: &Path, password: Option<&str>) -> anyhow::Result<()> {
    let repository = base.join("hello.git");
    make_repository(&repository).context("cannot make the demo's git repository")?;
    set_pipeline(world, &repository).await?;
    for hint in world.hints() {
        tracing::warn!("{hint}");
    }
    tell(&world.app.settings.external_url, &repository, password)?;
    wait(world, demo).await
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

fn tell(url: &str, repository: &Path, password: Option<&str>) -> anyhow::Result<()> {
    let fly = format!("{} fly -t demo", program::name());
    let (user, login) = match password {
        Some(password) => (
            format!("  sign in as {NAME} with the password {password}\n"),
            format!("{fly} login -c {url} -u {NAME} -p {password}"),
        ),
        None => (String::new(), format!("{fly} login -c {url}")),
    };
    said::text(&format!(
        "whistlestop demo: {url}\n{user}\nTry, in another terminal:\n  {login}\n  {fly} watch -j {NAME}/test\n  \
         {fly} trigger-job -j {NAME}/release -w\n  {fly} get-pipeline -p {NAME}\n  \
         git clone {} hello    # push a commit and see it tested\n\n",
        program::quoted(&repository.to_string_lossy())
    ))
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
            let names = jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ");
            return said::line(&format!("green: {names}"));
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
