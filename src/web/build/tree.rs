//! The steps of a build: the public plan as a tree of groups and steps, events folded into it, and what of the page
//! has to change because of them.

use std::collections::HashMap;

use serde_json::Value;

use super::step::{Field, Step, plain};

/// A place in the tree.
#[derive(Debug, Clone)]
pub enum Node {
    /// Index of a step.
    Leaf(usize),
    /// Steps that belong together.
    Group {
        /// `parallel`, `hook`, `try`, `timeout`, `attempt`, `image` or `across`.
        class: &'static str,
        /// What the group is, in words.
        label: String,
        /// What is in it.
        children: Vec<Node>,
    },
}

/// The tree as a list, for a template that cannot call itself.
#[derive(Debug, Clone, Copy)]
pub enum Mark<'t> {
    /// A group begins: class and label.
    Enter(&'static str, &'t str),
    /// A group ends.
    Leave,
    /// A step begins; what is nested in it follows.
    Step(&'t Step),
    /// A step ends.
    EndStep(&'t Step),
}

/// All steps of a build.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    roots: Vec<Node>,
    steps: Vec<Step>,
    index: HashMap<String, usize>,
    /// Errors that belong to no step.
    pub errors: Vec<String>,
    /// The last status that was told.
    pub status: Option<String>,
    /// Number of the next event.
    pub next_event: i64,
    /// Steps that got nested ones since the page last looked.
    grown: Vec<usize>,
}

impl Tree {
    /// The steps of a public plan, none begun.
    pub fn new(plan: &Value) -> Tree {
        let mut tree = Tree::default();
        tree.roots = tree.plant(plan);
        tree
    }

    /// The nodes of one plan; containers that only order their steps dissolve.
    fn plant(&mut self, plan: &Value) -> Vec<Node> {
        let Some(map) = plan.as_object() else { return Vec::new() };
        let id = plan["id"].as_str().unwrap_or("");
        let Some((kind, body)) = map.iter().find(|(k, _)| !matches!(k.as_str(), "id" | "attempts")) else {
            return Vec::new();
        };
        match kind.as_str() {
            "do" => self.plant_all(body),
            "in_parallel" => vec![group("parallel", parallel_label(body), self.plant_all(&body["steps"]))],
            "try" => vec![group("try", "try: may fail".into(), self.plant(&body["step"]))],
            "timeout" => {
                let label = format!("at most {}", plain(&body["duration"]));
                vec![group("timeout", label, self.plant(&body["step"]))]
            }
            "retry" => self.plant_attempts(body),
            "on_success" | "on_failure" | "on_error" | "on_abort" | "ensure" => {
                let mut nodes = self.plant(&body["step"]);
                nodes.push(group("hook", kind.replace('_', " "), self.plant(&body[kind.as_str()])));
                nodes
            }
            "across" => vec![self.add(id, "across", across_name(body), body)],
            "get" | "put" | "task" | "set_pipeline" | "load_var" | "check" | "run" => {
                let name = if kind == "run" { &body["message"] } else { &body["name"] };
                vec![self.add(id, known(kind), plain(name), body)]
            }
            // Artifacts of one-off builds have nothing to show.
            _ => Vec::new(),
        }
    }

    fn plant_all(&mut self, plans: &Value) -> Vec<Node> {
        let Some(list) = plans.as_array() else { return Vec::new() };
        list.iter().flat_map(|p| self.plant(p)).collect()
    }

    fn plant_attempts(&mut self, plans: &Value) -> Vec<Node> {
        let Some(list) = plans.as_array() else { return Vec::new() };
        let count = list.len();
        list.iter()
            .enumerate()
            .map(|(i, plan)| group("attempt", format!("attempt {} of {count}", i + 1), self.plant(plan)))
            .collect()
    }

    fn add(&mut self, id: &str, kind: &'static str, name: String, body: &Value) -> Node {
        let at = self.steps.len();
        let version = Field::of_object(&body["version"]);
        self.steps.push(Step { id: id.to_owned(), kind, name, version, ..Step::default() });
        self.index.insert(id.to_owned(), at);
        for (member, label) in [("image_check_plan", "check of its image"), ("image_get_plan", "its image")] {
            let nested = self.plant(&body[member]);
            if !nested.is_empty() {
                self.steps[at].nested.push(group("image", label.into(), nested));
            }
        }
        Node::Leaf(at)
    }

