//! A job's steps and the versions chosen for it become a plan (`atc/builds/planner.go` for the order of ids).

use std::collections::BTreeMap;

use super::image::with_defaults;
use super::{
    AcrossPlan, Action, CheckPlan, GetPlan, HookPlan, Inputs, LoadVarPlan, ParallelPlan, Plan, PlanId, PutPlan,
    RunPlan, SetPipelinePlan, TaskPlan, TimeoutPlan, TryPlan, of_type,
};
use crate::base::version::Version;
use crate::pipeline::{Config, Core, Get, Job, Put, PutInputs, Resource, ResourceType, Run, Step, TaskStep};

/// Why no plan can be made; the build errors with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The pipeline has no such resource (any more).
    #[error("unknown resource: {0}")]
    UnknownResource(String),
    /// No version was chosen for an input.
    #[error("version for input {0} not provided")]
    NoVersion(String),
    /// The pipeline has no such prototype (any more).
    #[error("unknown prototype: {0}")]
    UnknownPrototype(String),
    /// The plan of an `across` cannot be kept as text.
    #[error("the plan cannot be written: {0}")]
    Unwritable(String),
}

/// Makes plans for the jobs and resources of one pipeline.
pub struct Planner<'a> {
    config: &'a Config,
    inputs: BTreeMap<String, Version>,
    manual: bool,
    next: u64,
}

impl<'a> Planner<'a> {
    /// For a build of a job with these inputs. A manually started build asks for the newest images.
    pub fn new(config: &'a Config, inputs: BTreeMap<String, Version>, manual: bool) -> Self {
        Planner { config, inputs, manual, next: 0 }
    }

    /// The plan of `job`.
    pub fn job(mut self, job: &Job) -> Result<Plan, Error> {
        self.step(&job.as_step(), &job.tags)
    }

    /// The plan that checks a resource.
    pub fn check(mut self, resource: &Resource, from: Option<Version>, skip_interval: bool, shallow: bool) -> Plan {
        let id = self.id();
        let types = &self.config.resource_types;
        let check = CheckPlan {
            name: resource.name.clone(),
            resource: Some(resource.name.clone()),
            kind: resource.kind.clone(),
            source: with_defaults(resource.source.clone().unwrap_or_default(), &resource.kind, types),
            from,
            interval: resource.check_every.map(|c| c.to_string()).filter(|c| !c.is_empty() && c != "never"),
            skip_interval,
            tags: resource.tags.clone(),
            timeout: Some(resource.check_timeout.clone()).filter(|t| !t.is_empty()),
            image: of_type(&id, &resource.kind, types, &resource.tags, skip_interval && !shallow),
            resource_type: None,
        };
        Plan { id, action: Action::Check(Box::new(check)) }
    }

    /// The plan that checks the image of a resource type.
    pub fn check_type(mut self, custom: &ResourceType, from: Option<Version>, shallow: bool) -> Plan {
        let id = self.id();
        let others: Vec<ResourceType> =
            self.config.resource_types.iter().filter(|t| t.name != custom.name).cloned().collect();
        let check = CheckPlan {
            name: custom.name.clone(),
            resource_type: Some(custom.name.clone()),
            kind: custom.kind.clone(),
            source: with_defaults(custom.source.clone().unwrap_or_default(), &custom.kind, &others),
            from,
            skip_interval: true,
            tags: custom.tags.clone(),
            image: of_type(&id, &custom.kind, &others, &custom.tags, !shallow),
            ..CheckPlan::default()
        };
        Plan { id, action: Action::Check(Box::new(check)) }
    }

    fn id(&mut self) -> PlanId {
        self.next += 1;
        PlanId(format!("{:x}", self.next))
    }

    fn node(&mut self, action: Action) -> Plan {
        Plan { id: self.id(), action }
    }

