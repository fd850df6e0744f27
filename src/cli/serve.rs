//! `whistlestop serve`

use clap::ArgMatches;

use crate::runtime::descriptors;
use crate::server::compose::Seams;
use crate::server::config::is_own;
use crate::server::{self, Serve, foreign_flags};

/// Serves until a signal. `dropped` are flags of Concourse's that were given and have no effect here.
pub fn run(matches: &ArgMatches, dropped: &[String]) -> anyhow::Result<()> {
    descriptors::raise();
    let mut settings = Serve::complete(matches, |name| std::env::var(name).ok())?;
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    settings.notice = foreign_flags::notice(dropped, set.filter_map(|(name, _)| name.into_string().ok()), is_own);
    let runtime = super::runtime()?;
    let result = runtime.block_on(server::run(settings, Seams::default()));
    // Blocking work that does not end, such as a git server that does not answer, must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
