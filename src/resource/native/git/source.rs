//! What a `git` resource is configured with. Members that the original does not know are refused where it refuses
//! them (those of the source in `check`), so that a misspelt option is not silently without effect.

use serde_json::{Map, Value};

use super::address::Address;
use super::settings::Setting;
use super::signature::{self, Signers};
use crate::base::secret::Secret;
use crate::resource::Failure;

/// What the original knows.
pub const KEYS: &[&str] = &[
    "uri",
    "branch",
    "private_key",
    "private_key_user",
    "private_key_passphrase",
    "forward_agent",
    "username",
    "password",
    "paths",
    "sparse_paths",
    "ignore_paths",
    "skip_ssl_verification",
    "tag_filter",
    "tag_regex",
    "tag_behaviour",
    "fetch_tags",
    "submodule_credentials",
    "git_config",
    "disable_ci_skip",
    "commit_verification_keys",
    "commit_verification_key_ids",
    "gpg_keyserver",
    "git_crypt_key",
    "https_tunnel",
    "commit_filter",
    "version_depth",
    "search_remote_refs",
    "debug",
];

/// Options that need programs or services which the server does not bring.
const UNSUPPORTED: &[(&str, &str)] = &[("https_tunnel", "an HTTPS tunnel for ssh")];

/// An ssh key.
#[derive(Debug, Clone)]
pub struct Key {
    /// The private key as a file's text.
    pub text: Secret<String>,
    /// What it is locked with.
    pub passphrase: Option<Secret<String>>,
}

/// How to reach submodules elsewhere.
#[derive(Debug, Clone)]
pub enum SubmoduleLogin {
    /// User and password of a host.
    Host { host: String, username: String, password: Secret<String> },
    /// The key of one address.
    Url { url: String, key: Key },
}

/// Which tags become versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagPattern {
    /// A glob.
    Glob(String),
    /// A regular expression for the whole name.
    Regex(String),
}

/// Which commit messages count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Regular expressions of git.
    pub patterns: Vec<String>,
    /// All of them must match instead of any.
    pub all: bool,
}

/// The configuration.
#[derive(Debug, Clone)]
pub struct Source {
    /// `uri`.
    pub address: Address,
    /// `branch`; the remote's own choice if there is none.
    pub branch: Option<String>,
    /// `private_key`.
    pub key: Option<Key>,
    /// `private_key_user`.
    pub key_user: Option<String>,
    /// `forward_agent`, which is not done here.
    pub forward_agent: bool,
    /// `username` and `password`.
    pub login: Option<(String, Secret<String>)>,
    /// `paths`, empty for all.
    pub paths: Vec<String>,
    /// `ignore_paths`.
    pub ignore_paths: Vec<String>,
    /// `sparse_paths`.
    pub sparse_paths: Vec<String>,
    /// `skip_ssl_verification`.
    pub skip_ssl_verification: bool,
    /// `tag_filter` or `tag_regex`.
    pub tags: Option<TagPattern>,
    /// `tag_behaviour: match_tag_ancestors`.
    pub tag_ancestors: bool,
    /// `fetch_tags`.
    pub fetch_tags: Option<bool>,
    /// `submodule_credentials`.
    pub submodules: Vec<SubmoduleLogin>,
    /// `git_config`.
    pub settings: Vec<Setting>,
    /// `disable_ci_skip`.
    pub disable_ci_skip: bool,
    /// `commit_filter.include`.
    pub include: MessageFilter,
    /// `commit_filter.exclude`.
    pub exclude: MessageFilter,
    /// `version_depth`.
    pub version_depth: usize,
    /// `commit_verification_keys` and what goes with it.
    pub signers: Option<Signers>,
    /// `git_crypt_key`.
    pub crypt_key: Option<Secret<String>>,
    /// `search_remote_refs`.
    pub search_remote_refs: bool,
    /// `debug`.
    pub debug: bool,
}

