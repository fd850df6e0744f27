//! Signing in and out: the password grant of the client, the browser's form, and ways through other servers.
//!
//! The paths are Concourse's: its client opens `/login?fly_port=N` and posts to `/sky/issuer/token`, and whoever has
//! registered it with GitHub or an OpenID provider has named `/sky/issuer/callback`.

use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::audit::{Entry, SIGN_IN, SIGN_OUT};
use crate::auth::Claims;
use crate::auth::action::Method;
use crate::base::chance;
use crate::base::error::{Error, Kind};
use crate::base::secret::Secret;
use crate::base::version::digest;
use crate::front::pages::{SignIn, SignedInClient, Way};
use crate::front::{
    Answer, Call, Failure, Routes, Token, clear_cookies, cookie, empty, html, is_own, json, percent_decode,
    query_escape, redirect, session_cookies, token, way_back,
};
use crate::login::{Busy, Issued, PATIENCE, Person, Return, cookie_name, team_user};
use crate::secrets::idtoken::Purpose;
use crate::store::token::{Bearer, TokenKind};

/// The client's own id and secret, the same in every copy of it.
const CLIENT: (&str, &str) = ("fly", "Zmx5");
/// Ties a sign-in form to the browser it was sent to.
const STATE: &str = "skymarshal_state";

/// Adds the routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .open(Method::Post, "/sky/issuer/token", grant)
        .open(Method::Get, "/sky/issuer/token", not_granted)
        .open(Method::Put, "/sky/issuer/token", not_granted)
        .open(Method::Delete, "/sky/issuer/token", not_granted)
        .open(Method::Get, "/sky/issuer/.well-known/openid-configuration", discovery)
        .open(Method::Get, "/sky/issuer/keys", keys)
        .open(Method::Get, "/sky/issuer/auth", legacy_login)
        .open(Method::Get, "/login", legacy_login)
        .open(Method::Get, "/logout", legacy_logout)
        .open(Method::Get, "/sky/login", form)
        .open(Method::Post, "/sky/login", submit)
        .open(Method::Get, "/sky/login/{connector}", begin)
        .open(Method::Get, "/sky/issuer/callback", finish)
        .open(Method::Get, "/auth/{connector}/callback", legacy_callback)
        .open(Method::Get, "/sky/logout", logout)
        .open(Method::Post, "/sky/logout", logout_by_form)
        .open(Method::Get, "/fly_success", client)
}

#[derive(Serialize)]
struct Granted<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
}

#[derive(Serialize)]
struct Refused {
    error: &'static str,
    error_description: String,
}

fn refused(status: StatusCode, error: &'static str, why: impl Into<String>) -> Answer {
    json(status, &Refused { error, error_description: why.into() })
}

/// One row of the audit trail for a sign-in.
async fn note(call: &Call, connector: &str, user: &str, outcome: Result<&Person, (StatusCode, &str)>) {
    let mut entry = Entry::of_session(SIGN_IN, connector, user);
    entry.from(call.origin.address.to_string());
    let status = match outcome {
        Ok(person) => {
            entry.by(&person.claims, false);
            entry.to(person.scope.map(|(team, _)| (team, person.claims.name.as_str())));
            StatusCode::OK
        }
        Err((status, why)) => {
            entry = entry.with("reason", why);
            status
        }
    };
    call.app.audit.record(entry.ended(status.as_u16(), call.app.clock.now())).await;
}

async fn not_granted(_: Call) -> Answer {
    refused(StatusCode::BAD_REQUEST, "invalid_request", "method not allowed")
}

