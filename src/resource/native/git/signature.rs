//! Whose commits a get takes, and how it reads what `git-crypt` has encrypted: both by programs of the machine, with keys
//! that nobody but this one call has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::session::{Call, Session};
use super::source::{Members, word};
use crate::base::secret::Secret;
use crate::resource::Failure;

/// Where keys are asked for by id, where the source does not say.
const KEYSERVER: &str = "hkp://keyserver.ubuntu.com/";

/// Who may have signed the commits (`commit_verification_keys`, `commit_verification_key_ids`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    keys: Vec<String>,
    ids: Vec<String>,
    keyserver: String,
}

impl Signers {
    /// From the source; none where any commit will do.
    pub fn read(m: Members<'_>) -> Result<Option<Signers>, Failure> {
        let keys = m.list("commit_verification_keys")?;
        let ids = m.list("commit_verification_key_ids")?;
        let ids = ids.into_iter().map(|id| word("source.commit_verification_key_ids", id)).collect::<Result<_, _>>()?;
        let keyserver = m.text("gpg_keyserver").unwrap_or_else(|| KEYSERVER.to_owned());
        let signers = Signers { keys, ids, keyserver: word("source.gpg_keyserver", keyserver)? };
        Ok((!signers.keys.is_empty() || !signers.ids.is_empty()).then_some(signers))
    }

    /// Where keys are asked for, if any are.
    pub fn keyserver(&self) -> Option<&str> {
        (!self.ids.is_empty()).then_some(self.keyserver.as_str())
    }

    /// Fails unless one of them has signed the commit.
    pub fn verify(&self, session: &mut Session<'_, '_>, reference: &str, dir: &Path) -> Result<(), Failure> {
        let ring = session.scratch(".gnupg")?;
        // gpg refuses a keyring that others can read.
        fs::set_permissions(&ring, fs::Permissions::from_mode(0o700))
            .map_err(|err| Failure::Failed(format!("cannot make a keyring: {err}")))?;
        for key in &self.keys {
            let import = Call { stdin: key, ..Call::of("gpg", dir, &["--batch", "--no-autostart", "--import"]) };
            if !session.run(&import.shown())?.ok {
                return Err(Failure::Failed("Invalid GPG key in source.commit_verification_keys".to_owned()));
            }
        }
        for id in &self.ids {
            let receive = ["--batch", "--keyserver", &self.keyserver, "--recv-keys", id];
            let done = session.run(&Call::of("gpg", dir, &receive).network().shown());
            // What gpg has started to talk to the server would outlive this call.
            session.run(&Call::of("gpgconf", dir, &["--kill", "all"])).ok();
            if !done?.ok {
                let text =
                    format!("the key {id} of source.commit_verification_key_ids is not had from {}", self.keyserver);
                return Err(Failure::Failed(text));
            }
        }
        let commit = session.read(dir, &["rev-list", "-n", "1", reference, "--"])?;
        if session.run(&Call::new(dir, &["verify-commit", &commit]).shown())?.ok {
            return Ok(());
        }
        Err(Failure::Failed(format!("The commit {commit} is not signed by a key that the source names")))
    }
}

/// The key of `git-crypt`, as it is in the source: base64, in lines or in one.
pub fn crypt_key(m: Members<'_>) -> Result<Option<Secret<String>>, Failure> {
    let Some(text) = m.text("git_crypt_key") else { return Ok(None) };
    let bare: String = text.split_whitespace().collect();
    match BASE64.decode(&bare) {
        Ok(_) => Ok(Some(Secret::new(bare))),
        Err(_) => Err(Failure::Config(
            "source.git_crypt_key is not base64: write what `git-crypt export-key KEY && base64 KEY` prints".to_owned(),
        )),
    }
}

/// Makes the encrypted files of a clone readable.
pub fn unlock(session: &mut Session<'_, '_>, key: &Secret<String>, dir: &Path) -> Result<(), Failure> {
    let file = session.scratch("git-crypt")?.join("key");
    let bytes = BASE64.decode(key.expose()).unwrap_or_default();
    fs::write(&file, bytes).map_err(|err| Failure::Failed(format!("cannot write the key: {err}")))?;
    session.say("unlocking git repo")?;
    let file = file.display().to_string();
    session.must(&Call::of("git-crypt", dir, &["unlock", &file]).shown()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::super::tests::World;
    use crate::base::version::Version;

    /// Runs a program in the world's home, and gives what it prints.
    fn run(world: &World, dir: &str, program: &str, args: &[&str]) -> Vec<u8> {
        let output = Command::new(program)
            .args(args)
            .current_dir(world.path(dir))
            .env("HOME", world.path("home"))
            .env_remove("GNUPGHOME")
            .output()
            .unwrap_or_else(|err| panic!("{program}: {err}"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn a_commit_must_be_signed_by_a_key_that_the_source_names() {
        let world = World::new();
        let make =
            ["--batch", "--passphrase", "", "--quick-generate-key", "ann@example.com", "ed25519", "sign", "never"];
        run(&world, ".", "gpg", &make);
        let key = String::from_utf8(run(&world, ".", "gpg", &["--armor", "--export", "ann@example.com"])).unwrap();
        let unsigned = world.commit("a", "by anybody");
        world.git("work", &["config", "user.signingKey", "ann@example.com"]);
        world.git("work", &["config", "commit.gpgSign", "true"]);
        let signed = world.commit("a", "by Ann");
        let get = |keys: &[&str], commit: &str| {
            let source = json!({"commit_verification_keys": keys});
            world.get(source, json!({}), Version::from([("ref", commit)]))
        };
        assert_eq!(get(&[&key], &signed).unwrap().1.version.0["ref"], signed);
        let refused = get(&[&key], &unsigned).unwrap_err();
        assert!(refused.contains(&format!("The commit {unsigned} is not signed")), "{refused}");
        assert!(get(&["no key"], &signed).unwrap_err().contains("Invalid GPG key in source.commit_verification_keys"));
        run(&world, ".", "gpgconf", &["--kill", "all"]);
    }

    #[test]
    fn what_git_crypt_has_encrypted_is_read_with_the_sources_key() {
        use base64::Engine as _;
        let world = World::new();
        world.commit(".gitattributes", "secret filter=git-crypt diff=git-crypt");
        run(&world, "work", "git-crypt", &["init"]);
        let commit = world.commit("secret", "nobody knows");
        run(&world, "work", "git-crypt", &["export-key", "../key"]);
        let key = super::BASE64.encode(std::fs::read(world.path("key")).unwrap());
        let version = || Version::from([("ref", commit.as_str())]);
        let (dir, _, log) = world.get(json!({"git_crypt_key": key}), json!({}), version()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("secret")).unwrap(), "nobody knows\n", "{log}");
        let (dir, ..) = world.get(json!({}), json!({}), version()).unwrap();
        assert!(std::fs::read(dir.join("secret")).unwrap().starts_with(b"\0GITCRYPT"));
        let wrong = world.get(json!({"git_crypt_key": "%"}), json!({}), version()).unwrap_err();
        assert!(wrong.contains("source.git_crypt_key is not base64"), "{wrong}");
    }
}
