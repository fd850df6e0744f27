//! `task`: runs a process on artifacts, in the image the task names.

use std::collections::BTreeMap;
use std::time::Duration;

use super::abort::{Leave, Watched, leave, status};
use super::artifact::Artifact;
use super::composite::left_of;
use super::image::{self, Rootfs};
use super::outcome::{LeafResult, Outcome, Stop};
use super::placement;
use super::scope::Scope;
use super::script::{LogPump, make_volume};
use super::task_config;
use super::world::{ContainerNote, KeptCache, RunningPlace, VolumeNote};
use crate::base::duration;
use crate::base::stream::Stream;
use crate::base::version::digest;
use crate::event::{Event, InputShown, Origin, RunShown, TaskShown};
use crate::pipeline::{TaskCache, TaskConfig};
use crate::plan::{Plan, PlanId, TaskPlan};
use crate::runtime::{ContainerSpec, Exit, Image, Limits, Mount, Output, Process, Runtime, VolumeHandle, WindowSize};

/// Terminals of tasks are this large (Concourse: 500 × 500).
const TERMINAL: WindowSize = WindowSize { columns: 500, rows: 500 };
/// Output of a busy step is put together for this long before it is told; longer than the
/// pause between two announcements to followers, so that none of it waits once more.
const TOGETHER: Duration = Duration::from_millis(22);

/// Runs the step.
pub async fn run(plan: &Plan, task: &TaskPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let (world, origin) = (&scope.world, Origin::step(&plan.id.0));
    let (config, warnings) = task_config::of(task, scope).await?;
    world.emit(&origin, Event::InitializeTask).await?;
    let log = Origin { source: Some(Stream::Stderr), ..origin.clone() };
    for warning in warnings {
        world.emit(&log, Event::Log(format!("\u{1b}[1;33m{warning}\u{1b}[0m\n"))).await?;
    }
    let image = image::of_task(&plan.id, task, config.image_resource.as_ref(), &config.rootfs_uri, scope).await?;
    for input in &config.inputs {
        let name = task.input_mapping.get(&input.name).unwrap_or(&input.name);
        if let Some(artifact) = scope.artifacts.get(name) {
            super::registry::volume(&artifact, scope).await?;
        }
    }
    let places = Places::of(plan, task, &config, scope)?;
    placement::allowed(&config.platform, &task.tags, &world.worker_tags())?;
    let mounts = places.mounts(task, scope).await?;
    let spec = places.spec(task, &config, (image, mounts), scope)?;
    let _running = running(plan, scope).await?;
    let left = left_of("task", &plan.id, task.timeout.as_deref(), scope).await?;
    let exit = process(plan, task, &config, &spec, left, scope).await;
    // Outputs are there for later steps also when the task has failed.
    let artifacts = places.artifacts();
    if !matches!(exit, Err(Stop::Error(_))) {
        places.keep_caches(task, scope).await?;
    }
    match exit {
        Ok(exit_status) => {
            world.emit(&origin, Event::FinishTask { exit_status }).await?;
            let outcome = if exit_status == 0 { Outcome::Succeeded } else { Outcome::Failed };
            Ok(LeafResult { artifacts, ..LeafResult::of(outcome) })
        }
        Err(Stop::Error(text)) => Err(Stop::Error(text)),
        Err(stop) => {
            let text = stop.text();
            scope.tell_error(&plan.id, &text).await;
            Ok(LeafResult { artifacts, ..LeafResult::of(stop.outcome(text)) })
        }
    }
}

/// Leave to run, for which a task may have to wait.
async fn running(plan: &Plan, scope: &Scope) -> Result<Box<dyn Send + Sync>, Stop> {
    let later = match scope.world.running_place(&scope.container(&plan.id)).await? {
        RunningPlace::Now(place) => return Ok(place),
        RunningPlace::Later(place) => place,
    };
    scope.world.emit(&Origin::step(&plan.id.0), Event::WaitingForWorker).await?;
    tokio::select! {
        place = later => Ok(place),
        why = scope.stop.asked() => Err(why),
    }
}

