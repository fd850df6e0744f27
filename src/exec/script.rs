//! Runs one script of a resource type, wherever the type lives: a native one as a confined child of this binary, any
//! other in a container of its image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::abort::{Leave, Place, Watched, leave, status};
use super::image::Rootfs;
use super::outcome::Stop;
use super::scope::Scope;
use super::task::tell_withheld;
use super::world::{ContainerNote, VolumeNote};
use crate::base::secret::Redacting;
use crate::base::stream::Stream;
use crate::event::{Event, Origin, Utf8Chunks};
use crate::plan::PlanId;
use crate::resource::contained::{MAX_ANSWER, directory, script_process};
use crate::resource::{Mirror, Native, Request, Script, child};
use crate::runtime::{ContainerHandle, ContainerSpec, Image, Limits, Mount, Output, Process, VolumeHandle};

/// Where a type's scripts come from.
pub enum Scripts {
    /// This binary.
    Native(&'static dyn Native),
    /// An image.
    Image { rootfs: Rootfs, privileged: bool },
}

/// One run of a script.
pub struct Call<'a> {
    /// The step it is of.
    pub plan: &'a PlanId,
    /// Name of the step, for people.
    pub step: &'a str,
    /// `get`, `put`, `check`.
    pub kind: &'static str,
    /// Which script.
    pub script: Script,
    /// What it is told.
    pub request: Request,
    /// Volumes below its directory.
    pub mounts: Vec<Mount>,
    /// `BUILD_…`
    pub env: Vec<String>,
    /// How long it may still take.
    pub left: Option<std::time::Duration>,
    /// Told just before the script starts, after a place was found.
    pub started: Option<Event>,
}

/// What the script said.
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
}

impl Scripts {
    /// Where the containers of this type live.
    pub fn place(&self, scope: &Scope) -> Place {
        match self {
            Scripts::Native(_) => Place::Native(scope.world.natives()),
            Scripts::Image { .. } => Place::Runtime(scope.world.runtime()),
        }
    }

    /// Runs the script to its end. Standard error goes to the log.
    pub async fn run(&self, call: Call<'_>, scope: &Scope) -> Result<Answer, Stop> {
        let handle = scope.container(call.plan);
        let spec = self.spec(&call, scope).await?;
        let place = self.place(scope);
        let runtime = place.runtime();
        let attached = match leave(&*runtime, &handle, 0, scope).await? {
            Leave::Found(attached) => attached,
            Leave::Start(_turn) => {
                prepare(&call, &handle, &spec, scope).await?;
                match &place {
                    Place::Native(host) => host.start(&handle, &spec, &self.changes(&call, scope)).await?,
                    Place::Runtime(runtime) => runtime.start(&handle, &spec).await?,
                }
            }
        };
        tell_withheld(call.plan, &*runtime, &spec, scope).await?;
        let mut watched = Watched::new(&*runtime, &handle, attached, call.left, scope);
        let answer = listen(&mut watched, call.plan, scope).await;
        if answer.is_err() {
            watched.give_up().await;
        }
        answer
    }

    /// Where of the host a native put makes its version.
    fn changes(&self, call: &Call<'_>, scope: &Scope) -> Vec<PathBuf> {
        match self {
            Scripts::Native(native) if call.script == Script::Out && scope.world.allow_local() => {
                native.changes(&call.request)
            }
            _ => Vec::new(),
        }
    }

    async fn spec(&self, call: &Call<'_>, scope: &Scope) -> Result<ContainerSpec, Stop> {
        let dir = directory(call.script);
        let (image, privileged, process) = match self {
            Scripts::Native(native) => {
                let (image, mirror) = mirror(*native, call, scope).await?;
                let settings = child::Settings {
                    allow_local: scope.world.allow_local(),
                    mirror,
                    outgoing: scope.world.registries().outgoing.clone(),
                };
                let request = super::registry::lent(*native, &call.request, scope).await?;
                let process = Process {
                    path: scope.world.natives().program(),
                    args: child::arguments(native.name(), call.script, dir, &settings),
                    env: with_inherited(&call.env, |name| std::env::var(name).ok()),
                    dir: dir.to_owned(),
                    stdin: request.payload(call.script),
                    ..Process::default()
                };
                (image, false, process)
            }
            Scripts::Image { rootfs, privileged } => {
                let mut env = rootfs.env.clone();
                env.extend(call.env.iter().cloned());
                // As in Concourse, a script runs as the user that its image names.
                let process = script_process(call.script, dir, &call.request, env, rootfs.user.clone());
                (rootfs.image.clone(), *privileged, process)
            }
        };
        let labels = BTreeMap::from([
            ("type".to_owned(), call.kind.to_owned()),
            ("step".to_owned(), call.step.to_owned()),
            ("build".to_owned(), scope.world.build().build_id.to_string()),
        ]);
        Ok(ContainerSpec {
            team: scope.world.build().team.clone(),
            labels,
            image,
            privileged,
            hermetic: false,
            mounts: call.mounts.clone(),
            limits: Limits::default(),
            process,
        })
    }
}

/// Writes a container down, and tells that its script starts.
async fn prepare(call: &Call<'_>, handle: &ContainerHandle, spec: &ContainerSpec, scope: &Scope) -> Result<(), Stop> {
    let world = &scope.world;
    world
        .note_container(ContainerNote {
            handle: handle.clone(),
            plan: call.plan.clone(),
            kind: call.kind,
            step: call.step.to_owned(),
            attempt: scope.attempt_text(),
            user: String::new(),
            directory: spec.process.dir.clone(),
        })
        .await?;
    let origin = Origin::step(&call.plan.0);
    world.emit(&origin, Event::SelectedWorker(world.worker())).await?;
    if let Some(event) = call.started.clone() {
        world.emit(&origin, event).await?;
    }
    Ok(())
}

