//! The store of our own: values sealed in the database, for installations without a credential manager.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::keyring::Sealed;
use super::{Answer, Found, Keyring, KeyringError, Listed, Path, Source, SourceError, Writer};
use crate::base::clock::{Clock, Time};
use crate::base::id::TeamId;
use crate::base::secret::Secret;
use crate::store::Store;
use crate::store::secret::SecretRow;

/// Where values may stand, as people read it; the rows themselves are kept by team, pipeline and name.
pub const TEMPLATES: [&str; 2] = ["{{.Team}}/{{.Pipeline}}/{{.Secret}}", "{{.Team}}/{{.Secret}}"];
/// A use is written down when the last one is older than this.
const NOTED_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// See the module's doc.
pub struct Local {
    store: Store,
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
}

impl Local {
    /// Over the database, with these keys.
    pub fn new(store: Store, keys: Arc<Keyring>, clock: Arc<dyn Clock>) -> Local {
        Local { store, keys, clock }
    }

    /// Seals everything again that was sealed with another key than the present one. Says how many values that were.
    pub async fn reseal(&self) -> Result<usize, SourceError> {
        let (keys, current) = (self.keys.clone(), self.keys.current());
        let done = self.store.write(move |tx| {
            let mut count = 0;
            for mut row in tx.secrets_not_sealed_with(&current)? {
                let place = place(row.team, &row.pipeline, &row.name);
                let again = keys.open_sealed(&Sealed { key: row.key, bytes: row.sealed }, &place);
                match again.and_then(|value| keys.seal(value.expose(), &place)) {
                    Ok(sealed) => (row.key, row.sealed) = (sealed.key, sealed.bytes),
                    Err(error) => return Ok(Err(error)),
                }
                tx.set_secret(&row)?;
                count += 1;
            }
            Ok(Ok(count))
        });
        done.await.map_err(|e| self.down(e.to_string()))?.map_err(|e| self.refused(e))
    }

    fn down(&self, why: String) -> SourceError {
        SourceError::Down { source_name: self.name().to_owned(), why }
    }

    fn refused(&self, error: KeyringError) -> SourceError {
        SourceError::Refused { source_name: self.name().to_owned(), why: error.to_string() }
    }

    async fn read(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let (wanted, now) = (paths.to_vec(), self.clock.now());
        let read = self.store.read(move |tx| {
            let row = |path: &Path| {
                let pipeline = path.pipeline.as_deref().unwrap_or_default();
                match tx.secret(path.team, pipeline, &path.name)? {
                    Some(row) => Ok(vec![row]),
                    None => tx.secrets_below(path.team, pipeline, &format!("{}/", path.name)),
                }
            };
            wanted.iter().map(row).collect::<crate::store::Result<Vec<_>>>()
        });
        let rows = read.await.map_err(|e| self.down(e.to_string()))?;
        let stale = |r: &&SecretRow| now.since(r.last_used) >= NOTED_EVERY;
        let used: Vec<_> =
            rows.iter().flatten().filter(stale).map(|r| (r.team, r.pipeline.clone(), r.name.clone())).collect();
        if !used.is_empty() {
            let note = self.store.write(move |tx| {
                used.iter().try_for_each(|(team, pipeline, name)| tx.used_secret(*team, pipeline, name, now))
            });
            if let Err(error) = note.await {
                tracing::warn!(%error, "the use of a secret is not noted");
            }
        }
        let mut values = Vec::with_capacity(paths.len());
        for (path, rows) in paths.iter().zip(rows) {
            values.push(match rows.as_slice() {
                [] => None,
                [row] if row.name == path.name => Some(Found::lasting(self.opened(row)?)),
                rows => {
                    let mut map = Map::new();
                    for row in rows {
                        map.insert(row.name[path.name.len() + 1..].to_owned(), self.opened(row)?);
                    }
                    Some(Found::lasting(Value::Object(map)))
                }
            });
        }
        Ok(Answer { values, calls: 0 })
    }

    fn opened(&self, row: &SecretRow) -> Result<Value, SourceError> {
        let sealed = Sealed { key: row.key.clone(), bytes: row.sealed.clone() };
        let bytes = self.keys.open_sealed(&sealed, &place(row.team, &row.pipeline, &row.name));
        let bytes = bytes.map_err(|e| self.refused(e))?;
        Ok(String::from_utf8_lossy(bytes.expose()).into_owned().into())
    }
}

/// What a value is bound to.
fn place(team: TeamId, pipeline: &str, name: &str) -> String {
    format!("secret\n{team}\n{pipeline}\n{name}")
}

