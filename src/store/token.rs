//! Bearer tokens, by digest only: sign-ins of people, and service accounts of teams.

use rusqlite::{OptionalExtension, Row, params};

use super::column::Json;
use super::{ReadTx, Result, WriteTx};
use crate::auth::{Claims, Role};
use crate::base::clock::Time;
use crate::base::id::TeamId;

/// What a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A browser's session.
    Browser,
    /// A sign-in of the command line client.
    Client,
    /// A service account of a team.
    Service,
}

impl TokenKind {
    /// Its word in the database and in answers.
    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Browser => "browser",
            TokenKind::Client => "client",
            TokenKind::Service => "service",
        }
    }

    fn from_name(name: &str) -> TokenKind {
        match name {
            "client" => TokenKind::Client,
            "service" => TokenKind::Service,
            _ => TokenKind::Browser,
        }
    }
}

/// Who presents a token, and by which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's row.
    pub token: i64,
    /// What was learnt at sign-in.
    pub claims: Claims,
    /// When that was: as old as this is what is known of their groups.
    pub since: Time,
    /// When the token was last seen, to within some minutes.
    pub last_used: Time,
    /// What the token was made for.
    pub kind: TokenKind,
    /// Of a service account and of a team's own user: the team, and the role there. They have no other.
    pub scope: Option<(TeamId, Role)>,
}

impl Bearer {
    /// Whether it is a service account rather than somebody who has signed in.
    pub fn is_service(&self) -> bool {
        self.kind == TokenKind::Service
    }
}

/// A sign-in as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The token's row.
    pub id: i64,
    /// What it was made for.
    pub kind: TokenKind,
    /// When.
    pub created: Time,
    /// Until when it is good.
    pub expires: Time,
    /// When it was last seen, to within some minutes.
    pub last_used: Time,
    /// From where it was made.
    pub address: String,
}

/// A service account as its team sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The token's row.
    pub id: i64,
    /// Its name within the team.
    pub name: String,
    /// What it may do there.
    pub role: Role,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created: Time,
    /// Until when it is good.
    pub expires: Time,
    /// When it was last seen, to within some minutes; none if never.
    pub last_used: Option<Time>,
}

/// A token to keep.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Digest of what its bearer presents.
    pub digest: String,
    /// What was learnt at sign-in.
    pub claims: Claims,
    /// When it is made.
    pub now: Time,
    /// When it ends.
    pub expires: Time,
    /// From where it is made.
    pub address: String,
}

fn role(text: &str) -> Role {
    // Only roles are ever written; the weakest is the safe reading of anything else.
    Role::from_name(text).unwrap_or(Role::Viewer)
}

fn account(r: &Row<'_>) -> rusqlite::Result<ServiceAccount> {
    Ok(ServiceAccount {
        id: r.get(0)?,
        name: r.get(1)?,
        role: role(&r.get::<_, String>(2)?),
        created_by: r.get(3)?,
        created: r.get(4)?,
        expires: r.get(5)?,
        last_used: r.get(6)?,
    })
}

