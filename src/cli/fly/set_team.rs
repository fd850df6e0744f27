//! `set-team`: who may do what in a team, from flags (all owners) or from a file of roles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::ApiError;
use super::console::Style;
use super::failure::{Failure, Outcome};
use super::shapes::{Auth, SaveAnswer};
use super::{Fly, prompt};

/// The ways to log in, and what they call groups of users.
const CONNECTORS: [(&str, &[&str]); 11] = [
    ("bitbucket-cloud", &["teams"]),
    ("cf", &["orgs", "spaces", "spaces_guids"]),
    ("gitea", &["orgs", "teams"]),
    ("github", &["orgs", "teams"]),
    ("gitlab", &["groups"]),
    ("ldap", &["groups"]),
    ("microsoft", &["groups"]),
    ("oauth", &["groups"]),
    ("oidc", &["groups"]),
    ("saml", &["groups"]),
    ("local", &[]),
];

/// Arguments of `set-team`.
#[derive(Debug, Clone, clap::Args)]
pub struct SetTeam {
    /// The team to create or modify
    #[arg(short = 'n', long, value_name = "TEAM")]
    team_name: String,
    /// Force apply configuration
    #[arg(long)]
    non_interactive: bool,
    /// Configuration file for specifying team params
    #[arg(short, long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// A local user, as added when the server was started
    #[arg(long, value_name = "USERNAME")]
    local_user: Vec<String>,
    /// A GitHub user
    #[arg(long, value_name = "USERNAME")]
    github_user: Vec<String>,
    /// A GitHub org
    #[arg(long, value_name = "ORG_NAME")]
    github_org: Vec<String>,
    /// A GitHub team
    #[arg(long, value_name = "ORG_NAME:TEAM_NAME")]
    github_team: Vec<String>,
    /// An OIDC user
    #[arg(long, value_name = "USERNAME")]
    oidc_user: Vec<String>,
    /// An OIDC group
    #[arg(long, value_name = "GROUP_NAME")]
    oidc_group: Vec<String>,
    /// An OAuth2 user
    #[arg(long, value_name = "USERNAME")]
    oauth_user: Vec<String>,
    /// An OAuth2 group
    #[arg(long, value_name = "GROUP_NAME")]
    oauth_group: Vec<String>,
    /// An LDAP user
    #[arg(long, value_name = "USERNAME")]
    ldap_user: Vec<String>,
    /// An LDAP group
    #[arg(long, value_name = "GROUP_NAME")]
    ldap_group: Vec<String>,
    /// A GitLab user
    #[arg(long, value_name = "USERNAME")]
    gitlab_user: Vec<String>,
    /// A GitLab group
    #[arg(long, value_name = "GROUP_NAME")]
    gitlab_group: Vec<String>,
}

impl SetTeam {
    /// Shows what it will be, asks, and sets it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        if self.team_name.contains('/') {
            return Err(Failure::said("team name cannot contain '/'"));
        }
        let session = fly.session().await?;
        let auth = match &self.config {
            Some(path) => from_file(path)?,
            None => self.flag_roles(),
        };
        if auth.is_empty() {
            return Err(Failure::said("auth config for the team does not have users and groups configured"));
        }
        self.show(fly, &auth)?;
        if !self.non_interactive && !prompt::confirm("\napply team configuration?")? {
            return Err(Failure::bare("bailing out"));
        }
        let call = session.client.put(&["teams", &self.team_name]).json(&json!({"auth": auth}));
        let answer = call.send().await?.success()?;
        let saved: SaveAnswer = serde_json::from_slice(&answer.body).map_err(ApiError::from)?;
        fly.show_warnings(&saved.warnings)?;
        fly.say(if answer.status == StatusCode::CREATED { "team created" } else { "team updated" })
    }

    fn flag_roles(&self) -> Auth {
        let of = |connector: &str, names: &[String]| names_of(connector, names.iter().map(String::as_str));
        let users = [
            of("github", &self.github_user),
            of("gitlab", &self.gitlab_user),
            of("ldap", &self.ldap_user),
            of("oauth", &self.oauth_user),
            of("oidc", &self.oidc_user),
            of("local", &self.local_user),
        ]
        .concat();
        let groups = [
            of("github", &self.github_org),
            of("github", &self.github_team),
            of("gitlab", &self.gitlab_group),
            of("ldap", &self.ldap_group),
            of("oauth", &self.oauth_group),
            of("oidc", &self.oidc_group),
        ]
        .concat();
        roles([("owner".to_owned(), users, groups)])
    }

    fn show(&self, fly: &Fly, auth: &Auth) -> Result<(), Failure> {
        let console = fly.console;
        console.say(format!("setting team: {}", console.bold(&self.team_name)))?;
        for (role, names) in auth {
            console.say(format!("\nrole {}:", console.bold(role)))?;
            for (i, kind) in ["users", "groups"].into_iter().enumerate() {
                console.say(format!("{}  {kind}:", if i == 0 { "" } else { "\n" }))?;
                match names.get(kind).filter(|n| !n.is_empty()) {
                    Some(names) => names.iter().try_for_each(|name| console.say(format!("  - {name}")))?,
                    None => console.say(format!("    {}", console.paint(Style::Faint, "none")))?,
                }
            }
        }
        Ok(())
    }
}

fn names_of<'a>(connector: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.filter(|n| !n.is_empty()).map(|n| format!("{connector}:{}", n.to_lowercase())).collect()
}

/// Roles with anybody in them.
fn roles(given: impl IntoIterator<Item = (String, Vec<String>, Vec<String>)>) -> Auth {
    given
        .into_iter()
        .filter(|(_, users, groups)| !users.is_empty() || !groups.is_empty())
        .map(|(role, users, groups)| {
            (role, BTreeMap::from([("users".to_owned(), users), ("groups".to_owned(), groups)]))
        })
        .collect()
}

fn from_file(path: &Path) -> Result<Auth, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::said(format!("open {}: {e}", path.display())))?;
    let file: Value = serde_yaml::from_str(&text).map_err(|e| Failure::said(format!("{}: {e}", path.display())))?;
    Ok(from_roles(&file))
}

fn from_roles(file: &Value) -> Auth {
    let listed = file["roles"].as_array().into_iter().flatten();
    roles(listed.map(|role| {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for (connector, kinds) in CONNECTORS {
            let config = &role[connector];
            users.extend(names_of(connector, strings(&config["users"])));
            for kind in kinds {
                groups.extend(names_of(connector, strings(&config[kind])));
            }
        }
        (role["name"].as_str().unwrap_or_default().to_owned(), users, groups)
    }))
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_roles_becomes_names_by_connector() {
        let file = json!({"roles": [
            {"name": "owner", "local": {"users": ["Ann", ""]}, "github": {"users": ["bob"], "orgs": ["Org"], "teams": ["Org:Dev"]}},
            {"name": "viewer", "oidc": {"groups": ["all"]}},
            {"name": "member"},
        ]});
        assert_eq!(
            json!(from_roles(&file)),
            json!({
                "owner": {"groups": ["github:org", "github:org:dev"], "users": ["github:bob", "local:ann"]},
                "viewer": {"groups": ["oidc:all"], "users": []},
            })
        );
    }
}
