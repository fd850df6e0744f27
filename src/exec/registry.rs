//! `registry-image` and `docker-image` in the server: checks, and gets of root file systems.
//!
//! Layers are unpacked once for all images and teams that have them, by the runtime or by that of the native types. An
//! engine with an image store of its own pulls the image itself where it can; its files are made from there when a step
//! wants them as files. A get is safe to repeat, and goes on with the layers that are there, so it needs no supervisor.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::artifact::Artifact;
use super::outcome::Stop;
use super::scope::Scope;
use super::script::{LogPump, make_volume};
use super::world::CachedFetch;
use crate::base::stream::Stream;
use crate::base::version::Version;
use crate::pipeline::Object;
use crate::plan::{Plan, TypeImage};
use crate::resource::native::registry_image::image::{Description, basics, names};
use crate::resource::native::registry_image::source::Place;
use crate::resource::native::registry_image::{GetParams, Kind, PATIENCE, RegistryImage, Source, check, ecr, saved};
use crate::resource::registry::client::Notice;
use crate::resource::registry::{Descriptor, Error, Registry, Repository};
use crate::resource::{Native, Request, Response};
use crate::runtime::{
    self, EngineImage, EngineImages, ImageLayers, Intake, KnownLayer, RegistryAuth, Runtime, VolumeHandle,
};

/// Layers fetched at once.
const AT_ONCE: usize = 4;
/// How often bars are drawn anew.
const REDRAW: Duration = Duration::from_millis(500);
/// So long a registry is asked for newer tags than those that are saved: without a network nobody should wait.
const BESIDE_SAVED: Duration = Duration::from_secs(5);
/// Any team may have it.
const EVERYBODY: &str = "*";

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error.to_string())
    }
}

/// The type, if the server itself serves it.
pub async fn kind(name: &str, image: &TypeImage, scope: &Scope) -> Result<Option<Kind>, Stop> {
    let Some(kind) = Kind::find(name).filter(|_| image.get.is_none()) else { return Ok(None) };
    Ok(if scope.world.bundle(name).await?.is_some() { None } else { Some(kind) })
}

/// Whether the server itself does a get with these params.
pub fn serves(kind: Kind, params: Option<&Object>) -> bool {
    match GetParams::read(params) {
        Ok(params) => params.is_rootfs() || (params.skip_download && !params.save && !params.rootfs),
        // Told by whoever does it.
        Err(_) => kind == Kind::Registry,
    }
}

/// What a child is asked: with what only the server knows of registries.
pub async fn lent(native: &dyn Native, request: &Request, scope: &Scope) -> Result<Request, Stop> {
    let mut request = request.clone();
    if native.name() == RegistryImage.name() {
        request.source = ecr::lent(&request.source, scope.world.registries()).await?;
    }
    Ok(request)
}

/// Lines for the log from wherever they come.
fn lines() -> (Notice, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Nobody listens any more when the step is over.
    (Arc::new(move |text: &str| drop(sender.send(format!("{text}\n")))), receiver)
}

/// The versions there are.
pub async fn check(
    kind: Kind,
    request: &Request,
    plan: &Plan,
    left: Duration,
    scope: &Scope,
) -> Result<Result<Vec<Version>, String>, Stop> {
    let source = Source::read(kind, &request.source)?;
    let saved = match scope.world.natives().images().image_layers() {
        Some(layers) => saved::versions(kind, &source, &layers.all_saved().await?)?,
        None => Vec::new(),
    };
    if !saved.is_empty() && !source.tag.0.is_empty() {
        return Ok(Ok(saved));
    }
    let wait = if saved.is_empty() { left } else { left.min(BESIDE_SAVED) };
    let (notice, mut told) = lines();
    let registries = scope.world.registries().clone();
    let answer = {
        let asked = check::check(kind, &source, request.version.as_ref(), &registries, &notice);
        tokio::select! {
            answer = asked => answer,
            why = scope.stop.asked() => return Err(why),
            () = tokio::time::sleep(wait) => match saved.is_empty() {
                true => return Err(Stop::TimedOut),
                false => Err(Error::Unusable(format!("there is no answer within {} s", wait.as_secs()))),
            },
        }
    };
    drop(notice);
    let mut log = Log::new(plan, scope);
    while let Ok(line) = told.try_recv() {
        log.say(&line).await?;
    }
    let answer = match answer {
        Ok(versions) if versions.is_empty() && !source.tag.0.is_empty() => {
            log.say(&format!("{}\n", no_such(kind, request)?)).await?;
            // As with Concourse: nothing new, which is no failure of the check.
            Ok(versions)
        }
        Ok(versions) if saved.is_empty() => Ok(versions),
        Ok(versions) => Ok(saved::merged(&source, request.version.as_ref(), &saved, versions)?),
        Err(error) if !saved.is_empty() => {
            let text = format!("checking origin {} failed: {error}", source.repository);
            log.say(&format!("{text}; this server's saved images answer\n")).await?;
            Ok(saved)
        }
        Err(error) => {
            let text = format!("checking origin {} failed: {error}", source.repository);
            log.say(&format!("{text}\n")).await?;
            Err(scope.redactor.redact(&text))
        }
    };
    log.end().await?;
    Ok(answer)
}

