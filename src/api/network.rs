//! The networks a team's members must call from.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::team;
use crate::front::{Answer, Call, Permit, json, set_team_networks};

/// The list, empty for any network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworksJson {
    /// Such as `10.0.0.0/8`.
    pub networks: Vec<String>,
}

/// `GetTeamNetworks`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let networks = team::find(&call, permit.team()?).await?.networks;
    json(StatusCode::OK, &NetworksJson { networks })
}

/// `SetTeamNetworks`
pub async fn set(permit: Permit, mut call: Call) -> Answer {
    let wanted: NetworksJson = call.take_json().await?;
    let networks = set_team_networks(&permit, &call, &wanted.networks).await?;
    json(StatusCode::OK, &NetworksJson { networks })
}
