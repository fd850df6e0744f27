//! `login`: gets a token, by user and password or through a browser, and saves the target.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{ApiError, Client};
use super::failure::{Failure, Outcome};
use super::shapes::{TeamInfo, UserInfo};
use super::target::{DEFAULT_TEAM, Target, Targets, Token};
use super::template::existing;
use super::terminal::{Hidden, typed_lines};
use super::{Fly, team};

/// The client every Concourse knows; it keeps no secret.
const CLIENT: (&str, &str) = ("fly", "Zmx5");

/// Arguments of `login`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Login {
    /// Concourse URL to authenticate with
    #[arg(short = 'c', long, value_name = "URL")]
    concourse_url: Option<String>,
    /// Skip verification of the endpoint's SSL certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Username for basic auth
    #[arg(short = 'u', long)]
    username: Option<String>,
    /// Password for basic auth
    #[arg(short = 'p', long)]
    password: Option<String>,
    /// Team to authenticate with; the main team, or the one the target had, by default
    #[arg(short = 'n', long, value_name = "TEAM")]
    team_name: Option<String>,
    /// Path to Concourse PEM-encoded CA certificate file
    #[arg(long, value_name = "PATH", value_parser = existing)]
    ca_cert: Option<PathBuf>,
    /// Path to a PEM-encoded client certificate file
    #[arg(long, value_name = "PATH", value_parser = existing)]
    client_cert: Option<PathBuf>,
    /// Path to a PEM-encoded client key file
    #[arg(long, value_name = "PATH", value_parser = existing)]
    client_key: Option<PathBuf>,
    /// Open browser to the auth endpoint
    #[arg(short = 'b', long)]
    open_browser: bool,
    /// What else was said.
    #[arg(hide = true)]
    more: Vec<String>,
}

impl Login {
    /// Logs in.
    pub async fn run(self, fly: &Fly) -> Outcome {
        let name = fly.target.as_deref().filter(|n| !n.is_empty()).ok_or_else(|| {
            Failure::said("name for the target must be specified (--target/-t)")
                .then("choose one for it, as `ci` in `{program} -t ci login -c (concourse url)`")
        })?;
        let mut target = self.target(name)?;
        fly.console.say(format!("logging in to team '{}'\n", target.team))?;
        if !self.more.is_empty() {
            return Err(Failure::said(format!("unexpected argument [{}]", self.more.join(", "))));
        }
        let session = fly.connect(name, target.clone())?;
        fly.check_version(&session, true).await?;
        let given = |text: &'_ Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(str::to_owned);
        let token = match (&given(&self.username), &given(&self.password)) {
            (Some(user), Some(password)) => password_grant(&session.client, user, password).await?,
            _ => browser_grant(fly, &session.client, self.open_browser).await?,
        };
        fly.console.say("")?;
        target.token = Some(token);
        let session = fly.connect(name, target.clone())?;
        verify_team(&session.client, &target.team).await?;
        let mut targets = Targets::load()?;
        targets.saved.insert(name.to_owned(), target);
        targets.save()?;
        fly.say("\rtarget saved\r")
    }

