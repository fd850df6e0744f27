//! Signing in: local users now; other connectors are further files that end in [`Login::issue`].

mod local;
mod token;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Claims;
use crate::base::clock::{Clock, Time};
use crate::base::version::digest;
use crate::store::Store;
pub use local::{LocalUser, LocalUsers, UserError};

/// A token that was just made; it is nowhere else in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What its bearer presents.
    pub token: String,
    /// When it ends.
    pub expires: Time,
    /// For how long it is good.
    pub lifetime: Duration,
}

/// All ways to sign in.
#[derive(Clone)]
pub struct Login {
    store: Store,
    clock: Arc<dyn Clock>,
    users: Arc<LocalUsers>,
    lifetime: Duration,
}

impl Login {
    /// Over a store, with these local users; tokens are good for `lifetime`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, users: LocalUsers, lifetime: Duration) -> Login {
        Login { store, clock, users: Arc::new(users), lifetime }
    }

    /// Whether anybody can sign in with a password.
    pub fn has_local_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// The claims of a local user, if that is their password.
    pub async fn password(&self, user: &str, password: &str) -> Option<Claims> {
        let (users, user, password) = (self.users.clone(), user.to_owned(), password.to_owned());
        users.verify(user, password).await
    }

    /// Makes a token for somebody who has just shown who they are.
    pub async fn issue(&self, claims: Claims) -> crate::store::Result<Issued> {
        let now = self.clock.now();
        let expires = now.plus(self.lifetime);
        let token = token::make(expires);
        let digest = digest(token.as_bytes());
        self.store.write(move |tx| tx.start_session(&digest, &claims, now, expires)).await?;
        Ok(Issued { token, expires, lifetime: self.lifetime })
    }

    /// Makes a token worthless.
    pub async fn revoke(&self, token: &str) -> crate::store::Result<()> {
        let digest = digest(token.as_bytes());
        self.store.write(move |tx| tx.delete_token(&digest)).await?;
        Ok(())
    }

    /// Signs out local users who are no longer configured.
    pub async fn forget_removed_users(&self) -> crate::store::Result<()> {
        let names = self.users.names();
        self.store.write(move |tx| tx.end_sessions_of_others(&names)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Manual;

    #[tokio::test]
    async fn a_token_is_good_until_it_ends_or_is_revoked_and_is_kept_by_digest_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let clock = Arc::new(Manual::new(Time(1_000)));
        let users = LocalUsers::new(vec!["ann:secret".parse().unwrap()]);
        let login = Login::new(store.clone(), clock.clone(), users, Duration::from_secs(60));
        assert_eq!(login.password("ann", "wrong").await, None);
        assert_eq!(login.password("bob", "secret").await, None);
        let claims = login.password("ann", "secret").await.unwrap();
        let issued = login.issue(claims.clone()).await.unwrap();
        let session = |at: i64| {
            let digest = digest(issued.token.as_bytes());
            store.read_blocking(|tx| tx.session(&digest, Time(at))).unwrap()
        };
        assert_eq!(session(2_000), Some(claims));
        assert_eq!(session(61_000), None);
        let stored: String =
            store.read_blocking(|tx| Ok(tx.query_row("select digest from tokens", [], |r| r.get(0))?)).unwrap();
        assert_ne!(stored, issued.token);
        login.revoke(&issued.token).await.unwrap();
        assert_eq!(session(2_000), None);
    }

    #[tokio::test]
    async fn a_removed_user_is_signed_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let clock = Arc::new(Manual::new(Time(1_000)));
        let login = |user: &str| {
            let users = LocalUsers::new(vec![user.parse().unwrap()]);
            Login::new(store.clone(), clock.clone(), users, Duration::from_secs(60))
        };
        let before = login("ann:a");
        let claims = before.password("ann", "a").await.unwrap();
        before.issue(claims).await.unwrap();
        let count = || -> i64 {
            store.read_blocking(|tx| Ok(tx.query_row("select count(*) from tokens", [], |r| r.get(0))?)).unwrap()
        };
        before.forget_removed_users().await.unwrap();
        assert_eq!(count(), 1);
        login("bob:b").forget_removed_users().await.unwrap();
        assert_eq!(count(), 0);
    }
}
