//! Who did what: a row for each change, each sign-in and each use of a service account, and a log line for each
//! request under the headings the operator has chosen. No secret is written down.

mod flood;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::action::{Category, Method, Row};
use crate::auth::{Action, Claims};
use crate::base::clock::Time;
use crate::base::id::TeamId;
use crate::store::Store;
use crate::store::audit::AuditEntry;
use flood::{Flood, Unwritten};

/// Words in the names of parameters whose values are never written down.
const SECRET: &[&str] = &["token", "password", "secret", "code", "state"];
/// Parameters that are written down of one request.
const MOST_PARAMETERS: usize = 50;
/// Characters of each value, and of each name, object or team.
const LONGEST: usize = 300;
/// Bytes of all of them together.
const MOST_BYTES: usize = 4096;
/// Stands for what was cut.
const CUT: &str = "…";
/// The action of the row for what left none of its own.
pub const REFUSED: &str = "RefusedRequests";
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
        let mut bytes = 0;
        // What is not kept would only make a row long, and strangers choose how long.
        for (n, (name, value)) in path.iter().chain(query.iter().map(|(n, v)| (n, v))).enumerate() {
            let value = if is_secret(name) { crate::base::secret::REDACTED } else { value };
            let (name, value) = (cut(name), cut(value));
            bytes += name.len() + value.len();
            if n >= MOST_PARAMETERS || bytes > MOST_BYTES {
                parameters.insert(CUT.to_owned(), vec![format!("{} more", path.len() + query.len() - n)]);
                break;
            }
            parameters.entry(name).or_default().push(value);
        }
        let team = path.get("team_name").map(|name| cut(name)).unwrap_or_default();
        // To read a secret back changes nothing, and yet somebody knows it from then on; and who enters a container by
        // a websocket, which begins with a `GET`, does there what they like.
        let kept = row.method != Method::Get || matches!(action, Action::GetSecret | Action::HijackContainer);
        Entry { team, object: cut(&object(row, path)), parameters, ..Entry::empty(row.name, row.category, kept) }
    }

    /// A sign-in or sign-out by a connector, as `user`, who may be nobody.
    pub fn of_session(action: &'static str, connector: &str, user: &str) -> Entry {
        let (connector, user) = (connector.to_owned(), user.chars().take(200).collect());
        Entry { connector: connector.clone(), object: connector, user, ..Entry::empty(action, Category::System, true) }
    }

    /// That so many refused requests left no row of their own.
    fn of_unwritten(unwritten: Unwritten) -> Entry {
        let Unwritten { address, requests, until } = unwritten;
        let object = format!("{requests} more refused requests in one minute");
        let entry = Entry { address, object, ..Entry::empty(REFUSED, Category::System, true) };
        entry.with("requests", &requests.to_string()).ended(401, until)
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

    /// Whether nobody known has sent it, and in vain.
    fn is_stranger_s(&self) -> bool {
        self.sub.is_empty() && self.status >= 400
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

/// The text, or its beginning if it is long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}{CUT}", &text[..end]),
        None => text.to_owned(),
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
    flood: Arc<Mutex<Flood>>,
}

impl Audit {
    /// Rows into the store; log lines under these headings.
    pub fn new(store: Store, logged: BTreeSet<Category>) -> Audit {
        Audit { store, logged, flood: Arc::default() }
    }

    /// Writes an entry down. A failure to do so is logged, it does not undo what was done.
    pub async fn record(&self, entry: Entry) {
        let parameters = serde_json::json!(entry.parameters);
        if self.logged.contains(&entry.category) {
            tracing::info!(target: "audit", action = entry.action, user = entry.user, address = entry.address,
                %parameters, status = entry.status, "audit");
        }
        let (written, over) = {
            let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
            let over = flood.ended(entry.at);
            (entry.kept && (!entry.is_stranger_s() || flood.is_written(&entry.address)), over)
        };
        for unwritten in over {
            self.write(row_of(Entry::of_unwritten(unwritten))).await;
        }
        if written {
            self.write(row_of(entry)).await;
        }
    }

    async fn write(&self, row: AuditEntry) {
        if let Err(e) = self.store.write(move |tx| tx.add_audit_entry(&row)).await {
            tracing::error!(error = %e, "an audit row could not be written");
        }
    }
}

fn row_of(entry: Entry) -> AuditEntry {
    AuditEntry {
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
        parameters: serde_json::json!(entry.parameters),
        status: entry.status,
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

    #[test]
    fn no_entry_is_longer_than_the_bounds() {
        let path = BTreeMap::from(["team_name", "pipeline_name"].map(|n| (n.to_owned(), "ä".repeat(30_000))));
        let query: Vec<_> = (0..9_000).map(|n| (format!("q{n}"), "x".to_owned())).collect();
        let entry = Entry::new(Action::PausePipeline, &path, &query);
        assert_eq!(entry.team.chars().count(), LONGEST + 1);
        assert_eq!(entry.parameters[CUT], ["8952 more"]);
        assert_eq!(entry.parameters["team_name"], [format!("{}…", "ä".repeat(LONGEST))]);
        for query in [vec![("n".repeat(60_000), "v".repeat(60_000))], vec![("n".to_owned(), "ü".repeat(300)); 60]] {
            let text = serde_json::json!(Entry::new(Action::PausePipeline, &path, &query).parameters).to_string();
            assert!(text.len() < 2 * MOST_BYTES, "{}", text.len());
        }
    }

    #[tokio::test]
    async fn strangers_leave_so_many_rows_in_a_minute_and_then_one() {
        let (audit, store, _dir) = audit();
        let path = BTreeMap::new();
        let refused = |at: i64| {
            let mut entry = Entry::new(Action::CheckResourceWebHook, &path, &[]);
            entry.from("10.0.0.7".into());
            entry.ended(401, Time(at))
        };
        for _ in 0..flood::MOST_ROWS + 7 {
            audit.record(refused(60_000)).await;
        }
        let count = || store.read(|tx| Ok(tx.audit_entries(&AuditQuery { limit: 999, ..Default::default() })?.len()));
        assert_eq!(count().await.unwrap() as u64, flood::MOST_ROWS);
        // Any request of a later minute, also one that leaves no row.
        audit.record(Entry::new(Action::GetJob, &path, &[]).ended(200, Time(120_000))).await;
        let last = rows(&store).await.remove(0);
        assert_eq!((last.action.as_str(), last.address.as_str(), last.at), (REFUSED, "10.0.0.7", 120_000));
        assert_eq!(last.object, "7 more refused requests in one minute");
        // Who is known always leaves one.
        for n in 0..flood::MOST_ROWS + 7 {
            let mut entry = refused(120_000);
            entry.by(&Claims { sub: "local:ann".into(), ..Claims::default() }, false);
            audit.record(entry).await;
            assert_eq!(count().await.unwrap() as u64, flood::MOST_ROWS + 2 + n);
        }
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
