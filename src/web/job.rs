//! `…/jobs/{job}`: its state, its builds with what they were given and made, and what the next one waits for.

use std::sync::Arc;

use askama::Template;

use super::build::why::Need;
use super::link::Place;
use super::live;
use super::markup::Markup;
use super::page::{Crumb, Frame, Live, answer, rendered};
use super::pipeline::{crumbs, paused_by};
use super::span::{Moment, took};
use super::status::Status;
use crate::base::clock::Time;
use crate::base::version::Version;
use crate::front::{Answer, App, Call, Failure, Permit, Query, Rights};
use crate::store::build::Build;
use crate::store::page::{Page, PageRequest};
use crate::store::web::job::Used;

/// Builds on a page.
const PAGE: i64 = 30;

/// Where the neighbouring pages are.
#[derive(Debug, Clone, Default)]
pub struct Pager {
    /// Of newer rows.
    pub newer: Option<String>,
    /// Of older rows.
    pub older: Option<String>,
}

impl Pager {
    /// Around a page of rows, on the page at `address`.
    pub fn new<T>(address: &str, page: &Page<T>) -> Pager {
        Pager {
            newer: page.newer.map(|id| Place::with(address, "from", &id.to_string())),
            older: page.older.map(|id| Place::with(address, "to", &id.to_string())),
        }
    }

    /// Which rows a query asks for.
    pub fn request(query: &Query, limit: i64) -> PageRequest {
        let id = |name: &str| query.get(name).parse().ok();
        PageRequest { from: id("from"), to: id("to"), ..PageRequest::newest(limit) }
    }
}

/// A version that went in or came out.
#[derive(Debug, Clone, Default)]
pub struct Chip {
    /// The step.
    pub name: String,
    /// The version in words.
    pub text: String,
    /// The resource's page.
    pub href: String,
}

/// One build.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its page.
    pub href: String,
    /// Its status.
    pub status: Status,
    /// When it was made.
    pub created: Option<Moment>,
    /// When it started.
    pub started: Option<Moment>,
    /// How long it took.
    pub duration: Option<String>,
    /// Who asked for it.
    pub created_by: String,
    /// What it was given.
    pub inputs: Vec<Chip>,
    /// What it made.
    pub outputs: Vec<Chip>,
}

/// The page.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which pipeline.
    pub place: Place,
    /// The job.
    pub name: String,
    /// Status of its newest completed build, or that it runs.
    pub status: Status,
    /// Paused.
    pub paused: bool,
    /// By whom.
    pub paused_by: String,
    /// Its pipeline is paused.
    pub pipeline_paused: bool,
    /// The pipeline's page.
    pub pipeline_href: String,
    /// `disable_manual_trigger`.
    pub manual_disabled: bool,
    /// What the reader may do to it.
    pub rights: Rights,
    /// What the next build waits for.
    pub waits: Vec<Need>,
    /// Its builds.
    pub builds: Vec<Row>,
    /// Neighbouring pages.
    pub pager: Pager,
}

impl View {
    /// Where the form for an action leads.
    pub fn act(&self, action: &str) -> String {
        self.place.under(&format!("/jobs/{}/{action}", super::link::part(&self.name)))
    }
}

#[derive(Template)]
#[template(path = "parts/job.html")]
struct Part<'a> {
    view: &'a View,
}

struct Asked {
    place: Place,
    pipeline: crate::base::id::PipelineId,
    job: String,
    page: PageRequest,
    rights: Rights,
}

fn asked(permit: &Permit, call: &Call) -> Result<Asked, Failure> {
    Ok(Asked {
        place: place(permit)?,
        pipeline: permit.pipeline()?.id,
        job: call.param("job_name").to_owned(),
        page: Pager::request(&call.query, PAGE),
        rights: if permit.pipeline()?.archived { Rights::default() } else { permit.rights(&call.app) },
    })
}

/// The pipeline that a request names.
pub fn place(permit: &Permit) -> Result<Place, Failure> {
    let pipeline = permit.pipeline()?;
    Ok(Place {
        team: permit.team_name()?.to_owned(),
        pipeline: pipeline.name.clone(),
        vars: pipeline.instance_vars.clone(),
    })
}