/// What a check that finds nothing has looked for.
pub fn no_such(kind: Kind, request: &Request) -> Result<String, Stop> {
    let source = Source::read(kind, &request.source)?;
    let repository = &source.repository;
    Ok(match (source.tag.0.as_str(), source.tag_regex.as_str()) {
        ("", "") => format!("{repository}: no tag in the registry is a version that the source wants"),
        ("", regex) => format!("{repository}: no tag in the registry matches tag_regex {regex}"),
        (tag, _) => format!("{repository}:{tag}: there is no such tag in the registry"),
    })
}

/// A step's own words in its log.
struct Log<'a> {
    pump: LogPump<'a>,
    offset: u64,
}

impl<'a> Log<'a> {
    fn new(plan: &Plan, scope: &'a Scope) -> Log<'a> {
        Log { pump: LogPump::new(&plan.id, Some(Stream::Stderr), scope), offset: 0 }
    }

    async fn say(&mut self, text: &str) -> Result<(), Stop> {
        self.pump.push(self.offset, text.as_bytes()).await?;
        self.offset += text.len() as u64;
        Ok(())
    }

    async fn end(mut self) -> Result<(), Stop> {
        self.pump.finish().await
    }
}

/// One get.
struct Get<'a> {
    plan: &'a Plan,
    name: &'a str,
    kind: Kind,
    source: Source,
    params: GetParams,
    version: Version,
    scope: &'a Scope,
}

