//! The fold over the table of actions: check, handler, audit; and the same for pages.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Router, middleware};
use futures_util::FutureExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate};
use tower_http::compression::{CompressionLayer, DefaultPredicate};

use super::session::{self, Token};
use super::{Answer, App, Call, Failure, Origin, Permit, Query, clear_cookies, gate, html, permit, redirect};
use crate::audit::Entry;
use crate::auth::Action;
use crate::auth::action::{Method, TABLE};

type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Arc<dyn Fn(Permit, Call) -> Running + Send + Sync>;
type Open = Arc<dyn Fn(Call) -> Running + Send + Sync>;

/// Longest form that is read.
const LONGEST_FORM: usize = 1024 * 1024;

/// How a route answers those who may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With a status.
    Api,
    /// With the way to the sign-in page, if that can help.
    Page,
}

/// A page, or the target of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRoute {
    /// `Get` for a page, `Post` for a form's target.
    pub method: Method,
    /// Its path, with `{parameters}`.
    pub path: String,
    /// Who may do this may use it.
    pub action: Action,
}

/// Collects handlers and makes the router.
pub struct Routes {
    app: App,
    api: BTreeMap<Action, Handler>,
    paths: BTreeMap<String, MethodRouter>,
    pages: Vec<PageRoute>,
    fallback: Option<Open>,
}

impl Routes {
    /// None yet.
    pub fn new(app: App) -> Routes {
        Routes { app, api: BTreeMap::new(), paths: BTreeMap::new(), pages: Vec::new(), fallback: None }
    }

    /// The handler of an action of the table.
    #[must_use]
    pub fn on<F, Fut>(mut self, action: Action, handler: F) -> Routes
    where
        F: Fn(Permit, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.api.insert(action, boxed(handler));
        self
    }

    /// A page: `GET path`, allowed to those who may do `action`; others are sent to sign in.
    #[must_use]
    pub fn page<F, Fut>(mut self, path: &str, action: Action, handler: F) -> Routes
    where
        F: Fn(Permit, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.pages.push(PageRoute { method: Method::Get, path: path.to_owned(), action });
        self.add(path, MethodFilter::GET, action, Kind::Page, boxed(handler));
        self
    }

    /// A form's target: `POST path`, allowed to those who may do `action`, with `csrf_token` among its fields. It is
    /// audited as the action.
    #[must_use]
    pub fn form<F, Fut>(mut self, path: &str, action: Action, handler: F) -> Routes
    where
        F: Fn(Permit, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.pages.push(PageRoute { method: Method::Post, path: path.to_owned(), action });
        self.add(path, MethodFilter::POST, action, Kind::Page, boxed(handler));
        self
    }

    /// A route that belongs to nobody: sign-in, assets. It gets no permit, so it can show nothing of a team's.
    #[must_use]
    pub fn open<F, Fut>(mut self, method: Method, path: &str, handler: F) -> Routes
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let (app, handler) = (self.app.clone(), boxed_open(handler));
        let route = on(filter(method), move |request: Request| open(app.clone(), handler.clone(), request));
        self.merge(path, route);
        self
    }

    /// What answers for addresses that are none.
    #[must_use]
    pub fn fallback<F, Fut>(mut self, handler: F) -> Routes
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.fallback = Some(boxed_open(handler));
        self
    }

    /// All pages and targets of forms.
    pub fn pages(&self) -> &[PageRoute] {
        &self.pages
    }

    /// Actions of the table that have no handler.
    pub fn missing(&self) -> Vec<&'static str> {
        TABLE.iter().filter(|row| !self.api.contains_key(&row.action)).map(|row| row.name).collect()
    }

    /// The router. An action without a handler says so, to those who may do it.
    pub fn finish(mut self) -> Router {
        for row in TABLE {
            let handler = self
                .api
                .remove(&row.action)
                .unwrap_or_else(|| boxed(move |_, _| std::future::ready(Err(Failure::not_implemented(row.name)))));
            self.add(row.path, filter(row.method), row.action, Kind::Api, handler);
        }
        let mut router = Router::new();
        for (path, methods) in std::mem::take(&mut self.paths) {
            router = router.route(&path, methods);
        }
        let (app, fallback) = (self.app, self.fallback);
        let gate = middleware::from_fn_with_state(app.clone(), gate::pass);
        router
            .fallback(move |request: Request| {
                let (app, fallback) = (app.clone(), fallback.clone());
                async move {
                    match fallback {
                        Some(handler) => open(app, handler, request).await,
                        None => Failure::text(StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
                    }
                }
            })
            .method_not_allowed_fallback(|| async {
                Failure::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response()
            })
            .layer(CompressionLayer::new().compress_when(
                // What is packed already would only lose its length.
                DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream")),
            ))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(gate)
    }

    fn add(&mut self, path: &str, filter: MethodFilter, action: Action, kind: Kind, handler: Handler) {
        let app = self.app.clone();
        let route = on(filter, move |request: Request| guarded(app.clone(), action, kind, handler.clone(), request));
        self.merge(path, route);
    }

    fn merge(&mut self, path: &str, route: MethodRouter) {
        let methods = self.paths.remove(path).unwrap_or_default().merge(route);
        self.paths.insert(path.to_owned(), methods);
    }
}

fn boxed<F, Fut>(handler: F) -> Handler
where
    F: Fn(Permit, Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |permit, call| Box::pin(handler(permit, call)))
}

