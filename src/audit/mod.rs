//! Who did what: a row for each change, each sign-in and each use of a service account, and a log line for each
//! request under the headings the operator has chosen. No secret is written down.

use std::collections::{BTreeMap, BTreeSet};

use crate::auth::action::{Category, Method, Row};
use crate::auth::{Action, Claims};
use crate::base::clock::Time;
use crate::base::id::TeamId;
use crate::store::Store;
use crate::store::audit::AuditEntry;

/// Words in the names of parameters whose values are never written down.
const SECRET: &[&str] = &["token", "password", "secret", "code", "state"];
/// The action of signing in.
pub const SIGN_IN: &str = "SignIn";
/// The action of signing out.
pub const SIGN_OUT: &str = "SignOut";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    action: &'static str,
    category: Category,
    /// Whether it leaves a row.
    kept: bool,
    user: String,
    sub: String,
    connector: String,
    address: String,
    team_id: Option<TeamId>,
    team: String,
    object: String,
    parameters: BTreeMap<String, Vec<String>>,
    status: u16,
    at: Time,
}

impl Entry {
    /// A request that has just come, with the parameters of its path and query.
    pub fn new(action: Action, path: &BTreeMap<String, String>, query: &[(String, String)]) -> Entry {
        let row = action.row();
        let mut parameters = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in path.iter().chain(query.iter().map(|(n, v)| (n, v))) {
            let value = if is_secret(name) { crate::base::secret::REDACTED } else { value };
            parameters.entry(name.clone()).or_default().push(value.to_owned());
        }
        let team = path.get("team_name").cloned().unwrap_or_default();
        // To read a secret back changes nothing, and yet somebody knows it from then on.
        let kept = row.method != Method::Get || action == Action::GetSecret;
        Entry { team, object: object(row, path), parameters, ..Entry::empty(row.name, row.category, kept) }
    }

    /// A sign-in or sign-out by a connector, as `user`, who may be nobody.
    pub fn of_session(action: &'static str, connector: &str, user: &str) -> Entry {
        let (connector, user) = (connector.to_owned(), user.chars().take(200).collect());
        Entry { connector: connector.clone(), object: connector, user, ..Entry::empty(action, Category::System, true) }
    }

    fn empty(action: &'static str, category: Category, kept: bool) -> Entry {
        Entry {
            action,
            category,
            kept,
            user: String::new(),
            sub: String::new(),
            connector: String::new(),
            address: String::new(),
            team_id: None,
            team: String::new(),
            object: String::new(),
            parameters: BTreeMap::new(),
            status: 0,
            at: Time(0),
        }
    }

    /// Whether anybody is known to have asked.
    pub fn has_user(&self) -> bool {
        !self.sub.is_empty()
    }

    /// Who asked. Each use of a service account leaves a row.
    pub fn by(&mut self, claims: &Claims, is_service: bool) {
        claims.display_name().clone_into(&mut self.user);
        self.sub.clone_from(&claims.sub);
        self.connector.clone_from(&claims.federated_claims.connector_id);
        self.kept |= is_service;
    }

    /// From where.
    pub fn from(&mut self, address: String) {
        self.address = address;
    }

    /// To which team's property.
    pub fn to(&mut self, team: Option<(TeamId, &str)>) {
        if let Some((id, name)) = team {
            self.team_id = Some(id);
            name.clone_into(&mut self.team);
        }
    }

    /// Adds what else is worth knowing, such as why a sign-in was refused.
    pub fn with(mut self, name: &str, value: &str) -> Entry {
        self.parameters.entry(name.to_owned()).or_default().push(value.to_owned());
        self
    }

    /// The request was answered.
    #[must_use]
    pub fn ended(self, status: u16, at: Time) -> Entry {
        Entry { status, at, ..self }
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// What a path names below its team: `pipeline p, job j`.
fn object(row: &Row, path: &BTreeMap<String, String>) -> String {
    let listed = row.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut names: Vec<&str> = listed.collect();
    names.extend(path.keys().map(String::as_str).filter(|n| !row.path.contains(&format!("{{{n}}}"))));
    let named = names.into_iter().filter(|n| *n != "team_name").filter_map(|name| {
        let value = path.get(name)?;
        let kind = name.trim_end_matches("_name").trim_end_matches("_id").replace('_', " ");
        Some(format!("{kind} {value}"))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Where entries go.
#[derive(Clone)]
pub struct Audit {
    store: Store,
    logged: BTreeSet<Category>,
}

impl Audit {
    /// Rows into the store; log lines under these headings.
    pub fn new(store: Store, logged: BTreeSet<Category>) -> Audit {
        Audit { store, logged }
    }

    /// Writes an entry down. A failure to do so is logged, it does not undo what was done.
    pub async fn record(&self, entry: Entry) {
        let parameters = serde_json::json!(entry.parameters);
        if self.logged.contains(&entry.category) {
            tracing::info!(target: "audit", action = entry.action, user = entry.user, address = entry.address,
                %parameters, status = entry.status, "audit");
        }
        if !entry.kept {
            return;
        }
        let row = AuditEntry {
            id: 0,
            at: entry.at.0,
            action: entry.action.to_owned(),
            user: entry.user,
            sub: entry.sub,
            connector: entry.connector,
            address: entry.address,
            team_id: entry.team_id,
            team: entry.team,
            object: entry.object,
            parameters,
            status: entry.status,
        };
        if let Err(e) = self.store.write(move |tx| tx.add_audit_entry(&row)).await {
            tracing::error!(error = %e, "an audit row could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::AuditQuery;

    fn audit() -> (Audit, Store, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (Audit::new(store.clone(), BTreeSet::from([Category::Job])), store, dir)
    }

    async fn rows(store: &Store) -> Vec<AuditEntry> {
        store.read(|tx| tx.audit_entries(&AuditQuery { limit: 10, ..AuditQuery::default() })).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_leaves_a_row_without_its_secrets_and_a_read_leaves_none() {
        let (audit, store, _dir) = audit();
        let path = BTreeMap::from([("team_name".to_owned(), "alpha".to_owned())]);
        let query = [("webhook_token".to_owned(), "hunter2".to_owned())];
        for action in [Action::GetJob, Action::CheckResourceWebHook] {
            audit.record(Entry::new(action, &path, &query).ended(201, Time(5))).await;
        }
        let rows = rows(&store).await;
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].action.as_str(), rows[0].team.as_str(), rows[0].status),
            ("CheckResourceWebHook", "alpha", 201)
        );
        assert_eq!(rows[0].parameters.to_string(), r#"{"team_name":["alpha"],"webhook_token":["((redacted))"]}"#);
    }

    #[tokio::test]
    async fn a_service_account_s_read_leaves_a_row_too() {
        let (audit, store, _dir) = audit();
        let path = ["team_name", "pipeline_name", "job_name"].map(|n| (n.to_owned(), "x".to_owned()));
        let mut entry = Entry::new(Action::GetJob, &path.into(), &[]);
        entry.by(&Claims { sub: "service:1:bot".into(), ..Claims::default() }, true);
        entry.from("10.0.0.7".into());
        audit.record(entry.ended(200, Time(5))).await;
        let rows = rows(&store).await;
        assert_eq!((rows[0].address.as_str(), rows[0].object.as_str()), ("10.0.0.7", "pipeline x, job x"));
    }
}
