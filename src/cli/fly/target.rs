//! Saved targets: `~/.flyrc`, the file that fly keeps too, so that both clients share their logins.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

/// The team of a target that names none.
pub const DEFAULT_TEAM: &str = "main";

/// What is remembered of a target. Fields are in the alphabetical order fly writes them in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where it is.
    #[serde(default)]
    pub api: String,
    /// A PEM certificate to trust beside the system's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca_cert: String,
    /// File of a PEM client certificate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_cert_path: String,
    /// File of its key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_key_path: String,
    /// Whether its certificate goes unchecked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The team commands act on.
    #[serde(default)]
    pub team: String,
    /// The login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// A login as it is sent in `Authorization`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The scheme, `bearer`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The secret part.
    #[serde(default)]
    pub value: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, crate::base::secret::REDACTED)
    }
}

impl Token {
    /// Whether nobody is logged in with it.
    pub fn is_empty(&self) -> bool {
        self.kind.is_empty() && self.value.is_empty()
    }

    /// The header's value.
    pub fn authorization(&self) -> String {
        // Go's OAuth transport writes the scheme in its canonical form.
        let usual = self.kind.is_empty() || self.kind.eq_ignore_ascii_case("bearer");
        let kind = if usual { "Bearer" } else { &self.kind };
        format!("{kind} {}", self.value).trim_end().to_owned()
    }

    /// When it ends in unix seconds: the last eight of its 28 bytes, little end first.
    pub fn expiry(&self) -> Option<i64> {
        let raw = STANDARD_NO_PAD.decode(&self.value).ok()?;
        let (_, tail) = raw.split_at_checked(20)?;
        Some(i64::from_le_bytes(tail.try_into().ok()?))
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// `-t` is missing.
    #[error("no target specified")]
    NotNamed,
    /// Nothing of that name is saved.
    #[error("unknown target: {0}")]
    Unknown(String),
    /// Neither `FLY_HOME` nor `HOME` is set.
    #[error("could not detect home directory for .flyrc: set HOME or FLY_HOME")]
    Homeless,
    /// It cannot be understood.
    #[error("in the file '{0}': {1}")]
    Syntax(PathBuf, serde_yaml::Error),
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    targets: Option<BTreeMap<String, Target>>,
}

/// The file and what stands in it.
#[derive(Debug)]
pub struct Targets {
    path: PathBuf,
    /// By name.
    pub saved: BTreeMap<String, Target>,
}

impl Targets {
    /// Reads the file of this user; one that does not exist is empty.
    pub fn load() -> Result<Self, TargetError> {
        let home = ["FLY_HOME", "HOME"]
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()))
            .ok_or(TargetError::Homeless)?;
        Self::load_from(Path::new(&home).join(".flyrc"))
    }

    fn load_from(path: PathBuf) -> Result<Self, TargetError> {
        let file = match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => File::default(),
            Ok(text) => serde_yaml::from_str(&text).map_err(|e| TargetError::Syntax(path.clone(), e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(e) => return Err(TargetError::Io(path, e)),
        };
        let mut saved = file.targets.unwrap_or_default();
        for target in saved.values_mut().filter(|t| t.team.is_empty()) {
            DEFAULT_TEAM.clone_into(&mut target.team);
        }
        Ok(Targets { path, saved })
    }

    /// The target called `name`.
    pub fn get(&self, name: &str) -> Result<&Target, TargetError> {
        self.saved.get(name).ok_or_else(|| TargetError::Unknown(name.to_owned()))
    }

    /// Writes the file whole or not at all, readable by nobody else.
    pub fn save(&self) -> Result<(), TargetError> {
        let fail = |e| TargetError::Io(self.path.clone(), e);
        let file = File { targets: Some(self.saved.clone()) };
        let text = serde_yaml::to_string(&file).map_err(|e| TargetError::Syntax(self.path.clone(), e))?;
        // A link (dotfiles kept elsewhere) is followed, so that the rename does not replace it.
        let real = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let draft = real.with_file_name(format!(".flyrc.{}", std::process::id()));
        write_private(&draft, text.as_bytes()).map_err(fail)?;
        std::fs::rename(&draft, &real).inspect_err(|_| drop(std::fs::remove_file(&draft))).map_err(fail)
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_saved_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let mut targets = Targets::load_from(dir.path().join(".flyrc")).unwrap();
        let token = Token { kind: "bearer".into(), value: "t".into() };
        let target = Target { api: "http://x".into(), team: "a".into(), token: Some(token), ..Target::default() };
        targets.saved.insert("ci".into(), target.clone());
        targets.save().unwrap();
        let text = std::fs::read_to_string(&targets.path).unwrap();
        assert_eq!(
            text,
            "targets:\n  ci:\n    api: http://x\n    team: a\n    token:\n      type: bearer\n      value: t\n"
        );
        assert_eq!(std::fs::metadata(&targets.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Targets::load_from(targets.path).unwrap().get("ci").unwrap(), &target);
    }

    #[test]
    fn a_target_without_a_team_means_main() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".flyrc");
        std::fs::write(&path, "targets: {ci: {api: http://x}}").unwrap();
        let targets = Targets::load_from(path).unwrap();
        assert_eq!(targets.get("ci").unwrap().team, "main");
        assert_eq!(targets.get("zz").unwrap_err().to_string(), "unknown target: zz");
    }

    #[test]
    fn a_token_tells_when_it_ends() {
        let mut raw = vec![7u8; 20];
        raw.extend(1_795_478_004i64.to_le_bytes());
        let token = Token { kind: "bearer".into(), value: STANDARD_NO_PAD.encode(raw) };
        assert_eq!(token.expiry(), Some(1_795_478_004));
        assert_eq!(Token { value: "short".into(), ..token }.expiry(), None);
        assert_eq!(Token::default().authorization(), "Bearer", "who has logged out");
    }
}
