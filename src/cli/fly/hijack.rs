//! `hijack` (also `intercept`): a command in a step's container, over a websocket.

use std::io::{Read, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode, Upgraded, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::client::{ApiError, Status};
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::reference::{JobRef, PipelineRef, ResourceRef};
use super::shapes::Container;
use super::target::Targets;
use super::team::{Team, list};
use super::watch::{instance_of, newest_one_off, parts_of};
use super::{Fly, Session, prompt, terminal};

/// How often the server hears that we are still here.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Arguments of `hijack`.
#[derive(Debug, Clone, clap::Args)]
pub struct Hijack {
    /// Name of a job to hijack
    #[arg(short, long, value_name = "PIPELINE/JOB")]
    job: Option<JobRef>,
    /// Handle id of a job to hijack
    #[arg(long)]
    handle: Option<String>,
    /// Name of a resource's checking container to hijack
    #[arg(short, long, value_name = "PIPELINE/CHECK")]
    check: Option<ResourceRef>,
    /// URL for the build, job, or check container to hijack
    #[arg(short, long)]
    url: Option<String>,
    /// Build number within the job, or global build ID
    #[arg(short, long)]
    build: Option<String>,
    /// Name of step to hijack (e.g. build, unit, resource name)
    #[arg(short, long)]
    step: Option<String>,
    /// Type of step to hijack (e.g. get, put, task)
    #[arg(long)]
    step_type: Option<String>,
    /// Attempt number of step to hijack
    #[arg(short, long, value_name = "N[,N,...]")]
    attempt: Option<String>,
    /// Name of the team to which the container belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
    /// The command to run in the container (default: bash)
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

/// What narrows down the containers.
#[derive(Debug, Default, PartialEq)]
struct Fingerprint {
    pipeline: Option<PipelineRef>,
    job: Option<String>,
    check: Option<String>,
    build: Option<String>,
}

impl Hijack {
    /// Finds the container, and runs the command in it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = self.session(fly).await?;
        let team = session.team(self.team.as_deref()).await?;
        let Some(container) = self.container(fly, &session, &team).await? else {
            return Ok(0);
        };
        let process = Process { fly, team: &team, container: &container };
        let (command, shells): (&[String], _) = match self.command.split_first() {
            Some(_) => (&self.command, false),
            None => (&["bash".to_owned()], true),
        };
        let raw = terminal::Raw::enter()?;
        let mut inputs = keyboard();
        let ended = match process.run(command, &mut inputs).await {
            Ok(Ended::NotFound) if shells => {
                fly.console.tell("\rCouldn't find \"bash\" on container, retrying with \"sh\"\r")?;
                process.run(&["sh".to_owned()], &mut inputs).await
            }
            other => other,
        };
        drop(raw);
        match ended? {
            Ended::Exit(code) => Ok(code),
            Ended::NotFound => Ok(0),
        }
    }

    /// The target given, or the one whose address and team the URL has.
    async fn session(&self, fly: &Fly) -> Result<Session, Failure> {
        let (None, Some(url)) = (&fly.target, &self.url) else {
            return fly.session().await;
        };
        let url = Url::parse(url).map_err(|e| Failure::said(format!("parse {url:?}: {e}")))?;
        let (api, parts) = (url.origin().ascii_serialization(), parts_of(&url));
        let saved = Targets::load()?.saved;
        let found = saved.into_iter().find(|(_, t)| t.api == api && parts.get("teams") == Some(&t.team));
        let (name, target) = found.ok_or_else(|| Failure::said("no target matching url"))?;
        let session = fly.connect(&name, target)?;
        fly.check_version(&session, false).await?;
        Ok(session)
    }

    async fn container(&self, fly: &Fly, session: &Session, team: &Team<'_>) -> Result<Option<Container>, Failure> {
        let gone = |what: &str| {
            let hint = "they may have expired if your build hasn't recently finished.";
            Failure::bare(format!("no containers matched {what}!\n\n{hint}"))
        };
        if let Some(handle) = &self.handle {
            return match team.call(Method::GET, &["containers", handle]).fetch().await {
                Ok(container) => Ok(Some(container)),
                Err(e @ (ApiError::Unauthorized | ApiError::Network { .. })) => Err(e.into()),
                Err(_) => Err(gone("the given handle id")),
            };
        }
        let fingerprint = self.fingerprint(session, team)?;
        let mut call = team.call(Method::GET, &["containers"]);
        for (name, value) in self.filters(session, fingerprint).await? {
            call = call.query(name, &value);
        }
        let mut containers: Vec<Container> = list(call).await?;
        containers.retain(|c| matches!(c.state.as_str(), "created" | "failed"));
        containers.sort_by_cached_key(|c| (c.build_id, c.resource_name.clone(), c.step_name.clone(), c.kind.clone()));
        match containers.len() {
            0 => Err(gone("your search parameters")),
            1 => Ok(containers.pop()),
            _ => {
                let items: Vec<String> = containers.iter().map(describe).collect();
                let chosen = prompt::choose(fly.console, "Select a container", &items)?;
                Ok(chosen.map(|i| containers.swap_remove(i)))
            }
        }
    }

    fn fingerprint(&self, session: &Session, team: &Team<'_>) -> Result<Fingerprint, Failure> {
        let mut found = match &self.url {
            Some(url) => from_url(url, session.client.url(), &team.name)?,
            None => Fingerprint::default(),
        };
        if let Some(check) = &self.check {
            found.pipeline = Some(check.pipeline.clone());
            found.check = Some(check.name.clone());
        }
        if let Some(job) = &self.job {
            found.pipeline = Some(job.pipeline.clone());
            found.job = Some(job.name.clone());
        }
        if self.build.is_some() {
            found.build.clone_from(&self.build);
        }
        Ok(found)
    }

    /// The query of the list of containers, in the order of the alphabet.
    async fn filters(&self, session: &Session, found: Fingerprint) -> Result<Vec<(&'static str, String)>, Failure> {
        let (name, vars) = match found.pipeline {
            Some(pipeline) => (Some(pipeline.name), pipeline.vars.map(|v| Value::Object(v).to_string())),
            None => (None, None),
        };
        let mut filters = Vec::new();
        if let Some(check) = found.check {
            filters.extend([("resource_name", check), ("type", "check".to_owned())]);
            filters.extend(name.map(|n| ("pipeline_name", n)).into_iter().chain(vars.map(|v| ("vars", v))));
        } else {
            filters.extend(self.attempt.clone().map(|a| ("attempt", a)));
            filters.extend(self.step.clone().map(|s| ("step_name", s)));
            filters.extend(self.step_type.clone().map(|t| ("type", t)));
            match (found.job, found.build) {
                (Some(job), build) => {
                    filters.extend(name.map(|n| ("pipeline_name", n)).into_iter().chain(vars.map(|v| ("vars", v))));
                    filters.push(("job_name", job));
                    filters.extend(build.map(|b| ("build_name", b)));
                }
                (None, Some(id)) => filters.push(("build_id", id)),
                (None, None) => filters.push(("build_id", newest_one_off(&session.client).await?.id.to_string())),
            }
        }
        filters.sort();
        Ok(filters)
    }
}

fn from_url(text: &str, target: &str, team: &str) -> Result<Fingerprint, Failure> {
    let url = Url::parse(text).map_err(|e| Failure::said(format!("parse {text:?}: {e}")))?;
    if url.origin().ascii_serialization() != target {
        return Err(Failure::said("URL doesn't match that of target"));
    }
    let mut parts = parts_of(&url);
    if parts.remove("teams").is_none_or(|name| name != team) {
        return Err(Failure::said("Team in URL doesn't match the current team of the target"));
    }
    Ok(Fingerprint {
        pipeline: parts.remove("pipelines").map(|name| PipelineRef { name, vars: instance_of(&url) }),
        job: parts.remove("jobs"),
        check: parts.remove("resources"),
        build: parts.remove("builds"),
    })
}

/// A container as the chooser lists it.
fn describe(c: &Container) -> String {
    let mut facts = vec![("step", &c.step_name), ("resource", &c.resource_name), ("type", &c.kind)];
    if c.kind == "check" {
        facts.push(("expires in", &c.expires_in));
    }
    facts.push(("attempt", &c.attempt));
    let told: Vec<String> =
        facts.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}: {v}")).collect();
    told.join(", ")
}

