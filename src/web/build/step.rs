//! One step of a build as the page shows it, and how each event changes it.

use serde_json::Value;

use crate::web::ansi::Screen;
use crate::web::span;

use super::tree::Node;

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Not begun.
    #[default]
    Waiting,
    /// Being prepared or running.
    Running,
    /// Done, well.
    Succeeded,
    /// Done, and said no.
    Failed,
    /// Could not be carried out.
    Errored,
    /// Stopped, or never reached, because the build ended.
    Stopped,
}

impl Progress {
    /// CSS class.
    pub fn class(self) -> &'static str {
        match self {
            Progress::Waiting => "p-waiting",
            Progress::Running => "p-running",
            Progress::Succeeded => "p-succeeded",
            Progress::Failed => "p-failed",
            Progress::Errored => "p-errored",
            Progress::Stopped => "p-stopped",
        }
    }

    /// The word for screen readers and hovering.
    pub fn word(self) -> &'static str {
        match self {
            Progress::Waiting => "not started",
            Progress::Running => "running",
            Progress::Succeeded => "succeeded",
            Progress::Failed => "failed",
            Progress::Errored => "errored",
            Progress::Stopped => "interrupted",
        }
    }

    fn is_final(self) -> bool {
        !matches!(self, Progress::Waiting | Progress::Running)
    }
}

/// A name and a value of a version or its metadata; an address becomes a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

impl Field {
    /// Whether the value is an address a reader may follow; nothing but the web's own two schemes.
    pub fn is_link(&self) -> bool {
        (self.value.starts_with("https://") || self.value.starts_with("http://"))
            && !self.value.chars().any(char::is_whitespace)
    }

    /// The members of an object, values that are not texts as JSON.
    pub fn of_object(value: &Value) -> Vec<Field> {
        let Some(map) = value.as_object() else { return Vec::new() };
        map.iter().map(|(k, v)| Field { name: k.clone(), value: plain(v) }).collect()
    }

    /// Metadata: a list of `{name, value}`.
    pub fn of_list(value: &Value) -> Vec<Field> {
        let Some(list) = value.as_array() else { return Vec::new() };
        list.iter().map(|f| Field { name: plain(&f["name"]), value: plain(&f["value"]) }).collect()
    }
}

/// A text as it is, anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A leaf of the plan (or `across`, whose sub-steps arrive while it runs).
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The plan's id.
    pub id: String,
    /// `get`, `put`, `task`, `set_pipeline`, `load_var`, `check`, `run`, `across`.
    pub kind: &'static str,
    /// Its name in the pipeline.
    pub name: String,
    /// State.
    pub progress: Progress,
    /// Version that was fetched, made or asked for.
    pub version: Vec<Field>,
    /// What the resource says of it.
    pub metadata: Vec<Field>,
    /// Why it errored.
    pub errors: Vec<String>,
    /// What it printed.
    pub screen: Screen,
    /// Fetching of its image, or the combinations of `across`.
    pub nested: Vec<Node>,
    /// Exit status of a task that failed.
    pub exit: Option<i64>,
    /// Where it runs.
    pub worker: Option<String>,
    /// What it waits for before it can run.
    pub waiting_for: Option<&'static str>,
    /// `set_pipeline` changed something.
    pub changed: bool,
    pub(super) initialized: Option<i64>,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    /// The head or the facts changed since the page last looked.
    pub(super) dirty: bool,
    /// Number of the last line that the page has.
    pub(super) told: usize,
}

impl Step {
    /// The id of its element and of its lines, which links name.
    pub fn anchor(&self) -> String {
        format!("step-{}", self.id)
    }

    /// How long it took.
    pub fn duration(&self) -> Option<String> {
        let (from, to) = (self.initialized.or(self.started)?, self.ended?);
        Some(span::span((to - from) * 1000))
    }

    /// Preparation and run apart, for whoever hovers over the duration.
    pub fn timing(&self) -> String {
        match (self.initialized, self.started, self.ended) {
            (Some(i), Some(s), Some(e)) => {
                format!("prepared in {}, ran for {}", span::span((s - i) * 1000), span::span((e - s) * 1000))
            }
            _ => String::new(),
        }
    }

    /// Whether it starts unfolded: where something happens, went wrong, or a task has something to say.
    pub fn open(&self) -> bool {
        match self.progress {
            Progress::Running | Progress::Failed | Progress::Errored => true,
            Progress::Waiting => false,
            Progress::Succeeded | Progress::Stopped => self.kind == "task" && !self.screen.is_empty(),
        }
    }

    /// The sign before its name.
    pub fn icon(&self) -> &'static str {
        match self.kind {
            "get" => "get",
            "put" => "put",
            "set_pipeline" => "pipeline",
            "load_var" => "variable",
            "check" => "check",
            "across" => "across",
            _ => "task",
        }
    }

    /// Applies an event that names this step.
    pub(super) fn apply(&mut self, event: &str, data: &Value) {
        let time = data["time"].as_i64().unwrap_or(0);
        match event {
            "log" => {
                self.screen.feed(data["payload"].as_str().unwrap_or(""), time);
                return;
            }
            "error" => {
                self.errors.push(data["message"].as_str().unwrap_or("").trim_end().to_owned());
                let message = data["message"].as_str().unwrap_or("");
                self.end(if message == "interrupted" { Progress::Stopped } else { Progress::Errored }, time);
            }
            "waiting-for-worker" => self.waiting_for = Some("waiting for a worker with room"),
            "waiting-for-streamed-volume" => self.waiting_for = Some("waiting for another step's copy of an input"),
            "streaming-volume" => self.waiting_for = Some("copying an input from another worker"),
            "selected-worker" => {
                self.waiting_for = None;
                self.worker = data["selected_worker"].as_str().map(str::to_owned);
            }
            "set-pipeline-changed" => self.changed = data["changed"].as_bool().unwrap_or(false),
            "finish" => self.end(verdict(data["succeeded"].as_bool().unwrap_or(false)), time),
            e if e.starts_with("initialize") => {
                self.initialized.get_or_insert(time);
                self.begin();
            }
            e if e.starts_with("start") => {
                self.started.get_or_insert(time);
                self.waiting_for = None;
                self.begin();
            }
            e if e.starts_with("finish-") => self.finish(data, time),
            _ => return,
        }
        self.dirty = true;
    }

    fn begin(&mut self) {
        if !self.progress.is_final() {
            self.progress = Progress::Running;
        }
    }

    fn finish(&mut self, data: &Value, time: i64) {
        let exit = data["exit_status"].as_i64().unwrap_or(0);
        self.exit = (exit != 0).then_some(exit);
        if data["version"].is_object() {
            self.version = Field::of_object(&data["version"]);
            self.metadata = Field::of_list(&data["metadata"]);
        }
        self.end(verdict(exit == 0), time);
    }

    fn end(&mut self, progress: Progress, time: i64) {
        self.progress = progress;
        self.ended = Some(time);
        self.waiting_for = None;
    }

    /// The build is over: what has not ended will not.
    pub(super) fn settle(&mut self, time: i64) {
        if self.progress == Progress::Running {
            self.end(Progress::Stopped, time);
            self.dirty = true;
        }
    }
}

fn verdict(well: bool) -> Progress {
    if well { Progress::Succeeded } else { Progress::Failed }
}
