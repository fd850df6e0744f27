//! `/builds/{id}` and `…/jobs/{job}/builds/{build}`: one build, its steps and what they say.

pub mod change;
pub mod live;
pub mod log;
pub mod step;
pub mod tree;
pub mod why;

use askama::Template;
use serde_json::Value;

use super::job::place;
use super::link::{Place, part};
use super::markup::Markup;
use super::page::{Crumb, Frame, answer, rendered};
use super::pipeline::crumbs;
use super::span::{Moment, took};
use super::status::Status;
use crate::base::clock::Time;
use crate::base::id::BuildId;
use crate::base::version::canonical_json;
use crate::front::{Answer, App, Call, Failure, Permit, Rights};
use crate::plan;
use crate::schedule::due::Intervals;
use crate::store::ReadTx;
use crate::store::build::Build;
use crate::store::job::Job;
use crate::store::web::overview::BuildFace;
use tree::{Mark, Tree};
use why::Need;

/// How many builds the tabs show on either side.
const NEWER: i64 = 20;
const OLDER: i64 = 40;

/// A build in the tabs.
#[derive(Debug, Clone, Default)]
pub struct HistoryTab {
    /// Its name.
    pub name: String,
    /// Its page.
    pub href: String,
    /// Its status.
    pub status: Status,
    /// This page.
    pub current: bool,
    /// The key that leads there.
    pub key: &'static str,
}

/// The page.
#[derive(Debug, Clone)]
pub struct View {
    /// The row.
    pub row: Build,
    /// The public plan, or null.
    pub plan: Value,
    /// Its id.
    pub id: BuildId,
    /// What it is.
    pub heading: String,
    /// Its status.
    pub status: Status,
    /// An abort was asked for.
    pub aborting: bool,
    /// The whole log's address.
    pub raw: String,
    /// There is a log to read.
    pub has_log: bool,
    /// The log was removed.
    pub reaped: bool,
    /// The reader may abort, rerun, trigger.
    pub rights: Rights,
    /// Where the form to run it again leads.
    pub rerun: Option<String>,
    /// Where the form for a new build leads.
    pub trigger: Option<String>,
    /// When it was made.
    pub created: Option<Moment>,
    /// When it started.
    pub started: Option<Moment>,
    /// How long it took.
    pub duration: Option<String>,
    /// Who asked for it.
    pub created_by: String,
    /// Name and page of the build it repeats.
    pub rerun_of: Option<(String, String)>,
    /// What people say of it.
    pub comment: String,
    /// Tabs.
    pub history: Vec<HistoryTab>,
    /// The job's page.
    pub all_builds: Option<String>,
    /// Why it has not started.
    pub why: Vec<Need>,
    /// Its steps.
    pub tree: Tree,
    /// Only those with a role may read the log.
    pub hidden: bool,
}

impl View {
    /// The steps as a list.
    pub fn marks(&self) -> Vec<Mark<'_>> {
        self.tree.marks()
    }
}

#[derive(Template)]
#[template(path = "pages/build.html")]
struct BuildPage {
    frame: Frame,
    view: View,
}

#[derive(Template)]
#[template(path = "parts/build_head.html")]
struct HeadPart<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "parts/why.html")]
struct WhyPart<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "parts/steps.html")]
struct StepsPart<'a> {
    view: &'a View,
}

#[derive(Template)]
#[template(path = "parts/build_errors.html")]
struct ErrorsPart<'a> {
    errors: &'a [String],
}

fn html(part: &impl Template) -> Result<String, Failure> {
    rendered(part).map(Markup::into_string)
}

fn head(view: &View) -> Result<String, Failure> {
    html(&HeadPart { view })
}

fn why_part(view: &View) -> Result<String, Failure> {
    html(&WhyPart { view })
}

fn steps(view: &View) -> Result<String, Failure> {
    html(&StepsPart { view })
}

