//! Signing in through other servers, and what attackers try: with a real OpenID provider and a GitHub of our own.

mod attacks;
mod github;
mod networks;
mod openid;
mod roles;
mod tokens;
mod users;

use std::collections::BTreeMap;

use reqwest::{Client, Method, Response, Url};

use crate::world::World;

/// What the server believes its address to be.
pub const EXTERNAL: &str = "http://ci.example.com";

/// A browser: keeps cookies by host, follows redirects as long as it is told to.
pub struct Browser {
    client: Client,
    /// Where [`EXTERNAL`] really is.
    server: String,
    /// Who signs in at the OpenID provider.
    pub person: Option<String>,
    /// By authority and name.
    pub cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    /// A new one, without any cookie.
    pub fn new(world: &World) -> Browser {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, server: world.url(""), person: None, cookies: BTreeMap::new() }
    }

    fn real(&self, url: &str) -> Url {
        let whole = if url.starts_with('/') { format!("{EXTERNAL}{url}") } else { url.to_owned() };
        let own = whole.starts_with(EXTERNAL);
        let real = if own { whole.replacen(EXTERNAL, &self.server, 1) } else { whole };
        Url::parse(&real).unwrap()
    }

    /// One request.
    pub async fn send(&mut self, method: Method, url: &str, form: &[(&str, &str)]) -> Response {
        let url = self.real(url);
        let authority = url.authority().to_owned();
        let mine = self.cookies.iter().filter(|((a, _), _)| *a == authority);
        let cookies: Vec<String> = mine.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request =
            self.client.request(method, url).header("cookie", cookies.join("; ")).header("accept", "text/html");
        if let Some(person) = &self.person {
            request = request.header("x-person", person);
        }
        if !form.is_empty() {
            request = request.form(form);
        }
        let answer = request.send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (pair, rest) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let key = (authority.clone(), name.to_owned());
            if value.is_empty() || rest.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        answer
    }

    /// `GET`
    pub async fn get(&mut self, url: &str) -> Response {
        self.send(Method::GET, url, &[]).await
    }

    /// Where an answer leads.
    pub fn location(&self, answer: &Response) -> String {
        let location = answer.headers().get("location").unwrap_or_else(|| panic!("no redirect: {}", answer.status()));
        let url = answer.url().join(location.to_str().unwrap()).unwrap().to_string();
        url.strip_prefix(&self.server).map(|path| format!("{EXTERNAL}{path}")).unwrap_or(url)
    }

    /// Follows redirects until an address that begins with `until`, which is not asked for; gives that address.
    pub async fn walk(&mut self, from: &str, until: &str) -> String {
        let mut url = from.to_owned();
        for _ in 0..12 {
            if url.starts_with(until) {
                return url;
            }
            let answer = self.get(&url).await;
            url = self.location(&answer);
        }
        panic!("no end of redirects at {url}");
    }

    /// Signs in by a connector; gives the answer of the callback.
    pub async fn sign_in(&mut self, connector: &str, back: &str) -> Response {
        let from = format!("/sky/login/{connector}?redirect_uri={}", whistlestop::front::query_escape(back));
        let callback = self.walk(&from, &format!("{EXTERNAL}/sky/issuer/callback")).await;
        self.get(&callback).await
    }

    /// What the API says of whoever has this browser's session.
    pub async fn user(&mut self) -> serde_json::Value {
        self.get("/api/v1/user").await.json().await.unwrap()
    }
}
