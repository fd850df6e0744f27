//! Addresses of pages. Names may hold any character, so every part is percent-encoded here and nowhere else.

use std::fmt::Write;

use serde_json::Value;

/// Which pipeline: team, name and instance variables as stored (canonical JSON or empty).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Team.
    pub team: String,
    /// Pipeline.
    pub pipeline: String,
    /// Canonical JSON of the instance variables, or ''.
    pub vars: String,
}

impl Place {
    /// The pipeline's page.
    pub fn page(&self) -> String {
        self.under("")
    }

    /// A path below the pipeline, its segments encoded by the caller through [`part`].
    pub fn under(&self, rest: &str) -> String {
        let (team, pipeline) = (part(&self.team), part(&self.pipeline));
        let query = self.query();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/teams/{team}/pipelines/{pipeline}{rest}{mark}{query}")
    }

    /// A job's page.
    pub fn job(&self, job: &str) -> String {
        self.under(&format!("/jobs/{}", part(job)))
    }

    /// A build's page.
    pub fn build(&self, job: &str, build: &str) -> String {
        self.under(&format!("/jobs/{}/builds/{}", part(job), part(build)))
    }

    /// A resource's page.
    pub fn resource(&self, resource: &str) -> String {
        self.under(&format!("/resources/{}", part(resource)))
    }

    /// `address` with one more query parameter.
    pub fn with(address: &str, name: &str, value: &str) -> String {
        let mark = if address.contains('?') { '&' } else { '?' };
        format!("{address}{mark}{}={}", part(name), part(value))
    }

    /// The instance variables as `vars.NAME=JSON` parameters, without the question mark.
    fn query(&self) -> String {
        let Ok(Value::Object(vars)) = serde_json::from_str(&self.vars) else { return String::new() };
        let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !vars.keys().all(plain) {
            return format!("vars={}", part(&self.vars));
        }
        let pairs: Vec<String> = vars.iter().map(|(k, v)| format!("vars.{k}={}", part(&v.to_string()))).collect();
        pairs.join("&")
    }

    /// `branch: main, os: linux`, or '' without instance variables.
    pub fn vars_in_words(&self) -> String {
        let Ok(Value::Object(vars)) = serde_json::from_str(&self.vars) else { return String::new() };
        let words: Vec<String> = vars
            .iter()
            .map(|(k, v)| match v {
                Value::String(s) => format!("{k}: {s}"),
                other => format!("{k}: {other}"),
            })
            .collect();
        words.join(", ")
    }
}

/// `text` as one segment of a path or one value of a query.
pub fn part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_any_name() {
        let plain = Place { team: "main".into(), pipeline: "a/b".into(), vars: String::new() };
        assert_eq!(plain.job("ü?"), "/teams/main/pipelines/a%2Fb/jobs/%C3%BC%3F");
        let instance = Place { vars: r#"{"branch":"x y","n":2}"#.into(), ..plain.clone() };
        assert_eq!(instance.page(), "/teams/main/pipelines/a%2Fb?vars.branch=%22x%20y%22&vars.n=2");
        assert_eq!(instance.vars_in_words(), "branch: x y, n: 2");
        let dotted = Place { vars: r#"{"a.b":1}"#.into(), ..plain };
        assert_eq!(dotted.page(), "/teams/main/pipelines/a%2Fb?vars=%7B%22a.b%22%3A1%7D");
        assert_eq!(Place::with("/x?a=1", "from", "7"), "/x?a=1&from=7");
    }
}
