//! Identity tokens of builds (`var_sources` of type idtoken): signed statements of who a build is, which others believe
//! by the keys at `/.well-known/jwks.json`. Claims and their order are Concourse's.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::keyring::Sealed;
use super::{Asker, Keyring};
use crate::base::chance;
use crate::base::clock::{Clock, Time};
use crate::base::duration;
use crate::base::secret::Secret;
use crate::store::Store;
use crate::store::secret::SigningKeyRow;

/// A key signs for a week, then a new one is made; the old one is believed for a day more.
const ROTATED_AFTER: Duration = Duration::from_secs(168 * 3600);
const BELIEVED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Longest life of a token.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What `sub` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Team,
    Pipeline,
    Instance,
    Job,
}

/// A source's `config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    scope: Scope,
    audience: Vec<String>,
    expires_in: Duration,
    algorithm: &'static str,
}

impl Settings {
    /// Reads it; the texts are Concourse's.
    pub fn read(config: &Value) -> Result<Settings, String> {
        let mut settings = Settings {
            scope: Scope::Pipeline,
            audience: Vec::new(),
            expires_in: Duration::from_secs(3600),
            algorithm: "RS256",
        };
        let bad = |what: &str| format!("invalid idtoken provider config: {what}");
        let empty = Map::new();
        let config = match config {
            Value::Null => &empty,
            other => other.as_object().ok_or_else(|| bad("it must be a map"))?,
        };
        for (key, value) in config {
            let text = || value.as_str().ok_or_else(|| bad(&format!("{key} must be a string")));
            match key.as_str() {
                "audience" => {
                    let list = value.as_array().and_then(|l| l.iter().map(|v| v.as_str().map(str::to_owned)).collect());
                    settings.audience = list.ok_or_else(|| bad("audience must be a list of strings"))?;
                }
                "subject_scope" => {
                    settings.scope = match text()? {
                        "team" => Scope::Team,
                        "" | "pipeline" => Scope::Pipeline,
                        "instance" => Scope::Instance,
                        "job" => Scope::Job,
                        other => return Err(format!("invalid subject_scope value: {other}")),
                    };
                }
                "expires_in" => {
                    settings.expires_in =
                        duration::parse(text()?).map_err(|e| bad(&format!("invalid expires_in value: {e}")))?;
                    if settings.expires_in > LONGEST {
                        return Err("expires_in must be <= 24h0m0s".to_owned());
                    }
                }
                "algorithm" => {
                    settings.algorithm = match text()? {
                        "RS256" | "" => "RS256",
                        "ES256" => "ES256",
                        other => {
                            return Err(format!(
                                "invalid algorithm value: {other}. Only RS256 and ES256 are supported"
                            ));
                        }
                    };
                }
                other => return Err(bad(&format!("unknown setting: {other}"))),
            }
        }
        Ok(settings)
    }
}

/// What a key signs: those who believe one kind of token must not be shown the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Who a build is.
    Builds,
    /// Who has signed in.
    SignIns,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Builds => "builds",
            Purpose::SignIns => "sign-ins",
        }
    }

    fn algorithms(self) -> &'static [&'static str] {
        match self {
            Purpose::Builds => &["RS256", "ES256"],
            Purpose::SignIns => &["RS256"],
        }
    }
}

/// Signs, and shows the public halves of its keys.
pub struct Issuer {
    store: Store,
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    url: String,
    making: tokio::sync::Mutex<()>,
}

impl Issuer {
    /// `url` is what tokens name as their issuer: the server's address for others.
    pub fn new(store: Store, keys: Arc<Keyring>, clock: Arc<dyn Clock>, url: &str) -> Issuer {
        Issuer { store, keys, clock, url: url.to_owned(), making: tokio::sync::Mutex::default() }
    }