    /// The target to log in to: a new one with `-c`, or the saved one with what was given in its place.
    fn target(&self, name: &str) -> Result<Target, Failure> {
        let ca_cert = self.ca_cert.as_ref().map(std::fs::read_to_string).transpose()?;
        let mut target = match self.concourse_url.as_ref().filter(|url| !url.is_empty()) {
            Some(url) => {
                Target { api: url.trim_end_matches('/').to_owned(), team: DEFAULT_TEAM.to_owned(), ..Target::default() }
            }
            None => {
                let saved = Targets::load()?.get(name)?.clone();
                let ca_cert = if self.insecure { String::new() } else { saved.ca_cert };
                Target { ca_cert, token: None, ..saved }
            }
        };
        target.insecure = self.insecure;
        if let Some(team) = self.team_name.clone().filter(|t| !t.is_empty()) {
            target.team = team;
        }
        if let Some(ca_cert) = ca_cert {
            target.ca_cert = ca_cert;
        }
        if self.client_cert.is_some() || self.client_key.is_some() {
            let path = |given: &Option<PathBuf>| given.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            target.client_cert_path = path(&self.client_cert);
            target.client_key_path = path(&self.client_key);
        }
        Ok(target)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Grant {
    Given { access_token: String, token_type: String },
    Refused { error: String, error_description: Option<String> },
}

async fn password_grant(client: &Client, user: &str, password: &str) -> Result<Token, Failure> {
    let form: String = url_encoded(&[
        ("grant_type", "password"),
        ("username", user),
        ("password", password),
        ("scope", "openid profile email federated:id groups"),
    ]);
    let basic =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:{}", CLIENT.0, CLIENT.1));
    let answer = client
        .call_at(reqwest::Method::POST, client.outside("/sky/issuer/token"))
        .body("application/x-www-form-urlencoded", form)
        .header("authorization", &format!("Basic {basic}"))
        .send()
        .await?;
    match serde_json::from_slice(&answer.body) {
        Ok(Grant::Given { access_token, token_type }) if answer.status.is_success() => {
            Ok(Token { kind: token_type, value: access_token })
        }
        Ok(Grant::Refused { error, error_description: Some(why) }) => {
            Err(Failure::said(format!("oauth2: {error:?} {why:?}")))
        }
        Ok(Grant::Refused { error, error_description: None }) => Err(Failure::said(format!("oauth2: {error:?}"))),
        _ => Err(Failure::said(format!(
            "oauth2: cannot fetch token: {}\nResponse: {}",
            super::client::Status(answer.status),
            answer.text()
        ))),
    }
}

fn url_encoded(pairs: &[(&str, &str)]) -> String {
    let mut url = reqwest::Url::parse("http://form/").expect("a constant address");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// Waits for a token from the browser, or pasted.
async fn browser_grant(fly: &Fly, client: &Client, open_browser: bool) -> Result<Token, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("{}/login?fly_port={}", client.url(), listener.local_addr()?.port());
    fly.console.print(format!("navigate to the following URL in your browser:\r\n\r\n  {url}\r\n"))?;
    if open_browser {
        // The address stands above, so nothing is lost where there is no browser.
        drop(std::process::Command::new("xdg-open").arg(&url).spawn());
    }
    let (sender, mut tokens) = mpsc::unbounded_channel();
    let _hidden = Hidden::enter()?;
    let pasted = sender.clone();
    let _typing = typed_lines(move |line| drop(pasted.send(line)))?;
    fly.console.print(ENTER)?;
    // Each on its own: a browser opens connections ahead that say nothing for minutes.
    let mut visitors = JoinSet::new();
    loop {
        let token = tokio::select! {
            accepted = listener.accept() => {
                visitors.spawn(receive(accepted?.0, client.url().to_owned(), sender.clone()));
                continue;
            }
            line = tokens.recv() => match line.flatten() {
                Some(line) => line,
                None => return Err(Failure::said("no token was entered: log in with -u and -p where there is no browser")),
            },
        };
        match token.trim().split_once(' ') {
            Some((kind, value)) if !value.contains(' ') => {
                return Ok(Token { kind: kind.to_owned(), value: value.to_owned() });
            }
            _ => fly.console.print(format!("token must be of the format 'TYPE VALUE', e.g. 'Bearer ...'\n{ENTER}"))?,
        }
    }
}

/// Asks for a token.
const ENTER: &str = "\nor enter token manually (input hidden): ";

/// Answers a visitor, and hands on the token it brought.
async fn receive(visitor: TcpStream, origin: String, to: mpsc::UnboundedSender<Option<String>>) {
    if let Ok(Some(token)) = answer_browser(visitor, &origin).await {
        drop(to.send(Some(token)));
    }
}

/// Answers one request of the login page; the token it brought, if it did.
async fn answer_browser(stream: TcpStream, origin: &str) -> std::io::Result<Option<String>> {
    let mut stream = tokio::io::BufReader::new(stream.take(64 * 1024));
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let (mut preflight, mut navigation) = (false, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
        let line = line.to_lowercase();
        preflight |= line.starts_with("access-control-request-method:");
        navigation |= line.starts_with("upgrade-insecure-requests:");
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let token = reqwest::Url::parse(&format!("http://localhost{path}"))
        .ok()
        .and_then(|url| url.query_pairs().find(|(name, _)| name == "token").map(|(_, value)| value.into_owned()))
        .filter(|t| !preflight && !t.is_empty());
    let mut head = format!("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: {origin}\r\n");
    if preflight {
        head.push_str("Access-Control-Allow-Private-Network: true\r\n");
    } else if navigation && token.is_some() {
        head = format!("HTTP/1.1 302 Found\r\nLocation: {origin}/fly_success?noop=true\r\n");
    }
    head.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    let mut stream = stream.into_inner().into_inner();
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(token)
}

/// What to do where the team is not one's own.
const ANOTHER: &str = "name a team that is yours with -n, or have an owner of this one add you with `set-team`";

/// Refuses a team that whoever logged in is not in.
async fn verify_team(client: &Client, name: &str) -> Result<(), Failure> {
    let answer = client.get(&["user"]).fetch::<Value>().await?;
    let user: UserInfo = serde_json::from_value(answer).map_err(ApiError::from)?;
    if user.is_admin {
        let teams: Vec<TeamInfo> = team::list(client.get(&["teams"])).await?;
        return match teams.iter().any(|t| t.name == name) {
            true => Ok(()),
            false => Err(Failure::said(format!("team '{name}' does not exist")).then(ANOTHER)),
        };
    }
    match user.teams {
        None => Err(Failure::said("unable to verify role on team")),
        Some(teams) if teams.contains_key(name) => Ok(()),
        Some(_) => {
            Err(Failure::said(format!("you are not a member of '{name}' or the team does not exist")).then(ANOTHER))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn ask(request: &str) -> (Option<String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut browser = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        browser.write_all(request.as_bytes()).await.unwrap();
        let token = answer_browser(listener.accept().await.unwrap().0, "http://ci").await.unwrap();
        let mut answer = String::new();
        browser.read_to_string(&mut answer).await.unwrap();
        (token, answer)
    }

    #[tokio::test]
    async fn the_login_page_hands_over_the_token() {
        let (token, answer) = ask("GET /?token=bearer%20abc HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(token.as_deref(), Some("bearer abc"));
        assert!(answer.contains("Access-Control-Allow-Origin: http://ci\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_preflight_is_allowed_and_brings_nothing() {
        let request = "OPTIONS /?token=bearer%20abc HTTP/1.1\r\nAccess-Control-Request-Method: GET\r\n\r\n";
        let (token, answer) = ask(request).await;
        assert_eq!(token, None);
        assert!(answer.contains("Access-Control-Allow-Private-Network: true"), "{answer}");
    }

    #[tokio::test]
    async fn a_visit_is_sent_back_to_the_server() {
        let (token, answer) = ask("GET /?token=bearer%20abc HTTP/1.1\r\nUpgrade-Insecure-Requests: 1\r\n\r\n").await;
        assert_eq!(token.as_deref(), Some("bearer abc"));
        assert!(answer.contains("Location: http://ci/fly_success?noop=true"), "{answer}");
    }
}
