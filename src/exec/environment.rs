//! What a build is, and the environment variables that scripts get of it (`atc/exec/step_metadata.go`).

use serde::{Deserialize, Serialize};

use crate::base::clock::Time;

/// Who and what a build is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BuildEnv {
    /// What names of its containers and volumes begin with: unique in the installation.
    pub owner: String,
    /// Row, or 0 for a check that has none.
    pub build_id: i64,
    /// `7`, `7.1` or `check`.
    pub build_name: String,
    /// Team's row.
    pub team_id: i64,
    /// Team.
    pub team: String,
    /// Pipeline's row, 0 for one-off builds.
    pub pipeline_id: i64,
    /// Pipeline, if any.
    pub pipeline: String,
    /// Canonical JSON of its instance variables, or empty.
    pub instance_vars: String,
    /// Job's row, 0 for checks and one-off builds.
    pub job_id: i64,
    /// Job, if any.
    pub job: String,
    /// Who started it.
    pub created_by: String,
    /// When it started; none for a check that has no row.
    pub started: Option<Time>,
    /// The server's address.
    pub external_url: String,
    /// `http_proxy=…` and the like, as the operator has set them.
    pub proxies: Vec<String>,
}

impl BuildEnv {
    /// For tasks: only where the server is, and how the network is reached.
    pub fn for_task(&self) -> Vec<String> {
        [&self.proxies[..], &[format!("ATC_EXTERNAL_URL={}", self.external_url)]].concat()
    }

    /// For check, get and put; what is empty is left out. `status` inside the hook of that name, `created_by` where the
    /// resource may know it.
    pub fn for_resource(&self, status: Option<&str>, created_by: bool) -> Vec<String> {
        let number = |n: i64| if n == 0 { String::new() } else { n.to_string() };
        let short = (self.build_id != 0).then(|| format!("{}/builds/{}", self.external_url, self.build_id));
        let url = (!self.job.is_empty()).then(|| {
            let vars = if self.instance_vars.is_empty() {
                String::new()
            } else {
                format!("?vars={}", percent(&self.instance_vars))
            };
            format!(
                "{}/teams/{}/pipelines/{}/jobs/{}/builds/{}{vars}",
                self.external_url,
                percent(&self.team),
                percent(&self.pipeline),
                percent(&self.job),
                self.build_name
            )
        });
        let pairs = [
            ("BUILD_ID", number(self.build_id)),
            ("BUILD_NAME", self.build_name.clone()),
            ("BUILD_TEAM_ID", number(self.team_id)),
            ("BUILD_TEAM_NAME", self.team.clone()),
            ("BUILD_JOB_ID", number(self.job_id)),
            ("BUILD_JOB_NAME", self.job.clone()),
            ("BUILD_PIPELINE_ID", number(self.pipeline_id)),
            ("BUILD_PIPELINE_NAME", self.pipeline.clone()),
            ("BUILD_PIPELINE_INSTANCE_VARS", self.instance_vars.clone()),
            ("ATC_EXTERNAL_URL", self.external_url.clone()),
            ("BUILD_URL", url.or_else(|| short.clone()).unwrap_or_default()),
            ("BUILD_URL_SHORT", short.unwrap_or_default()),
            ("BUILD_STATUS", status.unwrap_or_default().to_owned()),
            ("BUILD_CREATED_BY", if created_by { self.created_by.clone() } else { String::new() }),
        ];
        let told = pairs.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={v}"));
        self.proxies.iter().cloned().chain(told).collect()
    }
}

/// Percent-encodes what may not stand in one segment of a path.
fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out() {
        let env = BuildEnv {
            build_id: 7,
            build_name: "3".into(),
            team_id: 1,
            team: "main".into(),
            external_url: "http://x".into(),
            ..BuildEnv::default()
        };
        assert_eq!(
            env.for_resource(Some("failed"), true),
            [
                "BUILD_ID=7",
                "BUILD_NAME=3",
                "BUILD_TEAM_ID=1",
                "BUILD_TEAM_NAME=main",
                "ATC_EXTERNAL_URL=http://x",
                "BUILD_URL=http://x/builds/7",
                "BUILD_URL_SHORT=http://x/builds/7",
                "BUILD_STATUS=failed"
            ]
        );
    }

    #[test]
    fn everybody_is_told_of_the_proxies() {
        let env = BuildEnv { proxies: vec!["no_proxy=a,b".into()], external_url: "x".into(), ..BuildEnv::default() };
        assert_eq!(env.for_task(), ["no_proxy=a,b", "ATC_EXTERNAL_URL=x"]);
        assert_eq!(env.for_resource(None, false), ["no_proxy=a,b", "ATC_EXTERNAL_URL=x"]);
    }

    #[test]
    fn a_job_has_an_address() {
        let env = BuildEnv {
            build_id: 7,
            build_name: "3".into(),
            team: "a b".into(),
            pipeline: "p".into(),
            job: "j".into(),
            external_url: "http://x".into(),
            ..BuildEnv::default()
        };
        assert!(
            env.for_resource(None, false)
                .contains(&"BUILD_URL=http://x/teams/a%20b/pipelines/p/jobs/j/builds/3".into())
        );
    }
}
