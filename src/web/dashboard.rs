//! `/`: every pipeline a reader may see, by team, as cards with a preview of their jobs. Two thousand jobs cost three
//! queries and one pass over the rows.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;

use super::link::Place;
use super::markup::Markup;
use super::page::{Frame, Live, answer, rendered};
use super::search::{Search, Subjected};
use super::status::Status;
use super::{graph, live, span};
use crate::auth::{Action, Role};
use crate::base::clock::Time;
use crate::base::id::{JobId, PipelineId};
use crate::front::{Answer, App, Call, Failure, Permit};
use crate::store::build::Audience;
use crate::store::web::overview::{JobFace, PipelineFace, Scope};

/// One job in the preview of a card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The job's page.
    pub href: String,
    /// Name and status.
    pub title: String,
    /// CSS classes.
    pub class: String,
}

/// One pipeline.
#[derive(Debug, Clone, Default)]
pub struct Card {
    /// Name.
    pub name: String,
    /// Instance variables in words.
    pub vars: String,
    /// Its page.
    pub href: String,
    /// Which pipeline.
    pub place: Place,
    /// Worst status over its jobs.
    pub status: Status,
    /// A build runs.
    pub running: bool,
    /// A build waits.
    pub pending: bool,
    /// Paused.
    pub paused: bool,
    /// Archived.
    pub archived: bool,
    /// Anybody may look.
    pub public: bool,
    /// How many resources fail to be checked.
    pub broken: i64,
    /// Jobs by column.
    pub columns: Vec<Vec<Cell>>,
    /// Status in words.
    pub word: &'static str,
    /// Since when.
    pub changed: Option<span::Moment>,
    /// Whether the reader may pause it.
    pub may_operate: bool,
}

impl Card {
    /// Where the form for an action leads.
    pub fn act(&self, action: &str) -> String {
        self.place.under(&format!("/{action}"))
    }
}

/// What stands in a team's grid.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A pipeline of its own.
    One(Box<Card>),
    /// Instances of one pipeline.
    Instances(String, Vec<Card>),
}

/// A team's pipelines.
#[derive(Debug, Clone, Default)]
pub struct TeamGroup {
    /// Name.
    pub name: String,
    /// The reader's role, or ''.
    pub role: String,
    /// Its pipelines.
    pub entries: Vec<Entry>,
}

/// What to do when there is nothing to show.
#[derive(Debug, Clone, Default)]
pub struct Welcome {
    /// Whether the reader has signed in.
    pub signed_in: bool,
    /// Their name.
    pub user: String,
    /// A team of theirs.
    pub team: String,
    /// A name for the client's target.
    pub target: String,
    /// This server's address.
    pub url: String,
}

/// The whole page.
#[derive(Debug, Clone, Default)]
pub struct Dashboard {
    /// What was searched for.
    pub search: String,
    /// Archived ones are shown.
    pub all: bool,
    /// How many there are, in words.
    pub count: String,
    /// Teams in order.
    pub teams: Vec<TeamGroup>,
    /// How many are archived.
    pub archived: usize,
    /// Class, word and number of each status.
    pub legend: Vec<(&'static str, &'static str, usize)>,
    /// Instead of everything else.
    pub welcome: Option<Welcome>,
}

/// The page's part that changes.
#[derive(Template)]
#[template(path = "parts/dashboard.html")]
pub struct Part<'a> {
    /// What it shows.
    pub view: &'a Dashboard,
}

/// What a rendering depends on besides the rows.
struct Asked {
    permit: Permit,
    search: String,
    all: bool,
}

/// `GET /`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let (search, all) = (call.query.get("search").to_owned(), call.query.get("view") == "all");
    let mut frame = Frame::new(&permit, &call, "Dashboard", vec![]).await;
    let asked = Asked { permit, search, all };
    let body = render(&call.app, &asked).await?;
    let address = format!("/live/dashboard?{}", call.parts.uri.query().unwrap_or(""));
    frame.live = Place::with(&address, "seen", &live::mark(&body.to_string()));
    frame.refresh = true;
    answer(&Live { frame, body })
}

