//! Registries of images, as the operator sets them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::base::outgoing::Outgoing;
use crate::base::secret::Secret;
use crate::resource::registry::{Mirror, Registries};

/// See the module's doc.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Images")]
pub struct RegistryFlags {
    /// A registry that is asked before Docker Hub: a host, or an address with http:// or https://
    #[arg(long, value_name = "HOST")]
    pub registry_mirror: Option<String>,
    /// Who asks the mirror: a file with USER:PASSWORD, or that itself
    #[arg(long, value_name = "FILE|USER:PASSWORD", hide_env_values = true)]
    pub registry_mirror_credentials: Option<Secret<String>>,
    /// A file of authorities that are trusted for the mirror, besides the usual ones (PEM)
    #[arg(long, value_name = "FILE")]
    pub registry_mirror_ca_cert: Option<PathBuf>,
    /// Let any pipeline fetch and put images in ECR with this server's own AWS credentials where its source has no keys
    #[arg(long)]
    pub allow_ecr_as_server: bool,
    /// What an image may unpack to, with all its layers, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    pub max_image_size: u64,
}

impl RegistryFlags {
    /// For whoever asks registries.
    pub fn registries(&self, outgoing: Outgoing) -> anyhow::Result<Registries> {
        let mirror = self.mirror()?.map(Into::into);
        Ok(Registries { outgoing, mirror, ecr_as_server: self.allow_ecr_as_server })
    }

    fn mirror(&self) -> anyhow::Result<Option<Mirror>> {
        let Some(host) = self.registry_mirror.clone() else {
            if self.registry_mirror_credentials.is_some() || self.registry_mirror_ca_cert.is_some() {
                bail!("the flags about the registry mirror need its host (--registry-mirror)");
            }
            return Ok(None);
        };
        if host.contains('@') {
            bail!(
                "--registry-mirror is a host without credentials, which others could read: give them with \
                 --registry-mirror-credentials"
            );
        }
        let mut mirror = Mirror { host, ..Mirror::default() };
        if let Some(given) = &self.registry_mirror_credentials {
            (mirror.username, mirror.password) = credentials(given)?;
        }
        if let Some(path) = &self.registry_mirror_ca_cert {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("--registry-mirror-ca-cert: cannot read {}", path.display()))?;
            if !text.contains("BEGIN CERTIFICATE") {
                bail!("--registry-mirror-ca-cert: {} holds no certificate in PEM", path.display());
            }
            mirror.ca_certs.push(text);
        }
        Ok(Some(mirror))
    }
}

/// `USER:PASSWORD`, or the name of a file with it. Nothing of it is in an error's text.
fn credentials(given: &Secret<String>) -> anyhow::Result<(String, Secret<String>)> {
    let path = Path::new(given.expose());
    let text = match path.is_file() {
        true => {
            let read = std::fs::read_to_string(path);
            Secret::new(read.context("--registry-mirror-credentials: the file cannot be read")?)
        }
        false => given.clone(),
    };
    match text.expose().trim_end_matches(['\r', '\n']).split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => {
            Ok((user.to_owned(), Secret::new(password.to_owned())))
        }
        _ => bail!("--registry-mirror-credentials is neither USER:PASSWORD nor a file that has it"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        flags: RegistryFlags,
    }

    fn mirror(args: &[&str]) -> anyhow::Result<Option<Mirror>> {
        Alone::try_parse_from(["x"].iter().chain(args)).unwrap().flags.mirror()
    }

    #[test]
    fn credentials_come_from_a_file_or_the_flag_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, "robot:hunter:2\n").unwrap();
        let file = file.display().to_string();
        for given in ["robot:hunter:2", &file] {
            let args = ["--registry-mirror", "m.example", "--registry-mirror-credentials", given];
            let found = mirror(&args).unwrap().unwrap();
            assert_eq!((found.username.as_str(), found.password.expose().as_str()), ("robot", "hunter:2"));
            let shown = format!("{found:?} {:?}", Alone::try_parse_from(["x"].iter().chain(&args)).unwrap());
            assert!(!shown.contains("hunter"), "{shown}");
        }
        let wrong = mirror(&["--registry-mirror", "m", "--registry-mirror-credentials", "hunter2"]).unwrap_err();
        assert!(!format!("{wrong:#}").contains("hunter2"), "{wrong:#}");
        assert!(mirror(&["--registry-mirror", "https://a:b@m"]).is_err());
        assert!(mirror(&["--registry-mirror-credentials", "a:b"]).is_err());
        assert_eq!(mirror(&[]).unwrap(), None);
    }

    #[test]
    fn an_authority_of_the_mirror_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----").unwrap();
        let path = file.display().to_string();
        let found = mirror(&["--registry-mirror", "m", "--registry-mirror-ca-cert", &path]).unwrap().unwrap();
        assert_eq!(found.ca_certs.len(), 1);
        std::fs::write(&file, "x").unwrap();
        let wrong = mirror(&["--registry-mirror", "m", "--registry-mirror-ca-cert", &path]).unwrap_err().to_string();
        assert!(wrong.contains("ca.pem") && wrong.contains("PEM"), "{wrong}");
    }
}
