//! Sealed secrets, which builds used which, and the keys that sign identity tokens. Values come sealed and leave sealed.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{BuildId, TeamId};

/// A row of `secrets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Whose.
    pub team: TeamId,
    /// Its pipeline, or empty.
    pub pipeline: String,
    /// Its name.
    pub name: String,
    /// Name of the key it is sealed with.
    pub key: String,
    /// The sealed value.
    pub sealed: Vec<u8>,
    /// When it was written.
    pub changed_at: Time,
    /// By whom.
    pub changed_by: String,
    /// When it was last used; zero if never.
    pub last_used: Time,
}

const COLUMNS: &str = "select team_id, pipeline, name, key, sealed, changed_at, changed_by, last_used from secrets";

impl SecretRow {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<SecretRow> {
        Ok(SecretRow {
            team: r.get(0)?,
            pipeline: r.get(1)?,
            name: r.get(2)?,
            key: r.get(3)?,
            sealed: r.get(4)?,
            changed_at: r.get(5)?,
            changed_by: r.get(6)?,
            last_used: r.get(7)?,
        })
    }
}

/// A build that used a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// The build.
    pub build: BuildId,
    /// Its name within its job.
    pub build_name: String,
    /// Its pipeline, or empty.
    pub pipeline: String,
    /// Its job, or empty.
    pub job: String,
    /// Where the value stood.
    pub path: String,
    /// When the build first asked for it.
    pub at: Time,
}

/// A row of `signing_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Its name in key sets.
    pub id: String,
    /// What it signs: `builds` or `sign-ins`.
    pub purpose: String,
    /// `RS256` or `ES256`.
    pub algorithm: String,
    /// JSON of the public key.
    pub public: String,
    /// Name of the key it is sealed with.
    pub key: String,
    /// The sealed private key.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Time,
}

