//! The nodes of one YAML document, each with the place where it stands.

use std::borrow::Cow;
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

/// Whose habits a text is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Library {
    /// Go's yaml v2, which reads whatever is used.
    Two,
    /// Go's yaml v3, with which the client and the step `set_pipeline` look at a file before all else.
    Three,
}

struct Composer<'t> {
    library: Library,
    events: Events<'t>,
    nodes: Vec<Node>,
    anchors: HashMap<String, NodeId>,
    /// For each open collection that is written with brackets, what closes it and where it starts.
    flow: Vec<Option<(char, Mark)>>,
}

/// How deep nodes may be nested, so that a hostile file cannot exhaust the stack of whoever reads it, be it as JSON later.
pub(super) const DEPTH: usize = 100;

impl Document {
    /// Composes the first document of a text.
    pub fn parse(text: &[u8]) -> Result<Document, YamlError> {
        Document::parse_with(text, Library::Two)
    }

    pub(super) fn parse_with(text: &[u8], library: Library) -> Result<Document, YamlError> {
        let mut read = marks_as_words(text);
        let mut repairs = REPAIRED.checked_div(text.len()).unwrap_or_default().min(64);
        loop {
            let (error, position) = match Document::compose(&read, library) {
                Ok(document) if matches!(read, Cow::Borrowed(_)) => return Ok(document),
                Ok(document) => return Ok(document.with_stand_ins_replaced()),
                Err(stopped) => stopped,
            };
            match repaired(&read, &error.message, position).filter(|_| repairs > 0) {
                Some(text) => read = Cow::Owned(text),
                None => return Err(error),
            }
            repairs -= 1;
        }
    }

    /// The document, or what is wrong after so many bytes.
    fn compose(text: &[u8], library: Library) -> Result<Document, (YamlError, usize)> {
        let events = Events::of(text, library).map_err(|error| (error, 0))?;
        let mut composer = Composer { library, events, nodes: Vec::new(), anchors: HashMap::new(), flow: Vec::new() };
        match composer.document() {
            Ok(root) => Ok(Document { nodes: composer.nodes, root }),
            Err(error) => Err((error, composer.events.position())),
        }
    }

    fn with_stand_ins_replaced(mut self) -> Document {
        for node in &mut self.nodes {
            let Kind::Scalar { value, .. } = &mut node.kind else { continue };
            for (stand_in, meant) in [(COLON, ":"), (APOSTROPHE, "'"), (MARK, BYTE_ORDER_MARK)] {
                if value.contains(stand_in) {
                    *value = value.replace(stand_in, meant);
                }
            }
        }
        self
    }

    /// The node an alias stands for, or the node itself.
    pub(super) fn target(&self, id: NodeId) -> NodeId {
        match &self.nodes[id].kind {
            Kind::Alias { target, .. } => *target,
            _ => id,
        }
    }
}

/// Stands for a colon, which Go's yaml takes as a part of a word within brackets where libyaml refuses it.
const COLON: &str = "\u{f583a}";
/// Stands for an escaped apostrophe between double quotes, which libyaml does not know; as long as it was.
const APOSTROPHE: &str = "\u{f5827}\u{f5828}";
/// Stands for a byte order mark within a text, which to Go's yaml is a letter and to libyaml nothing where a line starts.
const MARK: &str = "\u{f5839}";
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// How much is read in all for the sake of texts that need such stand-ins.
const REPAIRED: usize = 64 << 20;

/// The text with stand-ins for byte order marks anywhere but at its start.
fn marks_as_words(text: &[u8]) -> Cow<'_, [u8]> {
    let Ok(rest) = std::str::from_utf8(text) else { return Cow::Borrowed(text) };
    let (first, rest) = match rest.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => (BYTE_ORDER_MARK, rest),
        None => ("", rest),
    };
    match rest.contains(BYTE_ORDER_MARK) {
        true => Cow::Owned([first, &rest.replace(BYTE_ORDER_MARK, MARK)].concat().into_bytes()),
        false => Cow::Borrowed(text),
    }
}

/// The text with a stand-in for what libyaml stopped at and Go's yaml does not; none where both refuse it.
fn repaired(text: &[u8], message: &str, position: usize) -> Option<Vec<u8>> {
    let (found, stand_in) = match message.rsplit(": ").next()? {
        "found unexpected ':'" => (":", COLON),
        "found unknown escape character" => ("\\'", APOSTROPHE),
        _ => return None,
    };
    let (before, rest) = text.split_at_checked(start(text) + position)?;
    let rest = rest.strip_prefix(found.as_bytes())?;
    Some([before, stand_in.as_bytes(), rest].concat())
}

