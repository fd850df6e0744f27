//! A running process that is listened to until it ends, is stopped, or takes too long.

use std::time::Duration;

use tokio::time::Instant;

use super::outcome::Stop;
use super::scope::Scope;
use super::world::NativeHost;
use crate::runtime::{Attached, ContainerHandle, Exit, Output, Runtime};

/// Between SIGTERM and SIGKILL (Concourse: 10 s).
const GRACE: Duration = Duration::from_secs(10);

/// Gives outputs until the process is to be stopped, then stops it and gives what it still says.
pub struct Watched<'a> {
    runtime: &'a dyn Runtime,
    container: &'a ContainerHandle,
    attached: Attached,
    deadline: Option<Instant>,
    stop: &'a super::halt::Halt,
    stopped: Option<Stop>,
}

impl<'a> Watched<'a> {
    /// Watches `attached`, the process of `container`; `left` is how long it may still take.
    pub fn new(
        runtime: &'a dyn Runtime,
        container: &'a ContainerHandle,
        attached: Attached,
        left: Option<Duration>,
        scope: &'a Scope,
    ) -> Self {
        let deadline = left.map(|left| Instant::now() + left);
        Watched { runtime, container, attached, deadline, stop: &scope.stop, stopped: None }
    }

    /// The next output. `None` where the stream broke off.
    pub async fn next(&mut self) -> Option<Output> {
        loop {
            if self.stopped.is_some() {
                return self.attached.recv().await;
            }
            let why = tokio::select! {
                biased;
                output = self.attached.recv() => return output,
                why = self.stop.asked() => why,
                () = sleep_until(self.deadline) => Stop::TimedOut,
            };
            self.stopped = Some(why);
            self.stop_process().await;
        }
    }

    /// Stops the process while its output is still taken, so that it cannot block on a full pipe.
    async fn stop_process(&mut self) {
        let mut late = Vec::new();
        let stop = self.runtime.stop(self.container, GRACE);
        tokio::pin!(stop);
        let result = loop {
            tokio::select! {
                result = &mut stop => break result,
                Some(output) = self.attached.recv() => {
                    let end = matches!(output, Output::Exited(_) | Output::Lost(_));
                    late.push(output);
                    if end { break stop.await; }
                }
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, container = %self.container, "a stopped step's container could not be stopped");
        }
        // What came meanwhile is handed on in order before what follows.
        let (sender, receiver) = tokio::sync::mpsc::channel(late.len().max(1) + 64);
        let rest = std::mem::replace(&mut self.attached, receiver);
        for output in late {
            let _ = sender.try_send(output);
        }
        tokio::spawn(pass_on(rest, sender));
    }

    /// Stops a process whose output nobody can take any more, such as when the disk is full.
    pub async fn give_up(&mut self) {
        if self.stopped.is_none()
            && let Err(error) = self.runtime.stop(self.container, GRACE).await
        {
            tracing::warn!(%error, container = %self.container, "an abandoned step's container could not be stopped");
        }
    }

    /// Why the process was stopped, if it was.
    pub fn stopped(&mut self) -> Option<Stop> {
        self.stopped.take()
    }
}

async fn pass_on(mut from: Attached, to: tokio::sync::mpsc::Sender<Output>) {
    while let Some(output) = from.recv().await {
        if to.send(output).await.is_err() {
            return;
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The status of an exit, or the error that there was no process.
pub fn status(exit: Exit) -> Result<i32, Stop> {
    match exit {
        Exit::Status(status) => Ok(status),
        Exit::NotStarted { message, .. } => Err(Stop::Error(message)),
    }
}

/// Where a step's container lives: the runtime of containers, or that of native children.
pub enum Place {
    /// A container.
    Runtime(std::sync::Arc<dyn Runtime>),
    /// A child of this binary.
    Native(std::sync::Arc<dyn NativeHost>),
}

impl Place {
    /// The runtime underneath.
    pub fn runtime(&self) -> std::sync::Arc<dyn Runtime> {
        match self {
            Place::Runtime(runtime) => runtime.clone(),
            Place::Native(host) => host.runtime(),
        }
    }
}