    /// A token for who asks, and when it ends.
    pub async fn token(&self, settings: &Settings, asker: &Asker) -> Result<(Secret<String>, Time), String> {
        let now = self.clock.now();
        let ends = now.plus(settings.expires_in);
        let vars: Map<String, Value> = match asker.instance_vars.as_str() {
            "" => Map::new(),
            text => serde_json::from_str(text).map_err(|e| e.to_string())?,
        };
        let pipeline = asker.pipeline.as_ref().map_or("", |(_, name)| name.as_str());
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), self.url.clone().into());
        claims.insert("sub".to_owned(), subject(settings.scope, asker, pipeline, &vars).into());
        if !settings.audience.is_empty() {
            claims.insert("aud".to_owned(), settings.audience.clone().into());
        }
        claims.insert("exp".to_owned(), ends.unix().into());
        claims.insert("iat".to_owned(), now.unix().into());
        claims.insert("team".to_owned(), asker.team_name.clone().into());
        claims.insert("pipeline".to_owned(), pipeline.into());
        claims.insert("job".to_owned(), asker.job.clone().into());
        if !vars.is_empty() {
            claims.insert("instance_vars".to_owned(), Value::Object(vars));
        }
        claims.sort_keys();
        Ok((self.signed(Purpose::Builds, settings.algorithm, claims).await?, ends))
    }

    /// A signed statement of these claims.
    pub async fn signed(
        &self,
        purpose: Purpose,
        algorithm: &'static str,
        claims: Map<String, Value>,
    ) -> Result<Secret<String>, String> {
        let row = self.key(purpose, algorithm).await?;
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({"alg": algorithm, "kid": row.id});
        let signed = format!("{}.{}", part(&head), part(&Value::Object(claims)));
        let signature = self.sign(&row, signed.as_bytes())?;
        Ok(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// The key set that tokens are believed by (`/.well-known/jwks.json`).
    pub async fn key_set(&self, purpose: Purpose) -> Result<Value, String> {
        for algorithm in purpose.algorithms() {
            self.key(purpose, algorithm).await?;
        }
        let rows = self.store.read(|tx| tx.signing_keys()).await.map_err(|e| e.to_string())?;
        let own = rows.iter().filter(|r| r.purpose == purpose.name());
        let keys: Result<Vec<Value>, _> = own.map(|r| serde_json::from_str(&r.public)).collect();
        Ok(json!({"keys": keys.map_err(|e| e.to_string())?}))
    }

    /// `/.well-known/openid-configuration`.
    pub fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/.well-known/jwks.json", self.url),
            "claims_supported": ["aud", "iat", "iss", "sub"],
            "response_types_supported": ["idtoken"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "subject_types_supported": ["public"],
        })
    }

    /// Seals the private keys again with the present key of the keyring.
    pub async fn reseal(&self) -> Result<(), String> {
        let rows = self.store.read(|tx| tx.signing_keys()).await.map_err(|e| e.to_string())?;
        for mut row in rows {
            if row.key == self.keys.current() {
                continue;
            }
            let plain = self.opened(&row)?;
            let sealed = self.keys.seal(plain.expose(), &place(&row.id)).map_err(|e| e.to_string())?;
            (row.key, row.sealed) = (sealed.key, sealed.bytes);
            self.store.write(move |tx| tx.set_signing_key(&row)).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The key that signs now, made if there is none or it has signed long enough.
    async fn key(&self, purpose: Purpose, algorithm: &'static str) -> Result<SigningKeyRow, String> {
        let _one = self.making.lock().await;
        let now = self.clock.now();
        let rows = self.store.read(|tx| tx.signing_keys()).await.map_err(|e| e.to_string())?;
        let mut own = rows.into_iter().filter(|r| r.algorithm == algorithm && r.purpose == purpose.name());
        if let Some(newest) = own.next().filter(|r| now.since(r.created_at) < ROTATED_AFTER) {
            if now.since(newest.created_at) >= BELIEVED_FOR {
                let old: Vec<String> = own.map(|r| r.id).collect();
                if !old.is_empty() {
                    let forget = self.store.write(move |tx| old.iter().try_for_each(|id| tx.delete_signing_key(id)));
                    forget.await.map_err(|e| e.to_string())?;
                }
            }
            return Ok(newest);
        }
        let made = tokio::task::spawn_blocking(move || make(algorithm)).await.map_err(|e| e.to_string())?;
        let (id, public, private) = made.ok_or("a key to sign with cannot be made")?;
        let sealed = self.keys.seal(private.expose(), &place(&id)).map_err(|e| e.to_string())?;
        let row = SigningKeyRow {
            id,
            purpose: purpose.name().to_owned(),
            algorithm: algorithm.to_owned(),
            public: public.to_string(),
            key: sealed.key,
            sealed: sealed.bytes,
            created_at: now,
        };
        let stored = row.clone();
        self.store.write(move |tx| tx.set_signing_key(&stored)).await.map_err(|e| e.to_string())?;
        Ok(row)
    }

    fn opened(&self, row: &SigningKeyRow) -> Result<Secret<Vec<u8>>, String> {
        let sealed = Sealed { key: row.key.clone(), bytes: row.sealed.clone() };
        self.keys.open_sealed(&sealed, &place(&row.id)).map_err(|e| e.to_string())
    }

    fn sign(&self, row: &SigningKeyRow, text: &[u8]) -> Result<Vec<u8>, String> {
        let private = self.opened(row)?;
        let (random, bad) = (SystemRandom::new(), "a token cannot be signed");
        if row.algorithm == "ES256" {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.expose()).map_err(|_| bad)?;
            return Ok(pair.sign(&random, text).map_err(|_| bad)?.as_ref().to_vec());
        }
        let pair = RsaKeyPair::from_pkcs8(private.expose()).map_err(|_| bad)?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(|_| bad)?;
        Ok(signature)
    }
}

fn place(id: &str) -> String {
    format!("signing key\n{id}")
}