/// Starts the process, or finds it, and listens to its end.
async fn process(
    plan: &Plan,
    task: &TaskPlan,
    config: &TaskConfig,
    spec: &ContainerSpec,
    left: Option<Duration>,
    scope: &Scope,
) -> Result<i32, Stop> {
    let (world, origin, handle) = (&scope.world, Origin::step(&plan.id.0), scope.container(&plan.id));
    let runtime = world.runtime();
    let attached = match leave(&*runtime, &handle, world.output_end(&plan.id), scope).await? {
        Leave::Found(attached) => attached,
        Leave::Start(_turn) => {
            world
                .note_container(ContainerNote {
                    handle: handle.clone(),
                    plan: plan.id.clone(),
                    kind: "task",
                    step: task.name.clone(),
                    attempt: scope.attempt_text(),
                    // Whoever looks into it comes as root, as in Concourse, and not as the user that the task names.
                    user: String::new(),
                    directory: spec.process.dir.clone(),
                })
                .await?;
            world.emit(&origin, Event::SelectedWorker(world.worker())).await?;
            world.emit(&origin, Event::StartTask(shown(config, scope))).await?;
            runtime.start(&handle, spec).await?
        }
    };
    tell_withheld(&plan.id, &*runtime, spec, scope).await?;
    let mut watched = Watched::new(&*runtime, &handle, attached, left, scope);
    let mut pump = LogPump::new(&plan.id, Some(Stream::Stdout), scope);
    let heard = async {
        let exit = listen(&mut watched, &mut pump).await?;
        pump.finish().await?;
        watched.tell_left_out(&plan.id).await?;
        Ok(exit)
    };
    let exit = match heard.await {
        Ok(exit) => exit,
        Err(stop) => {
            watched.give_up().await;
            return Err(stop);
        }
    };
    match watched.stopped() {
        Some(stop) => Err(stop),
        None => status(exit.map_err(Stop::Error)?),
    }
}

/// Says in a step's log what of its privileges it does not get.
pub async fn tell_withheld(
    plan: &PlanId,
    runtime: &dyn Runtime,
    spec: &ContainerSpec,
    scope: &Scope,
) -> Result<(), Stop> {
    let Some(text) = runtime.withheld(spec) else { return Ok(()) };
    let log = Origin { source: Some(Stream::Stderr), ..Origin::step(&plan.0) };
    Ok(scope.world.emit(&log, Event::Log(format!("\u{1b}[1;33m{text}\u{1b}[0m\n"))).await?)
}

/// Passes output on; that of a busy process is put together, so that its followers get few large events.
async fn listen(watched: &mut Watched<'_>, pump: &mut LogPump<'_>) -> Result<Result<Exit, String>, Stop> {
    const LARGE: usize = 64 * 1024;
    let mut held: Vec<u8> = Vec::new();
    let mut first = 0u64;
    let mut told = tokio::time::Instant::now() - TOGETHER;
    loop {
        let output = if held.is_empty() {
            watched.next().await
        } else {
            match tokio::time::timeout_at(told + TOGETHER, watched.next()).await {
                Ok(output) => output,
                Err(_) => {
                    pump.push(first, &std::mem::take(&mut held)).await?;
                    told = tokio::time::Instant::now();
                    continue;
                }
            }
        };
        let end = match output {
            Some(Output::Data { offset, bytes, .. }) => {
                if held.is_empty() {
                    first = offset;
                }
                held.extend_from_slice(&bytes);
                if held.len() >= LARGE || told.elapsed() >= TOGETHER {
                    pump.push(first, &std::mem::take(&mut held)).await?;
                    told = tokio::time::Instant::now();
                }
                continue;
            }
            Some(Output::Exited(exit)) => Ok(exit),
            Some(Output::Lost(why)) => Err(why),
            None => Err("the container's output ended before its process did".to_owned()),
        };
        pump.push(first, &held).await?;
        return Ok(end);
    }
}

/// What the start event shows.
fn shown(config: &TaskConfig, scope: &Scope) -> TaskShown {
    let hide = |text: &String| scope.redactor.redact(text);
    let inputs: Vec<InputShown> =
        config.inputs.iter().map(|i| InputShown { name: i.name.clone(), path: i.path.clone() }).collect();
    TaskShown {
        platform: config.platform.clone(),
        image: String::new(),
        run: RunShown {
            path: hide(&config.run.path),
            args: (!config.run.args.is_empty()).then(|| config.run.args.iter().map(hide).collect()),
            dir: config.run.dir.clone(),
        },
        inputs: (!inputs.is_empty()).then_some(inputs),
    }
}

