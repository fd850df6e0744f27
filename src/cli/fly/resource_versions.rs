//! `resource-versions`.

use reqwest::Method;
use serde_json::Value;

use super::client::{ApiError, Found};
use super::failure::Outcome;
use super::number::integer;
use super::reference::ResourceRef;
use super::shapes::{ResourceVersion, present_version};
use super::table::{Cell, Table};
use super::team::Page;
use super::{Fly, printed};

/// Arguments of `resource-versions`.
#[derive(Debug, Clone, clap::Args)]
pub struct ResourceVersions {
    /// Number of builds you want to limit the return to
    #[arg(short, long, default_value_t = 50, value_parser = integer)]
    count: i64,
    /// Name of a resource to get versions for
    #[arg(short, long, value_name = "PIPELINE/RESOURCE")]
    resource: ResourceRef,
    /// Print command result as JSON
    #[arg(long)]
    json: bool,
    /// Name of the team to which the pipeline belongs, if different from the target default
    #[arg(long)]
    team: Option<String>,
}

impl ResourceVersions {
    /// Lists them, newest first.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let team = session.team(self.team.as_deref()).await?;
        let page = Page { limit: Some(self.count), ..Page::default() };
        let call = page.on(team.on_resource(Method::GET, &self.resource, &["versions"]));
        let answer: Value = call.fetch().await.found()?.unwrap_or_default();
        if self.json {
            return fly.json_of(printed::RESOURCE_VERSION, &answer);
        }
        let versions: Option<Vec<ResourceVersion>> = serde_json::from_value(answer).map_err(ApiError::from)?;
        if self.count < 0 {
            return fly.refuse_count(self.count);
        }
        let mut table = Table::new(["id", "version", "enabled"]);
        for version in versions.unwrap_or_default().into_iter().take(usize::try_from(self.count).unwrap_or(0)) {
            let fields = present_version(&version.version);
            table.push(vec![Cell::from(version.id), Cell::from(fields), Cell::yes_no(version.enabled)]);
        }
        fly.table(&table)
    }
}