/// Where libyaml starts to count.
pub(super) fn start(text: &[u8]) -> usize {
    if text.starts_with(BYTE_ORDER_MARK.as_bytes()) { BYTE_ORDER_MARK.len() } else { 0 }
}

impl Composer<'_> {
    fn document(&mut self) -> Result<Option<NodeId>, YamlError> {
        let mut root = None;
        loop {
            match self.events.next()? {
                (Event::Start, _) => {}
                (Event::End, _) => return Ok(root),
                (event, mark) => root = Some(self.node(event, mark, 0)?),
            }
        }
    }

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
                if let Some(open) = self.flow.last().copied().flatten().filter(|_| unquoted && value.contains('?')) {
                    return Err(question(open, mark, self.library));
                }
                Ok(self.add(Kind::Scalar { value, tag, plain }, mark, anchor))
            }
            Event::Alias(name) => match self.anchors.get(&name) {
                Some(&target) => Ok(self.add(Kind::Alias { name, target }, mark, None)),
                None => Err(YamlError { message: format!("unknown anchor '{name}' referenced"), mark: Some(mark) }),
            },
            Event::Mapping { anchor, flow } => {
                let id = self.add(Kind::Mapping(Vec::new()), mark, anchor);
                self.flow.push(flow.then_some(('}', mark)));
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
                self.flow.push(flow.then_some((']', mark)));
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
fn question((close, start): (char, Mark), mark: Mark, library: Library) -> YamlError {
    let lines = if library == Library::Three { [start.line, mark.line] } else { [mark.line, start.line] };
    let line = lines.into_iter().find(|&line| line > 1);
    let line = line.map(|line| format!("line {}: ", line - 1)).unwrap_or_default();
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
    fn words_within_brackets_may_hold_colons_and_quotes_escaped_apostrophes() {
        let read = |text: &str| Document::parse(text.as_bytes()).and_then(|d| d.to_json()).map_err(|e| e.message);
        for (text, want) in [
            ("[a:, b: c:]", serde_json::json!(["a:", {"b": "c:"}])),
            ("{a: b:}", serde_json::json!({"a": "b:"})),
            ("\"it\\'s\"", serde_json::json!("it's")),
            ("\u{feff}{é: [\"\\'\\'\", x:]}", serde_json::json!({"é": ["''", "x:"]})),
        ] {
            assert_eq!(read(text), Ok(want), "{text}");
        }
        assert_eq!(read("[a:[b]]").unwrap_err(), "did not find expected ',' or ']'");
        assert_eq!(read("\"\\q\"").unwrap_err(), "found unknown escape character");
        assert_eq!(read("- x\n- \"a\\\\/\\/b\"").unwrap_err(), "line 2: found unknown escape character");
        assert_eq!(read("- \"a\\\\/b\"\n- '\\/'\n- \\/"), Ok(serde_json::json!(["a\\/b", "\\/", "\\/"])));
        assert!(read(&format!("[{}]", "a:,".repeat(1000))).is_err());
    }

    #[test]
    fn a_byte_order_mark_within_a_text_is_a_letter() {
        let read = |text: &str| Document::parse(text.as_bytes()).and_then(|d| d.to_json()).map_err(|e| e.message);
        assert_eq!(read("\u{feff}a: 1\n"), Ok(serde_json::json!({"a": 1})));
        assert_eq!(read("a: 1\n\u{feff}b: 2\n"), Ok(serde_json::json!({"a": 1, "\u{feff}b": 2})));
        assert_eq!(read("a: 1\n\u{feff}\nb: 2\n").unwrap_err(), "line 3: could not find expected ':'");
    }

    #[test]
    fn line_ends_of_all_kinds_are_line_ends() {
        for text in ["a: |\r\n  x\r\n  y\r\nb: 1\r\n", "a: |\n  x\n  y\nb: 1\n", "a: |\r  x\r  y\rb: 1"] {
            let value = Document::parse(text.as_bytes()).unwrap().to_json().unwrap();
            assert_eq!(value, serde_json::json!({"a": "x\ny\n", "b": 1}), "{text:?}");
        }
    }
}
