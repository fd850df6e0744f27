//! Transfers on a terminal: a line each, with what moves and how fast, drawn again until all have ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::console::Console;
use super::terminal;

/// How often the lines are drawn.
const PERIOD: Duration = Duration::from_millis(100);
/// What turns while a transfer runs.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Transfers that run side by side.
pub struct Progress {
    console: Console,
    transfers: Vec<Transfer>,
}

/// One of them, counted by whoever moves its bytes.
#[derive(Clone)]
pub struct Transfer(Arc<Counted>);

struct Counted {
    name: String,
    bytes: AtomicU64,
    done: AtomicBool,
}

impl Transfer {
    /// What is moved.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Counts bytes that went through.
    pub fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// It went well.
    pub fn done(&self) {
        self.0.done.store(true, Relaxed);
    }
}

impl Progress {
    /// None yet.
    pub fn new(console: Console) -> Self {
        Progress { console, transfers: Vec::new() }
    }

    /// One more.
    pub fn transfer(&mut self, name: String) -> Transfer {
        let transfer = Transfer(Arc::new(Counted { name, bytes: AtomicU64::new(0), done: AtomicBool::new(false) }));
        self.transfers.push(transfer.clone());
        transfer
    }

    /// Waits for `work`, showing the transfers meanwhile; where stdout is no terminal, nothing is shown.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> io::Result<T> {
        if !self.console.is_terminal() || self.transfers.is_empty() {
            return Ok(work.await);
        }
        tokio::pin!(work);
        let (started, mut ticks) = (Instant::now(), interval(PERIOD));
        let mut above = String::new();
        for turn in 0_usize.. {
            let ended = tokio::select! {
                biased;
                outcome = &mut work => Some(outcome),
                _ = ticks.tick() => None,
            };
            self.console.print(above + &self.lines(SPINNER[turn % SPINNER.len()], started.elapsed()))?;
            if let Some(outcome) = ended {
                return Ok(outcome);
            }
            above = format!("\u{1b}[{}A\u{1b}[J", self.transfers.len());
        }
        unreachable!("a transfer is not drawn for longer than numbers last")
    }

    fn lines(&self, spinner: char, elapsed: Duration) -> String {
        let width = self.transfers.iter().map(|t| t.name().chars().count()).max().unwrap_or_default();
        // A line that wraps would not be drawn over.
        let columns = terminal::size().map_or(0, |(columns, _)| usize::from(columns));
        let columns = if columns == 0 { 80 } else { columns.max(24) };
        let width = width.min(columns - 20);
        let line = |transfer: &Transfer| {
            let name: String = transfer.name().chars().take(width).collect();
            if transfer.0.done.load(Relaxed) {
                return format!("{name:width$}   {}\n", self.console.bold("done"));
            }
            let speed = transfer.0.bytes.load(Relaxed) as f64 / elapsed.as_secs_f64().max(0.001);
            format!("{name:width$} {spinner} ({}/s)\n", size(speed))
        };
        self.transfers.iter().map(line).collect()
    }
}

/// So many bytes in the unit that suits them.
fn size(bytes: f64) -> String {
    let (mut rest, mut units) = (bytes, ["B", "KiB", "MiB", "GiB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if rest < 1024.0 {
            break;
        }
        (rest, unit) = (rest / 1024.0, larger);
    }
    format!("{rest:.1}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_under_each_other() {
        let mut progress = Progress::new(Console::plain());
        let (first, second) = (progress.transfer("uploading a".into()), progress.transfer("uploading code".into()));
        first.add(3 * 1024 * 1024);
        second.done();
        let shown = progress.lines('⠋', Duration::from_secs(2));
        assert_eq!(shown, "uploading a    ⠋ (1.5MiB/s)\nuploading code   done\n");
    }

    #[test]
    fn sizes_have_one_decimal() {
        let shown = [0.0, 1023.0, 1024.0, 5e6, 3e13].map(size);
        assert_eq!(shown, ["0.0B", "1023.0B", "1.0KiB", "4.8MiB", "27939.7GiB"]);
    }
}
