//! How a command fails: what is printed, and the exit code.

use super::client::ApiError;
use super::console::{Console, Style};
use super::prompt::PromptError;
use super::reference::ReferenceError;
use super::target::TargetError;

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Printed after `error: `.
    #[error("{0}")]
    Said(String),
    /// Printed as it is.
    #[error("{0}")]
    Bare(String),
    /// One of the others, and what to do next; `{fly}` in it is this client on this target, `{program}` the client alone.
    #[error("{0}")]
    Then(Box<Failure>, String),
    /// The server refused or could not be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The saved targets are in the way.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A name cannot be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Nobody answered.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The server is of another version.
    #[error(
        "fly version ({client}) is out of sync with the target ({server}). to sync up, run the following:\n\n    {program} -t {target} sync\n"
    )]
    Version {
        /// Ours.
        client: String,
        /// Its.
        server: String,
        /// How we were called.
        program: String,
        /// The target's name.
        target: String,
    },
    /// Output could not be written, or a file not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// A message that follows `error: `.
    pub fn said(text: impl Into<String>) -> Self {
        Failure::Said(text.into())
    }

    /// A message that stands alone.
    pub fn bare(text: impl Into<String>) -> Self {
        Failure::Bare(text.into())
    }

    /// Adds what to do next.
    pub fn then(self, next: &str) -> Self {
        Failure::Then(Box::new(self), next.to_owned())
    }

    /// Adds the command that shows what there is.
    pub fn see(self, command: impl AsRef<str>) -> Self {
        self.then(&format!("see what there is with `{{fly}} {}`", command.as_ref()))
    }

    /// The lines for stderr.
    pub fn text(&self, console: Console, program: &str, target: &str) -> String {
        let text = self.alone(console, program, target);
        let Some(next) = self.next() else { return text };
        let fly = if target.is_empty() { program.to_owned() } else { format!("{program} -t {target}") };
        format!(
            "{text}\nhint: {}",
            next.replace("{fly}", &fly).replace("{program}", program).replace("{target}", target)
        )
    }

    /// What to do about it, where the text does not say.
    fn next(&self) -> Option<String> {
        let next = match self {
            Failure::Then(_, next) => next,
            Failure::Api(ApiError::NotFound(_)) => {
                "see what there is with `{fly} pipelines`; another team than the target's is named with --team"
            }
            Failure::Api(ApiError::Forbidden(_)) => {
                "see your roles with `{fly} userinfo`; an owner of the team can give you another, and \
                 `{fly} login -n TEAM` takes you to another team"
            }
            Failure::Api(ApiError::Unexpected { status, .. }) if status.0.is_server_error() => {
                "the server failed; try again, and if it goes on have its operator look into its log"
            }
            Failure::Api(ApiError::Network { .. } | ApiError::Address(_)) => {
                "see where targets lead with `{program} targets`, and change that with `{fly} edit-target -u URL`"
            }
            Failure::Api(ApiError::Syntax(_)) => {
                "what answered is no Concourse; see where targets lead with `{program} targets`"
            }
            Failure::Target(TargetError::Unknown(_)) => {
                "see those there are with `{program} targets`, or log in with `{fly} login -c (concourse url)`"
            }
            _ => return None,
        };
        Some(next.to_owned())
    }

    fn alone(&self, console: Console, program: &str, target: &str) -> String {
        match self {
            Failure::Then(failure, _) => failure.alone(console, program, target),
            Failure::Api(ApiError::Unauthorized) => format!(
                "not authorized. run the following to log in:\n\n    {}\n",
                console.bold(&format!("{program} -t {target} login"))
            ),
            Failure::Target(TargetError::NotNamed) => format!(
                "no target specified. specify the target with {} or log in like so:\n\n    {}\n",
                console.bold("-t"),
                console.bold(&format!("{program} -t (alias) login -c (concourse url)"))
            ),
            Failure::Version { .. } => format!(
                "{self}\n{}",
                console.paint(Style::Red, "cowardly refusing to run due to significant version discrepancy")
            ),
            Failure::Api(e @ (ApiError::Network { .. } | ApiError::Address(_))) => format!(
                "could not reach the Concourse server called {}:\n\n    {}\n\nis the targeted Concourse running? better go catch it lol",
                console.bold(target),
                console.bold(&e.to_string())
            ),
            Failure::Bare(text) => text.clone(),
            other => format!("error: {other}"),
        }
    }
}

/// What every command returns: its exit code, or why there is none.
pub type Outcome = Result<i32, Failure>;
