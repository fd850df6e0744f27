//! The file that holds all a process has written, as frames, so that a reader can start at any byte at any time.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use super::frame::{self, Frame, HEADER};
use crate::runtime::Stream;

/// Payload between two remembered positions: bounds how far a seek must read.
const STRIDE: u64 = 1 << 20;

/// Writer and index of one spool file.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
    payload: u64,
    /// (bytes of output before, position in the file) of some frames, ascending.
    index: Vec<(u64, u64)>,
}

/// Where a reader is.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Position in the file of the next bytes to send as they are.
    pub position: u64,
    /// What to send before, since `from` lay within a frame.
    pub first: Option<Bytes>,
}

impl Spool {
    /// A new, empty spool.
    pub fn create(path: &Path) -> io::Result<Spool> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Spool { file, end: 0, payload: 0, index: vec![(0, 0)] })
    }

    /// Appends output. After an error the file ends where it ended before.
    pub fn data(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let header = frame::data_header(stream, bytes.len());
        let mut parts = [IoSlice::new(&header), IoSlice::new(bytes)];
        self.append(&mut parts)?;
        if self.index.last().is_none_or(|(payload, _)| self.payload - payload >= STRIDE) {
            self.index.push((self.payload, self.end));
        }
        self.end += (HEADER + bytes.len()) as u64;
        self.payload += bytes.len() as u64;
        Ok(())
    }

    /// Appends any other frame.
    pub fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.to_bytes();
        self.append(&mut [IoSlice::new(&bytes)])?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut at = self.end;
        while !parts.is_empty() {
            let position = i64::try_from(at).map_err(io::Error::other)?;
            match nix::sys::uio::pwritev(&self.file, parts, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut parts, n);
                }
                Err(nix::Error::EINTR) => {}
                Err(e) => {
                    self.file.set_len(self.end).ok();
                    return Err(e.into());
                }
            }
        }
        Ok(())
    }

    /// Bytes of the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of output.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Gives the space back: all of it is kept elsewhere.
    pub fn forget(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.end, self.index) = (0, vec![(self.payload, 0)]);
        Ok(())
    }

    /// Reads bytes as they are; fewer than asked for at the end.
    pub fn read(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_at(&mut buffer[..want], position)
    }

    /// A cursor at output byte `from`.
    pub fn seek(&self, from: u64) -> io::Result<Cursor> {
        if from == 0 {
            return Ok(Cursor::default());
        }
        let near = self.index.partition_point(|(payload, _)| *payload <= from).saturating_sub(1);
        let (mut payload, mut position) = self.index[near];
        let mut header = [0; HEADER];
        while position < self.end {
            self.file.read_exact_at(&mut header, position)?;
            let (counts, length) = frame::read_header(header);
            let length = length as u64;
            if counts && payload + length > from {
                let skip = from - payload;
                let mut rest = vec![0; (length - skip) as usize];
                self.file.read_exact_at(&mut rest, position + HEADER as u64 + skip)?;
                let stream = if header == frame::data_header(Stream::Stdout, length as usize) {
                    Stream::Stdout
                } else {
                    Stream::Stderr
                };
                let first = Some(Frame::Data(stream, rest.into()).to_bytes());
                return Ok(Cursor { position: position + HEADER as u64 + length, first });
            }
            if counts {
                payload += length;
            }
            position += HEADER as u64 + length;
        }
        Ok(Cursor { position: self.end, first: None })
    }
}

/// All whole data frames of a spool whose writer is gone, from output byte `from` on.
pub fn read_back(file: &mut impl Read, from: u64, mut each: impl FnMut(Stream, Bytes) -> bool) -> io::Result<()> {
    let mut decoder = frame::Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    let mut offset = 0u64;
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            let Frame::Data(stream, mut bytes) = frame else { continue };
            let start = offset;
            offset += bytes.len() as u64;
            if offset <= from {
                continue;
            }
            let skip = from.saturating_sub(start) as usize;
            if !each(stream, bytes.split_off(skip)) {
                return Ok(());
            }
        }
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        decoder.extend(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(spool: &Spool, from: u64) -> Vec<u8> {
        let mut cursor = spool.seek(from).unwrap();
        let mut raw = cursor.first.take().unwrap_or_default().to_vec();
        let mut buffer = [0; 17];
        loop {
            let n = spool.read(cursor.position, &mut buffer).unwrap();
            if n == 0 {
                break;
            }
            raw.extend_from_slice(&buffer[..n]);
            cursor.position += n as u64;
        }
        let mut out = Vec::new();
        let mut decoder = frame::Decoder::default();
        decoder.extend(&raw);
        while let Some(f) = decoder.next_frame().unwrap() {
            if let Frame::Data(_, b) = f {
                out.extend_from_slice(&b);
            }
        }
        out
    }

    #[test]
    fn every_offset_reads_the_rest_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::create(&path).unwrap();
        spool.frame(&Frame::Started).unwrap();
        let mut all = Vec::new();
        for i in 0..40u8 {
            let piece = vec![i; usize::from(i) % 7];
            let stream = if i % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
            spool.data(stream, &piece).unwrap();
            all.extend(piece);
        }
        for from in 0..=all.len() {
            assert_eq!(drain(&spool, from as u64), &all[from..], "from {from}");
            let mut back = Vec::new();
            let mut file = File::open(&path).unwrap();
            read_back(&mut file, from as u64, |_, b| {
                back.extend_from_slice(&b);
                true
            })
            .unwrap();
            assert_eq!(back, &all[from..], "read back from {from}");
        }
        assert!(drain(&spool, 1 << 40).is_empty());
    }
}
