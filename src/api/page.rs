//! Pages of long lists, and the links to their neighbours, which the client follows.

use axum::http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::front::{Answer, Call, Query, json};
use crate::store::page::{Page, PageRequest};

/// Rows on a page if nothing is said.
const DEFAULT: i64 = 100;
/// Rows on a page at most.
const MOST: i64 = 5000;

/// The page a query asks for.
pub fn request(query: &Query) -> PageRequest {
    let number = |name: &str| query.get(name).parse::<i64>().ok();
    PageRequest {
        from: number("from"),
        to: number("to"),
        limit: number("limit").filter(|n| *n > 0).unwrap_or(DEFAULT).min(MOST),
    }
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
        let page = |q: &str| request(&Query::parse(q));
        assert_eq!(page(""), PageRequest { from: None, to: None, limit: 100 });
        assert_eq!(page("limit=2&to=9"), PageRequest { from: None, to: Some(9), limit: 2 });
        assert_eq!(page("limit=-1&from=x"), PageRequest { from: None, to: None, limit: 100 });
        assert_eq!(page("limit=999999").limit, MOST);
    }
}