    fn step(&mut self, step: &Step, tags: &[String]) -> Result<Plan, Error> {
        let mut plan = match step.attempts {
            Some(attempts) => {
                let tries = (0..attempts.max(1)).map(|_| self.bounded(step, tags)).collect::<Result<_, _>>()?;
                self.node(Action::Retry(tries))
            }
            None => self.bounded(step, tags)?,
        };
        if let Some(across) = &step.across {
            let template = serde_json::to_value(&plan).map_err(|e| Error::Unwritable(e.to_string()))?;
            let vars = across.vars.iter().cloned().collect();
            plan = self.node(Action::Across(Box::new(AcrossPlan { vars, template, fail_fast: across.fail_fast })));
        }
        type Wrap = fn(Box<HookPlan>) -> Action;
        let hooks: [(&Option<Box<Step>>, Wrap); 5] = [
            (&step.on_success, Action::OnSuccess),
            (&step.on_failure, Action::OnFailure),
            (&step.on_abort, Action::OnAbort),
            (&step.on_error, Action::OnError),
            (&step.ensure, Action::Ensure),
        ];
        for (hook, wrap) in hooks {
            if let Some(hook) = hook {
                let hook = self.step(hook, tags)?;
                plan = self.node(wrap(Box::new(HookPlan { step: plan, hook })));
            }
        }
        Ok(plan)
    }

    fn bounded(&mut self, step: &Step, tags: &[String]) -> Result<Plan, Error> {
        let plan = self.core(&step.core, tags)?;
        Ok(match &step.timeout {
            Some(duration) => {
                self.node(Action::Timeout(Box::new(TimeoutPlan { step: plan, duration: duration.clone() })))
            }
            None => plan,
        })
    }

    fn core(&mut self, core: &Core, tags: &[String]) -> Result<Plan, Error> {
        match core {
            Core::Get(get) => self.get(get, tags),
            Core::Put(put) => self.put(put, tags),
            Core::Task(task) => Ok(self.task(task, tags)),
            Core::Try(step) => {
                let step = self.step(step, tags)?;
                Ok(self.node(Action::Try(Box::new(TryPlan { step }))))
            }
            Core::Do { steps, tags: own } => {
                let steps = self.steps(steps.iter(), inherited(own, tags))?;
                Ok(self.node(Action::Do(steps)))
            }
            Core::InParallel(p) => {
                let steps = self.steps(p.steps.iter(), inherited(&p.tags, tags))?;
                let limit = usize::try_from(p.limit).unwrap_or(0);
                Ok(self.node(Action::InParallel(ParallelPlan { steps, limit, fail_fast: p.fail_fast })))
            }
            Core::Run(run) => self.run(run),
            Core::SetPipeline(set) => Ok(self.node(Action::SetPipeline(Box::new(SetPipelinePlan {
                name: set.name.clone(),
                file: set.file.clone(),
                team: set.team.clone(),
                vars: set.vars.clone(),
                var_files: set.var_files.clone(),
                instance_vars: set.instance_vars.clone(),
            })))),
            Core::LoadVar(load) => Ok(self.node(Action::LoadVar(LoadVarPlan {
                name: load.name.clone(),
                file: load.file.clone(),
                format: load.format.clone(),
                reveal: load.reveal,
            }))),
        }
    }

