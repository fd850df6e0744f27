//! Globs of groups, in the language of the library that Concourse reads them with (gobwas/glob).
//!
//! It differs from the shell's: between brackets stands one range or one list, only `!` negates, a star takes slashes too,
//! and braces need not be closed.

use std::iter::Peekable;
use std::str::Chars;

use regex::Regex;

/// What a group takes.
#[derive(Debug, Clone)]
pub enum Group<'p> {
    /// The job of this name: what most entries are, and a matcher for those is not worth making.
    Name(&'p str),
    /// Whatever starts and ends so: of a text, one star and a text the library looks at both ends alone, which may overlap.
    Ends(String, String),
    /// All that match.
    Pattern(Box<Regex>),
}

impl Group<'_> {
    /// None where the glob cannot be read.
    pub fn new(glob: &str) -> Option<Group<'_>> {
        if !glob.contains(['*', '?', '[', '{', '\\']) {
            return Some(Group::Name(glob));
        }
        let pattern = String::from(r"\A(?s:");
        let mut reader = Reader { rest: glob.chars().peekable(), pattern, open: 0, pieces: Vec::new() };
        while reader.piece()? {}
        if let [Piece::Text(start), Piece::Star, Piece::Text(end)] = reader.pieces.as_slice() {
            return Some(Group::Ends(start.clone(), end.clone()));
        }
        let pattern = format!("{}{})\\z", reader.pattern, ")".repeat(reader.open));
        Regex::new(&pattern).ok().map(|pattern| Group::Pattern(Box::new(pattern)))
    }

    /// Whether it takes the job of this name.
    pub fn is_match(&self, job: &str) -> bool {
        match self {
            Group::Name(own) => *own == job,
            Group::Ends(start, end) => job.starts_with(start) && job.ends_with(end),
            Group::Pattern(pattern) => pattern.is_match(job),
        }
    }
}

/// What stands in a glob outside of braces.
enum Piece {
    Text(String),
    Star,
    Other,
}

/// Writes a glob as a regular expression, which cannot be made to take long.
struct Reader<'g> {
    rest: Peekable<Chars<'g>>,
    pattern: String,
    /// How many braces are open.
    open: usize,
    pieces: Vec<Piece>,
}

impl Reader<'_> {
    /// Reads one more piece; false where there is none, none where it cannot be read.
    fn piece(&mut self) -> Option<bool> {
        let Some(&first) = self.rest.peek() else { return Some(false) };
        let piece = match first {
            '*' => {
                self.rest.next();
                self.rest.next_if_eq(&'*');
                self.pattern.push_str(".*");
                Piece::Star
            }
            '?' => {
                self.rest.next();
                self.pattern.push('.');
                Piece::Other
            }
            '[' => {
                self.rest.next();
                self.brackets()?;
                Piece::Other
            }
            '{' => {
                self.rest.next();
                self.open += 1;
                self.pattern.push_str("(?:");
                Piece::Other
            }
            ',' if self.open > 0 => {
                self.rest.next();
                self.pattern.push('|');
                Piece::Other
            }
            '}' if self.open > 0 => {
                self.rest.next();
                self.open -= 1;
                self.pattern.push(')');
                Piece::Other
            }
            _ => {
                let text = match self.open {
                    0 => self.text(&['?', '*', '[', '{']),
                    _ => self.text(&['?', '*', '[', '{', '}', ',']),
                };
                self.pattern.push_str(&regex::escape(&text));
                Piece::Text(text)
            }
        };
        self.pieces.push(piece);
        Some(true)
    }

    /// Text up to one of these; a backslash takes the next one as it is.
    fn text(&mut self, until: &[char]) -> String {
        let mut text = String::new();
        while let Some(c) = self.rest.next_if(|c| !until.contains(c)) {
            text.extend(if c == '\\' { self.rest.next() } else { Some(c) });
        }
        text
    }

    /// One range or one list of characters, perhaps negated.
    fn brackets(&mut self) -> Option<()> {
        let not = if self.rest.next_if_eq(&'!').is_some() { "^" } else { "" };
        let mut ahead = self.rest.clone();
        let (low, between) = (ahead.next()?, ahead.next());
        let class = if between == Some('-') {
            let high = ahead.next()?;
            self.rest = ahead;
            if high < low {
                return None;
            }
            format!("{}-{}", escaped(low), escaped(high))
        } else {
            self.text(&[']']).chars().map(escaped).collect()
        };
        if class.is_empty() || self.rest.next() != Some(']') {
            return None;
        }
        self.pattern.push_str(&format!("[{not}{class}]"));
        Some(())
    }
}

/// A character as it stands in a class of a regular expression.
fn escaped(c: char) -> String {
    format!("\\x{{{:x}}}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_what_concourses_library_takes_them_for() {
        let matches = |glob: &str, name: &str| Group::new(glob).map(|g| g.is_match(name));
        for (glob, name, want) in [
            ("{a,b}-*", "b-x", Some(true)),
            ("a*", "a/b", Some(true)),
            ("a**", "a/b", Some(true)),
            ("[!a]", "a", Some(false)),
            ("[^a]*", "b", Some(false)),
            ("[^a]*", "^b", Some(true)),
            ("[a", "a", None),
            ("[a-z]?", "ab", Some(true)),
            ("[a-z0-9]*", "a", None),
            ("[z-a]", "a", None),
            ("[]a]", "a", None),
            ("[abc-e]", "-", Some(true)),
            (r"[\]]", "]", Some(true)),
            ("{a", "a", Some(true)),
            ("{a,{b,c}d}e", "cde", Some(true)),
            ("a}", "a}", Some(true)),
            ("a,b", "a,b", Some(true)),
            ("a", "ab", Some(false)),
            (r"a\*", "a*", Some(true)),
            (r"\{a\}", "{a}", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
            ("x-*-prod", "x-prod", Some(true)),
            ("x-*-prod", "x-1-prod", Some(true)),
            ("((a))-*", "((a))-b", Some(true)),
        ] {
            assert_eq!(matches(glob, name), want, "{glob} {name}");
        }
    }
}
