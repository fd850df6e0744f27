//! The process's own log: its format, and its level, which an administrator can change while it runs.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config::LogFormat;
use crate::front::LogLevel;

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log of this process; a second call only changes the level.
pub fn start(format: LogFormat, level: &str) -> Result<LogLevel, String> {
    let filter = filter(level)?;
    let (filter, handle) = reload::Layer::new(filter);
    // Colour is for eyes: not for files, journals and those who asked for none.
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(coloured);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Human => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() {
        let _ = HANDLE.set(handle);
    }
    Ok(LogLevel::new(level, |level| {
        let filter = filter_of(level)?;
        match HANDLE.get() {
            Some(handle) => handle.reload(filter).map_err(|e| e.to_string()),
            None => Ok(()),
        }
    }))
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    filter_of(level).map_err(|e| format!("log level {level:?}: {e}; use debug, info, warn or error"))
}

/// Concourse's words are accepted too: it has `fatal`, which is less than any error here.
fn filter_of(level: &str) -> Result<EnvFilter, String> {
    let level = if level == "fatal" { "error" } else { level };
    EnvFilter::builder().parse(level).map_err(|e| e.to_string())
}
