//! A process's output on its way here: the engine's multiplexed stream → the supervisor's frames → [`Output`].
//!
//! An end without an exit is looked into: a connection that was cut is taken up again where it ended, a container
//! that died or an engine that went away is told as [`Output::Lost`], and nothing ever waits for what cannot come.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::runtime::supervisor::frame::{Decoder, Frame};
use crate::runtime::supervisor::pid1;
use crate::runtime::{Attached, Output};

/// What the engine sends of a container or an exec.
pub type Raw = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Chunks on their way to a reader that may be slow; beyond them the process waits, as it does on any pipe.
const CHUNKS: usize = 64;
/// How often a cut connection is taken up again without a single byte in between.
const MOST_CUTS: u32 = 3;
/// A supervisor says something when the program has started; one that does not was not heard.
const SILENCE: Duration = Duration::from_secs(10);
const MOST_COMPLAINT: usize = 2_000;

/// Why a stream ended before the process's end was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The stream's own error, if it had one.
    pub error: Option<String>,
    /// What the supervisor complained of on its standard error.
    pub complaint: String,
}

impl Cut {
    /// The reason with what was heard last.
    pub fn explain(&self, reason: String) -> String {
        let heard =
            self.error.iter().map(String::as_str).chain([self.complaint.as_str()]).filter(|text| !text.is_empty());
        std::iter::once(reason.as_str()).chain(heard).collect::<Vec<_>>().join(": ")
    }
}

/// What to do after a cut.
pub enum Next {
    /// The container runs on: here is its output again.
    Again(Raw),
    /// The container has died: this is what it left, from the same byte on.
    Rest(Attached),
    /// There is no more to come.
    Lost(String),
}

/// How the stream began, which tells what may be expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Attached before the start: the first frame is due soon, and it is not data.
    BeforeStart,
    /// Read from the spool.
    Spool,
}

/// Reads until the end in a task of its own; `look` finds out what a cut at an offset means.
pub fn follow<L, F>(mut reader: Reader, look: L) -> Attached
where
    L: Fn(Cut, u64) -> F + Send + 'static,
    F: Future<Output = Next> + Send,
{
    let (sender, attached) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let (mut cuts, mut last_cut) = (0, reader.offset);
        loop {
            let Some(cut) = reader.read(&sender).await else { return };
            cuts = if reader.offset == last_cut { cuts + 1 } else { 1 };
            last_cut = reader.offset;
            let next = look(cut.clone(), reader.offset).await;
            let raw = match next {
                Next::Again(raw) if cuts <= MOST_CUTS => raw,
                Next::Again(_) => {
                    let reason = cut.explain("the container's output cannot be read".to_string());
                    let _ = sender.send(Output::Lost(reason)).await;
                    return;
                }
                Next::Rest(mut rest) => {
                    while let Some(output) = rest.recv().await {
                        if sender.send(output).await.is_err() {
                            break;
                        }
                    }
                    return;
                }
                Next::Lost(reason) => {
                    let _ = sender.send(Output::Lost(reason)).await;
                    return;
                }
            };
            reader = Reader::new(raw, reader.offset, Beginning::Spool);
        }
    });
    attached
}

/// Waits for the supervisor's answer to a request; the error is why there is none.
pub async fn answer(raw: Raw) -> std::result::Result<Frame, String> {
    let (sender, _attached) = mpsc::channel(1);
    let mut reader = Reader::new(raw, 0, Beginning::Spool);
    loop {
        match reader.next_frame(&sender).await {
            Step::Frame(answer @ (Frame::Done | Frame::HadEnded | Frame::Exited(_))) => return Ok(answer),
            Step::Frame(Frame::Lost(reason)) => return Err(reason),
            Step::Frame(_) => {}
            Step::Cut(cut) => return Err(cut.explain("the container's supervisor does not answer".to_string())),
            Step::Detached => return Err("nobody waits for the answer".to_string()),
        }
    }
}

enum Step {
    Frame(Frame),
    Cut(Cut),
    Detached,
}

/// One stream of frames, and where in the process's output it is.
pub struct Reader {
    raw: Raw,
    first: Option<Frame>,
    decoder: Decoder,
    offset: u64,
    beginning: Beginning,
    complaint: String,
}

impl Reader {
    /// Of a stream that brings output from byte `from` on.
    pub fn new(raw: Raw, from: u64, beginning: Beginning) -> Self {
        Reader { raw, first: None, decoder: Decoder::default(), offset: from, beginning, complaint: String::new() }
    }

    /// Waits for the first frame of a spool, which comes at once from byte 0 on; the error says why there is none, as when process 1 was told no process.
    pub async fn begin(raw: Raw, from: u64) -> std::result::Result<Self, String> {
        let (sender, _attached) = mpsc::channel(1);
        let mut reader = Reader::new(raw, from, Beginning::Spool);
        match reader.next_frame(&sender).await {
            Step::Frame(Frame::Lost(reason)) if reason.starts_with(pid1::UNREACHABLE) => Err(reason),
            Step::Frame(frame) => Ok(Reader { first: Some(frame), ..reader }),
            Step::Cut(cut) => Err(cut.explain("the container's output cannot be read".to_string())),
            Step::Detached => Err("nobody waits for the output".to_string()),
        }
    }

    /// Passes on what comes. `None` when all is told or nobody listens.
    async fn read(&mut self, sender: &mpsc::Sender<Output>) -> Option<Cut> {
        loop {
            let frame = match self.next_frame(sender).await {
                Step::Frame(frame) => frame,
                Step::Cut(cut) => return Some(cut),
                Step::Detached => return None,
            };
            if self.beginning == Beginning::BeforeStart && matches!(frame, Frame::Data(..)) {
                return Some(self.cut(Some("the beginning was missed".to_string())));
            }
            self.beginning = Beginning::Spool;
            let Some(output) = self.output(frame) else { continue };
            let last = !matches!(output, Output::Data { .. });
            sender.send(output).await.ok()?;
            if last {
                return None;
            }
        }
    }

