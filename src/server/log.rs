//! The process's own log: its format, and its level, which an administrator can change while it runs.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config::LogFormat;
use crate::base::secret::redact_everything;
use crate::front::LogLevel;

/// The target of what is written whatever the level: what to do where nobody can use the server.
pub const ALWAYS: &str = "whistlestop::first_start";

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log of this process; a second call only changes the level.
pub fn start(format: LogFormat, level: &str) -> Result<LogLevel, String> {
    let filter = filter(level)?;
    let (filter, handle) = reload::Layer::new(filter);
    // Colour is for eyes: not for files, journals and those who asked for none.
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let layer = fmt::layer().with_writer(|| Without(std::io::stderr())).with_ansi(coloured);
    hide_in_panics();
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Human => registry.with(layer.with_target(false).with_filter(filter_fn(may_tell))).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_filter(filter_fn(may_tell))).try_init(),
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

/// The finest lines of libraries hold whole requests and answers, and so secrets that no build knows yet: whatever the
/// level, they are not written.
fn may_tell(about: &tracing::Metadata<'_>) -> bool {
    is_harmless(about.target(), about.level())
}

fn is_harmless(target: &str, level: &Level) -> bool {
    *level <= Level::INFO || target.split("::").next() == Some(env!("CARGO_CRATE_NAME")) || target == "audit"
}

/// Takes out of each line whatever a build of this process knows to be a secret.
struct Without(std::io::Stderr);

impl std::io::Write for Without {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(redact_everything(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// The words of a panic may hold what a step was about: they are redacted too.
fn hide_in_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic_text(panic);
            match redact_everything(&text) {
                hidden if hidden == text => usual(panic),
                hidden => drop(writeln!(std::io::stderr(), "{hidden}")),
            }
        }));
    });
}

fn panic_text(panic: &std::panic::PanicHookInfo<'_>) -> String {
    let name = std::thread::current().name().unwrap_or("without a name").to_owned();
    format!("thread {name}: {panic}")
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    filter_of(level).map_err(|e| format!("log level {level:?}: {e}; use debug, info, warn or error"))
}

/// Concourse's words are accepted too: it has `fatal`, which is less than any error here.
fn filter_of(level: &str) -> Result<EnvFilter, String> {
    let level = if level == "fatal" { "error" } else { level };
    EnvFilter::builder().parse(format!("{level},{ALWAYS}=warn")).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_do_not_write_down_what_goes_over_the_wire() {
        for (target, level, expected) in [
            ("aws_smithy_runtime::client::orchestrator", Level::TRACE, false),
            ("aws_config", Level::DEBUG, false),
            ("hyper_util::client", Level::TRACE, false),
            ("whistlestop_else", Level::DEBUG, false),
            ("aws_config", Level::WARN, true),
            ("whistlestop::secrets::ssm", Level::TRACE, true),
            ("whistlestop", Level::DEBUG, true),
            ("audit", Level::DEBUG, true),
        ] {
            assert_eq!(is_harmless(target, &level), expected, "{target} {level}");
        }
    }
}
