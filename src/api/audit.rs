//! The audit trail, for owners of a team and for administrators.

use axum::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::front::trail::{older, outcome, wanted};
use crate::front::{Answer, Call, Permit, json};
use crate::store::audit::{AuditEntry, AuditQuery};

#[derive(Serialize)]
struct EntryJson<'e> {
    id: i64,
    /// In milliseconds.
    at: i64,
    action: &'e str,
    user: &'e str,
    sub: &'e str,
    connector: &'e str,
    address: &'e str,
    team: &'e str,
    object: &'e str,
    parameters: &'e serde_json::Value,
    status: u16,
    outcome: &'static str,
}

impl<'e> EntryJson<'e> {
    fn new(e: &'e AuditEntry) -> EntryJson<'e> {
        EntryJson {
            id: e.id,
            at: e.at,
            action: &e.action,
            user: &e.user,
            sub: &e.sub,
            connector: &e.connector,
            address: &e.address,
            team: &e.team,
            object: &e.object,
            parameters: &e.parameters,
            status: e.status,
            outcome: outcome(e.status),
        }
    }
}

/// `ListTeamAudit`
pub async fn of_team(permit: Permit, call: Call) -> Answer {
    let team = Some(permit.team()?);
    list(call, |wanted| AuditQuery { team, ..wanted }).await
}

/// `ListAudit`
pub async fn of_all(_: Permit, call: Call) -> Answer {
    list(call, |wanted| wanted).await
}

async fn list(call: Call, narrow: impl FnOnce(AuditQuery) -> AuditQuery) -> Answer {
    let wanted = narrow(wanted(&call.query));
    let asked = wanted.clone();
    let entries = call.app.store.read(move |tx| tx.audit_entries(&asked)).await?;
    let mut response = json(StatusCode::OK, &entries.iter().map(EntryJson::new).collect::<Vec<_>>())?;
    let full = i64::try_from(entries.len()).is_ok_and(|n| n == wanted.limit);
    if let Some(last) = entries.last().filter(|_| full) {
        let (url, path) = (&call.app.settings.external_url, call.parts.uri.path());
        let link = format!(r#"<{url}{path}?{}>; rel="next""#, older(&wanted, last.id));
        if let Ok(value) = HeaderValue::from_str(&link) {
            response.headers_mut().append(header::LINK, value);
        }
    }
    Ok(response)
}