    /// Takes in one event: `{"data":…,"event":…}`.
    pub fn apply(&mut self, event: &Value) {
        self.next_event += 1;
        let (name, data) = (event["event"].as_str().unwrap_or(""), &event["data"]);
        if name == "status" {
            self.status = data["status"].as_str().map(str::to_owned);
            if !matches!(self.status.as_deref(), None | Some("pending" | "started")) {
                let time = data["time"].as_i64().unwrap_or(0);
                self.steps.iter_mut().for_each(|s| s.settle(time));
            }
            return;
        }
        let origin = data["origin"]["id"].as_str().unwrap_or("");
        match self.index.get(origin).copied() {
            Some(at) => self.apply_to(at, name, data),
            None if name == "error" => self.errors.push(plain(&data["message"]).trim_end().to_owned()),
            None => {}
        }
    }

    fn apply_to(&mut self, at: usize, name: &str, data: &Value) {
        let nested = match name {
            "image-check" => self.nest("image", "check of its image".into(), &data["plan"]),
            "image-get" => self.nest("image", "its image".into(), &data["plan"]),
            "across-substeps" => self.combinations(&data["substeps"]),
            _ => {
                self.steps[at].apply(name, data);
                return;
            }
        };
        if !nested.is_empty() {
            self.steps[at].nested.extend(nested);
            self.grown.push(at);
        }
    }

    /// A nested plan that is not in the tree yet.
    fn nest(&mut self, class: &'static str, label: String, plan: &Value) -> Vec<Node> {
        if plan["id"].as_str().is_some_and(|id| self.index.contains_key(id)) {
            return Vec::new();
        }
        let children = self.plant(plan);
        if children.is_empty() { Vec::new() } else { vec![group(class, label, children)] }
    }

    fn combinations(&mut self, substeps: &Value) -> Vec<Node> {
        let Some(list) = substeps.as_array() else { return Vec::new() };
        list.iter()
            .flat_map(|s| {
                let values: Vec<String> = s["values"].as_array().into_iter().flatten().map(plain).collect();
                self.nest("across", values.join(", "), &s["step"])
            })
            .collect()
    }

    /// The whole tree as a list.
    pub fn marks(&self) -> Vec<Mark<'_>> {
        let mut out = Vec::new();
        self.flatten(&self.roots, &mut out);
        out
    }

    /// What is nested in a step, as a list.
    pub(super) fn marks_in(&self, at: usize) -> Vec<Mark<'_>> {
        let mut out = Vec::new();
        self.flatten(&self.steps[at].nested, &mut out);
        out
    }

    /// The steps nested in a step, however deep.
    pub(super) fn below(&self, at: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open: Vec<&Node> = self.steps[at].nested.iter().collect();
        while let Some(node) = open.pop() {
            match node {
                Node::Leaf(inner) => {
                    found.push(*inner);
                    open.extend(&self.steps[*inner].nested);
                }
                Node::Group { children, .. } => open.extend(children),
            }
        }
        found
    }

    fn flatten<'t>(&'t self, nodes: &'t [Node], out: &mut Vec<Mark<'t>>) {
        for node in nodes {
            match node {
                Node::Leaf(at) => {
                    let step = &self.steps[*at];
                    out.push(Mark::Step(step));
                    self.flatten(&step.nested, out);
                    out.push(Mark::EndStep(step));
                }
                Node::Group { class, label, children } => {
                    out.push(Mark::Enter(class, label));
                    self.flatten(children, out);
                    out.push(Mark::Leave);
                }
            }
        }
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A step, to look for changes in.
    pub(super) fn step_mut(&mut self, at: usize) -> &mut Step {
        &mut self.steps[at]
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Which steps got nested ones since the last call.
    pub(super) fn take_grown(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.grown)
    }
}

fn group(class: &'static str, label: String, children: Vec<Node>) -> Node {
    Node::Group { class, label, children }
}

fn parallel_label(body: &Value) -> String {
    let limit = body["limit"].as_i64().filter(|n| *n > 0).map(|n| format!(", {n} at a time")).unwrap_or_default();
    let fast = if body["fail_fast"].as_bool() == Some(true) { ", stopping at the first failure" } else { "" };
    format!("in parallel{limit}{fast}")
}

