//! `/teams/{team}/members`: who has which role, who of them was here, service accounts, and networks.

use askama::Template;
use axum::http::StatusCode;

use super::page::{Crumb, Frame, answer};
use super::span::Moment;
use crate::auth::{Action, Role, TeamAuth};
use crate::base::clock::Time;
use crate::front::service::{Wanted, make_account};
use crate::front::{Answer, Call, Failure, Permit, redirect, set_team_networks};
use crate::store::token::ServiceAccount;
use crate::store::user::User;

/// People are listed who were here in this time.
const RECENT: i64 = 90 * 24 * 3600 * 1000;
/// People on the page at most.
const MOST: usize = 500;

struct RoleLine {
    name: &'static str,
    users: Vec<String>,
    groups: Vec<String>,
}

struct PersonLine {
    name: String,
    connector: String,
    roles: String,
    seen: Moment,
    groups: usize,
}

struct AccountLine {
    name: String,
    href: String,
    role: &'static str,
    created_by: String,
    used: Option<Moment>,
    expires: String,
    expired: bool,
}

/// A service account that was just made.
struct Made {
    name: String,
    token: String,
}

#[derive(Template)]
#[template(path = "pages/members.html")]
struct Page {
    frame: Frame,
    team: String,
    base: String,
    admin: bool,
    roles: Vec<RoleLine>,
    people: Vec<PersonLine>,
    owner: bool,
    accounts: Vec<AccountLine>,
    all_roles: Vec<&'static str>,
    networks: String,
    address: String,
    made: Option<Made>,
}

/// `GET /teams/{team_name}/members`
pub async fn show(permit: Permit, call: Call) -> Answer {
    draw(&permit, &call, None).await
}

async fn draw(permit: &Permit, call: &Call, made: Option<Made>) -> Answer {
    let (id, now) = (permit.team()?, call.app.clock.now());
    let owner = permit.may(&call.app, Action::ListServiceAccounts);
    let found = call.app.store.read(move |tx| {
        let team = tx.teams_with_auth()?.into_iter().find(|t| t.id == id);
        Ok((team, tx.users_since(Time(now.0 - RECENT))?, tx.service_accounts(id)?))
    });
    let (team, users, accounts) = found.await?;
    let team = team.ok_or_else(Failure::not_found)?;
    let base = format!("/teams/{}", super::link::part(&team.name));
    let crumbs = vec![Crumb::new(&team.name, format!("{base}/members"))];
    let frame = Frame::new(permit, call, format!("{} · members", team.name), crumbs).await;
    let accounts = if owner { accounts } else { Vec::new() };
    answer(&Page {
        frame,
        admin: team.admin,
        roles: roles(&team.auth),
        people: users.iter().filter_map(|u| person(&team.auth, u, now)).take(MOST).collect(),
        owner,
        accounts: accounts.iter().map(|a| account(&base, a, now)).collect(),
        all_roles: Role::ALL.iter().rev().map(|r| r.name()).collect(),
        networks: team.networks.join("\n"),
        address: call.origin.address.to_string(),
        team: team.name,
        base,
        made,
    })
}

fn roles(auth: &TeamAuth) -> Vec<RoleLine> {
    let line = |role: &Role| {
        let members = auth.0.get(role.name())?;
        Some(RoleLine { name: role.name(), users: members.users.clone(), groups: members.groups.clone() })
    };
    Role::ALL.iter().rev().filter_map(line).collect()
}

/// Somebody who was here and has a role, by what was learnt of them then.
fn person(auth: &TeamAuth, user: &User, now: Time) -> Option<PersonLine> {
    let roles = auth.roles_of(&user.claims);
    (!roles.is_empty()).then(|| PersonLine {
        name: user.username.clone(),
        connector: user.connector.clone(),
        roles: roles.iter().rev().map(|r| r.name()).collect::<Vec<_>>().join(", "),
        seen: Moment::new(now, user.last_login),
        groups: user.claims.groups.len(),
    })
}

fn account(base: &str, a: &ServiceAccount, now: Time) -> AccountLine {
    AccountLine {
        name: a.name.clone(),
        href: format!("{base}/service-accounts/{}/delete", super::link::part(&a.name)),
        role: a.role.name(),
        created_by: a.created_by.clone(),
        used: a.last_used.map(|t| Moment::new(now, t)),
        expires: Moment::new(now, a.expires).exact,
        expired: a.expires <= now,
    }
}

/// `POST /teams/{team_name}/service-accounts`: the page with the new token on it, this once.
pub async fn make(permit: Permit, call: Call) -> Answer {
    let field = |name: &str| call.form.get(name).trim().to_owned();
    let days = match field("days").as_str() {
        "" => String::new(),
        text => text
            .parse::<u32>()
            .map(|d| format!("{}h", u64::from(d) * 24))
            .map_err(|_| Failure::bad_request("how long it is good is a number of days"))?,
    };
    let wanted = Wanted { name: field("name"), role: field("role"), expires_in: days };
    let (account, issued) = make_account(&permit, &call, wanted).await?;
    draw(&permit, &call, Some(Made { name: account.name, token: issued.token })).await
}

fn back_to_members(permit: &Permit) -> Answer {
    let team = super::link::part(permit.team_name()?);
    redirect(StatusCode::SEE_OTHER, &format!("/teams/{team}/members"))
}

/// `POST /teams/{team_name}/service-accounts/{account_name}/delete`
pub async fn remove(permit: Permit, call: Call) -> Answer {
    let (team, name) = (permit.team()?, call.param("account_name").to_owned());
    let gone = call.app.store.write(move |tx| tx.remove_service_account(team, &name)).await?;
    gone.then_some(()).ok_or_else(Failure::not_found)?;
    back_to_members(&permit)
}

/// `POST /teams/{team_name}/networks`
pub async fn networks(permit: Permit, call: Call) -> Answer {
    let listed = call.form.get("networks").split([',', '\n']).map(str::trim);
    let listed: Vec<String> = listed.filter(|n| !n.is_empty()).map(str::to_owned).collect();
    set_team_networks(&permit, &call, &listed).await?;
    back_to_members(&permit)
}
