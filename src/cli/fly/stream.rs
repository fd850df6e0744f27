//! A build's events as they arrive: server-sent events, decoded whatever way the bytes are split, and resumed where
//! a connection broke.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::StatusCode;

use super::client::{ApiError, Client, Status, Unpacker};

/// How long to wait before connecting again.
const RETRY: Duration = Duration::from_secs(1);

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its name.
    pub name: String,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Its data lines, joined.
    pub data: String,
}

/// Turns bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    after_return: bool,
    frame: Frame,
    has_data: bool,
}

impl Decoder {
    /// Takes the next bytes and hands out the frames they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut out = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    out.extend(self.take_line(&String::from_utf8_lossy(&line)));
                }
                byte => self.line.push(byte),
            }
        }
        out
    }

    fn take_line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let complete = self.has_data || !self.frame.name.is_empty();
            self.has_data = false;
            let frame = std::mem::take(&mut self.frame);
            return complete.then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.frame.name),
            "id" => self.frame.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

/// Why a stream cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The server does not serve it.
    #[error("bad response from event source: {0}")]
    Refused(Status),
    /// The server could not be asked.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<StreamError> for super::failure::Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Api(e) => e.into(),
            other => Self::said(other.to_string()),
        }
    }
}

/// The events of one build.
pub struct Events<'a> {
    client: &'a Client,
    build: String,
    response: Option<(reqwest::Response, Unpacker)>,
    decoder: Decoder,
    ready: VecDeque<Frame>,
    last_id: Option<String>,
}

impl<'a> Events<'a> {
    /// Connects to the events of build `id`.
    pub async fn open(client: &'a Client, id: i64) -> Result<Self, StreamError> {
        let mut events = Events {
            client,
            build: id.to_string(),
            response: None,
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            last_id: None,
        };
        events.response = Some(events.connect().await?);
        Ok(events)
    }

    /// The next event, waiting for it, and connecting again after the last one seen where the connection breaks.
    pub async fn next(&mut self) -> Result<Frame, StreamError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                if frame.id.is_some() {
                    self.last_id.clone_from(&frame.id);
                }
                return Ok(frame);
            }
            let Some((response, unpacker)) = &mut self.response else {
                tokio::time::sleep(RETRY).await;
                match self.connect().await {
                    Ok(response) => self.response = Some(response),
                    Err(StreamError::Api(ApiError::Network { .. })) => {}
                    Err(e) => return Err(e),
                }
                continue;
            };
            let arrived = response.chunk().await.ok().flatten();
            match arrived.and_then(|bytes| unpacker.push(&bytes).ok()) {
                Some(bytes) => self.ready.extend(self.decoder.push(&bytes)),
                None => {
                    self.response = None;
                    self.decoder = Decoder::default();
                }
            }
        }
    }

    /// Asks until the server is up: it may be restarting.
    async fn connect(&self) -> Result<(reqwest::Response, Unpacker), StreamError> {
        loop {
            let mut call = self.client.get(&["builds", &self.build, "events"]).packed();
            call = call.header("accept", "text/event-stream");
            if let Some(id) = &self.last_id {
                call = call.header("last-event-id", id);
            }
            let response = call.open().await?;
            match response.status() {
                StatusCode::OK => {
                    let unpacker = Unpacker::of(response.headers());
                    return Ok((response, unpacker));
                }
                StatusCode::UNAUTHORIZED => return Err(ApiError::Unauthorized.into()),
                StatusCode::FORBIDDEN => return Err(ApiError::Forbidden("forbidden".to_owned()).into()),
                s if s.is_server_error() && s != StatusCode::NOT_IMPLEMENTED => tokio::time::sleep(RETRY).await,
                s => return Err(StreamError::Refused(Status(s))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = ": hello\n\nid: 0\nevent: event\ndata: {\"a\":\ndata: 1}\n\nid:1\r\nevent:event\r\ndata:é\r\n\r\n\
                        id: 2\revent: end\rdata\r\r";

    fn frame(id: &str, name: &str, data: &str) -> Frame {
        Frame { name: name.into(), id: Some(id.into()), data: data.into() }
    }

    fn expected() -> Vec<Frame> {
        vec![frame("0", "event", "{\"a\":\n1}"), frame("1", "event", "é"), frame("2", "end", "")]
    }

    #[test]
    fn frames_of_every_line_end() {
        assert_eq!(Decoder::default().push(TEXT.as_bytes()), expected());
    }

    #[test]
    fn what_has_no_empty_line_after_it_is_not_complete() {
        assert_eq!(Decoder::default().push(b"event: end\ndata\n"), []);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(mut cuts in proptest::collection::vec(0..TEXT.len(), 0..12)) {
            cuts.sort_unstable();
            let mut decoder = Decoder::default();
            let (mut frames, mut at) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([TEXT.len()]) {
                frames.extend(decoder.push(&TEXT.as_bytes()[at..cut]));
                at = cut;
            }
            prop_assert_eq!(frames, expected());
        }
    }
}
