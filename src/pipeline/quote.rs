//! Texts in quotes as Go writes them.

/// As `%q` does: what can be printed stands for itself.
pub(crate) fn quoted(text: &str) -> String {
    written(text, |c| c.is_ascii() || c.escape_debug().len() > 1)
}

/// As `%+q` does: nothing but ASCII.
pub(crate) fn ascii(text: &str) -> String {
    written(text, |c| !matches!(c, ' '..='~'))
}

fn written(text: &str, escaped: impl Fn(char) -> bool) -> String {
    let mut written = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            ' '..='~' => written.push(c),
            '\u{7}' => written.push_str("\\a"),
            '\u{8}' => written.push_str("\\b"),
            '\u{c}' => written.push_str("\\f"),
            '\u{b}' => written.push_str("\\v"),
            '\n' => written.push_str("\\n"),
            '\t' => written.push_str("\\t"),
            '\r' => written.push_str("\\r"),
            c if !escaped(c) => written.push(c),
            c if c.is_ascii() => written.push_str(&format!("\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => written.push_str(&format!("\\u{:04x}", c as u32)),
            c => written.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_go_s() {
        for (text, plain, only_ascii) in [
            ("a b", r#""a b""#, r#""a b""#),
            ("a\"\\\n\t\u{1}", r#""a\"\\\n\t\x01""#, r#""a\"\\\n\t\x01""#),
            ("größe", "\"größe\"", r#""gr\u00f6\u00dfe""#),
            ("\u{2028}\u{1f600}", "\"\\u2028\u{1f600}\"", r#""\u2028\U0001f600""#),
        ] {
            assert_eq!((quoted(text), ascii(text)), (plain.to_owned(), only_ascii.to_owned()));
        }
    }
}