/// Name, public half as a JSON Web Key, and private half.
fn make(algorithm: &str) -> Option<(String, Value, Secret<Vec<u8>>)> {
    let id = u64::from_be_bytes(chance::bytes::<8>()).to_string();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    if algorithm == "ES256" {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        // 4, then both coordinates.
        let point = pair.public_key().as_ref().to_vec();
        let (x, y) = point.get(1..)?.split_at_checked(32)?;
        let public =
            json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256", "x": text(x), "y": text(y)});
        return Some((id, public, Secret::new(pair.to_pkcs8v1().ok()?.as_ref().to_vec())));
    }
    let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).ok()?;
    let public = pair.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    let (n, e) = (text(n.big_endian_without_leading_zero()), text(e.big_endian_without_leading_zero()));
    let public = json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": e});
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some((id, public, Secret::new(private.as_ref().to_vec())))
}

fn subject(scope: Scope, asker: &Asker, pipeline: &str, vars: &Map<String, Value>) -> String {
    let part = |text: &str| text.replace('/', "%2F");
    let (team, pipeline, job) = (part(&asker.team_name), part(pipeline), part(&asker.job));
    let vars = part(&vars_text(vars));
    match scope {
        Scope::Team => team,
        Scope::Pipeline => format!("{team}/{pipeline}"),
        Scope::Instance => format!("{team}/{pipeline}/{vars}"),
        Scope::Job => format!("{team}/{pipeline}/{vars}/{job}"),
    }
}

/// Instance variables as Concourse names them: `branch:main,pr.number:7`.
fn vars_text(vars: &Map<String, Value>) -> String {
    fn flatten(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    flatten(&path, value, out);
                }
            }
            other => out.push((prefix.to_owned(), instance_value(other))),
        }
    }
    let mut all = Vec::new();
    flatten("", &Value::Object(vars.clone()), &mut all);
    all.sort();
    all.into_iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>().join(",")
}

/// Text in quotes where it would otherwise be read as something else.
fn instance_value(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = matches!(serde_yaml::from_str(text), Ok(serde_yaml::Value::String(_)));
            if plain && !text.contains([',', ':', ' ', '/']) { text.clone() } else { value.to_string() }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    };

    use super::*;
    use crate::base::clock::Manual;
    use crate::base::id::{PipelineId, TeamId};

    fn decoded(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    #[tokio::test]
    async fn a_token_is_believed_by_the_published_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let keys = Arc::new(Keyring::open(&dir.path().join("secrets.key")).unwrap());
        let clock = Arc::new(Manual::new(Time(1_000_000)));
        let issuer = Issuer::new(store, keys.clone(), clock.clone(), "https://ci.example");
        let asker = Asker {
            team: TeamId(1),
            team_name: "t/1".into(),
            pipeline: Some((PipelineId(2), "p".into())),
            instance_vars: r#"{"a":{"b":"x","c":"7"},"d":1}"#.into(),
            job: "j".into(),
            build: None,
        };
        for algorithm in ["RS256", "ES256"] {
            let config =
                json!({"algorithm": algorithm, "subject_scope": "job", "audience": ["x"], "expires_in": "10m"});
            let (token, ends) = issuer.token(&Settings::read(&config).unwrap(), &asker).await.unwrap();
            assert_eq!(ends, Time(1_600_000));
            let parts: Vec<&str> = token.expose().split('.').collect();
            let head: Value = serde_json::from_slice(&decoded(parts[0])).unwrap();
            let claims: Value = serde_json::from_slice(&decoded(parts[1])).unwrap();
            assert_eq!(claims["sub"], r#"t%2F1/p/a.b:x,a.c:"7",d:1/j"#);
            assert_eq!(
                (&claims["aud"], &claims["iss"], &claims["exp"]),
                (&json!(["x"]), &json!("https://ci.example"), &json!(1600))
            );
            let set = issuer.key_set(Purpose::Builds).await.unwrap();
            let key = set["keys"].as_array().unwrap().iter().find(|k| k["kid"] == head["kid"]).unwrap().clone();
            let bytes = |member: &str| decoded(key[member].as_str().unwrap());
            let (text, signature) = (format!("{}.{}", parts[0], parts[1]), decoded(parts[2]));
            if algorithm == "RS256" {
                let public = RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") };
                public.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &signature).unwrap();
            } else {
                let point = [vec![4], bytes("x"), bytes("y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text.as_bytes(), &signature).unwrap();
            }
        }
        keys.rotate().unwrap();
        issuer.reseal().await.unwrap();
        keys.drop_old().unwrap();
        assert!(issuer.token(&Settings::read(&Value::Null).unwrap(), &asker).await.is_ok());
        let count = async || issuer.key_set(Purpose::Builds).await.unwrap()["keys"].as_array().unwrap().len();
        clock.advance(ROTATED_AFTER);
        assert_eq!(count().await, 4, "the old ones are believed for a while");
        clock.advance(BELIEVED_FOR);
        assert_eq!(count().await, 2);
    }

    #[test]
    fn settings_are_checked() {
        for (config, told) in [
            (json!({"x": 1}), "unknown setting: x"),
            (json!({"audience": "x"}), "audience must be a list of strings"),
            (json!({"expires_in": "25h"}), "expires_in must be <= 24h0m0s"),
            (json!({"algorithm": "none"}), "invalid algorithm value: none"),
            (json!({"subject_scope": "x"}), "invalid subject_scope value: x"),
        ] {
            let error = Settings::read(&config).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
