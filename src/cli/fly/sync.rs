//! `sync`: replaces this client by the one the target hands out.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::client::Status;
use super::failure::{Failure, Outcome};
use super::target::Target;
use super::{Fly, Session};
use crate::base::CONCOURSE_VERSION;

/// Arguments of `sync`.
#[derive(Debug, Clone, clap::Args)]
pub struct Sync {
    /// Sync even if versions already match
    #[arg(short, long)]
    force: bool,
    /// Concourse URL to sync with
    #[arg(short, long, value_name = "URL")]
    concourse_url: Option<String>,
    /// Skip verification of the endpoint's SSL certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Path to Concourse PEM-encoded CA certificate file
    #[arg(long, value_name = "PATH")]
    ca_cert: Option<PathBuf>,
    /// Path to a PEM-encoded client certificate file
    #[arg(long, value_name = "PATH")]
    client_cert: Option<String>,
    /// Path to a PEM-encoded client key file
    #[arg(long, value_name = "PATH")]
    client_key: Option<String>,
}

impl Sync {
    /// Compares versions, downloads, and replaces.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = match &fly.target {
            Some(_) => fly.saved()?,
            None => {
                let ca_cert = self.ca_cert.map(std::fs::read_to_string).transpose()?.unwrap_or_default();
                let target = Target {
                    api: self.concourse_url.unwrap_or_default(),
                    insecure: self.insecure,
                    ca_cert,
                    client_cert_path: self.client_cert.unwrap_or_default(),
                    client_key_path: self.client_key.unwrap_or_default(),
                    ..Target::default()
                };
                fly.connect("dummy", target)?
            }
        };
        let server = session.info().await?.version.clone();
        if server == CONCOURSE_VERSION && !self.force {
            return fly.say(format!("version {server} already matches; skipping"));
        }
        let own = std::env::current_exe()?;
        if own.file_name().is_none_or(|n| n != "fly") {
            return Err(Failure::said(format!(
                "{} is more than a client and will not replace itself; copy it to a file named fly, and sync that",
                own.display()
            )));
        }
        let draft = Draft::beside(&own)?;
        fly.say(format!("downloading fly from {}...\n", session.client.url()))?;
        let size = download(fly, &session, &server, &draft).await?;
        if size == 0 {
            return Err(Failure::bare("failed to apply update: the server sent nothing"));
        }
        draft.replace(&own)?;
        fly.say("done")
    }
}

/// A file that becomes the client when it is complete, and is removed otherwise.
struct Draft(PathBuf);

impl Draft {
    /// Beside the client, so that taking its place is one step; refused here if that directory may not be written.
    fn beside(own: &Path) -> Result<Draft, Failure> {
        let path = own.with_file_name(format!(".fly.{}", std::process::id()));
        let failed = |e| Failure::bare(format!("update failed: cannot write beside {}: {e}", own.display()));
        std::fs::File::create(&path).map_err(failed)?;
        Ok(Draft(path))
    }

    fn replace(&self, own: &Path) -> Result<(), Failure> {
        let placed = std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o755))
            .and_then(|()| std::fs::rename(&self.0, own));
        placed.map_err(|e| Failure::bare(format!("failed to apply update: {e}")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After it took the client's place there is none.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Fetches the client of this platform; how long it is.
async fn download(fly: &Fly, session: &Session, version: &str, draft: &Draft) -> Result<u64, Failure> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let call = session.client.get(&["cli"]).query("arch", arch).query("platform", std::env::consts::OS);
    let mut response = call.open().await?;
    if !response.status().is_success() {
        let (status, why) = (Status(response.status()), response.text().await.unwrap_or_default());
        return Err(Failure::said(format!("the server has no client for this machine: {status}: {}", why.trim())));
    }
    let whole = response.content_length();
    let broken = |e: &dyn std::fmt::Display| Failure::bare(format!("failed to apply update: {e}"));
    let mut file = std::fs::File::create(&draft.0)?;
    let (mut got, mut shown) = (0, u64::MAX);
    while let Some(bytes) = response.chunk().await.map_err(|e| broken(&e))? {
        file.write_all(&bytes).map_err(|e| broken(&e))?;
        got += bytes.len() as u64;
        let percent = whole.filter(|w| *w > 0).map_or(0, |w| got * 100 / w);
        if fly.console.is_terminal() && percent != shown {
            shown = percent;
            fly.console.print(bar(version, got, whole, &|t| fly.console.bold(t)))?;
        }
    }
    if fly.console.is_terminal() {
        fly.console.say("")?;
    }
    if whole.is_some_and(|w| w != got) {
        return Err(Failure::bare("failed to apply update: the download broke off; run the command again"));
    }
    file.sync_all()?;
    Ok(got)
}

/// One line that is drawn over and over.
fn bar(version: &str, got: u64, whole: Option<u64>, bold: &dyn Fn(&str) -> String) -> String {
    const WIDTH: usize = 48;
    let mib = |n: u64| format!("{}.{}MiB", n >> 20, ((n % (1 << 20)) * 10) >> 20);
    let filled = whole.filter(|w| *w > 0).map_or(0, |w| usize::try_from(got * WIDTH as u64 / w).unwrap_or(WIDTH));
    let tip = if filled > 0 && filled < WIDTH { ">" } else { "" };
    let line = format!("{}{tip}", "=".repeat(filled.saturating_sub(tip.len())));
    let total = whole.map(mib).unwrap_or_else(|| "?".to_owned());
    format!("\rfly {} [{line:-<WIDTH$}] {}/{total}", bold(&format!("v{version}")), mib(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        let plain = |t: &str| t.to_owned();
        assert!(bar("8.2.5", 0, Some(4 << 20), &plain).starts_with("\rfly v8.2.5 [----"));
        let half = bar("8.2.5", 2 << 20, Some(4 << 20), &plain);
        assert!(half.contains("=>-") && half.ends_with("] 2.0MiB/4.0MiB"), "{half}");
        assert!(bar("8.2.5", 4 << 20, Some(4 << 20), &plain).contains("==]"));
    }
}
