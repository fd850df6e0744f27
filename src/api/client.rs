//! The client for download: this very binary for the platform it runs on, and what the operator has for others.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::client_archive::{self, Found};
use crate::base::error::Error;
use crate::front::{Answer, Call, Failure, Permit};

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Go's name of a platform or architecture.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// `DownloadCLI`
pub async fn download(_: Permit, call: Call) -> Answer {
    let (platform, arch) = (call.query.get("platform").to_lowercase(), call.query.get("arch").to_owned());
    if !is_name(&platform) || !is_name(&arch) {
        return Err(Failure::bad_request("name the platform and arch, as in ?platform=linux&arch=amd64"));
    }
    if let Some(directory) = call.app.settings.cli_artifacts_dir.clone() {
        let archive = archive(&directory, &platform, &arch);
        if archive.exists() {
            return from_archive(archive).await;
        }
    }
    if platform == std::env::consts::OS && arch == architecture() {
        return own().await;
    }
    let why = format!(
        "this server has no client for {platform}/{arch}; its operator can bring fly-{platform}-{arch}.{} with \
         --cli-artifacts-dir\n",
        extension(&platform)
    );
    // Where there is a directory, Concourse fails to open the file in it.
    let missing = call.app.settings.cli_artifacts_dir.is_none();
    Err(Failure::text(if missing { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR }, why))
}

fn extension(platform: &str) -> &'static str {
    if platform == "windows" { "zip" } else { "tgz" }
}

fn archive(directory: &Path, platform: &str, arch: &str) -> PathBuf {
    directory.join(format!("fly-{platform}-{arch}.{}", extension(platform)))
}

/// This binary, which is the client when it is called `fly`.
async fn own() -> Answer {
    let file = tokio::fs::File::open("/proc/self/exe").await.map_err(Error::internal)?;
    let data = file.metadata().await.map_err(Error::internal)?;
    let modified = data.modified().ok().and_then(|t| Timestamp::try_from(t).ok());
    Ok(answer("fly", data.len(), modified, file))
}

async fn from_archive(path: PathBuf) -> Answer {
    let shown = path.display().to_string();
    let opened = tokio::task::spawn_blocking(move || client_archive::open(&path)).await.map_err(Error::internal)?;
    let Found { name, size, modified, content } = opened.map_err(|e| {
        let text = format!("the client cannot be read from {shown}: {e}\n");
        Failure::text(StatusCode::INTERNAL_SERVER_ERROR, text)
    })?;
    let (reader, writer) = tokio::io::duplex(64 * 1024);
    tokio::task::spawn_blocking(move || {
        let (mut content, mut to) = (content, tokio_util::io::SyncIoBridge::new(writer));
        if let Err(error) = std::io::copy(&mut content, &mut to).and_then(|_| to.shutdown()) {
            tracing::warn!(%error, "a download of the client ended early");
        }
    });
    Ok(answer(name, size, modified, reader))
}

fn answer(name: &str, size: u64, modified: Option<Timestamp>, content: impl AsyncRead + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(content, 64 * 1024)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    let time = modified.map(|t| t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    for (name, text) in
        [(header::CONTENT_DISPOSITION, Some(format!("attachment; filename={name}"))), (header::LAST_MODIFIED, time)]
    {
        if let Some(value) = text.and_then(|t| HeaderValue::from_str(&t).ok()) {
            headers.insert(name, value);
        }
    }
    response
}
