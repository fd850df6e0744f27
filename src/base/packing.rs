//! Compression that is told by the first bytes, whatever a file or a stream is called.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip, also of several members.
    Gzip,
    /// zstd
    Zstd,
    /// xz, which is not read here.
    Xz,
    /// bzip2, which is not read here.
    Bzip2,
}

impl Packing {
    /// So many first bytes tell it.
    pub const HEAD: u64 = 6;

    /// By the first bytes; nothing where those are not compressed, as far as is known.
    pub fn of(head: &[u8]) -> Option<Packing> {
        match head {
            [0x1f, 0x8b, ..] => Some(Packing::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
            [b'B', b'Z', b'h', ..] => Some(Packing::Bzip2),
            _ => None,
        }
    }

    /// The program that unpacks it.
    pub fn program(self) -> &'static str {
        match self {
            Packing::Gzip => "gunzip",
            Packing::Zstd => "unzstd",
            Packing::Xz => "unxz",
            Packing::Bzip2 => "bunzip2",
        }
    }
}

/// A stream with the bytes that were read to look at it.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The stream without its compression.
pub enum Unpacked<R: Read> {
    /// It had none.
    Plain(Whole<R>),
    /// gzip
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    /// zstd
    Zstd(Box<zstd::Decoder<'static, BufReader<Whole<R>>>>),
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes, and at nothing else yet.
    pub fn new(mut input: R) -> io::Result<Unpacked<R>> {
        let mut head = Vec::new();
        (&mut input).take(Packing::HEAD).read_to_end(&mut head)?;
        let packing = Packing::of(&head);
        let whole = Cursor::new(head).chain(input);
        match packing {
            None => Ok(Unpacked::Plain(whole)),
            Some(Packing::Gzip) => Ok(Unpacked::Gzip(Box::new(MultiGzDecoder::new(whole)))),
            Some(Packing::Zstd) => Ok(Unpacked::Zstd(Box::new(zstd::Decoder::new(whole)?))),
            Some(other) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is compressed in a way that is not read here: unpack it first ({})", other.program()),
            )),
        }
    }

    /// The first bytes of what is not compressed.
    pub fn head(&self) -> Option<&[u8]> {
        match self {
            Unpacked::Plain(whole) => Some(whole.get_ref().0.get_ref()),
            _ => None,
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacked::Plain(from) => from.read(buffer),
            Unpacked::Gzip(from) => from.read(buffer),
            Unpacked::Zstd(from) => from.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"some text").unwrap();
        let all = [gzip.finish().unwrap(), zstd::encode_all(&b"some text"[..], 1).unwrap(), b"some text".to_vec()];
        for packed in all {
            let mut text = String::new();
            Unpacked::new(packed.as_slice()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "some text");
        }
        let xz = Unpacked::new(&b"\xfd7zXZ\0..."[..]).err().unwrap().to_string();
        assert!(xz.contains("unxz"), "{xz}");
        assert_eq!(Unpacked::new(&b"ab"[..]).unwrap().head(), Some(&b"ab"[..]));
    }
}
