//! `/teams/{team}/pipelines/{pipeline}`: the graph, and the same as lists.

use std::sync::Arc;

use askama::Template;

use super::graph::{self, Input, JobNode, ResourceNode};
use super::link::Place;
use super::live;
use super::markup::Markup;
use super::page::{Crumb, Frame, Live, answer, rendered};
use super::span::Moment;
use super::status::Status;
use crate::auth::Action;
use crate::base::clock::Time;
use crate::base::id::PipelineId;
use crate::front::{Answer, App, Call, Failure, Permit};
use crate::pipeline::{Display, Group};
use crate::store::job::{JobInputRow, JobOutputRow};
use crate::store::pipeline::Pipeline;
use crate::store::resource::Resource;
use crate::store::web::overview::{BuildFace, JobFace, Scope};

/// A tab.
#[derive(Debug, Clone, Default)]
pub struct Tab {
    /// The group.
    pub name: String,
    /// Its address.
    pub href: String,
    /// Whether it is shown.
    pub current: bool,
}

/// A build, for a line of a list.
#[derive(Debug, Clone, Default)]
pub struct BuildLink {
    /// Its name.
    pub name: String,
    /// Its page.
    pub href: String,
    /// Its status.
    pub status: Status,
    /// When it ended.
    pub ended: Option<Moment>,
}

/// A job, for the list.
#[derive(Debug, Clone, Default)]
pub struct JobLine {
    /// Name.
    pub name: String,
    /// Its page.
    pub href: String,
    /// Status of the newest completed build.
    pub status: Status,
    /// Paused.
    pub paused: bool,
    /// Newest completed build.
    pub last: Option<BuildLink>,
    /// The build that waits or runs.
    pub next: Option<BuildLink>,
}

/// A resource, for the list.
#[derive(Debug, Clone, Default)]
pub struct ResourceLine {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: String,
    /// Its page.
    pub href: String,
    /// Held at a version.
    pub pinned: bool,
    /// Its check fails.
    pub broken: bool,
    /// When it was last checked.
    pub checked: Option<Moment>,
}

/// The page.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which pipeline.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Its instance variables in words.
    pub vars: String,
    /// Paused.
    pub paused: bool,
    /// By whom and when, in words.
    pub paused_by: String,
    /// Archived.
    pub archived: bool,
    /// Anybody may look.
    pub public: bool,
    /// The reader may pause it.
    pub may_operate: bool,
    /// The reader may expose it.
    pub may_change: bool,
    /// Tabs.
    pub groups: Vec<Tab>,
    /// Jobs shown.
    pub jobs: Vec<JobLine>,
    /// Resources of those jobs.
    pub resources: Vec<ResourceLine>,
    /// What is drawn behind the graph.
    pub display: Option<Display>,
    /// The drawing.
    pub graph: Markup,
    /// Worst status of the jobs shown.
    pub status: Status,
}

impl View {
    /// Where the form for an action leads.
    pub fn act(&self, action: &str) -> String {
        self.place.under(&format!("/{action}"))
    }
}

#[derive(Template)]
#[template(path = "parts/pipeline.html")]
struct Part<'a> {
    view: &'a View,
}

struct Asked {
    id: PipelineId,
    team: String,
    groups: Vec<String>,
    may_operate: bool,
    may_change: bool,
}

/// The rows behind the page.
pub struct Rows {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Its jobs.
    pub jobs: Vec<JobFace>,
    /// What they get.
    pub inputs: Vec<JobInputRow>,
    /// What they put.
    pub outputs: Vec<JobOutputRow>,
    /// Its resources.
    pub resources: Vec<Resource>,
}

fn asked(permit: &Permit, call: &Call) -> Result<Asked, Failure> {
    Ok(Asked {
        id: permit.pipeline()?.id,
        team: permit.team_name()?.to_owned(),
        groups: call.query.all("group").map(str::to_owned).collect(),
        may_operate: permit.may(&call.app, Action::PausePipeline),
        may_change: permit.may(&call.app, Action::ExposePipeline),
    })
}

