//! A step that prints much: how fast its lines are stored, how small, and how they reach one, a hundred and a thousand
//! followers. `cargo bench --bench log [-- --pairs N] [-- --only store|size|followers|lag]`
#![allow(clippy::unwrap_used, reason = "a benchmark that fails here has failed")]

mod yard;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use yard::http::Link;
use yard::server::Server;
use yard::{asked, line, median, ms, pairs, quantile};

const LINES: usize = 1_000_000;
const TEXT: &str = "line %.0f of the log, with some more text to make it eighty bytes long or so";
const RATE: u64 = 10_000;
const SECONDS: u64 = 10;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("print") {
        return print();
    }
    if !yard::wanted() {
        return;
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        yard::title();
        let server = Server::start(&["--runtime", "embedded", "--allow-host-rootfs"]).await;
        server.pipeline("p", &pipeline()).await;
        let server = Arc::new(server);
        if asked("size") {
            size(&server).await;
        }
        if asked("store") {
            store(&server).await;
        }
        if asked("followers") {
            for n in [1, 100] {
                followers(&server, n).await;
            }
        }
        if asked("lag") {
            for (n, form) in [1, 100, 1000].into_iter().flat_map(|n| [(n, Form::Gzip), (n, Form::Plain)]) {
                lag(&server, n, form).await;
            }
        }
    });
}

fn seq() -> String {
    format!("seq -f '{TEXT}' {LINES}")
}

fn pipeline() -> String {
    let me = std::env::current_exe().unwrap();
    let job = |name: &str, path: &str, args: &[&str]| {
        let config =
            serde_json::json!({"platform": "linux", "rootfs_uri": "host:///", "run": {"path": path, "args": args}});
        format!("- {{name: {name}, plan: [{{task: t, config: {config}}}]}}\n")
    };
    let random = "head -c 30000000 /dev/urandom | base64";
    format!(
        "jobs:\n{}{}{}",
        job("lines", "sh", &["-c", &seq()]),
        job("random", "sh", &["-c", random]),
        job("steady", me.to_str().unwrap(), &["print"])
    )
}

/// What the steady job runs: lines that say when they were printed, a tenth of a second's hundredth at a time.
fn print() {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let begin = Instant::now();
    for tick in 0..SECONDS * 1000 {
        let due = Duration::from_millis(tick);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let mut text = String::new();
        for _ in 0..RATE / 1000 {
            text += &format!(
                "@{:020} a line of a steady log, with some more text to make it a hundred bytes long\n",
                now()
            );
        }
        out.write_all(text.as_bytes()).unwrap();
    }
}

/// Nanoseconds, as printer and readers both see them.
#[allow(clippy::disallowed_methods, reason = "two processes compare their moments: only the system's clock is common")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The lines of a log in order, as the events tell it.
fn told(events: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut number = 0;
    for event in std::str::from_utf8(events).unwrap().split("\n\n") {
        let mut fields = event.split('\n');
        let Some(id) = fields.next().and_then(|l| l.strip_prefix("id: ")) else { continue };
        assert_eq!(id.parse::<i64>().unwrap(), number, "events in order, none twice");
        number += 1;
        let Some(data) = fields.nth(1).and_then(|l| l.strip_prefix("data: ")) else { continue };
        let event: serde_json::Value = serde_json::from_str(data).unwrap();
        if event["event"] == "log" {
            text.extend_from_slice(event["data"]["payload"].as_str().unwrap().as_bytes());
        }
    }
    text
}

/// The same lines by the shell alone; a task's terminal ends lines with a carriage return as well.
fn expected() -> Vec<u8> {
    let plain = Command::new("sh").args(["-c", &seq()]).output().unwrap().stdout;
    String::from_utf8(plain).unwrap().replace('\n', "\r\n").into_bytes()
}

/// Bytes stored per byte of log.
async fn size(server: &Server) {
    let raw = expected().len();
    let random = 30_000_000_usize.div_ceil(57) * 77;
    for (job, goal, bytes) in [("lines", "<= 0.03", raw), ("random", "<= 0.8", random)] {
        let before = stored(&server.file("logs.db"));
        let mut link = server.link().await;
        server.build(&mut link, "p", job).await;
        let grown = stored(&server.file("logs.db")) - before;
        line(&format!("stored per byte of {job}"), goal, (grown / bytes as f64, "B"), None, 1);
    }
}