fn errors(tree: &Tree) -> Result<String, Failure> {
    html(&ErrorsPart { errors: &tree.errors })
}

/// What a rendering depends on besides the rows.
#[derive(Debug, Clone)]
pub struct Asked {
    id: BuildId,
    rights: Rights,
    has_role: bool,
}

impl Asked {
    fn of_build(permit: &Permit, call: &Call) -> Result<Asked, Failure> {
        Ok(Asked::new(permit, call, permit.build()?))
    }

    fn new(permit: &Permit, call: &Call, id: BuildId) -> Asked {
        Asked { id, rights: permit.rights(&call.app), has_role: permit.role().is_some() }
    }

    fn raw(&self) -> String {
        format!("/builds/{}/log.txt", self.id)
    }
}

/// `GET /builds/{build_id}`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let asked = Asked::of_build(&permit, &call)?;
    page(&permit, &call, &asked).await
}

/// `GET …/jobs/{job}/builds/{build}`
pub async fn show_of_job(permit: Permit, call: Call) -> Answer {
    let pipeline = permit.pipeline()?.id;
    let (job, name) = (call.param("job_name").to_owned(), call.param("build_name").to_owned());
    let found = call.app.store.read(move |tx| {
        let Some(job) = tx.find_job(pipeline, &job)? else { return Ok(None) };
        if name == "latest" {
            return tx.latest_build(job.id);
        }
        tx.find_build(job.id, &name)
    });
    let build = found.await?.ok_or_else(Failure::not_found)?;
    place(&permit)?;
    page(&permit, &call, &Asked::new(&permit, &call, build.id)).await
}

async fn page(permit: &Permit, call: &Call, asked: &Asked) -> Answer {
    let view = view(&call.app, asked, None).await?;
    let mut frame = Frame::new(permit, call, title(&view), way(&view)).await;
    frame.status = view.status;
    frame.is_build = true;
    frame.refresh = !view.status.is_final();
    if !view.status.is_final() && !view.hidden {
        frame.live = format!("/builds/{}/live?from={}", view.id, view.tree.next_event);
    }
    answer(&BuildPage { frame, view })
}

fn title(view: &View) -> String {
    match &view.row.pipeline_name {
        Some(pipeline) => format!("{pipeline}/{}", view.heading),
        None => view.heading.clone(),
    }
}

/// Which pipeline a build belongs to.
fn place_of(build: &Build) -> Option<Place> {
    let vars = build.pipeline_instance_vars.as_ref().filter(|v| !v.is_empty());
    Some(Place {
        team: build.team_name.clone(),
        pipeline: build.pipeline_name.clone()?,
        vars: vars.map(|v| canonical_json(&Value::Object(v.clone()))).unwrap_or_default(),
    })
}

fn way(view: &View) -> Vec<Crumb> {
    let Some(place) = place_of(&view.row) else { return vec![Crumb::new(&view.heading, "")] };
    let mut way = match (&view.row.job_name, &view.row.resource_name) {
        (Some(job), _) => crumbs(&place, Some(Crumb::new(job, place.job(job)))),
        (None, Some(r)) => crumbs(&place, Some(Crumb::new(r, place.resource(r)))),
        (None, None) => crumbs(&place, None),
    };
    way.push(Crumb::new(format!("#{}", view.row.name), ""));
    way
}

/// What one read of the database finds.
struct Rows {
    build: Build,
    job: Option<Job>,
    plan: Option<String>,
    history: Vec<BuildFace>,
    why: Vec<Need>,
}

fn rows(tx: &ReadTx<'_>, id: BuildId, by: (&Intervals, Time)) -> crate::store::Result<Option<Rows>> {
    let Some(build) = tx.build(id)? else { return Ok(None) };
    let job = build.job_id.map(|j| tx.job(j)).transpose()?.flatten();
    let history = match build.job_id {
        Some(job) => tx.build_neighbours(job, id, NEWER, OLDER)?,
        None => Vec::new(),
    };
    let why = why::needs(tx, &build, &place_of(&build).unwrap_or_default(), by)?;
    Ok(Some(Rows { plan: tx.build_public_plan(id)?, build, job, history, why }))
}

