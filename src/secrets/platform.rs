//! A team's platform values, `((readonly_…))`: given by the operator or known to the server, never written by a team.

use std::collections::{BTreeMap, HashMap};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::keyring::Sealed;
use super::ssm::{self, Role};
use super::{Found, Keyring, Place, SourceError, Template};
use crate::base::chance;
use crate::base::clock::Clock;
use crate::base::id::TeamId;
use crate::base::secret::Secret;
use crate::store::{Store, WriteTx};

/// What the server provides by itself, or by the team's role.
pub const NAMES: [&str; 8] = [
    "readonly_access_key_id",
    "readonly_secret_access_key",
    "readonly_session_token",
    "readonly_team_name",
    "readonly_local_user_password",
    "readonly_secrets_path_prefix",
    "readonly_secrets_kms_key_id",
    "readonly_egress_ips",
];

/// Credentials that the platform, or whoever keeps them for it, puts others in the place of.
const RENEWED: [&str; 5] = [
    "readonly_access_key_id",
    "readonly_secret_access_key",
    "readonly_session_token",
    "readonly_local_user_password",
    "readonly_codecommit_private_key",
];

/// Whether a name is that of credentials which are renewed, so that a resource with them keeps its history.
pub fn is_renewed(name: &str) -> bool {
    RENEWED.contains(&name)
}

/// What says what or where something is, and opens nothing.
const OPEN: [&str; 15] = [
    "readonly_private_bucket_name",
    "readonly_private_bucket_arn",
    "readonly_private_bucket_domain_name",
    "readonly_public_bucket_name",
    "readonly_public_bucket_arn",
    "readonly_public_bucket_domain_name",
    "readonly_private_ecr_repo_name",
    "readonly_private_ecr_repo_arn",
    "readonly_private_ecr_repo_url",
    "readonly_private_ecr_repo_registry_id",
    "readonly_codecommit_pool_uri",
    "readonly_team_name",
    "readonly_secrets_path_prefix",
    "readonly_secrets_kms_key_id",
    "readonly_egress_ips",
];

/// Whether a platform's value is one that logs may show: to hide a team's name would spoil every log of the team.
fn is_open(name: &str) -> bool {
    OPEN.contains(&name)
}

/// What the operator has set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Team → name → value; `*` is every team.
    pub values: BTreeMap<String, BTreeMap<String, String>>,
    /// The addresses from which builds reach out.
    pub egress_ips: Vec<String>,
    /// ARN of a team's role, with `{{.Team}}` in it.
    pub role: Option<String>,
    /// How AWS is reached.
    pub aws: ssm::Settings,
}

/// See the module's doc.
pub struct Platform {
    settings: Settings,
    store: Store,
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    /// The template of a team's own values, for the prefix.
    team_template: Option<Template>,
    roles: Mutex<HashMap<String, Arc<Role>>>,
}

impl Platform {
    /// For these settings; `team_template` is where the installation's source keeps a team's values.
    pub fn new(
        settings: Settings,
        store: Store,
        keys: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        team_template: Option<Template>,
    ) -> Platform {
        Platform { settings, store, keys, clock, team_template, roles: Mutex::default() }
    }

    /// The value of a platform's name for a team; none if it is not known here.
    pub async fn value(&self, team: TeamId, place: &Place, name: &str) -> Result<Option<Found>, SourceError> {
        let found = self.find(team, place, name).await?;
        Ok(found.map(|found| Found { open: is_open(name), ..found }))
    }

    async fn find(&self, team: TeamId, place: &Place, name: &str) -> Result<Option<Found>, SourceError> {
        let team_name = place.team.as_str();
        if let Some(value) = self.given(team_name, name) {
            return Ok(Some(Found::lasting(value.into())));
        }
        let lasting = |text: String| Some(Found::lasting(text.into()));
        Ok(match name {
            "readonly_team_name" => lasting(team_name.to_owned()),
            "readonly_secrets_path_prefix" => {
                let outside = Place { team: place.team.clone(), pipeline: None };
                let prefix = self.team_template.as_ref().and_then(|t| t.prefix(&outside));
                prefix.and_then(|p| lasting(p.trim_end_matches('/').to_owned()))
            }
            "readonly_secrets_kms_key_id" => self.settings.aws.kms_key(team_name).and_then(lasting),
            "readonly_egress_ips" => self.egress_ips().and_then(lasting),
            "readonly_local_user_password" => {
                let password = self.team_user(team).await?;
                Some(Found::lasting(password.expose().clone().into()))
            }
            "readonly_access_key_id" | "readonly_secret_access_key" | "readonly_session_token" => {
                let Some(role) = self.role(team_name) else { return Ok(None) };
                let issued = role.credentials().await?;
                let text = match name {
                    "readonly_access_key_id" => issued.key_id,
                    "readonly_secret_access_key" => issued.secret_key.expose().clone(),
                    _ => issued.session_token.expose().clone(),
                };
                Some(Found { expires: Some(issued.expires), ..Found::lasting(Value::String(text)) })
            }
            _ => None,
        })
    }

