//! The permission check, and the proof that it was passed.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, StatusCode};

use std::time::Duration;

use super::origin::{network, within};
use super::session::{self, Token};
use super::{App, Failure, Origin, Query, instance_vars};
use crate::audit::Entry;
use crate::auth::action::TABLE;
use crate::auth::{Access, Action, Decision, Object, Role, Standing, decide};
use crate::base::chance;
use crate::base::clock::Time;
use crate::base::id::{BuildId, TeamId};
use crate::base::version::digest;
use crate::store::ReadTx;
use crate::store::build::Audience;
use crate::store::show::access::{BuildAccess, PipelineAccess, TeamAccess};
use crate::store::team::key;
use crate::store::token::Bearer;

/// What goes on long after it was allowed is looked at again at least this often, and after any write that may have
/// changed it; but not more often than the second, since people sign in all the time.
const LOOK: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(2);
/// How exactly it is known when a token was last used: a write for each of its requests would be too many.
const USED: Duration = Duration::from_secs(300);

/// What is refused for an archived pipeline. Whoever calls a webhook is told only once they have shown its token.
const NEEDS_LIVE_PIPELINE: &[Action] = &[
    Action::PausePipeline,
    Action::UnpausePipeline,
    Action::CreateJobBuild,
    Action::RerunJobBuild,
    Action::ScheduleJob,
    Action::CheckResource,
    Action::CheckResourceType,
    Action::CheckPrototype,
    Action::EnableResourceVersion,
    Action::DisableResourceVersion,
    Action::PinResourceVersion,
    Action::UnpinResource,
    Action::SetPinCommentOnResource,
];

/// That the caller may do what they ask, and to what: only the check makes one, so no handler runs without it.
#[derive(Debug)]
pub struct Permit {
    action: Action,
    who: Option<Standing>,
    role: Option<Role>,
    team: Option<(TeamId, String)>,
    pipeline: Option<PipelineAccess>,
    build: Option<BuildId>,
    /// Teams on which the caller has a role.
    own: Vec<TeamId>,
    caller: Option<Caller>,
    question: Question,
}

/// What the permission was asked with, for asking again.
#[derive(Debug, Clone)]
struct Question {
    /// The digest of the caller's token.
    token: Option<String>,
    team: Option<String>,
    pipeline: Option<String>,
    vars: String,
    build: Option<BuildId>,
    origin: Origin,
    lenient: bool,
}

/// The actions that a page may offer: buttons follow the same table, and what the operator has moved in it, as checks do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(Vec<&'static str>);

impl Rights {
    /// Whether the action of that name is among them.
    pub fn may(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

/// By what a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The row of their token.
    pub token: i64,
    /// When they signed in; as old as this is what is known of their groups.
    pub since: Time,
    /// Whether it is a service account rather than a person.
    pub is_service: bool,
}

/// Whose rows a page may show, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Everybody's.
    All,
    /// Those of these teams, and of exposed pipelines.
    Teams(Vec<String>),
}

impl Permit {
    /// Comes back as soon as the caller may no longer do this, or is no longer who they were: their token has ended, a
    /// role was taken from them or given. For what goes on long after it was allowed.
    pub fn lost(&self, app: &App) -> impl Future<Output = ()> + Send + use<> {
        let (app, action, question) = (app.clone(), self.action, self.question.clone());
        let before = (self.role, self.is_admin(), self.own.clone(), self.caller.map(|c| c.token));
        async move {
            let mut writes = app.store.access_writes();
            loop {
                // Another process may have written, and tokens end by themselves.
                let _ = tokio::time::timeout(LOOK, writes.changed()).await;
                // A thousand who follow one log must not all look at once, and keep it from everybody meanwhile.
                let [part] = chance::bytes::<1>();
                tokio::time::sleep(PAUSE.mul_f64(0.5 + f64::from(part) / 512.0)).await;
                writes.borrow_and_update();
                match ask(&app, action, question.clone()).await {
                    Ok(now) if (now.role, now.is_admin(), now.own.clone(), now.caller.map(|c| c.token)) == before => {}
                    // That the database does not answer says nothing about anybody.
                    Err(failure) if failure.status.is_server_error() => {}
                    _ => return,
                }
            }
        }
    }

