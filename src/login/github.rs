//! GitHub, or an Enterprise host of it: OAuth, then the login, the organisations and the teams from its API.
//!
//! People are known by their login, teams by their slug. Names that somebody can choose freely match nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::HttpRequest;
use openidconnect::http::{HeaderValue, Method, header};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::attempt::Attempt;
use super::connector::ProviderError;
use super::outgoing::Outgoing;
use super::subject::subject;
use crate::auth::Claims;
use crate::auth::claims::Federated;
use crate::base::secret::Secret;

const NAME: &str = "GitHub";
/// Pages of organisations or teams that are read: a hundred entries each.
const PAGES: usize = 20;

/// What the operator says about it.
#[derive(Debug, Clone)]
pub struct GitHubSettings {
    /// Of the OAuth app.
    pub client_id: String,
    /// Of the OAuth app.
    pub client_secret: Secret<String>,
    /// An Enterprise host; none for github.com.
    pub host: Option<String>,
}

/// Why its settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name; write --github-host github.example.com, without a path")]
pub struct HostError(String);

/// See the module's doc.
pub struct GitHub {
    settings: GitHubSettings,
    web: String,
    api: String,
    outgoing: Outgoing,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Org {
    login: String,
}

#[derive(Deserialize)]
struct Team {
    name: String,
    slug: String,
    organization: Org,
}

impl GitHub {
    /// As the settings say. A host may be written with `http://` on this machine's own addresses, for trials.
    pub fn new(settings: GitHubSettings, outgoing: Outgoing) -> Result<GitHub, HostError> {
        let (web, api) = match settings.host.as_deref().filter(|h| !h.is_empty()) {
            None => ("https://github.com".to_owned(), "https://api.github.com".to_owned()),
            Some(host) => {
                let refused = || HostError(host.to_owned());
                let whole = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
                let url = Url::parse(&whole).map_err(|_| refused())?;
                let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
                let scheme = url.scheme() == "https" || (url.scheme() == "http" && local);
                if !scheme || url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
                    return Err(refused());
                }
                let web = url.as_str().trim_end_matches('/').to_owned();
                let api = format!("{web}/api/v3");
                (web, api)
            }
        };
        Ok(GitHub { settings, web, api, outgoing })
    }

    /// Who vouches for its people.
    pub fn issuer(&self) -> &str {
        &self.web
    }

    /// Where to send the browser.
    pub fn begin(&self, attempt: &Attempt, callback: &str) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier.as_bytes()));
        let query = encoded(&[
            ("client_id", &self.settings.client_id),
            ("redirect_uri", callback),
            ("scope", "read:org"),
            ("state", &attempt.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        format!("{}/login/oauth/authorize?{query}", self.web)
    }

    /// Whom the code stands for.
    pub async fn finish(&self, attempt: &Attempt, code: &str, callback: &str) -> Result<Claims, ProviderError> {
        let token = self.redeem(attempt, code, callback).await?;
        let user: User = self.get(&token, &format!("{}/user", self.api)).await?.0;
        let orgs: Vec<Org> = self.list(&token, "/user/orgs").await?;
        let teams: Vec<Team> = self.list(&token, "/user/teams").await?;
        Ok(claims(user, &orgs, &teams))
    }

    async fn redeem(&self, attempt: &Attempt, code: &str, callback: &str) -> Result<String, ProviderError> {
        let form = encoded(&[
            ("client_id", &self.settings.client_id),
            ("client_secret", self.settings.client_secret.expose()),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", &attempt.verifier),
        ]);
        let mut request = request(Method::POST, &format!("{}/login/oauth/access_token", self.web), form.into_bytes())?;
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        let token: Token = self.ask(request).await?.0;
        if token.access_token.is_empty() {
            let why = if token.error_description.is_empty() { token.error } else { token.error_description };
            return Err(ProviderError::refused(NAME, why));
        }
        Ok(token.access_token)
    }

    /// Everything of a list that comes in pages.
    async fn list<T: DeserializeOwned>(&self, token: &str, path: &str) -> Result<Vec<T>, ProviderError> {
        let mut url = format!("{}{path}?per_page=100", self.api);
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let (mut items, next): (Vec<T>, _) = self.get(token, &url).await?;
            all.append(&mut items);
            match next {
                // The token goes to the API it is for and nowhere else.
                Some(next) if next.starts_with(&format!("{}/", self.api)) => url = next,
                _ => return Ok(all),
            }
        }
        Ok(all)
    }

    async fn get<T: DeserializeOwned>(&self, token: &str, url: &str) -> Result<(T, Option<String>), ProviderError> {
        let mut request = request(Method::GET, url, Vec::new())?;
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let value = value.map_err(|_| ProviderError::untrusted(NAME, "its token is not text"))?;
        request.headers_mut().insert(header::AUTHORIZATION, value);
        self.ask(request).await
    }

    /// The answer, and where its next page is.
    async fn ask<T: DeserializeOwned>(&self, request: HttpRequest) -> Result<(T, Option<String>), ProviderError> {
        let path = request.uri().path().to_owned();
        let answer = self.outgoing.call(request).await.map_err(|e| ProviderError::unreachable(NAME, e))?;
        if !answer.status().is_success() {
            return Err(ProviderError::refused(NAME, format!("{path} answered {}", answer.status())));
        }
        let next = answer.headers().get(header::LINK).and_then(|v| v.to_str().ok()).and_then(next_page);
        let value = serde_json::from_slice(answer.body())
            .map_err(|e| ProviderError::untrusted(NAME, format!("{path} answered what is not expected: {e}")))?;
        Ok((value, next))
    }
}