    fn steps<'s>(&mut self, steps: impl Iterator<Item = &'s Step>, tags: &[String]) -> Result<Vec<Plan>, Error> {
        steps.map(|s| self.step(s, tags)).collect()
    }

    fn resource(&self, name: &str) -> Result<&'a Resource, Error> {
        self.config.resource(name).ok_or_else(|| Error::UnknownResource(name.to_owned()))
    }

    fn get(&mut self, get: &Get, tags: &[String]) -> Result<Plan, Error> {
        let resource = self.resource(get.resource_name())?;
        let version = self.inputs.get(&get.name).cloned().ok_or_else(|| Error::NoVersion(get.name.clone()))?;
        let tags = inherited(&get.tags, tags).to_vec();
        let (types, id) = (&self.config.resource_types, self.id());
        let plan = GetPlan {
            name: get.name.clone(),
            resource: Some(resource.name.clone()),
            kind: resource.kind.clone(),
            source: with_defaults(resource.source.clone().unwrap_or_default(), &resource.kind, types),
            params: get.params.clone(),
            version: Some(version),
            version_from: None,
            timeout: some(&get.timeout),
            trigger: get.trigger,
            image: of_type(&id, &resource.kind, types, &tags, false),
            tags,
        };
        Ok(Plan { id, action: Action::Get(Box::new(plan)) })
    }

    fn put(&mut self, put: &Put, tags: &[String]) -> Result<Plan, Error> {
        let resource = self.resource(put.resource_name())?;
        let tags = inherited(&put.tags, tags).to_vec();
        let (types, id) = (&self.config.resource_types, self.id());
        let source = with_defaults(resource.source.clone().unwrap_or_default(), &resource.kind, types);
        let plan = PutPlan {
            name: put.name.clone(),
            resource: resource.name.clone(),
            kind: resource.kind.clone(),
            source: source.clone(),
            params: put.params.clone(),
            inputs: match &put.inputs {
                Some(PutInputs::All) => Inputs::All,
                Some(PutInputs::Specified(names)) => Inputs::Listed(names.clone()),
                Some(PutInputs::Detect | PutInputs::Unset) | None => Inputs::Detect,
            },
            timeout: some(&put.timeout),
            expose_build_created_by: resource.expose_build_created_by,
            image: of_type(&id, &resource.kind, types, &tags, self.manual),
            tags: tags.clone(),
        };
        let step = Plan { id: id.clone(), action: Action::Put(Box::new(plan)) };
        if put.no_get {
            return Ok(step);
        }
        let get_id = self.id();
        let get = GetPlan {
            name: put.name.clone(),
            resource: Some(resource.name.clone()),
            kind: resource.kind.clone(),
            source,
            params: put.get_params.clone(),
            version: None,
            version_from: Some(id),
            trigger: false,
            timeout: some(&put.timeout),
            image: of_type(&get_id, &resource.kind, types, &tags, self.manual),
            tags,
        };
        let hook = Plan { id: get_id, action: Action::Get(Box::new(get)) };
        Ok(self.node(Action::OnSuccess(Box::new(HookPlan { step, hook }))))
    }

    fn run(&mut self, run: &Run) -> Result<Plan, Error> {
        let prototype = self.config.prototype(&run.kind).ok_or_else(|| Error::UnknownPrototype(run.kind.clone()))?;
        let mut object = prototype.defaults.clone().unwrap_or_default();
        object.extend(run.params.clone().unwrap_or_default());
        let (message, kind, privileged) = (run.message.clone(), run.kind.clone(), run.privileged);
        Ok(self.node(Action::Run(Box::new(RunPlan { message, kind, object, privileged }))))
    }

    fn task(&mut self, task: &TaskStep, tags: &[String]) -> Plan {
        let plan = TaskPlan {
            name: task.name.clone(),
            config: task.config.clone(),
            config_path: some(&task.file),
            vars: task.vars.clone(),
            params: task.params.clone(),
            privileged: task.privileged,
            hermetic: task.hermetic,
            image: some(&task.image),
            input_mapping: task.input_mapping.clone(),
            output_mapping: task.output_mapping.clone(),
            container_limits: task.container_limits,
            tags: inherited(&task.tags, tags).to_vec(),
            timeout: some(&task.timeout),
            resource_types: self.config.resource_types.clone(),
            check_skip_interval: self.manual,
        };
        self.node(Action::Task(Box::new(plan)))
    }
}

