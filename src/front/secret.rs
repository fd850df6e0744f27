//! What the API and the pages of secrets share: who asks, what an error is, and taking a secret out of a log.

use super::{App, Failure, Permit, Query};
use crate::auth::Role;
use crate::base::clock::Time;
use crate::base::error::{Error, Kind};
use crate::base::id::{BuildId, PipelineId};
use crate::base::secret::{Redactor, Secret};
use crate::login::team_user;
use crate::secrets::{Asker, LookupError, Session, SourceError, WriteError};
use crate::store::show::access::TeamAccess;
use crate::store::token::ServiceAccount;
use crate::store::user::User;
use crate::vars::{Lookup, Reference, each_text};

/// Who a request of a member asks for: the team in the path and the pipeline in the query.
pub fn asker(permit: &Permit, query: &Query) -> Result<Asker, Failure> {
    let pipeline = Some(query.get("pipeline")).filter(|p| !p.is_empty());
    Ok(Asker {
        team: permit.team()?,
        team_name: permit.team_name()?.to_owned(),
        pipeline: pipeline.map(|p| (PipelineId(0), p.to_owned())),
        instance_vars: String::new(),
        job: String::new(),
        build: None,
    })
}

/// The same, with the pipeline as it is set, whose own sources are asked too.
pub async fn asker_of_pipeline(app: &App, permit: &Permit, query: &Query) -> Result<Asker, Failure> {
    let mut asker = asker(permit, query)?;
    if let Some((id, pipeline)) = &mut asker.pipeline {
        let (team, name) = (asker.team, pipeline.clone());
        let found = app.store.read(move |tx| tx.pipeline_access(team, &name, "")).await?;
        *id = found.map_or(PipelineId(0), |p| p.id);
    }
    Ok(asker)
}

/// The status of a source's error.
fn of_source(error: &SourceError) -> Kind {
    match error {
        SourceError::Down { .. } => Kind::Unavailable,
        SourceError::Refused { .. } => Kind::Conflict,
    }
}

/// A look-up that could not be made.
pub fn failed(error: &LookupError) -> Failure {
    let kind = match error {
        LookupError::Name(_) | LookupError::VarSource(_) => Kind::Invalid,
        LookupError::Source(e) => of_source(e),
        LookupError::Store(_) => Kind::Internal,
    };
    Failure::from(Error::new(kind, error.to_string()))
}

/// A write that could not be made.
pub fn unwritten(error: &WriteError) -> Failure {
    let kind = match error {
        WriteError::Name(_) | WriteError::Value(_) => Kind::Invalid,
        WriteError::Readonly(_) => Kind::Forbidden,
        WriteError::ReadOnlySource(_) => Kind::Conflict,
        WriteError::Source(e) => of_source(e),
    };
    Failure::from(Error::new(kind, error.to_string()))
}

/// Somebody who could have read a build's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Their name, or that of a service account.
    pub name: String,
    /// How they sign in.
    pub connector: String,
    /// The role that lets them.
    pub role: String,
    /// When they were last seen.
    pub seen: Time,
}

/// What a build was given, and who may read its log now.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// Names and paths, never values.
    pub secrets: Vec<(String, String)>,
    /// Whether nobody even has to sign in.
    pub everybody: bool,
    /// The build's own team and the administrators', with who belongs to them.
    pub teams: Vec<TeamAccess>,
    /// Those of them who have been here, the last one first.
    pub people: Vec<Reader>,
}

/// Looks who could have seen a build's log.
pub async fn exposure(app: &App, permit: &Permit) -> Result<Exposure, Failure> {
    let (id, team) = (permit.build()?, permit.team()?);
    let read = app.store.read(move |tx| {
        let teams: Vec<_> = tx.teams_with_auth()?.into_iter().filter(|t| t.admin || t.id == team).collect();
        let (users, accounts) = (tx.users_since(Time(0))?, tx.service_accounts(team)?);
        Ok((tx.secrets_of_build(id)?, tx.build_access(id)?, teams, users, accounts))
    });
    let (secrets, access, teams, users, accounts) = read.await?;
    let access = access.ok_or_else(Failure::not_found)?;
    let own = team_user(team, "").claims.sub;
    let role = |user: &User| {
        let admin = teams.iter().any(|t| t.admin && t.auth.roles_of(&user.claims).contains(&Role::Owner));
        let member = teams.iter().filter(|t| t.id == team).flat_map(|t| t.auth.roles_of(&user.claims)).max();
        let member = member.or((user.sub == own).then_some(Role::Member)).map(|r| r.name().to_owned());
        member.or(admin.then(|| "administrator".to_owned()))
    };
    let person = |user: User| {
        let role = role(&user)?;
        Some(Reader { role, name: user.username, connector: user.connector, seen: user.last_login })
    };
    let account = |account: ServiceAccount| {
        let (role, seen) = (account.role.name().to_owned(), account.last_used.unwrap_or(account.created));
        Reader { name: account.name, connector: "service account".to_owned(), role, seen }
    };
    let mut people: Vec<Reader> = users.into_iter().filter_map(person).collect();
    people.extend(accounts.into_iter().map(account));
    people.sort_by(|a, b| (b.seen, &a.name).cmp(&(a.seen, &b.name)));
    Ok(Exposure { secrets, everybody: access.exposed && access.public_job, teams, people })
}

/// Takes the given texts, and the present values of all secrets the build was given, out of its log.
pub async fn redact_log(app: &App, permit: &Permit, texts: &[Secret<String>]) -> Result<usize, Failure> {
    let build = ended(app, permit).await?;
    let redactor = Redactor::new();
    texts.iter().for_each(|text| redactor.learn(text.expose()));
    learn_secrets(app, build, &redactor).await?;
    Ok(app.feed.redact(build, &redactor).await?)
}

/// Removes a build's log.
pub async fn delete_log(app: &App, permit: &Permit) -> Result<(), Failure> {
    let build = ended(app, permit).await?;
    let now = app.clock.now();
    app.store.write(move |tx| tx.set_reaped(&[build], now)).await?;
    Ok(app.feed.erase(build).await?)
}

/// The build, which must have ended: a log that grows would be written over what was taken out.
async fn ended(app: &App, permit: &Permit) -> Result<BuildId, Failure> {
    let id = permit.build()?;
    let build = app.store.read(move |tx| tx.build(id)).await?.ok_or_else(Failure::not_found)?;
    if build.ended_at.is_none() {
        return Err(Failure::conflict("the build still runs: abort it, or wait until it has ended"));
    }
    Ok(id)
}

/// What the build was given then may have been changed since; its present values are taken out at least.
async fn learn_secrets(app: &App, id: BuildId, redactor: &Redactor) -> Result<(), Failure> {
    let read = app.store.read(move |tx| Ok((tx.secrets_of_build(id)?, tx.build(id)?)));
    let (secrets, build) = read.await?;
    let build = build.ok_or_else(Failure::not_found)?;
    let session = Session::new(Asker {
        team: build.team_id,
        team_name: build.team_name.clone(),
        pipeline: build.pipeline_id.zip(build.pipeline_name.clone()),
        instance_vars: String::new(),
        job: String::new(),
        build: None,
    });
    for (name, _) in secrets {
        let reference = Reference::parse(&name).map_err(Error::internal)?;
        match app.secrets.values(&session, std::slice::from_ref(&reference)).await {
            Ok(values) => {
                if let Ok(Some(value)) = values.get(&reference) {
                    each_text(&value, &mut |text| redactor.learn(text));
                }
            }
            Err(error) => tracing::warn!(%error, name, "a secret that is taken out of a log is not known any more"),
        }
    }
    Ok(())
}
