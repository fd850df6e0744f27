//! What a dead container still tells: the supervisor's spool and record lie in its layer and can be read without it.

use std::io::Read;
use std::sync::Arc;

use bollard::query_parameters::DownloadFromContainerOptions;
use futures_util::StreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::connection::Connection;
use crate::runtime::supervisor::frame::Frame;
use crate::runtime::supervisor::{link, pid1, serve, spool};
use crate::runtime::{Attached, Output, TarStream};

/// A record is smaller than this.
const MOST_RECORD: u64 = 8 * 1024;

/// Output from byte `from` on, then the exit if it was recorded, else `reason`.
pub async fn read(connection: &Arc<Connection>, name: &str, from: u64, reason: String) -> Attached {
    let record = open(connection, name, "exit").await;
    let written = open(connection, name, "spool").await;
    let handle = tokio::runtime::Handle::current();
    link::replay(
        move |each| {
            if let Some(tar) = written {
                let bridge = SyncIoBridge::new_with_handle(tar, handle.clone());
                // What cannot be read any more is told by the end that follows.
                let _ = with_entry(bridge, |file| spool::read_back(&mut { file }, from, &mut *each).ok());
            }
            let end = record.and_then(|tar| {
                let mut bytes = Vec::new();
                let bridge = SyncIoBridge::new_with_handle(tar, handle);
                with_entry(bridge, |file| file.take(MOST_RECORD).read_to_end(&mut bytes).ok())?;
                serve::read_record(&bytes)
            });
            match end {
                Some(Frame::Exited(exit)) => Output::Exited(exit),
                Some(Frame::Lost(text)) => Output::Lost(text),
                _ => Output::Lost(reason),
            }
        },
        from,
    )
}

async fn open(connection: &Arc<Connection>, name: &str, file: &str) -> Option<TarStream> {
    let client = connection.long_client().await.ok()?;
    let options = DownloadFromContainerOptions { path: format!("{}/{file}", pid1::RUN_DIR) };
    let mut body = Box::pin(client.download_from_container(name, Some(options)));
    let first = body.next().await?.ok()?;
    let rest =
        futures_util::stream::once(async { Ok(first) }).chain(body).map(|chunk| chunk.map_err(std::io::Error::other));
    Some(Box::pin(StreamReader::new(Box::pin(rest))))
}

fn with_entry<T>(tar: impl Read, work: impl FnOnce(&mut dyn Read) -> Option<T>) -> Option<T> {
    let mut archive = tar::Archive::new(tar);
    let mut entry = archive.entries().ok()?.next()?.ok()?;
    work(&mut entry)
}
