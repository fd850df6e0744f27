//! `execute`: runs a task of this directory on the server: inputs up, output down, ending with the task's exit code.

use std::collections::BTreeMap;
use std::io::{PipeReader, PipeWriter, pipe};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::io::ReaderStream;

use super::client::{Call, Found};
use super::failure::{Failure, Outcome};
use super::one_off::{Ids, NextInput, OneOff, get};
use super::progress::{Progress, Transfer};
use super::reference::JobRef;
use super::render::{Options, follow};
use super::shapes::Build;
use super::team::{Team, list};
use super::template::{Template, existing};
use super::trigger_job::interrupted;
use super::{Fly, Session};
use crate::pipeline::{TaskConfig, yaml::to_yaml};

/// Arguments of `execute`.
#[derive(Debug, Clone, clap::Args)]
pub struct Execute {
    #[command(flatten)]
    template: Template,
    /// Create the build and exit
    #[arg(short, long)]
    background: bool,
    /// Run the task with full privileges
    #[arg(short, long)]
    privileged: bool,
    /// Upload everything, also what .gitignore leaves out
    #[arg(long)]
    include_ignored: bool,
    /// An input to provide to the task
    #[arg(short, long, value_name = "NAME=PATH", value_parser = input_pair)]
    input: Vec<Pair>,
    /// Map a resource to a different name as task input
    #[arg(short = 'm', long, value_name = "NAME=STRING", value_parser = pair)]
    input_mapping: Vec<Pair>,
    /// A job to base the inputs on
    #[arg(short = 'j', long, value_name = "PIPELINE/JOB")]
    inputs_from: Option<JobRef>,
    /// An output to fetch from the task
    #[arg(short, long, value_name = "NAME=PATH", value_parser = output_pair)]
    output: Vec<Pair>,
    /// Name of an input from the job named in --inputs-from to use as the image for the one-off build
    #[arg(long)]
    image: Option<String>,
    /// A tag for a specific environment
    #[arg(long)]
    tag: Vec<String>,
    /// Name of the team to run the build in, if different from the target default
    #[arg(long)]
    team: Option<String>,
    /// Further arguments of the task's command
    #[arg(value_name = "ARGS")]
    args: Vec<String>,
}

/// A name and what it stands for.
type Pair = (String, String);

fn pair(text: &str) -> Result<Pair, String> {
    let split = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    split.ok_or_else(|| format!("invalid input mapping '{text}' (must be name=value)"))
}

fn input_pair(text: &str) -> Result<Pair, String> {
    let (name, path) = pair(text).map_err(|_| format!("invalid input pair '{text}' (must be name=path)"))?;
    existing(&path).map(|_| (name, path))
}

fn output_pair(text: &str) -> Result<Pair, String> {
    pair(text).map_err(|_| format!("invalid output pair '{text}' (must be name=path)"))
}

#[derive(Deserialize)]
struct Artifact {
    id: i64,
    name: String,
}

