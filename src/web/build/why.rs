//! Why a build has not started, in words: each thing it needs, met or not, with what a reader can do about it.

use super::super::job::{waits, words};
use super::super::link::Place;
use crate::store::build::Build;
use crate::store::{ReadTx, Result};

/// One thing a build needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Need {
    /// Whether it is met.
    pub ok: bool,
    /// What it is.
    pub text: String,
    /// More about it.
    pub detail: String,
    /// Where to do something about it.
    pub link: Option<(String, String)>,
}

impl Need {
    fn met(text: impl Into<String>) -> Need {
        Need { ok: true, text: text.into(), ..Need::default() }
    }

    fn open(text: impl Into<String>) -> Need {
        Need { text: text.into(), ..Need::default() }
    }
}

/// What a pending build needs. Nothing for one of another status.
pub fn needs(tx: &ReadTx<'_>, build: &Build, place: &Place) -> Result<Vec<Need>> {
    if build.status.is_over() || build.started_at.is_some() {
        return Ok(Vec::new());
    }
    let Some(job) = build.job_id.map(|id| tx.job(id)).transpose()?.flatten() else {
        return Ok(vec![Need::open("it starts with the scheduler's next pass")]);
    };
    let mut all = vec![
        if job.pipeline_paused {
            let link = Some(("open the pipeline".into(), place.page()));
            Need { link, ..Need::open("the pipeline is paused") }
        } else {
            Need::met("the pipeline is not paused")
        },
        if job.paused {
            let link = Some(("open the job".into(), place.job(&job.name)));
            Need { link, detail: paused_by(job.paused_by.as_deref()), ..Need::open("the job is paused") }
        } else {
            Need::met("the job is not paused")
        },
    ];
    if build.rerun_of.is_some() {
        all.push(Need::met("its inputs are those of the build it repeats"));
    } else {
        inputs(tx, &job, place, &mut all)?;
    }
    all.push(room(tx, build, &job, place)?);
    if all.iter().all(|n| n.ok) {
        all.push(Need::open("everything is there; it starts with the scheduler's next pass"));
    }
    Ok(all)
}

fn paused_by(by: Option<&str>) -> String {
    by.map(|by| format!("by {by}")).unwrap_or_default()
}

fn inputs(tx: &ReadTx<'_>, job: &crate::store::job::Job, place: &Place, all: &mut Vec<Need>) -> Result<()> {
    let next = tx.next_inputs(job.id)?;
    let open = waits(tx, job)?;
    for input in tx.job_inputs(job.id)? {
        let found = next.iter().find(|n| n.name == input.name);
        let need = match found.map(|n| &n.version) {
            Some(Ok(version)) => Need { detail: words(version), ..Need::met(format!("input {}", input.name)) },
            Some(Err(_)) => {
                let detail = open.iter().find(|w| w.name == input.name).map(|w| w.text.clone()).unwrap_or_default();
                let link = Some((format!("open {}", input.resource_name), place.resource(&input.resource_name)));
                Need { detail, link, ..Need::open(format!("input {}", input.name)) }
            }
            None => Need {
                detail: "its versions are being looked up".into(),
                link: Some((format!("open {}", input.resource_name), place.resource(&input.resource_name))),
                ..Need::open(format!("input {}", input.name))
            },
        };
        all.push(need);
    }
    Ok(())
}

fn room(tx: &ReadTx<'_>, build: &Build, job: &crate::store::job::Job, place: &Place) -> Result<Need> {
    let limit = job.config.limit();
    let others = tx.builds_in_the_way(job.id, build.id)?;
    let mine = others.iter().filter(|(name, _)| *name == job.name).count();
    let grouped = others.len() > mine;
    let full = (limit > 0 && i64::try_from(others.len()).unwrap_or(i64::MAX) >= limit) || grouped;
    if build.scheduled || !full {
        return Ok(Need::met("there is room for one more build of this job"));
    }
    let names: Vec<String> = others.iter().map(|(job, b)| format!("{job} #{}", b.name)).collect();
    let rule = if grouped { "serial group" } else { "max_in_flight" };
    let link = others.first().map(|(job, b)| (format!("open {job} #{}", b.name), place.build(job, &b.name)));
    let detail = format!("{} must end first ({rule})", names.join(", "));
    Ok(Need { detail, link, ..Need::open("too many builds at once") })
}
