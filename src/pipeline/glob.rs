//! Globs of job names: Go's `path.Match` in `passed`, and the richer ones in groups.

mod group;

pub use group::Group;

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
    /// One of these; one that is negated takes a slash too.
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
            (Some(Piece::Of(class)), Some(&c)) => class.holds(c),
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
            ("a[^b]c", "a/c", true),
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
}
