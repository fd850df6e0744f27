//! What is told of a commit: the metadata of a version and the files that `get` leaves in `.git`.

use std::path::Path;

use serde_json::{Value, json};

use super::session::Session;
use crate::base::version::MetadataField;
use crate::resource::Failure;

/// The longest message that is shown.
const MESSAGE: usize = 10_240;

/// What git knows of the commit that is checked out.
#[derive(Debug)]
pub struct Commit {
    /// Its whole id.
    pub id: String,
    /// The author's address.
    pub email: String,
    /// The author.
    pub author: String,
    /// All of the message.
    pub message: String,
    fields: Vec<(&'static str, String, Option<&'static str>)>,
}

impl Commit {
    /// Reads it from the repository in `dir`, which came from `origin`.
    pub fn read(session: &mut Session<'_, '_>, dir: &Path, origin: &str) -> Result<Commit, Failure> {
        let format = "--format=format:%H%x00%ae%x00%an%x00%ai%x00%cn%x00%ci%x00%B";
        let log = session.must(&super::session::Call::new(dir, &["log", "-1", format]))?;
        let mut parts = log.splitn(7, '\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (id, email, author, authored) = (next(), next(), next(), next());
        let (committer, committed, message) = (next(), next(), next());
        let heads =
            session.read(dir, &["for-each-ref", "--points-at=HEAD", "--format=%(refname:strip=2)", "refs/heads"])?;
        let tags = session.read(dir, &["tag", "--points-at", "HEAD"])?;
        let mut fields = vec![
            ("commit", id.clone(), None),
            ("author", author.clone(), None),
            ("author_date", authored.clone(), Some("time")),
        ];
        if author == committer && authored == committed {
            fields.push(("committer", committer, None));
            fields.push(("committer_date", committed, Some("time")));
        }
        let mut listed = |name, lines: &str| {
            if !lines.is_empty() {
                fields.push((name, lines.lines().collect::<Vec<_>>().join(","), None));
            }
        };
        listed("branch", &heads);
        listed("tags", &tags);
        fields.push(("message", message[..message.floor_char_boundary(MESSAGE)].to_owned(), Some("message")));
        fields.extend(page(origin, &id).map(|url| ("url", url, None)));
        Ok(Commit { id, email, author, message, fields })
    }

    /// The value of one field, empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(n, ..)| *n == name).map_or("", |(_, value, _)| value)
    }

    /// For the version.
    pub fn metadata(&self) -> Vec<MetadataField> {
        self.fields.iter().map(|(n, value, _)| MetadataField { name: (*n).to_owned(), value: value.clone() }).collect()
    }

    /// For `.git/metadata.json`.
    pub fn to_json(&self) -> Value {
        let field = |(name, value, kind): &(&str, String, Option<&str>)| match kind {
            Some(kind) => json!({"name": name, "value": value, "type": kind}),
            None => json!({"name": name, "value": value}),
        };
        self.fields.iter().map(field).collect()
    }
}

/// The commit's page, where the host is known to have one.
fn page(origin: &str, id: &str) -> Option<String> {
    let strip = |prefix: &str| origin.strip_prefix(prefix);
    let scp = strip("git@");
    let rest = strip("https://").or_else(|| strip("http://")).or_else(|| strip("ssh://git@")).or(scp)?;
    let (host, path) = rest.split_once('/')?;
    let path = path.strip_suffix(".git").unwrap_or(path);
    let (host, path) = match host.split_once(':').filter(|_| scp.is_some()) {
        Some((host, owner)) => (host, format!("{owner}/{path}")),
        None => (host, path.to_owned()),
    };
    let way = if host.contains("github") || host.contains("gogs") {
        "commit"
    } else if host.contains("gitlab") {
        "-/commit"
    } else if host.contains("bitbucket") {
        "commits"
    } else {
        return None;
    };
    Some(format!("https://{host}/{path}/{way}/{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_known_hosts() {
        for (origin, expected) in [
            ("https://github.com/o/r.git", Some("https://github.com/o/r/commit/1")),
            ("git@github.com:o/r.git", Some("https://github.com/o/r/commit/1")),
            ("ssh://git@gitlab.example/o/r", Some("https://gitlab.example/o/r/-/commit/1")),
            ("http://bitbucket.org/o/r", Some("https://bitbucket.org/o/r/commits/1")),
            ("https://example.com/o/r", None),
            ("/var/github/r", None),
        ] {
            assert_eq!(page(origin, "1").as_deref(), expected, "{origin}");
        }
    }
}