impl ReadTx<'_> {
    /// One secret.
    pub fn secret(&self, team: TeamId, pipeline: &str, name: &str) -> Result<Option<SecretRow>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? and pipeline = ? and name = ?"))?;
        Ok(query.query_row(params![team, pipeline, name], SecretRow::from_row).optional()?)
    }

    /// All secrets of a team's pipeline (or, with '', of the team itself) whose names begin so, by name.
    pub fn secrets_below(&self, team: TeamId, pipeline: &str, start: &str) -> Result<Vec<SecretRow>> {
        let mut query = self.prepare_cached(&format!(
            "{COLUMNS} where team_id = ? and pipeline = ? and substr(name, 1, length(?3)) = ?3 order by name"
        ))?;
        Ok(query.query_map(params![team, pipeline, start], SecretRow::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// All secrets of a team, by pipeline and name.
    pub fn team_secrets(&self, team: TeamId) -> Result<Vec<SecretRow>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? order by pipeline, name"))?;
        Ok(query.query_map([team], SecretRow::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Secrets that are sealed with other keys than this one.
    pub fn secrets_not_sealed_with(&self, key: &str) -> Result<Vec<SecretRow>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where key <> ?"))?;
        Ok(query.query_map([key], SecretRow::from_row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// The builds of a team that used a variable, or a value at a path, newest first.
    pub fn secret_uses(&self, team: TeamId, name: &str, limit: i64) -> Result<Vec<SecretUse>> {
        let mut query = self.prepare_cached(
            "select u.build_id, b.name, coalesce(p.name, ''), coalesce(j.name, ''), u.path, u.at
             from secret_uses u join builds b on b.id = u.build_id
             left join pipelines p on p.id = b.pipeline_id left join jobs j on j.id = b.job_id
             where u.team_id = ?1 and (u.name = ?2 or u.path = ?2) order by u.build_id desc limit ?3",
        )?;
        let row = |r: &Row<'_>| {
            Ok(SecretUse {
                build: r.get(0)?,
                build_name: r.get(1)?,
                pipeline: r.get(2)?,
                job: r.get(3)?,
                path: r.get(4)?,
                at: r.get(5)?,
            })
        };
        Ok(query.query_map(params![team, name, limit], row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// What a build used: names and paths.
    pub fn secrets_of_build(&self, build: BuildId) -> Result<Vec<(String, String)>> {
        let mut query = self.prepare_cached("select name, path from secret_uses where build_id = ? order by name")?;
        Ok(query.query_map([build], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The sealed password of a team's own user, and the name of its key.
    pub fn team_user(&self, team: TeamId) -> Result<Option<(String, Vec<u8>)>> {
        let mut query = self.prepare_cached("select key, sealed from team_users where team_id = ?")?;
        Ok(query.query_row([team], |r| Ok((r.get(0)?, r.get(1)?))).optional()?)
    }

    /// All keys that sign or have signed, newest first.
    pub fn signing_keys(&self) -> Result<Vec<SigningKeyRow>> {
        let mut query = self.prepare_cached(
            "select id, algorithm, public, key, sealed, created_at, purpose from signing_keys
             order by created_at desc, id",
        )?;
        let row = |r: &Row<'_>| {
            Ok(SigningKeyRow {
                id: r.get(0)?,
                algorithm: r.get(1)?,
                public: r.get(2)?,
                key: r.get(3)?,
                sealed: r.get(4)?,
                created_at: r.get(5)?,
                purpose: r.get(6)?,
            })
        };
        Ok(query.query_map([], row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Writes a secret, over what was there.
    pub fn set_secret(&self, row: &SecretRow) -> Result<()> {
        self.prepare_cached(
            "insert into secrets (team_id, pipeline, name, key, sealed, changed_at, changed_by, last_used)
             values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set
               key = excluded.key, sealed = excluded.sealed, changed_at = excluded.changed_at,
               changed_by = excluded.changed_by",
        )?
        .execute(params![
            row.team,
            row.pipeline,
            row.name,
            row.key,
            row.sealed,
            row.changed_at,
            row.changed_by,
            row.last_used
        ])?;
        Ok(())
    }

    /// Removes a secret; false if there was none.
    pub fn delete_secret(&self, team: TeamId, pipeline: &str, name: &str) -> Result<bool> {
        let mut delete = self.prepare_cached("delete from secrets where team_id = ? and pipeline = ? and name = ?")?;
        Ok(delete.execute(params![team, pipeline, name])? > 0)
    }

    /// Notes that a secret was used.
    pub fn used_secret(&self, team: TeamId, pipeline: &str, name: &str, at: Time) -> Result<()> {
        self.prepare_cached("update secrets set last_used = ? where team_id = ? and pipeline = ? and name = ?")?
            .execute(params![at, team, pipeline, name])?;
        Ok(())
    }

    /// Notes that a build used the value at a path for a variable.
    pub fn note_secret_use(&self, team: TeamId, build: BuildId, name: &str, path: &str, at: Time) -> Result<()> {
        self.prepare_cached(
            "insert or ignore into secret_uses (build_id, team_id, name, path, at) values (?, ?, ?, ?, ?)",
        )?
        .execute(params![build, team, name, path, at])?;
        Ok(())
    }

    /// Adds a key that signs from now on, or seals one again.
    pub fn set_signing_key(&self, row: &SigningKeyRow) -> Result<()> {
        self.prepare_cached(
            "insert into signing_keys (id, algorithm, public, key, sealed, created_at, purpose) values (?, ?, ?, ?, ?, ?, ?)
             on conflict do update set key = excluded.key, sealed = excluded.sealed",
        )?
        .execute(params![row.id, row.algorithm, row.public, row.key, row.sealed, row.created_at, row.purpose])?;
        Ok(())
    }

    /// Sets another password of a team's own user, sealed, and ends what was signed in with the old one.
    pub fn set_team_user(&self, team: TeamId, key: &str, sealed: &[u8]) -> Result<()> {
        self.seal_team_user(team, key, sealed)?;
        self.prepare_cached("delete from tokens where team_id = ? and kind <> 'service'")?.execute([team])?;
        Ok(())
    }

    /// Keeps the password of a team's own user, sealed.
    pub fn seal_team_user(&self, team: TeamId, key: &str, sealed: &[u8]) -> Result<()> {
        self.prepare_cached(
            "insert into team_users (team_id, key, sealed) values (?, ?, ?)
             on conflict do update set key = excluded.key, sealed = excluded.sealed",
        )?
        .execute(params![team, key, sealed])?;
        Ok(())
    }

    /// Forgets a key: what it has signed is no longer believed.
    pub fn delete_signing_key(&self, id: &str) -> Result<()> {
        self.prepare_cached("delete from signing_keys where id = ?")?.execute([id])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn secrets_belong_to_their_team_and_go_with_it() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.set_team("t", &serde_json::json!({}))?.0.id;
                let other = tx.set_team("o", &serde_json::json!({}))?.0.id;
                let row = |team, pipeline: &str, name: &str| SecretRow {
                    team,
                    pipeline: pipeline.into(),
                    name: name.into(),
                    key: "k".into(),
                    sealed: vec![1],
                    changed_at: Time(5),
                    changed_by: "ann".into(),
                    last_used: Time(0),
                };
                for r in [row(team, "", "a"), row(team, "p", "a"), row(team, "p", "a/b"), row(other, "", "a")] {
                    tx.set_secret(&r)?;
                }
                tx.set_secret(&SecretRow { sealed: vec![2], ..row(team, "", "a") })?;
                assert_eq!(tx.secret(team, "", "a")?.unwrap().sealed, [2]);
                assert_eq!(tx.team_secrets(team)?.len(), 3);
                assert_eq!(tx.secrets_below(team, "p", "a/")?.len(), 1);
                tx.used_secret(team, "p", "a", Time(9))?;
                assert_eq!(tx.secret(team, "p", "a")?.unwrap().last_used, Time(9));
                assert!(tx.delete_secret(team, "p", "a")? && !tx.delete_secret(team, "p", "a")?);
                assert_eq!(tx.secrets_not_sealed_with("k")?.len(), 0);
                tx.destroy_team(team)?;
                assert_eq!(tx.team_secrets(team)?.len(), 0);
                Ok(())
            })
            .unwrap();
    }
}
