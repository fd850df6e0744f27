//! Which texts are URLs to Go's `net/url`, and its words about those that are not.

use core::net::IpAddr;

use crate::pipeline::quote::quoted;

/// The scheme of a URL in lower case, empty where it has none; or what is wrong with it.
pub(super) fn parse(url: &str) -> Result<String, String> {
    let (bare, fragment) = url.split_once('#').unwrap_or((url, ""));
    let wrong = |of: &str, why: String| format!("parse {}: {why}", quoted(of));
    let scheme = without_fragment(bare).map_err(|why| wrong(bare, why))?;
    escapes(fragment).map_err(|why| wrong(url, why))?;
    Ok(scheme)
}

fn without_fragment(url: &str) -> Result<String, String> {
    if url.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    let (scheme, rest) = scheme(url)?;
    let rest = rest.split('?').next().unwrap_or_default();
    let mut path = rest;
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok(scheme);
        }
        if rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".into());
        }
    }
    if (!scheme.is_empty() || !rest.starts_with("///"))
        && let Some(rest) = rest.strip_prefix("//")
    {
        let end = rest.find('/').unwrap_or(rest.len());
        authority(&scheme, &rest[..end])?;
        path = &rest[end..];
    }
    escapes(path)?;
    Ok(scheme)
}

fn scheme(url: &str) -> Result<(String, &str), String> {
    for (i, c) in url.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".into()),
            ':' => return Ok((url[..i].to_ascii_lowercase(), &url[i + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), url))
}

fn authority(scheme: &str, authority: &str) -> Result<(), String> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    self::host(scheme, host)?;
    if !user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)) {
        return Err("net/url: invalid userinfo".into());
    }
    escapes(user)
}

fn host(scheme: &str, host: &str) -> Result<(), String> {
    match host.rfind('[') {
        Some(0) => {
            let close = host.rfind(']').ok_or("missing ']' in host")?;
            port(&host[close + 1..])?;
            return literal(&host[1..close]);
        }
        Some(_) => return Err("invalid IP-literal".into()),
        None => {}
    }
    if let (Some(first), Some(last)) = (host.find(':'), host.rfind(':')) {
        let strict = matches!(scheme, "http" | "https");
        port(&host[if strict { first } else { last }..])?;
    }
    host_escapes(host)
}

/// An address between brackets, perhaps with a zone.
fn literal(text: &str) -> Result<(), String> {
    let (address, zone) = text.split_once("%25").map_or((text, None), |(address, zone)| (address, Some(zone)));
    host_escapes(address)?;
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if zone != Some("") => Ok(()),
        Ok(IpAddr::V4(_)) => Err("invalid IP-literal".into()),
        _ => Err(format!("invalid host: ParseAddr({}): unable to parse IP", quoted(text))),
    }
}

fn port(text: &str) -> Result<(), String> {
    match text.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        None if text.is_empty() => Ok(()),
        _ => Err(format!("invalid port {} after host", quoted(text))),
    }
}

/// Whether every `%` is followed by two digits.
fn escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let digits = &text.as_bytes()[at + 1..];
        if digits.len() < 2 || !digits[..2].iter().all(u8::is_ascii_hexdigit) {
            let shown: String = text[at..].bytes().take(3).map(char::from).collect();
            return Err(format!("invalid URL escape {}", quoted(&shown)));
        }
    }
    Ok(())
}

/// In a host only what is not ASCII may be escaped, and few signs may stand for themselves.
fn host_escapes(host: &str) -> Result<(), String> {
    for (at, c) in host.char_indices() {
        match c {
            '%' => {
                escapes(&host[at..])?;
                let shown = &host[at..at + 3];
                if host.as_bytes()[at + 1] < b'8' && shown != "%25" {
                    return Err(format!("invalid URL escape {}", quoted(shown)));
                }
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"".contains(c) => {
                return Err(format!("invalid character {} in host name", quoted(&c.to_string())));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_go_s() {
        for (url, want) in [
            ("", Ok("")),
            ("/a.png", Ok("")),
            ("x", Ok("")),
            ("((x))", Ok("")),
            ("HTTPS://x", Ok("https")),
            ("javascript:alert(1)", Ok("javascript")),
            ("data:image/png;base64,AA%%", Ok("data")),
            ("//host/a", Ok("")),
            ("http://user:pa@ss@host:80/", Ok("http")),
            ("http://[::1]:80/", Ok("http")),
            (":a", Err(r#"parse ":a": missing protocol scheme"#)),
            ("1a:b", Err(r#"parse "1a:b": first path segment in URL cannot contain colon"#)),
            ("/a%zz", Err(r#"parse "/a%zz": invalid URL escape "%zz""#)),
            ("a\n", Err(r#"parse "a\n": net/url: invalid control character in URL"#)),
            ("http://a b", Err(r#"parse "http://a b": invalid character " " in host name"#)),
            ("http://[::1", Err(r#"parse "http://[::1": missing ']' in host"#)),
            ("http://a:b", Err(r#"parse "http://a:b": invalid port ":b" after host"#)),
            ("http://a#%", Err(r##"parse "http://a#%": invalid URL escape "%""##)),
        ] {
            assert_eq!(parse(url), want.map(str::to_owned).map_err(str::to_owned), "{url}");
        }
    }
}
