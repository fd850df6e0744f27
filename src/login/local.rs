//! Users with a password: those named on the command line, and those the operator has added to the database.
//!
//! Checking a password costs the same whether the user exists or not, and only a few checks run at once, so that
//! guessing can neither find out names nor take the machine.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use super::hasher::{Busy, Hasher};
use super::password;
use super::subject::subject;
use crate::auth::Claims;
use crate::auth::claims::Federated;
use crate::base::secret::Secret;
use crate::base::version::digest;
use crate::store::Store;
use crate::store::local_user::LocalUserRow;

/// Why a user is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No colon, no name, or no password.
    #[error("a local user is written NAME:PASSWORD, where PASSWORD is plain or a bcrypt or argon2 hash")]
    Form,
    /// Characters that team rules and forms could not carry.
    #[error("{0:?} cannot be a user name: leave out spaces at its ends, colons, commas and control characters")]
    Name(String),
    /// Looks like a hash but is none.
    #[error("the password hash of user {0:?} is malformed, or would cost more than this server gives a sign-in")]
    Hash(String),
}

/// A user as the flag names them: `NAME:PASSWORD`.
#[derive(Debug, Clone)]
pub struct LocalUser {
    name: String,
    password: Secret<String>,
    hashed: bool,
}

impl LocalUser {
    /// Their name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a stored hash says the same as was given: the same hash, or one of the same password.
    pub fn is_as(&self, stored: &str, verify: impl FnOnce(&str, &str) -> bool) -> bool {
        let given = self.password.expose();
        if self.hashed { given == stored } else { verify(given, stored) }
    }

    /// The hash of their password; computed, and so slow, if it was given in the clear.
    pub fn hash(&self) -> String {
        let given = self.password.expose();
        if self.hashed { given.clone() } else { password::hash(given) }
    }
}

/// Refuses names that could not be written in a flag, a file or a team's rules.
pub fn check_name(name: &str) -> Result<(), UserError> {
    let odd = |c: char| c.is_control() || matches!(c, ':' | ',');
    let bad = name.is_empty() || name.trim() != name || name.chars().any(odd) || name.len() > 200;
    if bad { Err(UserError::Name(name.to_owned())) } else { Ok(()) }
}

impl FromStr for LocalUser {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, password) = text.split_once(':').ok_or(UserError::Form)?;
        if name.is_empty() || password.is_empty() {
            return Err(UserError::Form);
        }
        check_name(name)?;
        let hashed = password::looks_hashed(password);
        if hashed && !password::is_hash(password) {
            return Err(UserError::Hash(name.to_owned()));
        }
        Ok(LocalUser { name: name.to_owned(), password: Secret::new(password.to_owned()), hashed })
    }
}

/// A user of the flags; a password given in the clear is hashed when it is first asked for, so that the start does not
/// wait for it.
struct Given {
    user: LocalUser,
    hash: OnceLock<String>,
}

impl Given {
    fn verify(&self, password: &str) -> bool {
        password::verify(password, self.hash.get_or_init(|| self.user.hash()))
    }
}

/// All of them.
pub struct LocalUsers {
    /// By name in lower case.
    given: BTreeMap<String, Arc<Given>>,
    store: Store,
    hasher: Hasher,
}

impl LocalUsers {
    /// These by flag, the last of two with the same name, beside those in the database.
    pub fn new(store: Store, given: Vec<LocalUser>) -> LocalUsers {
        let given = given.into_iter().map(|user| {
            let key = user.name.to_lowercase();
            (key, Arc::new(Given { user, hash: OnceLock::new() }))
        });
        LocalUsers { given: given.collect(), store, hasher: Hasher::start() }
    }

    /// The names of those who come by flag.
    pub fn given(&self) -> Vec<String> {
        self.given.values().map(|g| g.user.name.clone()).collect()
    }

    /// Whether there is anybody.
    pub async fn any(&self) -> bool {
        let stored = self.store.read(|tx| tx.local_users()).await;
        !self.given.is_empty() || stored.is_ok_and(|users| users.iter().any(|u| u.hash.is_some()))
    }

