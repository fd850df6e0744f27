//! `curl`: calls curl with the target's address and token.

use reqwest::Url;

use super::Fly;
use super::failure::{Failure, Outcome};

/// Arguments of `curl`.
#[derive(Debug, Clone, clap::Args)]
pub struct Curl {
    /// Print curl command and exit
    #[arg(long)]
    print_and_exit: bool,
    /// Path, with query parameters as in path?key=value
    #[arg(value_name = "PATH")]
    path: String,
    /// Flags for curl, after --
    #[arg(value_name = "CURL FLAGS")]
    rest: Vec<String>,
}

impl Curl {
    /// Runs it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let token = session.target.token.clone().unwrap_or_default();
        let header = format!("Authorization: {} {}", token.kind, token.value);
        let url = full_url(session.client.url(), &self.path)?;
        let args = [vec!["-H".to_owned(), header], self.rest, vec![url]].concat();
        if self.print_and_exit {
            let shown: Vec<String> =
                args.into_iter().map(|a| if a.contains(' ') { format!("\"{a}\"") } else { a }).collect();
            return fly.say(format!("curl {}", shown.join(" ")));
        }
        let status = std::process::Command::new("curl").args(args).status();
        let status = status.map_err(|e| Failure::said(format!("exec: \"curl\": {e}")))?;
        if status.success() {
            return Ok(0);
        }
        Err(Failure::said(status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))))
    }
}

/// The server's address with this path and query in place of its own, escaped as Go does it.
fn full_url(host: &str, given: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::said(format!("parse {given:?}: {why}"));
    let mut origin = Url::parse(host).map_err(|e| wrong(&e.to_string()))?;
    origin.set_path("");
    let origin = origin.as_str().trim_end_matches('/');
    if given.bytes().any(|b| b.is_ascii_control()) {
        return Err(wrong("net/url: invalid control character in URL"));
    }
    let given_path = given.split('#').next().unwrap_or_default();
    let (path, query) = given_path.split_once('?').unwrap_or((given_path, ""));
    let path = without_host(path).ok_or_else(|| wrong("first path segment in URL cannot contain colon"))?;
    let path = unescaped(path).map_err(|part| wrong(&format!("invalid URL escape {part:?}")))?;
    let slash = if path.is_empty() || path.starts_with(b"/") { "" } else { "/" };
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    Ok(format!("{origin}{slash}{}{query}", escaped(&path)))
}

/// The path of what may be a whole address.
fn without_host(path: &str) -> Option<&str> {
    let scheme = path.split_once(':').filter(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    let (is_whole, rest) = scheme.map_or((false, path), |(_, rest)| (true, rest));
    match rest.strip_prefix("//") {
        Some(rest) => Some(rest.find('/').map_or("", |at| &rest[at..])),
        // What follows a scheme alone is no path.
        None if is_whole && !rest.starts_with('/') => Some(""),
        None if !is_whole && rest.split('/').next().is_some_and(|first| first.contains(':')) => None,
        None => Some(rest),
    }
}

fn unescaped(text: &str) -> Result<Vec<u8>, &str> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend(rest[..at].bytes());
        let code = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let end = rest.char_indices().map(|(i, _)| i).find(|i| *i >= at + 3).unwrap_or(rest.len());
        bytes.push(code.ok_or(&rest[at..end])?);
        rest = &rest[at + 3..];
    }
    bytes.extend(rest.bytes());
    Ok(bytes)
}

fn escaped(path: &[u8]) -> String {
    let escape = |b: &u8| match b {
        b if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(b) => char::from(*b).to_string(),
        b => format!("%{b:02X}"),
    };
    path.iter().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_gos() {
        for (given, url) in [
            ("", ""),
            ("api/v1/info", "/api/v1/info"),
            ("/api/v1/teams/a b/pipelines", "/api/v1/teams/a%20b/pipelines"),
            ("/a%20b%2Fc?d=e f#g", "/a%20b/c?d=e f"),
            ("/x(1)!*'[é]", "/x%281%29%21%2A%27%5B%C3%A9%5D"),
            ("/$&+,:;=@~", "/$&+,:;=@~"),
            ("http://other/b?c", "/b?c"),
            ("//other/b", "/b"),
            ("?a=b", "?a=b"),
        ] {
            assert_eq!(full_url("http://ci:8080/prefix", given).unwrap(), format!("http://ci:8080{url}"), "{given}");
        }
        for (given, why) in
            [("1:2/x", "first path"), ("/a%zz", "invalid URL escape \"%zz\""), ("/a\nb", "control character")]
        {
            assert!(full_url("http://ci", given).unwrap_err().to_string().contains(why), "{given}");
        }
    }
}
