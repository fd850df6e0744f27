//! Versions in tags and constraints on them, as lenient as Concourse's registry-image type is.

use std::cmp::Ordering;
use std::fmt;

/// A version as tags spell it: `1`, `v1.2`, `1.2.3-rc.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    /// Its three numbers; missing ones are 0.
    pub numbers: [u64; 3],
    /// After the dash.
    pub pre: String,
    meta: String,
    /// As it was spelled.
    pub original: String,
}

fn is_identifiers(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
}

impl Semver {
    /// Reads a version; `None` if it is none.
    pub fn parse(text: &str) -> Option<Semver> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (bare, meta) = bare.split_once('+').map_or((bare, None), |(b, m)| (b, Some(m)));
        let (core, pre) = bare.split_once('-').map_or((bare, None), |(b, p)| (b, Some(p)));
        if ![pre, meta].into_iter().flatten().all(is_identifiers) {
            return None;
        }
        // A number with a leading zero cannot be ordered.
        let zeros = |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        if pre.is_some_and(|pre| pre.split('.').any(zeros)) {
            return None;
        }
        let mut numbers = [0; 3];
        let mut parts = core.split('.');
        for (n, number) in numbers.iter_mut().enumerate() {
            match parts.next() {
                Some(part) if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) => {
                    *number = part.parse().ok()?;
                }
                None if n > 0 => break,
                _ => return None,
            }
        }
        let text_of = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let version = Semver { numbers, pre: text_of(pre), meta: text_of(meta), original: text.to_owned() };
        parts.next().is_none().then_some(version)
    }

    /// How exactly it was spelled: the number of dots.
    pub fn precision(&self) -> usize {
        self.original.matches('.').count()
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if self.meta.is_empty() { Ok(()) } else { write!(f, "+{}", self.meta) }
    }
}

/// Which comes first; the spelling and what is after a plus do not count.
pub fn compare(a: &Semver, b: &Semver) -> Ordering {
    a.numbers.cmp(&b.numbers).then_with(|| match (a.pre.is_empty(), b.pre.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => compare_pre(&a.pre, &b.pre),
    })
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(l), Some(r)) => match (l.parse::<u64>(), r.parse::<u64>()) {
                (Ok(l), Ok(r)) => l.cmp(&r),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => l.cmp(r),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// `>= 1.2 < 3.0.0 || ~4.2`
#[derive(Debug, Clone)]
pub struct Constraint(Vec<Vec<Term>>);

#[derive(Debug, Clone)]
struct Term {
    operator: String,
    version: Semver,
    /// Numbers that were given; the others match anything.
    given: usize,
}

const OPERATORS: [&str; 11] = ["!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^"];

impl Constraint {
    /// Reads a constraint; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Constraint, String> {
        text.split("||").map(|group| terms(group, text)).collect::<Result<_, _>>().map(Constraint)
    }

    /// Whether a version meets it.
    pub fn allows(&self, version: &Semver) -> bool {
        self.0.iter().any(|group| group.iter().all(|term| term.allows(version)))
    }
}