    /// What was asked for.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Who asks; none if they have not signed in.
    pub fn who(&self) -> Option<&Standing> {
        self.who.as_ref()
    }

    /// By what the caller is known; none if they have not signed in.
    pub fn caller(&self) -> Option<Caller> {
        self.caller
    }

    /// Whether the caller's role on the object's team allows another action too: what a page may offer.
    pub fn may(&self, app: &App, action: Action) -> bool {
        self.role >= Some(app.settings.rbac.role(action))
    }

    /// All that the caller's role on the object's team allows.
    pub fn rights(&self, app: &App) -> Rights {
        let allowed = TABLE.iter().filter(|row| self.may(app, row.action));
        Rights(allowed.map(|row| row.name).collect())
    }

    /// The name to record the action under.
    pub fn user(&self) -> &str {
        self.who.as_ref().map_or("", |s| s.claims.display_name())
    }

    /// Whether the caller administers the installation.
    pub fn is_admin(&self) -> bool {
        self.who.as_ref().is_some_and(|s| s.admin)
    }

    /// The role on the object's team; none for those who only see what is public.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether the caller has at least this role on a team.
    pub fn has(&self, team: &str, role: Role) -> bool {
        self.who.as_ref().and_then(|s| s.role_on(team)) >= Some(role)
    }

    /// Whose rows a list may show.
    pub fn audience(&self) -> Audience {
        if self.is_admin() { Audience::All } else { Audience::TeamsAndPublic(self.own.clone()) }
    }

    /// Whose rows a page may show.
    pub fn visible(&self) -> Visible {
        match &self.who {
            Some(s) if s.admin => Visible::All,
            Some(s) => Visible::Teams(s.roles.keys().cloned().collect()),
            None => Visible::Teams(Vec::new()),
        }
    }

    /// Whether a list may show what belongs to this team, exposed or not.
    pub fn sees(&self, team: TeamId, exposed: bool) -> bool {
        exposed || self.is_admin() || self.own.contains(&team)
    }

    /// The team in the path.
    pub fn team(&self) -> Result<TeamId, Failure> {
        self.team.as_ref().map(|(id, _)| *id).ok_or_else(Failure::not_found)
    }

    /// The name of the team in the path.
    pub fn team_name(&self) -> Result<&str, Failure> {
        self.team.as_ref().map(|(_, name)| name.as_str()).ok_or_else(Failure::not_found)
    }

    /// The pipeline in the path.
    pub fn pipeline(&self) -> Result<&PipelineAccess, Failure> {
        self.pipeline.as_ref().ok_or_else(Failure::not_found)
    }

    /// The build in the path.
    pub fn build(&self) -> Result<BuildId, Failure> {
        self.build.ok_or_else(Failure::not_found)
    }
}

/// A request as far as its permission depends on it.
pub(super) struct Request<'a> {
    pub action: Action,
    pub headers: &'a HeaderMap,
    pub path: &'a BTreeMap<String, String>,
    pub query: &'a Query,
    pub origin: Origin,
    /// Whether a token that is not valid counts as none (pages), rather than being refused (API).
    pub lenient: bool,
}

/// What one read of the database found.
#[derive(Default)]
struct Found {
    bearer: Option<Bearer>,
    teams: Vec<TeamAccess>,
    pipeline: Option<PipelineAccess>,
    build: Option<BuildAccess>,
}

