//! A running process that is listened to until it ends, is stopped, or takes too long.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::outcome::Stop;
use super::scope::Scope;
use super::world::NativeHost;
use crate::runtime::{self, Attached, ContainerHandle, Exit, Output, Runtime};

/// Between SIGTERM and SIGKILL (Concourse: 10 s).
const GRACE: Duration = Duration::from_secs(10);

/// Gives outputs until the process is to be stopped, then stops it and gives what it still says.
pub struct Watched<'a> {
    runtime: &'a dyn Runtime,
    container: &'a ContainerHandle,
    attached: Attached,
    deadline: Option<Instant>,
    scope: &'a Scope,
    stopped: Option<Stop>,
    /// Under way until the process is gone. It is kept here because whoever waits for an output may give up waiting.
    stopping: Option<BoxFuture<'a, runtime::Result<()>>>,
    /// The end, which is told once the container is at rest.
    end: Option<Output>,
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
        Watched { runtime, container, attached, deadline, scope, stopped: None, stopping: None, end: None }
    }

    /// The next output. `None` where the stream broke off. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<Output> {
        loop {
            if self.stopping.is_some() {
                match self.while_stopping().await {
                    Some(output) => return Some(output),
                    None => continue,
                }
            }
            if let Some(end) = self.end.take() {
                return Some(end);
            }
            if self.stopped.is_some() {
                return self.attached.recv().await;
            }
            let why = tokio::select! {
                biased;
                output = self.attached.recv() => return output,
                why = self.scope.stop.asked() => why,
                () = sleep_until(self.deadline) => Stop::TimedOut,
            };
            self.stopped = Some(why);
            self.stopping = Some(self.runtime.stop(self.container, GRACE));
        }
    }

    /// What the process still says while it is being stopped, so that it cannot block on a full pipe; `None` once it is.
    async fn while_stopping(&mut self) -> Option<Output> {
        let stopping = self.stopping.as_mut()?;
        let result = tokio::select! {
            result = stopping => result,
            Some(output) = self.attached.recv(), if self.end.is_none() => match output {
                end @ (Output::Exited(_) | Output::Lost(_)) => {
                    self.end = Some(end);
                    return None;
                }
                output => return Some(output),
            },
        };
        self.stopping = None;
        if let Err(error) = result {
            tracing::warn!(%error, container = %self.container, "a stopped step's container could not be stopped");
        }
        None
    }

    /// Stops a process whose output nobody can take any more, such as when the disk is full.
    pub async fn give_up(&mut self) {
        let stopping = match (&self.stopped, self.stopping.take()) {
            (_, Some(stopping)) => stopping,
            (None, None) => self.runtime.stop(self.container, GRACE),
            (Some(_), None) => return,
        };
        if let Err(error) = stopping.await {
            tracing::warn!(%error, container = %self.container, "an abandoned step's container could not be stopped");
        }
    }

    /// Why the process was stopped, if it was.
    pub fn stopped(&mut self) -> Option<Stop> {
        self.stopped.take().or_else(|| self.scope.world.ended_because(self.container).map(Stop::Error))
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
