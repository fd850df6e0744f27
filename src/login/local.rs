//! Users that are named on the command line.
//!
//! Checking a password costs the same whether the user exists or not, and only two checks run at once, so that
//! guessing can neither find out names nor take the machine.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::auth::Claims;
use crate::auth::claims::Federated;
use crate::base::secret::Secret;

/// bcrypt's cost for passwords that were given in the clear.
const COST: u32 = 10;

/// Why a user is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No colon, no name, or no password.
    #[error("a local user is written NAME:PASSWORD, where PASSWORD is plain or a bcrypt hash")]
    Form,
    /// Looks like a bcrypt hash but is none.
    #[error("the bcrypt hash of user {0:?} is malformed")]
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
}

impl FromStr for LocalUser {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, password) = text.split_once(':').ok_or(UserError::Form)?;
        if name.is_empty() || password.is_empty() {
            return Err(UserError::Form);
        }
        let hashed = ["$2a$", "$2b$", "$2y$", "$2x$"].iter().any(|p| password.starts_with(p));
        if hashed && password.parse::<bcrypt::HashParts>().is_err() {
            return Err(UserError::Hash(name.to_owned()));
        }
        Ok(LocalUser { name: name.to_owned(), password: Secret::new(password.to_owned()), hashed })
    }
}

/// All of them.
pub struct LocalUsers {
    users: BTreeMap<String, Stored>,
    turn: Semaphore,
}

/// A password; one given in the clear is hashed when it is first asked for, so that the start does not wait for it.
struct Stored {
    given: LocalUser,
    hash: OnceLock<String>,
}

impl LocalUsers {
    /// These; the last of two with the same name wins.
    pub fn new(users: Vec<LocalUser>) -> LocalUsers {
        let users = users.into_iter().map(|u| (u.name.clone(), Stored { given: u, hash: OnceLock::new() }));
        LocalUsers { users: users.collect(), turn: Semaphore::new(2) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.users.keys().cloned().collect()
    }

    /// The user's claims, if that is their password.
    pub async fn verify(self: Arc<Self>, name: String, password: String) -> Option<Claims> {
        let _turn = self.turn.acquire().await.ok()?;
        let users = self.clone();
        tokio::task::spawn_blocking(move || users.verify_now(&name, &password).then(|| claims(&name))).await.ok()?
    }

    fn verify_now(&self, name: &str, password: &str) -> bool {
        let Some(user) = self.users.get(name) else {
            let _same_work = bcrypt::verify(password, nobody());
            return false;
        };
        if user.given.hashed {
            return bcrypt::verify(password, user.given.password.expose()).unwrap_or(false);
        }
        let hash = user.hash.get_or_init(|| hash(user.given.password.expose()));
        bcrypt::verify(shortened(password), hash).unwrap_or(false)
    }
}

/// bcrypt reads only 72 bytes; what is hashed here is the digest, so that longer passwords count whole.
fn shortened(password: &str) -> String {
    STANDARD.encode(Sha256::digest(password.as_bytes()))
}

fn hash(password: &str) -> String {
    bcrypt::hash(shortened(password), COST).expect("the cost is within bcrypt's bounds")
}

/// A hash that no password has, for users that do not exist.
fn nobody() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash(&crate::base::chance::hex::<16>()))
}

/// Claims as Concourse's own identity server makes them for a local user.
fn claims(name: &str) -> Claims {
    Claims {
        sub: sub(name, "local"),
        name: name.to_owned(),
        preferred_username: String::new(),
        email: name.to_owned(),
        groups: Vec::new(),
        federated_claims: Federated { connector_id: "local".to_owned(), user_id: name.to_owned() },
    }
}

/// The subject: a protobuf message of user id and connector, in base64.
fn sub(user: &str, connector: &str) -> String {
    let mut bytes = Vec::new();
    for (tag, text) in [(0x0a, user), (0x12, connector)] {
        bytes.push(tag);
        let mut length = text.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(text.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn plain_and_hashed_passwords_are_compared() {
        let hashed = bcrypt::hash("secret", 4).unwrap();
        let users = LocalUsers::new(vec![user("ann:secret").unwrap(), user(&format!("bob:{hashed}")).unwrap()]);
        for (name, password, expected) in [
            ("ann", "secret", true),
            ("ann", "x", false),
            ("bob", "secret", true),
            ("bob", &hashed, false),
            ("eve", "", false),
        ] {
            assert_eq!(users.verify_now(name, password), expected, "{name}:{password}");
        }
    }

    #[test]
    fn long_passwords_count_whole() {
        let long = "x".repeat(100);
        let users = LocalUsers::new(vec![user(&format!("ann:{long}")).unwrap()]);
        assert!(users.verify_now("ann", &long));
        assert!(!users.verify_now("ann", &long[..99]));
    }

    #[test]
    fn the_subject_is_concourse_s() {
        assert_eq!(sub("m-owner", "local"), "CgdtLW93bmVyEgVsb2NhbA");
    }
}
