//! What Go's yaml v3 refuses, with which the client and the step `set_pipeline` look at a file before all else: keys that
//! stand twice, a text that is no map, and a few more.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{DEPTH, Document, Kind, Library, Mark, NodeId, YamlError};
use super::scalar::{Scalar, is_client_bool, resolve_as_client, short, untagged};
use super::value::{Reader, Shares, go_syntax};
use crate::pipeline::quote::quoted;

/// What a text is to become, which decides what its keys may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A map with texts for keys, as to the client.
    Texts,
    /// A map with keys of any kind, as to the step.
    Anything,
}

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In the library's words, without `yaml: ` before them.
    pub message: String,
    /// Where.
    pub mark: Option<Mark>,
    /// The first key that stands twice.
    pub twice: Option<String>,
}

/// How many things are told.
const MOST_TOLD: usize = 1000;

/// How many nodes are looked at, those behind aliases each time: what has more is a bomb.
const MOST_NODES: usize = 1_000_000;

/// Looks at the first document of a text.
pub fn screen(text: &[u8], shape: Shape) -> Result<(), Refusal> {
    let stopped = |error: YamlError| Refusal { message: error.message, mark: error.mark, twice: None };
    let document = Document::parse_with(text, Library::Three).map_err(stopped)?;
    let Some(root) = document.root else { return Ok(()) };
    let mut screen = Screen {
        document: &document,
        open: Vec::new(),
        shares: Shares::default(),
        seen: 0,
        aliases: 0,
        told: Vec::new(),
        mark: None,
        twice: None,
    };
    screen.root(root, shape).map_err(stopped)?;
    if screen.told.is_empty() {
        return Ok(());
    }
    let lines = screen.told.iter().map(|line| format!("\n  {line}")).collect::<String>();
    Err(Refusal { message: format!("unmarshal errors:{lines}"), mark: screen.mark, twice: screen.twice })
}

struct Screen<'d> {
    document: &'d Document,
    open: Vec<NodeId>,
    shares: Shares,
    seen: usize,
    /// Behind how many aliases this place lies.
    aliases: usize,
    /// What is wrong but lets the rest be looked at.
    told: Vec<String>,
    mark: Option<Mark>,
    twice: Option<String>,
}

type Looked = Result<(), YamlError>;

impl Screen<'_> {
    fn fail(&self, id: NodeId, message: impl Into<String>) -> Looked {
        Err(YamlError { message: message.into(), mark: Some(self.document.nodes[id].mark) })
    }

    fn tell(&mut self, id: NodeId, what: &str) {
        let mark = self.document.nodes[id].mark;
        self.mark.get_or_insert(mark);
        if self.told.len() < MOST_TOLD {
            self.told.push(format!("line {}: {what}", mark.line));
        }
    }

    /// Counts a node.
    fn count(&mut self, id: NodeId) -> Looked {
        self.seen += 1;
        if self.shares.add(self.aliases > 0) || self.seen > MOST_NODES {
            return self.fail(id, "document contains excessive aliasing");
        }
        if self.open.len() > DEPTH {
            return self.fail(id, "exceeded max depth");
        }
        Ok(())
    }

    fn root(&mut self, id: NodeId, shape: Shape) -> Looked {
        let keys = if shape == Shape::Texts { "string" } else { "interface {}" };
        let found = match &self.document.nodes[id].kind {
            Kind::Mapping(_) => return self.mapping(id, shape),
            Kind::Sequence(_) => "!!seq".to_owned(),
            Kind::Scalar { value, tag, plain } => {
                resolve_as_client(tag, value).or_else(|message| self.fail(id, message))?;
                match scalar_kind(value, tag, *plain) {
                    kind if kind == "!!null" => return Ok(()),
                    kind => format!("{kind} `{}`", shortened(value)),
                }
            }
            Kind::Alias { .. } => return Ok(()),
        };
        self.tell(id, &format!("cannot unmarshal {found} into map[{keys}]interface {{}}"));
        Ok(())
    }

    fn mapping(&mut self, id: NodeId, shape: Shape) -> Looked {
        let Kind::Mapping(pairs) = &self.document.nodes[id].kind else { return Ok(()) };
        if self.duplicates(pairs) {
            return Ok(());
        }
        self.open.push(id);
        let mut merged = None;
        for &(key, value) in pairs {
            if self.document.is_merge(key) {
                self.count(key)?;
                merged = Some(value);
                continue;
            }
            let target = self.document.target(key);
            match &self.document.nodes[target].kind {
                Kind::Scalar { .. } => self.any(key)?,
                Kind::Sequence(_) if shape == Shape::Texts => {
                    self.tell(target, "cannot unmarshal !!seq into string");
                    continue;
                }
                _ if shape == Shape::Texts => {
                    self.tell(target, "cannot unmarshal !!map into string");
                    continue;
                }
                _ => {
                    self.any(key)?;
                    let shown = Reader::of(self.document).value(target).unwrap_or(Value::Null);
                    return self.fail(key, format!("invalid map key: {}", go_syntax(&shown, "string")));
                }
            }
            self.any(value)?;
        }
        if let Some(merged) = merged {
            self.merge(merged, shape)?;
        }
        self.open.pop();
        Ok(())
    }

    fn merge(&mut self, id: NodeId, shape: Shape) -> Looked {
        let wanted = "map merge requires map or sequence of maps as the value";
        let target = self.document.target(id);
        match &self.document.nodes[target].kind {
            Kind::Mapping(_) if self.open.contains(&target) => self.fail(id, "anchor value contains itself"),
            Kind::Mapping(_) => {
                let through = usize::from(target != id);
                self.aliases += through;
                self.mapping(target, shape)?;
                self.aliases -= through;
                Ok(())
            }
            Kind::Sequence(items) if target == id => {
                for &item in items {
                    let target = self.document.target(item);
                    match &self.document.nodes[target].kind {
                        Kind::Mapping(_) if !self.open.contains(&target) => self.mapping(target, shape)?,
                        _ => return self.fail(item, wanted),
                    }
                }
                Ok(())
            }
            _ => self.fail(id, wanted),
        }
    }

    fn any(&mut self, id: NodeId) -> Looked {
        self.count(id)?;
        match &self.document.nodes[id].kind {
            Kind::Alias { name, target } if self.open.contains(target) => {
                self.fail(id, format!("anchor '{name}' value contains itself"))
            }
            Kind::Alias { target, .. } => {
                self.aliases += 1;
                self.any(*target)?;
                self.aliases -= 1;
                Ok(())
            }
            Kind::Scalar { value, tag, .. } => resolve_as_client(tag, value).or_else(|message| self.fail(id, message)),
            Kind::Sequence(items) => {
                self.open.push(id);
                items.iter().try_for_each(|&item| self.any(item))?;
                self.open.pop();
                Ok(())
            }
            Kind::Mapping(_) => self.mapping(id, Shape::Anything),
        }
    }

    /// Tells of keys that stand twice, `<<` included; true if there are any.
    fn duplicates(&mut self, pairs: &[(NodeId, NodeId)]) -> bool {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, &(key, _)) in pairs.iter().enumerate() {
            if let Kind::Scalar { value, .. } = &self.document.nodes[key].kind {
                places.entry(value).or_default().push(i);
            }
        }
        let mut found = Vec::new();
        for (key, places) in places {
            for (n, &i) in places.iter().enumerate() {
                let later = places[n + 1..].iter().take(MOST_TOLD.saturating_sub(found.len()));
                found.extend(later.map(|&j| (i, j, key)));
            }
        }
        found.sort_unstable();
        let any = !found.is_empty();
        for (first, again, key) in found {
            let line = self.document.nodes[pairs[first].0].mark.line;
            self.twice.get_or_insert_with(|| key.to_owned());
            self.tell(pairs[again].0, &format!("mapping key {} already defined at line {line}", quoted(key)));
        }
        any
    }
}