#[async_trait]
impl Source for Local {
    fn name(&self) -> &str {
        "the store of this server"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        match self.read(paths).await {
            // Read just before a new key was made, opened just after the old one was forgotten.
            Err(_) => self.read(paths).await,
            answer => answer,
        }
    }

    fn writer(&self) -> Option<&dyn Writer> {
        Some(self)
    }

    fn about(&self) -> Value {
        json!({"local": {"key": self.keys.current()}})
    }

    async fn health(&self) -> Result<(), SourceError> {
        self.store.read(|tx| tx.signing_keys()).await.map(drop).map_err(|e| self.down(e.to_string()))
    }
}

#[async_trait]
impl Writer for Local {
    async fn put(&self, path: &Path, value: &Secret<String>, who: &str) -> Result<(), SourceError> {
        let mut row = SecretRow {
            team: path.team,
            pipeline: path.pipeline.clone().unwrap_or_default(),
            name: path.name.clone(),
            key: String::new(),
            sealed: Vec::new(),
            changed_at: self.clock.now(),
            changed_by: who.to_owned(),
            last_used: Time(0),
        };
        let (keys, value) = (self.keys.clone(), value.clone());
        // Sealed within the write, so that no rotation of the key comes between.
        let write = self.store.write(move |tx| {
            match keys.seal(value.expose().as_bytes(), &place(row.team, &row.pipeline, &row.name)) {
                Ok(sealed) => (row.key, row.sealed) = (sealed.key, sealed.bytes),
                Err(error) => return Ok(Err(error)),
            }
            tx.set_secret(&row).map(Ok)
        });
        write.await.map_err(|e| self.down(e.to_string()))?.map_err(|e| self.refused(e))
    }

    async fn delete(&self, path: &Path) -> Result<bool, SourceError> {
        let path = path.clone();
        let delete = self
            .store
            .write(move |tx| tx.delete_secret(path.team, path.pipeline.as_deref().unwrap_or_default(), &path.name));
        delete.await.map_err(|e| self.down(e.to_string()))
    }

    async fn list(&self, prefix: &Path) -> Result<Vec<Listed>, SourceError> {
        let (team, pipeline) = (prefix.team, prefix.pipeline.clone());
        let rows = self.store.read(move |tx| match pipeline {
            Some(pipeline) => tx.secrets_below(team, &pipeline, ""),
            None => tx.team_secrets(team),
        });
        let rows = rows.await.map_err(|e| self.down(e.to_string()))?;
        Ok(rows
            .into_iter()
            .map(|r| Listed {
                pipeline: r.pipeline,
                name: r.name,
                changed_at: r.changed_at.unix(),
                changed_by: r.changed_by,
                last_used: r.last_used.unix(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Manual;

    #[tokio::test]
    async fn what_is_written_is_sealed_and_survives_a_new_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let team = store.write(|tx| tx.ensure_main(None)).await.unwrap();
        let keys = Arc::new(Keyring::open(&dir.path().join("secrets.key")).unwrap());
        let clock = Arc::new(Manual::new(Time(7_000_000)));
        let local = Local::new(store.clone(), keys.clone(), clock);
        let path = |pipeline: Option<&str>, name: &str| Path {
            text: name.into(),
            team,
            team_name: "main".into(),
            pipeline: pipeline.map(str::to_owned),
            name: name.into(),
        };
        for (path, value) in [
            (path(None, "a"), "plain-text-of-a"),
            (path(Some("p"), "login/user"), "u"),
            (path(Some("p"), "login/password"), "w"),
        ] {
            local.put(&path, &Secret::new(value.to_owned()), "ann").await.unwrap();
        }
        let get = async |path: Path| {
            local.get_many(&[path]).await.unwrap().values.remove(0).map(|f| f.value.expose().clone())
        };
        assert_eq!(get(path(None, "a")).await, Some(json!("plain-text-of-a")));
        assert_eq!(get(path(Some("p"), "login")).await, Some(json!({"user": "u", "password": "w"})));
        assert_eq!(get(path(Some("p"), "a")).await, None);
        keys.rotate().unwrap();
        assert_eq!(local.reseal().await.unwrap(), 3);
        keys.drop_old().unwrap();
        assert_eq!(get(path(None, "a")).await, Some(json!("plain-text-of-a")));
        let listed = local.list(&path(None, "")).await.unwrap();
        assert_eq!(listed.len(), 3);
        assert_eq!((listed[0].changed_by.as_str(), listed[0].last_used), ("ann", 7000));
        store.write(|tx| Ok(tx.execute_batch("pragma wal_checkpoint(truncate)").ok())).await.unwrap();
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(15).any(|w| w == b"plain-text-of-a"));
        }
        assert!(local.delete(&path(None, "a")).await.unwrap() && !local.delete(&path(None, "a")).await.unwrap());
    }
}