fn request(method: Method, url: &str, body: Vec<u8>) -> Result<HttpRequest, ProviderError> {
    openidconnect::http::Request::builder()
        .method(method)
        .uri(url)
        .header(header::ACCEPT, "application/json")
        .body(body)
        .map_err(|e| ProviderError::untrusted(NAME, e))
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").expect("a constant address");
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// The address of the next page in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    let part = link.split(',').find(|part| part.contains(r#"rel="next""#))?;
    let (start, end) = (part.find('<')?, part.find('>')?);
    part.get(start + 1..end).map(str::to_owned)
}

/// A team's name with what GitHub replaces when it makes the slug.
fn slug(name: &str) -> String {
    let name = name.to_lowercase();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn claims(user: User, orgs: &[Org], teams: &[Team]) -> Claims {
    let mut groups: Vec<String> = orgs.iter().map(|o| o.login.clone()).collect();
    for team in teams {
        let org = &team.organization.login;
        groups.push(format!("{org}:{}", team.slug));
        // Only one team of an organisation has the slug that follows from this name, so the name means this team; the
        // name of any other team could be chosen to look like it.
        if team.name != team.slug && slug(&team.name) == team.slug {
            groups.push(format!("{org}:{}", team.name));
        }
    }
    let id = user.id.to_string();
    Claims {
        sub: subject(&id, "github"),
        name: user.name.filter(|n| !n.is_empty()).unwrap_or_else(|| user.login.clone()),
        preferred_username: user.login.clone(),
        email: String::new(),
        groups,
        known_as: vec![user.login],
        federated_claims: Federated { connector_id: "github".to_owned(), user_id: id },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::trust::OF_HOST;

    fn github(host: Option<&str>) -> Result<GitHub, HostError> {
        let secret = Secret::new("s".to_owned());
        let settings = GitHubSettings { client_id: "id".into(), client_secret: secret, host: host.map(str::to_owned) };
        GitHub::new(settings, Outgoing::new(&[], false, OF_HOST).unwrap())
    }

    #[test]
    fn an_enterprise_host_has_its_api_below_itself() {
        let bases = |host| github(host).map(|g| (g.web, g.api)).ok();
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(bases(None), pair("https://github.com", "https://api.github.com"));
        assert_eq!(bases(Some("ghe.example.com")), pair("https://ghe.example.com", "https://ghe.example.com/api/v3"));
        assert_eq!(bases(Some("http://127.0.0.1:9")), pair("http://127.0.0.1:9", "http://127.0.0.1:9/api/v3"));
        for bad in ["http://ghe.example.com", "ghe.example.com/path", "a b", "https://user@ghe.example.com"] {
            assert_eq!(bases(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_team_s_name_counts_only_if_no_other_team_could_have_it() {
        let team = |name: &str, slug: &str| Team {
            name: name.into(),
            slug: slug.into(),
            organization: Org { login: "Org".into() },
        };
        let user = || User { id: 7, login: "alice".into(), name: Some("root".into()) };
        let of = |name: &str, slug: &str| claims(user(), &[], &[team(name, slug)]).groups;
        assert_eq!(of("Dev Team", "dev-team"), ["Org:dev-team", "Org:Dev Team"]);
        assert_eq!(of("dev-team", "dev-team-1"), ["Org:dev-team-1"]);
        let claims = claims(user(), &[Org { login: "Org".into() }], &[]);
        assert_eq!((claims.known_as, claims.groups), (vec!["alice".to_owned()], vec!["Org".to_owned()]));
    }

    #[test]
    fn the_next_page_is_read_from_the_link() {
        let link = r#"<https://api.github.com/user/teams?page=2>; rel="next", <https://x/?page=9>; rel="last""#;
        assert_eq!(next_page(link).as_deref(), Some("https://api.github.com/user/teams?page=2"));
        assert_eq!(next_page(r#"<https://x/>; rel="last""#), None);
    }
}