/// How a process ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Exit(i32),
    NotFound,
}

/// Something for the process: bytes, or the end of them.
enum Input {
    Bytes(Vec<u8>),
    End,
}

/// Reads stdin on a thread of its own: a read cannot be called off, and must not hold up the end of the process.
fn keyboard() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let input = match std::io::stdin().read(&mut buffer) {
                Ok(0) | Err(_) => Input::End,
                Ok(n) => Input::Bytes(buffer[..n].to_vec()),
            };
            let last = matches!(input, Input::End);
            if sender.blocking_send(input).is_err() || last {
                return;
            }
        }
    });
    receiver
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Output {
    stdout: Option<String>,
    stderr: Option<String>,
    error: Option<String>,
    exit_status: Option<i32>,
    executable_not_found: bool,
}

/// A command in a container.
struct Process<'a> {
    fly: &'a Fly,
    team: &'a Team<'a>,
    container: &'a Container,
}

impl Process<'_> {
    async fn run(&self, command: &[String], inputs: &mut mpsc::Receiver<Input>) -> Result<Ended, Failure> {
        let socket = WebSocketStream::from_raw_socket(self.upgrade().await?, Role::Client, None).await;
        let (mut sink, mut stream) = socket.split();
        send(&mut sink, &self.spec(command)).await.map_err(broken)?;
        let mut resized = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())?;
        let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        let (mut ended, mut open) = (Ended::Exit(0), true);
        loop {
            let sent = tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        self.take(text.as_str(), &mut ended)?;
                        continue;
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        self.take(&String::from_utf8_lossy(&bytes), &mut ended)?;
                        continue;
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                    // The server drops the connection once all is told.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(ended),
                },
                input = inputs.recv(), if open => match input {
                    Some(Input::Bytes(bytes)) => send(&mut sink, &json!({"stdin": BASE64.encode(bytes)})).await,
                    Some(Input::End) | None => {
                        open = false;
                        send(&mut sink, &json!({"closed": true})).await
                    }
                },
                _ = resized.recv() => match tty() {
                    Value::Null => continue,
                    tty => send(&mut sink, &json!({"tty": tty})).await,
                },
                _ = heartbeat.tick() => sink.send(Message::Ping(bytes::Bytes::new())).await,
            };
            // What cannot be sent any more matters only if there is nothing left to read either.
            if sent.is_err() {
                open = false;
            }
        }
    }

    /// Asks for the websocket on an ordinary connection, so that its settings hold here too.
    async fn upgrade(&self) -> Result<Upgraded, Failure> {
        let call = self.team.call(Method::GET, &["containers", &self.container.id, "hijack"]);
        let response = call
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &generate_key())
            .open()
            .await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::said(format!("{} websocket: bad handshake", Status(response.status()))));
        }
        response.upgrade().await.map_err(|e| Failure::said(e.to_string()))
    }

    fn spec(&self, command: &[String]) -> Value {
        let (path, args) = command.split_first().expect("a command has a name");
        let term = std::env::var("TERM").unwrap_or_default();
        json!({
            "path": path,
            "args": args,
            "env": [format!("TERM={term}")],
            "dir": self.container.working_directory,
            "privileged": true,
            "user": self.container.user,
            "tty": tty(),
        })
    }

    /// Prints what the process said, and notes how it ended.
    fn take(&self, text: &str, ended: &mut Ended) -> Result<(), Failure> {
        let output: Output = serde_json::from_str(text).map_err(ApiError::from)?;
        let decode = |text: &str| BASE64.decode(text).map_err(|e| Failure::said(format!("output of the process: {e}")));
        let error = output.error.unwrap_or_default();
        if let Some(code) = output.exit_status {
            *ended = Ended::Exit(code);
        } else if output.executable_not_found || error.contains("executable file not found") {
            *ended = Ended::NotFound;
        } else if !error.is_empty() {
            self.fly.console.tell(Style::BoldRed.paint(&error))?;
            *ended = Ended::Exit(255);
        } else if let Some(text) = output.stdout {
            self.fly.console.print(decode(&text)?)?;
        } else if let Some(text) = output.stderr {
            let mut err = std::io::stderr().lock();
            err.write_all(&decode(&text)?)?;
            err.flush()?;
        }
        Ok(())
    }
}

