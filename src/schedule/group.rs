//! Inputs that must have passed jobs in common, solved together.
//!
//! Builds of the passed jobs are tried newest first. A build that fits gives its versions to the inputs that must
//! have passed its job (it *vouches* for them), then the rest is solved under that assumption; where that fails, the
//! next build is tried. Once an input has a candidate, only builds that hold it are looked at.
//!
//! A long search is remembered (see `memory.rs`): where nothing new goes with what led nowhere, it is not made again.
//! The search keeps its own stack: a pipeline may have more jobs than a thread has room for calls.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::history::{Heard, Held, History, Holding, Place, Walk};
use super::input::{Input, Passage, Picked, Reason};
use super::memory::{Memory, basis, unheard};
use super::resolve::Answer;
use crate::base::id::{BuildId, JobId};

/// Builds on the first page; each further page has four times as many.
const FIRST_PAGE: usize = 8;
/// Builds on a page at most.
const LONGEST_PAGE: usize = 2048;
/// After so many builds it is worth asking whether each job has any.
const DOUBT: usize = if cfg!(test) { 3 } else { 8 };
/// After so many builds it is worth remembering how it ended. (Worlds of tests are small.)
const LONG: usize = if cfg!(test) { 1 } else { 32 };

/// After so many builds it is not asked any further whether a build leads somewhere.
const PATIENCE: usize = 500;

/// A group of inputs.
pub(super) struct Group<'a, H: History> {
    history: &'a mut H,
    inputs: Vec<&'a Input>,
    jobs: BTreeSet<JobId>,
    pins: Vec<Option<Picked>>,
    /// Per passed job, the build whose versions were last used by an input that wants every version.
    last_used: Option<BTreeMap<JobId, Place>>,
}

/// What came of it: an answer for each input or why there is none, and what to remember.
pub(super) struct Outcome {
    pub answers: Result<Vec<Answer>, Reason>,
    pub memory: Option<Memory>,
}

#[derive(Clone)]
struct Candidate {
    picked: Arc<Picked>,
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

/// One search: the candidates so far, and for each of them which builds are tried.
#[derive(Default)]
struct Search {
    candidates: Vec<Option<Candidate>>,
    stack: Vec<Frame>,
    /// States that were found to lead nowhere.
    doomed: HashSet<u64>,
    /// Whether only existence is asked: then what is most constrained goes first, and "every" is no order.
    only_whether: bool,
    looked: usize,
    /// The first build that was tried.
    top: Option<Place>,
}

/// An input that looks for a build of a job.
struct Frame {
    input: usize,
    job: JobId,
    builds: Builds,
    /// Where it is, and the candidates as they were before.
    trying: Option<(Place, Before)>,
}

type Before = BTreeMap<usize, Option<Candidate>>;

impl<'a, H: History> Group<'a, H> {
    pub fn new(history: &'a mut H, inputs: Vec<&'a Input>) -> Self {
        let jobs = inputs.iter().flat_map(|i| i.passed.iter().copied()).collect();
        let pins = vec![None; inputs.len()];
        Group { history, inputs, jobs, pins, last_used: None }
    }

    /// Solves the group, knowing what is remembered of it.
    pub fn resolve(mut self, memory: Option<&Memory>) -> Result<Outcome, H::Error> {
        for (index, input) in self.inputs.iter().enumerate() {
            let Some(pin) = &input.pin else { continue };
            match self.history.pinned(input.resource, pin)? {
                None => return Ok(Outcome { answers: Err(Reason::NoPinned(pin.clone())), memory: memory.cloned() }),
                found => self.pins[index] = found,
            }
        }
        let mut known = match memory {
            Some(memory) => self.still_true(memory)?,
            None => None,
        };
        if let Some(memory) = known.take_if(|m| m.floor.is_none()) {
            return Ok(Outcome { answers: Err(Reason::NoSatisfiableBuilds), memory: Some(memory) });
        }
        let mut search = Search { candidates: vec![None; self.inputs.len()], ..Search::default() };
        let found = self.search(&mut search, known.as_ref())?;
        let memory = self.remember(&search, found, known)?;
        let answers: Vec<_> = match found {
            true => search.candidates.into_iter().flatten().map(Answer::from).collect(),
            false => Vec::new(),
        };
        // An input whose globs match no job cannot be satisfied either.
        let whole = answers.len() == self.inputs.len();
        Ok(Outcome { answers: if whole { Ok(answers) } else { Err(Reason::NoSatisfiableBuilds) }, memory })
    }