    /// The user's claims, if that is their password.
    pub async fn verify(&self, name: &str, password: &str) -> crate::store::Result<Result<Option<Claims>, Busy>> {
        let password = password.to_owned();
        if let Some(given) = self.given.get(&name.to_lowercase()).cloned() {
            let found = self.hasher.run(move || given.verify(&password).then(|| claims(given.user.name())));
            return Ok(found.await);
        }
        let wanted = name.to_owned();
        let row = self.store.read(move |tx| tx.local_user(&wanted)).await?;
        if let Some(LocalUserRow { name, hash: Some(hash), .. }) = row {
            return Ok(self.hasher.run(move || password::verify(&password, &hash).then(|| claims(&name))).await);
        }
        self.refuse(name, password).await
    }

    /// Does the same work as for somebody who exists: always the same somebody for the same name.
    async fn refuse(&self, name: &str, password: String) -> crate::store::Result<Result<Option<Claims>, Busy>> {
        let number = u32::from_str_radix(&digest(name.to_lowercase().as_bytes())[..7], 16).unwrap_or(0);
        let stored = self.store.read(move |tx| tx.some_local_hash(number)).await?;
        let given = (!self.given.is_empty() && (stored.is_none() || number.is_multiple_of(2)))
            .then(|| self.given.values().nth(number as usize % self.given.len()).cloned())
            .flatten();
        let work = move || {
            let _same_work = match (given, stored) {
                (Some(given), _) => given.verify(&password),
                (None, Some(hash)) => password::verify(&password, &hash),
                (None, None) => password::verify(&password, nobody()),
            };
            None
        };
        Ok(self.hasher.run(work).await)
    }
}

/// A hash that no password has, where there are no users at all.
fn nobody() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| password::hash(&crate::base::chance::hex::<16>()))
}

/// Claims as Concourse's own identity server makes them for a local user.
fn claims(name: &str) -> Claims {
    Claims {
        sub: subject(name, "local"),
        name: name.to_owned(),
        email: name.to_owned(),
        known_as: vec![name.to_owned()],
        federated_claims: Federated { connector_id: "local".to_owned(), user_id: name.to_owned() },
        ..Claims::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Time;

    fn user(text: &str) -> Result<LocalUser, UserError> {
        text.parse()
    }

    #[test]
    fn users_are_read_and_nonsense_is_refused() {
        assert_eq!(user("ann:se:cret").unwrap().password.expose(), "se:cret");
        for text in ["ann", ":x", "ann:", ""] {
            assert_eq!(user(text).unwrap_err(), UserError::Form, "{text}");
        }
        assert_eq!(user("ann:$2a$10$short").unwrap_err(), UserError::Hash("ann".into()));
        assert_eq!(user("ann:$argon2id$x").unwrap_err(), UserError::Hash("ann".into()));
        assert_eq!(user(" ann:x").unwrap_err(), UserError::Name(" ann".into()));
    }

    #[tokio::test]
    async fn plain_and_hashed_passwords_are_compared_and_stored_users_need_no_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let hashed = bcrypt::hash("secret", 4).unwrap();
        let long = "x".repeat(100);
        let given = ["ann:secret", &format!("bob:{hashed}"), &format!("Carl:{long}")].map(|t| user(t).unwrap());
        let users = LocalUsers::new(store.clone(), given.into());
        let stored = bcrypt::hash("stored", 4).unwrap();
        store.write(move |tx| tx.add_local_user("Dora", &stored, Time(1))).await.unwrap();
        for (name, password, expected) in [
            ("ann", "secret", Some("ann")),
            ("ANN", "secret", Some("ann")),
            ("ann", "x", None),
            ("bob", "secret", Some("bob")),
            ("bob", &hashed, None),
            ("carl", &long, Some("Carl")),
            ("carl", &long[..99], None),
            ("dora", "stored", Some("Dora")),
            ("dora", "secret", None),
            ("eve", "", None),
            ("eve", "secret", None),
        ] {
            let found = users.verify(name, password).await.unwrap().unwrap();
            assert_eq!(found.map(|c| c.name).as_deref(), expected, "{name}:{password}");
        }
    }
}
