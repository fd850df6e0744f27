//! Who owns the team main, and so administers the server: from flags, or from a file of roles as `fly set-team` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_yaml::Value;

use crate::auth::TeamAuth;
use crate::auth::claims::Members;

/// Flags about the team main; those of Concourse's connectors that this server has.
#[derive(Debug, Clone, Default, Args)]
pub struct MainTeamFlags {
    /// A local user who owns the team main and so administers this server; may be repeated
    #[arg(long, value_name = "NAME")]
    pub main_team_local_user: Vec<String>,
    /// A GitHub user who owns the team main; may be repeated
    #[arg(long, value_name = "LOGIN")]
    pub main_team_github_user: Vec<String>,
    /// A GitHub organisation whose members own the team main; may be repeated
    #[arg(long, value_name = "ORG")]
    pub main_team_github_org: Vec<String>,
    /// A GitHub team whose members own the team main; may be repeated
    #[arg(long, value_name = "ORG:TEAM")]
    pub main_team_github_team: Vec<String>,
    /// A Google account, by its address, that owns the team main; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub main_team_google_user: Vec<String>,
    /// A user of the OpenID provider, by subject or verified address, who owns the team main; may be repeated
    #[arg(long, value_name = "USER")]
    pub main_team_oidc_user: Vec<String>,
    /// A group of the OpenID provider whose members own the team main; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub main_team_oidc_group: Vec<String>,
    /// A YAML file with the roles of the team main, as for fly set-team --config
    #[arg(long, value_name = "FILE")]
    pub main_team_config: Option<PathBuf>,
}

impl MainTeamFlags {
    /// Who is in the team main; none to leave it as it is.
    pub fn auth(&self) -> anyhow::Result<Option<TeamAuth>> {
        let of = |connector: &str, names: &[String]| -> Vec<String> {
            let named = names.iter().filter(|n| !n.trim().is_empty());
            named.map(|n| format!("{connector}:{}", n.to_lowercase())).collect()
        };
        let users = [
            of("local", &self.main_team_local_user),
            of("github", &self.main_team_github_user),
            of("google", &self.main_team_google_user),
            of("oidc", &self.main_team_oidc_user),
        ]
        .concat();
        let groups = [
            of("github", &self.main_team_github_org),
            of("github", &self.main_team_github_team),
            of("oidc", &self.main_team_oidc_group),
        ]
        .concat();
        let by_flag = !users.is_empty() || !groups.is_empty();
        match &self.main_team_config {
            Some(_) if by_flag => anyhow::bail!("--main-team-config and other --main-team- flags exclude each other"),
            Some(path) => from_file(path).map(Some),
            None if by_flag => Ok(Some(TeamAuth(BTreeMap::from([("owner".to_owned(), Members { groups, users })])))),
            None => Ok(None),
        }
    }
}

fn from_file(path: &Path) -> anyhow::Result<TeamAuth> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: Value = serde_yaml::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))?;
    let auth = from_roles(&file).with_context(|| format!("{} lists no roles as fly set-team does", path.display()))?;
    auth.validate().with_context(|| format!("cannot use {}", path.display()))?;
    Ok(auth)
}

/// `roles: [{name: owner, github: {users: [a], orgs: [b], teams: ["b:c"]}, …}]`: all that are not users are groups.
fn from_roles(file: &Value) -> Option<TeamAuth> {
    let mut auth = TeamAuth::default();
    for role in file.get("roles")?.as_sequence()? {
        let members = auth.0.entry(role.get("name")?.as_str()?.to_owned()).or_default();
        for (connector, kinds) in role.as_mapping()? {
            let (Some(connector), Some(kinds)) = (connector.as_str(), kinds.as_mapping()) else { continue };
            for (kind, names) in kinds {
                let names = names.as_sequence().into_iter().flatten().filter_map(Value::as_str);
                let names = names.filter(|n| !n.is_empty()).map(|n| format!("{connector}:{}", n.to_lowercase()));
                if kind.as_str() == Some("users") { members.users.extend(names) } else { members.groups.extend(names) }
            }
        }
    }
    Some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_owners_and_a_file_makes_roles() {
        assert_eq!(MainTeamFlags::default().auth().unwrap(), None);
        let empty = MainTeamFlags { main_team_local_user: vec![String::new()], ..MainTeamFlags::default() };
        assert_eq!(empty.auth().unwrap(), None);
        let flags = MainTeamFlags {
            main_team_local_user: vec!["Ann".into()],
            main_team_github_team: vec!["Org:Dev".into()],
            ..MainTeamFlags::default()
        };
        let text = serde_json::to_string(&flags.auth().unwrap()).unwrap();
        assert_eq!(text, r#"{"owner":{"groups":["github:org:dev"],"users":["local:ann"]}}"#);
        let file = "roles: [{name: owner, local: {users: [Ann]}, github: {orgs: [o], teams: ['o:t']}}, \
                    {name: viewer, oidc: {groups: [all]}}]";
        let auth = from_roles(&serde_yaml::from_str(file).unwrap()).unwrap();
        assert_eq!(
            serde_json::to_string(&auth).unwrap(),
            r#"{"owner":{"groups":["github:o","github:o:t"],"users":["local:ann"]},"viewer":{"groups":["oidc:all"],"users":[]}}"#
        );
        assert_eq!(from_roles(&serde_yaml::from_str("a: 1").unwrap()), None);
    }
}
