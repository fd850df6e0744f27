//! Nodes turned into JSON the way sigs' YAML does it, and places found again by path.

use serde_json::{Map, Number, Value, json};

use super::document::{DEPTH, Document, Kind, Mark, NodeId, YamlError};
use super::scalar::{Scalar, is_word, key, resolve, untagged};
use crate::pipeline::quote::quoted;
use crate::vars::{number, typed};

/// One step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// A position in a list.
    Index(usize),
}

/// Counts nodes as Go's yaml does, and those of them that came through aliases.
#[derive(Default)]
pub(super) struct Shares {
    decoded: usize,
    through_aliases: usize,
}

impl Shares {
    /// Adds a node; true where the document turns out to consist of little but aliases.
    pub(super) fn add(&mut self, through_alias: bool) -> bool {
        self.decoded += 1;
        self.through_aliases += usize::from(through_alias);
        if self.through_aliases <= 100 || self.decoded <= 1000 {
            return false;
        }
        let allowed = match self.decoded {
            0..=400_000 => 0.99,
            4_000_000.. => 0.10,
            n => 0.99 - 0.89 * ((n - 400_000) as f64 / 3_600_000.0),
        };
        let share = self.through_aliases as f64 / self.decoded as f64;
        share > allowed
    }
}

pub(super) struct Reader<'d> {
    document: &'d Document,
    open: Vec<NodeId>,
    depth_of_aliases: usize,
    shares: Shares,
    /// How deep the value lies; aliases may nest deeper than what is written.
    level: usize,
    /// How many bytes of text came through aliases.
    copied: usize,
    /// Whether numbers that are written with an exponent or a fraction stay floats, though they may be whole.
    floats: bool,
    /// Whether keys that are no text stay what they are.
    typed: bool,
    /// What is told only once everything could be read: a key that is null, or else a number that JSON has not.
    late: [Option<YamlError>; 2],
}

/// How much text may come through aliases: a long text and many aliases to it are a bomb of few nodes.
const MOST_COPIED: usize = 32 << 20;
/// Stands for a number that JSON has not, which is only wrong if no later key of the same name takes its place.
const INFINITE: &str = "\0a number beyond those of JSON\0";
impl Document {
    /// The document as JSON with sorted keys; aliases and merges are filled in, later keys win.
    pub fn to_json(&self) -> Result<Value, YamlError> {
        self.read(false, false)
    }

    /// The same with floats kept that Go's yaml writes as such and reads again, as the client does.
    pub fn to_json_with_floats(&self) -> Result<Value, YamlError> {
        self.read(true, false)
    }

    /// The same with keys that are marked where they are no text, to be filled in and written.
    pub fn to_template(&self) -> Result<Value, YamlError> {
        self.read(true, true)
    }

    fn read(&self, floats: bool, typed: bool) -> Result<Value, YamlError> {
        let mut reader = Reader::of(self);
        (reader.floats, reader.typed) = (floats, typed);
        let value = self.root.map_or(Ok(Value::Null), |root| reader.value(root))?;
        let [null_key, infinite] = reader.late;
        let infinite = infinite.filter(|_| holds_infinite(&value));
        null_key.or(infinite).map_or(Ok(value), Err)
    }

    /// Where the node at `path` stands; of a path that ends nowhere, the last node that is there.
    pub fn locate(&self, path: &[Segment]) -> Option<Mark> {
        let mut id = self.root?;
        let mut mark = self.nodes[id].mark;
        for segment in path {
            let found = match (&self.nodes[self.target(id)].kind, segment) {
                (Kind::Sequence(items), Segment::Index(i)) => items.get(*i).map(|&item| (self.nodes[item].mark, item)),
                (Kind::Mapping(_), Segment::Key(name)) => self.entry(id, name, 0),
                // `in_parallel` may hold its steps directly.
                (Kind::Sequence(_), Segment::Key(name)) if name == "steps" => Some((mark, id)),
                _ => None,
            };
            let Some((at, next)) = found else { break };
            (mark, id) = (at, next);
        }
        Some(mark)
    }

