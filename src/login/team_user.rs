//! The user that the server makes for each team: named as the team, its member, and nobody anywhere else.

use super::Person;
use super::subject::subject;
use crate::auth::claims::Federated;
use crate::auth::{Claims, Role};
use crate::base::id::TeamId;

/// Who signs in through it. No team's rules match them: what they may do comes with their token.
const CONNECTOR: &str = "team";

/// That user of a team. Its subject stays when the team is renamed.
pub fn team_user(team: TeamId, name: &str) -> Person {
    let claims = Claims {
        sub: subject(&team.to_string(), CONNECTOR),
        name: name.to_owned(),
        federated_claims: Federated { connector_id: CONNECTOR.to_owned(), user_id: name.to_owned() },
        ..Claims::default()
    };
    Person { claims, scope: Some((team, Role::Member)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TeamAuth;

    #[test]
    fn no_rule_of_any_team_matches_it() {
        let person = team_user(TeamId(3), "alice");
        assert_eq!(person.scope, Some((TeamId(3), Role::Member)));
        let rules = r#"{"owner":{"users":["local:alice","team:alice","alice"],"groups":["team:alice"]}}"#;
        let auth: TeamAuth = serde_json::from_str(rules).unwrap();
        assert_eq!(auth.roles_of(&person.claims), []);
    }
}