/// `GET …/jobs/{job}`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let asked = asked(&permit, &call)?;
    let view = view(&call.app, &asked).await?;
    let href = view.place.job(&view.name);
    let way = crumbs(&view.place, Some(Crumb::new(&view.name, &href)));
    let mut frame = Frame::new(&permit, &call, format!("{}/{}", view.place.pipeline, view.name), way).await;
    let body = rendered(&Part { view: &view })?;
    frame.live = view.place.under(&format!("/jobs/{}/live", super::link::part(&view.name)));
    for (name, id) in [("from", asked.page.from), ("to", asked.page.to)] {
        if let Some(id) = id {
            frame.live = Place::with(&frame.live, name, &id.to_string());
        }
    }
    frame.live = Place::with(&frame.live, "seen", &live::mark(&body.to_string()));
    frame.status = view.status;
    frame.refresh = true;
    answer(&Live { frame, body })
}

/// `GET …/jobs/{job}/live`
pub async fn follow(permit: Permit, call: Call) -> Answer {
    let (app, asked) = (call.app.clone(), Arc::new(asked(&permit, &call)?));
    Ok(live::follow(&permit, call.app, call.query.get("seen").to_owned(), move || {
        let (app, asked) = (app.clone(), asked.clone());
        async move { render(&app, &asked).await }
    }))
}

async fn render(app: &App, asked: &Asked) -> Result<Markup, Failure> {
    rendered(&Part { view: &view(app, asked).await? })
}

async fn view(app: &App, asked: &Asked) -> Result<View, Failure> {
    let (pipeline, name, page) = (asked.pipeline, asked.job.clone(), asked.page);
    let intervals = app.settings.intervals;
    let rows = app.store.read(move |tx| {
        let Some(job) = tx.find_job(pipeline, &name)? else { return Ok(None) };
        let builds = tx.builds_of_job(job.id, page)?;
        let used = tx.used_by_builds(&builds.items.iter().map(|b| b.id).collect::<Vec<_>>())?;
        let waits = tx.why_job(&job, &intervals)?;
        let status = match job.next_build_id.or(job.latest_completed_build_id) {
            Some(id) => tx.build(id)?.map(|b| b.status),
            None => None,
        };
        Ok(Some((job, builds, used, waits, status)))
    });
    let (job, builds, used, waits, status) = rows.await?.ok_or_else(Failure::not_found)?;
    let (place, now) = (asked.place.clone(), app.clock.now());
    let pager = Pager::new(&place.job(&job.name), &builds);
    Ok(View {
        status: status.map_or(Status::None, |s| Status::parse(s.as_str())),
        paused: job.paused,
        paused_by: paused_by(job.paused_by.as_deref(), job.paused_at, now),
        pipeline_paused: job.pipeline_paused,
        pipeline_href: place.page(),
        manual_disabled: job.config.disable_manual_trigger,
        waits: waits.into_iter().map(|why| Need::open(why, &place, now)).collect(),
        rights: asked.rights.clone(),
        builds: builds.items.iter().map(|b| row(&place, &job.name, b, &used, now)).collect(),
        pager,
        name: job.name,
        place,
    })
}

/// `ref: abc, branch: main`
pub fn words(version: &Version) -> String {
    version.0.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join(", ")
}

fn row(place: &Place, job: &str, b: &Build, used: &[Used], now: Time) -> Row {
    let chips = |output: bool| {
        let mine = used.iter().filter(|u| u.build == b.id && u.output == output);
        mine.map(|u| Chip { name: u.name.clone(), text: words(&u.version), href: place.resource(&u.resource) })
            .collect()
    };
    Row {
        name: b.name.clone(),
        href: place.build(job, &b.name),
        status: Status::parse(b.status.as_str()),
        created: Some(Moment::new(now, b.created_at)),
        started: b.started_at.map(|at| Moment::new(now, at)),
        duration: b.started_at.zip(b.ended_at).map(|(s, e)| took(s, e)),
        created_by: b.created_by.clone().unwrap_or_default(),
        inputs: chips(false),
        outputs: chips(true),
    }
}