    /// The place of a key and its value in a mapping; the last one wins, merges included.
    fn entry(&self, mapping: NodeId, name: &str, depth: usize) -> Option<(Mark, NodeId)> {
        let Kind::Mapping(pairs) = &self.nodes[self.target(mapping)].kind else { return None };
        if depth > 100 {
            return None;
        }
        pairs.iter().rev().find_map(|&(k, v)| {
            if self.is_merge(k) {
                return match &self.nodes[self.target(v)].kind {
                    Kind::Sequence(items) => items.iter().find_map(|&item| self.entry(item, name, depth + 1)),
                    _ => self.entry(v, name, depth + 1),
                };
            }
            match &self.nodes[self.target(k)].kind {
                Kind::Scalar { value, tag, plain } if key_text(tag, value, *plain).as_deref() == Some(name) => {
                    Some((self.nodes[k].mark, v))
                }
                _ => None,
            }
        })
    }

    pub(super) fn is_merge(&self, id: NodeId) -> bool {
        matches!(&self.nodes[id].kind, Kind::Scalar { value, tag, plain }
            if value == "<<" && ((*plain && tag.is_empty()) || tag == "tag:yaml.org,2002:merge"))
    }
}

fn key_text(tag: &str, value: &str, plain: bool) -> Option<String> {
    if tag.is_empty() && !plain {
        return Some(value.to_owned());
    }
    if tag.is_empty() { key(&untagged(value)) } else { resolve(tag, value).ok().as_ref().and_then(key) }
}