/// `GET /teams/{team}/pipelines/{pipeline}`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let asked = asked(&permit, &call)?;
    let view = view(&call.app, &asked).await?;
    let mut frame = Frame::new(&permit, &call, view.name.clone(), crumbs(&view.place, None)).await;
    let body = rendered(&Part { view: &view })?;
    frame.live = Place::with(&view.place.under("/live"), "seen", &live::mark(&body.to_string()));
    for group in &asked.groups {
        frame.live = Place::with(&frame.live, "group", group);
    }
    frame.status = view.status;
    frame.refresh = true;
    answer(&Live { frame, body })
}

/// `GET /teams/{team}/pipelines/{pipeline}/live`
pub async fn follow(permit: Permit, call: Call) -> Answer {
    let (app, asked) = (call.app.clone(), Arc::new(asked(&permit, &call)?));
    Ok(live::follow(&permit, call.app, call.query.get("seen").to_owned(), move || {
        let (app, asked) = (app.clone(), asked.clone());
        async move { rendered(&Part { view: &view(&app, &asked).await? }) }
    }))
}

/// The way to a pipeline, and to what is in it.
pub fn crumbs(place: &Place, inside: Option<Crumb>) -> Vec<Crumb> {
    let vars = place.vars_in_words();
    let label = if vars.is_empty() { place.pipeline.clone() } else { format!("{} ({vars})", place.pipeline) };
    let team = Crumb::new(&place.team, format!("/?search=team%3A{}", super::link::part(&place.team)));
    [team, Crumb::new(label, place.page())].into_iter().chain(inside).collect()
}

async fn view(app: &App, asked: &Asked) -> Result<View, Failure> {
    let id = asked.id;
    let rows = app.store.read(move |tx| {
        let Some(pipeline) = tx.pipeline(id)? else { return Ok(None) };
        Ok(Some(Rows {
            pipeline,
            jobs: tx.job_faces(&Scope::One(id))?,
            inputs: tx.job_inputs_of_pipeline(id)?,
            outputs: tx.job_outputs_of_pipeline(id)?,
            resources: tx.resources_of_pipeline(id)?,
        }))
    });
    let rows = rows.await?.ok_or_else(Failure::not_found)?;
    let mut view = arrange(&rows, &asked.team, &asked.groups, app.clock.now());
    view.may_operate = asked.may_operate;
    view.may_change = asked.may_change;
    Ok(view)
}

/// The page from its rows.
pub fn arrange(rows: &Rows, team: &str, wanted: &[String], now: Time) -> View {
    let p = &rows.pipeline;
    let place = Place { team: team.to_owned(), pipeline: p.name.clone(), vars: p.reference().vars_text() };
    // As in Concourse: with groups and none chosen, the first is shown.
    let wanted: Vec<&str> = match (wanted, p.face.groups.first()) {
        ([], Some(first)) => vec![first.name.as_str()],
        (names, _) => names.iter().map(String::as_str).collect(),
    };
    let chosen: Vec<&Group> = p.face.groups.iter().filter(|g| wanted.contains(&g.name.as_str())).collect();
    let jobs: Vec<&JobFace> =
        rows.jobs.iter().filter(|j| chosen.is_empty() || chosen.iter().any(|g| g.holds(&j.name))).collect();
    let used = |r: &Resource| {
        let here = |id| jobs.iter().any(|j| j.id == id);
        chosen.is_empty()
            || rows.inputs.iter().any(|i| i.resource_id == r.id && here(i.job_id))
            || rows.outputs.iter().any(|o| o.resource_id == r.id && here(o.job_id))
    };
    let resources: Vec<&Resource> = rows.resources.iter().filter(|r| used(r)).collect();
    let graph = graph::graph(
        &jobs.iter().map(|j| job_node(&place, j, rows)).collect::<Vec<_>>(),
        &resources.iter().map(|r| resource_node(&place, r)).collect::<Vec<_>>(),
    );
    View {
        name: p.name.clone(),
        vars: place.vars_in_words(),
        paused: p.paused,
        paused_by: paused_by(p.paused_by.as_deref(), p.paused_at, now),
        archived: p.archived,
        public: p.public,
        groups: p.face.groups.iter().map(|g| tab(&place, g, &wanted)).collect(),
        status: Status::worst(jobs.iter().map(|j| j.last.as_ref().map_or(Status::None, status_of))),
        jobs: jobs.iter().map(|j| job_line(&place, j, now)).collect(),
        resources: resources.iter().map(|r| resource_line(&place, r, now)).collect(),
        display: p.face.display.clone().filter(|d| !d.background_image.is_empty()),
        // Drawn by `graph::svg`, which escapes every name.
        graph: Markup::trusted(graph::draw(&graph)),
        place,
        ..View::default()
    }
}

