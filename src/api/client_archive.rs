//! Archives of the client as Concourse releases them: `fly` in a `.tgz`, `fly.exe` in a `.zip`.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::Path;

use flate2::read::{DeflateDecoder, GzDecoder};
use jiff::Timestamp;

/// The program in an archive.
pub struct Found {
    /// What it is called.
    pub name: &'static str,
    /// Its length.
    pub size: u64,
    /// When it was built, where the archive says so.
    pub modified: Option<Timestamp>,
    /// Its bytes.
    pub content: Box<dyn Read + Send>,
}

/// Finds the program in the archive.
pub fn open(path: &Path) -> Result<Found> {
    let file = File::open(path)?;
    if path.extension().is_some_and(|e| e == "zip") { from_zip(file, "fly.exe") } else { from_tgz(file, "fly") }
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no {name} in it"))
}

fn from_tgz(file: File, name: &'static str) -> Result<Found> {
    // One pass finds where the program begins; what follows it is never read.
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file.try_clone()?)));
    let mut place = None;
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        if path == Path::new(name) || path == Path::new(".").join(name) {
            let modified =
                entry.header().mtime().ok().and_then(|t| Timestamp::from_second(i64::try_from(t).ok()?).ok());
            place = Some((entry.raw_file_position(), entry.size(), modified));
            break;
        }
    }
    let (at, size, modified) = place.ok_or_else(|| missing(name))?;
    drop(archive);
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut whole = GzDecoder::new(BufReader::new(file));
    std::io::copy(&mut (&mut whole).take(at), &mut std::io::sink())?;
    Ok(Found { name, size, modified, content: Box::new(whole.take(size)) })
}

/// Signatures of the parts of a zip archive.
const END: &[u8] = b"PK\x05\x06";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// Reads the directory at the archive's end, as the format demands: lengths before the content may be left out.
fn from_zip(mut file: File, name: &'static str) -> Result<Found> {
    let broken = || Error::new(ErrorKind::InvalidData, "it is no zip archive");
    let length = file.seek(SeekFrom::End(0))?;
    let tail = length.min(22 + 0xffff);
    file.seek(SeekFrom::Start(length - tail))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let at = end.windows(4).rposition(|w| w == END).ok_or_else(broken)?;
    let (entries, offset) = (u16_at(&end, at + 10).ok_or_else(broken)?, u32_at(&end, at + 16).ok_or_else(broken)?);
    file.seek(SeekFrom::Start(offset.into()))?;
    let mut directory = Vec::new();
    (&mut file).take(tail + (1 << 20)).read_to_end(&mut directory)?;
    let mut at = 0;
    for _ in 0..entries {
        let entry = directory.get(at..).filter(|d| d.starts_with(CENTRAL)).ok_or_else(broken)?;
        let short = |n: usize| u16_at(entry, n).ok_or_else(broken);
        let long = |n: usize| u32_at(entry, n).ok_or_else(broken);
        let (title, extra, comment) = (short(28)?, short(30)?, short(32)?);
        if entry.get(46..46 + usize::from(title)) == Some(name.as_bytes()) {
            let (method, packed, size, place) = (short(10)?, long(20)?, long(24)?, long(42)?);
            let content = zip_content(file, place.into(), packed.into(), method)?;
            return Ok(Found { name, size: size.into(), modified: None, content });
        }
        at += 46 + usize::from(title) + usize::from(extra) + usize::from(comment);
    }
    Err(missing(name))
}

fn zip_content(mut file: File, place: u64, packed: u64, method: u16) -> Result<Box<dyn Read + Send>> {
    let mut head = [0; 30];
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(&mut head)?;
    let lengths = u16_at(&head, 26).zip(u16_at(&head, 28)).filter(|_| head.starts_with(LOCAL));
    let (title, extra) = lengths.ok_or_else(|| Error::new(ErrorKind::InvalidData, "it is no zip archive"))?;
    file.seek(SeekFrom::Current(i64::from(title) + i64::from(extra)))?;
    let content = BufReader::new(file).take(packed);
    match method {
        0 => Ok(Box::new(content)),
        8 => Ok(Box::new(DeflateDecoder::new(content))),
        other => {
            Err(Error::new(ErrorKind::Unsupported, format!("it is packed with method {other}; pack it with deflate")))
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(path: &Path) -> Result<(u64, Vec<u8>)> {
        let mut found = open(path)?;
        let mut content = Vec::new();
        found.content.read_to_end(&mut content)?;
        Ok((found.size, content))
    }

    #[test]
    fn the_program_is_found_in_a_tgz() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fly-darwin-arm64.tgz");
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(File::create(&path).unwrap(), Default::default()));
        for (name, content) in [("LICENSE", &b"free"[..]), ("fly", b"program")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            tar.append_data(&mut header, name, content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        assert_eq!(read(&path).unwrap(), (7, b"program".to_vec()));
    }

    /// As the usual tools write it: lengths only in the directory.
    fn zip(name: &str, content: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
        packed.write_all(content).unwrap();
        let packed = packed.finish().unwrap();
        let (n, p, s) = (name.len() as u16, packed.len() as u32, content.len() as u32);
        let mut zip =
            [LOCAL, &[20, 0, 8, 0, 8, 0], &[0; 16], &n.to_le_bytes(), &[0, 0], name.as_bytes(), &packed].concat();
        let at = zip.len() as u32;
        zip.extend([CENTRAL, &[20, 0, 20, 0, 8, 0, 8, 0], &[0; 8], &p.to_le_bytes(), &s.to_le_bytes()].concat());
        zip.extend([&n.to_le_bytes()[..], &[0; 16], name.as_bytes()].concat());
        let directory = zip.len() as u32 - at;
        zip.extend([END, &[0; 4], &[1, 0, 1, 0], &directory.to_le_bytes(), &at.to_le_bytes(), &[0, 0]].concat());
        zip
    }

    #[test]
    fn the_program_is_found_in_a_zip_and_nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fly-windows-amd64.zip");
        std::fs::write(&path, zip("fly.exe", b"program program")).unwrap();
        assert_eq!(read(&path).unwrap(), (15, b"program program".to_vec()));
        std::fs::write(&path, zip("other", b"x")).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "there is no fly.exe in it");
        std::fs::write(&path, b"no archive").unwrap();
        assert!(read(&path).is_err());
    }
}