impl<'d> Reader<'d> {
    pub(super) fn of(document: &'d Document) -> Reader<'d> {
        Reader {
            document,
            open: Vec::new(),
            depth_of_aliases: 0,
            shares: Shares::default(),
            level: 0,
            copied: 0,
            floats: false,
            typed: false,
            late: [None, None],
        }
    }

    fn fail<T>(&self, id: NodeId, message: impl Into<String>) -> Result<T, YamlError> {
        Err(self.error(id, message.into()))
    }

    fn error(&self, id: NodeId, message: String) -> YamlError {
        YamlError { message, mark: Some(self.document.nodes[id].mark) }
    }

    fn count(&mut self, id: NodeId) -> Result<(), YamlError> {
        match self.shares.add(self.depth_of_aliases > 0) {
            true => self.fail(id, "document contains excessive aliasing"),
            false => Ok(()),
        }
    }

    pub(super) fn value(&mut self, id: NodeId) -> Result<Value, YamlError> {
        self.count(id)?;
        if self.level > DEPTH {
            return self.fail(id, "exceeded max depth");
        }
        self.level += 1;
        let value = self.value_within(id);
        self.level -= 1;
        value
    }

    fn value_within(&mut self, id: NodeId) -> Result<Value, YamlError> {
        let document = self.document;
        match &document.nodes[id].kind {
            Kind::Alias { name, target } => {
                if self.open.contains(target) {
                    return self.fail(id, format!("anchor '{name}' value contains itself"));
                }
                self.depth_of_aliases += 1;
                let value = self.value(*target);
                self.depth_of_aliases -= 1;
                value
            }
            Kind::Scalar { value, .. } if self.depth_of_aliases > 0 && self.copied + value.len() > MOST_COPIED => {
                self.fail(id, "document contains excessive aliasing")
            }
            Kind::Scalar { value, .. } => match self.scalar(id)? {
                Scalar::Plain(plain) => {
                    self.copied += if self.depth_of_aliases > 0 { value.len() } else { 0 };
                    Ok(plain)
                }
                // A zero below zero is written as `-0` and read again as a whole number.
                Scalar::Float(f) => match number::from_float(if self.floats && f == 0.0 { 0.0 } else { f }) {
                    Some(_) if self.floats && number::shortest(f).contains(['.', 'e']) => Ok(json!(f)),
                    Some(n) => Ok(Value::Number(n)),
                    None => {
                        let error = self.error(id, format!("json: unsupported value: {}", number::infinite(f)));
                        self.late[1].get_or_insert(error);
                        Ok(Value::from(INFINITE))
                    }
                },
            },
            Kind::Sequence(items) => {
                self.open.push(id);
                let list = items.iter().map(|&item| self.value(item)).collect::<Result<Vec<_>, _>>()?;
                self.open.pop();
                Ok(Value::Array(list))
            }
            Kind::Mapping(_) => {
                let mut entries = Vec::new();
                self.mapping(id, &mut entries)?;
                Ok(Value::Object(sorted(entries)))
            }
        }
    }

    fn scalar(&self, id: NodeId) -> Result<Scalar, YamlError> {
        match &self.document.nodes[id].kind {
            Kind::Scalar { value, tag, plain } if tag.is_empty() && !plain => Ok(Scalar::Plain(value.as_str().into())),
            Kind::Scalar { value, tag, .. } => resolve(tag, value).or_else(|message| self.fail(id, message)),
            _ => Ok(Scalar::Plain(Value::Null)),
        }
    }

    /// The text of a scalar as a key; none for null.
    fn key(&self, id: NodeId) -> Result<Option<String>, YamlError> {
        match &self.document.nodes[id].kind {
            // Most keys, without asking what else they may mean.
            Kind::Scalar { value, tag, plain: true } if tag.is_empty() && is_word(value) => Ok(Some(value.clone())),
            Kind::Scalar { value, tag, plain: false } if tag.is_empty() => Ok(Some(value.clone())),
            _ => Ok(match self.scalar(id)? {
                Scalar::Plain(Value::Number(n)) if self.typed => Some(typed::number(&n)),
                Scalar::Plain(Value::Bool(b)) if self.typed => Some(typed::boolean(b)),
                Scalar::Float(f) if self.typed => {
                    Number::from_f64(f).as_ref().map(typed::number).or_else(|| key(&Scalar::Float(f)))
                }
                other => key(&other),
            }),
        }
    }

    fn mapping(&mut self, id: NodeId, entries: &mut Vec<(String, Value)>) -> Result<(), YamlError> {
        let document = self.document;
        let Kind::Mapping(pairs) = &document.nodes[id].kind else { return Ok(()) };
        self.open.push(id);
        for &(k, v) in pairs {
            if document.is_merge(k) {
                self.merge(v, entries)?;
                continue;
            }
            self.count(k)?;
            let target = document.target(k);
            if !matches!(document.nodes[target].kind, Kind::Scalar { .. }) {
                let key = self.value(target)?;
                return self.fail(k, format!("invalid map key: {}", go_syntax(&key, "interface {}")));
            }
            let name = self.key(target)?;
            let value = self.value(v)?;
            match name {
                Some(name) => entries.push((name, value)),
                None => {
                    let shown = if value.is_null() { "<nil>".to_owned() } else { go_syntax(&value, "interface {}") };
                    let message = format!("unsupported map key of type: %!s(<nil>), key: <nil>, value: {shown}");
                    let error = self.error(k, message);
                    self.late[0].get_or_insert(error);
                }
            }
        }
        self.open.pop();
        Ok(())
    }

    fn merge(&mut self, id: NodeId, entries: &mut Vec<(String, Value)>) -> Result<(), YamlError> {
        let document = self.document;
        let target = document.target(id);
        self.count(id)?;
        let through_alias = usize::from(target != id);
        self.depth_of_aliases += through_alias;
        match &document.nodes[target].kind {
            Kind::Mapping(_) if self.open.contains(&target) => return self.fail(id, "anchor value contains itself"),
            Kind::Mapping(_) => self.mapping(target, entries)?,
            Kind::Sequence(items) if target == id => {
                for &item in items.iter().rev() {
                    if !matches!(document.nodes[document.target(item)].kind, Kind::Mapping(_)) {
                        return self.fail(item, "map merge requires map or sequence of maps as the value");
                    }
                    self.merge(item, entries)?;
                }
            }
            _ => return self.fail(id, "map merge requires map or sequence of maps as the value"),
        }
        self.depth_of_aliases -= through_alias;
        Ok(())
    }
}

fn holds_infinite(value: &Value) -> bool {
    match value {
        Value::String(text) => text == INFINITE,
        Value::Array(items) => items.iter().any(holds_infinite),
        Value::Object(map) => map.values().any(holds_infinite),
        _ => false,
    }
}

/// Entries by their keys; of several with one key the last one.
fn sorted(mut entries: Vec<(String, Value)>) -> Map<String, Value> {
    if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
    }
    let mut map = Map::with_capacity(entries.len());
    for (key, value) in entries {
        map.insert(key, value);
    }
    map
}

