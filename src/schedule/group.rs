//! Inputs that must have passed jobs in common, solved together.
//!
//! Builds of the passed jobs are tried newest first. A build that fits gives its versions to the inputs that must
//! have passed its job (it *vouches* for them), then the rest is solved under that assumption; where that fails, the
//! next build is tried. Once an input has a candidate, only builds that hold it are looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::{Answer, Need, ask, pinned};
use super::snapshot::{Facts, Input, Page, Picked, Place, Reason, Snapshot, Vouching, Walk};
use crate::base::id::{BuildId, JobId, ResourceId};

/// Builds on the first page; each further page has four times as many.
const FIRST_PAGE: usize = 8;
/// Builds on a page at most.
const LONGEST_PAGE: usize = 2048;

pub(super) struct Group<'a> {
    snapshot: &'a Snapshot,
    inputs: Vec<&'a Input>,
    pins: Vec<Option<Picked>>,
    candidates: Vec<Option<Candidate>>,
    /// Versions that were last found to lead nowhere.
    doomed: Option<Vec<Option<String>>>,
    /// Per passed job, the build whose versions were last used by an input that wants every version.
    last_used: Option<&'a BTreeMap<JobId, Place>>,
}

#[derive(Clone)]
struct Candidate {
    picked: Picked,
    vouched_by: BTreeSet<JobId>,
    from_builds: Vec<BuildId>,
    has_next: bool,
}

/// How a version that a build holds goes with an input.
enum Fit {
    /// Has nothing to do with it, or must not be used.
    Unrelated,
    /// Another version was chosen already.
    Mismatch,
    /// May be used.
    Fits,
}

impl<'a> Group<'a> {
    pub fn new(snapshot: &'a Snapshot, inputs: Vec<&'a Input>) -> Self {
        let n = inputs.len();
        Group { snapshot, inputs, pins: vec![None; n], candidates: vec![None; n], doomed: None, last_used: None }
    }

    /// An answer for each input, or why there is none.
    pub fn resolve(mut self) -> Result<Result<Vec<Answer>, Reason>, Need> {
        for (index, input) in self.inputs.iter().enumerate() {
            let Some(pin) = &input.pin else { continue };
            match pinned(self.snapshot, input, pin)? {
                None => return Ok(Err(Reason::NoPinned(pin.clone()))),
                found => self.pins[index] = found,
            }
        }
        if !self.try_all()? {
            return Ok(Err(Reason::NoSatisfiableBuilds));
        }
        let answers: Vec<_> = self.candidates.into_iter().flatten().map(Answer::from).collect();
        // An input whose globs match no job cannot be satisfied either.
        Ok(if answers.len() == self.inputs.len() { Ok(answers) } else { Err(Reason::NoSatisfiableBuilds) })
    }

