//! Room on a disk. What no other can end, such as the unpacking of an image, stops by itself before there is none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Error, Result};

/// Who has written less than this share of what should be free is not to blame.
const SHARE: u64 = 16;

/// What must stay free: a share of the disk, or so many bytes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Watermark {
    /// Bytes.
    Bytes(u64),
    /// Percent of the whole.
    Percent(f64),
}

impl Watermark {
    /// Whatever is free will do.
    pub const NONE: Watermark = Watermark::Bytes(0);

    /// Bytes of a disk of this size.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Watermark::Bytes(bytes) => bytes,
            Watermark::Percent(percent) => (whole as f64 * percent / 100.0) as u64,
        }
    }
}

/// How much room there is in one place.
#[derive(Debug, Clone)]
pub struct Room {
    /// Where.
    pub place: PathBuf,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that should be.
    pub least: u64,
}

impl Room {
    /// Of this place now.
    pub fn of(place: &Path, watermark: Watermark) -> Option<Room> {
        let (free, whole) = room(place)?;
        Some(Room { place: place.to_owned(), free, least: watermark.of(whole) })
    }

    /// Whether so much is too little to be the reason that room ends.
    pub fn is_innocent(&self, written: u64) -> bool {
        written <= self.least / SHARE
    }

    /// A change that counts.
    pub fn step(&self) -> u64 {
        self.least / SHARE
    }
}

/// Bytes that are free and bytes there are at all.
pub fn room(place: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(place).ok()?;
    let block = stat.fragment_size();
    Some((stat.blocks_available() * block, stat.blocks() * block))
}

/// A place, and what must stay free there.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Where it is written.
    pub place: PathBuf,
    /// How much must stay free.
    pub watermark: Watermark,
}

impl Floor {
    /// Bytes that are free.
    pub fn free(&self) -> Option<u64> {
        room(&self.place).map(|(free, _)| free)
    }

    /// Whether `who`, who has written so much, may go on. Below the watermark only those may who have written little,
    /// and nobody below half of it, where steps are ended that have nothing to do with it.
    pub fn admit(&self, who: impl std::fmt::Display, written: u64) -> Result<()> {
        let Some(room) = Room::of(&self.place, self.watermark) else { return Ok(()) };
        if room.free >= room.least || room.free >= room.least / 2 && room.is_innocent(written) {
            return Ok(());
        }
        Err(Error::DiskFull(format!(
            "{who} stopped after {} MB, which are removed: the disk is almost full ({} MB are free at {}, and {} MB must \
             stay free); make room there, or take a smaller one (--low-disk-watermark)",
            written >> 20,
            room.free >> 20,
            room.place.display(),
            room.least >> 20
        )))
    }
}

/// One image on its way in. As long as it lives its layers are not collected, and they count together.
pub struct Intake {
    image: String,
    most: u64,
    /// All that it unpacks to.
    whole: AtomicU64,
    /// What of it was not there before.
    fresh: AtomicU64,
    _held: Box<dyn Send + Sync>,
}

impl Intake {
    /// Of an image that may unpack to `most` bytes; `held` keeps its layers.
    pub fn new(image: &str, most: u64, held: Box<dyn Send + Sync>) -> Intake {
        let (whole, fresh) = (AtomicU64::new(0), AtomicU64::new(0));
        Intake { image: image.to_owned(), most, whole, fresh, _held: held }
    }

    /// A layer of it is there.
    pub fn found(&self, bytes: u64) -> Result<()> {
        let whole = self.whole.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if whole <= self.most {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the image {} is refused: its layers unpack to more than {} MiB together; take a smaller image, or have the \
             operator allow more (--max-image-size)",
            self.image,
            self.most >> 20
        )))
    }

    /// So much more of it was unpacked onto `floor`.
    pub fn grew(&self, bytes: u64, floor: &Floor) -> Result<()> {
        self.found(bytes)?;
        let fresh = self.fresh.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        floor.admit(format_args!("unpacking the image {}", self.image), fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_watermark_whoever_fills_the_disk_stops() {
        let place = std::env::temp_dir();
        let (free, _) = room(&place).unwrap();
        let floor = |least: u64| Floor { place: place.clone(), watermark: Watermark::Bytes(least) };
        assert!(floor(0).admit("x", u64::MAX).is_ok());
        // Between the watermark and half of it those go on that have written little.
        let least = free / 4 * 5;
        assert!(floor(least).admit("x", least / 32).is_ok());
        let stopped = floor(least).admit("unpacking it", least / 8).unwrap_err();
        let text = stopped.to_string();
        assert!(matches!(stopped, Error::DiskFull(_)) && text.starts_with("unpacking it stopped after "), "{text}");
        assert!(text.contains(&place.display().to_string()) && text.contains("--low-disk-watermark"), "{text}");
        assert!(floor(free * 4).admit("x", 0).is_err());
    }

    #[test]
    fn layers_of_an_image_count_together() {
        let intake = Intake::new("busybox@sha256:00", 3 << 20, Box::new(()));
        let floor = Floor { place: std::env::temp_dir(), watermark: Watermark::NONE };
        intake.found(1 << 20).unwrap();
        intake.grew(1 << 20, &floor).unwrap();
        intake.grew(1 << 20, &floor).unwrap();
        let text = intake.grew(1, &floor).unwrap_err().to_string();
        assert!(text.contains("busybox@sha256:00") && text.contains("3 MiB") && text.contains("--max-image"), "{text}");
    }
}
