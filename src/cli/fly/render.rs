//! Events as text, and the exit code a build ends with.

use serde::Deserialize;
use serde_json::Value;

use super::client::Client;
use super::console::{Console, Style};
use super::failure::Outcome;
use super::stream::{Events, Frame};

/// The events we know and the versions we read them in.
const KNOWN: [(&str, &str); 24] = [
    ("log", "5.1"),
    ("status", "1.0"),
    ("error", "4.1"),
    ("initialize-task", "4.0"),
    ("start-task", "5.0"),
    ("finish-task", "4.0"),
    ("initialize-get", "2.0"),
    ("start-get", "1.0"),
    ("finish-get", "5.1"),
    ("initialize-put", "2.0"),
    ("start-put", "1.0"),
    ("finish-put", "5.1"),
    ("initialize-check", "1.0"),
    ("initialize", "1.0"),
    ("start", "1.0"),
    ("finish", "1.0"),
    ("set-pipeline-changed", "1.0"),
    ("image-check", "1.1"),
    ("image-get", "1.1"),
    ("across-substeps", "1.0"),
    ("waiting-for-worker", "1.0"),
    ("selected-worker", "1.0"),
    ("streaming-volume", "1.0"),
    ("waiting-for-streamed-volume", "1.0"),
];

/// What can be asked of the printing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether each line starts with its time.
    pub timestamps: bool,
    /// Whether events we do not know are passed over.
    pub ignore_unknown: bool,
}

