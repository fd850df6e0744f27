//! Tokens as their owners see them: one's own sign-ins, and the service accounts of a team.

use axum::http::StatusCode;
use serde::Serialize;

use crate::auth::Role;
use crate::front::service::{Wanted, make_account};
use crate::front::{Answer, Call, Failure, Permit, empty, json};
use crate::store::token::{ServiceAccount, Session};

#[derive(Serialize)]
struct SessionJson<'s> {
    id: i64,
    kind: &'static str,
    created_at: i64,
    last_used_at: i64,
    expires_at: i64,
    address: &'s str,
    current: bool,
}

impl<'s> SessionJson<'s> {
    fn new(session: &'s Session, current: Option<i64>) -> SessionJson<'s> {
        SessionJson {
            id: session.id,
            kind: session.kind.name(),
            created_at: session.created.unix(),
            last_used_at: session.last_used.unix(),
            expires_at: session.expires.unix(),
            address: &session.address,
            current: current == Some(session.id),
        }
    }
}

/// The subject of the caller, who must be a person.
fn subject(permit: &Permit) -> Result<String, Failure> {
    Ok(permit.who().ok_or_else(Failure::unauthenticated)?.claims.sub.clone())
}

/// `ListSessions`: the caller's own sign-ins.
pub async fn sessions(permit: Permit, call: Call) -> Answer {
    let (sub, now) = (subject(&permit)?, call.app.clock.now());
    let sessions = call.app.store.read(move |tx| tx.sessions(&sub, now)).await?;
    let current = permit.caller().map(|c| c.token);
    let shown: Vec<_> = sessions.iter().map(|s| SessionJson::new(s, current)).collect();
    json(StatusCode::OK, &shown)
}

/// `EndSession`: of the caller's own.
pub async fn end_session(permit: Permit, call: Call) -> Answer {
    let (sub, id) = (subject(&permit)?, call.id("session_id")?);
    let ended = call.app.store.write(move |tx| tx.end_session(&sub, id)).await?;
    ended.then_some(()).ok_or_else(Failure::not_found)?;
    empty(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct Ended {
    ended: usize,
}

/// `EndSessionsOfUser`: by an administrator, of a user as `ListActiveUsersSince` numbers them.
pub async fn end_sessions_of_user(_: Permit, call: Call) -> Answer {
    let id = call.id("user_id")?;
    let ended = call.app.store.write(move |tx| match tx.user_sub(id)? {
        Some(sub) => tx.end_sessions(&sub).map(Some),
        None => Ok(None),
    });
    let ended = ended.await?.ok_or_else(Failure::not_found)?;
    json(StatusCode::OK, &Ended { ended })
}

#[derive(Serialize)]
struct AccountJson<'a> {
    id: i64,
    name: &'a str,
    role: Role,
    created_by: &'a str,
    created_at: i64,
    expires_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<i64>,
    /// Only in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl<'a> AccountJson<'a> {
    fn new(account: &'a ServiceAccount, token: Option<&'a str>) -> AccountJson<'a> {
        AccountJson {
            id: account.id,
            name: &account.name,
            role: account.role,
            created_by: &account.created_by,
            created_at: account.created.unix(),
            expires_at: account.expires.unix(),
            last_used_at: account.last_used.map(|t| t.unix()),
            token,
        }
    }
}

/// `ListServiceAccounts`
pub async fn accounts(permit: Permit, call: Call) -> Answer {
    let team = permit.team()?;
    let accounts = call.app.store.read(move |tx| tx.service_accounts(team)).await?;
    let shown: Vec<_> = accounts.iter().map(|a| AccountJson::new(a, None)).collect();
    json(StatusCode::OK, &shown)
}

/// `CreateServiceAccount`: the token is in this answer and nowhere else.
pub async fn create_account(permit: Permit, mut call: Call) -> Answer {
    let wanted: Wanted = call.take_json().await?;
    let (account, issued) = make_account(&permit, &call, wanted).await?;
    json(StatusCode::CREATED, &AccountJson::new(&account, Some(&issued.token)))
}

/// `DeleteServiceAccount`
pub async fn delete_account(permit: Permit, call: Call) -> Answer {
    let (team, name) = (permit.team()?, call.param("account_name").to_owned());
    let gone = call.app.store.write(move |tx| tx.remove_service_account(team, &name)).await?;
    gone.then_some(()).ok_or_else(Failure::not_found)?;
    empty(StatusCode::NO_CONTENT)
}