/// What a native type runs on, and what it gives where it gives itself away as an image: the host's own files, where
/// the operator and the runtime allow that, else those of a type that the operator has brought along.
async fn mirror(native: &dyn Native, call: &Call<'_>, scope: &Scope) -> Result<(Image, Mirror), Stop> {
    let world = &scope.world;
    if !native.mirrors_itself(&call.request) {
        return Ok((Image::Host, Mirror::Nothing));
    }
    if world.allow_host_rootfs() && world.runtime().engine_images().is_none() {
        return Ok((Image::Host, Mirror::HostRootfs));
    }
    let shell = world.shell().await?;
    Ok(shell.map_or((Image::Host, Mirror::Nothing), |rootfs| (Image::Directory(rootfs), Mirror::Container)))
}

/// With what a native type needs of the server's own environment to reach the network, in its child as in its checks.
fn with_inherited(env: &[String], server: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let set = |name: &str| env.iter().any(|pair| pair.split_once('=').is_some_and(|(known, _)| known == name));
    let inherited = child::INHERITED.iter().filter(|name| !set(name));
    let inherited = inherited.filter_map(|name| Some(format!("{name}={}", server(name)?)));
    inherited.chain(env.iter().cloned()).collect()
}

async fn listen(watched: &mut Watched<'_>, plan: &PlanId, scope: &Scope) -> Result<Answer, Stop> {
    let mut stdout = Vec::new();
    let mut pump = LogPump::new(plan, Some(Stream::Stderr), scope);
    while let Some(output) = watched.next().await {
        match output {
            Output::Data { stream: Stream::Stdout, bytes, .. } => {
                if stdout.len() + bytes.len() > MAX_ANSWER {
                    return Err(Stop::Error(crate::resource::contained::Error::TooLong.to_string()));
                }
                stdout.extend_from_slice(&bytes);
            }
            Output::Data { offset, bytes, .. } => pump.push(offset, &bytes).await?,
            Output::Exited(exit) => {
                pump.finish().await?;
                if let Some(stop) = watched.stopped() {
                    return Err(stop);
                }
                return Ok(Answer { status: status(exit)?, stdout });
            }
            Output::Lost(why) => {
                pump.finish().await?;
                watched.tell_left_out(plan).await?;
                return Err(watched.stopped().unwrap_or(Stop::Error(why)));
            }
        }
    }
    Err(Stop::Error("the container's output ended before its process did".to_owned()))
}

/// Writes a volume down and makes it.
pub async fn make_volume(
    scope: &Scope,
    runtime: &dyn crate::runtime::Runtime,
    note: VolumeNote,
) -> Result<VolumeHandle, Stop> {
    let handle = note.handle.clone();
    let origin = match &note.parent {
        Some(parent) => crate::runtime::Origin::CopyOf(parent.clone()),
        None => crate::runtime::Origin::Empty,
    };
    scope.world.note_volume(note).await?;
    runtime.create_volume(&handle, &scope.world.build().team, &origin).await?;
    Ok(handle)
}

/// Passes a process's bytes to the log: whole characters, secrets replaced, what the log has already left out.
pub struct LogPump<'a> {
    origin: Origin,
    scope: &'a Scope,
    text: Utf8Chunks,
    /// Holds back what may be the beginning of a secret.
    secrets: Redacting,
    end: u64,
    skip: u64,
}

impl<'a> LogPump<'a> {
    /// For the output of `plan`.
    pub fn new(plan: &PlanId, source: Option<Stream>, scope: &'a Scope) -> LogPump<'a> {
        let origin = Origin { id: plan.0.clone(), source };
        let skip = scope.world.output_end(plan);
        let secrets = scope.redactor.stream();
        LogPump { origin, scope, text: Utf8Chunks::default(), secrets, end: skip, skip }
    }

    /// Adds bytes whose first is number `offset` of the process's output.
    pub async fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Stop> {
        let end = offset + bytes.len() as u64;
        if end <= self.skip {
            return Ok(());
        }
        let fresh = usize::try_from(self.skip.saturating_sub(offset)).unwrap_or(0);
        let text = self.text.push(&bytes[fresh..]);
        self.end = end;
        let certain = self.secrets.push(&text);
        let held = (self.text.held() + self.secrets.held()) as u64;
        self.tell(certain, self.end.saturating_sub(held)).await
    }

    /// Nothing follows.
    pub async fn finish(&mut self) -> Result<(), Stop> {
        let rest = self.text.finish();
        let mut out = self.secrets.push(&rest);
        out.push_str(&self.secrets.finish());
        self.tell(out, self.end).await
    }

    async fn tell(&self, text: String, end: u64) -> Result<(), Stop> {
        match text.is_empty() {
            true => Ok(()),
            false => Ok(self.scope.world.output(&self.origin, text, end).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_child_reaches_the_network_as_the_server_does() {
        let server = |name: &str| match name {
            "SSL_CERT_FILE" => Some("/etc/own.pem".to_owned()),
            "http_proxy" => Some("http://of-the-server".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
            _ => None,
        };
        let of_build = ["http_proxy=http://by-flag".to_owned(), "BUILD_ID=7".to_owned()];
        let env = with_inherited(&of_build, server);
        assert_eq!(env, ["SSL_CERT_FILE=/etc/own.pem", "http_proxy=http://by-flag", "BUILD_ID=7"]);
    }
}
