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
use crate::runtime::{ContainerHandle, Exec, Exit, Input, Output, Process, Stream, WindowSize};

/// How often a container's time is renewed while somebody is in it.
const RENEWED: Duration = Duration::from_secs(60);
/// What the client sends is not a process, or not a message.
const UNSUPPORTED: u16 = 1003;

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
        tokio::select! {
            () = session(app, container, &mut socket) => {}
            // The process's input goes with the session, which hangs up.
            () = lost => {
                let text = "you may no longer be in this container: your sign-in has ended, or your role has changed\n";
                send(&mut socket, json!({ "error": text })).await.unwrap_or(());
            }
        }
    };
    Ok(upgrade.on_upgrade(session).into_response())
}

async fn session(app: App, container: ContainerHandle, socket: &mut WebSocket) {
    let process = match first(socket).await {
        Some(spec) => spec,
        None => return,
    };
    keep(&app, &container).await;
    let exec = match app.runtime.exec(&container, &process).await {
        // Steps of built-in types run there, and there it is known why nobody enters them.
        Err(crate::runtime::Error::NotFound(_)) => app.natives.exec(&container, &process).await,
        other => other,
    };
    match exec {
        Ok(exec) => {
            // With a path it is that file that is missing, and there is no other shell to try.
            let searched = !process.path.contains('/');
            carry(&app, &container, exec, searched, socket).await;
            keep(&app, &container).await;
        }
        Err(e) => send(socket, json!({ "error": format!("{e}\n") })).await.unwrap_or(()),
    }
}

/// The process that the client wants; else the socket is closed.
async fn first(socket: &mut WebSocket) -> Option<Process> {
    let message = loop {
        match socket.recv().await?.ok()? {
            Message::Ping(_) | Message::Pong(_) => {}
            other => break other,
        }
    };
    let spec = message.to_text().ok().and_then(|t| serde_json::from_str::<Spec>(t).ok());
    let Some(spec) = spec else {
        let close = CloseFrame { code: UNSUPPORTED, reason: "malformed process spec".into() };
        let _ = socket.send(Message::Close(Some(close))).await;
        return None;
    };
    let usual = WindowSize { columns: 80, rows: 24 };
    Some(Process {
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
async fn carry(app: &App, container: &ContainerHandle, exec: Exec, searched: bool, socket: &mut WebSocket) {
    let Exec { input, mut output } = exec;
    let mut input = Some(input);
    let mut renew = tokio::time::interval(RENEWED);
    let patience = app.settings.hijack_idle;
    let mut typed = tokio::time::Instant::now();
    loop {
        tokio::select! {
            told = output.recv() => {
                let Some(told) = told else { return };
                let last = !matches!(told, Output::Data { .. });
                if send(socket, message(told, searched)).await.is_err() || last {
                    return;
                }
            }
            said = socket.recv() => {
                let Some(Ok(said)) = said else { return };
                let Message::Text(text) = said else { continue };
                typed = tokio::time::Instant::now();
                let Ok(said) = serde_json::from_str::<Said>(&text) else {
                    let close = CloseFrame { code: UNSUPPORTED, reason: "malformed message".into() };
                    let _ = socket.send(Message::Close(Some(close))).await;
                    return;
                };
                pass_on(said, &mut input).await;
            }
            () = tokio::time::sleep_until(typed + patience), if !patience.is_zero() => {
                let why = format!("idle timeout ({}) reached", duration::format(patience));
                let _ = send(socket, json!({ "error": format!("{why}\n") })).await;
                return;
            }
            _ = renew.tick() => keep(app, container).await,
            () = app.shutdown.asked() => return,
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
