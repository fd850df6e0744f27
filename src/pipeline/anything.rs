//! The places of a pipeline where anything may stand: sources, params, variables, values.

use serde_json::Value;

use super::step::{Core, Step};
use super::{Config, Object, ResourceType};

impl Config {
    /// Calls `visit` with each value whose shape Concourse does not know.
    pub fn each_object(&mut self, visit: &mut dyn FnMut(&mut Value)) {
        visit(&mut self.user_data);
        self.var_sources.iter_mut().for_each(|source| visit(&mut source.config));
        self.resources.iter_mut().for_each(|resource| object(&mut resource.source, visit));
        self.resource_types.iter_mut().chain(&mut self.prototypes).for_each(|kind| each_of_type(kind, visit));
        for job in &mut self.jobs {
            job.plan.0.iter_mut().flatten().for_each(|step| each_of_step(step, visit));
            let hooks =
                [&mut job.on_success, &mut job.on_failure, &mut job.on_abort, &mut job.on_error, &mut job.ensure];
            hooks.into_iter().flatten().for_each(|step| each_of_step(step, visit));
        }
    }
}

fn each_of_type(kind: &mut ResourceType, visit: &mut dyn FnMut(&mut Value)) {
    for given in [&mut kind.source, &mut kind.defaults, &mut kind.params] {
        object(given, visit);
    }
}

fn object(given: &mut Option<Object>, visit: &mut dyn FnMut(&mut Value)) {
    given.iter_mut().flat_map(|map| map.values_mut()).for_each(visit);
}

fn each_of_step(step: &mut Step, visit: &mut dyn FnMut(&mut Value)) {
    match &mut step.core {
        Core::Get(get) => object(&mut get.params, visit),
        Core::Put(put) => {
            object(&mut put.params, visit);
            object(&mut put.get_params, visit);
        }
        Core::Task(task) => {
            object(&mut task.vars, visit);
            if let Some(image) = task.config.as_mut().and_then(|config| config.image_resource.as_mut()) {
                object(&mut image.source, visit);
                object(&mut image.params, visit);
            }
        }
        Core::Run(run) => object(&mut run.params, visit),
        Core::SetPipeline(set) => {
            object(&mut set.vars, visit);
            object(&mut set.instance_vars, visit);
        }
        Core::LoadVar(_) => {}
        Core::Try(tried) => each_of_step(tried, visit),
        Core::Do { steps, .. } => steps.0.iter_mut().flatten().for_each(|step| each_of_step(step, visit)),
        Core::InParallel(parallel) => parallel.steps.iter_mut().for_each(|step| each_of_step(step, visit)),
    }
    step.across.iter_mut().flat_map(|across| across.vars.0.iter_mut().flatten()).for_each(|var| visit(&mut var.values));
    let hooks = [&mut step.on_success, &mut step.on_failure, &mut step.on_abort, &mut step.on_error, &mut step.ensure];
    hooks.into_iter().flatten().for_each(|step| each_of_step(step, visit));
}
