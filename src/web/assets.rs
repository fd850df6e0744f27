//! What pages load: embedded, under an address that changes with the content, so browsers may keep it for ever.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use rust_embed::RustEmbed;

use super::status::Status;
use crate::base::version::digest;
use crate::front::{Answer, Call, Failure};

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// One mark for all files together: modules name each other by relative addresses, which must agree.
static MARK: LazyLock<String> = LazyLock::new(|| {
    let mut all = Vec::new();
    let mut names: Vec<_> = Files::iter().collect();
    names.sort();
    for name in names {
        all.extend_from_slice(name.as_bytes());
        all.extend_from_slice(&Files::get(&name).map(|f| f.data.into_owned()).unwrap_or_default());
    }
    digest(&all)[..16].to_owned()
});

/// The address of a file in `static/`.
pub fn url(name: &str) -> String {
    format!("/static/{}/{name}", *MARK)
}

/// The tab's icon in the colour of a status.
pub fn favicon(status: Status) -> String {
    url(&format!("favicon-{}.svg", status.class().trim_start_matches("s-")))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// Serves `/static/{mark}/{name}`.
pub async fn serve(call: Call) -> Answer {
    let name = call.param("name");
    let file = Files::get(name).ok_or_else(Failure::not_found)?;
    // A page of an older binary asks under the old mark: it gets today's file, but must not keep it.
    let keep = if call.param("mark") == *MARK { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::new(Body::from(file.data.into_owned()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_icon_and_every_module_is_there() {
        for word in ["", "pending", "started", "succeeded", "failed", "errored", "aborted"] {
            let url = favicon(Status::parse(word));
            let name = url.rsplit('/').next().unwrap();
            assert!(Files::get(name).is_some(), "{name}");
        }
        for file in Files::iter().filter(|n| n.ends_with(".js")) {
            let text = String::from_utf8(Files::get(&file).unwrap().data.into_owned()).unwrap();
            for import in text.lines().filter_map(|l| l.split_once("from \"./")).map(|(_, r)| r.trim_end_matches("\";"))
            {
                assert!(Files::get(import).is_some(), "{file} imports {import}");
            }
        }
    }
}
