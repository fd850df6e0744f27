//! `curl`: calls curl with the target's address and token.

use reqwest::Url;

use super::Fly;
use super::failure::{Failure, Outcome};

/// Arguments of `curl`.
#[derive(Debug, Clone, clap::Args)]
pub struct Curl {
    /// Print curl command and exit
    #[arg(long)]
    print_and_exit: bool,
    /// Path, with query parameters as in path?key=value
    #[arg(value_name = "PATH")]
    path: String,
    /// Flags for curl, after --
    #[arg(value_name = "CURL FLAGS")]
    rest: Vec<String>,
}

impl Curl {
    /// Runs it.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let session = fly.session().await?;
        let token = session.target.token.clone().unwrap_or_default();
        let header = format!("Authorization: {} {}", token.kind, token.value);
        let url = full_url(session.client.url(), &self.path)?;
        let args = [vec!["-H".to_owned(), header], self.rest, vec![url]].concat();
        if self.print_and_exit {
            let shown: Vec<String> =
                args.into_iter().map(|a| if a.contains(' ') { format!("\"{a}\"") } else { a }).collect();
            return fly.say(format!("curl {}", shown.join(" ")));
        }
        let status = std::process::Command::new("curl").args(args).status();
        let status = status.map_err(|e| Failure::said(format!("exec: \"curl\": {e}")))?;
        if status.success() {
            return Ok(0);
        }
        Err(Failure::said(status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))))
    }
}

fn full_url(host: &str, given: &str) -> Result<String, Failure> {
    let wrong = |_| Failure::said(format!("parse {given:?}: not a path"));
    let mut url = Url::parse(host).map_err(wrong)?;
    let path = url.join(given).map_err(wrong)?;
    url.set_path(path.path());
    url.set_query(path.query());
    // Who asks for nothing gets the address as it was given.
    Ok(if given.is_empty() { host.to_owned() } else { url.to_string() })
}
