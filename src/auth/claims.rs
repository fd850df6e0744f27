//! What a token says about its bearer, and what a team says about who belongs to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Role;

/// The bearer of a token, as its sign-in told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Identifies the person over all connectors.
    pub sub: String,
    /// The name to show.
    #[serde(default)]
    pub name: String,
    /// The short name, such as a GitHub login.
    #[serde(default)]
    pub preferred_username: String,
    /// May be empty.
    #[serde(default)]
    pub email: String,
    /// As the connector names them: `org`, `org:team`, or plain.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What team rules may know them by: the local user name, the GitHub login, the subject and the verified address of
    /// an OpenID provider. Never a name to show or an address that nobody has verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_as: Vec<String>,
    /// How they signed in.
    #[serde(default)]
    pub federated_claims: Federated,
}

/// How somebody signed in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Federated {
    /// `local`, `github`, `oidc` …
    #[serde(default)]
    pub connector_id: String,
    /// The connector's own id of the person.
    #[serde(default)]
    pub user_id: String,
}

impl Claims {
    /// The name for `created_by` and `paused_by`.
    pub fn display_name(&self) -> &str {
        [&self.preferred_username, &self.name, &self.federated_claims.user_id, &self.sub]
            .into_iter()
            .find(|s| !s.is_empty())
            .map_or("", String::as_str)
    }

    fn is_user(&self, listed: &str) -> bool {
        self.known_as.iter().any(|id| !id.is_empty() && same(listed, &self.federated_claims.connector_id, id))
    }

    fn is_in_group(&self, listed: &str) -> bool {
        self.groups.iter().any(|g| !g.is_empty() && same(listed, &self.federated_claims.connector_id, g))
    }
}

fn same(listed: &str, connector: &str, id: &str) -> bool {
    listed.to_lowercase() == format!("{connector}:{id}").to_lowercase()
}

/// Who has one role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// `connector:group`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub groups: Vec<String>,
    /// `connector:user`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub users: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(d)?.unwrap_or_default())
}

/// Why a team's configuration is refused; the texts are Concourse's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No role at all.
    #[error("auth config for the team must be specified")]
    Empty,
    /// A role that nobody has.
    #[error("auth config for role {0} requires users or groups")]
    Nobody(String),
    /// There is no such role.
    #[error("unknown role {0:?}; there are owner, member, pipeline-operator and viewer")]
    UnknownRole(String),
}

/// Who has which role on a team: Concourse's own form of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamAuth(pub BTreeMap<String, Members>);

impl TeamAuth {
    /// A team that is owned by these local users.
    pub fn owned_by_local_users<S: AsRef<str>>(users: &[S]) -> TeamAuth {
        let users = users.iter().map(|u| format!("local:{}", u.as_ref())).collect();
        TeamAuth(BTreeMap::from([(Role::Owner.name().to_owned(), Members { groups: Vec::new(), users })]))
    }

    /// Refuses what would lock everybody out.
    pub fn validate(&self) -> Result<(), AuthError> {
        if self.0.is_empty() {
            return Err(AuthError::Empty);
        }
        for (role, members) in &self.0 {
            if Role::from_name(role).is_none() {
                return Err(AuthError::UnknownRole(role.clone()));
            }
            if members.users.is_empty() && members.groups.is_empty() {
                return Err(AuthError::Nobody(role.clone()));
            }
        }
        Ok(())
    }

    /// Every role these claims have on the team, strongest last.
    pub fn roles_of(&self, claims: &Claims) -> Vec<Role> {
        let has =
            |m: &Members| m.users.iter().any(|u| claims.is_user(u)) || m.groups.iter().any(|g| claims.is_in_group(g));
        Role::ALL.into_iter().filter(|r| self.0.get(r.name()).is_some_and(has)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(connector: &str, id: &str, groups: &[&str]) -> Claims {
        Claims {
            federated_claims: Federated { connector_id: connector.into(), user_id: id.into() },
            known_as: vec![id.to_owned()],
            groups: groups.iter().map(ToString::to_string).collect(),
            ..Claims::default()
        }
    }

    #[test]
    fn users_and_groups_match_by_connector_whatever_their_case() {
        let auth: TeamAuth = serde_json::from_str(
            r#"{"owner":{"users":["local:Alice"],"groups":null},"viewer":{"groups":["github:Org:Team"]}}"#,
        )
        .unwrap();
        assert_eq!(auth.roles_of(&claims("local", "alice", &[])), [Role::Owner]);
        assert_eq!(auth.roles_of(&claims("github", "alice", &[])), []);
        assert_eq!(auth.roles_of(&claims("github", "bob", &["org", "org:team"])), [Role::Viewer]);
        assert_eq!(auth.roles_of(&Claims::default()), []);
    }

    #[test]
    fn a_name_to_show_and_an_unverified_address_are_nobody() {
        let auth: TeamAuth = serde_json::from_str(r#"{"owner":{"users":["github:alice"]}}"#).unwrap();
        let clone = Claims {
            name: "alice".into(),
            preferred_username: "alice".into(),
            email: "alice".into(),
            ..claims("github", "mallory", &[])
        };
        assert_eq!(auth.roles_of(&clone), []);
    }

    #[test]
    fn a_team_that_locks_everybody_out_is_refused() {
        let check = |text: &str| serde_json::from_str::<TeamAuth>(text).unwrap().validate().map_err(|e| e.to_string());
        assert_eq!(check(r#"{"owner":{"users":["local:a"]}}"#), Ok(()));
        assert!(check("{}").unwrap_err().contains("must be specified"));
        assert!(check(r#"{"owner":{}}"#).unwrap_err().contains("requires users or groups"));
        assert!(check(r#"{"king":{"users":["local:a"]}}"#).unwrap_err().contains("unknown role"));
    }

    #[test]
    fn members_are_written_as_concourse_writes_them() {
        let auth = TeamAuth::owned_by_local_users(&["a"]);
        assert_eq!(serde_json::to_string(&auth).unwrap(), r#"{"owner":{"groups":[],"users":["local:a"]}}"#);
    }
}
