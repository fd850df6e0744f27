//! What every page has: the frame around it, the way to an HTML answer, and pages for what went wrong.

use askama::Template;
use axum::http::StatusCode;

use super::link::part;
use super::markup::Markup;
use super::status::Status;
use crate::base::error::Error;
use crate::front::{Answer, Call, Failure, Permit, html};

/// One step of the way to a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crumb {
    /// What it says.
    pub label: String,
    /// Where it leads.
    pub href: String,
}

impl Crumb {
    /// From its two parts.
    pub fn new(label: impl Into<String>, href: impl Into<String>) -> Crumb {
        Crumb { label: label.into(), href: href.into() }
    }
}

/// Head, top and foot of a page.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Title of the tab.
    pub title: String,
    /// Who has signed in.
    pub user: Option<String>,
    /// Whether to offer signing in.
    pub sign_in: bool,
    /// The cross-site token for forms.
    pub csrf: String,
    /// This page's address.
    pub here: String,
    /// The way here.
    pub crumbs: Vec<Crumb>,
    /// Colours the tab's icon.
    pub status: Status,
    /// Where changes to the page are told, or ''.
    pub live: String,
    /// The changes are those of a build.
    pub is_build: bool,
    /// Without script, load again now and then.
    pub refresh: bool,
    /// The installation's name.
    pub cluster: String,
    /// What the administrator has to say.
    pub wall: String,
    /// Why no build starts, or ''.
    pub hold: String,
}

impl Frame {
    /// For a page that `permit` allows.
    pub async fn new(permit: &Permit, call: &Call, title: impl Into<String>, crumbs: Vec<Crumb>) -> Frame {
        let wall = call.app.store.read(|tx| tx.setting("wall")).await.ok().flatten();
        Frame {
            title: title.into(),
            user: permit.who().map(|_| permit.user().to_owned()),
            sign_in: true,
            csrf: call.csrf.clone(),
            here: here(call),
            crumbs,
            cluster: call.app.settings.cluster_name.clone(),
            hold: call.app.hold.why().unwrap_or_default(),
            wall: wall.map(|text| wall_message(&text, call.app.clock.now().0)).unwrap_or_default(),
            ..Frame::default()
        }
    }

    /// The tab's icon.
    pub fn icon(&self) -> String {
        super::assets::favicon(self.status)
    }

    /// The sign-in page that leads back here.
    pub fn sign_in_href(&self) -> String {
        format!("/sky/login?redirect_uri={}", part(&self.here))
    }
}

/// The wall's message: plain text, or an object with its end.
fn wall_message(stored: &str, now: i64) -> String {
    match serde_json::from_str::<serde_json::Value>(stored) {
        Ok(value) if value.is_object() => {
            let over = value["expires_at"].as_i64().is_some_and(|end| end <= now);
            if over { String::new() } else { value["message"].as_str().unwrap_or("").to_owned() }
        }
        _ => stored.to_owned(),
    }
}

/// The address of the page that was asked for.
pub fn here(call: &Call) -> String {
    call.parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// A part of a page, rendered by itself.
pub fn rendered(part: &impl Template) -> Result<Markup, Failure> {
    // askama has escaped every value in it.
    part.render().map(Markup::trusted).map_err(|e| Failure::from(Error::internal(e)))
}

/// A whole page.
pub fn answer(page: &impl Template) -> Answer {
    html(StatusCode::OK, rendered(page)?.into_string())
}

/// A page whose content the server sends again when it has changed.
#[derive(Template)]
#[template(path = "pages/live.html")]
pub struct Live {
    /// Around it.
    pub frame: Frame,
    /// The content.
    pub body: Markup,
}

#[derive(Template)]
#[template(path = "pages/problem.html")]
struct Problem<'a> {
    frame: Frame,
    code: u16,
    heading: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    links: Vec<(&'a str, String)>,
}

/// Says what went wrong and where to go from there.
pub fn problem(status: StatusCode, message: &str, hint: Option<&str>, signed_in: bool) -> String {
    let (heading, own) = match status.as_u16() {
        400 => ("This address makes no sense", None),
        401 => ("Please sign in", Some("Your session has ended, or this form is too old. Sign in and try again.")),
        403 => ("You may not do this", Some("Ask an owner of the team for a role that allows it.")),
        404 => ("There is nothing here", Some("It may have been renamed or removed, or you may not see it.")),
        409 => ("Not possible now", None),
        503 => ("Not available now", Some("Try again in a moment.")),
        _ => ("Something went wrong", Some("The server's log says more.")),
    };
    let mut links = vec![("Dashboard", "/".to_owned())];
    if !signed_in || status == StatusCode::UNAUTHORIZED {
        links.push(("Sign in", "/sky/login".to_owned()));
    }
    let message = match message.trim() {
        "not authorized" | "forbidden" | "404 page not found" => "",
        text => text,
    };
    let frame = Frame { title: heading.into(), crumbs: vec![], ..Frame::default() };
    let page = Problem { frame, code: status.as_u16(), heading, message, hint: hint.or(own), links };
    page.render().unwrap_or_else(|e| e.to_string())
}

/// Where a form leads back to: a path on this server, whatever it says.
pub fn back(call: &Call, otherwise: &str) -> String {
    match crate::front::way_back(call.form.get("back")) {
        root if root == "/" => otherwise.to_owned(),
        path => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_lead_somewhere_and_escape_what_they_say() {
        let page = problem(StatusCode::NOT_FOUND, "<script>", None, false);
        assert!(page.contains("href=\"/\"") && page.contains("/sky/login") && !page.contains("<script>\n"));
        assert!(!page.contains("><script><"), "{page}");
    }

    #[test]
    fn the_wall_ends_when_it_says_so() {
        assert_eq!(wall_message("hello", 5), "hello");
        assert_eq!(wall_message(r#"{"message":"m"}"#, 5), "m");
        assert_eq!(wall_message(r#"{"message":"m","expires_at":5}"#, 5), "");
    }
}