/// What is wrong with the scopes that are asked for, as Concourse's identity server says it. They decide nothing: who has
/// signed in is told all the same.
fn wrong_scope(asked: &str) -> Option<String> {
    const KNOWN: [&str; 6] = ["openid", "offline_access", "email", "profile", "groups", "federated:id"];
    const FOR_OTHERS: &str = "audience:server:client_id:";
    let (mut unknown, mut others) = (Vec::new(), Vec::new());
    for scope in asked.split_whitespace().filter(|scope| !KNOWN.contains(scope)) {
        match scope.strip_prefix(FOR_OTHERS) {
            Some(client) if client == CLIENT.0 => {}
            Some(_) => others.push(format!("{scope:?}")),
            None => unknown.push(format!("{scope:?}")),
        }
    }
    match (unknown.as_slice(), others.as_slice()) {
        _ if !asked.split_whitespace().any(|scope| scope == "openid") => {
            Some(r#"Missing required scope(s) ["openid"]."#.to_owned())
        }
        ([], []) => None,
        ([], others) => Some(format!("Client can't request scope(s) [{}]", others.join(" "))),
        (unknown, _) => Some(format!("Unrecognized scope(s) [{}]", unknown.join(" "))),
    }
}

/// The password grant. What is wrong is said in the order of Concourse's identity server.
async fn grant(call: Call) -> Answer {
    if call.form.get("grant_type") != "password" {
        let why = "only the password grant is available here; sign in with the browser instead";
        return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", why);
    }
    if !is_client(&call) {
        return refused(StatusCode::UNAUTHORIZED, "invalid_client", "Invalid client credentials.");
    }
    if let Some(why) = wrong_scope(call.form.get("scope")) {
        return refused(StatusCode::BAD_REQUEST, "invalid_request", why);
    }
    let person = match by_password(&call, "username").await? {
        Ok(person) => person,
        Err(NotIn::Busy(busy)) => {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", busy.to_string());
        }
        Err(NotIn::Wrong) => {
            return refused(StatusCode::UNAUTHORIZED, "access_denied", "Invalid username or password");
        }
    };
    let claims = person.claims.clone();
    let issued = call.app.login.issue(person, TokenKind::Client, call.origin.address.to_string()).await?;
    let id_token = statement(&call, &claims, &issued).await;
    let id_token = id_token.as_ref().map(|t| t.expose().as_str());
    let Issued { token, lifetime, .. } = issued;
    // A second less than it lives, so that no client trusts it too long.
    let expires_in = lifetime.as_secs().saturating_sub(1);
    let mut response =
        json(StatusCode::OK, &Granted { access_token: &token, token_type: "bearer", expires_in, id_token })?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Who has signed in, as a signed statement: what OpenID calls an ID token. Without a key to sign with there is none.
async fn statement(call: &Call, claims: &Claims, issued: &Issued) -> Option<Secret<String>> {
    let now = call.app.clock.now();
    let half = Sha256::digest(issued.token.as_bytes());
    let mut said = json!({
        "iss": format!("{}/sky/issuer", call.app.settings.external_url),
        "sub": claims.sub,
        "aud": CLIENT.0,
        "exp": issued.expires.unix(),
        "iat": now.unix(),
        "at_hash": URL_SAFE_NO_PAD.encode(&half[..16]),
        "email": claims.email,
        // Others are not kept.
        "email_verified": !claims.email.is_empty(),
        "groups": claims.groups,
        "name": claims.name,
        "preferred_username": claims.preferred_username,
        "federated_claims": claims.federated_claims,
    });
    let said = said.as_object_mut().map(std::mem::take).unwrap_or_default();
    let empty = |v: &Value| v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty);
    let said = said.into_iter().filter(|(_, v)| !empty(v)).collect();
    let signed = call.app.secrets.issuer.signed(Purpose::SignIns, "RS256", said).await;
    signed.inspect_err(|error| tracing::warn!(error, "a sign-in goes without an ID token")).ok()
}

/// What this server is to OpenID clients: Concourse's members, with what there is here.
async fn discovery(call: Call) -> Answer {
    let issuer = format!("{}/sky/issuer", call.app.settings.external_url);
    json(
        StatusCode::OK,
        &json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "grant_types_supported": ["password"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "email", "groups", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "email", "email_verified", "name", "preferred_username", "at_hash"],
        }),
    )
}

/// The keys that ID tokens of sign-ins are believed by.
async fn keys(call: Call) -> Answer {
    json(StatusCode::OK, &call.app.secrets.issuer.key_set(Purpose::SignIns).await.map_err(Error::internal)?)
}

/// Why a password signs nobody in.
enum NotIn {
    Wrong,
    Busy(Busy),
}

