//! What the resolver knows of a job and of history, and how it asks for more.
//!
//! History is asked for in pages and only where the resolver has to look, so that its length does not matter:
//! `resolve` answers [`Resolution::Need`], the caller reads that page, tells it with [`Snapshot::learn`] and asks again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::base::id::{BuildId, JobId, ResourceId};
use crate::base::version::Version;

/// An input of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Name of the get step.
    pub name: String,
    /// What it gets.
    pub resource: ResourceId,
    /// Jobs that must have succeeded with the version.
    pub passed: BTreeSet<JobId>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// Whether each version is wanted in turn.
    pub every: bool,
    /// The version it is pinned to by the get step, else by the resource's configuration, else by a person.
    pub pin: Option<Version>,
}

/// A version and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// The version.
    pub version: Version,
    /// Of its canonical JSON.
    pub digest: String,
}

impl From<Version> for Picked {
    fn from(version: Version) -> Self {
        Picked { digest: version.digest(), version }
    }
}

/// Where a succeeded build stands in its job's history. Later is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// To the newest, starting after this one.
    UpAbove(Place),
}

/// A piece of history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Page {
    /// The newest enabled version of a resource. Answer: [`Facts::Version`].
    Latest(ResourceId),
    /// The version after the newest that the job had of a resource. Answer: [`Facts::Every`].
    Every(ResourceId),
    /// The newest version of a resource that has every pair of a pin. Answer: [`Facts::Version`].
    Pinned(ResourceId, Version),
    /// Whether the job ever had that version as that input. Answer: [`Facts::Seen`].
    Seen { input: String, resource: ResourceId, digest: String },
    /// Which upstream builds vouched for the build of this job that had the newest version of a resource.
    /// Answer: [`Facts::LastUsed`].
    LastUsed(ResourceId),
    /// Succeeded builds of a job that hold all of these versions. Answer: [`Facts::Builds`].
    Builds { job: JobId, holding: BTreeSet<(ResourceId, String)>, walk: Walk, limit: usize },
}

/// What was found on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts {
    /// The version, if there is one.
    Version(Option<Picked>),
    /// The version, if there is one, and whether there is another one after it.
    Every(Option<(Picked, bool)>),
    /// Yes or no.
    Seen(bool),
    /// The last place per job, if there was such a build.
    LastUsed(Option<BTreeMap<JobId, Place>>),
    /// The builds in order, and whether there are more.
    Builds { builds: Vec<Vouching>, more: bool },
}

/// A succeeded build with the versions it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouching {
    /// Where it stands.
    pub place: Place,
    /// By resource id; of one resource, what it made before what it was given.
    pub holds: Vec<Held>,
}

/// A version that a build holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What of.
    pub resource: ResourceId,
    /// Which.
    pub picked: Picked,
    /// Whether the resource's present history has it.
    pub known: bool,
    /// Whether it must not be used.
    pub disabled: bool,
}

/// A job's inputs and what is known of history.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The inputs, in the order of the plan.
    pub inputs: Vec<Input>,
    facts: HashMap<Page, Facts>,
}

impl Snapshot {
    /// Knows nothing of history yet.
    pub fn new(inputs: Vec<Input>) -> Self {
        Snapshot { inputs, facts: HashMap::new() }
    }

    /// Takes in a page that was asked for.
    pub fn learn(&mut self, page: Page, facts: Facts) {
        self.facts.insert(page, facts);
    }

    pub(super) fn facts(&self, page: &Page) -> Option<&Facts> {
        self.facts.get(page)
    }
}

/// A version for an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the input.
    pub input: String,
    /// What of.
    pub resource: ResourceId,
    /// Which.
    pub picked: Picked,
    /// Whether the job never had it as this input.
    pub first_occurrence: bool,
    /// Upstream builds that vouch for it.
    pub from_builds: Vec<BuildId>,
}

/// Why there is no version for an input, in Concourse's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// None was found, or all are disabled.
    NoLatest,
    /// None was found, or all are disabled, for an input that wants every version.
    NoVersion,
    /// No version has what the pin says.
    NoPinned(Version),
    /// No builds of the passed jobs go together.
    NoSatisfiableBuilds,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoLatest => f.write_str("latest version of resource not found"),
            Reason::NoVersion => f.write_str("version of resource not found"),
            Reason::NoPinned(pin) => {
                f.write_str("pinned version")?;
                pin.0.iter().try_for_each(|(key, value)| write!(f, " {key}:{value}"))?;
                f.write_str(" not found")
            }
            Reason::NoSatisfiableBuilds => {
                f.write_str("no satisfiable builds from passed jobs found for set of inputs")
            }
        }
    }
}

/// An input without a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Name of the input.
    pub input: String,
    /// What of.
    pub resource: ResourceId,
    /// Why.
    pub reason: Reason,
}

/// What the resolver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Every input has a version.
    Ready {
        /// One for each input.
        chosen: Vec<Chosen>,
        /// Whether after a build with these, there are versions for another at once.
        run_again: bool,
    },
    /// Some have none.
    Missing {
        /// Those that have.
        chosen: Vec<Chosen>,
        /// Those that have not.
        lacking: Vec<Lacking>,
    },
    /// It cannot say without this page.
    Need(Page),
}