impl Execute {
    /// Runs it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        if let (Some(name), None) = (&self.image, &self.inputs_from) {
            let passed = format!("warning: --image {name} is passed over: name the job that has it with --inputs-from");
            fly.console.tell(passed)?;
        }
        let mut config = self.task()?;
        if let Some((name, _)) = self.output.iter().find(|(name, _)| !config.outputs.iter().any(|o| o.name == *name)) {
            return Err(Failure::said(format!("unknown output '{name}'")));
        }
        if self.background && !self.output.is_empty() {
            return Err(Failure::said("background execution cannot withstand outputs"));
        }
        let mut ids = Ids::new(fly.clock.now().unix());
        let (inputs, types) = self.inputs(fly, &team, &mut config, &mut ids).await?;
        let plan = OneOff {
            inputs,
            outputs: self.output.iter().map(|(name, _)| name.clone()).collect(),
            config: &config,
            privileged: self.privileged,
            mapping: self.input_mapping.iter().cloned().collect(),
            types,
            tags: self.tag.clone(),
        }
        .plan(&mut ids);
        let call = match &self.inputs_from {
            Some(job) => team.on_pipeline(Method::POST, &job.pipeline, &["builds"]),
            None => team.call(Method::POST, &["builds"]),
        };
        let build: Build = call.json(&plan).fetch().await?;
        fly.console.say(format!("executing build {} at {}/builds/{}", build.id, session.client.url(), build.id))?;
        if self.background {
            return Ok(0);
        }
        let code = watch(fly, &session, build.id).await?;
        self.fetch_outputs(fly, &session, &team, build.id).await?;
        Ok(code)
    }

    /// The task with variables, arguments and this environment's values of its params.
    fn task(&self) -> Result<TaskConfig, Failure> {
        let value = self.template.evaluate(None)?;
        let read = TaskConfig::load(to_yaml(&value).as_bytes());
        let mut config = read.map_err(|problem| Failure::said(problem.message))?;
        config.run.args.extend(self.args.iter().cloned());
        for (name, value) in &mut config.params {
            if let Ok(own) = std::env::var(name) {
                *value = own;
            }
        }
        Ok(config)
    }

    /// The plans of the inputs, and the types of the pipeline they come from.
    async fn inputs(
        &self,
        fly: &Fly,
        team: &Team<'_>,
        config: &mut TaskConfig,
        ids: &mut Ids,
    ) -> Result<(Vec<Value>, Vec<Value>), Failure> {
        let mut local = BTreeMap::new();
        for (name, artifact) in self.upload_all(fly, team, config).await? {
            local.insert(name.clone(), ids.node("artifact_input", json!({"artifact_id": artifact.id, "name": name})));
        }
        let (next, types) = match &self.inputs_from {
            Some(job) => next_inputs(team, job).await?,
            None => (Vec::new(), Vec::new()),
        };
        if let Some(name) = self.image.as_ref().filter(|name| !name.is_empty() && self.inputs_from.is_some()) {
            let input = next.iter().find(|i| i.name == *name);
            let input = input.ok_or_else(|| Failure::said(format!("image resource {name} not found")))?;
            let image =
                json!({"type": input.kind, "source": input.source, "version": input.version, "params": input.params});
            let image = serde_json::from_value(image).map_err(|e| Failure::said(e.to_string()))?;
            config.image_resource = Some(image);
        }
        let mapping: BTreeMap<_, _> = self.input_mapping.iter().cloned().collect();
        let mut inputs = Vec::new();
        for wanted in &config.inputs {
            let theirs = mapping.get(&wanted.name).unwrap_or(&wanted.name);
            match (local.remove(&wanted.name), next.iter().find(|i| i.name == *theirs)) {
                (Some(plan), _) => inputs.push(plan),
                (None, Some(input)) => inputs.push(get(ids, input, &types)),
                (None, None) if wanted.optional => {}
                (None, None) => return Err(Failure::said(format!("missing required input `{}`", wanted.name))),
            }
        }
        Ok((inputs, types))
    }

    /// Directories to upload: those given, and this one where the task wants an input of its name.
    fn local_inputs(&self, config: &TaskConfig) -> Result<Vec<(String, PathBuf)>, Failure> {
        let wanted = |name: &str| config.inputs.iter().any(|i| i.name == name);
        let mut local = Vec::new();
        for (name, path) in &self.input {
            if !wanted(name) {
                return Err(Failure::said(format!("unknown input `{name}`")));
            }
            let path = PathBuf::from(path);
            match path.metadata() {
                Err(_) => return Err(Failure::said(format!("path '{}' does not exist", path.display()))),
                Ok(found) if !found.is_dir() => return Err(Failure::said(format!("{} not a folder", path.display()))),
                Ok(_) => local.push((name.clone(), path)),
            }
        }
        let here = std::env::current_dir()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if self.inputs_from.is_none() && wanted(&here) && !local.iter().any(|(name, _)| *name == here) {
            local.push((here, PathBuf::from(".")));
        }
        Ok(local)
    }

    /// Uploads what is here, side by side.
    async fn upload_all(
        &self,
        fly: &Fly,
        team: &Team<'_>,
        config: &TaskConfig,
    ) -> Result<Vec<(String, Artifact)>, Failure> {
        let mut progress = Progress::new(fly.console);
        let local = self.local_inputs(config)?;
        let transfers: Vec<_> = local.iter().map(|(n, _)| progress.transfer(format!("uploading {n}"))).collect();
        let uploads = local.into_iter().zip(transfers).map(|((name, path), transfer)| async move {
            let artifact = self.upload(team, &path, &config.platform, &transfer).await;
            ended(&transfer, artifact).map(|artifact| (name, artifact))
        });
        progress.during(join_all(uploads)).await?.into_iter().collect()
    }

    async fn upload(
        &self,
        team: &Team<'_>,
        path: &Path,
        platform: &str,
        transfer: &Transfer,
    ) -> Result<Artifact, Failure> {
        let (reader, writer) = pipe()?;
        let packing = pack(path.to_owned(), self.include_ignored, writer);
        let mut call = team.call(Method::POST, &["artifacts"]).query("platform", platform);
        for tag in &self.tag {
            call = call.query("tags", tag);
        }
        let counted = transfer.clone();
        let packed = ReaderStream::new(async_file(reader)).inspect_ok(move |bytes| counted.add(bytes.len()));
        let sent = call.stream("application/octet-stream", reqwest::Body::wrap_stream(packed)).fetch().await;
        let packed = packing.await.map_err(|_| Failure::said("packing the input stopped"))?;
        // Where the server hung up, its answer says why and the broken pipe does not.
        let artifact = sent?;
        packed?;
        Ok(artifact)
    }

    /// Downloads what is kept of the outputs asked for, side by side.
    async fn fetch_outputs(&self, fly: &Fly, session: &Session, team: &Team<'_>, build: i64) -> Result<(), Failure> {
        let kept: Vec<Artifact> = list(session.client.get(&["builds", &build.to_string(), "artifacts"])).await?;
        let mut progress = Progress::new(fly.console);
        let mut downloads = Vec::new();
        for (name, path) in &self.output {
            let Some(artifact) = kept.iter().find(|a| a.name == *name) else { continue };
            let transfer = progress.transfer(format!("downloading {name}"));
            downloads.push(async move {
                let call = team.call(Method::GET, &["artifacts", &artifact.id.to_string()]);
                ended(&transfer, download(call, PathBuf::from(path), &transfer).await)
            });
        }
        let fetched: Result<Vec<()>, _> = progress.during(join_all(downloads)).await?.into_iter().collect();
        fetched.map(drop).map_err(|e| Failure::bare(format!("downloading failed: {e}")))
    }
}

