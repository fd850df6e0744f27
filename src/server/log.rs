//! The process's own log: its format, and its level, which an administrator can change while it runs.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::config::LogFormat;
use crate::base::secret::redact_everything;
use crate::front::LogLevel;

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
    EnvFilter::builder().parse(level).map_err(|e| e.to_string())
}