/// Checks the form's password and notes the outcome. A local user and a team's own user may have the same name: each has
/// its own password.
async fn by_password(call: &Call, name_field: &str) -> Result<Result<Person, NotIn>, Failure> {
    let (name, password) = (call.form.get(name_field), call.form.get("password"));
    let platform = &call.app.secrets.platform;
    if let Some(team) = platform.team_of_user(name, password).await {
        let person = team_user(team, name);
        note(call, "team", name, Ok(&person)).await;
        return Ok(Ok(person));
    }
    match call.app.login.password(name, password).await? {
        Ok(Some(claims)) => {
            let person = Person::from(claims);
            note(call, "local", name, Ok(&person)).await;
            Ok(Ok(person))
        }
        Ok(None) => {
            // What is no name may be a password that was typed into the wrong field.
            let known = call.app.login.is_local_user(name).await || platform.team_with_user(name).await.is_some();
            let (shown, why) = match known {
                true => (name, "wrong password"),
                false => ("", "unknown name"),
            };
            note(call, "local", shown, Err((StatusCode::UNAUTHORIZED, why))).await;
            Ok(Err(NotIn::Wrong))
        }
        // No row: what is refused unread costs nothing, a row would.
        Err(busy) => Ok(Err(NotIn::Busy(busy))),
    }
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

/// The callback as providers know it that were told of it long ago.
async fn legacy_callback(call: Call) -> Answer {
    let query = call.parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    redirect(StatusCode::TEMPORARY_REDIRECT, &format!("/sky/issuer/callback{query}"))
}

async fn legacy_logout(_: Call) -> Answer {
    redirect(StatusCode::FOUND, "/sky/logout")
}

/// The sign-in page; who is signed in already goes straight on.
async fn form(call: Call) -> Answer {
    let back = way_back(call.query.get("redirect_uri"));
    if session(&call).await?.is_some() {
        return redirect(StatusCode::FOUND, &back);
    }
    show_form(&call, back, "", "", StatusCode::OK).await
}

async fn show_form(call: &Call, redirect_uri: String, error: &str, login: &str, status: StatusCode) -> Answer {
    let state = chance::hex::<16>();
    let way = |choice: crate::login::Choice| Way {
        href: format!("/sky/login/{}?redirect_uri={}", choice.id, query_escape(&redirect_uri)),
        label: choice.label,
    };
    let page = call.app.pages.sign_in(&SignIn {
        cluster_name: call.app.settings.cluster_name.clone(),
        ways: call.app.login.choices().into_iter().map(way).collect(),
        redirect_uri,
        state: state.clone(),
        error: error.to_owned(),
        login: login.to_owned(),
        has_local_users: call.app.login.has_local_users().await,
    });
    let mut response = html(status, page)?;
    let secure = if call.app.settings.cookie_secure { "; Secure" } else { "" };
    let cookie = format!("{STATE}={state}; Path=/sky; Max-Age=3600; HttpOnly{secure}; SameSite=Strict");
    response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(Error::internal)?);
    Ok(response)
}

/// The form comes back. Its state must be the cookie's, else another site could sign somebody in as somebody else.
async fn submit(call: Call) -> Answer {
    let back = way_back(call.form.get("redirect_uri"));
    let name = call.form.get("login").to_owned();
    let state = cookie(&call.parts.headers, STATE).unwrap_or("");
    if state.is_empty() || !bool::from(state.as_bytes().ct_eq(call.form.get("state").as_bytes())) {
        return show_form(&call, back, "this form has expired, please try again", &name, StatusCode::BAD_REQUEST).await;
    }
    match by_password(&call, "login").await? {
        Ok(person) => signed_in(&call, person, &back).await,
        Err(NotIn::Wrong) => {
            show_form(&call, back, "Invalid username or password", &name, StatusCode::UNAUTHORIZED).await
        }
        Err(NotIn::Busy(busy)) => {
            show_form(&call, back, &busy.to_string(), &name, StatusCode::SERVICE_UNAVAILABLE).await
        }
    }
}

