//! The graph of a pipeline. A resource appears once as a source of versions (for inputs without `passed`) and once
//! behind each job that others name in `passed`, or that puts it: there it is the version *that job* let through.

use std::collections::{BTreeSet, HashMap};

use super::{Edge, Graph, Kind, Node};
use crate::web::status::Status;

/// What the drawing needs to know of an input.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// The resource's name.
    pub resource: String,
    /// Jobs its version must have passed.
    pub passed: Vec<String>,
    /// Whether a new version starts the job.
    pub trigger: bool,
}

/// What the drawing needs to know of a job.
#[derive(Debug, Clone, Default)]
pub struct JobNode {
    /// Name.
    pub name: String,
    /// Where its box leads.
    pub href: String,
    /// Status of the newest finished build.
    pub status: Status,
    /// A build is going on.
    pub running: bool,
    /// A build waits.
    pub pending: bool,
    /// Paused by a person.
    pub paused: bool,
    /// What it gets.
    pub inputs: Vec<Input>,
    /// Resources it puts.
    pub outputs: Vec<String>,
}

/// What the drawing needs to know of a resource.
#[derive(Debug, Clone, Default)]
pub struct ResourceNode {
    /// Name.
    pub name: String,
    /// Its type, said on hovering.
    pub kind: String,
    /// Where its box leads.
    pub href: String,
    /// Held at one version.
    pub pinned: bool,
    /// Its last check failed.
    pub broken: bool,
}

/// The graph of these jobs; what they name in `passed` but is not among them counts as a source.
pub fn graph(jobs: &[JobNode], resources: &[ResourceNode]) -> Graph {
    let mut maker = Maker {
        graph: Graph::default(),
        resources: resources.iter().map(|r| (r.name.as_str(), r)).collect(),
        boxes: HashMap::new(),
    };
    let index: HashMap<&str, usize> = jobs.iter().map(|j| (j.name.as_str(), maker.job(j))).collect();
    for job in jobs {
        let at = index[job.name.as_str()];
        for input in &job.inputs {
            let known: BTreeSet<usize> = input.passed.iter().filter_map(|p| index.get(p.as_str()).copied()).collect();
            let mut sources: Vec<usize> = known.into_iter().map(|p| maker.resource(Some(p), &input.resource)).collect();
            if sources.is_empty() {
                sources.push(maker.resource(None, &input.resource));
            }
            for from in sources {
                maker.edge(from, at, !input.trigger);
            }
        }
        for output in &job.outputs {
            maker.resource(Some(at), output);
        }
    }
    maker.graph
}

struct Maker<'a> {
    graph: Graph,
    resources: HashMap<&'a str, &'a ResourceNode>,
    /// Box of a resource behind a job, or as a source.
    boxes: HashMap<(Option<usize>, String), usize>,
}

impl Maker<'_> {
    fn job(&mut self, job: &JobNode) -> usize {
        let mut class = format!("job {}", job.status.class());
        let mut title = format!("job {}: {}", job.name, job.status.word());
        for (on, word) in [(job.paused, "paused"), (job.running, "running"), (job.pending && !job.running, "waiting")] {
            if on {
                class.push_str(" is-");
                class.push_str(word);
                title.push_str(", ");
                title.push_str(word);
            }
        }
        self.push(Node { kind: Kind::Job, name: job.name.clone(), title, href: job.href.clone(), class })
    }

    fn resource(&mut self, behind: Option<usize>, name: &str) -> usize {
        if let Some(&at) = self.boxes.get(&(behind, name.to_owned())) {
            return at;
        }
        let known = self.resources.get(name);
        let (pinned, broken) = known.map_or((false, false), |r| (r.pinned, r.broken));
        let mut class = String::from("resource");
        let mut title = format!("resource {name}");
        if let Some(r) = known {
            title.push_str(&format!(" ({})", r.kind));
        }
        for (on, word) in [(pinned, "pinned"), (broken, "broken")] {
            if on {
                class.push_str(" is-");
                class.push_str(word);
                title.push_str(if word == "broken" { ", check failing" } else { ", pinned" });
            }
        }
        let href = known.map_or_else(String::new, |r| r.href.clone());
        let at = self.push(Node { kind: Kind::Resource, name: name.to_owned(), title, href, class });
        self.boxes.insert((behind, name.to_owned()), at);
        if let Some(job) = behind {
            self.edge(job, at, false);
        }
        at
    }

    fn push(&mut self, node: Node) -> usize {
        self.graph.nodes.push(node);
        self.graph.nodes.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, quiet: bool) {
        // Two inputs of the same resource are one line; it is solid if either triggers.
        match self.graph.edges.iter_mut().find(|e| e.from == from && e.to == to) {
            Some(edge) => edge.quiet &= quiet,
            None => self.graph.edges.push(Edge { from, to, quiet }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, inputs: &[(&str, &[&str], bool)], outputs: &[&str]) -> JobNode {
        JobNode {
            name: name.into(),
            inputs: inputs
                .iter()
                .map(|(r, passed, trigger)| Input {
                    resource: (*r).into(),
                    passed: passed.iter().map(|p| (*p).into()).collect(),
                    trigger: *trigger,
                })
                .collect(),
            outputs: outputs.iter().map(|o| (*o).into()).collect(),
            ..JobNode::default()
        }
    }

    #[test]
    fn resources_stand_between_the_jobs_they_pass() {
        let jobs = [
            job("unit", &[("code", &[], true)], &["image"]),
            job("deploy", &[("code", &["unit"], true), ("image", &["unit"], false)], &[]),
        ];
        let graph = graph(&jobs, &[]);
        let mut lines: Vec<String> = graph
            .edges
            .iter()
            .map(|e| {
                format!("{} {} {}", graph.nodes[e.from].name, if e.quiet { "··" } else { "→" }, graph.nodes[e.to].name)
            })
            .collect();
        lines.sort();
        assert_eq!(lines, ["code → deploy", "code → unit", "image ·· deploy", "unit → code", "unit → image"]);
        assert_eq!(graph.nodes.len(), 5, "two jobs, the source, and two behind unit");
    }

    #[test]
    fn a_passed_job_outside_the_group_is_a_source() {
        let graph = graph(&[job("deploy", &[("code", &["elsewhere"], true)], &[])], &[]);
        assert_eq!(graph.edges, [Edge { from: 1, to: 0, quiet: false }]);
    }
}
