//! Who did what: a row for each change, and a log line for each request under the headings the operator has chosen.

use std::collections::{BTreeMap, BTreeSet};

use crate::auth::Action;
use crate::auth::action::{Category, Method};
use crate::base::clock::Time;
use crate::store::Store;
use crate::store::audit::AuditEntry;

/// Parameters whose values are never written down.
const SECRET: &[&str] = &["webhook_token", "token", "password", "csrf_token"];

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    action: Action,
    /// Who; empty for nobody known.
    pub user: String,
    team: String,
    parameters: BTreeMap<String, Vec<String>>,
    status: u16,
    at: Time,
}

impl Entry {
    /// A request that has just come, with the parameters of its path and query.
    pub fn new(action: Action, path: &BTreeMap<String, String>, query: &[(String, String)]) -> Entry {
        let mut parameters = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in path.iter().chain(query.iter().map(|(n, v)| (n, v))) {
            let value = if SECRET.contains(&name.as_str()) { crate::base::secret::REDACTED } else { value };
            parameters.entry(name.clone()).or_default().push(value.to_owned());
        }
        let team = path.get("team_name").cloned().unwrap_or_default();
        Entry { action, user: String::new(), team, parameters, status: 0, at: Time(0) }
    }

    /// The request was answered.
    #[must_use]
    pub fn ended(self, status: u16, at: Time) -> Entry {
        Entry { status, at, ..self }
    }
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
        let row = entry.action.row();
        let parameters = serde_json::json!(entry.parameters);
        if self.logged.contains(&row.category) {
            tracing::info!(target: "audit", action = row.name, user = entry.user, %parameters, status = entry.status, "audit");
        }
        if row.method == Method::Get {
            return;
        }
        let row = AuditEntry {
            id: 0,
            at: entry.at,
            action: row.name.to_owned(),
            user: entry.user,
            team: entry.team,
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

    #[tokio::test]
    async fn a_change_leaves_a_row_without_its_secrets_and_a_read_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let audit = Audit::new(store.clone(), BTreeSet::from([Category::Job]));
        let path = BTreeMap::from([("team_name".to_owned(), "alpha".to_owned())]);
        let query = [("webhook_token".to_owned(), "hunter2".to_owned())];
        for action in [Action::GetJob, Action::CheckResourceWebHook] {
            audit.record(Entry::new(action, &path, &query).ended(201, Time(5))).await;
        }
        let rows = store
            .read(|tx| {
                let mut rows = tx.prepare("select action, team, parameters, status from audit")?;
                let rows = rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get::<_, u16>(3)?)))?;
                Ok(rows.collect::<Result<Vec<(String, String, String, u16)>, _>>()?)
            })
            .await
            .unwrap();
        let parameters = r#"{"team_name":["alpha"],"webhook_token":["((redacted))"]}"#;
        assert_eq!(rows, [("CheckResourceWebHook".into(), "alpha".into(), parameters.into(), 201)]);
    }
}