/// The page's content; `until` cuts the log.
async fn view(app: &App, asked: &Asked, until: Option<i64>) -> Result<View, Failure> {
    let id = asked.id;
    let (intervals, now) = (app.settings.intervals, app.clock.now());
    let rows = app.store.read(move |tx| rows(tx, id, (&intervals, now))).await?.ok_or_else(Failure::not_found)?;
    let hidden = !asked.has_role && !rows.job.as_ref().is_some_and(|j| j.config.public);
    let mut view = arrange(rows, asked, hidden, now);
    if !hidden {
        view.tree = log::read(app, &view.row, &view.plan, until).await?;
    }
    Ok(view)
}

fn arrange(rows: Rows, asked: &Asked, hidden: bool, now: Time) -> View {
    let Rows { build, job, plan, history, why } = rows;
    let place = place_of(&build).unwrap_or_default();
    let archived = job.as_ref().is_some_and(|j| j.pipeline_archived);
    let act = |name: &str, action: &str| {
        let job = part(build.job_name.as_deref().unwrap_or(""));
        place.under(&format!("/jobs/{job}{name}/{action}"))
    };
    let status = Status::parse(build.status.as_str());
    let of_job = job.as_ref().filter(|_| !archived);
    View {
        id: build.id,
        heading: heading(&build),
        aborting: build.aborted.is_some() && !status.is_final(),
        raw: asked.raw(),
        has_log: build.started_at.is_some() && build.reap_time.is_none() && !hidden,
        reaped: build.reap_time.is_some(),
        rights: asked.rights.clone(),
        rerun: of_job
            .filter(|j| !j.config.disable_reruns && status.is_final())
            .map(|_| act(&format!("/builds/{}", part(&build.name)), "rerun")),
        trigger: of_job.filter(|j| !j.config.disable_manual_trigger).map(|_| act("", "trigger")),
        created: Some(Moment::new(now, build.created_at)),
        started: build.started_at.map(|at| Moment::new(now, at)),
        duration: build.started_at.zip(build.ended_at).map(|(s, e)| took(s, e)),
        created_by: build.created_by.clone().unwrap_or_default(),
        rerun_of: build.rerun_of.map(|id| (build.rerun_of_name.clone().unwrap_or_default(), format!("/builds/{id}"))),
        comment: if hidden { String::new() } else { build.comment.clone() },
        history: tabs(&place, &build, &history),
        all_builds: build.job_name.as_ref().map(|job| place.job(job)),
        // It names versions, pins and who paused what.
        why: if hidden { Vec::new() } else { why },
        tree: Tree::default(),
        plan: plan.and_then(|text| plan::stored(&text).ok()).unwrap_or(Value::Null),
        status,
        hidden,
        row: build,
    }
}

fn heading(build: &Build) -> String {
    match (&build.job_name, &build.resource_name) {
        (Some(job), _) => format!("{job} #{}", build.name),
        (None, Some(resource)) => format!("check of {resource}"),
        (None, None) => format!("one-off build #{}", build.name),
    }
}

fn tabs(place: &Place, build: &Build, history: &[BuildFace]) -> Vec<HistoryTab> {
    let here = history.iter().position(|b| b.id == build.id);
    let key = |i: usize| match here {
        Some(at) if i + 1 == at => "l",
        Some(at) if i == at + 1 => "h",
        _ => "",
    };
    let job = build.job_name.as_deref().unwrap_or("");
    let tab = |(i, b): (usize, &BuildFace)| HistoryTab {
        name: b.name.clone(),
        href: place.build(job, &b.name),
        status: Status::parse(b.status.as_str()),
        current: b.id == build.id,
        key: key(i),
    };
    history.iter().enumerate().map(tab).collect()
}