/// What the library calls a scalar's kind.
fn scalar_kind(value: &str, tag: &str, plain: bool) -> String {
    let kind = match untagged(value) {
        _ if !tag.is_empty() => return short(tag),
        _ if !plain => "!!str",
        Scalar::Float(_) => "!!float",
        Scalar::Plain(Value::Null) => "!!null",
        Scalar::Plain(Value::Bool(_)) if is_client_bool(value) => "!!bool",
        Scalar::Plain(Value::Number(_)) => "!!int",
        Scalar::Plain(_) => "!!str",
    };
    kind.to_owned()
}

/// The start of a text of more than ten bytes.
fn shortened(value: &str) -> String {
    match value.len() {
        0..=10 => value.to_owned(),
        _ => format!("{}...", String::from_utf8_lossy(&value.as_bytes()[..7])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, shape: Shape) -> Result<(), String> {
        screen(text.as_bytes(), shape).map_err(|refusal| refusal.message)
    }

    #[test]
    fn keys_that_stand_twice_are_told_with_both_lines_but_not_what_is_below_them() {
        let refusal = screen(b"a: 1\nb: {c: 1, c: 2}\n", Shape::Texts).unwrap_err();
        assert_eq!(refusal.message, "unmarshal errors:\n  line 2: mapping key \"c\" already defined at line 2");
        assert_eq!((refusal.mark.map(|mark| mark.line), refusal.twice.as_deref()), (Some(2), Some("c")));
        let top = "unmarshal errors:\n  line 3: mapping key \"a\" already defined at line 1";
        assert_eq!(said("a: 1\nb: {c: 1, c: 2}\na: 3\n", Shape::Texts).unwrap_err(), top);
        let again = said("x: &x {c: 1, c: 2}\ny: *x\n", Shape::Texts).unwrap_err();
        assert_eq!(again.lines().count(), 3, "{again}");
    }

    #[test]
    fn what_is_no_map_of_texts_is_refused() {
        for (text, want) in [
            ("- a\n", "unmarshal errors:\n  line 1: cannot unmarshal !!seq into map[string]interface {}"),
            (
                "abcdefghijk",
                "unmarshal errors:\n  line 1: cannot unmarshal !!str `abcdefg...` into map[string]interface {}",
            ),
            ("yes", "unmarshal errors:\n  line 1: cannot unmarshal !!str `yes` into map[string]interface {}"),
            ("\n{a: b}: c", "unmarshal errors:\n  line 2: cannot unmarshal !!map into string"),
            ("x: {{a}}", r#"invalid map key: map[string]interface {}{"a":interface {}(nil)}"#),
            ("x: !!bool yes", "cannot decode !!str `yes` as a !!bool"),
            ("x: {<<: 1}", "map merge requires map or sequence of maps as the value"),
        ] {
            assert_eq!(said(text, Shape::Texts), Err(want.to_owned()), "{text}");
        }
        for text in ["", "~", "a: {1: x, ~: y}", "x: .inf", "x: !!bool true"] {
            assert_eq!(said(text, Shape::Texts), Ok(()), "{text}");
        }
        let step = "unmarshal errors:\n  line 1: cannot unmarshal !!int `1` into map[interface {}]interface {}";
        assert_eq!(said("1", Shape::Anything), Err(step.to_owned()));
    }

    #[test]
    fn a_syntax_error_names_the_line_of_what_it_is_part_of() {
        let text = "a: 1\njobs:\n  - {load_var: v}\n  plan: [{get: r}]\n";
        assert_eq!(said(text, Shape::Texts).unwrap_err(), "line 2: did not find expected '-' indicator");
    }
}
