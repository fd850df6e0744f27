//! Globs of job names: Go's `path.Match` in `passed`, and the richer ones in groups.

use globset::{GlobBuilder, GlobMatcher};

/// Whether a name matches a glob of `passed`; one that cannot be read matches nothing.
pub fn passes(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    pieces(&pattern).is_some_and(|pieces| matches(&pieces, &name.chars().collect::<Vec<_>>()))
}

/// A part of a glob.
enum Piece {
    /// Any text without a slash.
    Star,
    /// Any character but a slash.
    Any,
    /// One of these but a slash.
    Of(Class),
    /// Itself.
    Literal(char),
}

/// None where the pattern cannot be read.
fn pieces(mut pattern: &[char]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    while let Some((&first, rest)) = pattern.split_first() {
        pattern = rest;
        pieces.push(match first {
            '*' => Piece::Star,
            '?' => Piece::Any,
            '[' => {
                let (class, rest) = Class::read(rest)?;
                pattern = rest;
                Piece::Of(class)
            }
            '\\' => {
                let (&literal, rest) = rest.split_first()?;
                pattern = rest;
                Piece::Literal(literal)
            }
            literal => Piece::Literal(literal),
        });
    }
    Some(pieces)
}

/// Only the last star ever gives way to a mismatch: what an earlier one could take more, a later one can take too.
fn matches(pieces: &[Piece], name: &[char]) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut star = None;
    loop {
        let fits = match (pieces.get(piece), name.get(at)) {
            (None, None) => return true,
            (Some(Piece::Star), _) => {
                piece += 1;
                star = Some((piece, at));
                continue;
            }
            (Some(Piece::Any), Some(&c)) => c != '/',
            (Some(Piece::Of(class)), Some(&c)) => c != '/' && class.holds(c),
            (Some(Piece::Literal(literal)), Some(c)) => literal == c,
            _ => false,
        };
        match (fits, star) {
            (true, _) => (piece, at) = (piece + 1, at + 1),
            (false, Some((after, from))) if name.get(from).is_some_and(|&c| c != '/') => {
                star = Some((after, from + 1));
                (piece, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// What stands between brackets.
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn read(pattern: &[char]) -> Option<(Class, &[char])> {
        let negated = pattern.first() == Some(&'^');
        let mut rest = if negated { &pattern[1..] } else { pattern };
        let mut ranges = Vec::new();
        loop {
            if rest.first() == Some(&']') && !ranges.is_empty() {
                return Some((Class { negated, ranges }, &rest[1..]));
            }
            let low = member(&mut rest)?;
            let high = if rest.first() == Some(&'-') {
                rest = &rest[1..];
                member(&mut rest)?
            } else {
                low
            };
            ranges.push((low, high));
        }
    }

    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != self.negated
    }
}

fn member(rest: &mut &[char]) -> Option<char> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    match first {
        '-' | ']' => None,
        '\\' => {
            let (&escaped, after) = rest.split_first()?;
            *rest = after;
            Some(escaped)
        }
        c => Some(c),
    }
}

/// What a group takes: most of its entries name one job, and a matcher for those is not worth making.
pub enum Group<'p> {
    /// The job of this name.
    Name(&'p str),
    /// All that match.
    Glob(Box<GlobMatcher>),
}

impl Group<'_> {
    /// None where the glob cannot be read.
    pub fn new(pattern: &str) -> Option<Group<'_>> {
        if !pattern.contains(['*', '?', '[', ']', '{', '}', '\\']) {
            return Some(Group::Name(pattern));
        }
        let glob = GlobBuilder::new(pattern).backslash_escape(true).empty_alternates(true).build().ok()?;
        Some(Group::Glob(Box::new(glob.compile_matcher())))
    }

    /// Whether it takes the job of this name.
    pub fn is_match(&self, name: &str) -> bool {
        match self {
            Group::Name(own) => *own == name,
            Group::Glob(glob) => glob.is_match(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_matches_as_go_does() {
        for (pattern, name, want) in [
            ("unit", "unit", true),
            ("unit", "units", false),
            ("ship-*", "ship-made", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("?nit", "unit", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[", "[", false),
            ("[]a]", "]", false),
            (r"run \date", r"run \date", false),
            (r"a\*b", "a*b", true),
            ("", "", true),
            ("a*b*c", "axbxbc", true),
            ("a*b*c", "axb/bc", false),
            ("*[", "a", false),
            ("a*", "a", true),
        ] {
            assert_eq!(passes(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn groups_know_alternatives() {
        let matches = |pattern: &str, name: &str| Group::new(pattern).map(|g| g.is_match(name));
        assert_eq!(matches("{a,b}-*", "b-x"), Some(true));
        assert_eq!(matches("a*", "a/b"), Some(true));
        assert_eq!(matches("[!a]", "a"), Some(false));
        assert_eq!(matches("[a", "a"), None);
        assert_eq!((matches("a,b", "a,b"), matches("a", "ab")), (Some(true), Some(false)));
    }
}