fn terms(group: &str, whole: &str) -> Result<Vec<Term>, String> {
    let wrong = || format!("improper constraint: {whole}");
    // "1.2 - 1.4" is a range.
    let spaced = group.replace(',', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words.get(at + 1) == Some(&"-") {
            let to = words.get(at + 2).ok_or_else(wrong)?;
            found.push(Term::parse(">=", words[at]).ok_or_else(wrong)?);
            found.push(Term::parse("<=", to).ok_or_else(wrong)?);
            at += 3;
            continue;
        }
        let mut word = words[at];
        at += 1;
        while !word.is_empty() {
            let operator = OPERATORS.into_iter().find(|o| word.starts_with(o)).unwrap_or_default();
            let mut rest = &word[operator.len()..];
            if rest.is_empty() && !operator.is_empty() {
                rest = words.get(at).ok_or_else(wrong)?;
                at += 1;
            }
            // ">=1.0<2.0" is two terms as well.
            let end = rest.find(['<', '>', '=', '!', '~', '^']).unwrap_or(rest.len());
            found.push(Term::parse(operator, &rest[..end]).ok_or_else(wrong)?);
            word = &rest[end..];
        }
    }
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

impl Term {
    fn parse(operator: &str, text: &str) -> Option<Term> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (core, tail) = bare.find(['-', '+']).map_or((bare, ""), |at| bare.split_at(at));
        let mut numbers = Vec::new();
        let mut parts = core.split('.');
        for part in parts.by_ref() {
            if matches!(part, "x" | "X" | "*") {
                break;
            }
            numbers.push(part);
        }
        if parts.any(|part| !matches!(part, "x" | "X" | "*")) || numbers.len() > 3 {
            return None;
        }
        let given = numbers.len();
        let core = if given == 0 { "0".to_owned() } else { numbers.join(".") };
        let operator = match operator {
            "=>" => ">=",
            "=<" => "<=",
            "~>" => "~",
            "" => "=",
            other => other,
        };
        let version = Semver::parse(&format!("{core}{tail}"))?;
        Some(Term { operator: operator.to_owned(), version, given })
    }

    fn allows(&self, version: &Semver) -> bool {
        if !version.pre.is_empty() && self.version.pre.is_empty() {
            return false;
        }
        let order = compare(version, &self.version);
        let prefix = |n: usize| version.numbers[..n] == self.version.numbers[..n];
        let given = self.given;
        match self.operator.as_str() {
            "=" if given < 3 => self.tilde(version, order),
            "=" => order == Ordering::Equal,
            "!=" if given < 3 => !prefix(given),
            "!=" => order != Ordering::Equal,
            ">" if given < 3 => version.numbers[..given] > self.version.numbers[..given],
            ">" => order == Ordering::Greater,
            "<" => order == Ordering::Less,
            ">=" => order != Ordering::Less,
            "<=" if given < 3 => version.numbers[..given] <= self.version.numbers[..given],
            "<=" => order != Ordering::Greater,
            "~" => self.tilde(version, order),
            _ => self.caret(version, order),
        }
    }

    fn tilde(&self, version: &Semver, order: Ordering) -> bool {
        let fixed = self.given.min(2);
        order != Ordering::Less && version.numbers[..fixed] == self.version.numbers[..fixed]
    }

    /// The leftmost number that is not 0 stays.
    fn caret(&self, version: &Semver, order: Ordering) -> bool {
        let first = self.version.numbers.iter().position(|n| *n > 0).unwrap_or(2);
        let fixed = (first + 1).min(self.given);
        order != Ordering::Less && version.numbers[..fixed] == self.version.numbers[..fixed]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_versions_in_many_spellings() {
        for (text, whole) in [
            ("1", Some("1.0.0")),
            ("v1.2", Some("1.2.0")),
            ("1.2.3-rc.1+b.2", Some("1.2.3-rc.1+b.2")),
            ("01.2.3", Some("1.2.3")),
            ("20240101", Some("20240101.0.0")),
            ("1.2.3.4", None),
            ("latest", None),
            ("1.2.", None),
            ("1-", None),
            ("1.0.0-01", None),
            ("", None),
        ] {
            assert_eq!(Semver::parse(text).map(|v| v.to_string()).as_deref(), whole, "{text}");
        }
    }

    #[test]
    fn versions_have_an_order() {
        let ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-rc.2", "1.0.0-rc.10", "1", "1.0.1"];
        for pair in ordered.windows(2) {
            let (a, b) = (Semver::parse(pair[0]).unwrap(), Semver::parse(pair[1]).unwrap());
            assert_eq!(compare(&a, &b), Ordering::Less, "{pair:?}");
        }
        let (a, b) = (Semver::parse("1.2").unwrap(), Semver::parse("v1.2.0+x").unwrap());
        assert_eq!(compare(&a, &b), Ordering::Equal);
    }

    #[test]
    fn constraints_are_those_of_the_original() {
        for (constraint, yes, no) in [
            ("1.2.3", &["1.2.3"][..], &["1.2.4"][..]),
            ("1.2", &["1.2.0", "1.2.9"], &["1.3.0"]),
            ("1.x", &["1.0.0", "1.9.9"], &["2.0.0"]),
            ("*", &["0.0.1", "9.9.9"], &["1.0.0-rc.1"]),
            ("!=1.2", &["1.3.0"], &["1.2.5"]),
            (">1", &["2.0.0"], &["1.5.0"]),
            (">= 1.2 < 3.0.0 || >= 4.2.3", &["1.2.0", "2.9.9", "4.2.3"], &["1.1.9", "3.0.0", "4.2.2"]),
            (">=1.2, <2", &["1.2.0"], &["2.0.0"]),
            (">=1.0<2.0", &["1.5.0"], &["2.0.0"]),
            ("<=1.2", &["1.2.9"], &["1.3.0"]),
            ("~1.2.3", &["1.2.3", "1.2.9"], &["1.3.0", "1.2.2"]),
            ("~1", &["1.9.0"], &["2.0.0"]),
            ("~> 1.2.x", &["1.2.9"], &["1.3.0"]),
            ("^1.2.3", &["1.9.0"], &["2.0.0", "1.2.2"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("^0", &["0.9.0"], &["1.0.0"]),
            ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.4.6"]),
            (">=1.0.0-0", &["1.0.0-rc.1", "1.1.0"], &["0.9.0"]),
            ("v1.2.3", &["1.2.3"], &["1.2.4"]),
        ] {
            let read = Constraint::parse(constraint).unwrap();
            for version in yes {
                assert!(read.allows(&Semver::parse(version).unwrap()), "{constraint} allows {version}");
            }
            for version in no {
                assert!(!read.allows(&Semver::parse(version).unwrap()), "{constraint} denies {version}");
            }
        }
        for wrong in ["", "abc", ">", "1.2 -", "1.2.3.4", "1.x.3"] {
            assert!(Constraint::parse(wrong).unwrap_err().contains("improper constraint"), "{wrong}");
        }
    }
}
