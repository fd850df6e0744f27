//! The forms in which a secret shows up in output: as it is, and as usual programs encode and quote it.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// Longer values are looked for line by line only: nobody encodes a whole archive into a log by accident.
const LONGEST_ENCODED: usize = 16 * 1024;
/// Shorter values have encodings that occur by chance.
const SHORTEST_ENCODED: usize = 4;
/// A piece of an encoding that is shorter occurs by chance.
const SHORTEST_PIECE: usize = 8;

/// One way in which a secret may be written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// Its bytes; never a line break among them.
    pub text: Vec<u8>,
    /// Encoders break it into lines, at any place.
    pub wraps: bool,
}

/// Every form of `value`. Each of its lines is a secret of its own, trimmed, unless it is a single character.
pub fn forms(value: &str) -> BTreeSet<Form> {
    let mut all = BTreeSet::new();
    for line in value.split(['\n', '\r']).map(str::trim).filter(|l| l.chars().nth(1).is_some()) {
        for text in written(line) {
            all.insert(Form { text: text.into_bytes(), wraps: false });
        }
    }
    let trimmed = value.trim();
    for whole in [value, trimmed, &format!("{trimmed}\n")] {
        if trimmed.len() >= SHORTEST_ENCODED && whole.len() <= LONGEST_ENCODED {
            all.extend(encoded(whole.as_bytes()).into_iter().map(|t| Form { text: t.into_bytes(), wraps: true }));
        }
    }
    all
}

/// Forms that change single characters, so that the form of a line is within the form of the whole.
fn written(line: &str) -> Vec<String> {
    let mut all = vec![line.to_owned()];
    all.extend(
        [(false, false), (true, false), (false, true), (true, true)].map(|(html, ascii)| json(line, html, ascii)),
    );
    all.push(go_quoted(line));
    for (quote, apostrophe) in [("&#34;", "&#39;"), ("&quot;", "&#x27;"), ("&quot;", "&apos;"), ("&quot;", "'")] {
        all.push(html(line, quote, apostrophe));
    }
    for keep in ["-_.~", "-_.~/", "-_.!~*'()", "-_.~$&+,:;=@", "*-._"] {
        all.push(percent(line, keep, true));
        all.push(percent(line, keep, false));
        all.push(percent(line, keep, true).replace("%20", "+"));
    }
    all.push(line.replace('\'', r"'\''"));
    all.push(line.replace('\'', r#"'"'"'"#));
    all.push(backslashed(line, |c| matches!(c, '"' | '\\' | '$' | '`')));
    all.push(backslashed(line, |c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+-./:=@_".contains(c)));
    all.push(backslashed(line, |c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"%+-./:=@_^,".contains(c)));
    // Bash's own `printf %q`, whose versions differ about the comma.
    all.push(backslashed(line, |c| " \t'\"\\|&;()<>!{}*[]?^$`".contains(c)));
    all.push(backslashed(line, |c| " \t'\"\\|&;()<>!{}*[]?^$`,".contains(c)));
    all.push(backslashed(line, |c| matches!(c, '\'' | '\\')).replace('\t', r"\t"));
    all
}

/// Without its quotes; `html` as Go writes it, `ascii` as Python does.
fn json(text: &str, html: bool, ascii: bool) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let mut out = String::with_capacity(quoted.len());
    for c in quoted[1..quoted.len().max(2) - 1].chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Go's `%q`, without its quotes.
fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn html(text: &str, quote: &str, apostrophe: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', quote).replace('\'', apostrophe)
}

fn percent(text: &str, keep: &str, upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || keep.contains(c) => out.push(c),
            _ if upper => out.push_str(&format!("%{byte:02X}")),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

fn backslashed(text: &str, special: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if special(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Forms that take the bytes together: base64 wherever in a longer text the secret stands, and hexadecimal.
fn encoded(bytes: &[u8]) -> Vec<String> {
    let hex = hex::encode(bytes);
    let mut all = vec![hex.to_uppercase(), hex];
    all.extend([&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|alphabet| alphabet.encode(bytes)));
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend_from_slice(bytes);
        // Characters that bytes before or after it have a part in say little of it and are left out.
        let (first, last) = ([0, 2, 3][before], padded.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            if last - first >= SHORTEST_PIECE {
                all.push(text[first..last].to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, form: &str) -> bool {
        forms(value).iter().any(|f| f.text == form.as_bytes())
    }

    #[test]
    fn a_secret_is_known_in_every_usual_disguise() {
        let secret = "p<a>s&s \"w'ö\\rd";
        for form in [
            secret,
            r#"p<a>s&s \"w'ö\\rd"#,
            r#"p\u003ca\u003es\u0026s \"w'ö\\rd"#,
            r#"p\u003ca\u003es\u0026s \"w'\u00f6\\rd"#,
            "p&lt;a&gt;s&amp;s &#34;w&#39;ö\\rd",
            "p&lt;a&gt;s&amp;s &quot;w&#x27;ö\\rd",
            "p%3Ca%3Es%26s%20%22w%27%C3%B6%5Crd",
            "p%3ca%3es%26s%20%22w%27%c3%b6%5crd",
            "p%3Ca%3Es%26s+%22w%27%C3%B6%5Crd",
            r#"p<a>s&s "w'\''ö\rd"#,
            r#"p\<a\>s\&s\ \"w\'ö\\rd"#,
            "cDxhPnMmcyAidyfDtlxyZA==",
            "cDxhPnMmcyAidyfDtlxyZA",
            "703c613e732673202277\
             27c3b65c7264",
            "703C613E73267320227727C3B65C7264",
        ] {
            assert!(has(secret, form), "{form}");
        }
        assert!(!has("ab", "YWI="), "encodings of tiny values occur by chance");
        assert!(forms("x").is_empty() && forms(" \n").is_empty());
    }

    #[test]
    fn base64_is_found_within_a_longer_text() {
        for before in ["", "u", "us", "user:"] {
            for after in ["", "\n", "@host"] {
                let text = STANDARD.encode(format!("{before}correct-horse{after}"));
                let found = forms("correct-horse").iter().any(|f| text.contains(std::str::from_utf8(&f.text).unwrap()));
                assert!(found, "{before}…{after}");
            }
        }
    }
}
