//! Pages of long lists, and the links to their neighbours, which the client follows.

use axum::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::front::{Answer, Call, Failure, Query, json};
use crate::store::page::{Bounds, Page, PageRequest};

/// Rows on a page if nothing is said.
const DEFAULT: i64 = 100;
/// Rows on a page at most.
const MOST: i64 = 5000;

/// The page a query asks for. What is no number counts as 0, as Go's reading leaves it.
pub fn request(query: &Query) -> Result<PageRequest, Failure> {
    let bound = |name: &str| Some(query.get(name)).filter(|text| !text.is_empty()).map(number);
    let limit = match number(query.get("limit")) {
        0 => DEFAULT,
        limit if limit < 0 => return Err(Failure::bad_request("limit must not be negative")),
        limit => limit.min(MOST),
    };
    Ok(PageRequest { from: bound("from"), to: bound("to"), bounds: Bounds::Ids, limit })
}

/// The page of builds a query asks for: with `timestamps`, by when they started.
pub fn of_builds(query: &Query) -> Result<PageRequest, Failure> {
    let bounds = if query.get("timestamps").is_empty() { Bounds::Ids } else { Bounds::Starts };
    let page = PageRequest { bounds, ..request(query)? };
    let (from, to) = (page.from.unwrap_or(0), page.to.unwrap_or(i64::MAX));
    if bounds == Bounds::Ids && (from < 0 || to < 0) {
        return Err(Failure::bad_request("from and to are ids of builds, which are not negative"));
    }
    if bounds == Bounds::Ids && from > to {
        return Err(Failure::bad_request("invalid range boundaries: from must not be above to"));
    }
    Ok(page)
}

fn number(text: &str) -> i64 {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().unwrap_or_else(|e: std::num::ParseIntError| match e.kind() {
        PosOverflow => i64::MAX,
        NegOverflow => i64::MIN,
        _ => 0,
    })
}

/// Answers with a page's rows and the addresses of its neighbours.
pub fn answer<'p, T, J: Serialize>(call: &Call, limit: i64, page: &'p Page<T>, show: impl Fn(&'p T) -> J) -> Answer {
    let rows: Vec<J> = page.items.iter().map(show).collect();
    let mut response = json(StatusCode::OK, &rows)?;
    let (url, path) = (&call.app.settings.external_url, call.parts.uri.path());
    let mut kept: Vec<String> = Vec::new();
    for (name, value) in &call.query.0 {
        if name == "vars" || name.starts_with("vars.") || name == "filter" {
            kept.push(format!("&{}={}", crate::front::query_escape(name), crate::front::query_escape(value)));
        }
    }
    let kept = kept.concat();
    let links = [("to", page.older, "next"), ("from", page.newer, "previous")];
    for (bound, id, relation) in links {
        let Some(id) = id else { continue };
        let link = format!(r#"<{url}{path}?{bound}={id}&limit={limit}{kept}>; rel="{relation}""#);
        if let Ok(value) = HeaderValue::from_str(&link) {
            response.headers_mut().append(header::LINK, value);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_from_the_query() {
        let page = |q: &str| of_builds(&Query::parse(q)).map(|p| (p.from, p.to, p.limit)).map_err(|f| f.message);
        for (query, expected) in [
            ("", (None, None, 100)),
            ("limit=2&to=9", (None, Some(9), 2)),
            ("limit=2&limit=3&from=4", (Some(4), None, 2)),
            ("limit=x&from=x", (Some(0), None, 100)),
            ("limit=0&from=&to=", (None, None, 100)),
            ("limit=999999", (None, None, MOST)),
            ("from=99999999999999999999", (Some(i64::MAX), None, 100)),
            ("from=9&to=2&timestamps=true", (Some(9), Some(2), 100)),
        ] {
            assert_eq!(page(query), Ok(expected), "{query}");
        }
        for wrong in ["limit=-1", "from=-1", "to=-1", "from=3&to=2", "from=1&to=x"] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
        let bounds = |q: &str| of_builds(&Query::parse(q)).unwrap().bounds;
        assert_eq!((bounds("timestamps=true"), bounds("timestamps")), (Bounds::Starts, Bounds::Ids));
    }
}