/// Decides whether the request may be done, and notes in `entry` who asks and whose property it is about.
pub(super) async fn check(app: &App, request: Request<'_>, entry: &mut Entry) -> Result<Permit, Failure> {
    let Request { action, path, origin, .. } = request;
    // What is exposed is shown to anybody, and so to those whose token has ended.
    let exposable = matches!(action.row().access, Access::Pipeline | Access::Build | Access::BuildOfPublicJob);
    let lenient = request.lenient || exposable;
    let token = match session::token(request.headers) {
        Token::Header(t) | Token::Cookie(t) => Some(digest(t.as_bytes())),
        Token::Malformed if !lenient => return Err(Failure::unauthenticated()),
        Token::Malformed | Token::Absent => None,
    };
    let build = match path.get("build_id") {
        Some(text) => Some(text.parse::<BuildId>().map_err(|_| Failure::bare(StatusCode::BAD_REQUEST))?),
        None => None,
    };
    let pipeline = path.get("pipeline_name").cloned();
    let vars = if pipeline.is_some() { instance_vars(request.query) } else { Ok(String::new()) };
    let vars = vars.map_err(|f| match action {
        Action::SaveConfig | Action::GetConfig => {
            Failure::errors(&[format!("instance vars are malformed: {}", f.message)])
        }
        _ => f,
    })?;
    let team = path.get("team_name").cloned();
    let question = Question { token, team, pipeline, vars, build, origin, lenient };
    let found = look(app, &question).await?;
    if let Some(bearer) = &found.bearer {
        entry.by(&bearer.claims, bearer.is_service());
        used(app, bearer, app.clock.now()).await;
    }
    let owner = found.build.as_ref().map(|b| b.team.as_str()).or(path.get("team_name").map(String::as_str));
    let owner = owner.and_then(|name| team_of(&found.teams, name, true));
    entry.to(owner.map(|t| (t.id, t.name.as_str())));
    permit(app, action, found, question)
}

/// Decides again what was decided before.
async fn ask(app: &App, action: Action, question: Question) -> Result<Permit, Failure> {
    permit(app, action, look(app, &question).await?, question)
}

/// Reads what the decision depends on. A token that is not valid is refused unless it counts as none.
async fn look(app: &App, question: &Question) -> Result<Found, Failure> {
    let (q, now) = (question.clone(), app.clock.now());
    let found = app.store.read(move |tx| {
        let bearer = q.token.map(|t| tx.bearer(&t, now)).transpose()?.flatten();
        find(tx, bearer, q.team.as_deref(), q.pipeline.as_deref(), &q.vars, q.build)
    });
    let found = found.await?;
    if question.token.is_some() && found.bearer.is_none() && !question.lenient {
        return Err(Failure::unauthenticated());
    }
    Ok(found)
}

/// Notes now and then that a token is in use.
async fn used(app: &App, bearer: &Bearer, now: Time) {
    if now.since(bearer.last_used.max(bearer.since)) >= USED || (bearer.is_service() && bearer.last_used.0 == 0) {
        let id = bearer.token;
        if let Err(error) = app.store.write(move |tx| tx.touch_token(id, now)).await {
            tracing::warn!(%error, "the use of a token could not be noted");
        }
    }
}

/// All the caller is here. Who calls from outside a team's networks has no role on it; administrators have theirs from
/// wherever the server itself may be used, so that they can put a wrong list right.
fn standing(bearer: Bearer, teams: &[TeamAccess], origin: Origin) -> Standing {
    let mut standing = match bearer.scope {
        Some((id, role)) => match teams.iter().find(|t| t.id == id) {
            Some(team) => Standing::of_scope(bearer.claims, &team.name, team.admin, role),
            None => Standing { claims: bearer.claims, ..Standing::default() },
        },
        None => Standing::of(bearer.claims, teams.iter().map(|t| (t.name.as_str(), t.admin, &t.auth))),
    };
    if !standing.admin {
        let outside = |t: &&TeamAccess| {
            let networks: Vec<_> = t.networks.iter().filter_map(|n| network(n).ok()).collect();
            !t.networks.is_empty() && !within(&networks, origin.address)
        };
        for team in teams.iter().filter(outside) {
            standing.roles.remove(&team.name);
        }
    }
    standing
}

/// The team of that name. Names that differ in case only are one name; but roles are looked up by the name as it is
/// written, as Concourse does, so nobody but administrators comes to a team by `another` spelling.
fn team_of<'t>(teams: &'t [TeamAccess], name: &str, another: bool) -> Option<&'t TeamAccess> {
    let exact = teams.iter().find(|t| t.name == name);
    exact.or_else(|| teams.iter().find(|t| another && key(&t.name) == key(name)))
}