/// Fetches a version: its files as a volume, or as an image of the engine's own.
pub async fn get(
    kind: Kind,
    plan: &Plan,
    name: &str,
    request: &Request,
    left: Option<Duration>,
    scope: &Scope,
) -> Result<CachedFetch, Stop> {
    let get = Get {
        plan,
        name,
        kind,
        source: Source::read(kind, &request.source)?,
        params: GetParams::read(request.params.as_ref())?,
        version: request.version.clone().unwrap_or_default(),
        scope,
    };
    let (notice, mut told) = lines();
    let bars = Arc::new(Bars::default());
    let mut log = Log::new(plan, scope);
    let mut redraw = tokio::time::interval(REDRAW);
    let timeout = tokio::time::sleep(left.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    let fetched = {
        let fetching = get.run(&notice, &bars);
        tokio::pin!(fetching, timeout);
        loop {
            tokio::select! {
                biased;
                Some(line) = told.recv() => log.say(&line).await?,
                fetched = &mut fetching => break fetched,
                _ = redraw.tick() => if let Some(text) = bars.draw(false) { log.say(&text).await? },
                why = scope.stop.asked() => break Err(why),
                () = &mut timeout => break Err(Stop::TimedOut),
            }
        }
    };
    while let Ok(line) = told.try_recv() {
        log.say(&line).await?;
    }
    if let Some(text) = bars.draw(true) {
        log.say(&text).await?;
    }
    log.end().await?;
    fetched
}

impl Get<'_> {
    fn digest(&self) -> Result<&str, Stop> {
        let told = || Stop::Error("the version has no digest: it must name one, as checks give it".to_owned());
        self.version.0.get("digest").map(String::as_str).filter(|d| !d.is_empty()).ok_or_else(told)
    }

    async fn run(&self, notice: &Notice, bars: &Arc<Bars>) -> Result<CachedFetch, Stop> {
        let (scope, digest) = (self.scope, self.digest()?);
        if self.params.skip_download {
            return self.without_files().await;
        }
        let natives = scope.world.natives().images();
        if let Some(layers) = natives.image_layers()
            && let Some(found) = saved::find(&self.source.repository, digest, &layers.all_saved().await?)
        {
            notice(&format!("using {} from this server's saved images", found.name));
            return self.compose(layers, &saved::description(&found)?, &*natives).await;
        }
        notice(&format!("fetching \u{1b}[32m{}\u{1b}[0m@\u{1b}[33m{digest}\u{1b}[0m", self.source.repository));
        let registries = scope.world.registries();
        let source = self.source.resolved(registries, notice).await?;
        let mut failed = None;
        for place in source.places(registries)? {
            match self.from(&place, notice, bars).await {
                Err(Stop::Error(text)) if place.is_mirror => {
                    notice(&format!("download from mirror {} failed: {text}", place.repository));
                    failed = Some(Stop::Error(text));
                }
                other => return other,
            }
        }
        Err(failed.unwrap_or_else(|| Stop::Error("no registry to ask".to_owned())))
    }

    async fn from(&self, place: &Place, notice: &Notice, bars: &Arc<Bars>) -> Result<CachedFetch, Stop> {
        let registries = self.scope.world.registries();
        let registry = Arc::new(place.open(registries, "pull", PATIENCE, notice).await?);
        let platform = self.source.platform(self.params.platform.as_ref());
        // Also for an engine that pulls itself: who may have the description may have the image.
        let description = Description::fetch(&registry, self.digest()?, &platform).await?;
        let runtime = self.scope.world.runtime();
        if let Some(engine) = runtime.engine_images()
            && let Some(image) = self.in_engine(engine, place, &description, notice).await?
        {
            return self.engine_image(image, &description, &*runtime).await;
        }
        let natives = self.scope.world.natives().images();
        let layers = natives.image_layers().ok_or_else(|| {
            Stop::Error(format!("images cannot be unpacked by the runtime {} on this worker", natives.name()))
        })?;
        let wanted = description.layers()?;
        let image = format!("{}@{}", place.repository, self.digest()?);
        let intake = layers.intake(&image, &wanted.iter().map(|(_, unpacked)| unpacked.clone()).collect::<Vec<_>>());
        bars.begin(&wanted);
        let mut fetches = Vec::with_capacity(wanted.len());
        for (n, layer) in wanted.iter().enumerate() {
            fetches.push(self.layer((layers, &intake), &registry, layer, bars.done(n)));
        }
        futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.compose(layers, &description, &*natives).await
    }

    /// Makes sure that a layer is there, and that this team may have it.
    async fn layer(
        &self,
        (layers, intake): (&dyn ImageLayers, &Intake),
        registry: &Arc<Registry>,
        (packed, unpacked): &(Descriptor, String),
        done: Arc<AtomicU64>,
    ) -> Result<(), Stop> {
        let team = self.scope.world.build().team_id.to_string();
        let origin = format!("{}@{}", registry.repository(), packed.digest);
        let known =
            KnownLayer { bytes: 0, teams: BTreeSet::from([team.clone()]), origins: BTreeSet::from([origin.clone()]) };
        if let Some(found) = layers.find(unpacked).await? {
            let ours = found.teams.contains(&team) || found.teams.contains(EVERYBODY);
            // Another team's layer is ours if the same registry lets us have it.
            if ours || found.origins.contains(&origin) && registry.has_blob(&packed.digest).await? {
                done.store(packed.size, Ordering::Relaxed);
                intake.found(found.bytes)?;
                return if ours { Ok(()) } else { Ok(layers.admit(unpacked, known).await?) };
            }
        }
        let content = registry.blob(packed, done);
        Ok(layers.add(unpacked, content, known, intake).await?)
    }

    /// The volume, where containers run.
    async fn compose(
        &self,
        layers: &dyn ImageLayers,
        description: &Description,
        natives: &dyn Runtime,
    ) -> Result<CachedFetch, Stop> {
        let (scope, team) = (self.scope, &self.scope.world.build().team);
        let note = super::get::resource_volume(&self.plan.id, self.name, scope);
        let volume = note.handle.clone();
        let files = description.files(self.kind, &self.source, &self.version);
        let runtime = scope.world.runtime();
        let here = runtime.image_layers().is_some();
        if here {
            scope.world.note_volume(note).await?;
        } else {
            make_volume(scope, &*runtime, note).await?;
        }
        layers.compose(&volume, team, &description.config.rootfs.diff_ids, &files).await?;
        if !here {
            let content = natives.stream_out(&volume, "").await?;
            runtime.stream_in(&volume, "", content).await?;
            natives.remove_volume(&volume).await?;
        }
        let metadata = description.metadata(self.kind, &self.source, &self.version)?;
        Ok(CachedFetch { volume, response: Response { version: self.version.clone(), metadata }, image: None })
    }

    /// Only the files that say which version it is.
    async fn without_files(&self) -> Result<CachedFetch, Stop> {
        let runtime = self.scope.world.runtime();
        let note = super::get::resource_volume(&self.plan.id, self.name, self.scope);
        let volume = make_volume(self.scope, &*runtime, note).await?;
        let files = names(self.kind, &self.source, &self.version);
        runtime.stream_in(&volume, "", packed(files.iter().map(|(n, b)| (n.as_str(), b.as_slice())))?).await?;
        let metadata = basics(self.kind, &self.source, &self.version);
        Ok(CachedFetch { volume, response: Response { version: self.version.clone(), metadata }, image: None })
    }

    /// The image in the engine's own store. `None` where the engine cannot get at it as this source says, or at all.
    async fn in_engine(
        &self,
        engine: &dyn EngineImages,
        place: &Place,
        description: &Description,
        notice: &Notice,
    ) -> Result<Option<EngineImage>, Stop> {
        let reference = format!("{}@{}", engine_name(&place.repository), self.digest()?);
        let its_own = description.manifest.config.digest.as_str();
        if let Some(found) = engine.find(&reference).await?.filter(|found| found.id == its_own) {
            return Ok(Some(found));
        }
        let source = &self.source;
        let loopback = place.repository.host.starts_with("127.") || place.repository.host.starts_with("localhost");
        let plain = place.access.ca_certs.is_empty()
            && (loopback || !place.access.insecure)
            && place.scheme.as_deref().is_none_or(|scheme| scheme == "https" || loopback)
            && (place.repository.is_default() || place.repository.host.contains(['.', ':']) || loopback)
            && source.platform.is_none()
            && self.params.platform.is_none();
        if !plain {
            return Ok(None);
        }
        let auth = place.access.credentials.as_ref();
        let auth =
            auth.map(|(name, password)| RegistryAuth { username: name.clone(), password: password.expose().clone() });
        let (sender, mut lines) = mpsc::channel(64);
        let pulling = engine.pull(&reference, auth.as_ref(), sender);
        tokio::pin!(pulling);
        loop {
            tokio::select! {
                Some(line) = lines.recv() => notice(&line),
                image = &mut pulling => return match image {
                    // What the engine cannot do (zstd in old ones, authorities and proxies that it does not know) may go
                    // here. A refusal and a full disk are the same for both.
                    Err(runtime::Error::Failed(text)) if self.scope.world.natives().images().image_layers().is_some() => {
                        notice(&format!("{text}: the image is fetched and unpacked by this server instead"));
                        Ok(None)
                    }
                    image => Ok(Some(image?)),
                },
            }
        }
    }

    /// The volume stays empty until somebody wants the files.
    async fn engine_image(
        &self,
        mut image: EngineImage,
        description: &Description,
        runtime: &dyn Runtime,
    ) -> Result<CachedFetch, Stop> {
        let note = super::get::resource_volume(&self.plan.id, self.name, self.scope);
        let volume = make_volume(self.scope, runtime, note).await?;
        let files = description.files(self.kind, &self.source, &self.version).into_iter();
        image.files = files.filter_map(|(name, bytes)| Some((name, String::from_utf8(bytes).ok()?))).collect();
        let metadata = description.metadata(self.kind, &self.source, &self.version)?;
        Ok(CachedFetch { volume, response: Response { version: self.version.clone(), metadata }, image: Some(image) })
    }
}