/// `GET /live/dashboard`
pub async fn follow(permit: Permit, call: Call) -> Answer {
    let (search, all) = (call.query.get("search").to_owned(), call.query.get("view") == "all");
    let (app, asked) = (call.app.clone(), Arc::new(Asked { permit, search, all }));
    let whose = asked.clone();
    Ok(live::follow(&whose.permit, call.app, call.query.get("seen").to_owned(), move || {
        let (app, asked) = (app.clone(), asked.clone());
        async move { render(&app, &asked).await }
    }))
}

async fn render(app: &App, asked: &Asked) -> Result<Markup, Failure> {
    let scope = match asked.permit.audience() {
        Audience::All => Scope::All,
        Audience::TeamsAndPublic(teams) => Scope::Teams(teams),
        Audience::Team(team) | Audience::PublicOf(team) => Scope::Teams(vec![team]),
    };
    let (pipelines, jobs, passed) = app
        .store
        .read(move |tx| Ok((tx.pipeline_faces(&scope)?, tx.job_faces(&scope)?, tx.passed_pairs(&scope)?)))
        .await?;
    let mut view = arrange(
        &cards(
            pipelines,
            jobs,
            &passed,
            app.clock.now(),
            (&asked.permit, app.settings.rbac.role(Action::PausePipeline)),
        ),
        asked,
    );
    if view.welcome.is_some() {
        view.welcome = Some(welcome(app, &asked.permit));
    }
    rendered(&Part { view: &view })
}

fn welcome(app: &App, permit: &Permit) -> Welcome {
    let team = permit.who().and_then(|s| s.roles.keys().next().cloned()).unwrap_or_else(|| "main".to_owned());
    let target = if app.settings.cluster_name.is_empty() { "ci".to_owned() } else { app.settings.cluster_name.clone() };
    Welcome {
        signed_in: permit.who().is_some(),
        user: permit.user().to_owned(),
        team,
        target,
        url: app.settings.external_url.clone(),
    }
}

fn cards(
    pipelines: Vec<PipelineFace>,
    jobs: Vec<JobFace>,
    passed: &[(JobId, JobId)],
    now: Time,
    (permit, operator): (&Permit, Role),
) -> Vec<Card> {
    let mut by_pipeline: HashMap<PipelineId, Vec<JobFace>> = HashMap::new();
    for job in jobs {
        by_pipeline.entry(job.pipeline).or_default().push(job);
    }
    let mut before: HashMap<JobId, Vec<JobId>> = HashMap::new();
    for (job, earlier) in passed {
        before.entry(*job).or_default().push(*earlier);
    }
    pipelines
        .into_iter()
        .map(|p| {
            let may = permit.has(&p.team, operator);
            let jobs = by_pipeline.remove(&p.id).unwrap_or_default();
            Card { may_operate: may, ..card(p, &jobs, &before, now) }
        })
        .collect()
}

/// A pipeline's card from its rows.
pub fn card(p: PipelineFace, jobs: &[JobFace], before: &HashMap<JobId, Vec<JobId>>, now: Time) -> Card {
    let place = Place { team: p.team, pipeline: p.name.clone(), vars: p.instance_vars };
    let index: HashMap<JobId, usize> = jobs.iter().enumerate().map(|(i, j)| (j.id, i)).collect();
    let edges: Vec<(usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(i, j)| before.get(&j.id).into_iter().flatten().filter_map(|b| index.get(b)).map(move |&b| (b, i)))
        .collect();
    let columns = graph::columns(jobs.len(), &edges);
    let last = |j: &JobFace| j.last.as_ref().map_or(Status::None, |b| Status::parse(b.status.as_str()));
    let next = |word: &'static str| move |j: &JobFace| j.next.as_ref().is_some_and(|b| b.status.as_str() == word);
    let status = Status::worst(jobs.iter().map(last));
    let changed = jobs.iter().filter_map(|j| j.last.as_ref()?.ended_at).max();
    let mut card = Card {
        vars: place.vars_in_words(),
        href: place.page(),
        name: p.name,
        status,
        running: jobs.iter().any(next("started")),
        pending: jobs.iter().any(next("pending")),
        paused: p.paused,
        archived: p.archived,
        public: p.public,
        broken: p.broken,
        columns: columns.into_iter().map(|c| c.into_iter().map(|i| cell(&place, &jobs[i])).collect()).collect(),
        place,
        ..Card::default()
    };
    card.word = word(&card, jobs.is_empty());
    card.changed = changed.filter(|_| card.word == status.word()).map(|at| span::Moment::new(now, at));
    card
}

