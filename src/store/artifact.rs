//! What people upload for a build and what they may download of it.

use rusqlite::{OptionalExtension, Row, params};

use super::{ReadTx, Result, WriteTx};
use crate::base::clock::Time;
use crate::base::id::{ArtifactId, BuildId, TeamId};

/// A row of `artifacts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// The output's name; '' for an upload.
    pub name: String,
    /// Where its files are.
    pub volume: String,
    /// The build that made it; none for an upload.
    pub build_id: Option<BuildId>,
    /// When.
    pub created_at: Time,
}

/// An artifact to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArtifact {
    /// Whose.
    pub team: TeamId,
    /// The output's name; '' for an upload.
    pub name: String,
    /// Where its files are.
    pub volume: String,
    /// The build that made it.
    pub build: Option<BuildId>,
    /// When.
    pub now: Time,
}

const COLUMNS: &str = "select id, name, volume, build_id, created_at from artifacts";

impl Artifact {
    fn from_row(r: &Row<'_>) -> rusqlite::Result<Artifact> {
        Ok(Artifact { id: r.get(0)?, name: r.get(1)?, volume: r.get(2)?, build_id: r.get(3)?, created_at: r.get(4)? })
    }
}

impl ReadTx<'_> {
    /// An artifact of a team.
    pub fn artifact(&self, team: TeamId, id: ArtifactId) -> Result<Option<Artifact>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where team_id = ? and id = ?"))?;
        Ok(query.query_row(params![team, id], Artifact::from_row).optional()?)
    }

    /// Whether any was made before `before`.
    pub fn has_artifacts_before(&self, before: Time) -> Result<bool> {
        let mut query = self.prepare_cached("select exists (select 1 from artifacts where created_at < ?)")?;
        Ok(query.query_row([before], |r| r.get(0))?)
    }

    /// What a build has left for download, oldest first.
    pub fn artifacts_of_build(&self, build: BuildId) -> Result<Vec<Artifact>> {
        let mut query = self.prepare_cached(&format!("{COLUMNS} where build_id = ? order by id"))?;
        Ok(query.query_map([build], Artifact::from_row)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Writes an artifact down; a build's output of that name is replaced, so that a repeated step leaves one.
    pub fn add_artifact(&self, new: &NewArtifact) -> Result<Artifact> {
        self.prepare_cached("delete from artifacts where build_id = ? and name = ?")?
            .execute(params![new.build, new.name])?;
        self.prepare_cached(
            "insert into artifacts (team_id, name, volume, build_id, created_at) values (?, ?, ?, ?, ?)",
        )?
        .execute(params![new.team, new.name, new.volume, new.build, new.now])?;
        Ok(Artifact {
            id: ArtifactId(self.last_insert_rowid()),
            name: new.name.clone(),
            volume: new.volume.clone(),
            build_id: new.build,
            created_at: new.now,
        })
    }

    /// Forgets an artifact whose upload did not arrive.
    pub fn drop_artifact(&self, id: ArtifactId) -> Result<()> {
        self.prepare_cached("delete from artifacts where id = ?")?.execute([id])?;
        Ok(())
    }

    /// Forgets artifacts made before `before`; their volumes become removable.
    pub fn expire_artifacts(&self, before: Time) -> Result<usize> {
        Ok(self.prepare_cached("delete from artifacts where created_at < ?")?.execute([before])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;
    use crate::store::volume::Volume;

    #[test]
    fn an_artifact_keeps_its_volume_until_it_expires_and_belongs_to_its_team() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team_id = tx.ensure_main(None)?;
                let build = tx.create_one_off_build(team_id, "alice", Time(1))?;
                tx.insert_volume(&Volume {
                    handle: "v".into(),
                    team_id,
                    kind: "artifact".into(),
                    parent: None,
                    container: None,
                    build_id: None,
                    path: String::new(),
                    created_at: Time(1),
                })?;
                let new =
                    |build| NewArtifact { team: team_id, name: "o".into(), volume: "v".into(), build, now: Time(5) };
                let first = tx.add_artifact(&new(Some(build)))?;
                let again = tx.add_artifact(&new(Some(build)))?;
                assert_eq!(tx.artifacts_of_build(build)?, std::slice::from_ref(&again));
                assert_eq!(tx.artifact(team_id, first.id)?, None);
                assert_eq!(tx.artifact(TeamId(99), again.id)?, None);
                let upload = tx.add_artifact(&new(None))?;
                assert!(tx.removable_volumes(Time(9), false)?.is_empty() && !tx.delete_volume("v")?);
                assert_eq!(tx.expire_artifacts(Time(5))?, 0);
                tx.drop_artifact(upload.id)?;
                assert_eq!(tx.expire_artifacts(Time(6))?, 1);
                assert_eq!(tx.removable_volumes(Time(9), false)?, ["v"]);
                Ok(())
            })
            .unwrap();
    }
}
