//! The few pages that belong to signing in. `web` draws them; without it they are plain.

use axum::http::StatusCode;

/// Draws pages that are not about any pipeline.
pub trait Pages: Send + Sync {
    /// The form that asks for name and password.
    fn sign_in(&self, page: &SignIn) -> String;
    /// Asks whether to sign out. Posts `csrf_token` to `/sky/logout`.
    fn sign_out(&self, csrf: &str) -> String;
    /// Where a sign-in for the command line ends.
    fn signed_in_client(&self, page: &SignedInClient) -> String;
    /// What went wrong on the way to a page.
    fn problem(&self, status: StatusCode, message: &str, hint: Option<&str>, signed_in: bool) -> String;
}

/// What the sign-in form needs. It posts `login`, `password`, `redirect_uri` and `state` to `/sky/login`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignIn {
    /// The installation's name.
    pub cluster_name: String,
    /// Where to go afterwards; a path on this server.
    pub redirect_uri: String,
    /// Must come back with the form.
    pub state: String,
    /// Why the last try failed, or ''.
    pub error: String,
    /// The name of the last try.
    pub login: String,
    /// Whether there is anybody who could sign in with a password.
    pub has_local_users: bool,
    /// Ways through other servers.
    pub ways: Vec<Way>,
}

/// A way to sign in through another server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// Where it begins.
    pub href: String,
    /// What it is called.
    pub label: String,
}

/// What the last page of the client's sign-in needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedInClient {
    /// `bearer …`, for pasting; '' if the client has it already (`noop`).
    pub token: String,
    /// Where the client listens: the page's script asks for this address. '' if nobody listens.
    pub callback: String,
}

/// Pages without any looks.
pub struct Plain;

impl Pages for Plain {
    fn sign_in(&self, page: &SignIn) -> String {
        let SignIn { redirect_uri, state, error, login, .. } = page;
        let [redirect_uri, state, error, login] = [redirect_uri, state, error, login].map(|s| escape(s));
        let ways: Vec<String> = page.ways.iter().map(|w| link(&w.href, &w.label)).collect();
        let ways = ways.concat();
        frame(&format!(
            r#"<p role="alert">{error}</p>{ways}<form method="post" action="/sky/login">
<input type="hidden" name="redirect_uri" value="{redirect_uri}"><input type="hidden" name="state" value="{state}">
<label>username <input name="login" value="{login}" required autofocus autocomplete="username"></label>
<label>password <input name="password" type="password" required autocomplete="current-password"></label>
<button>login</button></form>"#
        ))
    }

    fn sign_out(&self, csrf: &str) -> String {
        let csrf = escape(csrf);
        frame(&format!(
            r#"<form method="post" action="/sky/logout"><input type="hidden" name="csrf_token" value="{csrf}">
<button>sign out</button></form>"#
        ))
    }

    fn signed_in_client(&self, page: &SignedInClient) -> String {
        let [token, callback] = [&page.token, &page.callback].map(|s| escape(s));
        frame(&format!(
            r#"<p>login successful</p><p>If the client did not notice, paste this token into it:</p>
<pre>{token}</pre><img alt="" src="{callback}" hidden>"#
        ))
    }

    fn problem(&self, status: StatusCode, message: &str, hint: Option<&str>, _: bool) -> String {
        frame(&format!("<h1>{status}</h1><p>{}</p><p>{}</p>", escape(message), escape(hint.unwrap_or(""))))
    }
}

fn frame(body: &str) -> String {
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>whistlestop</title></head><body>{body}</body></html>\n"
    )
}

fn link(href: &str, label: &str) -> String {
    format!(r#"<p><a href="{}">{}</a></p>"#, escape(href), escape(label))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_caller_says_becomes_markup() {
        let evil = r#"'"><script>"#.to_owned();
        let page = SignIn {
            redirect_uri: evil.clone(),
            state: evil.clone(),
            error: evil.clone(),
            login: evil,
            ..SignIn::default()
        };
        assert!(!Plain.sign_in(&page).contains("<script>"));
    }
}
