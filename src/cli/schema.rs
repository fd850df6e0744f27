//! `whistlestop schema`: what editors need to complete and check pipelines and tasks.

use super::said;
use crate::pipeline::schema;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Schema {
    /// The schema of task files
    #[arg(long)]
    task: bool,
}

impl Schema {
    /// Prints the JSON Schema.
    pub fn run(&self) -> anyhow::Result<i32> {
        let schema = if self.task { schema::task() } else { schema::pipeline() };
        let text = serde_json::to_string_pretty(&schema)?;
        said::line(&text)?;
        Ok(0)
    }
}
