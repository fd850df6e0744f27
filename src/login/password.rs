//! Passwords as they are kept: a bcrypt or argon2 hash in its usual text form, ours always argon2id.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::base::chance;

/// How a hash begins that bcrypt knows.
const BCRYPT: [&str; 4] = ["$2a$", "$2b$", "$2y$", "$2x$"];
/// Memory in KiB, passes and lanes that a hash may ask for at most: a hash is checked at the server's expense.
const MOST: (u32, u32, u32) = (256 * 1024, 16, 16);

/// Whether this is meant as a hash rather than as a password in the clear.
pub fn looks_hashed(text: &str) -> bool {
    BCRYPT.iter().any(|p| text.starts_with(p)) || text.starts_with("$argon2")
}

/// Whether this is a hash that can be checked.
pub fn is_hash(text: &str) -> bool {
    if text.starts_with("$argon2") {
        return PasswordHash::new(text).is_ok_and(|h| affordable(&h) && h.hash.is_some());
    }
    looks_hashed(text) && text.parse::<bcrypt::HashParts>().is_ok()
}

fn affordable(hash: &PasswordHash<'_>) -> bool {
    Algorithm::try_from(hash.algorithm).is_ok()
        && Params::try_from(hash).is_ok_and(|p| p.m_cost() <= MOST.0 && p.t_cost() <= MOST.1 && p.p_cost() <= MOST.2)
}

/// Hashes a password. Takes some tens of milliseconds.
pub fn hash(password: &str) -> String {
    let salt = SaltString::encode_b64(&chance::bytes::<16>()).expect("sixteen bytes are a salt");
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    let hash = argon.hash_password(password.as_bytes(), &salt).expect("the default parameters are valid");
    hash.to_string()
}

/// Whether the hash is of this password. Takes as long as its parameters say.
pub fn verify(password: &str, hash: &str) -> bool {
    if !hash.starts_with("$argon2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    affordable(&parsed) && Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_one_password_and_never_twice_the_same() {
        let (one, two) = (hash("secret"), hash("secret"));
        assert_ne!(one, two);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && is_hash(&one));
        assert!(verify("secret", &one) && !verify("Secret", &one) && !verify(&one, &one));
    }

    #[test]
    fn hashes_of_other_programs_are_known_and_broken_or_ruinous_ones_refused() {
        let bcrypted = bcrypt::hash("secret", 4).unwrap();
        assert!(is_hash(&bcrypted) && verify("secret", &bcrypted));
        let argon2i = "$argon2i$v=19$m=16,t=2,p=1$c29tZXNhbHQ$5jLdUyqPOQRO3HWrDzv0wQ";
        assert!(is_hash(argon2i));
        for bad in [
            "$2a$10$short",
            "$argon2id$v=19$m=19456",
            "$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHQ$5jLdUyqPOQRO3HWrDzv0wQ",
            "plain",
        ] {
            assert!(!is_hash(bad), "{bad}");
        }
    }
}
