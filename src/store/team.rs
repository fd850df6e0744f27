//! Teams, the walls between tenants.

use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::base::id::{BuildId, TeamId};

/// A row of `teams`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Its id.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// Whether its owners administer the installation.
    pub admin: bool,
    /// `{"owner": {"users": ["local:alice"], "groups": []}, …}`
    pub auth: Value,
}

/// Why a team could not be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// It was.
    Done,
    /// There is no such thing.
    NotFound,
    /// The new name is taken.
    Taken,
}

const COLUMNS: &str = "select id, name, admin, auth from teams";

/// What two names of teams must differ in: case is not enough.
pub fn key(name: &str) -> String {
    name.to_lowercase()
}

impl Team {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Team> {
        Ok(Team { id: r.get(0)?, name: r.get(1)?, admin: r.get(2)?, auth: r.get::<_, Json<Value>>(3)?.0 })
    }
}

impl ReadTx<'_> {
    /// The team of that name, however it is written.
    pub fn find_team(&self, name: &str) -> Result<Option<Team>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where key = ?"))?;
        Ok(query.query_row([key(name)], Team::from_row).optional()?)
    }

    /// The team of that id.
    pub fn team(&self, id: TeamId) -> Result<Option<Team>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where id = ?"))?;
        Ok(query.query_row([id], Team::from_row).optional()?)
    }

    /// All teams by name.
    pub fn teams(&self) -> Result<Vec<Team>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} order by name"))?;
        Ok(query.query_map([], Team::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Makes the admin team `main` if it is not there; with `auth`, sets who is in it.
    pub fn ensure_main(&self, auth: Option<&Value>) -> Result<TeamId> {
        let id = self
            .prepare_cached(
                "insert into teams (name, key, admin, auth) values ('main', 'main', 1, '{}')
                 on conflict (key) do update set admin = 1 returning id",
            )?
            .query_row([], |r| r.get(0))?;
        if let Some(auth) = auth {
            self.prepare_cached("update teams set auth = ? where id = ?")?.execute(params![Json(auth), id])?;
        }
        Ok(id)
    }

    /// Makes the team, or changes who is in it. Also says whether it was made.
    pub fn set_team(&self, name: &str, auth: &Value) -> Result<(Team, bool)> {
        let created = self.find_team(name)?.is_none();
        let team = self
            .prepare_cached(
                "insert into teams (name, key, auth) values (?, ?, ?) on conflict (key) do update set auth = excluded.auth
                 returning id, name, admin, auth",
            )?
            .query_row(params![name, key(name), Json(auth)], Team::from_row)?;
        Ok((team, created))
    }

    /// Sets the networks its members must call from; none for any.
    pub fn set_team_networks(&self, id: TeamId, networks: &[String]) -> Result<()> {
        self.prepare_cached("update teams set networks = ? where id = ?")?.execute(params![Json(networks), id])?;
        Ok(())
    }

    /// Renames a team.
    pub fn rename_team(&self, id: TeamId, name: &str) -> Result<Renamed> {
        if self.find_team(name)?.is_some_and(|t| t.id != id) {
            return Ok(Renamed::Taken);
        }
        let mut rename = self.prepare_cached("update teams set name = ?, key = ? where id = ?")?;
        let n = rename.execute(params![name, key(name), id])?;
        Ok(if n == 1 { Renamed::Done } else { Renamed::NotFound })
    }

    /// Removes a team and all that is its own; its builds are returned for their logs, `None` if there is no such team.
    /// What it leaves on the runtime goes to an admin team until the collector has removed it.
    pub fn destroy_team(&self, id: TeamId) -> Result<Option<Vec<BuildId>>> {
        let builds = self
            .prepare_cached("select id from builds where team_id = ?")?
            .query_map([id], |r| r.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        self.orphan_audit(id)?;
        let heir = "(select id from teams where admin = 1 and id <> ?1 order by id limit 1)";
        for (table, what) in [("containers", "build_id = null, hijacked_until = 0"), ("volumes", "build_id = null")] {
            let query =
                format!("update {table} set team_id = {heir}, {what} where team_id = ?1 and {heir} is not null");
            self.prepare_cached(&query)?.execute([id])?;
        }
        let gone = self.prepare_cached("delete from teams where id = ?")?.execute([id])? == 1;
        Ok(gone.then_some(builds))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn a_team_is_made_changed_renamed_and_destroyed() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let main = tx.ensure_main(None)?;
                assert_eq!(tx.ensure_main(Some(&json!({"owner": {"users": ["local:a"]}})))?, main);
                assert!(tx.team(main)?.unwrap().admin);
                let (team, created) = tx.set_team("other", &json!({"viewer": {}}))?;
                assert!(created && !team.admin);
                assert!(!tx.set_team("other", &json!({}))?.1);
                assert_eq!(tx.rename_team(team.id, "Main")?, Renamed::Taken);
                let (same, created) = tx.set_team("Other", &json!({}))?;
                assert_eq!((same.id, same.name.as_str(), created), (team.id, "other", false));
                assert_eq!(tx.rename_team(team.id, "ÖTHER")?, Renamed::Done);
                assert_eq!(tx.find_team("öther")?.map(|t| (t.id, t.name)), Some((team.id, "ÖTHER".to_owned())));
                assert_eq!(tx.rename_team(team.id, "new")?, Renamed::Done);
                assert_eq!(tx.teams()?.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["main", "new"]);
                assert_eq!(tx.destroy_team(team.id)?, Some(Vec::new()));
                assert_eq!(tx.destroy_team(team.id)?, None);
                assert_eq!(tx.find_team("new")?, None);
                Ok(())
            })
            .unwrap();
    }
}