fn find(
    tx: &ReadTx<'_>,
    bearer: Option<Bearer>,
    team: Option<&str>,
    pipeline: Option<&str>,
    vars: &str,
    build: Option<BuildId>,
) -> crate::store::Result<Found> {
    let teams = tx.teams_with_auth()?;
    let team_id = team.and_then(|name| team_of(&teams, name, true)).map(|t| t.id);
    // Also for a team that is not there, which has none: the answer must not come sooner for it.
    let in_team = |name| tx.pipeline_access(team_id.unwrap_or(TeamId(0)), name, vars);
    let pipeline = pipeline.map(in_team).transpose()?.flatten();
    let build = build.map(|b| tx.build_access(b)).transpose()?.flatten();
    Ok(Found { bearer, teams, pipeline, build })
}

/// The answer of what needs a pipeline that is not archived.
pub fn archived() -> Failure {
    Failure::conflict("action not allowed for an archived pipeline\n")
}

fn has_role_on(who: Option<&Standing>, team: Option<&str>) -> bool {
    who.zip(team).is_some_and(|(standing, team)| standing.role_on(team).is_some())
}

fn permit(app: &App, action: Action, mut found: Found, question: Question) -> Result<Permit, Failure> {
    let (access, written, origin) = (action.row().access, question.team.as_deref(), question.origin);
    let known = |b: &Bearer| Caller { token: b.token, since: b.since, is_service: b.is_service() };
    let caller = found.bearer.as_ref().map(known);
    let who = found.bearer.map(|bearer| standing(bearer, &found.teams, origin));
    let admin = who.as_ref().is_some_and(|s| s.admin);
    let named = written.and_then(|name| team_of(&found.teams, name, admin));
    if named.is_none() {
        found.pipeline = None;
    }
    let team_name = named.map(|t| t.name.as_str()).or(written);
    let of_build = matches!(access, Access::Build | Access::BuildOfPublicJob | Access::ChangeBuild);
    if of_build && found.build.is_none() && who.is_some() {
        return Err(Failure::not_found());
    }
    let object = match &found.build {
        Some(b) => Object { team: Some(&b.team), exposed: b.exposed, public_job: b.public_job },
        None => {
            Object { team: team_name, exposed: found.pipeline.as_ref().is_some_and(|p| p.public), public_job: false }
        }
    };
    let role = match decide(&app.settings.rbac, action, who.as_ref(), &object) {
        Decision::Allow(role) => role,
        Decision::Unauthenticated => return Err(Failure::unauthenticated()),
        // By its number, a stranger's build looks like one that is not there.
        Decision::Forbidden if of_build && !object.exposed && !has_role_on(who.as_ref(), object.team) => {
            return Err(Failure::not_found());
        }
        // Who belongs to the team may know that there is no such pipeline.
        Decision::Forbidden
            if NEEDS_LIVE_PIPELINE.contains(&action)
                && found.pipeline.is_none()
                && has_role_on(who.as_ref(), object.team) =>
        {
            return Err(Failure::not_found());
        }
        Decision::Forbidden => return Err(Failure::forbidden()),
    };
    if found.pipeline.as_ref().is_some_and(|p| p.archived) && NEEDS_LIVE_PIPELINE.contains(&action) {
        return Err(archived());
    }
    let owner = found.build.as_ref().map(|b| b.team.as_str()).or(team_name);
    let team = found.teams.iter().find(|t| Some(t.name.as_str()) == owner).map(|t| (t.id, t.name.clone()));
    let has_role = |t: &&TeamAccess| who.as_ref().is_some_and(|s| s.roles.contains_key(&t.name));
    let own = found.teams.iter().filter(has_role).map(|t| t.id).collect();
    let (pipeline, build) = (found.pipeline, found.build.map(|b| b.id));
    Ok(Permit { action, role, team, pipeline, build, own, who, caller, question })
}
