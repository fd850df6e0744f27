//! Teams.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::name;
use crate::auth::TeamAuth;
use crate::base::id::TeamId;
use crate::front::{Answer, Call, Failure, Permit, empty, json};
use crate::pipeline::Warning;
use crate::store::show::access::TeamAccess;
use crate::store::team::Renamed;

#[derive(Serialize)]
struct TeamJson<'t> {
    id: TeamId,
    name: &'t str,
    auth: &'t TeamAuth,
}

impl<'t> TeamJson<'t> {
    fn new(team: &'t TeamAccess) -> TeamJson<'t> {
        TeamJson { id: team.id, name: &team.name, auth: &team.auth }
    }
}

/// `ListTeams`, by name
pub async fn list(permit: Permit, call: Call) -> Answer {
    let teams = call.app.store.read(|tx| tx.teams_with_auth()).await?;
    let mut seen: Vec<_> = teams.iter().filter(|t| permit.sees(t.id, false)).map(TeamJson::new).collect();
    seen.sort_by_key(|t| t.name);
    json(StatusCode::OK, &seen)
}

pub(super) async fn find(call: &Call, id: TeamId) -> Result<TeamAccess, Failure> {
    let teams = call.app.store.read(|tx| tx.teams_with_auth()).await?;
    teams.into_iter().find(|t| t.id == id).ok_or_else(Failure::not_found)
}

/// `GetTeam`
pub async fn get(permit: Permit, call: Call) -> Answer {
    let team = find(&call, permit.team()?).await?;
    json(StatusCode::OK, &TeamJson::new(&team))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wanted {
    auth: TeamAuth,
}

#[derive(Serialize)]
struct SetJson<'t> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    team: TeamJson<'t>,
}

/// `SetTeam`: its owners change it, an administrator makes it.
pub async fn set(permit: Permit, call: Call) -> Answer {
    let name = call.param("team_name").to_owned();
    let store = call.app.store.clone();
    let Wanted { auth } = call.lenient_json().await?;
    auth.validate().map_err(|e| Failure::bad_request(e.to_string()))?;
    let new = permit.team().is_err();
    if new && !permit.is_admin() {
        return Err(Failure::forbidden());
    }
    let warnings = if new { name::check(&name, "team").map_err(Failure::bad_request)? } else { Vec::new() };
    let value = serde_json::to_value(&auth).map_err(crate::base::error::Error::internal)?;
    let (row, created) = store.write(move |tx| tx.set_team(&name, &value)).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    json(status, &SetJson { warnings, team: TeamJson { id: row.id, name: &row.name, auth: &auth } })
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NewName {
    pub name: String,
}

#[derive(Serialize)]
pub(super) struct RenamedJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// What a rename answers, of a team or a pipeline.
pub(super) fn renamed(done: Renamed, name: &str, warnings: Vec<Warning>) -> Answer {
    match done {
        Renamed::Done => json(StatusCode::OK, &RenamedJson { errors: Vec::new(), warnings }),
        Renamed::NotFound => Err(Failure::not_found()),
        Renamed::Taken => Err(Failure::conflict(format!("the name {name:?} is taken; choose another"))),
    }
}

/// `RenameTeam`: its owners may, as long as a name is only a name.
pub async fn rename(permit: Permit, call: Call) -> Answer {
    if let Some(flag) = call.app.settings.named_teams.first().filter(|_| !permit.is_admin()) {
        let text = format!(
            "only an administrator may rename a team here: by its name it gets secrets or rights that were set up for that \
             name ({flag})"
        );
        return Err(Failure::text(StatusCode::FORBIDDEN, text));
    }
    let (id, store) = (permit.team()?, call.app.store.clone());
    let NewName { name } = call.lenient_json().await?;
    let warnings = match name::check(&name, "team") {
        Ok(warnings) => warnings,
        Err(error) => return json(StatusCode::BAD_REQUEST, &RenamedJson { errors: vec![error], warnings: Vec::new() }),
    };
    let to = name.clone();
    renamed(store.write(move |tx| tx.rename_team(id, &to)).await?, &name, warnings)
}

/// `DestroyTeam`: with all that belongs to it. The last admin team stays, else nobody could administer.
pub async fn destroy(permit: Permit, call: Call) -> Answer {
    let id = permit.team()?;
    let done = call.app.store.write(move |tx| {
        let teams = tx.teams_with_auth()?;
        let last = teams.iter().any(|t| t.id == id && t.admin) && teams.iter().filter(|t| t.admin).count() == 1;
        if last { Ok(None) } else { tx.destroy_team(id).map(Some) }
    });
    match done.await? {
        // The client takes a refusal without a word for this one, and says so.
        None => Err(Failure::bare(StatusCode::FORBIDDEN)),
        Some(None) => Err(Failure::not_found()),
        Some(Some(builds)) => {
            call.app.store.forget_logs(builds).await?;
            // Its steps that still run have lost their build: the track pass ends them.
            call.app.wakes.all();
            empty(StatusCode::NO_CONTENT)
        }
    }
}