/// Refuses members that are not among `known`, in the original's words.
pub fn refuse_unknown(object: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), Failure> {
    let unknown: Vec<String> =
        object.keys().filter(|k| !known.contains(&k.as_str())).map(|k| format!("\n{k:?}")).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::Config(format!("Found unknown keys in {place}:{}", unknown.concat())))
}

/// Reads members as leniently as jq's `// default` with `-r` does.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a>(pub Option<&'a Map<String, Value>>);

impl<'a> Members<'a> {
    /// The member, unless it is missing, null or false.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.0?.get(key).filter(|v| !v.is_null() && **v != Value::Bool(false))
    }

    /// Its text; numbers count as text, lists and objects do not.
    pub fn text(&self, key: &str) -> Option<String> {
        scalar(self.get(key)?).filter(|text| !text.is_empty())
    }

    /// Whether it is true, also as text.
    pub fn flag(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Whether it says yes or no, if it says anything.
    pub fn choice(&self, key: &str) -> Option<bool> {
        match scalar(self.0?.get(key)?)?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A whole number of at least `least`.
    pub fn number(&self, key: &str, default: usize, least: usize) -> Result<usize, Failure> {
        let Some(text) = self.text(key) else { return Ok(default) };
        text.parse()
            .ok()
            .filter(|n| *n >= least)
            .ok_or_else(|| Failure::Config(format!("invalid {key}: it must be a whole number of {least} or more")))
    }

    /// A list of texts; a single text counts as a list of one.
    pub fn list(&self, key: &str) -> Result<Vec<String>, Failure> {
        let wrong = || Failure::Config(format!("invalid {key} (expected array of strings)"));
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|v| scalar(v).ok_or_else(wrong)).collect(),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(_) => Err(wrong()),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A name that will stand on git's command line: not an option, and one word.
pub fn word(what: &str, text: String) -> Result<String, Failure> {
    if text.starts_with('-') || text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Failure::Config(format!("{what} must be one word that does not start with a dash")));
    }
    Ok(text)
}

/// The name of a branch or tag, by git's own rules for them.
pub fn ref_name(what: &str, text: String) -> Result<String, Failure> {
    let text = word(what, text)?;
    let wrong = text.contains("..")
        || text.contains("@{")
        || text.contains("//")
        || text.starts_with('/')
        || text.ends_with(['/', '.'])
        || text.contains(['~', '^', ':', '?', '*', '[', '\\']);
    if wrong {
        return Err(Failure::Config(format!("{what} is not a name that git allows: {text}")));
    }
    Ok(text)
}

