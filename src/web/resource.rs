//! `…/resources/{resource}`: its check, its pin, its versions and who used them.

use std::sync::Arc;

use askama::Template;

use super::build::step::Field;
use super::build::why::Need;
use super::job::{Pager, place, words};
use super::link::{Place, part};
use super::live;
use super::page::{Crumb, Frame, Live, answer, rendered};
use super::pipeline::{BuildLink, crumbs};
use super::span::Moment;
use super::status::Status;
use crate::base::clock::Time;
use crate::base::id::PipelineId;
use crate::base::version::Version;
use crate::front::{Answer, App, Call, Failure, Permit, Rights};
use crate::store::page::{Page, PageRequest};
use crate::store::resource::Resource;
use crate::store::show::why::Why;
use crate::store::version::VersionRow;
use crate::store::web::overview::BuildFace;

/// Versions on a page.
const PAGE: i64 = 25;

/// What it is held at.
#[derive(Debug, Clone, Default)]
pub struct Pin {
    /// The version in words.
    pub text: String,
    /// Why.
    pub comment: String,
    /// Written in the configuration, so it cannot be taken away here.
    pub in_config: bool,
}

/// One version.
#[derive(Debug, Clone, Default)]
pub struct VersionLine {
    /// Its id.
    pub id: i64,
    /// In words.
    pub text: String,
    /// Whether it may be used.
    pub enabled: bool,
    /// Whether it is the one that is pinned.
    pub pinned: bool,
    /// Whether it can be pinned: it is not, and the configuration pins none.
    pub may_pin: bool,
    /// What its type tells.
    pub metadata: Vec<Field>,
    /// Builds that got it.
    pub inputs_to: Vec<BuildLink>,
    /// Builds that made it.
    pub outputs_of: Vec<BuildLink>,
}

/// The page.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which pipeline.
    pub place: Place,
    /// The resource.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its page.
    pub href: String,
    /// When it was last checked.
    pub checked: Option<Moment>,
    /// A check runs or was asked for.
    pub checking: bool,
    /// Why it is not checked now.
    pub why: Option<Need>,
    /// What the last check said if it failed.
    pub error: String,
    /// Held at a version.
    pub pin: Option<Pin>,
    /// The reader may check, pin, disable.
    pub rights: Rights,
    /// The cross-site token, for the comment's own form.
    pub csrf: String,
    /// Versions, newest first.
    pub versions: Vec<VersionLine>,
    /// Neighbouring pages.
    pub pager: Pager,
}

impl View {
    /// Where the form for an action leads.
    pub fn act(&self, action: &str) -> String {
        self.place.under(&format!("/resources/{}/{action}", part(&self.name)))
    }

    /// Where the form for an action on a version leads.
    pub fn version_act(&self, id: &i64, action: &str) -> String {
        self.place.under(&format!("/resources/{}/versions/{id}/{action}", part(&self.name)))
    }
}

#[derive(Template)]
#[template(path = "parts/resource.html")]
struct Part<'a> {
    view: &'a View,
}

struct Asked {
    place: Place,
    pipeline: PipelineId,
    name: String,
    page: PageRequest,
    rights: Rights,
    /// Who only reads a public pipeline does not see metadata of resources that are not public.
    reads_all: bool,
    csrf: String,
}

/// The rows behind the page.
struct Rows {
    resource: Resource,
    versions: Page<VersionRow>,
    /// For each version, builds that got it and that made it.
    used: Vec<[Vec<(String, BuildFace)>; 2]>,
    why: Option<Why>,
}

fn asked(permit: &Permit, call: &Call) -> Result<Asked, Failure> {
    Ok(Asked {
        place: place(permit)?,
        pipeline: permit.pipeline()?.id,
        name: call.param("resource_name").to_owned(),
        page: Pager::request(&call.query, PAGE),
        rights: if permit.pipeline()?.archived { Rights::default() } else { permit.rights(&call.app) },
        reads_all: permit.role().is_some(),
        csrf: call.csrf.clone(),
    })
}

