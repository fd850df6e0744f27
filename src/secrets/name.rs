//! Names that are safe to build a path from. What could lead out of a team's own place is refused before any source is
//! asked: steps upwards, encoded or look-alike dots, control characters, templates.

use std::fmt;

/// Longest name: what AWS takes as a whole path, with room for the rest of it.
const LONGEST: usize = 900;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {} cannot be looked up: {why}; a name is made of letters, digits and - _ . : @, with single slashes between its parts", shown(.name))]
pub struct NameError {
    /// `the variable`, `the team`, …
    pub what: &'static str,
    /// As it was given.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A name may hold control characters: they are not passed on.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(80).collect::<String>())
}

/// The path of a variable within its place: one or more parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Takes the name of a variable.
    pub fn of_variable(text: &str) -> Result<Name, NameError> {
        refusal(text).map_or_else(
            || Ok(Name(text.to_owned())),
            |why| Err(NameError { what: "the variable", name: text.to_owned(), why }),
        )
    }

    /// Takes a name that is one part: that of a team or a pipeline.
    pub fn of_part(what: &'static str, text: &str) -> Result<Name, NameError> {
        let why = refusal(text).or_else(|| text.contains('/').then_some("it has a slash"));
        why.map_or_else(|| Ok(Name(text.to_owned())), |why| Err(NameError { what, name: text.to_owned(), why }))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the platform's: nobody else may write it.
    pub fn is_readonly(&self) -> bool {
        self.0.rsplit('/').next().is_some_and(is_readonly) || self.0.split('/').next().is_some_and(is_readonly)
    }
}

/// Whether a name belongs to the platform.
pub fn is_readonly(name: &str) -> bool {
    name.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("readonly_"))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn refusal(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > LONGEST {
        return Some("it is too long");
    }
    for part in text.split('/') {
        match part {
            "" => return Some("it has an empty part"),
            _ if part.chars().all(|c| c == '.') => return Some("it leads out of its place"),
            _ => {}
        }
    }
    for c in text.chars() {
        match c {
            '%' => return Some("it has an encoded character"),
            '{' | '}' => return Some("it has a template in it"),
            '\\' => return Some("it has a backslash"),
            c if c.is_control() => return Some("it has a control character"),
            c if c.is_alphanumeric() || "-_.:@/".contains(c) => {}
            ' ' => return Some("it has a space"),
            _ => return Some("it has a character that names cannot have"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for name in [
            "",
            "..",
            ".",
            "../x",
            "a/../b",
            "a/..",
            "a/./b",
            "/a",
            "a/",
            "a//b",
            "%2e%2e/x",
            "a%00",
            "a\0b",
            "a\nb",
            "{{.Team}}",
            "a}}",
            "..\\x",
            "\u{ff0e}\u{ff0e}/x",
            "\u{2025}/x",
            "\u{2024}\u{2024}/x",
            "a b",
            "…/x",
            "....",
            "a\u{202e}b",
            "*",
            "?",
            "a;b",
            "$x",
        ] {
            assert!(Name::of_variable(name).is_err(), "{name:?}");
        }
        for name in ["a", "a/b", "a.b", "..a", "a..b", "A-b_c:d@e", "schlüssel", "x1"] {
            assert!(Name::of_variable(name).is_ok(), "{name:?}");
        }
        assert!(Name::of_part("the team", "a/b").is_err());
        let error = Name::of_variable("a\u{1b}b").unwrap_err().to_string();
        assert!(
            error.starts_with(r#"the variable "a\u{1b}b" cannot be looked up: it has a control character"#),
            "{error}"
        );
    }

    #[test]
    fn the_platform_s_names_are_known_in_any_spelling() {
        for (name, readonly) in [
            ("readonly_x", true),
            ("p/readonly_x", true),
            ("READONLY_x", true),
            ("readonly_x/y", true),
            ("xreadonly_", false),
            ("readonly", false),
        ] {
            assert_eq!(Name::of_variable(name).unwrap().is_readonly(), readonly, "{name}");
        }
    }
}