impl Source {
    /// Reads and checks it.
    pub fn read(object: &Map<String, Value>, allow_local: bool) -> Result<Source, Failure> {
        let m = Members(Some(object));
        for (key, what) in UNSUPPORTED {
            if m.get(key).is_some_and(|v| v.as_array().is_none_or(|items| !items.is_empty())) {
                return Err(Failure::Config(format!(
                    "source.{key}: {what} is not part of the built-in git type; declare the type under resource_types with \
                     the image concourse/git-resource, or start the server with --base-resource-type \
                     git=concourse/git-resource"
                )));
            }
        }
        let filter = Members(m.get("commit_filter").and_then(Value::as_object));
        let messages = |list: &str, all: &str| -> Result<MessageFilter, Failure> {
            let wrong = |_| Failure::Config("invalid commit filter (expected array of strings)".to_owned());
            Ok(MessageFilter { patterns: filter.list(list).map_err(wrong)?, all: filter.flag(all) })
        };
        let mut paths = m.list("paths")?;
        if paths == ["."] {
            paths.clear();
        }
        let mut sparse_paths = m.list("sparse_paths")?;
        if sparse_paths == ["."] {
            sparse_paths.clear();
        }
        let name = |key: &str| m.text(key).map(|t| t.trim_start().to_owned()).filter(|t| !t.is_empty());
        Ok(Source {
            address: Address::parse(&m.text("uri").unwrap_or_default(), allow_local)?,
            branch: name("branch").map(|b| ref_name("source.branch", b)).transpose()?,
            key: key(m)?,
            key_user: m.text("private_key_user").map(|u| word("source.private_key_user", u)).transpose()?,
            forward_agent: m.flag("forward_agent"),
            login: m.text("username").zip(m.text("password")).map(|(user, pass)| (user, Secret::new(pass))),
            paths,
            ignore_paths: m.list("ignore_paths")?,
            sparse_paths,
            skip_ssl_verification: m.flag("skip_ssl_verification"),
            tags: tag_pattern(name("tag_filter"), name("tag_regex"))?,
            tag_ancestors: tag_ancestors(m)?,
            fetch_tags: m.choice("fetch_tags"),
            submodules: submodule_logins(m)?,
            settings: settings(m)?,
            disable_ci_skip: m.flag("disable_ci_skip"),
            include: messages("include", "include_all_match")?,
            exclude: messages("exclude", "exclude_all_match")?,
            version_depth: m.number("version_depth", 1, 1)?,
            signers: Signers::read(m)?,
            crypt_key: signature::crypt_key(m)?,
            search_remote_refs: m.flag("search_remote_refs"),
            debug: m.flag("debug"),
        })
    }

    /// Everything in it that must not be seen.
    pub fn secrets(&self) -> Vec<&Secret<String>> {
        let mut all: Vec<&Secret<String>> = self.address.password.iter().collect();
        all.extend(self.login.iter().map(|(_, password)| password));
        all.extend(&self.crypt_key);
        let keys = self.submodules.iter().filter_map(|login| match login {
            SubmoduleLogin::Url { key, .. } => Some(key),
            SubmoduleLogin::Host { .. } => None,
        });
        for key in self.key.iter().chain(keys) {
            all.push(&key.text);
            all.extend(&key.passphrase);
        }
        all.extend(self.submodules.iter().filter_map(|login| match login {
            SubmoduleLogin::Host { password, .. } => Some(password),
            SubmoduleLogin::Url { .. } => None,
        }));
        all
    }

    /// Whether every commit of the branch is a version.
    pub fn takes_every_commit(&self) -> bool {
        self.paths.is_empty()
            && self.ignore_paths.is_empty()
            && self.tags.is_none()
            && self.include.patterns.is_empty()
            && self.exclude.patterns.is_empty()
    }
}

