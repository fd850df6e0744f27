//! `whistlestop format`: a pipeline as the server would give it back.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::input::Input;
use super::said;
use crate::pipeline::{self, client};

/// Arguments of `format`.
#[derive(Debug, clap::Args)]
pub struct Format {
    /// Pipeline to format; - stands for stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "files", required_unless_present = "files")]
    config: Option<PathBuf>,
    /// Pipelines to format
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Do not print; overwrite the files in place
    #[arg(short, long)]
    write: bool,
}

impl Format {
    /// Prints each file in its canonical form, or writes it back.
    pub fn run(&self) -> anyhow::Result<i32> {
        for path in self.config.iter().chain(&self.files) {
            let input = Input::of(path);
            let name = input.name();
            let text = input.read().map_err(|error| anyhow!("{name}: {error}"))?;
            let formatted = formatted(&text).map_err(|problem| anyhow!("{name}: {problem}"))?;
            match (self.write, &input) {
                (false, _) => said::text(&formatted)?,
                (true, Input::Stdin) => bail!("-w needs a file to write to; leave it out to print what came on stdin"),
                (true, Input::File(path)) if text == formatted.as_bytes() => _ = path,
                (true, Input::File(path)) => replace(path, &formatted).with_context(|| format!("writing {name}"))?,
            }
        }
        Ok(0)
    }
}

fn formatted(text: &[u8]) -> Result<String, Box<pipeline::Problem>> {
    client::read(text).map(|config| pipeline::as_yaml(&config))
}

/// Writes beside the file and then puts it in its place, so that a full disk costs nothing.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let real = path.canonicalize()?;
    let directory = real.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::metadata(&real)?.permissions())?;
    file.persist(&real).map_err(|error| error.error)?;
    Ok(())
}
