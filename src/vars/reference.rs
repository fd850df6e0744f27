//! What stands between the double parentheses.

use std::fmt;

use super::Error;

/// A variable: an optional source, a path within it, and fields of its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// What stands before the colon; `.` means the build's own variables, empty the default source.
    pub source: String,
    /// The first segment: what the source is asked for.
    pub path: String,
    /// The further segments: fields of the value.
    pub fields: Vec<String>,
}

impl Reference {
    /// Reads `source:path.field."quoted.field"`. Segments are read as paths, `a//b/` as `a/b`, and quotes only keep
    /// dots and colons from parting what is between them (`vars/reference.go`).
    pub fn parse(text: &str) -> Result<Reference, Error> {
        let invalid = |why| Error::Invalid { var: text.to_owned(), why };
        if !text.matches('"').count().is_multiple_of(2) {
            return Err(invalid("contains unclosed quotes"));
        }
        let (source, mut rest) = match unquoted(text, ':') {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => ("", text),
        };
        let mut segments = Vec::new();
        loop {
            let end = unquoted(rest, '.');
            let segment = cleaned(&rest[..end.unwrap_or(rest.len())].trim().replace('"', ""));
            if segment.is_empty() {
                return Err(invalid("empty field"));
            }
            segments.push(segment);
            match end {
                Some(at) => rest = &rest[at + 1..],
                None => break,
            }
        }
        let path = segments.remove(0);
        Ok(Reference { source: source.replace('"', "").trim().to_owned(), path, fields: segments })
    }

    /// The same reference within its source.
    pub fn without_source(&self) -> Reference {
        Reference { source: String::new(), ..self.clone() }
    }
}

/// A segment as the shortest path that means the same.
fn cleaned(segment: &str) -> String {
    let mut parts = Vec::new();
    for part in segment.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if segment.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// Where a character first stands outside of quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        if c == wanted && !quoted {
            return Some(at);
        }
        quoted ^= c == '"';
    }
    None
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}:", self.source)?;
        }
        for (i, segment) in std::iter::once(&self.path).chain(&self.fields).enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            match segment.contains([',', '.', ':', '/', ' ']) {
                true => write!(f, "{segment:?}")?,
                false => f.write_str(segment)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference(source: &str, path: &str, fields: &[&str]) -> Reference {
        Reference { source: source.into(), path: path.into(), fields: fields.iter().map(|&f| f.to_owned()).collect() }
    }

    #[test]
    fn reads_sources_fields_and_quotes() {
        for (text, want) in [
            ("a", reference("", "a", &[])),
            ("a.b.c", reference("", "a", &["b", "c"])),
            ("src:a.b", reference("src", "a", &["b"])),
            (".:a", reference(".", "a", &[])),
            (r#""a.b".c"#, reference("", "a.b", &["c"])),
            (r#""x:y""#, reference("", "x:y", &[])),
            (r#"vs:"var:with.and_colon".k"#, reference("vs", "var:with.and_colon", &["k"])),
            ("/abs/path", reference("", "/abs/path", &[])),
            (r#"a//"b/./c/../d/".e"#, reference("", "a/b/d", &["e"])),
            (r#""a":b"#, reference("a", "b", &[])),
            (r#"a"."b.c"#, reference("", "a.b", &["c"])),
            ("s:b:c", reference("s", "b:c", &[])),
        ] {
            assert_eq!(Reference::parse(text), Ok(want), "{text}");
        }
        assert_eq!(Reference::parse("s.").unwrap_err().to_string(), "invalid var 's.': empty field");
        assert_eq!(Reference::parse("a:").unwrap_err().to_string(), "invalid var 'a:': empty field");
        assert_eq!(Reference::parse("a.").unwrap_err().to_string(), "invalid var 'a.': empty field");
        assert_eq!(Reference::parse("..").unwrap_err().to_string(), "invalid var '..': empty field");
        let open = Reference::parse(r#"a."b"#).unwrap_err().to_string();
        assert_eq!(open, r#"invalid var 'a."b': contains unclosed quotes"#);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(source in "[a-z]{0,4}", path in "/?[a-z.:]{1,3}[a-z]", fields in proptest::collection::vec("[a-z.: ,]{0,4}[a-z]", 0..3)) {
            let fields = fields.into_iter().map(|f| f.trim().to_owned()).collect();
            let written = Reference { source, path, fields };
            prop_assert_eq!(Reference::parse(&written.to_string()), Ok(written));
        }
    }
}
