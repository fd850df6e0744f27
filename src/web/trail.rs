//! `/audit` and `/teams/{team}/audit`: who did what, from where, and what came of it.

use askama::Template;

use super::page::{Crumb, Frame, answer};
use super::span::Moment;
use crate::base::clock::Time;
use crate::front::trail::{older, outcome, wanted};
use crate::front::{Answer, Call, Permit};
use crate::store::audit::{AuditEntry, AuditQuery, Chain};

struct Line {
    at: Moment,
    user: String,
    connector: String,
    address: String,
    action: String,
    team: String,
    object: String,
    outcome: &'static str,
    status: u16,
}

#[derive(Template)]
#[template(path = "pages/audit.html")]
struct Page {
    frame: Frame,
    heading: String,
    path: String,
    user: String,
    action: String,
    lines: Vec<Line>,
    older: String,
    with_team: bool,
    chain: Option<Chain>,
    /// Whether older rows were left unchecked.
    only_newest: bool,
}

/// Rows that each view checks for changes: some hundredths of a second; all of them could be a million.
const CHECKED: usize = 2_000;

/// `GET /teams/{team_name}/audit`
pub async fn of_team(permit: Permit, call: Call) -> Answer {
    let (id, name) = (permit.team()?, permit.team_name()?.to_owned());
    let base = format!("/teams/{}", super::link::part(&name));
    let asked = AuditQuery { team: Some(id), ..wanted(&call.query) };
    let crumbs = vec![Crumb::new(&name, format!("{base}/members")), Crumb::new("audit", format!("{base}/audit"))];
    let frame = Frame::new(&permit, &call, format!("{name} · audit"), crumbs).await;
    draw(&call, frame, asked, (format!("Audit trail of {name}"), format!("{base}/audit"))).await
}

/// `GET /audit`
pub async fn of_all(permit: Permit, call: Call) -> Answer {
    let frame = Frame::new(&permit, &call, "Audit", vec![Crumb::new("audit", "/audit")]).await;
    draw(&call, frame, wanted(&call.query), ("Audit trail".to_owned(), "/audit".to_owned())).await
}

async fn draw(call: &Call, frame: Frame, asked: AuditQuery, (heading, path): (String, String)) -> Answer {
    let (query, first) = (asked.clone(), asked.team.is_none() && asked.before.is_none());
    let newest = if call.query.has("whole") { usize::MAX } else { CHECKED };
    let read = call.app.store.read(move |tx| {
        let chain = if first { Some(tx.audit_chain(newest)?) } else { None };
        Ok((tx.audit_entries(&query)?, chain))
    });
    let (entries, chain) = read.await?;
    let now = call.app.clock.now();
    let full = i64::try_from(entries.len()).is_ok_and(|n| n == asked.limit);
    let older = entries.last().filter(|_| full).map(|last| format!("{path}?{}", older(&asked, last.id)));
    answer(&Page {
        frame,
        heading,
        path,
        lines: entries.iter().map(|e| line(e, now)).collect(),
        older: older.unwrap_or_default(),
        with_team: asked.team.is_none(),
        user: asked.user.unwrap_or_default(),
        action: asked.action.unwrap_or_default(),
        only_newest: chain == Some(Chain::Whole(CHECKED)) && newest == CHECKED,
        chain,
    })
}

fn line(e: &AuditEntry, now: Time) -> Line {
    Line {
        at: Moment::new(now, Time(e.at)),
        user: e.user.clone(),
        connector: e.connector.clone(),
        address: e.address.clone(),
        action: e.action.clone(),
        team: e.team.clone(),
        object: e.object.clone(),
        outcome: outcome(e.status),
        status: e.status,
    }
}
