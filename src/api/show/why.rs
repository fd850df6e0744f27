//! Why something waits: a field of our own beside those of Concourse.

use serde::Serialize;

use super::seconds;
use crate::store::show::why::{About, Why};

/// One reason.
#[derive(Debug, Serialize)]
pub struct WhyJson {
    about: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    moved_by: String,
}

impl From<Why> for WhyJson {
    fn from(why: Why) -> Self {
        let about = match why.about {
            About::Pipeline => "pipeline".to_owned(),
            About::Job(name) => format!("job {name}"),
            About::Input { input, .. } => format!("input {input}"),
            About::Resource(name) => format!("resource {name}"),
            About::Build { job, build } => format!("build {job}/{build}"),
        };
        WhyJson { about, text: why.text, since: seconds(why.since), moved_by: why.moved_by }
    }
}

/// Many.
pub fn all(whys: Vec<Why>) -> Vec<WhyJson> {
    whys.into_iter().map(WhyJson::from).collect()
}