impl ReadTx<'_> {
    /// Whose token has this digest, unless it has expired.
    pub fn bearer(&self, digest: &str, now: Time) -> Result<Option<Bearer>> {
        let mut query = self.prepare_cached(
            "select id, claims, created_at, coalesce(last_used_at, 0), team_id, role, kind from tokens
             where digest = ? and expires_at > ?",
        )?;
        let found = query.query_row(params![digest, now], |r| {
            let team: Option<TeamId> = r.get(4)?;
            let scope = team.map(|team| Ok::<_, rusqlite::Error>((team, role(&r.get::<_, String>(5)?))));
            Ok(Bearer {
                token: r.get(0)?,
                claims: r.get::<_, Json<Claims>>(1)?.0,
                since: r.get(2)?,
                last_used: r.get(3)?,
                kind: TokenKind::from_name(&r.get::<_, String>(6)?),
                scope: scope.transpose()?,
            })
        });
        Ok(found.optional()?)
    }

    /// The valid sign-ins of a person, newest first.
    pub fn sessions(&self, sub: &str, now: Time) -> Result<Vec<Session>> {
        let mut query = self.prepare_cached(
            "select id, kind, created_at, expires_at, coalesce(last_used_at, created_at), address from tokens
             where sub = ? and kind <> 'service' and expires_at > ? order by id desc",
        )?;
        let rows = query.query_map(params![sub, now], |r| {
            Ok(Session {
                id: r.get(0)?,
                kind: TokenKind::from_name(&r.get::<_, String>(1)?),
                created: r.get(2)?,
                expires: r.get(3)?,
                last_used: r.get(4)?,
                address: r.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The service accounts of a team by name; expired ones stay until somebody removes them.
    pub fn service_accounts(&self, team: TeamId) -> Result<Vec<ServiceAccount>> {
        let mut query = self.prepare_cached(
            "select id, name, role, created_by, created_at, expires_at, last_used_at from tokens
             where team_id = ? and kind = 'service' order by name",
        )?;
        Ok(query.query_map([team], account)?.collect::<rusqlite::Result<_>>()?)
    }
}

impl WriteTx<'_> {
    /// Keeps a token's digest until it expires, notes that its bearer was here, and forgets expired sign-ins.
    /// `scope` is the only role of a team's own user.
    pub fn start_session(&self, token: &NewToken, kind: TokenKind, scope: Option<(TeamId, Role)>) -> Result<()> {
        self.purge_tokens(token.now)?;
        self.prepare_cached(
            "insert into tokens (digest, kind, sub, claims, created_at, expires_at, address, team_id, role)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            token.digest,
            kind.name(),
            token.claims.sub,
            Json(&token.claims),
            token.now,
            token.expires,
            token.address,
            scope.map(|(team, _)| team),
            scope.map(|(_, role)| role.name())
        ])?;
        self.saw_user(&token.claims, token.now)
    }

    /// Makes a service account. None if the team has one of that name.
    pub fn add_service_account(
        &self,
        token: &NewToken,
        team: TeamId,
        role: Role,
        created_by: &str,
    ) -> Result<Option<ServiceAccount>> {
        let mut insert = self.prepare_cached(
            "insert into tokens (digest, kind, sub, claims, created_at, expires_at, address, team_id, name, role, created_by)
             values (?, 'service', ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing
             returning id, name, role, created_by, created_at, expires_at, last_used_at",
        )?;
        let values = params![
            token.digest,
            token.claims.sub,
            Json(&token.claims),
            token.now,
            token.expires,
            token.address,
            team,
            token.claims.federated_claims.user_id,
            role.name(),
            created_by
        ];
        Ok(insert.query_row(values, account).optional()?)
    }

    /// Removes a service account.
    pub fn remove_service_account(&self, team: TeamId, name: &str) -> Result<bool> {
        let mut delete =
            self.prepare_cached("delete from tokens where team_id = ? and name = ? and kind = 'service'")?;
        Ok(delete.execute(params![team, name])? == 1)
    }

    /// Notes that a token was used.
    pub fn touch_token(&self, id: i64, now: Time) -> Result<()> {
        self.prepare_cached("update tokens set last_used_at = ? where id = ?")?.execute(params![now, id])?;
        Ok(())
    }

    /// Ends the token with that digest.
    pub fn delete_token(&self, digest: &str) -> Result<bool> {
        Ok(self.prepare_cached("delete from tokens where digest = ?")?.execute([digest])? == 1)
    }

    /// Ends one sign-in of a person.
    pub fn end_session(&self, sub: &str, id: i64) -> Result<bool> {
        let mut delete = self.prepare_cached("delete from tokens where id = ? and sub = ? and kind <> 'service'")?;
        Ok(delete.execute(params![id, sub])? == 1)
    }

    /// Ends every sign-in of a person; how many there were.
    pub fn end_sessions(&self, sub: &str) -> Result<usize> {
        Ok(self.prepare_cached("delete from tokens where sub = ? and kind <> 'service'")?.execute([sub])?)
    }

    /// Ends every sign-in by a connector, and forgets whom it vouched for.
    pub fn forget_connector(&self, connector: &str) -> Result<()> {
        self.prepare_cached("delete from tokens where json_extract(claims, '$.federated_claims.connector_id') = ?")?
            .execute([connector])?;
        self.prepare_cached("delete from users where connector = ?")?.execute([connector])?;
        Ok(())
    }

    /// Forgets sign-ins that have expired; how many.
    pub fn purge_tokens(&self, now: Time) -> Result<usize> {
        Ok(self.prepare_cached("delete from tokens where expires_at <= ? and kind <> 'service'")?.execute([now])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    fn token(digest: &str, sub: &str, now: i64, expires: i64) -> NewToken {
        let claims = Claims { sub: sub.to_owned(), ..Claims::default() };
        NewToken { digest: digest.into(), claims, now: Time(now), expires: Time(expires), address: "::1".into() }
    }

    #[test]
    fn a_session_is_valid_until_it_expires_or_is_ended() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                tx.start_session(&token("a", "x", 1, 10), TokenKind::Browser, None)?;
                tx.start_session(&token("b", "x", 2, 20), TokenKind::Client, None)?;
                let bearer = tx.bearer("a", Time(9))?.unwrap();
                assert_eq!((bearer.claims.sub.as_str(), bearer.since, bearer.scope), ("x", Time(1), None));
                assert_eq!(tx.bearer("a", Time(10))?, None);
                let sessions = tx.sessions("x", Time(3))?;
                assert_eq!(
                    sessions.iter().map(|s| s.kind).collect::<Vec<_>>(),
                    [TokenKind::Client, TokenKind::Browser]
                );
                assert!(!tx.end_session("y", sessions[0].id)?, "another's");
                assert!(tx.end_session("x", sessions[0].id)?);
                assert_eq!(tx.purge_tokens(Time(10))?, 1);
                assert_eq!(tx.end_sessions("x")?, 0);
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn a_service_account_is_one_of_its_name_in_its_team_and_goes_with_it() {
        let (store, _dir) = store();
        store
            .write_blocking(|tx| {
                let team = tx.set_team("t", &serde_json::json!({}))?.0.id;
                let mut new = token("s", "service:1:bot", 1, 10);
                new.claims.federated_claims.user_id = "bot".into();
                let made = tx.add_service_account(&new, team, Role::Member, "ann")?.unwrap();
                assert_eq!((made.name.as_str(), made.role, made.last_used), ("bot", Role::Member, None));
                new.digest = "other".into();
                assert_eq!(tx.add_service_account(&new, team, Role::Owner, "ann")?, None);
                assert_eq!(tx.bearer("s", Time(2))?.unwrap().scope, Some((team, Role::Member)));
                tx.touch_token(made.id, Time(7))?;
                tx.purge_tokens(Time(99))?;
                assert_eq!(tx.service_accounts(team)?[0].last_used, Some(Time(7)));
                tx.destroy_team(team)?;
                assert_eq!(tx.bearer("s", Time(2))?, None);
                Ok(())
            })
            .unwrap();
    }
}