fn tab(place: &Place, group: &Group, wanted: &[&str]) -> Tab {
    Tab {
        name: group.name.clone(),
        href: Place::with(&place.page(), "group", &group.name),
        current: wanted.contains(&group.name.as_str()),
    }
}

fn status_of(build: &BuildFace) -> Status {
    Status::parse(build.status.as_str())
}

/// `paused by alice 3d ago`.
pub fn paused_by(by: Option<&str>, at: Option<Time>, now: Time) -> String {
    match (by, at) {
        (Some(by), Some(at)) => format!("paused by {by} {}", super::span::ago(now, at)),
        (Some(by), None) => format!("paused by {by}"),
        _ => String::new(),
    }
}

fn job_node(place: &Place, job: &JobFace, rows: &Rows) -> JobNode {
    let next = job.next.as_ref().map(status_of);
    JobNode {
        name: job.name.clone(),
        href: match &job.next {
            // The build that runs is what a click on a running job is for.
            Some(b) if next == Some(Status::Started) => place.build(&job.name, &b.name),
            _ => job.last.as_ref().map_or_else(|| place.job(&job.name), |b| place.build(&job.name, &b.name)),
        },
        status: job.last.as_ref().map_or(Status::None, status_of),
        running: next == Some(Status::Started),
        pending: next == Some(Status::Pending),
        paused: job.paused,
        inputs: rows.inputs.iter().filter(|i| i.job_id == job.id).map(input).collect(),
        outputs: rows.outputs.iter().filter(|o| o.job_id == job.id).map(|o| o.resource_name.clone()).collect(),
    }
}

fn input(row: &JobInputRow) -> Input {
    Input {
        resource: row.resource_name.clone(),
        passed: row.passed.iter().map(|(_, name)| name.clone()).collect(),
        trigger: row.trigger,
    }
}

fn resource_node(place: &Place, r: &Resource) -> ResourceNode {
    ResourceNode {
        name: r.name.clone(),
        kind: r.kind.clone(),
        href: place.resource(&r.name),
        pinned: r.pin().is_some(),
        broken: !r.last_check_error.is_empty(),
    }
}

fn build_link(place: &Place, job: &str, build: &BuildFace, now: Time) -> BuildLink {
    BuildLink {
        name: build.name.clone(),
        href: place.build(job, &build.name),
        status: status_of(build),
        ended: build.ended_at.map(|at| Moment::new(now, at)),
    }
}

fn job_line(place: &Place, job: &JobFace, now: Time) -> JobLine {
    JobLine {
        name: job.name.clone(),
        href: place.job(&job.name),
        status: job.last.as_ref().map_or(Status::None, status_of),
        paused: job.paused,
        last: job.last.as_ref().map(|b| build_link(place, &job.name, b, now)),
        next: job.next.as_ref().map(|b| build_link(place, &job.name, b, now)),
    }
}

fn resource_line(place: &Place, r: &Resource, now: Time) -> ResourceLine {
    ResourceLine {
        name: r.name.clone(),
        kind: r.kind.clone(),
        href: place.resource(&r.name),
        pinned: r.pin().is_some(),
        broken: !r.last_check_error.is_empty(),
        checked: (r.last_check_ended.0 > 0).then(|| Moment::new(now, r.last_check_ended)),
    }
}