    async fn next_frame(&mut self, sender: &mpsc::Sender<Output>) -> Step {
        if let Some(first) = self.first.take() {
            return Step::Frame(first);
        }
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Step::Frame(frame),
                Ok(None) => {}
                Err(error) => return Step::Cut(self.cut(Some(error.to_string()))),
            }
            let chunk = tokio::select! {
                biased;
                chunk = self.raw.next() => chunk,
                () = sender.closed() => return Step::Detached,
                () = tokio::time::sleep(SILENCE), if self.beginning == Beginning::BeforeStart => {
                    return Step::Cut(self.cut(Some("the supervisor is silent".to_string())));
                }
            };
            match chunk {
                Some(Ok(LogOutput::StdOut { message })) => self.decoder.extend(&message),
                // What is in neither pipe is the engine's own complaint, such as that an exec cannot be made.
                Some(Ok(other)) => self.complain(&other.into_bytes()),
                Some(Err(error)) => return Step::Cut(self.cut(Some(error.to_string()))),
                None => return Step::Cut(self.cut(None)),
            }
        }
    }

    fn output(&mut self, frame: Frame) -> Option<Output> {
        match frame {
            Frame::Data(stream, bytes) => {
                let offset = self.offset;
                self.offset += bytes.len() as u64;
                Some(Output::Data { stream, offset, bytes })
            }
            Frame::Exited(exit) => Some(Output::Exited(exit)),
            Frame::Lost(reason) => Some(Output::Lost(reason)),
            _ => None,
        }
    }

    fn complain(&mut self, message: &Bytes) {
        if self.complaint.len() < MOST_COMPLAINT {
            self.complaint.push_str(&String::from_utf8_lossy(message));
        }
    }

    fn cut(&mut self, error: Option<String>) -> Cut {
        Cut { error, complaint: std::mem::take(&mut self.complaint).trim().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Exit, Stream as Pipe};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn raw(frames: &[Frame], piece: usize) -> Raw {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let pieces: Vec<_> =
            bytes.chunks(piece).map(|chunk| Ok(LogOutput::StdOut { message: Bytes::copy_from_slice(chunk) })).collect();
        Box::pin(futures_util::stream::iter(pieces))
    }

    fn data(text: &'static str) -> Frame {
        Frame::Data(Pipe::Stdout, Bytes::from_static(text.as_bytes()))
    }

    async fn all(mut attached: Attached) -> (String, Option<Output>) {
        let (mut text, mut end) = (String::new(), None);
        while let Some(output) = attached.recv().await {
            match output {
                Output::Data { offset, bytes, .. } => {
                    assert_eq!(offset, text.len() as u64);
                    text.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                other => end = Some(other),
            }
        }
        (text, end)
    }

    #[tokio::test]
    async fn frames_in_any_pieces_become_output_with_offsets() {
        let frames = [Frame::Started, data("one "), data("two"), Frame::Exited(Exit::Status(3))];
        for piece in [1, 7, 1000] {
            let attached =
                follow(Reader::new(raw(&frames, piece), 0, Beginning::BeforeStart), |_, _| async { unreachable!() });
            assert_eq!(all(attached).await, ("one two".into(), Some(Output::Exited(Exit::Status(3)))));
        }
    }

    #[tokio::test]
    async fn a_cut_is_taken_up_where_it_ended() {
        let first = raw(&[Frame::Started, data("one ")], 1000);
        let attached = follow(Reader::new(first, 0, Beginning::BeforeStart), |_, offset| async move {
            assert_eq!(offset, 4);
            Next::Again(raw(&[data("two"), Frame::Exited(Exit::Status(0))], 1000))
        });
        assert_eq!(all(attached).await, ("one two".into(), Some(Output::Exited(Exit::Status(0)))));
    }

    #[tokio::test]
    async fn a_missed_beginning_is_read_again_from_the_spool() {
        let late = raw(&[data("two"), Frame::Exited(Exit::Status(0))], 1000);
        let attached = follow(Reader::new(late, 0, Beginning::BeforeStart), |_, offset| async move {
            assert_eq!(offset, 0);
            Next::Again(raw(&[Frame::Started, data("one two"), Frame::Exited(Exit::Status(0))], 1000))
        });
        assert_eq!(all(attached).await, ("one two".into(), Some(Output::Exited(Exit::Status(0)))));
    }

    #[tokio::test]
    async fn cuts_without_progress_end_and_say_why() {
        let looks = Arc::new(AtomicU32::new(0));
        let counted = looks.clone();
        let attached = follow(Reader::new(raw(&[], 1), 0, Beginning::Spool), move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                Next::Again(Box::pin(futures_util::stream::iter([Ok(LogOutput::StdErr {
                    message: "no socket".into(),
                })])) as Raw)
            }
        });
        let (_, end) = all(attached).await;
        assert!(matches!(&end, Some(Output::Lost(text)) if text.contains("no socket")), "{end:?}");
        assert_eq!(looks.load(Ordering::Relaxed), MOST_CUTS + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_supervisor_is_looked_after() {
        let attached = follow(
            Reader::new(Box::pin(futures_util::stream::pending()), 0, Beginning::BeforeStart),
            |cut, _| async move { Next::Lost(cut.error.unwrap_or_default()) },
        );
        assert_eq!(all(attached).await.1, Some(Output::Lost("the supervisor is silent".into())));
    }
}
