//! What a build tells while it runs: events with the names, versions and member order that `fly` expects.
//!
//! Source: `atc/event/events.go`, and the recorded streams, byte for byte.

mod utf8;

use serde::Serialize;
use serde_json::Value;

pub use utf8::Utf8Chunks;

use crate::base::secret::Redactor;
use crate::base::stream::Stream;
use crate::base::version::{MetadataField, Version};

/// Where an event comes from: a step of the plan, and for logs which pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The plan's id.
    pub id: String,
    /// `stdout` or `stderr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Stream>,
}

impl Origin {
    /// The step itself.
    pub fn step(id: impl Into<String>) -> Self {
        Origin { id: id.into(), source: None }
    }
}

/// What a task event shows of the task's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TaskShown {
    /// `linux`, or empty before the configuration is known.
    pub platform: String,
    /// Always empty since images are plans of their own.
    pub image: String,
    /// The command.
    pub run: RunShown,
    /// The inputs, or null.
    pub inputs: Option<Vec<InputShown>>,
}

/// The command of a task event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunShown {
    /// Program.
    pub path: String,
    /// Arguments, or null.
    pub args: Option<Vec<String>>,
    /// Working directory as configured.
    pub dir: String,
}

/// An input of a task event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputShown {
    /// Name of the artifact's place.
    pub name: String,
    /// Path as configured.
    pub path: String,
}

/// Metadata without any secret.
pub fn without(metadata: Vec<MetadataField>, redactor: &Redactor) -> Vec<MetadataField> {
    let hide = |text: &str| redactor.redact(text);
    metadata.into_iter().map(|f| MetadataField { name: hide(&f.name), value: hide(&f.value) }).collect()
}

/// Something that happened, without its time.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The build's status changed. Rendered from the build's row, never stored in the log.
    Status(&'static str),
    /// Output of a step.
    Log(String),
    /// A step errored, with the text people read.
    Error(String),
    /// A task begins: its configuration is not known yet.
    InitializeTask,
    /// The task's process starts.
    StartTask(TaskShown),
    /// The task's process ended.
    FinishTask { exit_status: i32 },
    /// A get begins.
    InitializeGet,
    /// Its script starts.
    StartGet,
    /// It ended; the version is null where it failed.
    FinishGet { exit_status: i32, version: Option<Version>, metadata: Vec<MetadataField> },
    /// A put begins.
    InitializePut,
    /// Its script starts.
    StartPut,
    /// It ended.
    FinishPut { exit_status: i32, version: Option<Version>, metadata: Vec<MetadataField> },
    /// A check begins.
    InitializeCheck { name: String },
    /// Any other step begins.
    Initialize,
    /// Any other step starts.
    Start,
    /// Any other step ended.
    Finish { succeeded: bool },
    /// The steps that an `across` runs: their public plans and values.
    AcrossSubsteps(Value),
    /// Whether a `set_pipeline` changed anything.
    SetPipelineChanged(bool),
    /// The image of a step is checked: its public plan.
    ImageCheck(Value),
    /// The image of a step is fetched: its public plan.
    ImageGet(Value),
    /// No worker can take the step yet.
    WaitingForWorker,
    /// This worker takes it.
    SelectedWorker(String),
}

impl Event {
    /// The same without any secret: versions are left, everything else that a pipeline or a script has written is not.
    #[must_use]
    pub fn without(self, redactor: &Redactor) -> Event {
        if redactor.is_empty() {
            return self;
        }
        let hide = |text: String| redactor.redact(&text);
        let hidden = |metadata: Vec<MetadataField>| without(metadata, redactor);
        let json = |mut value: Value| {
            redactor.redact_json(&mut value);
            value
        };
        match self {
            Event::Log(text) => Event::Log(hide(text)),
            Event::Error(text) => Event::Error(hide(text)),
            Event::StartTask(shown) => Event::StartTask(TaskShown {
                run: RunShown {
                    path: hide(shown.run.path),
                    args: shown.run.args.map(|args| args.into_iter().map(hide).collect()),
                    dir: hide(shown.run.dir),
                },
                ..shown
            }),
            Event::FinishGet { exit_status, version, metadata } => {
                Event::FinishGet { exit_status, version, metadata: hidden(metadata) }
            }
            Event::FinishPut { exit_status, version, metadata } => {
                Event::FinishPut { exit_status, version, metadata: hidden(metadata) }
            }
            Event::ImageCheck(plan) => Event::ImageCheck(json(plan)),
            Event::ImageGet(plan) => Event::ImageGet(json(plan)),
            other => other,
        }
    }

