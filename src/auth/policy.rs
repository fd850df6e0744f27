//! The decision: may this caller do this action to this object?

use std::collections::BTreeMap;

use super::{Access, Action, Claims, Role, TeamAuth};

/// A caller who has signed in, and all they are on this installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What their token says.
    pub claims: Claims,
    /// Owner of an admin team.
    pub admin: bool,
    /// Their roles by team, the strongest last; only teams where they have one.
    pub roles: BTreeMap<String, Vec<Role>>,
}

impl Standing {
    /// Compares the claims with every team: its name, whether it is an admin team, and who belongs to it.
    pub fn of<'t>(claims: Claims, teams: impl IntoIterator<Item = (&'t str, bool, &'t TeamAuth)>) -> Standing {
        let mut standing = Standing { claims, ..Standing::default() };
        for (name, admin, auth) in teams {
            let roles = auth.roles_of(&standing.claims);
            standing.admin |= admin && roles.contains(&Role::Owner);
            if !roles.is_empty() {
                standing.roles.insert(name.to_owned(), roles);
            }
        }
        standing
    }

    /// A service account or a team's own user: one role on one team, whatever the teams say of people.
    pub fn of_scope(claims: Claims, team: &str, admin_team: bool, role: Role) -> Standing {
        let roles = BTreeMap::from([(team.to_owned(), vec![role])]);
        Standing { claims, admin: admin_team && role == Role::Owner, roles }
    }

    /// The strongest role on a team; administrators own every team.
    pub fn role_on(&self, team: &str) -> Option<Role> {
        if self.admin {
            return Some(Role::Owner);
        }
        self.roles.get(team).and_then(|roles| roles.last().copied())
    }
}

/// What an action is done to, as far as the decision depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Object<'a> {
    /// The team it belongs to.
    pub team: Option<&'a str>,
    /// Whether its pipeline is exposed.
    pub exposed: bool,
    /// Whether its job is `public`.
    pub public_job: bool,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes, with this role on the object's team; none where it is public or of no team.
    Allow(Option<Role>),
    /// Not without signing in.
    Unauthenticated,
    /// Not as this person.
    Forbidden,
}

/// Roles an operator has moved (`--config-rbac`); the others are those of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rbac(BTreeMap<Action, Role>);

/// Why a file of roles is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RbacError {
    /// A role that does not exist.
    #[error("unknown role {0:?}; there are owner, member, pipeline-operator and viewer")]
    Role(String),
    /// An action that does not exist.
    #[error("unknown action {0:?}; actions are the names of API routes such as CreateJobBuild")]
    Action(String),
}

impl Rbac {
    /// Reads role → names of actions.
    pub fn new(moved: &BTreeMap<String, Vec<String>>) -> Result<Rbac, RbacError> {
        let mut rbac = Rbac::default();
        for (role, actions) in moved {
            let role = Role::from_name(role).ok_or_else(|| RbacError::Role(role.clone()))?;
            for name in actions {
                let action = Action::from_name(name).ok_or_else(|| RbacError::Action(name.clone()))?;
                rbac.0.insert(action, role);
            }
        }
        Ok(rbac)
    }

    /// The weakest role that may do the action.
    pub fn role(&self, action: Action) -> Role {
        self.0.get(&action).copied().unwrap_or(action.row().role)
    }
}

/// Decides.
pub fn decide(rbac: &Rbac, action: Action, who: Option<&Standing>, object: &Object<'_>) -> Decision {
    let role = who.zip(object.team).and_then(|(s, team)| s.role_on(team));
    let public = match action.row().access {
        Access::Open => true,
        Access::Pipeline | Access::Build => object.exposed,
        Access::BuildOfPublicJob => object.exposed && object.public_job,
        _ => false,
    };
    if public {
        return Decision::Allow(role);
    }
    let Some(standing) = who else { return Decision::Unauthenticated };
    let allowed = match action.row().access {
        Access::Open | Access::Authenticated => true,
        Access::AnyTeam => standing.admin || !standing.roles.is_empty(),
        Access::Team | Access::Pipeline | Access::Build | Access::BuildOfPublicJob | Access::ChangeBuild => {
            role >= Some(rbac.role(action))
        }
        Access::Admin => standing.admin,
        Access::SystemToken => false,
    };
    if allowed { Decision::Allow(role) } else { Decision::Forbidden }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::claims::Federated;

    fn person(name: &str) -> Option<Standing> {
        let claims = |user: &str| Claims {
            federated_claims: Federated { connector_id: "local".into(), user_id: user.into() },
            known_as: vec![user.into()],
            ..Claims::default()
        };
        let auth = |text: &str| serde_json::from_str::<TeamAuth>(text).unwrap();
        let (main, other) = (TeamAuth::owned_by_local_users(&["admin"]), TeamAuth::owned_by_local_users(&["other"]));
        let team = auth(
            r#"{"owner":{"users":["local:owner"]},"member":{"users":["local:member"]},
                "pipeline-operator":{"users":["local:operator"]},"viewer":{"users":["local:viewer"]}}"#,
        );
        let teams = [("main", true, &main), ("alpha", false, &team), ("beta", false, &other)];
        (name != "anonymous").then(|| Standing::of(claims(name), teams))
    }

    #[test]
    fn every_decision_is_concourse_s() {
        let people = ["anonymous", "viewer", "operator", "member", "owner", "other", "admin"];
        let table = include_str!("../../tests/data/auth/decisions.txt");
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let mut cells = line.split_whitespace();
            let (name, variant) = (cells.next().unwrap(), cells.next().unwrap());
            let object = Object {
                team: Some("alpha"),
                exposed: variant.contains("exposed"),
                public_job: variant.contains("public"),
            };
            let action = Action::from_name(name).unwrap();
            for (who, expected) in people.iter().zip(cells) {
                let got = match decide(&Rbac::default(), action, person(who).as_ref(), &object) {
                    Decision::Allow(_) => "A",
                    Decision::Forbidden => "F",
                    Decision::Unauthenticated => "U",
                };
                assert_eq!(got, expected, "{name} {variant} by {who}");
            }
        }
    }

    #[test]
    fn a_role_can_be_moved_and_nonsense_is_refused() {
        let moved = |role: &str, action: &str| Rbac::new(&BTreeMap::from([(role.to_owned(), vec![action.to_owned()])]));
        let rbac = moved("viewer", "PauseJob").unwrap();
        let object = Object { team: Some("alpha"), ..Object::default() };
        let viewer = person("viewer");
        assert_eq!(decide(&rbac, Action::PauseJob, viewer.as_ref(), &object), Decision::Allow(Some(Role::Viewer)));
        assert_eq!(decide(&rbac, Action::UnpauseJob, viewer.as_ref(), &object), Decision::Forbidden);
        assert!(moved("king", "PauseJob").is_err());
        assert!(moved("viewer", "Dance").is_err());
    }
}
