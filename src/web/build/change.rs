//! What of a build's page has to change because of events: small pieces of HTML with the place they belong to, made by
//! the same parts that draw the whole page.

use askama::Template;
use serde::Serialize;

use super::step::{Progress, Step};
use super::tree::{Mark, Tree};
use crate::web::ansi::Line;

/// One change, as the script on the page applies it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `append`, `inner`, `replace` or `state`.
    #[serde(rename = "do")]
    pub what: &'static str,
    /// The element.
    pub id: String,
    /// What to put there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub html: String,
    /// The element's new classes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub class: String,
    /// Unfold it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}

impl Change {
    /// New content of an element.
    pub fn inner(id: impl Into<String>, html: String) -> Change {
        Change { what: "inner", id: id.into(), html, ..Change::default() }
    }
}

#[derive(Template)]
#[template(path = "parts/step_head.html")]
struct Head<'a> {
    step: &'a Step,
}

#[derive(Template)]
#[template(path = "parts/step_facts.html")]
struct Facts<'a> {
    step: &'a Step,
}

#[derive(Template)]
#[template(path = "parts/line.html")]
struct LinePart<'a> {
    step: &'a Named<'a>,
    n: &'a usize,
    line: &'a Line,
}

/// All of a step that a line needs: the step itself is being read from.
struct Named<'a> {
    id: &'a str,
}

/// What a step's template needs from around it.
struct Around<'a> {
    raw: &'a str,
}

#[derive(Template)]
#[template(path = "parts/nested.html")]
struct Nested<'a> {
    view: Around<'a>,
    marks: Vec<Mark<'a>>,
}

/// Forgets what has changed so far: the page shows it.
pub fn settle(tree: &mut Tree) {
    tree.take_grown();
    for at in 0..tree.steps().len() {
        forget(tree, at);
    }
}

fn forget(tree: &mut Tree, at: usize) {
    let step = tree.step_mut(at);
    step.dirty = false;
    step.told = step.screen.last();
    step.screen.take_touched();
}

/// What has changed since the last call, or since [`settle`]. `raw` is the address of the whole log.
pub fn changes(tree: &mut Tree, raw: &str) -> askama::Result<Vec<Change>> {
    let mut all = Vec::new();
    for at in tree.take_grown() {
        let html = Nested { view: Around { raw }, marks: tree.marks_in(at) }.render()?;
        all.push(Change::inner(format!("{}-nested", tree.steps()[at].anchor()), html));
        for inner in tree.below(at) {
            forget(tree, inner);
        }
    }
    for at in 0..tree.steps().len() {
        let step = tree.step_mut(at);
        if std::mem::take(&mut step.dirty) {
            state(step, &mut all)?;
        }
        lines(step, &mut all)?;
    }
    Ok(all)
}

fn state(step: &Step, all: &mut Vec<Change>) -> askama::Result<()> {
    let anchor = step.anchor();
    all.push(Change::inner(format!("{anchor}-head"), Head { step }.render()?));
    all.push(Change::inner(format!("{anchor}-facts"), Facts { step }.render()?));
    let open = matches!(step.progress, Progress::Running | Progress::Failed | Progress::Errored);
    all.push(Change {
        what: "state",
        id: anchor,
        class: format!("step {}", step.progress.class()),
        open,
        ..Change::default()
    });
    Ok(())
}

fn lines(step: &mut Step, all: &mut Vec<Change>) -> askama::Result<()> {
    let (id, told) = (step.id.clone(), step.told);
    let named = Named { id: &id };
    let mut fresh = String::new();
    for (n, line) in step.screen.take_touched() {
        let html = LinePart { step: &named, n: &n, line }.render()?;
        if n <= told {
            all.push(Change { what: "replace", id: format!("L{id}:{n}"), html, ..Change::default() });
        } else {
            fresh.push_str(&html);
        }
    }
    step.told = step.screen.last();
    if !fresh.is_empty() {
        all.push(Change { what: "append", id: format!("{}-log", step.anchor()), html: fresh, ..Change::default() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn short(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|c| format!("{} {}", c.what, c.id)).collect()
    }

    #[test]
    fn only_what_an_event_touches_is_sent() {
        let mut tree = Tree::new(&json!({"id": "1", "task": {"name": "t"}}));
        settle(&mut tree);
        let log = |text: &str| json!({"event": "log", "data": {"origin": {"id": "1"}, "time": 5, "payload": text}});
        tree.apply(&json!({"event": "initialize-task", "data": {"origin": {"id": "1"}, "time": 5}}));
        let begun = changes(&mut tree, "").unwrap();
        assert_eq!(short(&begun), ["inner step-1-head", "inner step-1-facts", "state step-1"]);
        assert!(begun[2].open && begun[2].class.contains("p-running"));
        tree.apply(&log("10%"));
        assert_eq!(short(&changes(&mut tree, "").unwrap()), ["append step-1-log"]);
        tree.apply(&log("\r20%\nnext\n"));
        assert_eq!(short(&changes(&mut tree, "").unwrap()), ["replace L1:1", "append step-1-log"]);
        assert_eq!(changes(&mut tree, "").unwrap(), []);
    }

    #[test]
    fn a_nested_step_comes_whole_and_then_by_itself() {
        let mut tree = Tree::new(&json!({"id": "1", "task": {"name": "t"}}));
        settle(&mut tree);
        let plan = json!({"id": "2", "get": {"name": "image", "type": "x"}});
        tree.apply(&json!({"event": "image-get", "data": {"origin": {"id": "1"}, "plan": plan}}));
        tree.apply(&json!({"event": "log", "data": {"origin": {"id": "2"}, "payload": "a\n"}}));
        let first = changes(&mut tree, "").unwrap();
        assert_eq!(short(&first), ["inner step-1-nested"]);
        assert!(first[0].html.contains("L2:1"));
        tree.apply(&json!({"event": "log", "data": {"origin": {"id": "2"}, "payload": "b\n"}}));
        assert_eq!(short(&changes(&mut tree, "").unwrap()), ["append step-2-log"]);
    }
}