/// Notes how a transfer ended; one that failed names itself.
fn ended<T>(transfer: &Transfer, outcome: Result<T, Failure>) -> Result<T, Failure> {
    match outcome {
        Ok(moved) => {
            transfer.done();
            Ok(moved)
        }
        Err(e) => Err(Failure::said(format!("'{}' failed: {e}", transfer.name()))),
    }
}

async fn next_inputs(team: &Team<'_>, job: &JobRef) -> Result<(Vec<NextInput>, Vec<Value>), Failure> {
    let inputs = list(team.on_job(Method::GET, job, &["inputs"])).await.found()?;
    let inputs = inputs.ok_or_else(|| Failure::said(format!("build inputs for {job} not found")).see("pipelines"))?;
    let types = list(team.on_pipeline(Method::GET, &job.pipeline, &["resource-types"])).await.found()?;
    let types = types.ok_or_else(|| Failure::said(format!("resource types of {} not found", job.pipeline)))?;
    Ok((inputs, types))
}

/// Follows the build; the interrupt key aborts it, and pressed again leaves it.
async fn watch(fly: &Fly, session: &Session, id: i64) -> Outcome {
    let followed = follow(&session.client, fly.console, id, Options::default());
    tokio::pin!(followed);
    tokio::select! {
        outcome = &mut followed => return outcome,
        pressed = interrupted() => pressed?,
    }
    fly.console.tell("\naborting...")?;
    if let Err(e) = session.client.put(&["builds", &id.to_string(), "abort"]).done().await {
        fly.console.tell(format!("failed to abort: {e}"))?;
        return Ok(2);
    }
    tokio::select! {
        outcome = &mut followed => outcome,
        pressed = interrupted() => {
            pressed?;
            fly.console.tell("exiting immediately")?;
            Ok(2)
        }
    }
}

fn async_file(end: impl Into<OwnedFd>) -> tokio::fs::File {
    tokio::fs::File::from_std(std::fs::File::from(end.into()))
}

/// Packs a directory into the pipe, on a thread of its own.
fn pack(dir: PathBuf, include_ignored: bool, to: PipeWriter) -> JoinHandle<std::io::Result<()>> {
    spawn_blocking(move || {
        let mut archive = tar::Builder::new(GzEncoder::new(to, Compression::fast()));
        archive.follow_symlinks(false);
        match git_files(&dir).filter(|_| !include_ignored) {
            None => archive.append_dir_all(".", &dir)?,
            Some(files) => files.iter().try_for_each(|file| archive.append_path_with_name(dir.join(file), file))?,
        }
        archive.into_inner()?.finish()?;
        Ok(())
    })
}

/// What git knows of a directory or would add to it; `None` outside of a repository.
fn git_files(dir: &Path) -> Option<Vec<String>> {
    let list = |flags: &[&str]| {
        let output =
            std::process::Command::new("git").args(["ls-files", "-z"]).args(flags).current_dir(dir).output().ok()?;
        let names = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(names.split('\0').filter(|n| !n.is_empty()).map(str::to_owned).collect::<Vec<_>>())
    };
    let deleted = list(&["--deleted"])?;
    let mut files: Vec<String> = list(&[])?.into_iter().filter(|f| !deleted.contains(f)).collect();
    files.extend(list(&["--others", "--exclude-standard"])?);
    Some(files)
}

/// Unpacks an answer into a directory while it arrives.
async fn download(call: Call<'_>, into: PathBuf, transfer: &Transfer) -> Result<(), Failure> {
    let mut response = call.open_success().await?;
    let (reader, writer) = pipe()?;
    let unpacking = spawn_blocking(move || unpack(reader, &into));
    let mut writer = async_file(writer);
    let fed = loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                transfer.add(bytes.len());
                if let Err(e) = writer.write_all(&bytes).await {
                    break Err(e);
                }
            }
            Ok(None) => break writer.flush().await,
            Err(e) => break Err(std::io::Error::other(e)),
        }
    };
    drop(writer);
    unpacking.await.map_err(|_| Failure::said("unpacking stopped"))??;
    Ok(fed?)
}

fn unpack(from: PipeReader, into: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(into)?;
    tar::Archive::new(GzDecoder::new(from)).unpack(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_packed_unpacks_the_same() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("d")).unwrap();
        std::fs::write(from.path().join("d/x"), "hello").unwrap();
        std::os::unix::fs::symlink("d/x", from.path().join("link")).unwrap();
        let (reader, writer) = pipe().unwrap();
        let packing = pack(from.path().to_owned(), true, writer);
        unpack(reader, to.path()).unwrap();
        packing.await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("link")).unwrap(), "hello");
        assert!(to.path().join("link").is_symlink());
    }
}