/// Prints the events of build `id` until it ends; the outcome is the exit code.
pub async fn follow(client: &Client, console: Console, id: i64, options: Options) -> Outcome {
    let mut events = Events::open(client, id).await?;
    let mut renderer = Renderer::new(console, options);
    loop {
        let frame = events.next().await?;
        let step = renderer.take(&frame);
        console.print(renderer.drain())?;
        if let Some(code) = step {
            return Ok(code);
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    event: String,
    version: String,
    data: Value,
}

/// Collects the text of events.
struct Renderer {
    console: Console,
    options: Options,
    zone: jiff::tz::TimeZone,
    exit: i32,
    stamp: String,
    line_start: bool,
    out: String,
}

impl Renderer {
    fn new(console: Console, options: Options) -> Self {
        let zone = jiff::tz::TimeZone::system();
        Renderer { console, options, zone, exit: 0, stamp: " ".repeat(10), line_start: true, out: String::new() }
    }

    fn drain(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// Prints one frame; the exit code once the build has ended.
    fn take(&mut self, frame: &Frame) -> Option<i32> {
        match frame.name.as_str() {
            "end" => return Some(self.exit),
            "event" => {}
            name => return self.give_up(&format!("unknown event name: {name}")),
        }
        let envelope: Envelope = match serde_json::from_str(&frame.data) {
            Ok(envelope) => envelope,
            Err(e) => return self.give_up(&e.to_string()),
        };
        match unknown(&envelope) {
            Some(_) if self.options.ignore_unknown => None,
            Some(reason) => self.give_up(&reason),
            None => self.event(&envelope.event, &envelope.data),
        }
    }

    fn event(&mut self, event: &str, data: &Value) -> Option<i32> {
        let text = |key: &str| data[key].as_str().unwrap_or_default();
        let line = match event {
            "log" => text("payload").to_owned(),
            "waiting-for-worker" => "\x1b[1mno suitable workers found, waiting for worker...\x1b[0m\n".to_owned(),
            "selected-worker" => format!("\x1b[1mselected worker:\x1b[0m {}\n", text("selected_worker")),
            "streaming-volume" => format!(
                "\x1b[1mstreaming volume\x1b[0m {} \x1b[1mfrom worker\x1b[0m {}\n",
                text("volume"),
                text("source_worker")
            ),
            "waiting-for-streamed-volume" => format!(
                "\x1b[1mwaiting for volume\x1b[0m {} \x1b[1mto be streamed by another step\x1b[0m\n",
                text("volume")
            ),
            "initialize-check" => format!("\x1b[1minitializing check:\x1b[0m {}\n", text("name")),
            "initialize-task" => "\x1b[1minitializing\x1b[0m\n".to_owned(),
            "start-task" => format!("\x1b[1mrunning {}\x1b[0m\n", command_line(&data["config"]["run"])),
            "finish-task" => {
                self.exit = data["exit_status"].as_i64().and_then(|c| i32::try_from(c).ok()).unwrap_or(255);
                return None;
            }
            "error" => {
                self.at(0);
                self.write(&format!("{}\n", self.console.paint(Style::BoldRed, text("message"))));
                return None;
            }
            "status" => return self.status(text("status"), data["time"].as_i64().unwrap_or(0)),
            _ => return None,
        };
        self.at(data["time"].as_i64().unwrap_or(0));
        self.write(&line);
        None
    }

    fn status(&mut self, status: &str, time: i64) -> Option<i32> {
        self.at(time);
        let code = match status {
            "started" => return None,
            "succeeded" => 0,
            "failed" => 1,
            "errored" => 2,
            "aborted" => 3,
            other => {
                self.write(&format!("unknown status: {other}"));
                return Some(255);
            }
        };
        if self.exit == 0 {
            self.exit = code;
        }
        self.write(&format!("{}\n", self.console.paint(Style::of_status(status), status)));
        Some(self.exit)
    }

    fn give_up(&mut self, reason: &str) -> Option<i32> {
        self.at(0);
        self.write(&format!("failed to parse next event: {}\n", self.console.paint(Style::BoldRed, reason)));
        Some(255)
    }

    /// Sets the time shown at the start of the following lines; 0 is none.
    fn at(&mut self, unix: i64) {
        if !self.options.timestamps {
            return;
        }
        self.stamp = match jiff::Timestamp::from_second(unix) {
            Ok(at) if unix != 0 => at.to_zoned(self.zone.clone()).strftime("%H:%M:%S  ").to_string(),
            _ => " ".repeat(10),
        };
    }

    fn write(&mut self, text: &str) {
        if !self.options.timestamps {
            self.out.push_str(text);
            return;
        }
        for line in text.split_inclusive('\n') {
            if self.line_start {
                self.out.push_str(&self.stamp);
            }
            self.out.push_str(line);
            self.line_start = line.ends_with('\n');
        }
    }
}

/// Why an event cannot be read, if so: versions may differ after the dot.
fn unknown(envelope: &Envelope) -> Option<String> {
    let Some((_, version)) = KNOWN.iter().find(|(name, _)| *name == envelope.event) else {
        return Some(format!("unknown event type: {}", envelope.event));
    };
    let major = |v: &str| v.split('.').next().map(str::to_owned);
    (major(version) != major(&envelope.version)).then(|| {
        let (event, given) = (&envelope.event, &envelope.version);
        format!("unknown event version: {event} version {given} (supported versions: {version})")
    })
}

fn command_line(run: &Value) -> String {
    let args = run["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
    run["path"].as_str().into_iter().chain(args).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn play(events: &[(&str, &str, Value)], options: Options) -> (String, Option<i32>) {
        let mut renderer = Renderer::new(Console::plain(), options);
        renderer.zone = jiff::tz::TimeZone::UTC;
        let mut code = None;
        for (event, version, data) in events {
            let data = json!({"event": event, "version": version, "data": data, "event_id": "0"}).to_string();
            code = renderer.take(&Frame { name: "event".into(), id: None, data });
        }
        (renderer.drain(), code)
    }

    #[test]
    fn a_failing_task_gives_its_own_exit_code() {
        let events = [
            ("status", "1.0", json!({"status": "started", "time": 1})),
            ("initialize-task", "4.0", json!({"time": 1})),
            ("selected-worker", "1.0", json!({"selected_worker": "w1", "time": 1})),
            ("start-task", "5.0", json!({"time": 1, "config": {"run": {"path": "sh", "args": ["-c", "exit 4"]}}})),
            ("log", "5.1", json!({"payload": "no\r\n", "time": 1})),
            ("finish-task", "4.0", json!({"exit_status": 4, "time": 2})),
            ("status", "1.0", json!({"status": "failed", "time": 2})),
        ];
        let text = "\x1b[1minitializing\x1b[0m\n\x1b[1mselected worker:\x1b[0m w1\n\x1b[1mrunning sh -c exit 4\x1b[0m\nno\r\nfailed\n";
        assert_eq!(play(&events, Options::default()), (text.to_owned(), Some(4)));
    }

    #[test]
    fn every_end_has_its_code() {
        for (status, code) in [("succeeded", 0), ("failed", 1), ("errored", 2), ("aborted", 3)] {
            let end = [("status", "1.0", json!({"status": status, "time": 1}))];
            assert_eq!(play(&end, Options::default()), (format!("{status}\n"), Some(code)));
        }
        let odd = [("status", "1.0", json!({"status": "odd"}))];
        assert_eq!(play(&odd, Options::default()), ("unknown status: odd".to_owned(), Some(255)));
    }

    #[test]
    fn timestamps_stand_at_line_starts_only() {
        let events = [
            ("log", "5.1", json!({"payload": "a", "time": 86399})),
            ("log", "5.1", json!({"payload": "b\nc\n", "time": 86399})),
            ("error", "4.1", json!({"message": "bad"})),
        ];
        let options = Options { timestamps: true, ..Options::default() };
        assert_eq!(play(&events, options).0, "23:59:59  ab\n23:59:59  c\n          bad\n");
    }

    #[test]
    fn what_is_not_known_ends_it_unless_ignored() {
        let events = [("log", "6.0", json!({"payload": "a"}))];
        let text = "failed to parse next event: unknown event version: log version 6.0 (supported versions: 5.1)\n";
        assert_eq!(play(&events, Options::default()), (text.to_owned(), Some(255)));
        let options = Options { ignore_unknown: true, ..Options::default() };
        assert_eq!(play(&events, options), (String::new(), None));
        assert_eq!(play(&[("log", "5.9", json!({"payload": "a"}))], Options::default()), ("a".to_owned(), None));
    }
}