    /// How far the jobs of an input have come.
    pub fn passages(history: &mut H, input: &Input) -> Result<Vec<Passage>, H::Error> {
        let mut passages = Vec::new();
        for &job in &input.passed {
            let (newest, _) = history.builds(job, &Holding::new(), Walk::Down, 1)?;
            let build = newest.first().map(|p| p.build);
            let held = match build {
                Some(build) => history.holds(build)?.into_iter().find(|h| h.resource == input.resource),
                None => None,
            };
            let off_pin = |h: &Held| input.pin.as_ref().is_some_and(|pin| !h.picked.version.contains(pin));
            passages.push(Passage {
                job,
                build,
                usable: held.as_ref().is_some_and(|h| h.known && !h.disabled && !off_pin(h)),
                version: held.map(|h| h.picked.version.clone()),
            });
        }
        Ok(passages)
    }

    /// What is remembered, brought up to date; `None` if something has happened that it does not speak of.
    fn still_true(&mut self, memory: &Memory) -> Result<Option<Memory>, H::Error> {
        if memory.basis != self.basis()? {
            return Ok(None);
        }
        let news = self.history.news(&memory.heard)?;
        for (job, place) in &news.builds {
            if self.leads_somewhere(*job, *place)? {
                return Ok(None);
            }
        }
        Ok(Some(Memory { heard: news.heard, ..memory.clone() }))
    }

    /// Whether there may be an answer in which this build vouches. It may say yes where there is none, never no where
    /// there is one: what a build holds counts only where it does so in every order in which builds could be tried.
    fn leads_somewhere(&mut self, job: JobId, place: Place) -> Result<bool, H::Error> {
        let mut search = Search { candidates: vec![None; self.inputs.len()], only_whether: true, ..Search::default() };
        let holds = self.history.holds(place.build)?;
        if self.hides_some(job, &holds) {
            return Ok(true);
        }
        let (before, _) = self.vouch_perhaps(&mut search, None, job, place)?;
        Ok(!before.is_empty() && self.search(&mut search, None)?)
    }

    /// Whether a build holds a version that is in no history: it keeps what comes after it from being looked at, if
    /// the input has no candidate yet.
    fn hides_some(&self, job: JobId, holds: &[Held]) -> bool {
        let concerns = |held: &Held| self.inputs.iter().any(|i| i.resource == held.resource && i.passed.contains(&job));
        holds.iter().any(|held| !held.known && concerns(held))
    }

    /// As [`Group::vouch`], for a search that only asks whether. A build that hides something vouches for the input
    /// alone for which it is tried.
    fn vouch_perhaps(
        &mut self,
        search: &mut Search,
        tried_for: Option<usize>,
        job: JobId,
        place: Place,
    ) -> Result<(Before, bool), H::Error> {
        let mut before = Before::new();
        let mut holds = self.history.holds(place.build)?;
        let hides = self.hides_some(job, &holds);
        holds.retain(|held| held.known && !held.disabled);
        for held in &holds {
            for index in (0..self.inputs.len()).filter(|index| !hides || Some(*index) == tried_for) {
                let candidate = &search.candidates[index];
                if before.contains_key(&index) || self.is_off_pin(index, held) {
                    continue;
                }
                match self.fit(candidate.as_ref(), index, job, held) {
                    Fit::Unrelated => continue,
                    Fit::Mismatch if hides || self.has_candidate(search, index, &holds) => continue,
                    Fit::Mismatch => return Ok((before, true)),
                    Fit::Fits => {}
                }
                let mut vouched = candidate.clone().unwrap_or_else(|| Candidate::of(held.picked.clone()));
                vouched.vouched_by.insert(job);
                before.insert(index, search.candidates[index].replace(vouched));
            }
        }
        Ok((before, false))
    }

    fn basis(&mut self) -> Result<String, H::Error> {
        let resources = self.inputs.iter().map(|i| i.resource).collect();
        let mut versions = self.history.basis(&resources)?;
        for input in self.inputs.iter().filter(|i| i.every) {
            // It decides about the order in which builds are tried.
            versions.push_str(&format!("{:?}", self.history.last_used(input.resource)?));
        }
        Ok(basis(&self.inputs, &versions))
    }

    /// What to remember of a search: nothing if it was short.
    fn remember(&mut self, search: &Search, found: bool, known: Option<Memory>) -> Result<Option<Memory>, H::Error> {
        let (top, floor) = match search.stack.first() {
            Some(frame) if found => match (&frame.trying, frame.builds.downwards) {
                (Some((place, _)), true) => (search.top.max(known.as_ref().and_then(|m| m.top)), Some(*place)),
                _ => return Ok(None),
            },
            _ => (None, None),
        };
        let short = search.looked < LONG && known.is_none();
        if short || (floor.is_some() && floor == top) {
            return Ok(None);
        }
        let (basis, heard) = match known {
            Some(known) => (known.basis, known.heard),
            None => (self.basis()?, self.heard()?),
        };
        Ok(Some(Memory { basis, heard, top, floor }))
    }

    fn heard(&mut self) -> Result<Heard, H::Error> {
        let unheard = unheard(&self.jobs);
        Ok(self.history.news(&unheard)?.heard)
    }