async fn send(sink: &mut SplitSink<WebSocketStream<Upgraded>, Message>, value: &Value) -> Result<(), SocketError> {
    sink.send(Message::text(value.to_string())).await
}

fn broken(error: SocketError) -> Failure {
    Failure::said(error.to_string())
}

/// The terminal's size, or null where there is no terminal.
fn tty() -> Value {
    terminal::size().map_or(Value::Null, |(columns, rows)| json!({"window_size": {"columns": columns, "rows": rows}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_narrows_the_search() {
        let found = from_url("http://ci/teams/main/pipelines/p/jobs/j/builds/3", "http://ci", "main").unwrap();
        let pipeline = Some(PipelineRef { name: "p".into(), vars: None });
        assert_eq!(found, Fingerprint { pipeline, job: Some("j".into()), check: None, build: Some("3".into()) });
        for (url, team) in [("http://other/teams/main", "main"), ("http://ci/teams/main", "a")] {
            assert!(from_url(url, "http://ci", team).is_err());
        }
    }

    #[test]
    fn the_chooser_tells_containers_apart() {
        let task =
            Container { kind: "task".into(), step_name: "unit".into(), attempt: "2".into(), ..Default::default() };
        assert_eq!(describe(&task), "step: unit, type: task, attempt: 2");
        let check = Container {
            kind: "check".into(),
            resource_name: "r".into(),
            expires_in: "5m".into(),
            ..Default::default()
        };
        assert_eq!(describe(&check), "resource: r, type: check, expires in: 5m");
    }
}