fn word(card: &Card, empty: bool) -> &'static str {
    match card {
        c if c.archived => "archived",
        c if c.paused => "paused",
        c if c.running => "running",
        _ if empty => "no jobs",
        c if c.status == Status::None && c.pending => "pending",
        c => c.status.word(),
    }
}

fn cell(place: &Place, job: &JobFace) -> Cell {
    let last = job.last.as_ref().map_or(Status::None, |b| Status::parse(b.status.as_str()));
    let mut class = last.class().to_owned();
    let mut title = format!("{}: {}", job.name, last.word());
    if job.paused {
        class.push_str(" is-paused");
        title.push_str(", paused");
    }
    match job.next.as_ref().map(|b| b.status.as_str()) {
        Some("started") => {
            class.push_str(" is-running");
            title.push_str(", running");
        }
        Some(_) => {
            class.push_str(" is-waiting");
            title.push_str(", waiting");
        }
        None => {}
    }
    Cell { href: place.job(&job.name), title, class }
}

/// Filters, counts and groups the cards.
fn arrange(cards: &[Card], asked: &Asked) -> Dashboard {
    let search = Search::parse(&asked.search);
    let live: Vec<&Card> = cards.iter().filter(|c| asked.all || !c.archived).collect();
    let shown: Vec<&Card> = live.iter().copied().filter(|c| search.matches(&subjected(c))).collect();
    let standing = asked.permit.who();
    let mut names: Vec<String> = standing.map(|s| s.roles.keys().cloned().collect()).unwrap_or_default();
    for card in &shown {
        if !names.contains(&card.place.team) {
            names.push(card.place.team.clone());
        }
    }
    let teams = names
        .into_iter()
        .map(|name| TeamGroup {
            role: standing.and_then(|s| s.roles.get(&name)?.last().map(|r| r.name().to_owned())).unwrap_or_default(),
            entries: entries(shown.iter().copied().filter(|c| c.place.team == name)),
            name,
        })
        .filter(|t| search.is_empty() || !t.entries.is_empty())
        .collect();
    let nothing = cards.iter().all(|c| c.archived) && search.is_empty() && !asked.all;
    Dashboard {
        search: asked.search.clone(),
        all: asked.all,
        count: count(shown.len(), live.len()),
        teams,
        archived: cards.iter().filter(|c| c.archived).count(),
        legend: legend(&live),
        welcome: nothing.then(Welcome::default),
    }
}

fn subjected(c: &Card) -> Subjected<'_> {
    Subjected {
        team: &c.place.team,
        name: &c.name,
        vars: &c.vars,
        status: c.status,
        running: c.running,
        pending: c.pending,
        paused: c.paused,
    }
}

fn count(shown: usize, all: usize) -> String {
    let s = if all == 1 { "" } else { "s" };
    if shown == all { format!("{all} pipeline{s}") } else { format!("{shown} of {all} pipeline{s}") }
}

/// Instances stand together, where the first of them stands.
fn entries<'c>(cards: impl Iterator<Item = &'c Card>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for card in cards {
        if card.vars.is_empty() {
            entries.push(Entry::One(Box::new(card.clone())));
            continue;
        }
        let group = entries.iter_mut().find_map(|e| match e {
            Entry::Instances(name, cards) if *name == card.name => Some(cards),
            _ => None,
        });
        match group {
            Some(cards) => cards.push(card.clone()),
            None => entries.push(Entry::Instances(card.name.clone(), vec![card.clone()])),
        }
    }
    entries
}

fn legend(cards: &[&Card]) -> Vec<(&'static str, &'static str, usize)> {
    let count = |f: &dyn Fn(&Card) -> bool| cards.iter().filter(|c| f(c)).count();
    let is = |s: Status| move |c: &Card| !c.paused && c.status == s;
    [
        ("s-failed", "failed", count(&is(Status::Failed))),
        ("s-errored", "errored", count(&is(Status::Errored))),
        ("s-started", "running", count(&|c| c.running && !c.paused)),
        ("s-succeeded", "succeeded", count(&is(Status::Succeeded))),
        ("s-aborted", "aborted", count(&is(Status::Aborted))),
        ("is-paused", "paused", count(&|c| c.paused)),
    ]
    .into_iter()
    .filter(|(_, _, n)| *n > 0)
    .collect()
}
