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
use crate::pipeline::identifier::{Verdict, judge};

/// Whom a flag of `set-team`, or a key of its file, names.
struct Listing {
    /// The way to log in.
    connector: &'static str,
    /// Its flag; empty for what only a file can say.
    flag: &'static str,
    /// Key below the connector in a file.
    key: &'static str,
    /// What a value is.
    value: &'static str,
    /// What follows each name.
    suffix: &'static str,
}

const fn listing(connector: &'static str, flag: &'static str, key: &'static str, value: &'static str) -> Listing {
    Listing { connector, flag, key, value, suffix: "" }
}

const fn space(flag: &'static str, key: &'static str, suffix: &'static str) -> Listing {
    Listing { connector: "cf", flag, key, value: "ORG_NAME:SPACE_NAME", suffix }
}

/// All of them, in the order in which fly lists the names.
const LISTINGS: &[Listing] = &[
    listing("bitbucket-cloud", "bitbucket-cloud-user", "users", "USERNAME"),
    listing("bitbucket-cloud", "bitbucket-cloud-team", "teams", "TEAM_NAME"),
    listing("cf", "cf-user", "users", "USERNAME"),
    listing("cf", "cf-org", "orgs", "ORG_NAME"),
    space("cf-space-with-any-role", "spaces_with_any_role", ""),
    space("cf-space", "spaces", ":developer"),
    space("cf-space-with-developer-role", "spaces_with_developer_role", ":developer"),
    space("cf-space-with-auditor-role", "spaces_with_auditor_role", ":auditor"),
    space("cf-space-with-manager-role", "spaces_with_manager_role", ":manager"),
    listing("cf", "cf-space-guid", "space_guids", "SPACE_GUID"),
    listing("cf", "", "spaces_guids", ""),
    listing("gitea", "gitea-user", "users", "USERNAME"),
    listing("gitea", "gitea-org", "orgs", "ORG_NAME"),
    listing("gitea", "gitea-team", "teams", "ORG_NAME:TEAM_NAME"),
    listing("github", "github-user", "users", "USERNAME"),
    listing("github", "github-org", "orgs", "ORG_NAME"),
    listing("github", "github-team", "teams", "ORG_NAME:TEAM_NAME"),
    listing("gitlab", "gitlab-user", "users", "USERNAME"),
    listing("gitlab", "gitlab-group", "groups", "GROUP_NAME"),
    // Concourse's client does not know it; whom the server lets in through Google is named by verified address.
    listing("google", "google-user", "users", "ADDRESS"),
    listing("ldap", "ldap-user", "users", "USERNAME"),
    listing("ldap", "ldap-group", "groups", "GROUP_NAME"),
    listing("microsoft", "microsoft-user", "users", "USERNAME"),
    listing("microsoft", "microsoft-group", "groups", "GROUP_NAME"),
    listing("oauth", "oauth-user", "users", "USERNAME"),
    listing("oauth", "oauth-group", "groups", "GROUP_NAME"),
    listing("oidc", "oidc-user", "users", "USERNAME"),
    listing("oidc", "oidc-group", "groups", "GROUP_NAME"),
    listing("saml", "saml-user", "users", "USERNAME"),
    listing("saml", "saml-group", "groups", "GROUP_NAME"),
    listing("local", "local-user", "users", "USERNAME"),
];

impl Listing {
    /// What the flag says of itself.
    fn help(&self) -> String {
        let name = match self.connector {
            "bitbucket-cloud" => "Bitbucket Cloud",
            "cf" => "CloudFoundry",
            "gitea" => "Gitea",
            "github" => "GitHub",
            "gitlab" => "GitLab",
            "google" => "Google",
            "ldap" => "LDAP",
            "microsoft" => "Microsoft",
            "oauth" => "OAuth2",
            "oidc" => "OIDC",
            "saml" => "SAML",
            _ => "local concourse",
        };
        let what = self.flag.strip_prefix(self.connector).unwrap_or(self.flag);
        format!("A whitelisted {name}{}", what.replace('-', " "))
    }

    /// The names as the server wants them.
    fn names<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<String> {
        let Listing { connector, suffix, .. } = self;
        let whole = |n: &str| format!("{connector}:{}", format!("{n}{suffix}").to_lowercase());
        names.filter(|n| !n.is_empty()).map(whole).collect()
    }
}

/// Users and groups that were given by flag.
#[derive(Debug, Clone, Default)]
struct Members {
    users: Vec<String>,
    groups: Vec<String>,
}

impl Members {
    fn add(&mut self, listing: &Listing, names: Vec<String>) {
        if listing.key == "users" { self.users.extend(names) } else { self.groups.extend(names) }
    }
}

impl clap::Args for Members {
    fn augment_args(command: clap::Command) -> clap::Command {
        LISTINGS.iter().filter(|l| !l.flag.is_empty()).fold(command, |command, listing| {
            let arg = clap::Arg::new(listing.flag).long(listing.flag).help(listing.help());
            command.arg(arg.value_name(listing.value).action(clap::ArgAction::Append))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Members {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut members = Members::default();
        members.update_from_arg_matches(matches)?;
        Ok(members)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        for listing in LISTINGS.iter().filter(|l| !l.flag.is_empty()) {
            let given = matches.get_many::<String>(listing.flag).into_iter().flatten();
            self.add(listing, listing.names(given.map(String::as_str)));
        }
        Ok(())
    }
}

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
    #[command(flatten)]
    members: Members,
}

impl SetTeam {
    /// Shows what it will be, asks, and sets it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        if let Some(path) = self.config.as_ref().filter(|p| !p.exists()) {
            let why = format!("stat {}: no such file or directory", path.display());
            return Err(Failure::said(format!("invalid argument for flag `-c, --config' (expected flag.File): {why}")));
        }
        if self.team_name.contains('/') {
            return Err(Failure::said("team name cannot contain '/'"));
        }
        let warning = match judge(&self.team_name, &["team".to_owned()]) {
            Verdict::Fine => None,
            Verdict::Odd(warning) => Some(warning),
            Verdict::Empty(why) => return Err(Failure::said(why)),
        };
        let session = fly.session().await?;
        let auth = match &self.config {
            Some(path) => from_file(path)?,
            None => self.flag_roles(),
        };
        if auth.is_empty() {
            let why =
                if self.config.is_some() { "must not be empty" } else { "does not have users and groups configured" };
            return Err(Failure::said(format!("auth config for the team {why}")));
        }
        self.show(fly, &auth)?;
        fly.show_warnings(warning.as_slice())?;
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
        roles([("owner".to_owned(), self.members.users.clone(), self.members.groups.clone())])
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
        let mut members = Members::default();
        for listing in LISTINGS {
            members.add(listing, listing.names(strings(&role[listing.connector][listing.key])));
        }
        (role["name"].as_str().unwrap_or_default().to_owned(), members.users, members.groups)
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
            {"name": "viewer", "oidc": {"groups": ["all"]}, "google": {"users": ["Ann@x.org"]}},
            {"name": "member"},
            {"name": "pipeline-operator", "cf": {"spaces": ["O:S"], "orgs": ["O"]}, "saml": {"groups": ["g"]}},
        ]});
        assert_eq!(
            json!(from_roles(&file)),
            json!({
                "owner": {"groups": ["github:org", "github:org:dev"], "users": ["github:bob", "local:ann"]},
                "pipeline-operator": {"groups": ["cf:o", "cf:o:s:developer", "saml:g"], "users": []},
                "viewer": {"groups": ["oidc:all"], "users": ["google:ann@x.org"]},
            })
        );
    }
}