/// A step's own tags, or those around it.
fn inherited<'t>(own: &'t [String], around: &'t [String]) -> &'t [String] {
    if own.is_empty() { around } else { own }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::shown;

    fn config(text: &str) -> Config {
        let value: serde_json::Value = serde_yaml::from_str(text).unwrap();
        serde_json::from_value(value).unwrap()
    }

    fn plan(text: &str, inputs: &[(&str, &str)]) -> Result<serde_json::Value, Error> {
        let config = config(text);
        let inputs = inputs.iter().map(|(n, v)| ((*n).to_owned(), Version::from([("version", *v)]))).collect();
        Planner::new(&config, inputs, false).job(&config.jobs[0]).map(|p| shown(&p))
    }

    #[test]
    fn a_put_is_followed_by_its_get_and_ids_count_from_the_inside_out() {
        let text = "
resources: [{name: code, type: mock, source: {}}, {name: made, type: mock, source: {}}]
jobs:
- name: j
  plan:
  - get: code
  - task: build
    config: {platform: linux, run: {path: sh}}
  - put: made
";
        insta::assert_snapshot!(plan(text, &[("code", "v1")]).unwrap().to_string(), @r#"{"id":"6","do":[{"id":"1","get":{"name":"code","type":"mock","resource":"code","version":{"version":"v1"}}},{"id":"2","task":{"name":"build","privileged":false,"hermetic":false}},{"id":"5","on_success":{"step":{"id":"3","put":{"name":"made","type":"mock","resource":"made"}},"on_success":{"id":"4","get":{"name":"made","type":"mock","resource":"made"}}}}]}"#);
    }

    #[test]
    fn hooks_enclose_attempts_enclose_timeout() {
        let text = "
jobs:
- name: j
  plan:
  - do: [{task: a, file: x/y}]
    timeout: 1m
    attempts: 2
    on_failure: {task: b, file: x/y}
    ensure: {task: c, file: x/y}
";
        let shown = plan(text, &[]).unwrap();
        let inner = &shown["do"][0]["ensure"]["step"]["on_failure"]["step"]["retry"];
        assert_eq!(inner.as_array().unwrap().len(), 2);
        assert_eq!(inner[1]["timeout"]["duration"], "1m");
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = "
resources: [{name: code, type: mock, source: {}}]
jobs: [{name: j, plan: [{get: code}]}]
";
        assert_eq!(plan(text, &[]).unwrap_err(), Error::NoVersion("code".into()));
        let text = "jobs: [{name: j, plan: [{get: code}]}]";
        assert_eq!(plan(text, &[]).unwrap_err(), Error::UnknownResource("code".into()));
    }

    #[test]
    fn a_custom_type_brings_its_image_and_may_bear_the_name_of_its_base() {
        let text = "
resource_types: [{name: mock, type: mock, source: {mirror_self: true}, defaults: {a: 1}, privileged: true}]
resources: [{name: code, type: mock, source: {b: 2}}]
jobs: [{name: j, plan: [{get: code}]}]
";
        let config = config(text);
        let inputs = [("code".to_owned(), Version::from([("version", "1")]))].into();
        let plan = Planner::new(&config, inputs, false).job(&config.jobs[0]).unwrap();
        let mut gets = Vec::new();
        plan.each(&mut |p| {
            if let Action::Get(get) = &p.action {
                gets.push((p.id.0.clone(), get.clone()));
            }
        });
        assert_eq!(gets.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1", "1/image-get"]);
        assert!(gets[0].1.image.privileged);
        assert_eq!(serde_json::to_string(&gets[0].1.source).unwrap(), r#"{"a":1,"b":2}"#);
        assert_eq!(gets[1].1.image.base_type, "mock");
        assert_eq!(gets[1].1.version_from, Some(PlanId("1/image-check".into())));
    }

    #[test]
    fn a_stored_plan_reads_back_the_same() {
        let text = "
resources: [{name: code, type: mock, source: {}}]
jobs:
- name: j
  plan:
  - in_parallel: {limit: 2, fail_fast: true, steps: [{get: code}, {try: {task: t, file: a/b, params: {X: '1'}}}]}
";
        let config = config(text);
        let inputs = [("code".to_owned(), Version::from([("version", "1")]))].into();
        let plan = Planner::new(&config, inputs, false).job(&config.jobs[0]).unwrap();
        let stored = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
    }
}