/// Size of a database with what is still in its journal: pages, of which the journal may hold several copies.
fn stored(database: &Path) -> f64 {
    let wal = database.with_extension("db-wal");
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    // The header counts the pages, once the journal's newest copy of the first page is looked at as well.
    let mut pages = page_count(&std::fs::read(database).unwrap_or_default());
    if size(&wal) > 32 {
        let journal = std::fs::read(&wal).unwrap();
        let frames = journal[32..].chunks_exact(24 + 4096);
        // A frame that commits says how many pages the database has then.
        let salt = &journal[16..24];
        let mut commits = frames.filter(|f| &f[8..16] == salt).map(|f| u32::from_be_bytes(f[4..8].try_into().unwrap()));
        pages = commits.rfind(|n| *n > 0).unwrap_or(pages);
    }
    f64::from(pages) * 4096.0
}

fn page_count(file: &[u8]) -> u32 {
    file.get(28..32).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()))
}

/// Lines stored a second, beside the same lines written to a file.
async fn store(server: &Server) {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let mut link = server.link().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let used = server.used();
    for _ in 0..pairs() {
        let begin = Instant::now();
        let build = server.trigger(&mut link, "p", "lines").await;
        finished(server, &mut link, build).await;
        ours.push(LINES as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let mut child = Command::new("sh").args(["-c", &seq()]).stdout(Stdio::piped()).spawn().unwrap();
        std::io::copy(&mut child.stdout.take().unwrap(), &mut file.reopen().unwrap()).unwrap();
        child.wait().unwrap();
        floors.push(LINES as f64 / begin.elapsed().as_secs_f64());
    }
    let n = ours.len();
    line("lines stored a second", ">= 300000 /s", (median(&ours), "/s"), Some(median(&floors)), n);
    println!("  {:.0} ms of the server's processor time a million lines", ms(server.used() - used) / n as f64);
}

/// Waits for the end of a build without reading its log.
async fn finished(server: &Server, link: &mut Link, build: i64) {
    loop {
        let row = link.json("GET", &format!("/api/v1/builds/{build}"), &server.head(), b"").await.unwrap();
        match row["status"].as_str().unwrap() {
            "succeeded" => return,
            "pending" | "started" => tokio::time::sleep(Duration::from_millis(5)).await,
            other => panic!("the build {other}"),
        }
    }
}

/// Every follower gets all lines, in order. The first is read word for word, the others must have got the same bytes.
async fn followers(server: &Arc<Server>, n: usize) {
    let expected = expected();
    let mut link = server.link().await;
    let used = server.used();
    let begin = Instant::now();
    let build = server.trigger(&mut link, "p", "lines").await;
    let reading = (1..n).map(|_| tokio::spawn(summed(server.clone(), build))).collect::<Vec<_>>();
    let events = server.follow(build).await;
    let mut sum = Sum::default();
    sum.add(&events);
    for other in reading {
        assert_eq!(other.await.unwrap(), sum, "every follower gets the same");
    }
    let took = begin.elapsed();
    whole(&told(&events), &expected);
    let rate = LINES as f64 / took.as_secs_f64();
    line(&format!("1,000,000 lines whole and in order at {n}, lines a second"), "", (rate, "/s"), None, 1);
    println!("  {:.1} s of the server's processor time", (server.used() - used).as_secs_f64());
}

/// Ends the benchmark where the log is not what was printed.
fn whole(told: &[u8], expected: &[u8]) {
    if let Some(at) = (0..told.len().max(expected.len())).find(|i| told.get(*i) != expected.get(*i)) {
        let around =
            |text: &[u8]| String::from_utf8_lossy(&text[at.min(text.len())..(at + 200).min(text.len())]).into_owned();
        panic!(
            "the log is wrong from byte {at} of {} on: {:?}, not {:?}",
            expected.len(),
            around(told),
            around(expected)
        );
    }
}

/// Length and a checksum of a stream, however it comes in pieces.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    length: u64,
    value: u64,
    held: Vec<u8>,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let mut bytes = bytes;
        if !self.held.is_empty() {
            let n = (8 - self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.held.len() < 8 {
                return;
            }
            let held = std::mem::take(&mut self.held);
            self.word(&held);
        }
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        words.for_each(|w| self.word(w));
        self.held.extend_from_slice(rest);
    }

    fn word(&mut self, word: &[u8]) {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        self.value = (self.value.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

async fn summed(server: Arc<Server>, build: i64) -> Sum {
    let mut link = server.link().await;
    link.send("GET", &format!("/api/v1/builds/{build}/events"), &server.head(), b"").await.unwrap();
    let (mut sum, mut bytes) = (Sum::default(), Vec::new());
    let mut end: Vec<u8> = Vec::new();
    while link.more(&mut bytes).await.unwrap() {
        sum.add(&bytes);
        end.extend_from_slice(&bytes[bytes.len().saturating_sub(64)..]);
        bytes.clear();
        if end.windows(b"event: end\n".len()).any(|w| w == b"event: end\n") {
            return sum;
        }
        end.drain(..end.len().saturating_sub(32));
    }
    panic!("the events ended without an end");
}

/// How a follower asks for the stream.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    /// As the client and browsers ask.
    Gzip,
}

/// A steady log to many followers: the server's share of a core, and how late the oldest line of each read is.
async fn lag(server: &Arc<Server>, n: usize, form: Form) {
    let mut link = server.link().await;
    let build = server.trigger(&mut link, "p", "steady").await;
    // Unpacking for a thousand would leave the server nothing of this machine: some stand for all.
    let read_by = if form == Form::Gzip { n.div_ceil(100) } else { 1 };
    let reading = (0..n).map(|k| tokio::spawn(late(server.clone(), build, form, k % read_by == 0))).collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (used, begin) = (server.used(), Instant::now());
    tokio::time::sleep(Duration::from_secs(SECONDS - 4)).await;
    let share = 100.0 * (server.used() - used).as_secs_f64() / begin.elapsed().as_secs_f64();
    let mut lags = Vec::new();
    for reader in reading {
        lags.extend(reader.await.unwrap());
    }
    assert!(
        !lags.is_empty(),
        "the step printed nothing: a step must see {}",
        std::env::current_exe().unwrap().display()
    );
    let goal = |text| if n == 1000 { text } else { "" };
    let what = format!("10,000 lines a second to {n}{}", if form == Form::Gzip { " as gzip" } else { "" });
    line(&format!("{what}: share of a core"), goal("<= 70 %"), (share, "%"), None, 1);
    line(&format!("{what}: lag p50"), "", (median(&lags), "ms"), None, lags.len());
    line(&format!("{what}: lag p99"), goal("<= 50 ms"), (quantile(&lags, 0.99), "ms"), None, lags.len());
}

/// How late the oldest line of each read is, in milliseconds, of a follower who reads what comes. What came before all
/// were connected does not count.
async fn late(server: Arc<Server>, build: i64, form: Form, reads: bool) -> Vec<f64> {
    let mut link = server.link().await;
    let asks = if form == Form::Gzip { "Accept-Encoding: gzip\r\n" } else { "" };
    let head = format!("{}{asks}", server.head());
    link.send("GET", &format!("/api/v1/builds/{build}/events"), &head, b"").await.unwrap();
    let (begin, mut lags, mut bytes) = (Instant::now(), Vec::new(), Vec::new());
    let mut gzip = (form == Form::Gzip).then(Gzip::default);
    loop {
        bytes.clear();
        if !link.more(&mut bytes).await.unwrap() {
            return lags;
        }
        // The end is short, so it is readable in either form.
        let last = bytes[bytes.len().saturating_sub(64)..].windows(11).any(|w| w == b"event: end\n");
        if reads {
            if let Some(gzip) = &mut gzip {
                gzip.unpack(&mut bytes);
            }
            let now = now();
            let oldest = bytes.iter().position(|b| *b == b'@').and_then(|at| bytes.get(at + 1..at + 21));
            if let Some(printed) = oldest.and_then(|d| std::str::from_utf8(d).ok()?.parse::<u64>().ok())
                && begin.elapsed() > Duration::from_secs(2)
            {
                lags.push(now.saturating_sub(printed) as f64 / 1e6);
            }
        }
        if last {
            return lags;
        }
    }
}

/// A stream of gzip that comes in pieces.
struct Gzip {
    head: usize,
    stream: flate2::Decompress,
}

impl Default for Gzip {
    fn default() -> Gzip {
        Gzip { head: 10, stream: flate2::Decompress::new(false) }
    }
}

impl Gzip {
    /// What these bytes are.
    fn unpack(&mut self, bytes: &mut Vec<u8>) {
        let head = self.head.min(bytes.len());
        self.head -= head;
        let packed = bytes.split_off(head);
        bytes.clear();
        let begin = self.stream.total_in();
        loop {
            bytes.reserve(64 * 1024);
            let read = usize::try_from(self.stream.total_in() - begin).unwrap();
            self.stream.decompress_vec(&packed[read..], bytes, flate2::FlushDecompress::Sync).unwrap();
            if bytes.len() < bytes.capacity() {
                return;
            }
        }
    }
}
