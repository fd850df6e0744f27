//! What can be asked of one team: its pipelines, jobs, resources, builds and containers.

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Answer, ApiError, Call, Client, Found};
use super::reference::{JobRef, PipelineRef, ResourceRef};
use super::shapes::{Build, Job, Pipeline, ResourceVersion};

/// A team of one server.
#[derive(Clone)]
pub struct Team<'a> {
    /// The connection.
    pub client: &'a Client,
    /// The team's name.
    pub name: String,
}

/// A part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// From this id or time on.
    pub from: Option<i64>,
    /// Up to this id or time.
    pub to: Option<i64>,
    /// At most so many.
    pub limit: Option<i64>,
    /// Whether `from` and `to` are times.
    pub timestamps: bool,
}

impl Page {
    /// Adds the parameters to `call`.
    pub fn on<'a>(&self, mut call: Call<'a>) -> Call<'a> {
        for (name, value) in [("from", self.from), ("limit", self.limit), ("to", self.to)] {
            if let Some(value) = value.filter(|v| *v > 0) {
                call = call.query(name, &value.to_string());
            }
        }
        if self.timestamps { call.query("timestamps", "true") } else { call }
    }
}

impl Team<'_> {
    /// A call on the team itself.
    pub fn call(&self, method: Method, rest: &[&str]) -> Call<'_> {
        let path = [&["teams", self.name.as_str()], rest].concat();
        self.client.call(method, &path)
    }

    /// A call on one of its pipelines.
    pub fn on_pipeline(&self, method: Method, pipeline: &PipelineRef, rest: &[&str]) -> Call<'_> {
        let path = [&["pipelines", pipeline.name.as_str()], rest].concat();
        self.call(method, &path).of(pipeline)
    }

    /// A call on a job.
    pub fn on_job(&self, method: Method, job: &JobRef, rest: &[&str]) -> Call<'_> {
        let path = [&["jobs", job.name.as_str()], rest].concat();
        self.on_pipeline(method, &job.pipeline, &path)
    }

    /// A call on a resource.
    pub fn on_resource(&self, method: Method, resource: &ResourceRef, rest: &[&str]) -> Call<'_> {
        let path = [&["resources", resource.name.as_str()], rest].concat();
        self.on_pipeline(method, &resource.pipeline, &path)
    }

    /// Its pipelines.
    pub async fn pipelines(&self) -> Result<Vec<Pipeline>, ApiError> {
        list(self.call(Method::GET, &["pipelines"])).await
    }

    /// One pipeline.
    pub async fn pipeline(&self, pipeline: &PipelineRef) -> Result<Option<Pipeline>, ApiError> {
        self.on_pipeline(Method::GET, pipeline, &[]).fetch().await.found()
    }

    /// Does `verb` (`pause`, `expose` …) to a pipeline; `false` if there is none.
    pub async fn change_pipeline(&self, pipeline: &PipelineRef, verb: &str) -> Result<bool, ApiError> {
        Ok(self.on_pipeline(Method::PUT, pipeline, &[verb]).done().await.found()?.is_some())
    }

    /// A pipeline's configuration and its version.
    pub async fn config(&self, pipeline: &PipelineRef) -> Result<Option<(Value, String)>, ApiError> {
        let Some(answer) = self.on_pipeline(Method::GET, pipeline, &["config"]).send().await?.success().found()? else {
            return Ok(None);
        };
        let version = answer.header("x-concourse-config-version").unwrap_or_default().to_owned();
        let mut body: Value = serde_json::from_slice(&answer.body)?;
        Ok(Some((body["config"].take(), version)))
    }

    /// Saves a configuration over the given version of it.
    pub async fn save_config(
        &self,
        pipeline: &PipelineRef,
        version: &str,
        yaml: String,
        check_creds: bool,
    ) -> Result<Answer, ApiError> {
        let mut call = self.on_pipeline(Method::PUT, pipeline, &["config"]).body("application/x-yaml", yaml);
        if check_creds {
            call = call.query("check_creds", "");
        }
        call.header("x-concourse-config-version", version).send().await
    }

    /// Does `verb` to a job; `false` if there is none.
    pub async fn change_job(&self, job: &JobRef, verb: &str) -> Result<bool, ApiError> {
        Ok(self.on_job(Method::PUT, job, &[verb]).done().await.found()?.is_some())
    }

    /// A job.
    pub async fn job(&self, job: &JobRef) -> Result<Option<Job>, ApiError> {
        self.on_job(Method::GET, job, &[]).fetch().await.found()
    }

    /// A build of a job.
    pub async fn job_build(&self, job: &JobRef, number: &str) -> Result<Option<Build>, ApiError> {
        self.on_job(Method::GET, job, &["builds", number]).fetch().await.found()
    }

    /// The versions of a resource that have all these fields; `None` without the resource.
    pub async fn versions(
        &self,
        resource: &ResourceRef,
        fields: &serde_json::Map<String, Value>,
    ) -> Result<Option<Vec<ResourceVersion>>, ApiError> {
        let mut call = self.on_resource(Method::GET, resource, &["versions"]);
        for (key, value) in fields {
            call = call.query("filter", &format!("{key}:{}", value.as_str().unwrap_or_default()));
        }
        list(call).await.found()
    }

    /// Starts a check of what `kind` (`resources`, `resource-types`) calls `of`; `None` if there is none.
    pub async fn check(
        &self,
        kind: &str,
        of: &ResourceRef,
        from: Option<Value>,
        shallow: bool,
    ) -> Result<Option<Build>, ApiError> {
        let call = self.on_pipeline(Method::POST, &of.pipeline, &[kind, &of.name, "check"]);
        call.json(&json!({"from": from, "shallow": shallow})).fetch().await.found()
    }
}

/// Fetches a list; `null` is an empty one.
pub async fn list<T: serde::de::DeserializeOwned>(call: Call<'_>) -> Result<Vec<T>, ApiError> {
    Ok(call.fetch::<Option<Vec<T>>>().await?.unwrap_or_default())
}

/// Fetches a part of a list, and says up to which id the next older part goes.
pub async fn one_page<T: serde::de::DeserializeOwned>(call: Call<'_>) -> Result<(Vec<T>, Option<i64>), ApiError> {
    let answer = call.send().await?.success()?;
    let links = answer.headers.get_all("link").iter().filter_map(|v| v.to_str().ok());
    let older = links.filter(|link| link.contains("rel=\"next\"")).find_map(|link| {
        let url = link.trim_start_matches('<').split('>').next()?;
        let url = reqwest::Url::parse(url).ok()?;
        url.query_pairs().find(|(name, _)| name == "to")?.1.parse().ok()
    });
    let rows: Option<Vec<T>> = serde_json::from_slice(&answer.body)?;
    Ok((rows.unwrap_or_default(), older))
}