fn across_name(body: &Value) -> String {
    let names: Vec<String> = body["vars"].as_array().into_iter().flatten().map(|v| plain(&v["name"])).collect();
    names.join(", ")
}

fn known(kind: &str) -> &'static str {
    match kind {
        "get" => "get",
        "put" => "put",
        "set_pipeline" => "set_pipeline",
        "load_var" => "load_var",
        "check" => "check",
        "run" => "run",
        _ => "task",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::build::step::Progress;

    fn task(id: &str) -> Value {
        json!({"id": id, "task": {"name": format!("t{id}"), "privileged": false}})
    }

    fn outline(tree: &Tree) -> Vec<String> {
        tree.marks()
            .iter()
            .filter_map(|m| match m {
                Mark::Enter(class, label) => Some(format!("{class}: {label}")),
                Mark::Leave => Some("end".into()),
                Mark::Step(s) => Some(format!("{} {}", s.kind, s.name)),
                Mark::EndStep(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_plan_becomes_groups_and_steps() {
        let plan = json!({"id": "9", "do": [
            {"id": "1", "get": {"name": "code", "type": "git", "version": {"ref": "a"}}},
            {"id": "2", "in_parallel": {"steps": [task("3"), task("4")], "limit": 2, "fail_fast": true}},
            {"id": "5", "ensure": {"step": {"id": "6", "retry": [task("7"), task("8")]}, "ensure": task("10")}},
        ]});
        assert_eq!(
            outline(&Tree::new(&plan)),
            [
                "get code",
                "parallel: in parallel, 2 at a time, stopping at the first failure",
                "task t3",
                "task t4",
                "end",
                "attempt: attempt 1 of 2",
                "task t7",
                "end",
                "attempt: attempt 2 of 2",
                "task t8",
                "end",
                "hook: ensure",
                "task t10",
                "end"
            ]
        );
    }

    #[test]
    fn events_move_their_step() {
        let mut tree = Tree::new(&json!({"id": "0", "do": [task("1"), task("2"), task("3")]}));
        let event = |name: &str, id: &str, more: Value| {
            let mut data = json!({"origin": {"id": id}, "time": 100});
            data.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            json!({"event": name, "data": data})
        };
        for e in [
            event("initialize-task", "1", json!({})),
            event("start-task", "1", json!({"time": 102})),
            event("log", "1", json!({"payload": "hi\n"})),
            event("finish-task", "1", json!({"exit_status": 2, "time": 110})),
            event("initialize-task", "2", json!({})),
            event("error", "nobody", json!({"message": "no plan"})),
            json!({"event": "status", "data": {"status": "failed", "time": 111}}),
        ] {
            tree.apply(&e);
        }
        let states: Vec<Progress> = tree.steps().iter().map(|s| s.progress).collect();
        assert_eq!(states, [Progress::Failed, Progress::Stopped, Progress::Waiting]);
        let first = &tree.steps()[0];
        assert_eq!((first.exit, first.duration().as_deref()), (Some(2), Some("10s")));
        assert_eq!(first.timing(), "prepared in 2s, ran for 8s");
        assert_eq!((tree.errors.as_slice(), tree.next_event), (["no plan".to_owned()].as_slice(), 7));
    }

    #[test]
    fn combinations_and_images_are_nested_once() {
        let mut tree = Tree::new(&json!({"id": "1", "across": {"vars": [{"name": "go"}, {"name": "os"}]}}));
        let substeps = json!({"event": "across-substeps", "data": {"origin": {"id": "1"}, "substeps": [
            {"step": task("1/0/0"), "values": ["1.1", {"name": "other"}]}]}});
        tree.apply(&substeps);
        tree.apply(&substeps);
        let image = json!({"id": "i", "get": {"name": "image", "type": "mock"}});
        tree.apply(&json!({"event": "image-get", "data": {"origin": {"id": "1/0/0"}, "plan": image}}));
        assert_eq!(
            outline(&tree),
            [
                "across go, os",
                r#"across: 1.1, {"name":"other"}"#,
                "task t1/0/0",
                "image: its image",
                "get image",
                "end",
                "end"
            ]
        );
        assert_eq!(tree.take_grown(), [0, 1]);
    }
}