/// How an engine names the repository.
fn engine_name(repository: &Repository) -> String {
    if repository.is_default() { format!("docker.io/{}", repository.name) } else { repository.to_string() }
}

/// The volume with an artifact's files: those of an engine's image are made the first time they are wanted.
pub async fn volume(artifact: &Artifact, scope: &Scope) -> Result<VolumeHandle, Stop> {
    let volume = artifact.volume.clone();
    let Some(image) = artifact.image.as_ref().filter(|image| !image.files.is_empty()) else { return Ok(volume) };
    let runtime = scope.world.runtime();
    let Some(engine) = runtime.engine_images() else { return Ok(volume) };
    let _one = scope.world.lock(&format!("files {volume}")).await;
    // Written last, so it says that all is there.
    match super::image::read_file(scope, &volume, "digest").await {
        Ok(_) => return Ok(volume),
        Err(runtime::Error::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    runtime.stream_in(&volume, "rootfs", engine.export(&image.id).await?).await?;
    let (last, others): (Vec<_>, Vec<_>) = image.files.iter().partition(|(name, _)| *name == "digest");
    let files = others.into_iter().chain(last).map(|(name, text)| (name.as_str(), text.as_bytes()));
    runtime.stream_in(&volume, "", packed(files)?).await?;
    Ok(volume)
}

/// A tar stream of small files.
fn packed<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<runtime::TarStream, Stop> {
    let failed = |e: std::io::Error| Stop::Error(format!("cannot write the image's description: {e}"));
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).map_err(failed)?;
    }
    Ok(Box::pin(std::io::Cursor::new(archive.into_inner().map_err(failed)?)))
}

