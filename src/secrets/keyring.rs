//! The keys with which values are sealed: AES-256-GCM, a fresh nonce each time, bound to the row they stand in.
//!
//! The first key seals; all of them open. A key comes from a file that is made at first start and that only its owner
//! may read, or from the environment.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::chance;
use crate::base::secret::Secret;
use crate::base::version::digest;

/// Why keys or what they have sealed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or written.
    #[error("the key file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something else than a key.
    #[error("{0} is no key for secrets: it must be 32 bytes in base64, as `openssl rand -base64 32` makes them")]
    NotAKey(String),
    /// Sealed with a key that is not there.
    #[error(
        "a secret was sealed with the key {0}, which is not given; restore the key file, or name the old key by --old-secrets-key"
    )]
    UnknownKey(String),
    /// The bytes were changed, or belong elsewhere.
    #[error("a sealed value in the database is damaged or was moved; write the secret again")]
    Damaged,
    /// Random bytes or cipher failed.
    #[error("a value cannot be sealed")]
    CannotSeal,
    /// The key is not ours to change.
    #[error(
        "the key comes from the settings: give a new one as WHISTLESTOP_SECRETS_KEY and the present one as WHISTLESTOP_OLD_SECRETS_KEY, and start again"
    )]
    FromSettings,
}

struct Key {
    id: String,
    text: Secret<String>,
    cipher: LessSafeKey,
}

impl Key {
    fn read(text: &str, whence: &str) -> Result<Key, KeyringError> {
        let text = text.trim();
        let bytes = STANDARD.decode(text).ok().filter(|b| b.len() == 32);
        let bytes = bytes.ok_or_else(|| KeyringError::NotAKey(whence.to_owned()))?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyringError::CannotSeal)?;
        let id = digest(format!("key {text}").as_bytes())[..12].to_owned();
        Ok(Key { id, text: Secret::new(text.to_owned()), cipher: LessSafeKey::new(key) })
    }
}

/// A sealed value and the name of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its key.
    pub key: String,
    /// Nonce, then ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// See the module's doc.
pub struct Keyring {
    keys: RwLock<Vec<Key>>,
    file: Option<PathBuf>,
}

