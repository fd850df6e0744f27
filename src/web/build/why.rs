//! Why a build has not started, in words: each thing it needs, met or not, with what a reader can do about it.

use super::super::job::words;
use super::super::link::Place;
use super::super::span::Moment;
use crate::base::clock::Time;
use crate::schedule::due::Intervals;
use crate::store::build::Build;
use crate::store::show::why::{About, Why};
use crate::store::{ReadTx, Result};

/// One thing a build needs.
#[derive(Debug, Clone, Default)]
pub struct Need {
    /// Whether it is met.
    pub ok: bool,
    /// What it is.
    pub text: String,
    /// More about it.
    pub detail: String,
    /// Since when it is not met.
    pub since: Option<Moment>,
    /// Where to do something about it.
    pub link: Option<(String, String)>,
}

impl Need {
    fn met(text: impl Into<String>) -> Need {
        Need { ok: true, text: text.into(), ..Need::default() }
    }

    /// A reason for waiting.
    pub fn open(why: Why, place: &Place, now: Time) -> Need {
        let link = match &why.about {
            About::Pipeline => ("open the pipeline".to_owned(), place.page()),
            About::Job(name) => (format!("open {name}"), place.job(name)),
            About::Input { resource: name, .. } | About::Resource(name) => {
                (format!("open {name}"), place.resource(name))
            }
            About::Build { job, build } => (format!("open {job} #{build}"), place.build(job, build)),
        };
        let text = match &why.about {
            About::Input { input, .. } => format!("input {input}: {}", why.text),
            _ => why.text,
        };
        Need {
            ok: false,
            text,
            detail: format!("moved by {}", why.moved_by),
            since: why.since.map(|at| Moment::new(now, at)),
            link: Some(link),
        }
    }
}

/// What a pending build needs. Nothing for one of another status.
pub fn needs(tx: &ReadTx<'_>, build: &Build, place: &Place, (intervals, now): (&Intervals, Time)) -> Result<Vec<Need>> {
    if build.status.is_over() || build.started_at.is_some() {
        return Ok(Vec::new());
    }
    let waits = |text: &str| Need { text: text.to_owned(), ..Need::default() };
    let Some(job) = build.job_id.map(|id| tx.job(id)).transpose()?.flatten() else {
        return Ok(vec![waits("it starts with the scheduler's next pass")]);
    };
    let mut all: Vec<Need> =
        tx.why_build(build.id, intervals)?.into_iter().map(|why| Need::open(why, place, now)).collect();
    if all.is_empty() {
        all.push(waits("everything is there; it starts with the scheduler's next pass"));
    }
    if !job.pipeline_paused && !job.paused {
        all.push(Need::met("neither the pipeline nor the job is paused"));
    }
    if build.rerun_of.is_some() {
        all.push(Need::met("its inputs are those of the build it repeats"));
    } else {
        for next in tx.next_inputs(job.id)? {
            if let Ok(version) = &next.version {
                all.push(Need { detail: words(version), ..Need::met(format!("input {}", next.name)) });
            }
        }
    }
    if build.scheduled {
        all.push(Need::met("it has its place among the builds of this job"));
    }
    Ok(all)
}
