//! Names of repositories, read as `docker` and Concourse's registry-image type read them.

use std::fmt;

use super::{Error, Result};

/// The registry that a name without a host is in.
const DEFAULT: &str = "index.docker.io";

/// A repository in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `host` or `host:port`.
    pub host: String,
    /// The name there.
    pub name: String,
}

impl Repository {
    /// Reads `busybox`, `concourse/git-resource`, `ghcr.io/a/b`, `127.0.0.1:5000/a`.
    pub fn parse(text: &str) -> Result<Repository> {
        let text = text.trim();
        let invalid = |why: &str| Error::Invalid(format!("source.repository {text:?} {why}"));
        if text.is_empty() {
            return Err(Error::Invalid("the source has no repository: add source.repository".to_owned()));
        }
        if text.contains("://") {
            return Err(invalid("must not begin with a scheme: write it as host/name"));
        }
        let (host, name) = match text.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DEFAULT, text),
        };
        let host = if host == "docker.io" { DEFAULT } else { host };
        let library = host == DEFAULT && !name.contains('/');
        let name = if library { format!("library/{name}") } else { name.to_owned() };
        if name.contains(['@', ':']) {
            return Err(invalid("must be without tag and digest: put the tag into source.tag"));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
        if !name.chars().all(plain) || name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            return Err(invalid("can only contain lower-case letters, digits and _ - . /"));
        }
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:[]".contains(c)) {
            return Err(invalid("names no host"));
        }
        Ok(Repository { host: host.to_owned(), name })
    }

    /// The same name at another host, which may be written with a scheme.
    pub fn at(&self, host: &str) -> Repository {
        let host = host.split_once("://").map_or(host, |(_, host)| host).trim_end_matches('/');
        Repository { host: host.to_owned(), name: self.name.clone() }
    }

    /// Whether it is in the registry that a mirror may stand for.
    pub fn is_default(&self) -> bool {
        self.host == DEFAULT
    }

    /// Whether it is so near that it may be spoken to without TLS: this host, or a network of one's own.
    pub fn is_near(&self) -> bool {
        let host = match self.host.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
            _ => &self.host,
        };
        if host == "localhost" || host.ends_with(".local") || host.ends_with(".localhost") {
            return true;
        }
        match host.trim_matches(['[', ']']).parse() {
            Ok(std::net::IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private(),
            Ok(std::net::IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unique_local(),
            Err(_) => false,
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, host, name) in [
            ("busybox", "index.docker.io", "library/busybox"),
            ("docker.io/busybox", "index.docker.io", "library/busybox"),
            ("concourse/git-resource", "index.docker.io", "concourse/git-resource"),
            ("ghcr.io/a/b", "ghcr.io", "a/b"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000", "a"),
            ("localhost/a", "localhost", "a"),
        ] {
            let read = Repository::parse(text).unwrap();
            assert_eq!((read.host.as_str(), read.name.as_str()), (host, name), "{text}");
        }
        for (text, why) in [
            ("", "add source.repository"),
            ("busybox:1", "source.tag"),
            ("https://ghcr.io/a", "scheme"),
            ("Upper", "lower-case"),
            ("a//b", "lower-case"),
            ("ghcr.io/../b", "lower-case"),
        ] {
            assert!(Repository::parse(text).unwrap_err().to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn only_near_registries_go_without_tls() {
        let near = |text: &str| Repository::parse(text).unwrap().is_near();
        assert!(near("127.0.0.1:5000/a") && near("localhost:1/a") && near("10.1.2.3/a") && near("ci.local/a"));
        assert!(!near("ghcr.io/a") && !near("8.8.8.8:5000/a") && !near("a"));
    }
}
