//! The nodes of one YAML document, each with the place where it stands.

use std::collections::HashMap;

use libyaml_safer::{ErrorKind, EventData, Parser};

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl From<libyaml_safer::Mark> for Mark {
    fn from(mark: libyaml_safer::Mark) -> Self {
        Mark { line: mark.line as usize + 1, column: mark.column as usize + 1 }
    }
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

struct Composer<'r> {
    parser: Parser<'r>,
    nodes: Vec<Node>,
    anchors: HashMap<String, NodeId>,
}

/// How deep nodes may be nested, so that a hostile file cannot exhaust the stack.
const DEPTH: usize = 1000;

impl Document {
    /// Composes the first document of a text.
    pub fn parse(text: &[u8]) -> Result<Document, YamlError> {
        let mut input = text;
        let mut parser = Parser::new();
        parser.set_input_string(&mut input);
        let mut composer = Composer { parser, nodes: Vec::new(), anchors: HashMap::new() };
        let mut root = None;
        loop {
            let event = composer.next()?;
            match event.data {
                EventData::StreamStart { .. } | EventData::DocumentStart { .. } => {}
                EventData::StreamEnd | EventData::DocumentEnd { .. } => break,
                data => root = Some(composer.node(data, event.start_mark.into(), 0)?),
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
    fn next(&mut self) -> Result<libyaml_safer::Event, YamlError> {
        self.parser.parse().map_err(|e| located(&e))
    }

    fn add(&mut self, kind: Kind, mark: Mark, anchor: Option<String>) -> NodeId {
        self.nodes.push(Node { kind, mark });
        let id = self.nodes.len() - 1;
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        id
    }

    fn node(&mut self, data: EventData, mark: Mark, depth: usize) -> Result<NodeId, YamlError> {
        if depth > DEPTH {
            return Err(YamlError { message: "exceeded max depth".into(), mark: Some(mark) });
        }
        match data {
            EventData::Scalar { anchor, tag, value, plain_implicit, .. } => {
                let kind = Kind::Scalar { value, tag: tag.unwrap_or_default(), plain: plain_implicit };
                Ok(self.add(kind, mark, anchor))
            }
            EventData::Alias { anchor } => match self.anchors.get(&anchor) {
                Some(&target) => Ok(self.add(Kind::Alias { name: anchor, target }, mark, None)),
                None => Err(YamlError { message: format!("unknown anchor '{anchor}' referenced"), mark: Some(mark) }),
            },
            EventData::SequenceStart { anchor, .. } => {
                let id = self.add(Kind::Sequence(Vec::new()), mark, anchor);
                let mut items = Vec::new();
                while let Some(item) = self.child(depth)? {
                    items.push(item);
                }
                self.nodes[id].kind = Kind::Sequence(items);
                Ok(id)
            }
            _ => {
                let anchor = match data {
                    EventData::MappingStart { anchor, .. } => anchor,
                    _ => None,
                };
                let id = self.add(Kind::Mapping(Vec::new()), mark, anchor);
                let mut pairs = Vec::new();
                while let Some(key) = self.child(depth)? {
                    match self.child(depth)? {
                        Some(value) => pairs.push((key, value)),
                        None => break,
                    }
                }
                self.nodes[id].kind = Kind::Mapping(pairs);
                Ok(id)
            }
        }
    }

    /// The next node within a collection, or none at its end.
    fn child(&mut self, depth: usize) -> Result<Option<NodeId>, YamlError> {
        let event = self.next()?;
        match event.data {
            EventData::SequenceEnd | EventData::MappingEnd => Ok(None),
            data => self.node(data, event.start_mark.into(), depth + 1).map(Some),
        }
    }
}

/// Go's message names a line only where libyaml's mark is beyond the first one, and counts scanner errors from 1.
fn located(error: &libyaml_safer::Error) -> YamlError {
    let context = error.context_mark().filter(|m| m.line != 0);
    let at = context.or(error.problem_mark().filter(|m| m.line != 0));
    let line = at.map(|m| m.line + u64::from(error.kind() == ErrorKind::Scanner));
    let problem = error.problem();
    let message = match line {
        Some(line) => format!("line {line}: {problem}"),
        None => problem.to_owned(),
    };
    YamlError { message, mark: error.problem_mark().map(Mark::from) }
}
