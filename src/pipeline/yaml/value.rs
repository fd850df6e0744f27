//! Nodes turned into JSON the way sigs' YAML does it, and places found again by path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document::{DEPTH, Document, Kind, Mark, Node, NodeId, YamlError};
use super::scalar::{Scalar, is_word, key, resolve, untagged};
use crate::pipeline::quote::quoted;
use crate::vars::number;

/// One step of a path into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// A position in a list.
    Index(usize),
}

/// A key that stands twice in one mapping, which Concourse's server takes (the last one wins) and its client refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The key.
    pub key: String,
    /// Where it stands first.
    pub first: Mark,
    /// Where it stands again.
    pub again: Mark,
}

struct Reader<'d> {
    document: &'d Document,
    open: Vec<NodeId>,
    depth_of_aliases: usize,
    decoded: usize,
    through_aliases: usize,
    /// How deep the value lies; aliases may nest deeper than what is written.
    level: usize,
    /// How many bytes of text came through aliases.
    copied: usize,
}

/// How much text may come through aliases: a long text and many aliases to it are a bomb of few nodes.
const MOST_COPIED: usize = 32 << 20;
/// How many pairs of one key in one mapping are told.
const MOST_DUPLICATES: usize = 1000;

impl Document {
    /// The document as JSON with sorted keys; aliases and merges are filled in, later keys win.
    pub fn to_json(&self) -> Result<Value, YamlError> {
        let mut reader = Reader {
            document: self,
            open: Vec::new(),
            depth_of_aliases: 0,
            decoded: 0,
            through_aliases: 0,
            level: 0,
            copied: 0,
        };
        match self.root {
            Some(root) => reader.value(root),
            None => Ok(Value::Null),
        }
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

    fn is_merge(&self, id: NodeId) -> bool {
        matches!(&self.nodes[id].kind, Kind::Scalar { value, tag, plain }
            if value == "<<" && ((*plain && tag.is_empty()) || tag == "tag:yaml.org,2002:merge"))
    }

    /// Keys that stand twice in one mapping, `<<` included, in the order in which Concourse's client tells them.
    pub fn duplicates(&self) -> Vec<DuplicateKey> {
        self.nodes.iter().flat_map(|node| self.duplicates_in(node)).collect()
    }

    fn duplicates_in(&self, node: &Node) -> Vec<DuplicateKey> {
        let Kind::Mapping(pairs) = &node.kind else { return Vec::new() };
        let mut places: BTreeMap<&str, Vec<(usize, Mark)>> = BTreeMap::new();
        for (i, &(k, _)) in pairs.iter().enumerate() {
            if let Kind::Scalar { value, .. } = &self.nodes[k].kind {
                places.entry(value).or_default().push((i, self.nodes[k].mark));
            }
        }
        let mut found = Vec::new();
        for (key, places) in places {
            for (n, &(i, first)) in places.iter().enumerate() {
                let later = places[n + 1..].iter().take(MOST_DUPLICATES.saturating_sub(found.len()));
                found.extend(later.map(|&(j, again)| ((i, j), DuplicateKey { key: key.to_owned(), first, again })));
            }
        }
        found.sort_by_key(|(order, _)| *order);
        found.into_iter().map(|(_, duplicate)| duplicate).collect()
    }
}

fn key_text(tag: &str, value: &str, plain: bool) -> Option<String> {
    if tag.is_empty() && !plain {
        return Some(value.to_owned());
    }
    if tag.is_empty() { key(&untagged(value)) } else { resolve(tag, value).ok().as_ref().and_then(key) }
}

impl Reader<'_> {
    fn fail<T>(&self, id: NodeId, message: impl Into<String>) -> Result<T, YamlError> {
        Err(YamlError { message: message.into(), mark: Some(self.document.nodes[id].mark) })
    }

    /// Counts nodes as Go's yaml does and refuses a document that consists of little but aliases.
    fn count(&mut self, id: NodeId) -> Result<(), YamlError> {
        self.decoded += 1;
        if self.depth_of_aliases > 0 {
            self.through_aliases += 1;
        }
        if self.through_aliases <= 100 || self.decoded <= 1000 {
            return Ok(());
        }
        let allowed = match self.decoded {
            0..=400_000 => 0.99,
            4_000_000.. => 0.10,
            n => 0.99 - 0.89 * ((n - 400_000) as f64 / 3_600_000.0),
        };
        let share = self.through_aliases as f64 / self.decoded as f64;
        if share > allowed {
            return self.fail(id, "document contains excessive aliasing");
        }
        Ok(())
    }

    fn value(&mut self, id: NodeId) -> Result<Value, YamlError> {
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
                Scalar::Float(f) => match number::from_float(f) {
                    Some(n) => Ok(Value::Number(n)),
                    None => self.fail(id, format!("json: unsupported value: {}", number::infinite(f))),
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
            _ => Ok(key(&self.scalar(id)?)),
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
                return self.fail(k, format!("invalid map key: {}", go_syntax(&key)));
            }
            let name = self.key(target)?;
            let value = self.value(v)?;
            match name {
                Some(name) => entries.push((name, value)),
                None => {
                    let shown = if value.is_null() { "<nil>".to_owned() } else { go_syntax(&value) };
                    let message = format!("unsupported map key of type: %!s(<nil>), key: <nil>, value: {shown}");
                    return self.fail(k, message);
                }
            };
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

/// A value in Go's `%#v` notation.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(s) => quoted(s),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{}:{}", quoted(k), go_syntax(v))).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn duplicates_are_told_and_the_last_one_wins() {
        let document = Document::parse(b"a: 1\nb: {c: 1, c: 2}\na: 3\n").unwrap();
        assert_eq!(document.to_json().unwrap(), json!({"a": 3, "b": {"c": 2}}));
        let keys: Vec<_> = document.duplicates().into_iter().map(|d| (d.key, d.again.line)).collect();
        assert_eq!(keys, [("a".to_owned(), 3), ("c".to_owned(), 2)]);
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