/// One directory of the task with the volume behind it.
struct Place {
    path: String,
    note: VolumeNote,
    /// Artifact that the volume becomes.
    output: Option<String>,
    /// Cache that it is, as written in the configuration.
    cache: Option<TaskCache>,
}

/// All directories of the task.
struct Places {
    directory: String,
    places: Vec<Place>,
}

impl Places {
    /// Inputs, outputs and caches of a task; inputs that are missing are an error that names all of them.
    fn of(plan: &Plan, task: &TaskPlan, config: &TaskConfig, scope: &Scope) -> Result<Places, Stop> {
        let directory = format!("/tmp/build/{}", &digest(task.name.as_bytes())[..8]);
        let container = Some(scope.container(&plan.id));
        let mut places: Vec<Place> = Vec::new();
        let note = |kind, parent, path: &str| VolumeNote {
            handle: VolumeHandle(String::new()),
            kind,
            parent,
            container: container.clone(),
            path: path.to_owned(),
        };
        let mut missing = Vec::new();
        for input in &config.inputs {
            let name = task.input_mapping.get(&input.name).unwrap_or(&input.name);
            match scope.artifacts.get(name) {
                Some(artifact) => {
                    let path = below(&directory, or(&input.path, &input.name));
                    let note = note("input", Some(artifact.volume), &path);
                    places.push(Place { path, note, output: None, cache: None });
                }
                None if input.optional => {}
                None => missing.push(name.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(Stop::Error(format!("missing inputs: {}", missing.join(", "))));
        }
        for output in &config.outputs {
            let name = task.output_mapping.get(&output.name).unwrap_or(&output.name).clone();
            let path = below(&directory, or(&output.path, &output.name));
            // An output at an input's place is that input's copy, with what the task has changed.
            match places.iter_mut().find(|p| p.path == path && p.output.is_none()) {
                Some(input) => {
                    input.output = Some(name);
                    input.note.kind = "artifact";
                }
                None => {
                    let note = note("artifact", None, &name);
                    places.push(Place { path, note, output: Some(name), cache: None });
                }
            }
        }
        for cache in &config.caches {
            let path = below(&directory, &cache.path);
            let note = note("cache", None, &path);
            places.push(Place { path, note, output: None, cache: Some(cache.clone()) });
        }
        for (n, place) in places.iter_mut().enumerate() {
            place.note.handle = scope.volume(&plan.id, n + 1);
        }
        Ok(Places { directory, places })
    }

    /// Makes the volumes, all at once.
    async fn mounts(&self, task: &TaskPlan, scope: &Scope) -> Result<Vec<Mount>, Stop> {
        let runtime = scope.world.runtime();
        let volumes = self.places.iter().map(async |place| {
            let mut note = place.note.clone();
            if let Some(cache) = &place.cache {
                // One that others have removed is empty again.
                if let Some(kept) = scope.world.task_cache(&task.name, &cache.path).await?
                    && runtime.holds(&kept).await?
                {
                    note.parent = Some(kept);
                }
            }
            let volume = make_volume(scope, &*runtime, note).await?;
            Ok::<_, Stop>(Mount { volume, path: place.path.clone(), read_only: false })
        });
        futures_util::future::try_join_all(volumes).await
    }

    /// Puts the container together.
    fn spec(
        &self,
        task: &TaskPlan,
        config: &TaskConfig,
        (image, mut mounts): (Rootfs, Vec<Mount>),
        scope: &Scope,
    ) -> Result<ContainerSpec, Stop> {
        mounts = one_for_each_path(mounts);
        let mut env = image.env.clone();
        env.extend(scope.world.build().for_task());
        env.extend(config.params.iter().map(|(k, v)| format!("{k}={v}")));
        let (path, args) = command(config, &image)?;
        let directory =
            if config.run.dir.is_empty() { self.directory.clone() } else { below(&self.directory, &config.run.dir) };
        let owns = self.owned(&image.image);
        let limits = config.container_limits.unwrap_or_default();
        let build = scope.world.build();
        Ok(ContainerSpec {
            team: build.team.clone(),
            labels: BTreeMap::from([
                ("type".to_owned(), "task".to_owned()),
                ("step".to_owned(), task.name.clone()),
                ("build".to_owned(), build.build_id.to_string()),
            ]),
            image: image.image,
            privileged: task.privileged,
            hermetic: task.hermetic,
            mounts,
            limits: Limits { cpu: limits.cpu, memory: limits.memory },
            process: Process {
                path,
                args,
                env,
                dir: directory,
                user: Some(config.run.user.clone()).filter(|u| !u.is_empty()).or(image.user),
                tty: Some(TERMINAL),
                stdin: Vec::new(),
                owns,
            },
        })
    }

    /// What belongs to the user of the task, where it has one: all that it is given to work with. On the server's own
    /// files nobody says who that user is.
    fn owned(&self, image: &Image) -> Vec<String> {
        if matches!(image, Image::Host | Image::HostWithScripts(_)) {
            return Vec::new();
        }
        let own = ["/scratch".to_owned(), self.directory.clone()];
        own.into_iter().chain(self.places.iter().map(|place| place.path.clone())).collect()
    }

    /// The outputs, by the names other steps know them by.
    fn artifacts(&self) -> Vec<(String, Artifact)> {
        let named = |p: &Place| {
            let name = p.output.clone()?;
            Some((name, Artifact { volume: p.note.handle.clone(), image: None }))
        };
        self.places.iter().filter_map(named).collect()
    }

    /// Makes this build's copies the caches of the job.
    async fn keep_caches(&self, task: &TaskPlan, scope: &Scope) -> Result<(), Stop> {
        for place in &self.places {
            if let Some(cache) = &place.cache {
                let ttl = match cache.ttl.as_str() {
                    "" => Duration::ZERO,
                    text => {
                        duration::parse(text).map_err(|e| Stop::Error(format!("invalid cache ttl {text:?}: {e}")))?
                    }
                };
                let kept = KeptCache { path: &cache.path, volume: &place.note.handle, ttl };
                scope.world.keep_task_cache(&task.name, &kept).await?;
            }
        }
        Ok(())
    }
}

/// In order of path. What is named later hides what was at its path before: a mount over a mount, which engines refuse.
fn one_for_each_path(mounts: Vec<Mount>) -> Vec<Mount> {
    let place = |path: &str| path.split('/').filter(|p| !matches!(*p, "" | ".")).collect::<Vec<_>>().join("/");
    let by_path: BTreeMap<String, Mount> = mounts.into_iter().map(|mount| (place(&mount.path), mount)).collect();
    by_path.into_values().collect()
}

/// Program and arguments: the configuration's, or those of the image with the configuration's arguments after them.
fn command(config: &TaskConfig, image: &Rootfs) -> Result<(String, Vec<String>), Stop> {
    if !config.run.path.is_empty() {
        return Ok((config.run.path.clone(), config.run.args.clone()));
    }
    let mut words = image.command.clone().into_iter();
    let path = words
        .next()
        .ok_or_else(|| Stop::Error("the task has no run.path and its image has no entrypoint or cmd".to_owned()))?;
    Ok((path, words.chain(config.run.args.iter().cloned()).collect()))
}

/// An absolute path as it is; any other below `directory`, with every `..` taken out.
fn below(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let path = path.replace("..", "");
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    if parts.is_empty() { directory.to_owned() } else { format!("{directory}/{}", parts.join("/")) }
}

fn or<'a>(path: &'a str, name: &'a str) -> &'a str {
    if path.is_empty() { name } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_volumes_at_one_path_the_last_is_seen() {
        let mount = |volume: &str, path: &str| Mount {
            volume: VolumeHandle(volume.into()),
            path: path.into(),
            read_only: false,
        };
        let all =
            [mount("out", "/w/a"), mount("other", "/w"), mount("cache", "/w/a"), mount("x", "/c/"), mount("y", "/c")];
        let kept: Vec<_> = one_for_each_path(all.into()).into_iter().map(|m| m.volume.0).collect();
        assert_eq!(kept, ["y", "other", "cache"]);
    }

    #[test]
    fn paths_stay_below_the_working_directory() {
        for (path, expected) in [
            ("a", "/w/a"),
            ("./a//b/", "/w/a/b"),
            ("../../etc", "/w/etc"),
            (".", "/w"),
            ("/abs", "/abs"),
            ("a/../b", "/w/a/b"),
        ] {
            assert_eq!(below("/w", path), expected, "{path}");
        }
    }
}
