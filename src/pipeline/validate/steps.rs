//! The steps of a job, with the path by which Concourse names each.

use std::collections::BTreeSet;

use super::Findings;
use super::names::Names;
use crate::base::duration::nanos;
use crate::pipeline::problem::{Problem, Section, Warning};
use crate::pipeline::yaml::value::Segment;
use crate::pipeline::{
    Across, Core, Get, InParallel, Job, LoadVar, MaxInFlight, Put, Run, SetPipeline, Step, TaskStep, identifier, quote,
};

/// A walk over the plan of one job.
pub(super) struct Walk<'a> {
    names: &'a Names<'a>,
    findings: &'a mut Findings,
    /// Concourse's path, a part each.
    context: Vec<String>,
    /// The same place in the file.
    at: Vec<Segment>,
    gets: BTreeSet<String>,
    scopes: Vec<BTreeSet<String>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(names: &'a Names<'a>, findings: &'a mut Findings, job: String, at: Vec<Segment>) -> Self {
        let context = vec![job, ".plan".to_owned()];
        Walk { names, findings, context, at, gets: BTreeSet::new(), scopes: vec![BTreeSet::new()] }
    }

    /// Walks the plan, then the job's hooks.
    pub(super) fn job(&mut self, job: &Job) {
        self.within(".do", Some(Segment::Key("plan".into())), |walk| walk.list(&job.plan, ""));
        let hooks = [&job.on_success, &job.on_failure, &job.on_abort, &job.on_error, &job.ensure];
        for (key, hook) in HOOKS.iter().zip(hooks) {
            self.hook(key, hook.as_ref());
        }
    }

    fn within<T>(&mut self, part: impl Into<String>, at: Option<Segment>, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.context.push(part.into());
        let depth = self.at.len();
        self.at.extend(at);
        let result = walk(self);
        self.at.truncate(depth);
        self.context.pop();
        result
    }

    fn list(&mut self, steps: &[Step], prefix: &str) {
        for (i, step) in steps.iter().enumerate() {
            self.within(format!("{prefix}[{i}]"), Some(Segment::Index(i)), |walk| walk.step(step));
        }
    }

    fn hook(&mut self, key: &'static str, hook: Option<&Step>) {
        if let Some(step) = hook {
            self.within(format!(".{key}"), Some(Segment::Key(key.into())), |walk| walk.step(step));
        }
    }

    fn annotated(&self, message: &str) -> String {
        format!("{}: {message}", self.context.concat())
    }

    fn refuse(&mut self, key: &str, message: impl AsRef<str>, remedy: Option<&str>) {
        let mut at = self.at.clone();
        if !key.is_empty() {
            at.push(Segment::Key(key.to_owned()));
        }
        let mut problem = Problem::new(Section::Jobs, &at, self.annotated(message.as_ref()));
        problem.remedy = remedy.map(str::to_owned);
        self.findings.refuse(problem);
    }

    fn warn(&mut self, kind: &str, message: &str) {
        let message = self.annotated(message);
        self.findings.warnings.push(Warning::new(kind, message));
    }

    /// Judges the name of a step; an odd one is only a warning, but for messages to prototypes.
    fn name(&mut self, name: &str, key: &str, odd_is_wrong: bool) {
        match identifier::judge(name, &self.context) {
            identifier::Verdict::Fine => {}
            identifier::Verdict::Odd(warning) if odd_is_wrong => self.refuse(key, warning.message, None),
            identifier::Verdict::Odd(warning) => self.findings.warnings.push(warning),
            identifier::Verdict::Empty(message) => self.refuse(key, message, Some("give it a name")),
        }
    }

    fn step(&mut self, step: &Step) {
        if let Some(first) = step.unknown.keys().next() {
            let names: Vec<_> = step.unknown.keys().map(|key| quote::ascii(key)).collect();
            let remedy = "take them out, or move them to the step they belong to";
            self.refuse(first, format!("unknown fields [{}]", names.join(" ")), Some(remedy));
        }
        match &step.across {
            Some(across) => self.within(".across", None, |walk| {
                walk.scopes.push(BTreeSet::new());
                walk.across(across);
                walk.inner(step);
                walk.scopes.pop();
            }),
            None => self.inner(step),
        }
        let hooks = [&step.on_success, &step.on_failure, &step.on_abort, &step.on_error, &step.ensure];
        for (key, hook) in HOOKS.iter().zip(hooks) {
            self.hook(key, hook.as_deref());
        }
    }

    fn inner(&mut self, step: &Step) {
        match &step.core {
            Core::Get(get) => self.within(format!(".get({})", get.name), None, |walk| walk.get(get)),
            Core::Put(put) => self.within(format!(".put({})", put.name), None, |walk| walk.put(put)),
            Core::Task(task) => self.within(format!(".task({})", task.name), None, |walk| walk.task(task)),
            Core::Run(run) => self.within(format!(".run({}.{})", run.kind, run.message), None, |walk| walk.run(run)),
            Core::SetPipeline(set) => {
                self.within(format!(".set_pipeline({})", set.name), None, |walk| walk.set_pipeline(set));
            }
            Core::LoadVar(load) => {
                self.within(format!(".load_var({})", load.name), None, |walk| walk.load_var(load));
            }
            Core::Try(tried) => self.within(".try", Some(Segment::Key("try".into())), |walk| walk.step(tried)),
            Core::Do { steps, .. } => {
                self.within(".do", Some(Segment::Key("do".into())), |walk| walk.list(steps, ""));
            }
            Core::InParallel(parallel) => self.in_parallel(parallel),
        }
        if let Some(timeout) = &step.timeout
            && nanos(timeout).is_err()
        {
            let message = format!("invalid duration '{timeout}'");
            self.within(".timeout", None, |walk| walk.refuse("timeout", message, Some("write it like `1h30m`")));
        }
        if step.attempts.is_some_and(|attempts| attempts <= 0) {
            self.within(".attempts", None, |walk| walk.refuse("attempts", "must be greater than 0", None));
        }
    }

    fn in_parallel(&mut self, parallel: &InParallel) {
        self.within(".in_parallel", Some(Segment::Key("in_parallel".into())), |walk| {
            walk.at.push(Segment::Key("steps".into()));
            walk.list(&parallel.steps, ".steps");
        });
    }

    fn across(&mut self, across: &Across) {
        if across.vars.is_empty() {
            self.refuse("across", "no vars specified", Some("add `{var: …, values: […]}`"));
        }
        self.at.push(Segment::Key("across".into()));
        for (i, var) in across.vars.iter().enumerate() {
            self.within(format!("[{i}]"), Some(Segment::Index(i)), |walk| {
                walk.declare(&var.var, "var");
                if matches!(var.max_in_flight, Some(MaxInFlight::Limit(limit)) if limit <= 0) {
                    walk.within(".max_in_flight", None, |walk| {
                        walk.refuse("max_in_flight", "must be greater than 0", Some("or write `all`"));
                    });
                }
            });
        }
        self.at.pop();
    }

    fn declare(&mut self, name: &str, key: &str) {
        let repeated = self.scopes.last().is_some_and(|scope| scope.contains(name));
        if repeated {
            self.refuse(key, "repeated var name", Some("rename one of them"));
        } else if self.scopes.iter().any(|scope| scope.contains(name)) {
            self.warn("var_shadowed", &format!("shadows local var '{name}'"));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned());
        }
    }

    fn resource(&mut self, name: &str, key: &str) {
        if !self.names.resource(name) {
            let remedy = "add it under `resources:`, or correct the name";
            self.refuse(key, format!("unknown resource '{name}'"), Some(remedy));
        }
    }

    fn get(&mut self, get: &Get) {
        self.name(&get.name, "get", false);
        if !self.gets.insert(get.name.clone()) {
            let remedy = "give one of them another name and say `resource:`";
            self.refuse("get", "repeated name", Some(remedy));
        }
        let resource = get.resource_name();
        self.resource(resource, if get.resource.is_empty() { "get" } else { "resource" });
        self.within(".passed", None, |walk| {
            for pattern in &get.passed {
                walk.passed(pattern, resource);
            }
        });
    }

    fn passed(&mut self, pattern: &str, resource: &str) {
        if self.names.exhausted() {
            return;
        }
        let jobs = self.names.passed(pattern);
        for &job in jobs.iter().filter(|job| !self.names.uses(**job, resource)) {
            let message = format!("job '{}' does not interact with resource '{resource}'", self.names.job(job));
            self.refuse("passed", message, Some("get or put the resource there, or take the job out"));
        }
        if jobs.is_empty() {
            let message = format!("no matching job(s) for '{pattern}'");
            self.refuse("passed", message, Some("add such a job, or correct the name"));
        }
    }

    fn put(&mut self, put: &Put) {
        self.name(&put.name, "put", false);
        self.resource(put.resource_name(), if put.resource.is_empty() { "put" } else { "resource" });
    }

    fn task(&mut self, task: &TaskStep) {
        self.name(&task.name, "task", false);
        match (&task.config, task.file.is_empty()) {
            (None, true) => self.refuse("task", "must specify either `file:` or `config:`", None),
            (Some(_), false) => self.refuse("file", "must specify one of `file:` or `config:`, not both", None),
            _ => {}
        }
        if let Some(config) = &task.config
            && !task.image.is_empty()
            && (!config.rootfs_uri.is_empty() || config.image_resource.is_some())
        {
            let message = "specifies image: on the step but also specifies an image under config: - \
                           the image: on the step takes precedence";
            self.warn("pipeline", message);
        }
        if task.hermetic {
            self.warn("pipeline", "specifies `hermetic:` only works against worker containerd runtime");
        }
        let Some(config) = &task.config else { return };
        self.within(".config", Some(Segment::Key("config".into())), |walk| {
            if let Some(first) = config.unknown.keys().next() {
                let names: Vec<_> = config.unknown.keys().map(|key| quote::ascii(key)).collect();
                walk.refuse(first, format!("unknown fields [{}]", names.join(" ")), Some("take them out"));
            }
            for message in config.shortcomings() {
                let remedy = (message == "missing 'platform'").then_some("add `platform: linux`");
                walk.refuse("", message, remedy);
            }
        });
    }

    fn run(&mut self, run: &Run) {
        self.name(&run.message, "run", true);
        if !self.names.prototype(&run.kind) {
            let message = format!("unknown prototype '{}'", run.kind);
            self.refuse("type", message, Some("add it under `prototypes:`"));
        }
    }

    fn set_pipeline(&mut self, set: &SetPipeline) {
        self.name(&set.name, "set_pipeline", false);
        if set.file.is_empty() {
            self.refuse("set_pipeline", "no file specified", Some("add `file: artifact/pipeline.yml`"));
        }
    }

    fn load_var(&mut self, load: &LoadVar) {
        self.name(&load.name, "load_var", false);
        self.declare(&load.name, "load_var");
        if load.file.is_empty() {
            self.refuse("load_var", "no file specified", Some("add `file: artifact/path`"));
        }
    }
}

/// The hooks' keys from the inside out.
const HOOKS: [&str; 5] = ["on_success", "on_failure", "on_abort", "on_error", "ensure"];
