//! Where a repository is: what is allowed as an address, and the password in it kept apart from the rest.

use crate::base::secret::Secret;
use crate::resource::Failure;

/// The flag that lets addresses name files of the server.
pub const LOCAL_FLAG: &str = "--allow-local-git";

/// How git reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `http://` or `https://`.
    Http,
    /// `ssh://` or `user@host:path`.
    Ssh,
    /// `git://`.
    Daemon,
    /// `file://` or a path.
    Local,
}

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// For git's command line: without user and password where they are for HTTP.
    pub url: String,
    /// `host` or `host:port`.
    pub host: Option<String>,
    /// How git reaches it.
    pub transport: Transport,
    /// The user named in it, for HTTP.
    pub user: Option<String>,
    /// The password named in it, for HTTP.
    pub password: Option<Secret<String>>,
}

impl Address {
    /// Reads and checks `source.uri`. Errors never repeat it, since it may hold a password.
    pub fn parse(uri: &str, allow_local: bool) -> Result<Address, Failure> {
        let uri = uri.trim();
        if uri.is_empty() {
            return Err(Failure::Config("source.uri is required and must not be empty".into()));
        }
        if uri.starts_with('-') || uri.chars().any(char::is_control) {
            return Err(Failure::Config("source.uri must not start with a dash or hold control characters".into()));
        }
        let plain = |transport, host| Address { url: uri.to_owned(), host, transport, user: None, password: None };
        let address = match uri.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                scheme @ ("http" | "https") => http(scheme, rest),
                "ssh" | "git+ssh" | "ssh+git" => plain(Transport::Ssh, Some(host(rest))),
                "git" => plain(Transport::Daemon, Some(host(rest))),
                "file" => plain(Transport::Local, None),
                _ => return Err(unknown()),
            },
            // `ext::sh -c …` and the like would run programs.
            None if uri.split('/').next().is_some_and(|first| first.contains("::")) => return Err(unknown()),
            None => match uri.split_once(':').filter(|(before, _)| !before.contains('/')) {
                Some((before, _)) => plain(Transport::Ssh, Some(host(before))),
                None => plain(Transport::Local, None),
            },
        };
        if address.host.as_deref().is_some_and(|host| host.is_empty() || host.starts_with('-')) {
            return Err(Failure::Config("source.uri names no host".into()));
        }
        if address.transport == Transport::Local && !allow_local {
            return Err(Failure::Config(format!(
                "source.uri names a place on this machine: use https://, ssh:// or git@host:path, or have the operator \
                 start the server with {LOCAL_FLAG}"
            )));
        }
        Ok(address)
    }
}

fn unknown() -> Failure {
    Failure::Config(
        "source.uri has a transport that is not supported: use https://, http://, ssh:// or git@host:path".into(),
    )
}

fn http(scheme: &str, rest: &str) -> Address {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
    let (user, password) = match login {
        None => (None, None),
        Some(login) => match login.split_once(':') {
            Some((user, password)) => (Some(decode(user)), Some(Secret::new(decode(password)))),
            None => (Some(decode(login)), None),
        },
    };
    let url = format!("{scheme}://{host}{path}");
    Address { url, host: Some(host.to_ascii_lowercase()), transport: Transport::Http, user, password }
}

fn host(rest: &str) -> String {
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase()
}

/// The text that percent signs stand for.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes for the user or password of a URL.
pub fn encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        use Transport::{Daemon, Http, Local, Ssh};
        for (uri, url, host, transport) in [
            ("https://h.example/o/r.git", "https://h.example/o/r.git", Some("h.example"), Http),
            (" HTTP://u:p%40@H:81/r", "http://H:81/r", Some("h:81"), Http),
            ("ssh://git@h:22/r", "ssh://git@h:22/r", Some("h:22"), Ssh),
            ("git@h:o/r.git", "git@h:o/r.git", Some("h"), Ssh),
            ("git://h/r", "git://h/r", Some("h"), Daemon),
            ("file:///r", "file:///r", None, Local),
            ("/r", "/r", None, Local),
            ("./a:b", "./a:b", None, Local),
        ] {
            let a = Address::parse(uri, true).unwrap();
            assert_eq!((a.url.as_str(), a.host.as_deref(), a.transport), (url, host, transport), "{uri}");
        }
        let a = Address::parse("https://me:s%20x@h/r", false).unwrap();
        assert_eq!((a.user.as_deref(), a.password), (Some("me"), Some(Secret::new("s x".to_owned()))));
    }

    #[test]
    fn refused() {
        for uri in
            ["", "-x", "--upload-pack=x", "ext::sh -c x", "ftp://h/r", "ssh://-oProxyCommand=x/r", "https:///r", "a\nb"]
        {
            assert!(Address::parse(uri, true).is_err(), "{uri}");
        }
        for uri in ["file:///r", "/r", "r"] {
            let err = Address::parse(uri, false).unwrap_err().to_string();
            assert!(err.contains("--allow-local-git"), "{err}");
        }
    }

    proptest! {
        #[test]
        fn a_password_survives_encoding(text in ".*") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }
    }
}
