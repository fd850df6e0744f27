//! Row identifiers as types of their own, so that a job's id cannot be passed for a build's.

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                // Rust would take `+1` too; in an address that is a space and a digit.
                (if s.starts_with('+') { "+" } else { s }).parse().map($name)
            }
        }
    )*};
}

id! {
    /// A row of `teams`.
    TeamId,
    /// A row of `pipelines`.
    PipelineId,
    /// A row of `jobs`.
    JobId,
    /// A row of `resources`.
    ResourceId,
    /// A row of `scopes`: the owner of one version history.
    ScopeId,
    /// A row of `versions`.
    VersionId,
    /// A row of `builds`.
    BuildId,
    /// A row of `artifacts`: an upload, or an output that is kept for download.
    ArtifactId,
}
