//! Entering a container: a websocket carries the terminal of a further process in it.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::duration;
use crate::front::{Answer, App, Call, Failure, Permit};
use crate::runtime::{ContainerHandle, Error, Exec, Exit, Input, Output, Process, Stream, WindowSize};

/// How often a container's time is renewed while somebody is in it.
const RENEWED: Duration = Duration::from_secs(60);
/// How long the client has to say goodbye. Who leaves before may take the last words with him.
const GOODBYE: Duration = Duration::from_secs(2);

/// How a session ends.
enum End {
    /// The process has ended and its status was told, or the client has left.
    Done,
    /// The words for the user.
    Failed(String),
    /// What the client sends is not a process, or not a message.
    Malformed(&'static str),
    /// The server ends.
    Away,
}

impl End {
    /// The code of the closing frame and its reason (RFC 6455, section 7.4.1).
    fn frame(&self) -> CloseFrame {
        let (code, reason) = match self {
            End::Done => (1000, ""),
            End::Away => (1001, "the server ends"),
            End::Malformed(what) => (1003, *what),
            End::Failed(_) => (1011, "the container cannot be used: the message before says why"),
        };
        CloseFrame { code, reason: reason.into() }
    }
}

/// The first message of the client.
#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    path: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    dir: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    tty: Option<Tty>,
}

#[derive(Deserialize)]
struct Tty {
    window_size: Option<WindowSize>,
}

/// Its further messages.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    closed: bool,
    #[serde(default)]
    tty: Option<Tty>,
}

/// `HijackContainer`
pub async fn enter(permit: Permit, mut call: Call) -> Answer {
    let (team, handle) = (permit.team()?, call.param("id").to_owned());
    let found = call.app.store.read(move |tx| tx.container_view(team, &handle)).await?;
    let container = found.ok_or_else(Failure::not_found)?.container;
    // A check may hold credentials that its pipeline's members were not given.
    if container.kind == "check" && !permit.is_admin() {
        return Err(Failure::forbidden());
    }
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut call.parts, &()).await else {
        return Err(Failure::text(StatusCode::BAD_REQUEST, "Bad Request\n"));
    };
    let (app, container) = (call.app, ContainerHandle(container.handle));
    let lost = permit.lost(&app);
    let session = |mut socket: WebSocket| async move {
        let end = tokio::select! {
            end = session(app, container, &mut socket) => end,
            // The process's input goes with the session, which hangs up.
            () = lost => {
                let text = "you may no longer be in this container: your sign-in has ended, or your role has changed";
                End::Failed(text.to_owned())
            }
        };
        close(&mut socket, &end).await;
    };
    Ok(upgrade.on_upgrade(session).into_response())
}

/// Says why, if there is something to say, and closes as the protocol wants it.
async fn close(socket: &mut WebSocket, end: &End) {
    if let End::Failed(why) = end {
        send(socket, json!({ "error": format!("{why}\n") })).await.unwrap_or(());
    }
    if socket.send(Message::Close(Some(end.frame()))).await.is_ok() {
        let goodbye = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

async fn session(app: App, container: ContainerHandle, socket: &mut WebSocket) -> End {
    let process = match first(socket).await {
        Ok(spec) => spec,
        Err(end) => return end,
    };
    keep(&app, &container).await;
    let exec = match app.runtime.exec(&container, &process).await {
        // Steps of built-in types run there, and there it is known why nobody enters them.
        Err(Error::NotFound(here)) => match app.natives.exec(&container, &process).await {
            Err(Error::NotFound(_)) => Err(Error::NotFound(here)),
            other => other,
        },
        other => other,
    };
    match exec {
        Ok(exec) => {
            // With a path it is that file that is missing, and there is no other shell to try.
            let searched = !process.path.contains('/');
            let end = carry(&app, &container, exec, searched, socket).await;
            keep(&app, &container).await;
            end
        }
        Err(e) => End::Failed(e.to_string()),
    }
}

/// The process that the client wants.
async fn first(socket: &mut WebSocket) -> Result<Process, End> {
    let message = loop {
        match socket.recv().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(other)) => break other,
            Some(Err(_)) | None => return Err(End::Done),
        }
    };
    let spec = message.to_text().ok().and_then(|t| serde_json::from_str::<Spec>(t).ok());
    let spec = spec.ok_or(End::Malformed("malformed process spec"))?;
    let usual = WindowSize { columns: 80, rows: 24 };
    Ok(Process {
        path: spec.path,
        args: spec.args.unwrap_or_default(),
        env: spec.env.unwrap_or_default(),
        dir: spec.dir,
        user: Some(spec.user).filter(|u| !u.is_empty()),
        tty: spec.tty.map(|t| t.window_size.unwrap_or(usual)),
        stdin: Vec::new(),
        owns: Vec::new(),
    })
}

