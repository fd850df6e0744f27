//! Pages that belong to no pipeline: signing in, the client's hand-over, its download, and addresses that are none.

use askama::Template;
use axum::http::StatusCode;

use super::page::{self, Frame, answer};
use crate::front::pages::{Pages, SignIn, SignedInClient};
use crate::front::{Answer, Call, html};

#[derive(Template)]
#[template(path = "pages/login.html")]
struct SignInPage<'a> {
    frame: Frame,
    page: &'a SignIn,
}

#[derive(Template)]
#[template(path = "pages/sign_out.html")]
struct SignOutPage<'a> {
    frame: Frame,
    csrf: &'a str,
}

#[derive(Template)]
#[template(path = "pages/fly_success.html")]
struct SignedInPage<'a> {
    frame: Frame,
    page: &'a SignedInClient,
}

#[derive(Template)]
#[template(path = "pages/download.html")]
struct DownloadPage {
    frame: Frame,
    url: String,
    files: Vec<(&'static str, String)>,
}

fn frame(title: &str) -> Frame {
    Frame { title: title.to_owned(), ..Frame::default() }
}

fn text(page: &impl Template) -> String {
    // Writing to a String cannot fail, and no template here has a failing filter.
    page.render().unwrap_or_else(|e| e.to_string())
}

/// The pages that `front` and `api` ask for.
pub struct Drawn;

impl Pages for Drawn {
    fn sign_in(&self, page: &SignIn) -> String {
        let frame = Frame { cluster: page.cluster_name.clone(), ..frame("Sign in") };
        text(&SignInPage { frame, page })
    }

    fn sign_out(&self, csrf: &str) -> String {
        text(&SignOutPage { frame: frame("Sign out"), csrf })
    }

    fn signed_in_client(&self, page: &SignedInClient) -> String {
        text(&SignedInPage { frame: frame("Signed in"), page })
    }

    fn problem(&self, status: StatusCode, message: &str, hint: Option<&str>, signed_in: bool) -> String {
        page::problem(status, message, hint, signed_in)
    }
}

/// `GET /download-fly`
pub async fn download(call: Call) -> Answer {
    let platforms = [
        ("Linux x86-64", "linux", "amd64"),
        ("Linux ARM64", "linux", "arm64"),
        ("macOS Apple silicon", "darwin", "arm64"),
        ("macOS Intel", "darwin", "amd64"),
        ("Windows", "windows", "amd64"),
    ];
    let files = platforms.map(|(label, os, arch)| (label, format!("/api/v1/cli?platform={os}&arch={arch}")));
    let url = call.app.settings.external_url.clone();
    answer(&DownloadPage { frame: frame("Get fly"), url, files: files.into() })
}

/// What answers for addresses that are none: a page for people, a line for programs.
pub async fn nowhere(call: Call) -> Answer {
    let path = call.parts.uri.path();
    if path.starts_with("/api/") || !call.header("accept").contains("text/html") {
        return crate::front::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    html(StatusCode::NOT_FOUND, page::problem(StatusCode::NOT_FOUND, "", None, true))
}