fn boxed_open<F, Fut>(handler: F) -> Open
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |call| Box::pin(handler(call)))
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// Takes the request apart.
async fn call(app: App, request: Request) -> Result<Call, Failure> {
    let (mut parts, body) = request.into_parts();
    let unreadable = || Failure::text(StatusCode::BAD_REQUEST, "400 Bad Request");
    if !is_escaped(parts.uri.path()) {
        return Err(unreadable());
    }
    let path = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(params) => params.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        Err(_) => return Err(unreadable()),
    };
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let csrf = session::csrf(&parts.headers);
    let origin = parts.extensions.get::<Origin>().copied().unwrap_or_default();
    Ok(Call { app, parts, path, query, form: Query::default(), origin, csrf, body: body.into() })
}

/// Whether two digits follow each `%`.
fn is_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|part| part.as_bytes().get(..2).is_some_and(|b| b.iter().all(u8::is_ascii_hexdigit)))
}

async fn open(app: App, handler: Open, request: Request) -> Response {
    let answer = async move {
        let mut call = call(app, request).await?;
        read_form(&mut call).await?;
        handler(call).await
    };
    to_its_end(async { answer.await.unwrap_or_else(IntoResponse::into_response) }).await
}

/// Goes on whether or not who asked still waits: a change that has begun commits, and must then be written down too.
async fn to_its_end(answering: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(answering).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(response) => response,
        Err(Ok(cause)) => panicked(cause),
        Err(Err(_)) => Failure::text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n").into_response(),
    }
}

async fn guarded(app: App, action: Action, kind: Kind, handler: Handler, request: Request) -> Response {
    to_its_end(answered(app, action, kind, handler, request)).await
}

/// Check, handler, audit.
async fn answered(app: App, action: Action, kind: Kind, handler: Handler, request: Request) -> Response {
    let began = Instant::now();
    let call = match call(app.clone(), request).await {
        Ok(call) => call,
        Err(failure) => return failure.into_response(),
    };
    let by_cookie = matches!(session::token(&call.parts.headers), Token::Cookie(_));
    let (method, target) = (call.parts.method.clone(), call.parts.uri.path_and_query().map(ToString::to_string));
    let mut entry = Entry::new(action, &call.path, &call.query.0);
    entry.from(call.origin.address.to_string());
    // What a handler has done before it panicked is done: that leaves a row too.
    let answer = AssertUnwindSafe(checked(&app, action, kind, call, handler, &mut entry)).catch_unwind().await;
    let mut response = match (answer, kind) {
        (Ok(Ok(response)), _) => response,
        (Ok(Err(failure)), Kind::Api) => failure.into_response(),
        (Ok(Err(failure)), Kind::Page) => problem(&app, &failure, entry.has_user()),
        (Err(cause), _) => panicked(cause),
    };
    let status = response.status();
    app.audit.record(entry.ended(status.as_u16(), app.clock.now())).await;
    metrics::histogram!("concourse_http_responses_duration_seconds", "method" => method.to_string(),
        "route" => action.row().name, "status" => status.as_u16().to_string())
    .record(began.elapsed().as_secs_f64());
    if status == StatusCode::UNAUTHORIZED {
        if kind == Kind::Page {
            let back = target.filter(|_| method.is_safe()).unwrap_or_else(|| "/".to_owned());
            let sign_in = format!("/sky/login?redirect_uri={}", super::call::query_escape(&back));
            response = redirect(StatusCode::FOUND, &sign_in).unwrap_or_else(IntoResponse::into_response);
        }
        if by_cookie {
            for cookie in clear_cookies(app.settings.cookie_secure) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
    }
    response
}

async fn checked(app: &App, action: Action, kind: Kind, mut call: Call, handler: Handler, entry: &mut Entry) -> Answer {
    let permit = permit::check(
        app,
        permit::Request {
            action,
            headers: &call.parts.headers,
            path: &call.path,
            query: &call.query,
            origin: call.origin,
            lenient: kind == Kind::Page,
        },
        entry,
    )
    .await?;
    if kind == Kind::Page {
        read_form(&mut call).await?;
    }
    if matches!(session::token(&call.parts.headers), Token::Cookie(_)) {
        let header = call.header("x-csrf-token");
        let repeated = if header.is_empty() { call.form.get("csrf_token") } else { header };
        if !session::is_own(&call.parts.method, &call.parts.headers, repeated)
            || !session::is_own_socket(&call.parts.headers, &app.settings.external_url)
        {
            return Err(Failure::unauthenticated());
        }
    }
    handler(permit, call).await
}

/// A failure as a page.
fn problem(app: &App, failure: &Failure, signed_in: bool) -> Response {
    let page = app.pages.problem(failure.status, &failure.message, failure.hint.as_deref(), signed_in);
    html(failure.status, page).unwrap_or_else(IntoResponse::into_response)
}

/// Reads a posted form, where there is one.
async fn read_form(call: &mut Call) -> Result<(), Failure> {
    let is_form = call.header("content-type").starts_with("application/x-www-form-urlencoded");
    if call.parts.method.is_safe() || !is_form {
        return Ok(());
    }
    let body = std::mem::replace(&mut call.body, Body::empty().into()).into_inner().unwrap_or_default();
    let bytes = axum::body::to_bytes(body, LONGEST_FORM)
        .await
        .map_err(|e| Failure::bad_request(format!("the form could not be read: {e}")))?;
    call.form = Query::parse(&String::from_utf8_lossy(&bytes));
    Ok(())
}

fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    let text = crate::base::secret::redact_everything(text.unwrap_or("unknown"));
    tracing::error!(panic = text, "a request handler panicked");
    let mut response = Response::new(Body::from("internal error; the server's log says more\n"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
