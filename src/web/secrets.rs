//! `/teams/{team}/secrets`: a team's secrets without their values, and `/builds/{build}/leak`: what to do when one shows
//! in a log.

use askama::Template;
use axum::http::StatusCode;

use super::link::part;
use super::page::{Crumb, Frame, answer};
use super::span::Moment;
use crate::auth::Role;
use crate::base::clock::Time;
use crate::base::secret::Secret;
use crate::front::{Answer, Call, Permit, Query, redirect, secret};
use crate::secrets::{Explained, Session, is_readonly};
use crate::vars::Reference;

/// One secret.
struct Row {
    pipeline: String,
    name: String,
    changed: Option<Moment>,
    changed_by: String,
    used: Option<Moment>,
    /// The platform's: it is not removed here.
    readonly: bool,
}

#[derive(Template)]
#[template(path = "pages/secrets.html")]
struct Page {
    frame: Frame,
    team: String,
    source: String,
    writable: bool,
    problem: String,
    rows: Vec<Row>,
    /// What was asked to be explained.
    asked: String,
    explained: Option<Explained>,
}

/// `GET /teams/{team}/secrets`
pub async fn show(permit: Permit, call: Call) -> Answer {
    page(&permit, &call, None).await
}

/// `GET /teams/{team}/secrets/explain`
pub async fn explain(permit: Permit, call: Call) -> Answer {
    let explained = match Reference::parse(call.query.get("name")) {
        Ok(reference) => {
            let session = Session::new(secret::asker_of_pipeline(&call.app, &permit, &call.query).await?);
            call.app.secrets.explain(&session, &reference).await
        }
        Err(e) => Explained { name: call.query.get("name").to_owned(), tried: Vec::new(), problem: e.to_string() },
    };
    page(&permit, &call, Some(explained)).await
}

async fn page(permit: &Permit, call: &Call, explained: Option<Explained>) -> Answer {
    let team = permit.team_name()?.to_owned();
    let way = vec![Crumb::new(&team, "/"), Crumb::new("secrets", address(&team))];
    let asker = secret::asker(permit, &Query::default())?;
    let (listed, problem) = match call.app.secrets.list(&asker).await {
        Ok(listed) => (listed, String::new()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    let now = call.app.clock.now();
    let moment = |unix: i64| (unix > 0).then(|| Moment::new(now, Time(unix * 1000)));
    let row = |l: crate::secrets::Listed| Row {
        readonly: is_readonly(&l.name),
        pipeline: l.pipeline,
        name: l.name,
        changed: moment(l.changed_at),
        changed_by: l.changed_by,
        used: moment(l.last_used),
    };
    let source = call.app.secrets.global.source();
    answer(&Page {
        frame: Frame::new(permit, call, format!("Secrets of {team}"), way).await,
        source: source.name().to_owned(),
        writable: source.writer().is_some() && permit.role() >= Some(Role::Member),
        problem,
        rows: listed.into_iter().map(row).collect(),
        asked: call.query.get("pipeline").to_owned(),
        explained,
        team,
    })
}

fn address(team: &str) -> String {
    format!("/teams/{}/secrets", part(team))
}

/// `POST /teams/{team}/secrets`
pub async fn save(permit: Permit, call: Call) -> Answer {
    let asker = secret::asker(&permit, &call.form)?;
    let value = Secret::new(call.form.get("value").replace("\r\n", "\n"));
    let put = call.app.secrets.put(&asker, call.form.get("name"), &value, permit.user()).await;
    put.map_err(|e| secret::unwritten(&e))?;
    redirect(StatusCode::SEE_OTHER, &address(permit.team_name()?))
}

/// `POST /teams/{team}/secrets/remove`
pub async fn remove(permit: Permit, call: Call) -> Answer {
    let asker = secret::asker(&permit, &call.query)?;
    let removed = call.app.secrets.delete(&asker, call.query.get("name")).await;
    removed.map_err(|e| secret::unwritten(&e))?;
    redirect(StatusCode::SEE_OTHER, &address(permit.team_name()?))
}

/// Somebody who could have seen the log.
struct ReaderLine {
    name: String,
    connector: String,
    role: String,
    seen: Moment,
}

#[derive(Template)]
#[template(path = "pages/leak.html")]
struct Leak {
    frame: Frame,
    build: i64,
    /// Names and paths of what the build was given.
    secrets: Vec<(String, String)>,
    everybody: bool,
    team: String,
    people: Vec<ReaderLine>,
}

/// `GET /builds/{build}/leak`
pub async fn leak(permit: Permit, call: Call) -> Answer {
    let id = permit.build()?;
    let (exposure, now) = (secret::exposure(&call.app, &permit).await?, call.app.clock.now());
    let name = format!("build {id}");
    let way =
        vec![Crumb::new(&name, format!("/builds/{id}")), Crumb::new("leaked secret", format!("/builds/{id}/leak"))];
    let line = |p: secret::Reader| ReaderLine {
        name: p.name,
        connector: p.connector,
        role: p.role,
        seen: Moment::new(now, p.seen),
    };
    answer(&Leak {
        frame: Frame::new(&permit, &call, format!("A secret in the log of {name}"), way).await,
        build: id.0,
        secrets: exposure.secrets,
        everybody: exposure.everybody,
        team: permit.team_name()?.to_owned(),
        people: exposure.people.into_iter().map(line).collect(),
    })
}

/// `POST /builds/{build}/log/redact`
pub async fn redact(permit: Permit, call: Call) -> Answer {
    let texts: Vec<Secret<String>> =
        call.form.get("texts").lines().filter(|l| !l.trim().is_empty()).map(|l| Secret::new(l.to_owned())).collect();
    secret::redact_log(&call.app, &permit, &texts).await?;
    redirect(StatusCode::SEE_OTHER, &format!("/builds/{}", permit.build()?))
}

/// `POST /builds/{build}/log/remove`
pub async fn erase(permit: Permit, call: Call) -> Answer {
    secret::delete_log(&call.app, &permit).await?;
    redirect(StatusCode::SEE_OTHER, &format!("/builds/{}", permit.build()?))
}
