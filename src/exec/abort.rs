//! A running process that is listened to until it ends, is stopped, or takes too long.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::outcome::Stop;
use super::scope::Scope;
use super::world::NativeHost;
use crate::base::stream::Stream;
use crate::event::{Event, Origin};
use crate::plan::{Plan, PlanId};
use crate::runtime::{self, Attached, ContainerHandle, Exit, Output, Runtime, Stopped};

/// Between SIGTERM and SIGKILL (Concourse: 10 s).
pub const GRACE: Duration = Duration::from_secs(10);
/// Bytes that a stopped step may still tell: what its log lags behind by, and its last words. What it writes beyond is
/// left out, so that a step that writes faster than its log is kept ends as soon as any other.
const LAST_WORDS: usize = 8 << 20;
/// Between two attempts to stop a container.
const AGAIN: Duration = Duration::from_secs(1);

/// Gives outputs until the process is to be stopped, then stops it and gives what it still says.
pub struct Watched<'a> {
    runtime: &'a dyn Runtime,
    container: &'a ContainerHandle,
    attached: Attached,
    deadline: Option<Instant>,
    scope: &'a Scope,
    stopped: Option<Stop>,
    /// Under way until the process is gone. It is kept here because whoever waits for an output may give up waiting.
    stopping: Option<BoxFuture<'a, runtime::Result<Stopped>>>,
    /// The end, which is told once the container is at rest.
    end: Option<Output>,
    /// Bytes that are still told once it is to stop.
    spare: usize,
    /// It had ended by itself when it was to be stopped.
    rested: bool,
    /// Output was left out.
    left_out: bool,
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
        let (stopped, stopping, end) = (None, None, None);
        let (spare, rested, left_out) = (LAST_WORDS, false, false);
        Watched { runtime, container, attached, deadline, scope, stopped, stopping, end, spare, rested, left_out }
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
                return Some(self.told(end));
            }
            if self.stopped.is_some() {
                return self.rest().await;
            }
            // Before its output: there may be no end of that.
            let why = tokio::select! {
                biased;
                why = self.scope.stop.asked() => why,
                () = sleep_until(self.deadline) => Stop::TimedOut,
                output = self.attached.recv() => return output,
            };
            self.stopped = Some(why);
            self.stopping = Some(self.runtime.stop(self.container, GRACE));
        }
    }

    /// What the process still says while it is being stopped; `None` once it is.
    async fn while_stopping(&mut self) -> Option<Output> {
        let stopping = self.stopping.as_mut()?;
        let result = tokio::select! {
            result = stopping => result,
            Some(output) = self.attached.recv(), if self.end.is_none() && self.spare > 0 => match output {
                end @ (Output::Exited(_) | Output::Lost(_)) => {
                    self.end = Some(end);
                    return None;
                }
                output => return Some(self.told(output)),
            },
        };
        self.stopping = None;
        match result {
            Ok(Stopped::Now) | Err(runtime::Error::NotFound(_)) => {}
            Ok(Stopped::Before) => {
                self.rested = true;
                if matches!(self.stopped, Some(Stop::TimedOut)) {
                    // It took no longer than it may: only its log is behind.
                    self.spare = usize::MAX;
                }
            }
            Err(error) => {
                tracing::warn!(%error, container = %self.container, "a stopped step's container could not be stopped");
                if self.end.is_none() {
                    let (runtime, container) = (self.runtime, self.container);
                    self.stopping = Some(Box::pin(async move {
                        tokio::time::sleep(AGAIN).await;
                        runtime.stop(container, GRACE).await
                    }));
                }
            }
        }
        None
    }

    /// What a process that has ended has still to say, up to a bound.
    async fn rest(&mut self) -> Option<Output> {
        if matches!(self.scope.stop.why(), Some(Stop::Aborted)) {
            self.spare = self.spare.min(LAST_WORDS);
        }
        if self.spare == 0 {
            self.left_out = true;
            return Some(Output::Lost("it was stopped, and the rest of its output is left out".to_owned()));
        }
        let output = self.attached.recv().await?;
        Some(self.told(output))
    }

    /// Counts what is told. The end of a process that was not stopped after all is its own.
    fn told(&mut self, output: Output) -> Output {
        match &output {
            Output::Data { bytes, .. } => self.spare = self.spare.saturating_sub(bytes.len()),
            Output::Exited(_) | Output::Lost(_) if self.rested => self.stopped = None,
            Output::Exited(_) | Output::Lost(_) => {}
        }
        output
    }

    /// Says in the log that some output is not there, if that is so.
    pub async fn tell_left_out(&mut self, plan: &PlanId) -> Result<(), Stop> {
        if !self.left_out {
            return Ok(());
        }
        let text =
            "\n\u{1b}[1;33mit was stopped while its log was far behind: the rest of its output is left out\u{1b}[0m\n";
        let log = Origin { source: Some(Stream::Stderr), ..Origin::step(&plan.0) };
        Ok(self.scope.world.emit(&log, Event::Log(text.to_owned())).await?)
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

/// How a step comes by its process.
pub enum Leave {
    /// It may be started, or found, while this is held.
    Start(Box<dyn Send + Sync>),
    /// The step is to stop, and here is what a server before this one has started.
    Found(Attached),
}

/// Leave to start a container, unless the step is to stop. `from` is where the log of a found one goes on.
pub async fn leave(
    runtime: &dyn Runtime,
    container: &ContainerHandle,
    from: u64,
    scope: &Scope,
) -> Result<Leave, Stop> {
    let why = tokio::select! {
        biased;
        why = scope.stop.asked() => why,
        turn = scope.world.place() => return Ok(Leave::Start(turn)),
    };
    match runtime.attach(container, from).await {
        Ok(attached) => Ok(Leave::Found(attached)),
        Err(runtime::Error::NotFound(_)) => Err(why),
        Err(error) => {
            tracing::warn!(%error, %container, "it cannot be told whether a step that is to stop runs");
            Err(why)
        }
    }
}

/// Stops what a step has running that ended without listening to it: after a restart its variables may be unreadable.
pub async fn leave_nothing(plan: &Plan, scope: &Scope) {
    if !scope.world.begun(slice::from_ref(&plan.id)).await.unwrap_or(true) {
        return;
    }
    let (container, runtime, natives) =
        (scope.container(&plan.id), scope.world.runtime(), scope.world.natives().runtime());
    let others = (!Arc::ptr_eq(&runtime, &natives)).then_some(natives);
    for place in [Some(runtime), others].into_iter().flatten() {
        match place.stop(&container, GRACE).await {
            Ok(_) | Err(runtime::Error::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, %container, "an ended step's container could not be stopped"),
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