/// Carries both directions until the process or the client ends. Leaving drops the process's input, which hangs up.
async fn carry(app: &App, container: &ContainerHandle, exec: Exec, searched: bool, socket: &mut WebSocket) -> End {
    let Exec { input, mut output } = exec;
    let mut input = Some(input);
    let mut renew = tokio::time::interval(RENEWED);
    let patience = app.settings.hijack_idle;
    let mut typed = tokio::time::Instant::now();
    loop {
        tokio::select! {
            told = output.recv() => {
                let Some(told) = told else { return End::Done };
                if let Output::Lost(why) = told {
                    return End::Failed(why);
                }
                let last = !matches!(told, Output::Data { .. });
                if send(socket, message(told, searched)).await.is_err() || last {
                    return End::Done;
                }
            }
            said = socket.recv() => {
                let Some(Ok(said)) = said else { return End::Done };
                let Message::Text(text) = said else { continue };
                typed = tokio::time::Instant::now();
                let Ok(said) = serde_json::from_str::<Said>(&text) else { return End::Malformed("malformed message") };
                pass_on(said, &mut input).await;
            }
            () = tokio::time::sleep_until(typed + patience), if !patience.is_zero() => {
                return End::Failed(format!("idle timeout ({}) reached", duration::format(patience)));
            }
            _ = renew.tick() => keep(app, container).await,
            () = app.shutdown.asked() => return End::Away,
        }
    }
}

async fn pass_on(said: Said, input: &mut Option<tokio::sync::mpsc::Sender<Input>>) {
    let Some(to) = input else { return };
    if let Some(bytes) = said.stdin.and_then(|s| STANDARD.decode(s).ok()) {
        let _ = to.send(Input::Data(Bytes::from(bytes))).await;
    }
    if let Some(size) = said.tty.and_then(|t| t.window_size) {
        let _ = to.send(Input::Resize(size)).await;
    }
    if said.closed {
        let _ = to.send(Input::Close).await;
    }
}

/// What the client reads; `searched`: whether its program was looked for along the path.
fn message(told: Output, searched: bool) -> Value {
    match told {
        Output::Data { stream: Stream::Stdout, bytes, .. } => json!({ "stdout": STANDARD.encode(bytes) }),
        Output::Data { stream: Stream::Stderr, bytes, .. } => json!({ "stderr": STANDARD.encode(bytes) }),
        Output::Exited(Exit::Status(status)) => json!({ "exit_status": status }),
        // The client tries another shell then.
        Output::Exited(Exit::NotStarted { not_found: true, .. }) if searched => json!({ "executable_not_found": true }),
        Output::Exited(Exit::NotStarted { message, .. }) => json!({ "error": format!("{message}\n") }),
        Output::Lost(why) => json!({ "error": format!("{why}\n") }),
    }
}

async fn send(socket: &mut WebSocket, message: Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(format!("{message}\n").into())).await
}

/// Keeps the collector away from the container for a while.
async fn keep(app: &App, container: &ContainerHandle) {
    // Somebody who is in must find it there at the next renewal, however short the operator's word is.
    let kept = app.settings.hijack_grace.max(2 * RENEWED);
    let (handle, until) = (container.0.clone(), app.clock.now().plus(kept));
    if let Err(e) = app.store.write(move |tx| tx.keep_container(&handle, until)).await {
        tracing::error!(error = %e, "a container that is in use could not be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_shell_is_tried_only_for_a_program_without_a_path() {
        let missing = || Output::Exited(Exit::NotStarted { message: "no such file".into(), not_found: true });
        assert_eq!(message(missing(), true), json!({"executable_not_found": true}));
        assert_eq!(message(missing(), false), json!({"error": "no such file\n"}));
    }
}