    /// Whether builds can be found that go together; the candidates are then theirs.
    fn search(&mut self, search: &mut Search, known: Option<&Memory>) -> Result<bool, H::Error> {
        let mut known = known;
        while let Some((input, job, mut builds)) = self.open(search)? {
            if let Some(memory) = known.take() {
                builds.skip(memory);
            }
            search.stack.push(Frame { input, job, builds, trying: None });
            if !self.go_on(search)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the next build that fits, of the last input that has any left. False if there is none.
    fn go_on(&mut self, search: &mut Search) -> Result<bool, H::Error> {
        while let Some(mut frame) = search.stack.pop() {
            if let Some((_, before)) = frame.trying.take() {
                search.doomed.insert(search.state());
                search.restore(before);
            }
            while let Some((place, has_next)) = frame.builds.next(self.history)? {
                search.looked += 1;
                search.top = search.top.or(Some(place));
                if search.looked == DOUBT && self.some_job_has_none()? {
                    search.stack.clear();
                    return Ok(false);
                }
                if search.only_whether && search.looked > PATIENCE {
                    return Ok(true);
                }
                let (before, mismatch) = match search.only_whether {
                    true => self.vouch_perhaps(search, Some(frame.input), frame.job, place)?,
                    false => self.vouch(search, frame.job, place, has_next)?,
                };
                let vouched = search.candidates[frame.input].as_ref();
                let vouched = vouched.is_some_and(|c| c.vouched_by.contains(&frame.job));
                if vouched && !mismatch && !search.doomed.contains(&search.state()) {
                    frame.trying = Some((place, before));
                    search.stack.push(frame);
                    return Ok(true);
                }
                search.restore(before);
            }
        }
        Ok(false)
    }

    fn some_job_has_none(&mut self) -> Result<bool, H::Error> {
        for &job in &self.jobs {
            if self.history.builds(job, &Holding::new(), Walk::Down, 1)?.0.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next input and job without a build, and the builds to try.
    fn open(&mut self, search: &Search) -> Result<Option<(usize, JobId, Builds)>, H::Error> {
        let mut order: Vec<usize> = (0..self.inputs.len()).collect();
        if search.only_whether {
            order.sort_by_key(|index| search.candidates[*index].is_none());
        }
        for index in order {
            let input = self.inputs[index];
            for &job in &input.passed {
                if search.candidates[index].as_ref().is_some_and(|c| c.vouched_by.contains(&job)) {
                    continue;
                }
                if let Some(builds) = self.builds(search, index, job)? {
                    return Ok(Some((index, job, builds)));
                }
            }
        }
        Ok(None)
    }

    /// Gives the build's versions to the inputs they fit. Returns the candidates as they were, and whether one of its
    /// versions is not the one that was chosen.
    fn vouch(
        &mut self,
        search: &mut Search,
        job: JobId,
        place: Place,
        has_next: bool,
    ) -> Result<(Before, bool), H::Error> {
        let mut before = Before::new();
        for held in self.history.holds(place.build)? {
            for index in 0..self.inputs.len() {
                // What a build made comes before what it was given: the first that fits counts.
                if before.contains_key(&index) {
                    continue;
                }
                let candidate = &search.candidates[index];
                match self.fit(candidate.as_ref(), index, job, &held) {
                    Fit::Unrelated => continue,
                    Fit::Mismatch => return Ok((before, true)),
                    Fit::Fits => {}
                }
                if candidate.is_none() && !held.known {
                    return Ok((before, false));
                }
                let mut vouched = candidate.clone().unwrap_or_else(|| Candidate::of(held.picked.clone()));
                vouched.vouched_by.insert(job);
                vouched.from_builds.push(place.build);
                vouched.has_next |= has_next;
                before.insert(index, search.candidates[index].replace(vouched));
            }
        }
        Ok((before, false))
    }

    fn fit(&self, candidate: Option<&Candidate>, index: usize, job: JobId, held: &Held) -> Fit {
        let input = self.inputs[index];
        if input.resource != held.resource || !input.passed.contains(&job) {
            return Fit::Unrelated;
        }
        match candidate {
            Some(candidate) if candidate.picked.digest != held.picked.digest => return Fit::Mismatch,
            _ => {}
        }
        if held.disabled || self.is_off_pin(index, held) { Fit::Unrelated } else { Fit::Fits }
    }

    /// Whether the candidate of an input is among these.
    fn has_candidate(&self, search: &Search, index: usize, holds: &[Held]) -> bool {
        let Some(candidate) = &search.candidates[index] else { return false };
        let (resource, digest) = (self.inputs[index].resource, &candidate.picked.digest);
        holds.iter().any(|held| held.resource == resource && held.picked.digest == *digest)
    }

    fn is_off_pin(&self, index: usize, held: &Held) -> bool {
        self.pins[index].as_ref().is_some_and(|pin| pin.digest != held.picked.digest)
    }

    /// The builds of a job to try for an input, in order; `None` if the job is to wait for what others bring.
    fn builds(&mut self, search: &Search, index: usize, job: JobId) -> Result<Option<Builds>, H::Error> {
        let input = self.inputs[index];
        let fresh = search.candidates[index].is_none();
        let holding = match &self.pins[index] {
            // A build that does not hold it cannot vouch for it.
            Some(pin) if fresh => Holding::from([(input.resource, pin.digest.clone())]),
            None if fresh => Holding::new(),
            _ if search.only_whether => {
                let own = search.candidates[index].as_ref().map(|c| (input.resource, c.picked.digest.clone()));
                own.into_iter().collect()
            }
            _ => self.holding(search, job),
        };
        if input.every && !search.only_whether {
            if self.last_used.is_none() {
                self.last_used = self.history.last_used(input.resource)?;
            }
            if let Some(used) = &self.last_used {
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
    fn holding(&self, search: &Search, job: JobId) -> Holding {
        let through = self.inputs.iter().zip(&search.candidates).filter(|(input, _)| input.passed.contains(&job));
        through.filter_map(|(input, c)| Some((input.resource, c.as_ref()?.picked.digest.clone()))).collect()
    }
}

impl Search {
    fn restore(&mut self, before: Before) {
        for (index, candidate) in before {
            self.candidates[index] = candidate;
        }
    }

    /// What the rest of the search depends on: the versions and who has vouched for them.
    fn state(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for candidate in &self.candidates {
            candidate.as_ref().map(|c| (&c.picked.digest, &c.vouched_by)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Candidate {
    fn of(picked: Arc<Picked>) -> Self {
        Candidate { picked, vouched_by: BTreeSet::new(), from_builds: Vec::new(), has_next: false }
    }
}

impl From<Candidate> for Answer {
    fn from(c: Candidate) -> Self {
        Answer { picked: Arc::unwrap_or_clone(c.picked), from_builds: c.from_builds, has_next: c.has_next }
    }
}

/// A job's succeeded builds, page by page.
struct Builds {
    job: JobId,
    holding: Holding,
    walk: Walk,
    /// Where to go on once the walk has come to its end.
    then: Option<Walk>,
    limit: usize,
    page: Option<(Vec<Place>, bool)>,
    index: usize,
    /// Whether it only goes from newer ones to older ones.
    downwards: bool,
}

impl Builds {
    fn newest_first(job: JobId, holding: Holding) -> Self {
        Builds { job, holding, walk: Walk::Down, then: None, limit: FIRST_PAGE, page: None, index: 0, downwards: true }
    }

    /// First those that were not used yet, oldest first; then the one used last and those before it.
    fn newer_then_older(job: JobId, holding: Holding, used: Place) -> Self {
        // Reruns of a build that was used are not newer, unless it was itself a rerun.
        let last = if used.origin == used.build { BuildId(i64::MAX) } else { used.build };
        let walk = Walk::UpAbove(Place { build: last, ..used });
        Builds { walk, then: Some(Walk::DownFrom(used)), downwards: false, ..Builds::newest_first(job, holding) }
    }

    /// Leaves out what is known to lead nowhere.
    fn skip(&mut self, memory: &Memory) {
        if let (Walk::Down, Some(top), Some(floor)) = (self.walk, memory.top, memory.floor) {
            self.walk = Walk::DownAbove(None, top);
            self.then = Some(Walk::DownFrom(floor));
        }
    }

    /// The next build, and whether there are more that were not used yet.
    fn next<H: History>(&mut self, history: &mut H) -> Result<Option<(Place, bool)>, H::Error> {
        loop {
            if self.page.is_none() {
                self.page = Some(history.builds(self.job, &self.holding, self.walk, self.limit)?);
                self.index = 0;
            }
            let Some((places, more)) = &self.page else { return Ok(None) };
            if let Some(place) = places.get(self.index) {
                self.index += 1;
                let unused = matches!(self.walk, Walk::UpAbove(_));
                return Ok(Some((*place, unused && (*more || self.index < places.len()))));
            }
            match places.last() {
                Some(last) if *more => {
                    self.walk = match self.walk {
                        Walk::UpAbove(_) => Walk::UpAbove(*last),
                        Walk::DownAbove(_, top) => Walk::DownAbove(Some(*last), top),
                        _ => Walk::DownBelow(*last),
                    };
                    self.limit = (self.limit * 4).min(LONGEST_PAGE);
                }
                _ => match self.then.take() {
                    Some(walk) => (self.walk, self.limit) = (walk, FIRST_PAGE),
                    None => return Ok(None),
                },
            }
            self.page = None;
        }
    }
}
