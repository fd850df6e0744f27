//! `/account`: who the reader is here, and where they are signed in.

use askama::Template;
use axum::http::StatusCode;

use super::page::{Crumb, Frame, answer, back};
use super::span::Moment;
use crate::front::{Answer, Call, Failure, Permit, redirect};
use crate::store::token::Session;

/// A team the reader is in.
struct TeamLine {
    name: String,
    href: String,
    roles: String,
}

/// A sign-in.
struct SessionLine {
    id: i64,
    kind: &'static str,
    created: Moment,
    used: Moment,
    expires: String,
    address: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "pages/account.html")]
struct Page {
    frame: Frame,
    name: String,
    connector: String,
    email: String,
    admin: bool,
    service: bool,
    since: Option<Moment>,
    groups: Vec<String>,
    teams: Vec<TeamLine>,
    sessions: Vec<SessionLine>,
}

/// `GET /account`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let who = permit.who().ok_or_else(Failure::unauthenticated)?.clone();
    let (sub, now) = (who.claims.sub.clone(), call.app.clock.now());
    let sessions = call.app.store.read(move |tx| tx.sessions(&sub, now)).await?;
    let caller = permit.caller();
    let line = |s: &Session| SessionLine {
        id: s.id,
        kind: s.kind.name(),
        created: Moment::new(now, s.created),
        used: Moment::new(now, s.last_used),
        expires: Moment::new(now, s.expires).exact,
        address: s.address.clone(),
        current: caller.is_some_and(|c| c.token == s.id),
    };
    let teams = who.roles.iter().map(|(name, roles)| TeamLine {
        href: format!("/teams/{}/members", super::link::part(name)),
        name: name.clone(),
        roles: roles.iter().rev().map(|r| r.name()).collect::<Vec<_>>().join(", "),
    });
    let teams = teams.collect();
    let frame = Frame::new(&permit, &call, "Account", vec![Crumb::new("account", "/account")]).await;
    answer(&Page {
        frame,
        name: permit.user().to_owned(),
        connector: who.claims.federated_claims.connector_id.clone(),
        email: who.claims.email.clone(),
        admin: who.admin,
        service: caller.is_some_and(|c| c.is_service),
        since: caller.map(|c| Moment::new(now, c.since)),
        groups: who.claims.groups.clone(),
        teams,
        sessions: sessions.iter().map(line).collect(),
    })
}

/// `POST /account/sessions/{session_id}/end`
pub async fn end(permit: Permit, call: Call) -> Answer {
    let sub = permit.who().ok_or_else(Failure::unauthenticated)?.claims.sub.clone();
    let id = call.id("session_id")?;
    let ended = call.app.store.write(move |tx| tx.end_session(&sub, id)).await?;
    ended.then_some(()).ok_or_else(Failure::not_found)?;
    redirect(StatusCode::SEE_OTHER, &back(&call, "/account"))
}