fn key(m: Members<'_>) -> Result<Option<Key>, Failure> {
    let Some(mut text) = m.text("private_key") else { return Ok(None) };
    if !text.contains("PRIVATE KEY") {
        return Err(Failure::Config("private_key is not a private key in PEM or OpenSSH form".into()));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let passphrase = m.text("private_key_passphrase").map(Secret::new);
    Ok(Some(Key { text: Secret::new(text), passphrase }))
}

fn tag_pattern(glob: Option<String>, regex: Option<String>) -> Result<Option<TagPattern>, Failure> {
    match (glob, regex) {
        (Some(_), Some(_)) => Err(Failure::Config("Cannot provide both tag_filter and tag_regex".into())),
        (Some(glob), None) => Ok(Some(TagPattern::Glob(glob))),
        (None, Some(regex)) => Ok(Some(TagPattern::Regex(regex))),
        (None, None) => Ok(None),
    }
}

fn tag_ancestors(m: Members<'_>) -> Result<bool, Failure> {
    match m.text("tag_behaviour").as_deref() {
        None | Some("match_tagged") => Ok(false),
        Some("match_tag_ancestors") => Ok(true),
        Some(_) => Err(Failure::Config(
            "Invalid tag_behaviour. Must be one of 'match_tagged' or 'match_tag_ancestors'.".into(),
        )),
    }
}

fn submodule_logins(m: Members<'_>) -> Result<Vec<SubmoduleLogin>, Failure> {
    let Some(list) = m.get("submodule_credentials") else { return Ok(Vec::new()) };
    let items: Vec<&Value> = match list {
        Value::Array(items) => items.iter().collect(),
        Value::Object(items) => items.values().collect(),
        _ => return Err(Failure::Config("invalid submodule_credentials (expected a list)".into())),
    };
    let mut logins = Vec::new();
    for item in items {
        let m = Members(item.as_object());
        if let (Some(host), Some(username), Some(password)) = (m.text("host"), m.text("username"), m.text("password")) {
            logins.push(SubmoduleLogin::Host { host, username, password: Secret::new(password) });
        } else if let (Some(url), Some(key)) = (m.text("url"), key(m)?) {
            logins.push(SubmoduleLogin::Url { url, key });
        }
    }
    Ok(logins)
}

fn settings(m: Members<'_>) -> Result<Vec<Setting>, Failure> {
    let Some(list) = m.get("git_config") else { return Ok(Vec::new()) };
    let wrong = || Failure::Config("invalid git_config (expected a list of name and value)".to_owned());
    let read = |item: &Value| {
        let item = Members(item.as_object());
        Setting::checked(&item.text("name").ok_or_else(wrong)?, &item.text("value").unwrap_or_default())
    };
    list.as_array().ok_or_else(wrong)?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(source: Value) -> Result<Source, String> {
        Source::read(source.as_object().unwrap(), true).map_err(|f| f.to_string())
    }

    #[test]
    fn members_are_read_leniently() {
        let s =
            read(json!({"uri": "/r", "branch": 1.5, "paths": ["."], "ignore_paths": "docs", "disable_ci_skip": "true",
            "version_depth": "3", "fetch_tags": false, "tag_filter": null}))
            .unwrap();
        assert_eq!(s.branch.as_deref(), Some("1.5"));
        assert_eq!((s.paths.len(), s.ignore_paths.as_slice()), (0, &["docs".to_owned()][..]));
        assert_eq!((s.disable_ci_skip, s.version_depth, s.fetch_tags), (true, 3, Some(false)));
        assert!(s.tags.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (source, text) in [
            (json!({}), "source.uri is required and must not be empty"),
            (json!({"uri": "/r", "branch": "--upload-pack=x"}), "source.branch must be one word"),
            (json!({"uri": "/r", "branch": "a:b"}), "source.branch is not a name that git allows"),
            (json!({"uri": "/r", "tag_filter": "a", "tag_regex": "b"}), "Cannot provide both tag_filter and tag_regex"),
            (json!({"uri": "/r", "tag_behaviour": "x"}), "Invalid tag_behaviour."),
            (json!({"uri": "/r", "version_depth": 0}), "invalid version_depth"),
            (json!({"uri": "/r", "commit_filter": {"include": 5}}), "invalid commit filter"),
            (json!({"uri": "/r", "https_tunnel": {"proxy_host": "h"}}), "source.https_tunnel: "),
            (json!({"uri": "/r", "git_config": [{"name": "core.sshCommand", "value": "x"}]}), "source.git_config: "),
            (json!({"uri": "/r", "private_key": "oops"}), "private_key is not a private key"),
        ] {
            let err = read(source.clone()).unwrap_err();
            assert!(err.starts_with(text), "{source}: {err}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let s = read(json!({"uri": "https://u:url-pass@h/r", "username": "u", "password": "pass-word",
            "private_key": "-----BEGIN PRIVATE KEY-----\nkey-text\n", "private_key_passphrase": "phrase",
            "submodule_credentials": [{"host": "h", "username": "u", "password": "sub-pass"}]}))
        .unwrap();
        let text = format!("{s:?}");
        for secret in ["url-pass", "pass-word", "key-text", "phrase\"", "sub-pass"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert_eq!(s.secrets().len(), 5);
    }
}