/// A bar for each layer, as Concourse's type draws them.
#[derive(Default)]
struct Bars(Mutex<Drawn>);

#[derive(Default)]
struct Drawn {
    layers: Vec<(String, u64, Arc<AtomicU64>)>,
    /// What was drawn last, and whether anything was.
    shown: Option<Vec<u64>>,
}

impl Bars {
    fn begin(&self, layers: &[(Descriptor, String)]) {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |digest: &str| digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        drawn.layers = layers.iter().map(|(packed, _)| (short(&packed.digest), packed.size, Arc::default())).collect();
        drawn.shown = None;
    }

    fn done(&self, n: usize) -> Arc<AtomicU64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).layers[n].2.clone()
    }

    /// The bars over those drawn before, if they have changed.
    fn draw(&self, last: bool) -> Option<String> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<u64> = drawn.layers.iter().map(|(_, _, done)| done.load(Ordering::Relaxed)).collect();
        if now.is_empty() || drawn.shown.as_ref() == Some(&now) && !last {
            return None;
        }
        if drawn.shown.as_ref() == Some(&now) {
            return None;
        }
        let mut text = match &drawn.shown {
            Some(before) => format!("\u{1b}[{}A", before.len()),
            None => String::new(),
        };
        for ((name, size, _), done) in drawn.layers.iter().zip(&now) {
            text.push_str(&bar(name, *done, *size));
        }
        drawn.shown = Some(now);
        Some(text)
    }
}

fn bar(name: &str, done: u64, size: u64) -> String {
    const WIDTH: u64 = 40;
    let filled = (done.min(size) * WIDTH).checked_div(size).unwrap_or(WIDTH);
    let filled = usize::try_from(filled).unwrap_or_default();
    let empty = usize::try_from(WIDTH).unwrap_or_default() - filled;
    let head = if empty > 0 && filled > 0 { ">" } else { "" };
    let full = "=".repeat(filled - head.len());
    format!("\u{1b}[2K\u{1b}[90m{name}\u{1b}[0m [{full}{head}{}] {}/{}\n", "-".repeat(empty), bytes(done), bytes(size))
}

fn bytes(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "b");
    for next in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.1}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_over_one_another() {
        assert_eq!(
            bar("ab", 5 << 19, 5 << 20),
            format!("\u{1b}[2K\u{1b}[90mab\u{1b}[0m [{}>{}] 2.5MiB/5.0MiB\n", "=".repeat(19), "-".repeat(20))
        );
        assert!(bar("ab", 0, 0).contains(&"=".repeat(40)));
        let bars = Bars::default();
        assert_eq!(bars.draw(true), None);
        bars.begin(&[(
            Descriptor { digest: "sha256:0123456789abcdef".into(), size: 10, ..Descriptor::default() },
            String::new(),
        )]);
        assert!(bars.draw(false).unwrap().starts_with("\u{1b}[2K\u{1b}[90m0123456789ab\u{1b}"));
        assert_eq!(bars.draw(false), None);
        bars.done(0).store(10, Ordering::Relaxed);
        assert!(bars.draw(true).unwrap().starts_with("\u{1b}[1A"));
        assert_eq!(bars.draw(true), None);
    }
}