    /// The names that have a value here for a team.
    pub fn names(&self, team: &str) -> Vec<String> {
        let mut names: Vec<String> = NAMES.iter().map(|n| (*n).to_owned()).collect();
        let role = self.settings.role.is_some();
        names.retain(|n| match n.as_str() {
            "readonly_access_key_id" | "readonly_secret_access_key" | "readonly_session_token" => role,
            "readonly_secrets_kms_key_id" => self.settings.aws.kms_key.is_some(),
            "readonly_secrets_path_prefix" => self.team_template.is_some(),
            _ => true,
        });
        for whose in [team, "*"] {
            names.extend(self.settings.values.get(whose).into_iter().flatten().map(|(n, _)| n.clone()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// The password of the user that belongs to the team, made when it is first wanted.
    pub async fn team_user(&self, team: TeamId) -> Result<Secret<String>, SourceError> {
        if let Some(password) = self.stored_user(team).await? {
            return Ok(password);
        }
        // Of several who want it first, one makes it and all get that one.
        self.write_user(team, move |tx| Ok(tx.team_user(team)?.is_none())).await?;
        self.stored_user(team).await?.ok_or_else(|| down(&"the team is gone"))
    }

    /// Gives the team's user a new password and ends what was signed in with the old one.
    pub async fn rotate_team_user(&self, team: TeamId) -> Result<(), SourceError> {
        self.write_user(team, |_| Ok(true)).await
    }

    /// The team whose own user this is: the user is named as the team. A team whose password nobody has asked for has
    /// none.
    pub async fn team_of_user(&self, name: &str, password: &str) -> Option<TeamId> {
        use subtle::ConstantTimeEq;
        let team = self.team_with_user(name).await?;
        match self.stored_user(team).await {
            Ok(Some(known)) => bool::from(known.expose().as_bytes().ct_eq(password.as_bytes())).then_some(team),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, team = name, "the password of the team's own user cannot be read");
                None
            }
        }
    }

    /// The team of that name, if it has a user.
    pub async fn team_with_user(&self, name: &str) -> Option<TeamId> {
        let name = name.to_owned();
        let found = self.store.read(move |tx| {
            let Some(team) = tx.find_team(&name)?.filter(|t| t.name == name) else { return Ok(None) };
            Ok(tx.team_user(team.id)?.map(|_| team.id))
        });
        found.await.ok().flatten()
    }

    /// Seals every team's password again with the present key.
    pub async fn reseal(&self) -> Result<(), SourceError> {
        let keys = self.keys.clone();
        let write = self.store.write(move |tx| {
            for team in tx.teams()? {
                let Some((key, bytes)) = tx.team_user(team.id)? else { continue };
                let place = user_place(team.id);
                let opened = keys.open_sealed(&Sealed { key, bytes }, &place);
                match opened.and_then(|password| keys.seal(password.expose(), &place)) {
                    Ok(sealed) => tx.seal_team_user(team.id, &sealed.key, &sealed.bytes)?,
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(()))
        });
        write.await.map_err(|e| down(&e))?.map_err(|e| refused(&e))
    }

    /// Writes a new password where `wanted` says so. Sealed within the write, so that no rotation of the key comes
    /// between.
    async fn write_user(
        &self,
        team: TeamId,
        wanted: impl FnOnce(&WriteTx<'_>) -> crate::store::Result<bool> + Send + 'static,
    ) -> Result<(), SourceError> {
        let keys = self.keys.clone();
        let write = self.store.write(move |tx| {
            if !wanted(tx)? {
                return Ok(Ok(()));
            }
            let password = URL_SAFE_NO_PAD.encode(chance::bytes::<24>());
            match keys.seal(password.as_bytes(), &user_place(team)) {
                Ok(sealed) => tx.set_team_user(team, &sealed.key, &sealed.bytes).map(Ok),
                Err(error) => Ok(Err(error)),
            }
        });
        write.await.map_err(|e| down(&e))?.map_err(|e| refused(&e))
    }

    async fn stored_user(&self, team: TeamId) -> Result<Option<Secret<String>>, SourceError> {
        let stored = self.store.read(move |tx| tx.team_user(team)).await.map_err(|e| down(&e))?;
        let Some((key, bytes)) = stored else { return Ok(None) };
        let opened = self.keys.open_sealed(&Sealed { key, bytes }, &user_place(team)).map_err(|e| refused(&e))?;
        Ok(Some(Secret::new(String::from_utf8_lossy(opened.expose()).into_owned())))
    }

    fn given(&self, team: &str, name: &str) -> Option<String> {
        let of = |whose: &str| self.settings.values.get(whose).and_then(|v| v.get(name)).cloned();
        of(team).or_else(|| of("*"))
    }

    /// Those the operator names, or else the address with which this machine reaches out.
    fn egress_ips(&self) -> Option<String> {
        if !self.settings.egress_ips.is_empty() {
            return Some(self.settings.egress_ips.join(","));
        }
        // Connecting a datagram socket sends nothing: it only asks for the route.
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip().to_string())
    }

    fn role(&self, team: &str) -> Option<Arc<Role>> {
        let arn = self.settings.role.as_ref()?.replace("{{.Team}}", team);
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let session = format!("whistlestop-{team}");
            Arc::new(Role::new(self.settings.aws.clone(), arn, &session, self.clock.clone()))
        };
        Some(roles.entry(team.to_owned()).or_insert_with(make).clone())
    }
}

fn user_place(team: TeamId) -> String {
    format!("team user\n{team}")
}

fn down(why: &dyn std::fmt::Display) -> SourceError {
    SourceError::Down { source_name: "the platform's values".to_owned(), why: why.to_string() }
}

fn refused(why: &dyn std::fmt::Display) -> SourceError {
    SourceError::Refused { source_name: "the platform's values".to_owned(), why: why.to_string() }
}