/// Gives the browser its session and sends it on.
async fn signed_in(call: &Call, person: Person, back: &str) -> Answer {
    let issued = call.app.login.issue(person, TokenKind::Browser, call.origin.address.to_string()).await?;
    let mut response = redirect(StatusCode::SEE_OTHER, back)?;
    let secure = call.app.settings.cookie_secure;
    for cookie in session_cookies(&issued.token, issued.lifetime.as_secs(), secure) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Sends the browser to another server.
async fn begin(call: Call) -> Answer {
    let back = way_back(call.query.get("redirect_uri"));
    let connector = call.param("connector").to_owned();
    match call.app.login.begin(&connector, &back).await {
        Ok((url, binding)) => {
            let mut response = redirect(StatusCode::FOUND, &url)?;
            response
                .headers_mut()
                .append(header::SET_COOKIE, state_cookie(&call, &binding.name, &binding.value, PATIENCE.as_secs())?);
            Ok(response)
        }
        Err(error) => {
            tracing::warn!(%error, connector, "a sign-in could not begin");
            show_form(&call, back, &error.to_string(), "", StatusCode::BAD_GATEWAY).await
        }
    }
}

/// Lax, since it must come back on the way from another site.
fn state_cookie(call: &Call, name: &str, value: &str, seconds: u64) -> Result<HeaderValue, Failure> {
    let secure = if call.app.settings.cookie_secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/sky/issuer; Max-Age={seconds}; HttpOnly{secure}; SameSite=Lax");
    Ok(HeaderValue::from_str(&cookie).map_err(Error::internal)?)
}

/// The browser comes back from there.
async fn finish(call: Call) -> Answer {
    let name = cookie_name(call.query.get("state"));
    let error = [call.query.get("error_description"), call.query.get("error")];
    let come = Return {
        state: call.query.get("state").to_owned(),
        code: call.query.get("code").to_owned(),
        error: error.into_iter().find(|e| !e.is_empty()).unwrap_or("it sent no code").to_owned(),
        cookie: cookie(&call.parts.headers, &name).unwrap_or("").to_owned(),
    };
    let mut response = match call.app.login.finish(&come).await {
        Ok((connector, claims, back)) => {
            let person = Person::from(claims);
            note(&call, &connector, "", Ok(&person)).await;
            signed_in(&call, person, &back).await?
        }
        Err(error) => {
            let text = error.to_string();
            let status = StatusCode::FORBIDDEN;
            note(&call, "elsewhere", "", Err((status, &text))).await;
            show_form(&call, "/".to_owned(), &text, "", status).await?
        }
    };
    response.headers_mut().append(header::SET_COOKIE, state_cookie(&call, &name, "", 0)?);
    Ok(response)
}

/// Signs the client out, which wants exactly 200. A browser is asked first: any page can send it here.
async fn logout(call: Call) -> Answer {
    if call.header("accept").contains("text/html") && call.header("authorization").is_empty() {
        let known = session(&call).await?.is_some();
        return match known {
            true => html(StatusCode::OK, call.app.pages.sign_out(&call.csrf)),
            false => redirect(StatusCode::FOUND, "/"),
        };
    }
    let (Token::Header(token) | Token::Cookie(token)) = token(&call.parts.headers) else {
        return empty(StatusCode::UNAUTHORIZED);
    };
    end(&call, &token, empty(StatusCode::OK)?).await
}

/// Signs a browser out.
async fn logout_by_form(call: Call) -> Answer {
    let Token::Cookie(token) = token(&call.parts.headers) else { return redirect(StatusCode::SEE_OTHER, "/") };
    if !is_own(&call.parts.method, &call.parts.headers, call.form.get("csrf_token")) {
        return Err(Failure::unauthenticated());
    }
    end(&call, &token, redirect(StatusCode::SEE_OTHER, "/")?).await
}

/// Ends a session and takes its cookies.
async fn end(call: &Call, token: &str, mut response: axum::response::Response) -> Answer {
    if let Some(bearer) = bearer(call, token).await? {
        // A service account is ended by its team, not by whoever uses it.
        if bearer.is_service() {
            let error = Error::new(Kind::Forbidden, "a service account cannot sign out");
            return Err(error.hint("an owner of its team removes it").into());
        }
        call.app.login.revoke(token).await?;
        let mut entry = Entry::of_session(SIGN_OUT, &bearer.claims.federated_claims.connector_id, "");
        entry.by(&bearer.claims, false);
        entry.from(call.origin.address.to_string());
        call.app.audit.record(entry.ended(200, call.app.clock.now())).await;
    }
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

async fn bearer(call: &Call, token: &str) -> Result<Option<Bearer>, Failure> {
    let (digest, now) = (digest(token.as_bytes()), call.app.clock.now());
    Ok(call.app.store.read(move |tx| tx.bearer(&digest, now)).await?)
}

/// The browser's token, if it is good.
async fn session(call: &Call) -> Result<Option<String>, Failure> {
    let Token::Cookie(token) = token(&call.parts.headers) else { return Ok(None) };
    Ok(bearer(call, &token).await?.map(|_| token))
}