/// A value in Go's `%#v` notation, with the type of its maps' keys.
pub(super) fn go_syntax(value: &Value, keys: &str) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(s) => quoted(s),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| go_syntax(item, keys)).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{}:{}", quoted(k), go_syntax(v, keys))).collect();
            format!("map[{keys}]interface {{}}{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, YamlError> {
        Document::parse(text.as_bytes())?.to_json()
    }

    #[test]
    fn merges_apply_in_document_order() {
        assert_eq!(read("{a: 1, <<: {a: 2}}").unwrap(), json!({"a": 2}));
        assert_eq!(read("{<<: {a: 2}, a: 1}").unwrap(), json!({"a": 1}));
        assert_eq!(read("p: &p {a: 1}\nq: &q {a: 2}\nr: {<<: [*p, *q]}").unwrap()["r"], json!({"a": 1}));
        assert_eq!(read("p: &p {a: 1}\nq: {<<: *p, <<: {b: 2}}").unwrap()["q"], json!({"a": 1, "b": 2}));
        assert_eq!(read("{\"<<\": 1}").unwrap(), json!({"<<": 1}));
        assert!(read("{<<: 1}").is_err());
    }

    #[test]
    fn what_json_has_not_is_told_last_and_only_if_it_stays() {
        assert_eq!(read("{a: .inf, a: 1}").unwrap(), json!({"a": 1}));
        assert_eq!(read("{a: .inf}").unwrap_err().message, "json: unsupported value: +Inf");
        let null = "unsupported map key of type: %!s(<nil>), key: <nil>, value: 1";
        assert_eq!(read("{a: .nan, ~: 1}").unwrap_err().message, null);
        assert!(read("{a: .nan, ~: 1, {x}: y}").unwrap_err().message.starts_with("invalid map key"));
    }

    #[test]
    fn a_redefined_anchor_means_the_last_one_before_the_alias() {
        assert_eq!(read("a: &x 1\nb: *x\nc: &x 2\nd: *x").unwrap(), json!({"a": 1, "b": 1, "c": 2, "d": 2}));
        assert_eq!(read("a: *x").unwrap_err().message, "unknown anchor 'x' referenced");
        assert_eq!(read("&x [*x]").unwrap_err().message, "anchor 'x' value contains itself");
    }

    #[test]
    fn keys_become_text() {
        let value = read("{true: a, 1.5: b, 010: c, on: d, \"on\": e}").unwrap();
        assert_eq!(value, json!({"true": "d", "1.5": "b", "8": "c", "on": "e"}));
        let message = read("{{x}}: a").unwrap_err().message;
        assert_eq!(message, r#"invalid map key: map[interface {}]interface {}{"x":interface {}(nil)}"#);
    }

    #[test]
    fn places_are_found_through_aliases_and_merges() {
        let document = Document::parse(b"x: &x\n  k: 1\nl:\n- <<: *x\n  m: 2\n").unwrap();
        let at = |path: &[Segment]| document.locate(path).map(|m| (m.line, m.column));
        let (l, first) = (Segment::Key("l".into()), Segment::Index(0));
        assert_eq!(at(&[l.clone(), first.clone(), Segment::Key("k".into())]), Some((2, 3)));
        assert_eq!(at(&[l.clone(), first.clone(), Segment::Key("m".into())]), Some((5, 3)));
        assert_eq!(at(&[l, first, Segment::Key("none".into())]), Some((4, 3)));
    }

    #[test]
    fn of_two_keys_the_last_one_wins() {
        assert_eq!(read("a: 1\nb: {c: 1, c: 2}\na: 3\n").unwrap(), json!({"a": 3, "b": {"c": 2}}));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let before = format!("*a{}", i - 1);
            text += &format!("a{i}: &a{i} [{}]\n", vec![before; 9].join(","));
        }
        assert_eq!(read(&text).unwrap_err().message, "document contains excessive aliasing");
    }
}
