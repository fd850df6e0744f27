//! Signing in: local users, GitHub, Google and any OpenID provider; each way ends in [`Login::issue`].

mod attempt;
mod connector;
mod github;
mod hasher;
mod local;
mod openid;
mod outgoing;
mod password;
mod subject;
mod team_user;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use attempt::{Binding, PATIENCE, cookie_name};
pub use connector::{Connector, ProviderError};
pub use github::{GitHub, GitHubSettings, HostError};
pub use hasher::Busy;
pub use local::{LocalUser, LocalUsers, UserError, check_name};
pub use openid::{OpenId, OpenIdSettings, SettingsError};
pub use outgoing::{Outgoing, OutgoingError, UnusableError};
pub use password::{hash as hash_password, verify as verify_password};
pub use team_user::team_user;

use attempt::Attempts;

use crate::auth::claims::Federated;
use crate::auth::{Claims, Role};
use crate::base::clock::{Clock, Time};
use crate::base::id::TeamId;
use crate::base::version::digest;
use crate::store::Store;
use crate::store::token::{NewToken, ServiceAccount, TokenKind};

/// The setting that remembers who vouched for whom.
const ISSUERS: &str = "issuers";

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What was learnt of them.
    pub claims: Claims,
    /// Of a team's own user: the team, and the role there. It has no other.
    pub scope: Option<(TeamId, Role)>,
}

impl From<Claims> for Person {
    fn from(claims: Claims) -> Self {
        Person { claims, scope: None }
    }
}

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

/// Why nobody was signed in by another server.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// There is no such way.
    #[error("there is no sign-in by {0:?} here; choose one of those on this page")]
    Unknown(String),
    /// Not begun here, begun in another browser, used before, or too long ago.
    #[error("this sign-in has expired, was used before, or was begun in another browser; please start again")]
    Stale,
    /// The person, or the provider, said no.
    #[error("{0} did not sign you in: {1}")]
    Denied(String, String),
    /// The provider's answer is of no use.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// A way to sign in, for the page that lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// For the address.
    pub id: String,
    /// For people.
    pub label: String,
}

/// What came back from another server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Return {
    /// Which attempt it belongs to.
    pub state: String,
    /// What stands for the person.
    pub code: String,
    /// Why there is no code.
    pub error: String,
    /// The browser's cookie of the attempt.
    pub cookie: String,
}

/// All that signing in depends on.
pub struct LoginParts {
    /// Where tokens are kept.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Users by flag.
    pub users: Vec<LocalUser>,
    /// Other servers.
    pub connectors: Vec<Connector>,
    /// Where they send browsers back to.
    pub callback: String,
    /// How long a sign-in lasts.
    pub lifetime: Duration,
}

/// All ways to sign in.
#[derive(Clone)]
pub struct Login(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    users: LocalUsers,
    connectors: Vec<Connector>,
    attempts: Attempts,
    callback: String,
    lifetime: Duration,
}

impl Login {
    /// Over its parts.
    pub fn new(parts: LoginParts) -> Login {
        let LoginParts { store, clock, users, connectors, callback, lifetime } = parts;
        let users = LocalUsers::new(store.clone(), users);
        let attempts = Attempts::new();
        Login(Arc::new(Inner { store, clock, users, connectors, attempts, callback, lifetime }))
    }

    /// Whether anybody can sign in with a password.
    pub async fn has_local_users(&self) -> bool {
        self.0.users.any().await
    }

    /// Whether there is a local user of that name.
    pub async fn is_local_user(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.0.store.read(move |tx| tx.local_user(&name)).await.is_ok_and(|user| user.is_some())
    }

    /// The other ways to sign in.
    pub fn choices(&self) -> Vec<Choice> {
        let choice = |c: &Connector| Choice { id: c.id().to_owned(), label: c.label().to_owned() };
        self.0.connectors.iter().map(choice).collect()
    }

    /// The claims of a local user, if that is their password.
    pub async fn password(&self, user: &str, password: &str) -> crate::store::Result<Result<Option<Claims>, Busy>> {
        self.0.users.verify(user, password).await
    }

    /// Begins a sign-in elsewhere that will lead to `back`: where to send the browser, and its cookie.
    pub async fn begin(&self, connector: &str, back: &str) -> Result<(String, Binding), SignInError> {
        let found = self.connector(connector)?;
        let (attempt, binding) = self.0.attempts.begin(connector, back, self.0.clock.now());
        Ok((found.begin(&attempt, &self.0.callback).await?, binding))
    }

    /// Ends it: by which connector, who it is, and where they wanted to go.
    pub async fn finish(&self, come: &Return) -> Result<(String, Claims, String), SignInError> {
        let attempt = self.0.attempts.finish(&come.state, &come.cookie, self.0.clock.now());
        let attempt = attempt.ok_or(SignInError::Stale)?;
        let connector = self.connector(&attempt.connector)?;
        if come.code.is_empty() {
            let why: String = come.error.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(SignInError::Denied(connector.label().to_owned(), why));
        }
        let claims = connector.finish(&attempt, &come.code, &self.0.callback).await?;
        if claims.federated_claims.user_id.is_empty() {
            return Err(ProviderError::untrusted(connector.label(), "it does not say who you are").into());
        }
        Ok((attempt.connector, claims, attempt.back))
    }

    fn connector(&self, id: &str) -> Result<&Connector, SignInError> {
        let found = self.0.connectors.iter().find(|c| c.id() == id);
        found.ok_or_else(|| SignInError::Unknown(id.chars().take(50).collect()))
    }

