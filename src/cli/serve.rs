//! `whistlestop serve`

use clap::ArgMatches;

use crate::server::compose::Seams;
use crate::server::{self, Serve};

/// Serves until a signal.
pub fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let settings = Serve::complete(matches, |name| std::env::var(name).ok())?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(server::run(settings, Seams::default()));
    // Blocking work that does not end, such as a git server that does not answer, must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}
