//! Globs of job names: Go's `path.Match` in `passed`, and the richer ones in groups.

use globset::{GlobBuilder, GlobMatcher};

/// Whether a name matches a glob of `passed`; one that cannot be read matches nothing.
pub fn passes(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    matches(&pattern, &name).unwrap_or(false)
}

/// None where the pattern cannot be read.
fn matches(pattern: &[char], name: &[char]) -> Option<bool> {
    let Some((&first, rest)) = pattern.split_first() else { return Some(name.is_empty()) };
    match first {
        '*' => {
            let reach = name.iter().position(|&c| c == '/').unwrap_or(name.len());
            for skip in 0..=reach {
                if matches(rest, &name[skip..])? {
                    return Some(true);
                }
            }
            Some(false)
        }
        '?' => match name.split_first() {
            Some((&c, name)) if c != '/' => matches(rest, name),
            _ => Some(false),
        },
        '[' => {
            let (set, rest) = Class::read(rest)?;
            match name.split_first() {
                Some((&c, name)) if c != '/' && set.holds(c) => matches(rest, name),
                _ => Some(false),
            }
        }
        '\\' => {
            let (&literal, rest) = rest.split_first()?;
            if name.first() == Some(&literal) { matches(rest, &name[1..]) } else { Some(false) }
        }
        literal if name.first() == Some(&literal) => matches(rest, &name[1..]),
        _ => Some(false),
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

/// A glob of a group; none where it cannot be read.
pub fn group(pattern: &str) -> Option<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).backslash_escape(true).empty_alternates(true).build().ok()?;
    Some(glob.compile_matcher())
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
        ] {
            assert_eq!(passes(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn groups_know_alternatives() {
        let matches = |pattern: &str, name: &str| group(pattern).map(|g| g.is_match(name));
        assert_eq!(matches("{a,b}-*", "b-x"), Some(true));
        assert_eq!(matches("a*", "a/b"), Some(true));
        assert_eq!(matches("[!a]", "a"), Some(false));
        assert_eq!(matches("[a", "a"), None);
    }
}
