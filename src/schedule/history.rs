//! What the resolver asks of history: page by page, and only where it has to look, so that its length does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::input::Picked;
use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;

/// Where a succeeded build stands in its job's history. Later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The build, or the one it repeats: a rerun of an old build does not become the newest.
    pub origin: BuildId,
    /// The build.
    pub build: BuildId,
}

/// Which way to go through a job's succeeded builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Walk {
    /// From the newest to the oldest.
    Down,
    /// To the oldest, starting with this one.
    DownFrom(Place),
    /// To the oldest, starting before this one.
    DownBelow(Place),
    /// From the newest to the one after this, or from before the first place to the one after the second.
    DownAbove(Option<Place>, Place),
    /// To the newest, starting after this one.
    UpAbove(Place),
}

/// A version that a build holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What of.
    pub resource: ResourceId,
    /// Which.
    pub picked: Arc<Picked>,
    /// Whether the resource's present history has it.
    pub known: bool,
    /// Whether it must not be used.
    pub disabled: bool,
}

/// Versions that builds must hold, by resource and digest.
pub type Holding = BTreeSet<(ResourceId, String)>;

/// A job's succeeded builds, counted as they succeeded, whatever their place: up to which they have been heard of.
pub type Heard = BTreeMap<JobId, i64>;

/// What has happened since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Builds that have succeeded.
    pub builds: Vec<(JobId, Place)>,
    /// Up to which they have been heard of now.
    pub heard: Heard,
}

/// History as one job sees it. Every answer is a few steps down an index.
pub trait History {
    /// What can go wrong.
    type Error;

    /// The newest enabled version of a resource.
    fn latest(&mut self, resource: ResourceId) -> Result<Option<Picked>, Self::Error>;

    /// The enabled version after the newest that the job had of a resource, and whether there is another one after it;
    /// without one, the newest up to there.
    fn every(&mut self, resource: ResourceId) -> Result<Option<(Picked, bool)>, Self::Error>;

    /// The newest version of a resource that has every pair of a pin.
    fn pinned(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<Picked>, Self::Error>;

    /// Whether the job ever had that version as that input.
    fn seen(&mut self, input: &str, resource: ResourceId, digest: &str) -> Result<bool, Self::Error>;

    /// Where the upstream builds stand that vouched for the build of this job with the newest version of a resource;
    /// none if there was no such build.
    fn last_used(&mut self, resource: ResourceId) -> Result<Option<BTreeMap<JobId, Place>>, Self::Error>;

    /// At most so many succeeded builds of a job that hold all of these versions, and whether there are more.
    fn builds(
        &mut self,
        job: JobId,
        holding: &Holding,
        walk: Walk,
        limit: usize,
    ) -> Result<(Vec<Place>, bool), Self::Error>;

    /// What a build holds of the resources of the job's inputs, by resource id; of one resource, what it made before
    /// what it was given.
    fn holds(&mut self, build: BuildId) -> Result<Vec<Held>, Self::Error>;

    /// Which builds have succeeded of these jobs since they were last heard of. A job with a negative count is only
    /// asked how far it is.
    fn news(&mut self, heard: &Heard) -> Result<News, Self::Error>;

    /// Tells apart what versions of these resources could be used: changes when a version can be used that a build had
    /// before it could.
    fn basis(&mut self, resources: &BTreeSet<ResourceId>) -> Result<String, Self::Error>;
}
