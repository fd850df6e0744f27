//! The nodes of one YAML document, each with the place where it stands.

use std::collections::HashMap;

use super::events::{Event, Events};

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Why a text is no YAML; the message is Go's, the mark ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    /// What is wrong, without `yaml: ` before it.
    pub message: String,
    /// Where, if it has a place.
    pub mark: Option<Mark>,
}

/// Index of a node in its document.
pub(super) type NodeId = usize;

pub(super) struct Node {
    pub kind: Kind,
    pub mark: Mark,
}

pub(super) enum Kind {
    Scalar { value: String, tag: String, plain: bool },
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    Alias { name: String, target: NodeId },
}

/// The first document of a text; an empty text has no root.
pub struct Document {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Option<NodeId>,
}

struct Composer<'t> {
    events: Events<'t>,
    nodes: Vec<Node>,
    anchors: HashMap<String, NodeId>,
    /// For each open collection what closes it, where it is written with brackets.
    flow: Vec<Option<char>>,
}

/// How deep nodes may be nested, so that a hostile file cannot exhaust the stack.
const DEPTH: usize = 200;

impl Document {
    /// Composes the first document of a text.
    pub fn parse(text: &[u8]) -> Result<Document, YamlError> {
        let mut composer =
            Composer { events: Events::of(text)?, nodes: Vec::new(), anchors: HashMap::new(), flow: Vec::new() };
        let mut root = None;
        loop {
            match composer.events.next()? {
                (Event::Start, _) => {}
                (Event::End, _) => break,
                (event, mark) => root = Some(composer.node(event, mark, 0)?),
            }
        }
        Ok(Document { nodes: composer.nodes, root })
    }

    /// The node an alias stands for, or the node itself.
    pub(super) fn target(&self, id: NodeId) -> NodeId {
        match &self.nodes[id].kind {
            Kind::Alias { target, .. } => *target,
            _ => id,
        }
    }
}

impl Composer<'_> {
    fn add(&mut self, kind: Kind, mark: Mark, anchor: Option<String>) -> NodeId {
        self.nodes.push(Node { kind, mark });
        let id = self.nodes.len() - 1;
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        id
    }

    fn node(&mut self, event: Event, mark: Mark, depth: usize) -> Result<NodeId, YamlError> {
        if depth > DEPTH {
            return Err(YamlError { message: "exceeded max depth".into(), mark: Some(mark) });
        }
        match event {
            Event::Scalar { anchor, tag, value, plain, unquoted } => {
                if let (true, Some(close)) = (unquoted && value.contains('?'), self.flow.last().copied().flatten()) {
                    return Err(question(close, mark));
                }
                Ok(self.add(Kind::Scalar { value, tag, plain }, mark, anchor))
            }
            Event::Alias(name) => match self.anchors.get(&name) {
                Some(&target) => Ok(self.add(Kind::Alias { name, target }, mark, None)),
                None => Err(YamlError { message: format!("unknown anchor '{name}' referenced"), mark: Some(mark) }),
            },
            Event::Mapping { anchor, flow } => {
                let id = self.add(Kind::Mapping(Vec::new()), mark, anchor);
                self.flow.push(flow.then_some('}'));
                let mut pairs = Vec::new();
                while let Some(key) = self.child(depth)? {
                    match self.child(depth)? {
                        Some(value) => pairs.push((key, value)),
                        None => break,
                    }
                }
                self.flow.pop();
                self.nodes[id].kind = Kind::Mapping(pairs);
                Ok(id)
            }
            other => {
                let (anchor, flow) = match other {
                    Event::Sequence { anchor, flow } => (anchor, flow),
                    _ => (None, false),
                };
                let id = self.add(Kind::Sequence(Vec::new()), mark, anchor);
                self.flow.push(flow.then_some(']'));
                let mut items = Vec::new();
                while let Some(item) = self.child(depth)? {
                    items.push(item);
                }
                self.flow.pop();
                self.nodes[id].kind = Kind::Sequence(items);
                Ok(id)
            }
        }
    }

    /// The next node within a collection, or none at its end.
    fn child(&mut self, depth: usize) -> Result<Option<NodeId>, YamlError> {
        match self.events.next()? {
            (Event::Close | Event::End | Event::Start, _) => Ok(None),
            (event, mark) => self.node(event, mark, depth + 1).map(Some),
        }
    }
}

/// Go's yaml ends a plain word within brackets at a question mark, and then finds no comma.
fn question(close: char, mark: Mark) -> YamlError {
    let line = if mark.line > 1 { format!("line {}: ", mark.line - 1) } else { String::new() };
    YamlError { message: format!("{line}did not find expected ',' or '{close}'"), mark: Some(mark) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_texts_are_refused_and_never_panic() {
        for text in [
            &b"a: |"[..],
            b"a: >-\n  x",
            b"\"\\",
            b"'",
            b"a: \xff",
            b"[",
            b"{a",
            b"- - -",
            b"%",
            b"&",
            b"a:\r\n  - b\r\n",
        ] {
            let _ = Document::parse(text).map(|document| document.to_json());
        }
        let deep = "[".repeat(10_000);
        assert!(Document::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_question_mark_within_brackets_needs_quotes() {
        let read = |text: &str| Document::parse(text.as_bytes()).map(|_| ()).map_err(|e| e.message);
        assert_eq!(read("{v: a?b}"), Err("did not find expected ',' or '}'".to_owned()));
        assert_eq!(read("{v: [a?b]}"), Err("did not find expected ',' or ']'".to_owned()));
        assert_eq!(read("{v: 'a?b'}"), Ok(()));
        assert_eq!(read("v: a?b"), Ok(()));
    }

    #[test]
    fn line_ends_of_all_kinds_are_line_ends() {
        for text in ["a: |\r\n  x\r\n  y\r\nb: 1\r\n", "a: |\n  x\n  y\nb: 1\n", "a: |\r  x\r  y\rb: 1"] {
            let value = Document::parse(text.as_bytes()).unwrap().to_json().unwrap();
            assert_eq!(value, serde_json::json!({"a": "x\ny\n", "b": 1}), "{text:?}");
        }
    }
}