    /// Name on the wire.
    pub fn name(&self) -> &'static str {
        self.kind().0
    }

    /// Name and version on the wire.
    fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Event::Status(_) => ("status", "1.0"),
            Event::Log(_) => ("log", "5.1"),
            Event::Error(_) => ("error", "4.1"),
            Event::InitializeTask => ("initialize-task", "4.0"),
            Event::StartTask(_) => ("start-task", "5.0"),
            Event::FinishTask { .. } => ("finish-task", "4.0"),
            Event::InitializeGet => ("initialize-get", "2.0"),
            Event::StartGet => ("start-get", "1.0"),
            Event::FinishGet { .. } => ("finish-get", "5.1"),
            Event::InitializePut => ("initialize-put", "2.0"),
            Event::StartPut => ("start-put", "1.0"),
            Event::FinishPut { .. } => ("finish-put", "5.1"),
            Event::InitializeCheck { .. } => ("initialize-check", "1.0"),
            Event::Initialize => ("initialize", "1.0"),
            Event::Start => ("start", "1.0"),
            Event::Finish { .. } => ("finish", "1.0"),
            Event::AcrossSubsteps(_) => ("across-substeps", "1.0"),
            Event::SetPipelineChanged(_) => ("set-pipeline-changed", "1.0"),
            Event::ImageCheck(_) => ("image-check", "1.1"),
            Event::ImageGet(_) => ("image-get", "1.1"),
            Event::WaitingForWorker => ("waiting-for-worker", "1.0"),
            Event::SelectedWorker(_) => ("selected-worker", "1.0"),
        }
    }

    /// The JSON that followers get. `time` is unix seconds, `number` counts from 0 within the build.
    pub fn to_wire(&self, origin: &Origin, time: i64, number: i64) -> String {
        let (name, version) = self.kind();
        let data = self.data(origin, time);
        format!(r#"{{"data":{data},"event":"{name}","version":"{version}","event_id":"{number}"}}"#)
    }

    /// The `data` member. Orders differ from event to event, as Concourse's structs do.
    fn data(&self, origin: &Origin, time: i64) -> String {
        #[derive(Serialize)]
        struct Head<'a, T> {
            origin: &'a Origin,
            time: i64,
            #[serde(flatten)]
            rest: T,
        }
        #[derive(Serialize)]
        struct TimeFirst<'a, T> {
            time: i64,
            origin: &'a Origin,
            #[serde(flatten)]
            rest: T,
        }
        #[derive(Serialize)]
        struct None {}
        let head = |rest: Value| to_text(&Head { origin, time, rest });
        let time_first = |rest: Value| to_text(&TimeFirst { time, origin, rest });
        match self {
            Event::Status(status) => to_text(&serde_json::json!({"status": status, "time": time})),
            Event::Log(payload) => {
                #[derive(Serialize)]
                struct Log<'a> {
                    time: i64,
                    origin: &'a Origin,
                    payload: &'a str,
                }
                to_text(&Log { time, origin, payload })
            }
            Event::Error(message) => to_text(&serde_json::json!({"message": message, "origin": origin, "time": time})),
            Event::InitializeTask => time_first(serde_json::json!({"config": TaskShown::default()})),
            Event::StartTask(config) => time_first(serde_json::json!({"config": config})),
            Event::FinishTask { exit_status } => {
                to_text(&serde_json::json!({"time": time, "exit_status": exit_status, "origin": origin}))
            }
            Event::Initialize
            | Event::Start
            | Event::InitializeGet
            | Event::StartGet
            | Event::InitializePut
            | Event::StartPut => to_text(&Head { origin, time, rest: None {} }),
            Event::FinishGet { exit_status, version, metadata }
            | Event::FinishPut { exit_status, version, metadata } => {
                let mut rest = serde_json::json!({"exit_status": exit_status, "version": version});
                if !metadata.is_empty() {
                    rest["metadata"] = serde_json::json!(metadata);
                }
                head(rest)
            }
            Event::InitializeCheck { name } => head(serde_json::json!({"name": name})),
            Event::WaitingForWorker => to_text(&TimeFirst { time, origin, rest: None {} }),
            Event::Finish { succeeded } => head(serde_json::json!({"succeeded": succeeded})),
            Event::AcrossSubsteps(substeps) => time_first(serde_json::json!({"substeps": substeps})),
            Event::SetPipelineChanged(changed) => to_text(&serde_json::json!({"origin": origin, "changed": changed})),
            Event::ImageCheck(plan) | Event::ImageGet(plan) => time_first(serde_json::json!({"plan": plan})),
            Event::SelectedWorker(name) => time_first(serde_json::json!({"selected_worker": name})),
        }
    }
}

