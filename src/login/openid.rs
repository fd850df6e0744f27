//! Google, or any other OpenID provider: discovery, authorization code with proof key, ID token, user info.
//!
//! People are known by the provider's subject, and by an address only if the provider says that it has verified it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreGenderClaim, CoreIdToken, CoreProviderMetadata,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, IssuerUrl, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, SubjectIdentifier, TokenResponse, UserInfoClaims,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::attempt::Attempt;
use super::connector::ProviderError;
use super::outgoing::Outgoing;
use super::subject::subject;
use crate::auth::Claims;
use crate::auth::claims::Federated;
use crate::base::clock::{Clock, Time};
use crate::base::secret::Secret;

/// How long a provider's addresses and keys are believed.
const FRESH: Duration = Duration::from_secs(3600);
/// Claims that people choose for themselves; no rule may rest on them.
const FREELY_CHOSEN: [&str; 13] = [
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "website",
    "picture",
    "locale",
    "zoneinfo",
    "phone_number",
    "address",
];

/// What the operator says about a provider.
#[derive(Debug, Clone)]
pub struct OpenIdSettings {
    /// Its name in addresses, claims and team rules.
    pub id: String,
    /// Its name for people.
    pub label: String,
    /// Where it is discovered.
    pub issuer: String,
    /// Of this server there.
    pub client_id: String,
    /// Of this server there.
    pub client_secret: Secret<String>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that lists groups; none to ignore them.
    pub groups_key: Option<String>,
    /// A further claim that team rules may name people by.
    pub user_key: Option<String>,
    /// Whether an address counts where the provider does not say if it is verified.
    pub trust_addresses: bool,
    /// Whether to ask its user info endpoint too.
    pub ask_user_info: bool,
    /// The Google Workspace domain accounts must be of.
    pub domain: Option<String>,
}

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The issuer is no address.
    #[error("{0:?} is no issuer: write its address, such as https://accounts.example.com")]
    Issuer(String),
    /// The claim says nothing about who somebody is.
    #[error("people choose the claim {0:?} themselves, so it cannot tell who they are; take sub, email or upn")]
    FreelyChosen(String),
}

/// See the module's doc.
pub struct OpenId {
    settings: OpenIdSettings,
    issuer: IssuerUrl,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<(Time, Arc<CoreProviderMetadata>)>>,
}

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Claims that the standard does not name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Further(Map<String, Value>);

impl AdditionalClaims for Further {}

impl OpenId {
    /// As the settings say.
    pub fn new(settings: OpenIdSettings, outgoing: Outgoing, clock: Arc<dyn Clock>) -> Result<OpenId, SettingsError> {
        let issuer =
            IssuerUrl::new(settings.issuer.clone()).map_err(|_| SettingsError::Issuer(settings.issuer.clone()))?;
        if let Some(key) = settings.user_key.as_ref().filter(|k| FREELY_CHOSEN.contains(&k.as_str())) {
            return Err(SettingsError::FreelyChosen(key.clone()));
        }
        Ok(OpenId { settings, issuer, outgoing, clock, known: Mutex::default() })
    }

    /// Its name in addresses, claims and team rules.
    pub fn id(&self) -> &str {
        &self.settings.id
    }

    /// Its name for people.
    pub fn label(&self) -> &str {
        &self.settings.label
    }

    /// Who vouches for its people.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Where to send the browser.
    pub async fn begin(&self, attempt: &Attempt, callback: &str) -> Result<String, ProviderError> {
        let client = self.client(callback, false).await?;
        let verifier = PkceCodeVerifier::new(attempt.verifier.clone());
        let (state, nonce) = (attempt.state.clone(), attempt.nonce.clone());
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let request = client.authorize_url(flow, move || CsrfToken::new(state), move || Nonce::new(nonce));
        let scopes = self.settings.scopes.iter().filter(|s| *s != "openid").cloned().map(Scope::new);
        let mut request =
            request.add_scopes(scopes).set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        if let Some(domain) = &self.settings.domain {
            request = request.add_extra_param("hd", domain.clone());
        }
        Ok(request.url().0.to_string())
    }

