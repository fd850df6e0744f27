//! How the audit trail is asked for and told, by the API and by the page alike.

use super::{Query, query_escape};
use crate::store::audit::AuditQuery;

/// Rows on a page if nothing is said.
const DEFAULT: i64 = 100;
/// Rows on a page at most.
const MOST: i64 = 1000;

/// A status in a word.
pub fn outcome(status: u16) -> &'static str {
    match status {
        100..=399 => "done",
        401 | 403 => "refused",
        400..=499 => "invalid",
        _ => "failed",
    }
}

/// What a query asks for: `user`, `action`, `before` and `limit`.
pub fn wanted(query: &Query) -> AuditQuery {
    let text = |name: &str| Some(query.get(name).trim().to_owned()).filter(|t| !t.is_empty());
    let limit = query.get("limit").parse().ok().filter(|n| *n > 0).unwrap_or(DEFAULT).min(MOST);
    let before = query.get("before").parse().ok();
    AuditQuery { team: None, user: text("user"), action: text("action"), before, limit }
}

/// The query of the page of older rows.
pub fn older(wanted: &AuditQuery, last: i64) -> String {
    let filters = [("user", &wanted.user), ("action", &wanted.action)];
    let filters = filters.into_iter().filter_map(|(n, v)| v.as_ref().map(|v| format!("&{n}={}", query_escape(v))));
    format!("before={last}&limit={}{}", wanted.limit, filters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_handed_on() {
        let asked = wanted(&Query::parse("user=ann%20b&limit=99999&before=7&action="));
        assert_eq!((asked.user.as_deref(), asked.action.as_deref()), (Some("ann b"), None));
        assert_eq!((asked.limit, asked.before), (MOST, Some(7)));
        assert_eq!(older(&asked, 3), "before=3&limit=1000&user=ann+b");
    }
}
