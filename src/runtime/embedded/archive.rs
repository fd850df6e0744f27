//! `supervise --volume JOB`: packs or unpacks a volume in a process that is locked into it.
//!
//! The child has the volume, with its layers merged, as its root directory. So neither a name with `..` in an
//! archive nor a link in a volume can lead anywhere else, whatever the unpacking code does.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::blueprint::Layers;
use super::{init, layer, rootfs};
use crate::runtime::{Error, Result, TarStream};

/// What the child is to do.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// The volume.
    pub layers: Layers,
    /// An empty directory to mount it on.
    pub staging: PathBuf,
    /// The file or directory in it.
    pub path: String,
    /// Whether the archive is read from standard input, or else written to standard output.
    pub unpack: bool,
    /// The archive is a layer of an image. On standard output is told, a line each, how many bytes there are so far, and
    /// in the end what was unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<layer::Rules>,
}

const NOT_FOUND: u8 = 3;
const DISK_FULL: u8 = 4;
/// Memory of a child that unpacks. What comes before a file's bytes, such as its name, is read into it whole, however
/// long the archive says it is.
const MOST_MEMORY: u64 = 512 << 20;
/// Written before the archive, to tell an empty answer from none.
const READY: &[u8] = b"+";

/// The child's side.
pub fn run(job: &str) -> u8 {
    let Ok(job) = serde_json::from_str::<Job>(job) else { return 2 };
    match work(&job) {
        Ok(()) => 0,
        Err(e) => {
            eprint!("{e}");
            match e.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
                _ => 1,
            }
        }
    }
}

fn work(job: &Job) -> io::Result<()> {
    let rootless = !rootfs::is_root();
    if rootless {
        init::own_user_namespace()?;
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| init::explain(&e.into()))?;
    rootfs::enter_volume(&job.layers, &job.staging, rootless)?;
    if job.unpack {
        let memory = nix::sys::resource::Resource::RLIMIT_AS;
        nix::sys::resource::setrlimit(memory, MOST_MEMORY, MOST_MEMORY)?;
    }
    let path = Path::new("/").join(job.path.trim_start_matches('/'));
    if let Some(rules) = job.layer {
        let tell = |bytes| writeln!(io::stdout(), "{bytes}");
        let summary = layer::unpack(io::stdin().lock(), rules, rootless, tell).map_err(|e| cause(&e))?;
        return writeln!(io::stdout(), "{}", serde_json::to_string(&summary)?);
    }
    if job.unpack { unpack(&path, rootless) } else { pack(&path) }
}

fn unpack(path: &Path, rootless: bool) -> io::Result<()> {
    // For directories that the archive does not name; all others get the modes it says.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let mut stdin = io::BufReader::with_capacity(128 << 10, io::stdin().lock());
    let mut archive = tar::Archive::new(&mut stdin);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    // In a user namespace of one user there is nobody else to own a file.
    archive.set_preserve_ownerships(!rootless);
    unpack_entries(&mut archive, path).map_err(|e| cause(&e))?;
    // Padding after the end, so that the sender is not cut off.
    io::copy(&mut stdin, &mut io::sink())?;
    Ok(())
}

/// As the archive would unpack itself, but with the attributes that files may bring along.
fn unpack_entries(archive: &mut tar::Archive<impl Read>, path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let path = &path.canonicalize()?;
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_dir() {
            // Last, so that a directory without the right to write can be filled before.
            directories.push(entry);
            continue;
        }
        if entry.unpack_in(path)? && entry.header().entry_type().is_file() {
            let place = below(path, &entry.path()?);
            layer::set_attributes(&mut entry, &place)?;
        }
    }
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        directory.unpack_in(path)?;
    }
    Ok(())
}

/// Where an entry of that name was unpacked to.
fn below(path: &Path, name: &Path) -> PathBuf {
    path.iter()
        .chain(name.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part),
            _ => None,
        }))
        .collect()
}

/// The tar library wraps errors in texts of its own and loses their kind.
fn cause(error: &io::Error) -> io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = error.kind();
    let mut text = error.to_string();
    while let Some(at) = source {
        if let Some(io) = at.downcast_ref::<io::Error>() {
            kind = io.kind();
        }
        let said = at.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = at.source();
    }
    if kind == io::ErrorKind::OutOfMemory {
        text = format!("a name or an attribute in the archive is longer than {} MiB allow", MOST_MEMORY >> 20);
    }
    // A file missing inside the archive is not a missing volume.
    let kind = if kind == io::ErrorKind::NotFound { io::ErrorKind::InvalidData } else { kind };
    io::Error::new(kind, text)
}

fn pack(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    let mut stdout = io::BufWriter::with_capacity(128 << 10, io::stdout().lock());
    stdout.write_all(READY)?;
    stdout.flush()?;
    // A name that is gone by now is a failure of this archive, not a volume that is not there.
    super::pack::pack(path, stdout).map_err(|e| cause(&e))
}

fn spawn(exe: &Path, job: &Job) -> Result<Child> {
    let text = serde_json::to_string(job).map_err(|e| Error::Failed(e.to_string()))?;
    Command::new(exe)
        .args(["supervise", "--volume", &text])
        .stdin(if job.unpack { Stdio::piped() } else { Stdio::null() })
        .stdout(if job.unpack && job.layer.is_none() { Stdio::null() } else { Stdio::piped() })
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::Failed(format!("cannot run {}: {e}", exe.display())))
}

