//! The supervisor's wire and spool format: one byte of kind, four of length (little endian), the payload.
//!
//! The same bytes go over a unix socket, through `docker exec`, and into the spool file. The decoder takes bytes in
//! any pieces and copies no payload, so both the asynchronous server and the plain supervisor use it.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::runtime::{Exit, Process, Stream, WindowSize};

/// Bytes before each payload.
pub const HEADER: usize = 5;
/// The longest payload; what is longer was not written by a supervisor.
pub const MAX_PAYLOAD: usize = 64 << 20;

mod kind {
    pub const STDOUT: u8 = 1;
    pub const STDERR: u8 = 2;
    pub const STARTED: u8 = 3;
    pub const EXITED: u8 = 4;
    pub const NOT_STARTED: u8 = 5;
    pub const LOST: u8 = 6;
    pub const DONE: u8 = 7;
    pub const HAD_ENDED: u8 = 8;
    pub const INPUT: u8 = 16;
    pub const RESIZE: u8 = 17;
    pub const CLOSE: u8 = 18;
    pub const HANG_UP: u8 = 19;
    pub const ATTACH: u8 = 32;
    pub const EXEC: u8 = 33;
    pub const STOP: u8 = 34;
    pub const SIGNAL: u8 = 35;
    pub const FORGET: u8 = 36;
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// From the process: bytes it wrote.
    Data(Stream, Bytes),
    /// From the supervisor: the program runs. At most once, before any data.
    Started,
    /// How the process ended; the last frame of an attach or an exec.
    Exited(Exit),
    /// There is no answer to be had any more (disk full, container could not be made); a last frame too.
    Lost(String),
    /// Answer to [`Frame::Stop`], [`Frame::Signal`] and [`Frame::Forget`].
    Done,
    /// Answer to [`Frame::Stop`] where the process had ended before.
    HadEnded,
    /// To the process: bytes for its standard input.
    Input(Bytes),
    /// Its terminal has a new size.
    Resize(WindowSize),
    /// Its standard input ends.
    Close,
    /// The person has gone: end of input, and SIGHUP where there is a terminal.
    HangUp,
    /// Request: output of the first process from this byte on, then its exit.
    Attach(u64),
    /// Request: a further process; input frames may follow, output frames come back.
    Exec(Box<Process>),
    /// Request: SIGTERM to the first process and all it started, SIGKILL after the grace; answered when they are gone.
    Stop(Duration),
    /// Request: this signal to the first process.
    Signal(i32),
    /// Request: give the space of a finished process's output back.
    Forget,
}

/// Bytes that are no frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame of kind {kind}: {reason}")]
pub struct Malformed {
    kind: u8,
    reason: String,
}

/// The header of a data frame, for writers that have the payload elsewhere.
pub fn data_header(stream: Stream, length: usize) -> [u8; HEADER] {
    let kind = match stream {
        Stream::Stdout => kind::STDOUT,
        Stream::Stderr => kind::STDERR,
    };
    header(kind, length)
}

fn header(kind: u8, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD);
    let [a, b, c, d] = (length as u32).to_le_bytes();
    [kind, a, b, c, d]
}

/// What a header says: whether the payload counts as output of the process, and its length.
pub fn read_header(bytes: [u8; HEADER]) -> (bool, usize) {
    let [kind, a, b, c, d] = bytes;
    (matches!(kind, kind::STDOUT | kind::STDERR), u32::from_le_bytes([a, b, c, d]) as usize)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NotStarted {
    message: String,
    not_found: bool,
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Frame::Data(stream, bytes) => {
                out.put_slice(&data_header(*stream, bytes.len()));
                out.put_slice(bytes);
            }
            Frame::Started => put(out, kind::STARTED, &[]),
            Frame::Exited(Exit::Status(status)) => put(out, kind::EXITED, &status.to_le_bytes()),
            Frame::Exited(Exit::NotStarted { message, not_found }) => {
                put_json(out, kind::NOT_STARTED, &NotStarted { message: message.clone(), not_found: *not_found });
            }
            Frame::Lost(text) => put(out, kind::LOST, text.as_bytes()),
            Frame::Done => put(out, kind::DONE, &[]),
            Frame::HadEnded => put(out, kind::HAD_ENDED, &[]),
            Frame::Input(bytes) => put(out, kind::INPUT, bytes),
            Frame::Resize(size) => {
                let mut payload = [0; 4];
                payload[..2].copy_from_slice(&size.columns.to_le_bytes());
                payload[2..].copy_from_slice(&size.rows.to_le_bytes());
                put(out, kind::RESIZE, &payload);
            }
            Frame::Close => put(out, kind::CLOSE, &[]),
            Frame::HangUp => put(out, kind::HANG_UP, &[]),
            Frame::Attach(from) => put(out, kind::ATTACH, &from.to_le_bytes()),
            Frame::Exec(process) => put_json(out, kind::EXEC, process),
            Frame::Stop(grace) => {
                put(out, kind::STOP, &u64::try_from(grace.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
            }
            Frame::Forget => put(out, kind::FORGET, &[]),
            Frame::Signal(signal) => put(out, kind::SIGNAL, &signal.to_le_bytes()),
        }
    }

    /// The frame as bytes of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    fn decode(kind: u8, mut payload: Bytes) -> Result<Frame, Malformed> {
        let malformed = |reason: &str| Malformed { kind, reason: reason.to_owned() };
        let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned();
        let short = |_| malformed("payload too short");
        Ok(match kind {
            kind::STDOUT => Frame::Data(Stream::Stdout, payload),
            kind::STDERR => Frame::Data(Stream::Stderr, payload),
            kind::STARTED => Frame::Started,
            kind::EXITED => Frame::Exited(Exit::Status(payload.try_get_i32_le().map_err(short)?)),
            kind::NOT_STARTED => {
                let NotStarted { message, not_found } = json(kind, &payload)?;
                Frame::Exited(Exit::NotStarted { message, not_found })
            }
            kind::LOST => Frame::Lost(text(&payload)),
            kind::DONE => Frame::Done,
            kind::HAD_ENDED => Frame::HadEnded,
            kind::INPUT => Frame::Input(payload),
            kind::RESIZE => {
                let columns = payload.try_get_u16_le().map_err(short)?;
                Frame::Resize(WindowSize { columns, rows: payload.try_get_u16_le().map_err(short)? })
            }
            kind::CLOSE => Frame::Close,
            kind::HANG_UP => Frame::HangUp,
            kind::ATTACH => Frame::Attach(payload.try_get_u64_le().map_err(short)?),
            kind::EXEC => Frame::Exec(Box::new(json(kind, &payload)?)),
            kind::STOP => Frame::Stop(Duration::from_millis(payload.try_get_u64_le().map_err(short)?)),
            kind::FORGET => Frame::Forget,
            kind::SIGNAL => Frame::Signal(payload.try_get_i32_le().map_err(short)?),
            _ => return Err(malformed("unknown kind")),
        })
    }
}

