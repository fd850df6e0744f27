//! Who is calling: a bearer token from the header, or from the browser's cookie with its cross-site guard.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use subtle::ConstantTimeEq;

use crate::base::version::digest;

/// The browser's token.
const AUTH: &str = "skymarshal_auth";
/// What a form or script must repeat, told once more.
const CSRF: &str = "skymarshal_csrf";

/// The token of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// There is none.
    Absent,
    /// There is something that is none.
    Malformed,
    /// From the `Authorization` header.
    Header(String),
    /// From the cookie.
    Cookie(String),
}

/// The value of a cookie, without the quotes that Go puts around one with a space.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(v))
        .filter(|v| !v.is_empty())
}

/// Finds the token. The header wins over the cookie.
pub fn token(headers: &HeaderMap) -> Token {
    let bearer = |text: &str| {
        let (kind, token) = text.split_once(' ')?;
        (kind.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then(|| token.to_owned())
    };
    match headers.get(header::AUTHORIZATION) {
        Some(value) => value.to_str().ok().and_then(bearer).map_or(Token::Malformed, Token::Header),
        None => match cookie(headers, AUTH) {
            Some(value) => bearer(value).map_or(Token::Malformed, Token::Cookie),
            None => Token::Absent,
        },
    }
}

/// What a form or a script must repeat beside the cookie of a session. It follows from the token, so that only who knows
/// that can tell it: a cookie of its own could be set by any host of the same domain.
pub fn csrf_of(token: &str) -> String {
    digest(format!("what forms repeat {token}").as_bytes())
}

/// The cross-site request token of the browser's session, or ''.
pub fn csrf(headers: &HeaderMap) -> String {
    match token(headers) {
        Token::Cookie(token) => csrf_of(&token),
        _ => String::new(),
    }
}

/// Whether a request that is carried by a cookie was really made by a page of ours. `repeated` is what the form or the
/// `X-Csrf-Token` header says.
pub fn is_own(method: &Method, headers: &HeaderMap, repeated: &str) -> bool {
    let expected = csrf(headers);
    method.is_safe() || (!expected.is_empty() && bool::from(expected.as_bytes().ct_eq(repeated.as_bytes())))
}

/// Whether a websocket that is carried by a cookie was opened by a page of ours: it begins with a `GET`, and browsers let
/// any page open one, but they say which.
pub fn is_own_socket(headers: &HeaderMap, external_url: &str) -> bool {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return true;
    }
    let (origin, host) = (text(header::ORIGIN), text(header::HOST));
    let same_host = origin.split_once("://").is_some_and(|(_, from)| !from.is_empty() && from == host);
    origin == external_url || same_host
}

/// The two cookies of a browser that has just signed in: the token, and what is to be repeated beside it, for programs that
/// sign in as browsers do.
pub fn session_cookies(token: &str, seconds: u64, secure: bool) -> [HeaderValue; 2] {
    let secure = if secure { "; Secure" } else { "" };
    [format!("{AUTH}=\"bearer {token}\""), format!("{CSRF}={}", csrf_of(token))].map(|pair| {
        HeaderValue::from_str(&format!("{pair}; Path=/; Max-Age={seconds}; HttpOnly{secure}; SameSite=Lax"))
            .expect("tokens are letters and digits")
    })
}

/// Takes both cookies away.
pub fn clear_cookies(secure: bool) -> [HeaderValue; 2] {
    let secure = if secure { "; Secure" } else { "" };
    [AUTH, CSRF].map(|name| {
        HeaderValue::from_str(&format!("{name}=; Path=/; Max-Age=0; HttpOnly{secure}; SameSite=Lax"))
            .expect("the names are plain")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect::<Vec<(header::HeaderName, _)>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn a_token_is_found_in_header_or_cookie() {
        let quoted = ("cookie", "a=b; skymarshal_auth=\"bearer t\"; skymarshal_csrf=c");
        for (given, expected) in [
            (vec![], Token::Absent),
            (vec![("authorization", "Bearer t")], Token::Header("t".into())),
            (vec![("authorization", "bearer t")], Token::Header("t".into())),
            (vec![("authorization", "Basic t")], Token::Malformed),
            (vec![("authorization", "Bearer")], Token::Malformed),
            (vec![quoted], Token::Cookie("t".into())),
            (vec![("cookie", "skymarshal_auth=bearer t")], Token::Cookie("t".into())),
            (vec![("cookie", "skymarshal_auth=t")], Token::Malformed),
            (vec![quoted, ("authorization", "Bearer u")], Token::Header("u".into())),
        ] {
            assert_eq!(token(&headers(&given)), expected, "{given:?}");
        }
    }

    #[test]
    fn a_socket_by_cookie_must_come_from_a_page_of_ours() {
        for (origin, expected) in [
            ("https://ci.example.com", true),
            ("http://10.0.0.1:8080", true),
            ("https://evil.example.com", false),
            ("null", false),
            ("", false),
        ] {
            let with = headers(&[("upgrade", "websocket"), ("origin", origin), ("host", "10.0.0.1:8080")]);
            assert_eq!(is_own_socket(&with, "https://ci.example.com"), expected, "{origin}");
        }
        assert!(is_own_socket(&headers(&[("origin", "https://evil.example.com")]), "https://ci.example.com"));
    }

    #[test]
    fn a_change_by_cookie_must_repeat_the_token() {
        // What else the cookies say counts for nothing: another host of the domain may have set them.
        let with = headers(&[("cookie", "skymarshal_auth=\"bearer t\"; skymarshal_csrf=c")]);
        assert!(is_own(&Method::GET, &with, ""));
        assert!(is_own(&Method::PUT, &with, &csrf_of("t")));
        for wrong in ["", "c", "t", &csrf_of("u")] {
            assert!(!is_own(&Method::PUT, &with, wrong), "{wrong}");
        }
        assert!(!is_own(&Method::PUT, &headers(&[("cookie", "skymarshal_csrf=c")]), "c"));
        assert!(!is_own(&Method::PUT, &headers(&[]), ""));
    }
}