/// How the child ended, as an error if it did not succeed.
async fn ended(mut child: Child) -> Result<()> {
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut text).await.ok();
    }
    let status = child.wait().await.map_err(|e| Error::Failed(e.to_string()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(NOT_FOUND) => Err(Error::NotFound(text)),
        // What cannot get memory in the middle of other work is aborted.
        None if status.signal() == Some(nix::libc::SIGABRT) => {
            let most = MOST_MEMORY >> 20;
            Err(Error::Failed(format!(
                "the archive is refused: to unpack it takes more than {most} MiB of memory: {text}"
            )))
        }
        Some(code) if code == i32::from(DISK_FULL) => Err(Error::DiskFull(format!("the disk is full: {text}"))),
        _ => Err(Error::Failed(format!("the archive could not be handled ({status}): {text}"))),
    }
}

/// Unpacks `tar` as `job` says.
pub async fn unpack_with(exe: &Path, job: &Job, tar: TarStream) -> Result<()> {
    let mut child = spawn(exe, job)?;
    let Some(stdin) = child.stdin.take() else { return Err(Error::Failed("no pipe to the child".into())) };
    feed(stdin, tar).await?;
    ended(child).await
}

/// A child that writes into what goes with `keep`: that stays until the child is dead, also where nobody waits any more.
struct Writer<K: Send + 'static>(Option<(Child, K)>);

impl<K: Send + 'static> Drop for Writer<K> {
    fn drop(&mut self) {
        if let Some((mut child, keep)) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                child.kill().await.ok();
                drop(keep);
            });
        }
    }
}

/// Unpacks a layer as `job` says, and tells what was in it. `grew` is told of more bytes as they are written; its error
/// ends the child. `keep` outlives the child.
pub async fn unpack_layer(
    exe: &Path,
    job: &Job,
    tar: TarStream,
    keep: impl Send + 'static,
    grew: impl FnMut(u64) -> Result<()> + Send,
) -> Result<layer::Summary> {
    let mut child = spawn(exe, job)?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::Failed("no pipe to the child".into()));
    };
    let mut writer = Writer(Some((child, keep)));
    let told = tokio::try_join!(feed(stdin, tar), summary(stdout, grew));
    let Some((mut child, _keep)) = writer.0.take() else { return Err(Error::Failed("no child".into())) };
    match told {
        Ok(((), told)) => {
            ended(child).await?;
            told.ok_or_else(|| Error::Failed("unpacking a layer told nothing".into()))
        }
        Err(error) => {
            child.kill().await.ok();
            Err(error)
        }
    }
}

/// Listens to a child that unpacks a layer.
async fn summary(
    stdout: ChildStdout,
    mut grew: impl FnMut(u64) -> Result<()> + Send,
) -> Result<Option<layer::Summary>> {
    let mut lines = BufReader::new(stdout).lines();
    let mut sofar = 0;
    while let Some(line) = lines.next_line().await.map_err(|e| Error::Failed(e.to_string()))? {
        let told = line.parse::<u64>().map_err(|_| serde_json::from_str::<layer::Summary>(&line));
        let bytes = match &told {
            Ok(bytes) => *bytes,
            Err(Ok(summary)) => summary.bytes,
            Err(Err(e)) => return Err(Error::Failed(format!("unpacking a layer told {line:?}: {e}"))),
        };
        grew(bytes.saturating_sub(sofar))?;
        sofar = bytes;
        if let Err(Ok(summary)) = told {
            return Ok(Some(summary));
        }
    }
    Ok(None)
}

/// Passes the archive on to the child.
async fn feed(mut stdin: ChildStdin, mut tar: TarStream) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(128 << 10);
    loop {
        buffer.clear();
        match tar.read_buf(&mut buffer).await {
            Ok(0) => break,
            // The child has given up; its own words say why.
            Ok(_) => {
                if stdin.write_all(&buffer).await.is_err() {
                    break;
                }
            }
            Err(e) => return Err(Error::Failed(format!("the archive broke off: {e}"))),
        }
    }
    drop(stdin);
    Ok(())
}

/// Packs as `job` says. An error on the way ends the stream with an error, never as if it were whole.
pub async fn pack_with(exe: &Path, job: &Job) -> Result<TarStream> {
    let mut child = spawn(exe, job)?;
    let Some(mut stdout) = child.stdout.take() else { return Err(Error::Failed("no pipe to the child".into())) };
    if stdout.read_u8().await.is_err() {
        ended(child).await?;
        return Err(Error::Failed("the archive is empty".into()));
    }
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(8);
    tokio::spawn(async move {
        loop {
            let mut buffer = BytesMut::with_capacity(128 << 10);
            match stdout.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) if sender.send(Ok(buffer.freeze())).await.is_err() => return,
                Ok(_) => {}
                Err(e) => {
                    sender.send(Err(e)).await.ok();
                    return;
                }
            }
        }
        if let Err(e) = ended(child).await {
            sender.send(Err(io::Error::other(e))).await.ok();
        }
    });
    let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    Ok(Box::pin(StreamReader::new(Box::pin(chunks))))
}
