//! The server's side: frames over any pair of asynchronous byte streams become [`Attached`] and [`Exec`].

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::frame::{Decoder, Frame};
use crate::runtime::{Attached, Exec, Input, Output, Process, Stream};

/// Chunks that may wait for a slow caller; each is at most 64 kB.
const WAITING: usize = 32;
/// Bytes asked for at once.
const READ: usize = 128 << 10;

/// A stream of frames as it arrives.
pub struct Frames<R> {
    reader: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Around a stream of bytes.
    pub fn new(reader: R) -> Self {
        Frames { reader, decoder: Decoder::default() }
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                return Ok(Some(frame));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ);
            if self.reader.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Passes on what the frames say. `from` is the offset of the first byte of output that they bring; `first` is a
/// frame already taken from them; `lost` is said if they stop without an end.
pub fn output<R>(frames: Frames<R>, first: Option<Frame>, from: u64, lost: String) -> Attached
where
    R: AsyncRead + Unpin + Send + 'static,
{
    output_or(frames, first, from, move |_| said(Output::Lost(lost)))
}

/// An [`Attached`] that brings only an end.
pub fn said(end: Output) -> Attached {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one.
    sender.try_send(end).ok();
    receiver
}

/// As [`output`], but goes on with what `otherwise` gives for the offset reached if the frames stop without an end.
pub fn output_or<R, F>(mut frames: Frames<R>, first: Option<Frame>, from: u64, otherwise: F) -> Attached
where
    R: AsyncRead + Unpin + Send + 'static,
    F: FnOnce(u64) -> Attached + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut offset = from;
        let mut next = first;
        loop {
            let frame = match next.take() {
                Some(frame) => frame,
                None => {
                    // Whoever detaches must not keep the connection until the process says something.
                    let frame = tokio::select! {
                        frame = frames.next() => frame,
                        () = sender.closed() => return,
                    };
                    let Ok(Some(frame)) = frame else {
                        let mut rest = otherwise(offset);
                        while let Some(output) = rest.recv().await {
                            if sender.send(output).await.is_err() {
                                return;
                            }
                        }
                        return;
                    };
                    frame
                }
            };
            let output = match frame {
                Frame::Data(stream, bytes) => {
                    let at = offset;
                    offset += bytes.len() as u64;
                    Output::Data { stream, offset: at, bytes }
                }
                Frame::Exited(exit) => Output::Exited(exit),
                Frame::Lost(text) => Output::Lost(text),
                _ => continue,
            };
            let last = !matches!(output, Output::Data { .. });
            if sender.send(output).await.is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Runs `process` over a connection to a supervisor.
pub fn exec<R, W>(reader: R, writer: W, process: &Process, lost: String) -> Exec
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (input, receiver) = mpsc::channel(WAITING);
    let (guard, ended) = oneshot::channel::<()>();
    let output = output_or(Frames::new(reader), None, 0, move |_| {
        drop(guard);
        said(Output::Lost(lost))
    });
    let request = Frame::Exec(Box::new(process.clone()));
    tokio::spawn(async move {
        tokio::select! {
            // A failed write means that the supervisor has gone, which the reading side reports.
            _ = send_input(writer, request, receiver) => {}
            _ = ended => {}
        }
    });
    Exec { input, output }
}

async fn send_input<W: AsyncWrite + Unpin>(
    mut writer: W,
    request: Frame,
    mut input: mpsc::Receiver<Input>,
) -> io::Result<()> {
    writer.write_all(&request.to_bytes()).await?;
    writer.flush().await?;
    while let Some(next) = input.recv().await {
        let frame = match next {
            Input::Data(bytes) => Frame::Input(bytes),
            Input::Resize(size) => Frame::Resize(size),
            Input::Close => Frame::Close,
        };
        writer.write_all(&frame.to_bytes()).await?;
        writer.flush().await?;
    }
    writer.write_all(&Frame::HangUp.to_bytes()).await?;
    writer.flush().await?;
    // The stream stays open until the output has ended: the other side takes its end for a lost connection.
    std::future::pending().await
}

/// Asks for something that is answered by [`Frame::Done`] or [`Frame::HadEnded`], and waits for the answer.
pub async fn ask<S>(mut stream: S, request: Frame) -> io::Result<Frame>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&request.to_bytes()).await?;
    stream.flush().await?;
    let mut frames = Frames::new(stream);
    match frames.next().await? {
        Some(answer @ (Frame::Done | Frame::HadEnded)) => Ok(answer),
        Some(Frame::Lost(text)) => Err(io::Error::other(text)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// An [`Attached`] of what is already known, such as the spool of a container whose supervisor is gone.
pub fn replay(
    chunks: impl FnOnce(&mut dyn FnMut(Stream, bytes::Bytes) -> bool) -> Output + Send + 'static,
    from: u64,
) -> Attached {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut offset = from;
        let end = chunks(&mut |stream, bytes| {
            let at = offset;
            offset += bytes.len() as u64;
            sender.blocking_send(Output::Data { stream, offset: at, bytes }).is_ok()
        });
        sender.blocking_send(end).ok();
    });
    receiver
}
