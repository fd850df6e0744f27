//! A build's stream as gzip: each batch is packed once, however many follow, and a packed line needs no later one to
//! be read.
//!
//! A pack refers to nothing before it and ends with an empty block on a whole byte (deflate's sync flush), so any
//! followers can have it behind whatever they were sent before. Go's inflate, and so fly, hands out what it has read
//! when it meets that empty block, and not at the end of any other. The checksum that ends a gzip stream is never sent: after the event `end` a
//! client closes, and one whose stream breaks before that sees that it did.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

/// What a packed stream begins with (RFC 1952, 2.3.1): no name, no time, an unknown system.
pub const HEAD: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Shorter ones are sent as they are, with five bytes before and after them.
const WORTH: usize = 512;
/// Longest stored block (RFC 1951, 3.2.4).
const STORED: usize = 0xffff;
/// A stored block of nothing.
const EMPTY: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// These bytes as whole blocks of deflate, none of which is the stream's last.
pub fn pack(bytes: &[u8]) -> Bytes {
    if bytes.len() < WORTH {
        return stored(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 + 64);
    let mut deflate = Compress::new(Compression::fast(), false);
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(read..).unwrap_or_default();
        if deflate.compress_vec(rest, &mut out, FlushCompress::Sync).is_err() {
            return stored(bytes);
        }
        // The flush is complete once it leaves room behind.
        if out.len() < out.capacity() {
            return out.into();
        }
        out.reserve(out.len());
    }
}

fn stored(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len() + 2 * EMPTY.len());
    for part in bytes.chunks(STORED) {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&EMPTY);
    out.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::base::chance;

    /// What a reader has of a stream that goes on.
    fn read(packs: &[Bytes]) -> Vec<u8> {
        let sent = [HEAD, &packs.concat()].concat();
        let mut found = Vec::new();
        let mut reader = GzDecoder::new(sent.as_slice());
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = reader.read(&mut part) {
            found.extend_from_slice(&part[..length]);
        }
        found
    }

    #[test]
    fn a_busy_log_becomes_small() {
        let lines: String = (0..1000).map(|n| format!("line {n} of the log\r\n")).collect();
        let packed = pack(lines.as_bytes());
        assert!(packed.len() * 4 < lines.len(), "{}", packed.len());
        assert_eq!(read(&[packed]), lines.as_bytes());
    }

    #[test]
    fn what_does_not_pack_is_sent_whole() {
        let noise = chance::bytes::<150_000>().to_vec();
        assert_eq!(read(&[pack(&noise), pack(b""), stored(&noise)]), [noise.clone(), noise].concat());
    }

    #[test]
    fn every_pack_ends_in_the_empty_block_at_which_go_hands_out() {
        for length in [1, 20, WORTH - 1, WORTH, STORED, 3 * STORED] {
            assert!(pack(&vec![b'a'; length]).ends_with(&EMPTY[1..]), "{length}");
            assert!(stored(&vec![b'a'; length]).ends_with(&EMPTY), "{length}");
        }
    }

    proptest! {
        #[test]
        fn packs_are_read_in_any_company(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..8)) {
            let packs: Vec<Bytes> = parts.iter().map(|part| pack(part)).collect();
            prop_assert_eq!(read(&packs), parts.concat());
        }
    }
}