    /// Makes a token for somebody who has just shown, from that address, who they are.
    pub async fn issue(
        &self,
        person: impl Into<Person>,
        kind: TokenKind,
        address: String,
    ) -> crate::store::Result<Issued> {
        let Person { claims, scope } = person.into();
        let now = self.0.clock.now();
        let lifetime = self.0.lifetime;
        let expires = now.plus(lifetime);
        let token = token::make(expires);
        let new = NewToken { digest: digest(token.as_bytes()), claims, now, expires, address };
        self.0.store.write(move |tx| tx.start_session(&new, kind, scope)).await?;
        Ok(Issued { token, expires, lifetime })
    }

    /// Makes a service account of a team and its token, which is shown this once. None if the name is taken.
    pub async fn issue_service(&self, account: NewService) -> crate::store::Result<Option<(ServiceAccount, Issued)>> {
        let now = self.0.clock.now();
        let NewService { team, name, role, lifetime, created_by, address } = account;
        let expires = now.plus(lifetime);
        let token = token::make(expires);
        let claims = Claims {
            sub: format!("service:{}:{name}", team.0),
            preferred_username: format!("service:{name}"),
            federated_claims: Federated { connector_id: "service".to_owned(), user_id: name },
            ..Claims::default()
        };
        let new = NewToken { digest: digest(token.as_bytes()), claims, now, expires, address };
        let made = self.0.store.write(move |tx| tx.add_service_account(&new, team, role, &created_by)).await?;
        Ok(made.map(|made| (made, Issued { token, expires, lifetime })))
    }

    /// Makes a token worthless.
    pub async fn revoke(&self, token: &str) -> crate::store::Result<()> {
        let digest = digest(token.as_bytes());
        self.0.store.write(move |tx| tx.delete_token(&digest)).await?;
        Ok(())
    }

    /// Signs out those who could not sign in any more: local users who are gone, and whoever another server vouched
    /// for that is not asked any more, or another issuer under the same name.
    pub async fn forget_removed_users(&self) -> crate::store::Result<()> {
        let names = self.0.users.given();
        let now = self.0.clock.now();
        let issuers = self.0.connectors.iter().map(|c| (c.id().to_owned(), c.issuer().to_owned()));
        let issuers: BTreeMap<String, String> = issuers.collect();
        let write = move |tx: &crate::store::WriteTx<'_>| {
            tx.set_flag_users(&names, now)?;
            let before = tx.setting(ISSUERS)?.and_then(|text| serde_json::from_str(&text).ok());
            let before: BTreeMap<String, String> = before.unwrap_or_default();
            for (id, issuer) in before {
                if issuers.get(&id) != Some(&issuer) {
                    tx.forget_connector(&id)?;
                }
            }
            tx.set_setting(ISSUERS, &serde_json::to_string(&issuers)?)
        };
        self.0.store.write(write).await
    }
}

/// A service account to make.
#[derive(Debug, Clone)]
pub struct NewService {
    /// Whose.
    pub team: TeamId,
    /// Its name there.
    pub name: String,
    /// What it may do there.
    pub role: Role,
    /// How long it is good.
    pub lifetime: Duration,
    /// Who makes it.
    pub created_by: String,
    /// From where.
    pub address: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Manual;

    fn login(store: &Store, clock: &Arc<Manual>, user: &str) -> Login {
        Login::new(LoginParts {
            store: store.clone(),
            clock: clock.clone(),
            users: vec![user.parse().unwrap()],
            connectors: Vec::new(),
            callback: String::new(),
            lifetime: Duration::from_secs(60),
        })
    }

    #[tokio::test]
    async fn a_token_is_good_until_it_ends_or_is_revoked_and_is_kept_by_digest_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let clock = Arc::new(Manual::new(Time(1_000)));
        let login = login(&store, &clock, "ann:secret");
        assert_eq!(login.password("ann", "wrong").await.unwrap(), Ok(None));
        let claims = login.password("ann", "secret").await.unwrap().unwrap().unwrap();
        let issued = login.issue(claims.clone(), TokenKind::Client, "::1".into()).await.unwrap();
        let session = |at: i64| {
            let digest = digest(issued.token.as_bytes());
            store.read_blocking(|tx| tx.bearer(&digest, Time(at))).unwrap().map(|b| b.claims)
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
    async fn a_removed_user_and_those_of_another_issuer_are_signed_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let clock = Arc::new(Manual::new(Time(1_000)));
        let before = login(&store, &clock, "ann:a");
        before.forget_removed_users().await.unwrap();
        let claims = before.password("ann", "a").await.unwrap().unwrap().unwrap();
        before.issue(claims, TokenKind::Browser, String::new()).await.unwrap();
        let stranger = Claims {
            sub: "s".into(),
            federated_claims: Federated { connector_id: "oidc".into(), user_id: "7".into() },
            ..Claims::default()
        };
        before.issue(stranger, TokenKind::Browser, String::new()).await.unwrap();
        let count = || -> i64 {
            store.read_blocking(|tx| Ok(tx.query_row("select count(*) from tokens", [], |r| r.get(0))?)).unwrap()
        };
        before.forget_removed_users().await.unwrap();
        assert_eq!(count(), 2, "an issuer that was never named before is left alone");
        store.write(|tx| tx.set_setting(ISSUERS, r#"{"oidc":"https://old"}"#)).await.unwrap();
        before.forget_removed_users().await.unwrap();
        assert_eq!(count(), 1);
        login(&store, &clock, "bob:b").forget_removed_users().await.unwrap();
        assert_eq!(count(), 0);
    }
}
