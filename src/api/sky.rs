//! Signing in and out: the password grant of the client, and the browser's form.
//!
//! The paths are Concourse's, since its client opens `/login?fly_port=N` and posts to `/sky/issuer/token`.

use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::auth::action::Method;
use crate::base::chance;
use crate::base::version::digest;
use crate::front::pages::{SignIn, SignedInClient};
use crate::front::{
    Answer, Call, Failure, Routes, Token, clear_cookies, cookie, empty, html, json, percent_decode, query_escape,
    redirect, session_cookies, token,
};
use crate::login::Issued;

/// The client's own id and secret, the same in every copy of it.
const CLIENT: (&str, &str) = ("fly", "Zmx5");
/// Ties a sign-in form to the browser it was sent to.
const STATE: &str = "skymarshal_state";

/// Adds the routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .open(Method::Post, "/sky/issuer/token", grant)
        .open(Method::Get, "/login", legacy_login)
        .open(Method::Get, "/logout", legacy_logout)
        .open(Method::Get, "/sky/login", form)
        .open(Method::Post, "/sky/login", submit)
        .open(Method::Get, "/sky/logout", logout)
        .open(Method::Get, "/fly_success", client)
}

#[derive(Serialize)]
struct Granted<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
}

#[derive(Serialize)]
struct Refused {
    error: &'static str,
    error_description: &'static str,
}

/// The password grant.
async fn grant(call: Call) -> Answer {
    if !is_client(&call) {
        let why = Refused { error: "invalid_client", error_description: "Invalid client credentials." };
        return json(StatusCode::UNAUTHORIZED, &why);
    }
    if call.form.get("grant_type") != "password" {
        let why = Refused {
            error: "unsupported_grant_type",
            error_description: "only the password grant is available here; sign in with the browser instead",
        };
        return json(StatusCode::BAD_REQUEST, &why);
    }
    let login = &call.app.login;
    let Some(claims) = login.password(call.form.get("username"), call.form.get("password")).await else {
        let why = Refused { error: "access_denied", error_description: "Invalid username or password" };
        return json(StatusCode::UNAUTHORIZED, &why);
    };
    let Issued { token, lifetime, .. } = login.issue(claims).await?;
    // A second less than it lives, so that no client trusts it too long.
    let expires_in = lifetime.as_secs().saturating_sub(1);
    let mut response = json(StatusCode::OK, &Granted { access_token: &token, token_type: "bearer", expires_in })?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Client id and secret, by header or by form.
fn is_client(call: &Call) -> bool {
    let by_header = call
        .header("authorization")
        .strip_prefix("Basic ")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.split_once(':').map(|(id, secret)| (percent_decode(id), percent_decode(secret))));
    let (id, secret) =
        by_header.unwrap_or_else(|| (call.form.get("client_id").to_owned(), call.form.get("client_secret").to_owned()));
    id == CLIENT.0 && bool::from(secret.as_bytes().ct_eq(CLIENT.1.as_bytes()))
}

/// `/login`, which the client opens in the browser with the port it listens on.
async fn legacy_login(call: Call) -> Answer {
    let port = call.query.get("fly_port");
    if port.is_empty() {
        return redirect(StatusCode::FOUND, "/sky/login");
    }
    let back = query_escape(&format!("/fly_success?fly_port={port}")).replace("%3D", "=");
    redirect(StatusCode::FOUND, &format!("/sky/login?redirect_uri={}", back.replace("%2F", "/")))
}

async fn legacy_logout(_: Call) -> Answer {
    redirect(StatusCode::FOUND, "/sky/logout")
}

/// The sign-in form; who is signed in already goes straight on.
async fn form(call: Call) -> Answer {
    let back = local_path(call.query.get("redirect_uri"));
    if session(&call).await?.is_some() {
        return redirect(StatusCode::FOUND, &back);
    }
    show_form(&call, back, "", "", StatusCode::OK)
}

fn show_form(call: &Call, redirect_uri: String, error: &str, login: &str, status: StatusCode) -> Answer {
    let state = chance::hex::<16>();
    let page = call.app.pages.sign_in(&SignIn {
        cluster_name: call.app.settings.cluster_name.clone(),
        redirect_uri,
        state: state.clone(),
        error: error.to_owned(),
        login: login.to_owned(),
        has_local_users: call.app.login.has_local_users(),
    });
    let mut response = html(status, page)?;
    let secure = if call.app.settings.cookie_secure { "; Secure" } else { "" };
    let cookie = format!("{STATE}={state}; Path=/sky; Max-Age=3600; HttpOnly{secure}; SameSite=Strict");
    response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(internal)?);
    Ok(response)
}

