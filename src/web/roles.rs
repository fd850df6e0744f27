//! `/roles`: what each role may do, drawn from the table that decides it, with what the operator has moved.

use askama::Template;

use super::page::{Crumb, Frame, answer};
use crate::auth::action::{Category, TABLE};
use crate::auth::policy::Rbac;
use crate::auth::{Access, Role};
use crate::front::{Answer, Call, Permit};

struct ActionLine {
    name: &'static str,
    words: String,
    /// For whom beyond the roles: everyone, whoever has signed in, administrators.
    who: &'static str,
    /// For each role, the weakest first.
    may: Vec<bool>,
    moved: bool,
}

struct Group {
    name: String,
    actions: Vec<ActionLine>,
}

#[derive(Template)]
#[template(path = "pages/roles.html")]
struct Page {
    frame: Frame,
    roles: Vec<&'static str>,
    groups: Vec<Group>,
}

/// `GET /roles`
pub async fn show(permit: Permit, call: Call) -> Answer {
    let frame = Frame::new(&permit, &call, "Roles", vec![Crumb::new("roles", "/roles")]).await;
    let roles = Role::ALL.iter().map(|r| r.name()).collect();
    answer(&Page { frame, roles, groups: groups(&call.app.settings.rbac) })
}

fn groups(rbac: &Rbac) -> Vec<Group> {
    let mut groups: Vec<(Category, Group)> = Vec::new();
    for row in TABLE {
        let (who, weakest) = match row.access {
            Access::Open => ("everyone", Some(Role::Viewer)),
            Access::Authenticated => ("whoever has signed in", Some(Role::Viewer)),
            Access::AnyTeam => ("members of any team", Some(Role::Viewer)),
            Access::Admin => ("administrators", None),
            Access::SystemToken => ("workers", None),
            Access::Pipeline | Access::Build => ("everyone, of exposed pipelines", Some(rbac.role(row.action))),
            Access::BuildOfPublicJob => ("everyone, of public jobs", Some(rbac.role(row.action))),
            Access::Team | Access::ChangeBuild => ("", Some(rbac.role(row.action))),
        };
        let line = ActionLine {
            name: row.name,
            words: words(row.name),
            who,
            may: Role::ALL.iter().map(|r| weakest.is_some_and(|w| *r >= w)).collect(),
            moved: rbac.role(row.action) != row.role,
        };
        match groups.iter_mut().find(|(category, _)| *category == row.category) {
            Some((_, group)) => group.actions.push(line),
            None => groups.push((row.category, Group { name: format!("{:?}", row.category), actions: vec![line] })),
        }
    }
    groups.sort_by_key(|(category, _)| *category);
    groups.into_iter().map(|(_, group)| group).collect()
}

/// `CreateJobBuild` → `create job build`
fn words(name: &str) -> String {
    let mut words = String::new();
    let mut before = '_';
    for c in name.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            words.push(' ');
        }
        before = c;
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_action_is_listed_once_with_who_may() {
        let moved = BTreeMap::from([("viewer".to_owned(), vec!["CreateJobBuild".to_owned()])]);
        let groups = groups(&Rbac::new(&moved).unwrap());
        assert_eq!(groups.iter().map(|g| g.actions.len()).sum::<usize>(), TABLE.len());
        let find = |name: &str| groups.iter().flat_map(|g| &g.actions).find(|a| a.name == name).unwrap();
        assert_eq!((find("SaveConfig").may.clone(), find("SaveConfig").moved), (vec![false, false, true, true], false));
        assert_eq!((find("CreateJobBuild").may.clone(), find("CreateJobBuild").moved), (vec![true; 4], true));
        assert_eq!(find("ListAudit").may, [false; 4]);
        assert_eq!(words("ListBuildsWithVersionAsInput"), "list builds with version as input");
    }
}
