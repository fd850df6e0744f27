//! What the rules look up by name, found once for a whole pipeline.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::pipeline::{Config, Core, Job, glob};

/// The names of a pipeline.
pub(super) struct Names<'a> {
    config: &'a Config,
    resources: HashSet<&'a str>,
    prototypes: HashSet<&'a str>,
    jobs: HashMap<&'a str, Vec<usize>>,
    /// For each job the resources it gets or puts.
    uses: Vec<HashSet<&'a str>>,
    /// What each glob was found to mean.
    globs: RefCell<HashMap<String, Rc<[usize]>>>,
    edges: Cell<usize>,
}

/// Ten thousand jobs that each wait for a hundred others stay below it.
const MOST_EDGES: usize = 4_000_000;

impl<'a> Names<'a> {
    pub(super) fn of(config: &'a Config) -> Self {
        let mut jobs: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, job) in config.jobs.iter().enumerate() {
            jobs.entry(&job.name).or_default().push(index);
        }
        Names {
            config,
            resources: config.resources.iter().map(|resource| resource.name.as_str()).collect(),
            prototypes: config.prototypes.iter().map(|prototype| prototype.name.as_str()).collect(),
            jobs,
            uses: config.jobs.iter().map(used).collect(),
            globs: RefCell::default(),
            edges: Cell::new(0),
        }
    }

    /// Whether there is such a resource.
    pub(super) fn resource(&self, name: &str) -> bool {
        self.resources.contains(name)
    }

    /// Whether there is such a prototype.
    pub(super) fn prototype(&self, name: &str) -> bool {
        self.prototypes.contains(name)
    }

    /// Whether any job gets or puts a resource.
    pub(super) fn used(&self, resource: &str) -> bool {
        self.uses.iter().any(|uses| uses.contains(resource))
    }

    /// Whether a job gets or puts a resource.
    pub(super) fn uses(&self, job: usize, resource: &str) -> bool {
        self.uses[job].contains(resource)
    }

    /// The name of a job.
    pub(super) fn job(&self, index: usize) -> &'a str {
        &self.config.jobs[index].name
    }

    /// The jobs that a glob of `passed` means, in their order.
    pub(super) fn passed(&self, pattern: &str) -> Rc<[usize]> {
        let known = self.globs.borrow().get(pattern).cloned();
        let found = known.unwrap_or_else(|| {
            let found: Rc<[usize]> = self.matching(pattern).into();
            self.globs.borrow_mut().insert(pattern.to_owned(), found.clone());
            found
        });
        self.edges.set(self.edges.get() + found.len());
        found
    }

    /// Whether `passed` has meant so many jobs that to look at them all would take for ever.
    pub(super) fn exhausted(&self) -> bool {
        self.edges.get() > MOST_EDGES
    }

    fn matching(&self, pattern: &str) -> Vec<usize> {
        if pattern.contains(['*', '?', '[', '\\']) {
            let jobs = self.config.jobs.iter().enumerate();
            return jobs.filter(|(_, job)| glob::passes(pattern, &job.name)).map(|(index, _)| index).collect();
        }
        self.jobs.get(pattern).cloned().unwrap_or_default()
    }

    /// The first job that is called like this one, which stands for all of them.
    pub(super) fn first(&self, job: usize) -> usize {
        self.jobs.get(self.config.jobs[job].name.as_str()).and_then(|all| all.first()).copied().unwrap_or(job)
    }
}

fn used(job: &Job) -> HashSet<&str> {
    let mut used = HashSet::new();
    job.each_leaf(&mut |core| match core {
        Core::Get(get) => _ = used.insert(get.resource_name()),
        Core::Put(put) => _ = used.insert(put.resource_name()),
        _ => {}
    });
    used
}