/// The form comes back. Its state must be the cookie's, else another site could sign somebody in as somebody else.
async fn submit(call: Call) -> Answer {
    let back = local_path(call.form.get("redirect_uri"));
    let name = call.form.get("login").to_owned();
    let state = cookie(&call.parts.headers, STATE).unwrap_or("");
    if state.is_empty() || !bool::from(state.as_bytes().ct_eq(call.form.get("state").as_bytes())) {
        return show_form(&call, back, "this form has expired, please try again", &name, StatusCode::BAD_REQUEST);
    }
    let Some(claims) = call.app.login.password(&name, call.form.get("password")).await else {
        return show_form(&call, back, "Invalid username or password", &name, StatusCode::UNAUTHORIZED);
    };
    let issued = call.app.login.issue(claims).await?;
    let mut response = redirect(StatusCode::SEE_OTHER, &back)?;
    let secure = call.app.settings.cookie_secure;
    for cookie in session_cookies(&issued.token, &chance::hex::<32>(), issued.lifetime.as_secs(), secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Signs out. The client wants exactly 200; a browser is sent home by the page it clicked on.
async fn logout(call: Call) -> Answer {
    let (Token::Header(token) | Token::Cookie(token)) = token(&call.parts.headers) else {
        return empty(StatusCode::UNAUTHORIZED);
    };
    call.app.login.revoke(&token).await?;
    let browser = call.header("accept").contains("text/html");
    let mut response = if browser { redirect(StatusCode::FOUND, "/")? } else { empty(StatusCode::OK)? };
    for cookie in clear_cookies(call.app.settings.cookie_secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The end of the client's sign-in: its page hands the token to the client's port on the same machine.
async fn client(call: Call) -> Answer {
    let Some(token) = session(&call).await? else {
        let target = call.parts.uri.path_and_query().map_or("/fly_success", |p| p.as_str());
        return redirect(StatusCode::FOUND, &format!("/sky/login?redirect_uri={}", query_escape(target)));
    };
    let token = format!("bearer {token}");
    let port: Option<u16> = call.query.get("fly_port").parse().ok().filter(|_| !call.query.has("noop"));
    let callback = port.map(|p| format!("http://127.0.0.1:{p}/?token={}", query_escape(&token).replace('+', "%20")));
    let page = SignedInClient { token, callback: callback.unwrap_or_default() };
    html(StatusCode::OK, call.app.pages.signed_in_client(&page))
}

/// The browser's token, if it is good.
async fn session(call: &Call) -> Result<Option<String>, Failure> {
    let Token::Cookie(token) = token(&call.parts.headers) else { return Ok(None) };
    let (digest, now) = (digest(token.as_bytes()), call.app.clock.now());
    let claims = call.app.store.read(move |tx| tx.session(&digest, now)).await?;
    Ok(claims.map(|_| token))
}

/// A path on this server, or `/`: nothing a browser could take for another host, however often it was encoded.
fn local_path(given: &str) -> String {
    let mut decoded = given.to_owned();
    for _ in 0..5 {
        decoded = percent_decode(&decoded);
    }
    let safe =
        |s: &str| s.starts_with('/') && !s.starts_with("//") && !s.contains('\\') && !s.chars().any(char::is_control);
    if safe(given) && safe(&decoded) && given.is_ascii() { given.to_owned() } else { "/".to_owned() }
}

fn internal(e: impl std::error::Error + Send + Sync + 'static) -> Failure {
    crate::base::error::Error::internal(e).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_host() {
        for good in ["/", "/teams/main/pipelines/p?vars.a=%22b%22", "/fly_success?fly_port=4"] {
            assert_eq!(local_path(good), good);
        }
        for evil in ["", "//evil", "https://evil", "/%2Fevil", "/%252Fevil", "/\\evil", "/%5Cevil", "/a\r\nx", "evil"] {
            assert_eq!(local_path(evil), "/", "{evil}");
        }
    }
}