/// `GET …/resources/{resource}`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let asked = asked(&permit, &call)?;
    let view = view(&call.app, &asked).await?;
    let way = crumbs(&view.place, Some(Crumb::new(&view.name, &view.href)));
    let mut frame = Frame::new(&permit, &call, format!("{}/{}", view.place.pipeline, view.name), way).await;
    let body = rendered(&Part { view: &view })?;
    frame.live = Place::with(&view.act("live"), "seen", &live::mark(&body.to_string()));
    for (name, id) in [("from", asked.page.from), ("to", asked.page.to)] {
        if let Some(id) = id {
            frame.live = Place::with(&frame.live, name, &id.to_string());
        }
    }
    frame.status = if view.error.is_empty() { Status::None } else { Status::Errored };
    frame.refresh = true;
    answer(&Live { frame, body })
}

/// `GET …/resources/{resource}/live`
pub async fn follow(permit: Permit, call: Call) -> Answer {
    let (app, asked) = (call.app.clone(), Arc::new(asked(&permit, &call)?));
    Ok(live::follow(&permit, call.app, call.query.get("seen").to_owned(), move || {
        let (app, asked) = (app.clone(), asked.clone());
        async move { rendered(&Part { view: &view(&app, &asked).await? }) }
    }))
}

async fn view(app: &App, asked: &Asked) -> Result<View, Failure> {
    let (pipeline, name, page) = (asked.pipeline, asked.name.clone(), asked.page);
    let (intervals, now) = (app.settings.intervals, app.clock.now());
    let rows = app.store.read(move |tx| {
        let Some(resource) = tx.find_resource(pipeline, &name)? else { return Ok(None) };
        let versions = tx.versions(resource.id, &Version::default(), page)?;
        let used = versions.items.iter().map(|v| tx.builds_around_version(resource.id, &v.version.digest()));
        let used = used.collect::<crate::store::Result<_>>()?;
        let why = tx.why_resource(&resource, &intervals, now)?;
        Ok(Some(Rows { resource, versions, used, why }))
    });
    let rows = rows.await?.ok_or_else(Failure::not_found)?;
    Ok(arrange(rows, asked, now))
}

fn arrange(rows: Rows, asked: &Asked, now: Time) -> View {
    let Rows { resource: r, versions, used, why } = rows;
    let place = asked.place.clone();
    let href = place.resource(&r.name);
    let pin =
        r.pin().map(|v| Pin { text: words(v), comment: r.pin_comment.clone(), in_config: r.config_pin.is_some() });
    let show_metadata = asked.reads_all || r.config.public;
    let pager = Pager::new(&href, &versions);
    let lines = versions.items.into_iter().zip(used).map(|(v, [inputs, outputs])| VersionLine {
        id: v.id.0,
        text: words(&v.version),
        enabled: v.enabled,
        pinned: r.pin().is_some_and(|p| v.version.contains(p)),
        may_pin: r.config_pin.is_none() && r.api_pin.as_ref().is_none_or(|p| !v.version.contains(p)),
        metadata: if show_metadata {
            v.metadata.into_iter().map(|f| Field { name: f.name, value: f.value }).collect()
        } else {
            Vec::new()
        },
        inputs_to: inputs.iter().map(|(job, b)| link(&place, job, b)).collect(),
        outputs_of: outputs.iter().map(|(job, b)| link(&place, job, b)).collect(),
    });
    View {
        versions: lines.collect(),
        kind: r.kind.clone(),
        checked: (r.last_check_ended.0 > 0).then(|| Moment::new(now, r.last_check_ended)),
        checking: r.check_requested > r.check_answered || r.last_check_started > r.last_check_ended,
        why: why.map(|why| Need::open(why, &place, now)),
        error: if r.last_check_error.is_empty() || show_metadata {
            r.last_check_error.clone()
        } else {
            // What a check says can hold addresses and names that are nobody else's business.
            "sign in as a member of the team to read why".to_owned()
        },
        pin,
        rights: asked.rights.clone(),
        csrf: asked.csrf.clone(),
        pager,
        name: r.name,
        href,
        place,
    }
}

fn link(place: &Place, job: &str, build: &BuildFace) -> BuildLink {
    BuildLink {
        name: format!("{job} #{}", build.name),
        href: place.build(job, &build.name),
        status: Status::parse(build.status.as_str()),
        ended: None,
    }
}