impl Keyring {
    /// With the keys of a file, made if it is not there.
    pub fn open(file: &Path) -> Result<Keyring, KeyringError> {
        let failed = |source| KeyringError::File { path: file.to_owned(), source };
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("{}\n", STANDARD.encode(chance::bytes::<32>()));
                write_new(file, &text).map_err(failed)?;
                text
            }
            Err(e) => return Err(failed(e)),
        };
        let mode = fs::metadata(file).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "others than its owner can read the key of the secrets: chmod 600 it");
        }
        let whence = file.display().to_string();
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let keys: Vec<Key> = lines.map(|l| Key::read(l, &whence)).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(KeyringError::NotAKey(whence));
        }
        Ok(Keyring { keys: RwLock::new(keys), file: Some(file.to_owned()) })
    }

    /// With a given key, and one that sealed what was written before.
    pub fn given(key: &str, old: Option<&str>) -> Result<Keyring, KeyringError> {
        let mut keys = vec![Key::read(key, "--secrets-key")?];
        if let Some(old) = old {
            keys.push(Key::read(old, "--old-secrets-key")?);
        }
        Ok(Keyring { keys: RwLock::new(keys), file: None })
    }

    /// The name of the key that seals now.
    pub fn current(&self) -> String {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).first().map_or_else(String::new, |k| k.id.clone())
    }

    /// Whether there are keys besides the present one.
    pub fn has_old(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).len() > 1
    }

    /// Seals a value for one place: `place` is not secret, but the value opens nowhere else.
    pub fn seal(&self, value: &[u8], place: &str) -> Result<Sealed, KeyringError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first().ok_or(KeyringError::CannotSeal)?;
        let nonce = chance::bytes::<NONCE_LEN>();
        let mut sealed = value.to_vec();
        key.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| KeyringError::CannotSeal)?;
        Ok(Sealed { key: key.id.clone(), bytes: [&nonce[..], &sealed].concat() })
    }

    /// Opens what was sealed for this place.
    pub fn open_sealed(&self, sealed: &Sealed, place: &str) -> Result<Secret<Vec<u8>>, KeyringError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|k| k.id == sealed.key);
        let key = key.ok_or_else(|| KeyringError::UnknownKey(sealed.key.clone()))?;
        let (nonce, rest) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or(KeyringError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyringError::Damaged)?;
        let mut bytes = rest.to_vec();
        let opened = key.cipher.open_in_place(nonce, Aad::from(place.as_bytes()), &mut bytes);
        opened.map(|plain| Secret::new(plain.to_vec())).map_err(|_| KeyringError::Damaged)
    }

    /// Makes a new key and puts it in front; the others still open. Whoever calls seals everything again, then calls
    /// [`Keyring::drop_old`].
    pub fn rotate(&self) -> Result<(), KeyringError> {
        let text = STANDARD.encode(chance::bytes::<32>());
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.as_ref().ok_or(KeyringError::FromSettings)?;
        let new = Key::read(&text, "a new key")?;
        let all: Vec<&Key> = std::iter::once(&new).chain(keys.iter()).collect();
        self.write(file, &all)?;
        keys.insert(0, new);
        Ok(())
    }

    /// Forgets every key but the present one.
    pub fn drop_old(&self) -> Result<(), KeyringError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.truncate(1);
        match &self.file {
            Some(file) => self.write(file, &keys.iter().collect::<Vec<_>>()),
            None => Ok(()),
        }
    }

    fn write(&self, file: &Path, keys: &[&Key]) -> Result<(), KeyringError> {
        let text: String = keys.iter().map(|k| format!("{}\n", k.text.expose())).collect();
        let beside = file.with_extension("new");
        let failed = |source| KeyringError::File { path: file.to_owned(), source };
        let _ = fs::remove_file(&beside);
        write_new(&beside, &text).map_err(failed)?;
        fs::rename(&beside, file).map_err(failed)
    }
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    open.write_all(text.as_bytes())?;
    open.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_in_its_place_and_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.key");
        let keys = Keyring::open(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = keys.seal(b"value", "1//a").unwrap();
        assert!(!sealed.bytes.windows(5).any(|w| w == b"value"));
        assert_eq!(keys.open_sealed(&sealed, "1//a").unwrap().expose(), b"value");
        assert!(matches!(keys.open_sealed(&sealed, "2//a"), Err(KeyringError::Damaged)));
        let mut changed = sealed.clone();
        changed.bytes[15] ^= 1;
        assert!(matches!(keys.open_sealed(&changed, "1//a"), Err(KeyringError::Damaged)));
        let again = Keyring::open(&file).unwrap();
        assert_eq!(again.open_sealed(&sealed, "1//a").unwrap().expose(), b"value");
    }

    #[test]
    fn a_new_key_opens_what_the_old_has_sealed_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.key");
        let keys = Keyring::open(&file).unwrap();
        let old = keys.seal(b"v", "p").unwrap();
        keys.rotate().unwrap();
        let new = keys.seal(b"v", "p").unwrap();
        assert_ne!(old.key, new.key);
        assert!(Keyring::open(&file).unwrap().open_sealed(&old, "p").is_ok());
        keys.drop_old().unwrap();
        assert!(matches!(keys.open_sealed(&old, "p"), Err(KeyringError::UnknownKey(_))));
        assert!(Keyring::open(&file).unwrap().open_sealed(&new, "p").is_ok());
    }

    #[test]
    fn a_key_of_the_settings_must_be_one() {
        let key = STANDARD.encode([7; 32]);
        assert!(matches!(Keyring::given("short", None), Err(KeyringError::NotAKey(_))));
        let old = Keyring::given(&key, None).unwrap();
        let sealed = old.seal(b"v", "p").unwrap();
        let new = Keyring::given(&STANDARD.encode([8; 32]), Some(&key)).unwrap();
        assert_eq!(new.open_sealed(&sealed, "p").unwrap().expose(), b"v");
        assert!(matches!(new.rotate(), Err(KeyringError::FromSettings)));
    }
}
