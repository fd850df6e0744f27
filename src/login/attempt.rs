//! A sign-in that is under way at another server: who began it comes back with a `state`, once, in the same browser.
//!
//! What has to be remembered travels in a cookie of the browser, sealed with a key of this process; the state, the
//! nonce and the proof key are made from the secret in it. Nothing is stored for those who never come back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use crate::base::chance;
use crate::base::clock::Time;
use crate::base::version::digest;

/// How long somebody may take at the other server.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A sign-in under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// By which connector.
    pub connector: String,
    /// Where to go afterwards; a path on this server.
    pub back: String,
    /// What the other server sends back.
    pub state: String,
    /// What it puts into its token.
    pub nonce: String,
    /// Proof that who redeems the code is who asked for it.
    pub verifier: String,
}

/// The cookie that binds it to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name; each attempt has its own, so that two tabs do not disturb each other.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// All of them.
pub struct Attempts {
    key: String,
    /// States that have come back, until they would have expired anyway.
    used: Mutex<BTreeMap<String, Time>>,
}

/// The name of an attempt's cookie.
pub fn cookie_name(state: &str) -> String {
    let short: String = state.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    format!("skymarshal_state_{short}")
}

impl Attempts {
    /// None yet, with a new key.
    pub fn new() -> Attempts {
        Attempts { key: chance::hex::<32>(), used: Mutex::default() }
    }

    /// Begins one.
    pub fn begin(&self, connector: &str, back: &str, now: Time) -> (Attempt, Binding) {
        let secret = chance::hex::<32>();
        let attempt = attempt(&secret, connector, back);
        let back = URL_SAFE_NO_PAD.encode(back);
        let sealed = format!("{secret}.{}.{connector}.{back}", now.plus(PATIENCE).0);
        let value = format!("{sealed}.{}", self.seal(&sealed));
        let binding = Binding { name: cookie_name(&attempt.state), value };
        (attempt, binding)
    }

    /// The attempt that `state` belongs to, if `cookie` is its browser's and it has not come back before.
    pub fn finish(&self, state: &str, cookie: &str, now: Time) -> Option<Attempt> {
        let (sealed, seal) = cookie.rsplit_once('.')?;
        if !bool::from(self.seal(sealed).as_bytes().ct_eq(seal.as_bytes())) {
            return None;
        }
        let mut parts = sealed.split('.');
        let (secret, expires, connector, back) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let expires = Time(expires.parse().ok()?);
        let back = String::from_utf8(URL_SAFE_NO_PAD.decode(back).ok()?).ok()?;
        let attempt = attempt(secret, connector, &back);
        if expires <= now || !bool::from(attempt.state.as_bytes().ct_eq(state.as_bytes())) {
            return None;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, end| *end > now);
        used.insert(attempt.state.clone(), expires).is_none().then_some(attempt)
    }

    /// A digest that only this process can make; the inner one makes its input one length.
    fn seal(&self, text: &str) -> String {
        digest(format!("{}{}", self.key, digest(text.as_bytes())).as_bytes())
    }
}

fn attempt(secret: &str, connector: &str, back: &str) -> Attempt {
    let made = |what: &str| digest(format!("{what} {secret}").as_bytes());
    Attempt {
        connector: connector.to_owned(),
        back: back.to_owned(),
        state: made("state"),
        nonce: made("nonce"),
        verifier: made("verifier"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_comes_back_once_in_its_own_browser_and_in_time() {
        let attempts = Attempts::new();
        let now = Time(1_000);
        let (one, cookie) = attempts.begin("github", "/teams/main?a=b.c", now);
        let (other, others_cookie) = attempts.begin("oidc", "/", now);
        assert_ne!((&one.state, &one.nonce, &one.verifier), (&other.state, &other.nonce, &other.verifier));
        assert_ne!(cookie.name, others_cookie.name);
        let late = now.plus(PATIENCE);
        for (what, state, cookie, at) in [
            ("another browser's", &one.state, &others_cookie.value, now),
            ("too late", &one.state, &cookie.value, late),
            ("an empty cookie", &one.state, &String::new(), now),
            ("a changed cookie", &one.state, &cookie.value.replace(".github.", ".oidc."), now),
            ("of another process", &one.state, &Attempts::new().begin("github", "/", now).1.value, now),
        ] {
            assert_eq!(attempts.finish(state, cookie, at), None, "{what}");
        }
        assert_eq!(attempts.finish(&one.state, &cookie.value, now), Some(one.clone()));
        assert_eq!(attempts.finish(&one.state, &cookie.value, now), None, "a second time");
        assert_eq!(attempts.finish(&other.state, &others_cookie.value, now), Some(other));
    }
}