    /// Whom the code stands for.
    pub async fn finish(&self, attempt: &Attempt, code: &str, callback: &str) -> Result<Claims, ProviderError> {
        let client = self.client(callback, false).await?;
        let http = |request| self.send(request);
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|e| ProviderError::untrusted(self.label(), e))?
            .set_pkce_verifier(PkceCodeVerifier::new(attempt.verifier.clone()));
        let answer = request.request_async(&http).await.map_err(|e| self.refused(&e))?;
        let token = answer.id_token().ok_or_else(|| ProviderError::untrusted(self.label(), "it sent no id_token"))?;
        let mut claims = self.verified(&client, token, &attempt.nonce, callback).await?;
        if self.settings.ask_user_info {
            let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
            self.add_user_info(&client, answer.access_token().clone(), subject, &mut claims).await?;
        }
        self.claims(&claims)
    }

    fn refused(&self, error: &(dyn Error + 'static)) -> ProviderError {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            why.push_str(&format!(": {inner}"));
            cause = inner.source();
        }
        ProviderError::refused(self.label(), why)
    }

    fn send(
        &self,
        request: HttpRequest,
    ) -> impl Future<Output = Result<openidconnect::HttpResponse, super::outgoing::OutgoingError>> + Send + use<> {
        let outgoing = self.outgoing.clone();
        async move { outgoing.call(request).await }
    }

    /// Its addresses and keys, from memory unless they are old or `anew` is asked for.
    async fn metadata(&self, anew: bool) -> Result<Arc<CoreProviderMetadata>, ProviderError> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        if let Some((at, metadata)) = known.as_ref().filter(|_| !anew)
            && now.since(*at) < FRESH
        {
            return Ok(metadata.clone());
        }
        let http = |request| self.send(request);
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &http).await;
        let metadata = Arc::new(found.map_err(|e| self.refused(&e))?);
        *known = Some((now, metadata.clone()));
        Ok(metadata)
    }

    async fn client(&self, callback: &str, anew: bool) -> Result<Client, ProviderError> {
        let metadata = self.metadata(anew).await?;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let only_by_form = methods.is_some_and(|m| !m.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let (id, secret) = (self.settings.client_id.clone(), self.settings.client_secret.expose().clone());
        let secret = (!secret.is_empty()).then(|| ClientSecret::new(secret));
        let callback = RedirectUrl::new(callback.to_owned()).map_err(|e| ProviderError::untrusted("this server", e))?;
        let client = CoreClient::from_provider_metadata((*metadata).clone(), ClientId::new(id), secret)
            .set_redirect_uri(callback);
        Ok(if only_by_form { client.set_auth_type(AuthType::RequestBody) } else { client })
    }

    /// The claims of a token whose signature, issuer, audience, time and nonce are right.
    async fn verified(
        &self,
        client: &Client,
        token: &CoreIdToken,
        nonce: &str,
        callback: &str,
    ) -> Result<Map<String, Value>, ProviderError> {
        let nonce = Nonce::new(nonce.to_owned());
        let now = self.clock.now();
        let check = |client: &Client| {
            let moment = move || chrono::DateTime::from_timestamp_millis(now.0).unwrap_or_default();
            token.claims(&client.id_token_verifier().set_time_fn(moment), &nonce).map(|_| ())
        };
        match check(client) {
            // It may have new keys.
            Err(ClaimsVerificationError::SignatureVerification(_)) => check(&self.client(callback, true).await?),
            other => other,
        }
        .map_err(|e| ProviderError::untrusted(self.label(), e))?;
        let text = token.to_string();
        let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        payload
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| ProviderError::untrusted(self.label(), "its id_token is no object"))
    }

    /// What else it tells about the same subject. Claims that the token has stay.
    async fn add_user_info(
        &self,
        client: &Client,
        token: AccessToken,
        subject: String,
        claims: &mut Map<String, Value>,
    ) -> Result<(), ProviderError> {
        let Ok(request) = client.user_info(token, Some(SubjectIdentifier::new(subject))) else { return Ok(()) };
        let http = |request| self.send(request);
        let told: UserInfoClaims<Further, CoreGenderClaim> =
            request.request_async(&http).await.map_err(|e| self.refused(&e))?;
        let Ok(Value::Object(told)) = serde_json::to_value(told) else { return Ok(()) };
        // An address and whether it is verified belong together.
        let has_address = claims.contains_key("email");
        for (name, value) in told {
            if !(has_address && name == "email_verified") {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(())
    }

    /// What they mean here.
    fn claims(&self, told: &Map<String, Value>) -> Result<Claims, ProviderError> {
        let settings = &self.settings;
        let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(domain) = settings.domain.as_ref().filter(|d| !text("hd").eq_ignore_ascii_case(d)) {
            return Err(ProviderError::WrongDomain(domain.clone()));
        }
        let id = text("sub");
        let verified = match told.get("email_verified") {
            // Some providers write it as a text.
            Some(Value::Bool(yes)) => *yes,
            Some(Value::String(yes)) => yes == "true",
            _ => settings.trust_addresses,
        };
        let email = if verified { text("email") } else { String::new() };
        let named = match settings.user_key.as_deref() {
            None => String::new(),
            Some("email") => email.clone(),
            Some(key) => text(key),
        };
        let mut known_as = vec![id.clone(), email.clone(), named.clone()];
        known_as.retain(|n| !n.is_empty());
        known_as.sort();
        known_as.dedup();
        let shown = [named, text("preferred_username")].into_iter().find(|n| !n.is_empty());
        Ok(Claims {
            sub: subject(&id, &settings.id),
            name: text("name"),
            preferred_username: shown.unwrap_or_else(|| email.clone()),
            email,
            groups: settings.groups_key.as_deref().map(|key| groups(told.get(key))).unwrap_or_default(),
            known_as,
            federated_claims: Federated { connector_id: settings.id.clone(), user_id: id },
        })
    }
}

/// A list of names, of objects with a name, or one name.
fn groups(claim: Option<&Value>) -> Vec<String> {
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(group) => group.get("name").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    match claim {
        Some(Value::Array(list)) => list.iter().filter_map(name).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::base::trust::OF_HOST;
    use serde_json::json;

    use super::*;
    use crate::base::clock::Manual;

    fn provider(change: impl FnOnce(&mut OpenIdSettings)) -> Result<OpenId, SettingsError> {
        let mut settings = OpenIdSettings {
            id: "oidc".into(),
            label: "OIDC".into(),
            issuer: "https://id.example.com".into(),
            client_id: "ci".into(),
            client_secret: Secret::new("s".into()),
            scopes: Vec::new(),
            groups_key: Some("groups".into()),
            user_key: None,
            trust_addresses: false,
            ask_user_info: true,
            domain: None,
        };
        change(&mut settings);
        OpenId::new(settings, Outgoing::new(&[], false, OF_HOST).unwrap(), Arc::new(Manual::new(Time(0))))
    }

    fn known_as(provider: &OpenId, told: &Value) -> Vec<String> {
        provider.claims(told.as_object().unwrap()).unwrap().known_as
    }

    #[test]
    fn only_the_subject_and_a_verified_address_tell_who_somebody_is() {
        let plain = provider(|_| ()).unwrap();
        let told = |verified: Value| {
            json!({"sub": "7", "email": "a@x", "email_verified": verified, "name": "root",
            "preferred_username": "admin"})
        };
        assert_eq!(known_as(&plain, &told(json!(true))), ["7", "a@x"]);
        assert_eq!(known_as(&plain, &told(json!("true"))), ["7", "a@x"]);
        for unverified in [json!(false), json!("false"), json!(null), json!(1)] {
            assert_eq!(known_as(&plain, &told(unverified)), ["7"]);
        }
        let trusting = provider(|s| s.trust_addresses = true).unwrap();
        assert_eq!(known_as(&trusting, &json!({"sub": "7", "email": "a@x"})), ["7", "a@x"]);
        assert_eq!(known_as(&trusting, &told(json!(false))), ["7"]);
    }

    #[test]
    fn a_further_claim_may_name_people_unless_they_choose_it_themselves() {
        let keyed = provider(|s| s.user_key = Some("upn".into())).unwrap();
        assert_eq!(known_as(&keyed, &json!({"sub": "7", "upn": "ann"})), ["7", "ann"]);
        let keyed = provider(|s| s.user_key = Some("email".into())).unwrap();
        assert_eq!(known_as(&keyed, &json!({"sub": "7", "email": "a@x"})), ["7"]);
        for chosen in ["name", "nickname", "preferred_username", "profile", "phone_number"] {
            let refused = provider(|s| s.user_key = Some(chosen.into())).err();
            assert_eq!(refused, Some(SettingsError::FreelyChosen(chosen.into())));
        }
        assert!(provider(|s| s.issuer = "nonsense".into()).is_err());
    }

    #[test]
    fn groups_are_names_however_they_are_listed() {
        assert_eq!(groups(Some(&json!(["a", {"name": "b"}, 3]))), ["a", "b"]);
        assert_eq!(groups(Some(&json!("one"))), ["one"]);
        assert!(groups(Some(&json!({"a": 1}))).is_empty() && groups(None).is_empty());
        let without = provider(|s| s.groups_key = None).unwrap();
        let told = json!({"sub": "7", "groups": ["a"]});
        assert!(without.claims(told.as_object().unwrap()).unwrap().groups.is_empty());
    }

    #[test]
    fn an_account_of_another_domain_stays_out() {
        let google = provider(|s| s.domain = Some("x.org".into())).unwrap();
        let of = |hd: Value| google.claims(json!({"sub": "7", "hd": hd}).as_object().unwrap()).map(|_| ());
        assert!(of(json!("x.org")).is_ok());
        assert!(of(json!("y.org")).is_err() && of(json!(null)).is_err());
    }
}
