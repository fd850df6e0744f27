//! The people: who is calling, and who has been here.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;

use crate::front::{Answer, Call, Failure, Permit, json};

#[derive(Serialize)]
struct User<'a> {
    sub: &'a str,
    name: &'a str,
    user_id: &'a str,
    user_name: &'a str,
    email: &'a str,
    is_admin: bool,
    is_system: bool,
    teams: BTreeMap<&'a str, Vec<&'static str>>,
    connector: &'a str,
    display_user_id: &'a str,
    /// As the connector named them at sign-in, and when that was. Local users have none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    groups_read_at: Option<i64>,
}

/// `GetUser`
pub async fn current(permit: Permit, _: Call) -> Answer {
    let who = permit.who().ok_or_else(Failure::unauthenticated)?;
    let claims = &who.claims;
    let teams = who.roles.iter().map(|(t, roles)| (t.as_str(), roles.iter().rev().map(|r| r.name()).collect()));
    json(
        StatusCode::OK,
        &User {
            sub: &claims.sub,
            name: &claims.name,
            user_id: &claims.federated_claims.user_id,
            user_name: &claims.preferred_username,
            email: &claims.email,
            is_admin: who.admin,
            is_system: false,
            teams: teams.collect(),
            connector: &claims.federated_claims.connector_id,
            display_user_id: claims.display_name(),
            groups: &claims.groups,
            groups_read_at: permit.caller().filter(|_| !claims.groups.is_empty()).map(|c| c.since.unix()),
        },
    )
}