/// JSON as Go writes it: `<`, `>` and `&` escaped, so that it may stand in HTML.
fn to_text<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"));
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_the_order_clients_have_recorded() {
        let step = Origin::step("6b");
        let cases = [
            (
                Event::InitializeGet,
                r#"{"data":{"origin":{"id":"6b"},"time":5},"event":"initialize-get","version":"2.0","event_id":"1"}"#,
            ),
            (
                Event::FinishGet { exit_status: 1, version: None, metadata: vec![] },
                r#"{"data":{"origin":{"id":"6b"},"time":5,"exit_status":1,"version":null},"event":"finish-get","version":"5.1","event_id":"1"}"#,
            ),
            (
                Event::InitializeTask,
                r#"{"data":{"time":5,"origin":{"id":"6b"},"config":{"platform":"","image":"","run":{"path":"","args":null,"dir":""},"inputs":null}},"event":"initialize-task","version":"4.0","event_id":"1"}"#,
            ),
            (
                Event::FinishTask { exit_status: 0 },
                r#"{"data":{"time":5,"exit_status":0,"origin":{"id":"6b"}},"event":"finish-task","version":"4.0","event_id":"1"}"#,
            ),
            (
                Event::Initialize,
                r#"{"data":{"origin":{"id":"6b"},"time":5},"event":"initialize","version":"1.0","event_id":"1"}"#,
            ),
            (
                Event::Finish { succeeded: true },
                r#"{"data":{"origin":{"id":"6b"},"time":5,"succeeded":true},"event":"finish","version":"1.0","event_id":"1"}"#,
            ),
            (
                Event::SetPipelineChanged(true),
                r#"{"data":{"origin":{"id":"6b"},"changed":true},"event":"set-pipeline-changed","version":"1.0","event_id":"1"}"#,
            ),
            (
                Event::AcrossSubsteps(serde_json::json!([{"step": {"id": "6b/0/0"}, "values": [1]}])),
                r#"{"data":{"time":5,"origin":{"id":"6b"},"substeps":[{"step":{"id":"6b/0/0"},"values":[1]}]},"event":"across-substeps","version":"1.0","event_id":"1"}"#,
            ),
            (
                Event::Error("a > b".into()),
                r#"{"data":{"message":"a \u003e b","origin":{"id":"6b"},"time":5},"event":"error","version":"4.1","event_id":"1"}"#,
            ),
            (
                Event::SelectedWorker("w1".into()),
                r#"{"data":{"time":5,"origin":{"id":"6b"},"selected_worker":"w1"},"event":"selected-worker","version":"1.0","event_id":"1"}"#,
            ),
        ];
        for (event, wire) in cases {
            assert_eq!(event.to_wire(&step, 5, 1), wire);
        }
        let log = Origin { id: "6b".into(), source: Some(Stream::Stderr) };
        assert_eq!(
            Event::Log("\u{1b}[36mx\n".into()).to_wire(&log, 5, 7),
            r#"{"data":{"time":5,"origin":{"id":"6b","source":"stderr"},"payload":"\u001b[36mx\n"},"event":"log","version":"5.1","event_id":"7"}"#
        );
        assert_eq!(
            Event::Status("started").to_wire(&step, 5, 0),
            r#"{"data":{"status":"started","time":5},"event":"status","version":"1.0","event_id":"0"}"#
        );
    }
}
