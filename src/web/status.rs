//! A build's status as pages show it: word, CSS class, rank when several are summed up.

/// What a build, or a job by its newest build, has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Status {
    /// There was no build yet.
    #[default]
    None,
    /// Ended well.
    Succeeded,
    /// Stopped by a person.
    Aborted,
    /// Could not be carried out.
    Errored,
    /// A step said no.
    Failed,
    /// Waits to start.
    Pending,
    /// Runs.
    Started,
}

impl Status {
    /// From the word in the store and the API.
    pub fn parse(word: &str) -> Status {
        match word {
            "pending" => Status::Pending,
            "started" => Status::Started,
            "succeeded" => Status::Succeeded,
            "failed" => Status::Failed,
            "errored" => Status::Errored,
            "aborted" => Status::Aborted,
            _ => Status::None,
        }
    }

    /// The word a reader sees.
    pub fn word(self) -> &'static str {
        match self {
            Status::None => "no builds yet",
            Status::Pending => "pending",
            Status::Started => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Errored => "errored",
            Status::Aborted => "aborted",
        }
    }

    /// The CSS class that colours it.
    pub fn class(self) -> &'static str {
        match self {
            Status::None => "s-none",
            Status::Pending => "s-pending",
            Status::Started => "s-started",
            Status::Succeeded => "s-succeeded",
            Status::Failed => "s-failed",
            Status::Errored => "s-errored",
            Status::Aborted => "s-aborted",
        }
    }

    /// Whether it will not change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Status::None | Status::Pending | Status::Started)
    }

    /// The sum over a pipeline's jobs: failed before errored before aborted before succeeded.
    pub fn worst(all: impl IntoIterator<Item = Status>) -> Status {
        all.into_iter().max().unwrap_or_default()
    }
}