fn put(out: &mut impl BufMut, kind: u8, payload: &[u8]) {
    out.put_slice(&header(kind, payload.len()));
    out.put_slice(payload);
}

fn put_json<T: serde::Serialize>(out: &mut impl BufMut, kind: u8, value: &T) {
    put(out, kind, &serde_json::to_vec(value).expect("plain structs always serialize"));
}

fn json<T: serde::de::DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|e| Malformed { kind, reason: e.to_string() })
}

/// Turns bytes in any pieces into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes the next piece.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Where a reader may put the next piece directly.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame; `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some(head) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let (_, length) = read_header(*head);
        if length > MAX_PAYLOAD {
            return Err(Malformed { kind: head[0], reason: format!("{length} bytes are too many") });
        }
        if self.buffer.len() < HEADER + length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        let kind = self.buffer[0];
        self.buffer.advance(HEADER);
        Frame::decode(kind, self.buffer.split_to(length).freeze()).map(Some)
    }
}

/// What PID 1 of a container reads from its standard input: length (four bytes, little endian) and JSON.
pub fn launch(process: &Process) -> Vec<u8> {
    let body = serde_json::to_vec(process).expect("plain structs always serialize");
    let mut out = Vec::with_capacity(body.len() + 4);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        let process = ("[a-z/]{0,9}", prop::collection::vec(".*", 0..3), any::<bool>(), any::<Option<u8>>()).prop_map(
            |(path, args, tty, user)| Process {
                path,
                args,
                env: vec!["A=1".into()],
                dir: "/tmp".into(),
                user: user.map(|u| u.to_string()),
                tty: tty.then_some(WindowSize { columns: 7, rows: 9 }),
                stdin: vec![0, 255],
                owns: vec!["/scratch".into()],
            },
        );
        prop_oneof![
            bytes().prop_map(|b| Frame::Data(Stream::Stdout, b)),
            bytes().prop_map(|b| Frame::Data(Stream::Stderr, b)),
            Just(Frame::Started),
            any::<i32>().prop_map(|s| Frame::Exited(Exit::Status(s))),
            (".*", any::<bool>())
                .prop_map(|(message, not_found)| Frame::Exited(Exit::NotStarted { message, not_found })),
            ".*".prop_map(Frame::Lost),
            Just(Frame::Done),
            bytes().prop_map(Frame::Input),
            any::<(u16, u16)>().prop_map(|(columns, rows)| Frame::Resize(WindowSize { columns, rows })),
            Just(Frame::Close),
            Just(Frame::HadEnded),
            Just(Frame::HangUp),
            any::<u64>().prop_map(Frame::Attach),
            process.prop_map(|p| Frame::Exec(Box::new(p))),
            any::<u32>().prop_map(|ms| Frame::Stop(Duration::from_millis(ms.into()))),
            any::<i32>().prop_map(Frame::Signal),
        ]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(frames in prop::collection::vec(frame(), 0..8), cuts in prop::collection::vec(1usize..40, 1..20)) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|f| f.encode(&mut bytes));
            let mut decoder = Decoder::default();
            let (mut got, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                decoder.extend(piece);
                rest = tail;
                while let Some(f) = decoder.next_frame().unwrap() {
                    got.push(f);
                }
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn a_length_beyond_reason_is_refused() {
        let mut decoder = Decoder::default();
        decoder.extend(&[1, 255, 255, 255, 255]);
        assert!(decoder.next_frame().is_err());
    }
}