    fn try_all(&mut self) -> Result<bool, Need> {
        for index in 0..self.inputs.len() {
            if !self.try_input(index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds builds of all jobs that the input must have passed. The first that works out has solved the rest as well.
    fn try_input(&mut self, index: usize) -> Result<bool, Need> {
        let input = self.inputs[index];
        for &job in &input.passed {
            if self.candidates[index].as_ref().is_some_and(|c| c.vouched_by.contains(&job)) {
                continue;
            }
            let Some(mut builds) = self.builds(index, job)? else { continue };
            while let Some((build, has_next)) = builds.next(self.snapshot)? {
                if self.try_build(index, job, build, has_next)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn try_build(&mut self, index: usize, job: JobId, build: &Vouching, has_next: bool) -> Result<bool, Need> {
        let (before, mismatch) = self.vouch(job, build, has_next);
        let vouched = self.candidates[index].as_ref().is_some_and(|c| c.vouched_by.contains(&job));
        if vouched && !mismatch && !self.is_doomed() {
            if self.try_all()? {
                return Ok(true);
            }
            self.doomed = Some(self.versions());
        }
        for (index, candidate) in before {
            self.candidates[index] = candidate;
        }
        Ok(false)
    }

    /// Gives the build's versions to the inputs they fit. Returns the candidates as they were, and whether one of its
    /// versions is not the one that was chosen.
    fn vouch(&mut self, job: JobId, build: &Vouching, has_next: bool) -> (BTreeMap<usize, Option<Candidate>>, bool) {
        let mut before = BTreeMap::new();
        for held in &build.holds {
            for index in 0..self.inputs.len() {
                // What a build made comes before what it was given: the first that fits counts.
                if before.contains_key(&index) {
                    continue;
                }
                match self.fit(index, job, held) {
                    Fit::Unrelated => continue,
                    Fit::Mismatch => return (before, true),
                    Fit::Fits => {}
                }
                let candidate = self.candidates[index].clone();
                if candidate.is_none() && !held.known {
                    return (before, false);
                }
                let mut vouched = candidate.clone().unwrap_or_else(|| Candidate::of(held.picked.clone()));
                before.insert(index, candidate);
                vouched.vouched_by.insert(job);
                vouched.from_builds.push(build.place.build);
                vouched.has_next |= has_next;
                self.candidates[index] = Some(vouched);
            }
        }
        (before, false)
    }

    fn fit(&self, index: usize, job: JobId, held: &super::snapshot::Held) -> Fit {
        let input = self.inputs[index];
        if input.resource != held.resource || !input.passed.contains(&job) {
            return Fit::Unrelated;
        }
        match &self.candidates[index] {
            Some(candidate) if candidate.picked.digest != held.picked.digest => return Fit::Mismatch,
            _ => {}
        }
        let off_pin = self.pins[index].as_ref().is_some_and(|pin| pin.digest != held.picked.digest);
        if held.disabled || off_pin { Fit::Unrelated } else { Fit::Fits }
    }

    /// The builds of a job to try for an input, in order; `None` if the job is to wait for what others bring.
    fn builds(&mut self, index: usize, job: JobId) -> Result<Option<Builds<'a>>, Need> {
        let input = self.inputs[index];
        let fresh = self.candidates[index].is_none();
        let holding = if fresh { BTreeSet::new() } else { self.holding(job) };
        if input.every {
            if self.last_used.is_none()
                && let Facts::LastUsed(used) = ask(self.snapshot, Page::LastUsed(input.resource))?
            {
                self.last_used = used.as_ref();
            }
            if let Some(used) = self.last_used {
                if let Some(place) = used.get(&job) {
                    return Ok(Some(Builds::newer_then_older(job, holding, *place)));
                }
                if fresh && used.keys().any(|used| input.passed.contains(used)) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(Builds::newest_first(job, holding)))
    }

    /// The candidates that a build of that job must hold.
    fn holding(&self, job: JobId) -> BTreeSet<(ResourceId, String)> {
        let through = self.inputs.iter().zip(&self.candidates).filter(|(input, _)| input.passed.contains(&job));
        through.filter_map(|(input, c)| Some((input.resource, c.as_ref()?.picked.digest.clone()))).collect()
    }

    fn versions(&self) -> Vec<Option<String>> {
        self.candidates.iter().map(|c| c.as_ref().map(|c| c.picked.digest.clone())).collect()
    }

    fn is_doomed(&self) -> bool {
        self.doomed.as_ref().is_some_and(|doomed| *doomed == self.versions())
    }
}

impl Candidate {
    fn of(picked: Picked) -> Self {
        Candidate { picked, vouched_by: BTreeSet::new(), from_builds: Vec::new(), has_next: false }
    }
}

impl From<Candidate> for Answer {
    fn from(c: Candidate) -> Self {
        Answer { picked: c.picked, from_builds: c.from_builds, has_next: c.has_next }
    }
}

/// A job's succeeded builds, page by page.
struct Builds<'a> {
    job: JobId,
    holding: BTreeSet<(ResourceId, String)>,
    walk: Walk,
    /// Where to go on once the walk has come to its end.
    then: Option<Walk>,
    limit: usize,
    page: Option<(&'a [Vouching], bool)>,
    index: usize,
}

impl<'a> Builds<'a> {
    fn newest_first(job: JobId, holding: BTreeSet<(ResourceId, String)>) -> Self {
        Builds { job, holding, walk: Walk::Down, then: None, limit: FIRST_PAGE, page: None, index: 0 }
    }

    /// First those that were not used yet, oldest first; then the one used last and those before it.
    fn newer_then_older(job: JobId, holding: BTreeSet<(ResourceId, String)>, used: Place) -> Self {
        // Reruns of a build that was used are not newer, unless it was itself a rerun.
        let last = if used.origin == used.build { BuildId(i64::MAX) } else { used.build };
        let walk = Walk::UpAbove(Place { build: last, ..used });
        Builds { walk, then: Some(Walk::DownFrom(used)), ..Builds::newest_first(job, holding) }
    }

    /// The next build, and whether there are more that were not used yet.
    fn next(&mut self, snapshot: &'a Snapshot) -> Result<Option<(&'a Vouching, bool)>, Need> {
        loop {
            let (builds, more) = match self.page {
                Some(page) => page,
                None => *self.page.insert(self.read(snapshot)?),
            };
            if let Some(build) = builds.get(self.index) {
                self.index += 1;
                let unused = matches!(self.walk, Walk::UpAbove(_));
                return Ok(Some((build, unused && (more || self.index < builds.len()))));
            }
            match builds.last() {
                Some(last) if more => {
                    let up = matches!(self.walk, Walk::UpAbove(_));
                    self.walk = if up { Walk::UpAbove(last.place) } else { Walk::DownBelow(last.place) };
                    self.limit = (self.limit * 4).min(LONGEST_PAGE);
                }
                _ => match self.then.take() {
                    Some(walk) => (self.walk, self.limit) = (walk, FIRST_PAGE),
                    None => return Ok(None),
                },
            }
            (self.page, self.index) = (None, 0);
        }
    }

    fn read(&self, snapshot: &'a Snapshot) -> Result<(&'a [Vouching], bool), Need> {
        let page = Page::Builds { job: self.job, holding: self.holding.clone(), walk: self.walk, limit: self.limit };
        match ask(snapshot, page)? {
            Facts::Builds { builds, more } => Ok((builds, *more)),
            _ => Ok((&[], false)),
        }
    }
}
