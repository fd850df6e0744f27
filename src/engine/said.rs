//! What a check without a log has said: its end, which stands below the reason when it fails.

/// How much of what a check says is kept where it has no log.
const SAID: usize = 16 * 1024;

/// Adds to the end of what was said, and lets go of its beginning.
pub fn keep_end(said: &mut String, more: &str) {
    said.push_str(more);
    if said.len() > 2 * SAID {
        said.drain(..said.ceil_char_boundary(said.len() - SAID));
    }
}

/// Without the colours that are for a terminal.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').get(1..).unwrap_or("")
    })
}

/// Why a check failed, and what its script has said about it.
pub fn with_said(why: String, said: &str) -> String {
    let said = &said[said.ceil_char_boundary(said.len().saturating_sub(SAID))..];
    // A type of our own says last why it failed.
    let said = plain(said);
    let said = said.trim_end();
    let said = said.strip_suffix(why.trim_end()).unwrap_or(said).trim_end();
    if said.is_empty() { why } else { format!("{why}\n{said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_stands_below_the_reason() {
        let mut said = String::new();
        for n in 0..5000 {
            keep_end(&mut said, &format!("zeile ä {n}\n"));
            assert!(said.len() <= 2 * SAID + 20);
        }
        let text = with_said("check failed: exit status 1".to_owned(), &said);
        assert!(text.starts_with("check failed: exit status 1\n") && text.ends_with("\nzeile ä 4999"), "{text}");
        assert!(text.len() <= SAID + 40, "{}", text.len());
        assert_eq!(with_said("no route".into(), "looking\nno route\n"), "no route\nlooking");
        assert_eq!(with_said("no route".into(), "no route\n"), "no route");
        assert_eq!(with_said("no route".into(), ""), "no route");
        assert_eq!(with_said("no".into(), "\u{1b}[1;31mred\u{1b}[0m é\n"), "no\nred é");
    }
}
