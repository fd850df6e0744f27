//! What a pipeline may say that the engine does not do yet: refused when a pipeline is set, never ignored.

use super::problem::{Problem, Section};
use super::yaml::value::Segment;
use super::{Config, Core, Job, Step};

/// A construct, where it may stand and what to do instead. To support one, take its line out.
struct Rule {
    what: &'static str,
    remedy: &'static str,
    found: Found,
}

enum Found {
    /// A key at the top of the file.
    Top(fn(&Config) -> bool),
    /// A key of a step.
    Step(fn(&Step) -> bool),
}

const RULES: &[Rule] = &[
    Rule {
        what: "var_sources",
        remedy: "use a source of type dummy",
        found: Found::Top(|config| config.var_sources.iter().any(|source| source.kind != "dummy")),
    },
    Rule {
        what: "prototypes",
        remedy: "use a task instead",
        found: Found::Top(|config| !config.prototypes.is_empty()),
    },
    Rule {
        what: "across",
        remedy: "write the step once for each value",
        found: Found::Step(|step| step.across.is_some()),
    },
    Rule { what: "run", remedy: "use a task instead", found: Found::Step(|step| matches!(step.core, Core::Run(_))) },
    Rule {
        what: "set_pipeline",
        remedy: "set the pipeline with the client",
        found: Found::Step(|step| matches!(step.core, Core::SetPipeline(_))),
    },
    Rule {
        what: "load_var",
        remedy: "read the file within the task that needs it",
        found: Found::Step(|step| matches!(step.core, Core::LoadVar(_))),
    },
];

/// Every use of a construct the engine does not do.
pub fn unsupported(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in RULES {
        if let Found::Top(found) = rule.found
            && found(config)
        {
            problems.push(refusal(rule, rule.what.to_owned(), &[Segment::Key(rule.what.into())]));
        }
    }
    for (index, job) in config.jobs.iter().enumerate() {
        each_step(job, index, &mut |step, at| {
            for rule in RULES {
                if let Found::Step(found) = rule.found
                    && found(step)
                {
                    let mut at = at.to_vec();
                    at.push(Segment::Key(rule.what.into()));
                    problems.push(refusal(rule, format!("jobs.{}", job.name), &at));
                }
            }
        });
    }
    problems
}

fn refusal(rule: &Rule, whose: String, at: &[Segment]) -> Problem {
    let message = format!("{whose}: `{}` is not supported by this server yet; {}", rule.what, rule.remedy);
    Problem::new(Section::Unsupported, at, message).remedy(rule.remedy)
}

fn each_step(job: &Job, index: usize, visit: &mut dyn FnMut(&Step, &[Segment])) {
    let key = |key: &str| Segment::Key(key.to_owned());
    let base = [key("jobs"), Segment::Index(index)];
    for (i, step) in job.plan.iter().enumerate() {
        walk(step, &[&base[..], &[key("plan"), Segment::Index(i)]].concat(), visit);
    }
    let hooks = [&job.on_success, &job.on_failure, &job.on_abort, &job.on_error, &job.ensure];
    for (name, hook) in HOOKS.iter().zip(hooks) {
        if let Some(step) = hook {
            walk(step, &[&base[..], &[key(name)]].concat(), visit);
        }
    }
}

const HOOKS: [&str; 5] = ["on_success", "on_failure", "on_abort", "on_error", "ensure"];

fn walk(step: &Step, at: &[Segment], visit: &mut dyn FnMut(&Step, &[Segment])) {
    let below = |keys: &[Segment]| [at, keys].concat();
    let key = |key: &str| Segment::Key(key.to_owned());
    visit(step, at);
    match &step.core {
        Core::Try(tried) => walk(tried, &below(&[key("try")]), visit),
        Core::Do { steps, .. } => {
            for (i, step) in steps.iter().enumerate() {
                walk(step, &below(&[key("do"), Segment::Index(i)]), visit);
            }
        }
        Core::InParallel(parallel) => {
            for (i, step) in parallel.steps.iter().enumerate() {
                walk(step, &below(&[key("in_parallel"), key("steps"), Segment::Index(i)]), visit);
            }
        }
        _ => {}
    }
    let hooks = [&step.on_success, &step.on_failure, &step.on_abort, &step.on_error, &step.ensure];
    for (name, hook) in HOOKS.iter().zip(hooks) {
        if let Some(step) = hook {
            walk(step, &below(&[key(name)]), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_named_with_its_place() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "jobs": [{"name": "j", "plan": [{"get": "r", "version": "every"},
                {"in_parallel": [{"load_var": "v", "file": "r/f"}],
                 "ensure": {"task": "t", "file": "r/t", "across": [{"var": "a", "values": [1]}]}}]}],
            "var_sources": [{"name": "v", "type": "ssm", "config": {}}],
        }))
        .unwrap();
        let paths: Vec<_> = unsupported(&config).into_iter().map(|p| p.path).collect();
        let steps = ["jobs[0].plan[1].in_parallel.steps[0].load_var", "jobs[0].plan[1].ensure.across"];
        assert_eq!(paths, ["var_sources", steps[0], steps[1]]);
    }
}
