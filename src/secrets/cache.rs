//! Remembers what a source has said, found or not, and asks for each path at most once at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, CACHED_FOR, Found, Path, Source, SourceError};
use crate::base::clock::{Clock, Time};

/// How long answers are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// Those with a value; zero keeps none.
    pub found: Duration,
    /// Those without.
    pub absent: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { found: CACHED_FOR, absent: CACHED_FOR }
    }
}

/// More paths than this are not remembered: the oldest go first.
const MOST: usize = 10_000;

struct Kept {
    found: Option<Found>,
    until: Time,
}

/// See the module's doc.
pub struct Cached {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    settings: CacheSettings,
    kept: Mutex<HashMap<Path, Kept>>,
    /// One lock a path: whoever asks for it holds it.
    flights: Mutex<HashMap<Path, Flight>>,
}

/// When and why the last one who asked got no answer: who was waiting then does not ask the same again.
type Flight = Arc<tokio::sync::Mutex<Option<(Instant, SourceError)>>>;

impl Cached {
    /// Over a source.
    pub fn new(source: Arc<dyn Source>, clock: Arc<dyn Clock>, settings: CacheSettings) -> Cached {
        Cached { source, clock, settings, kept: Mutex::default(), flights: Mutex::default() }
    }

    /// The source itself.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The values at these paths. `calls` counts only what this caller had to ask for.
    pub async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let mut wanted: Vec<Path> = paths.iter().filter(|p| self.known(p).is_none()).cloned().collect();
        // Always in the same order, so that two who want the same cannot wait for each other.
        wanted.sort();
        wanted.dedup();
        let mut calls = 0;
        let mut fresh = HashMap::new();
        let mut failed = None;
        if !wanted.is_empty() {
            let began = Instant::now();
            let locks: Vec<_> = wanted.iter().map(|path| self.flight(path)).collect();
            let mut guards = Vec::with_capacity(locks.len());
            for lock in locks {
                guards.push(lock.lock_owned().await);
            }
            wanted.retain(|path| self.known(path).is_none());
            let meanwhile = guards.iter().filter_map(|g| g.as_ref()).find(|(at, _)| *at >= began);
            failed = meanwhile.map(|(_, error)| error.clone());
            if !wanted.is_empty() && failed.is_none() {
                match self.source.get_many(&wanted).await {
                    Ok(answer) => {
                        calls = answer.calls;
                        for (path, found) in wanted.into_iter().zip(answer.values) {
                            self.keep(&path, found.clone());
                            fresh.insert(path, found);
                        }
                    }
                    Err(error) => {
                        let at = Instant::now();
                        guards.iter_mut().for_each(|guard| **guard = Some((at, error.clone())));
                        failed = Some(error);
                    }
                }
            }
            drop(guards);
            self.land();
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let value = |path: &Path| fresh.get(path).cloned().or_else(|| self.known(path)).flatten();
        Ok(Answer { values: paths.iter().map(value).collect(), calls })
    }

    /// Forgets what is known of everything of a team: something was written.
    pub fn forget(&self, team: crate::base::id::TeamId) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| path.team != team);
    }

    fn known(&self, path: &Path) -> Option<Option<Found>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.get(path)?;
        (self.clock.now() < entry.until).then(|| entry.found.clone())
    }

    fn keep(&self, path: &Path, found: Option<Found>) {
        let now = self.clock.now();
        let life = if found.is_some() { self.settings.found } else { self.settings.absent };
        let until = found.as_ref().and_then(|f| f.expires).map_or(now.plus(life), |e| e.min(now.plus(life)));
        if until <= now {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, k| k.until > now);
        }
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(path.clone(), Kept { found, until });
    }

    fn flight(&self, path: &Path) -> Flight {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default().clone()
    }

    /// Forgets the locks that nobody holds.
    fn land(&self) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, lock| Arc::strong_count(lock) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use serde_json::{Value, json};

    use super::*;
    use crate::base::clock::Manual;
    use crate::base::id::TeamId;

    struct Slow {
        asked: AtomicU32,
    }

    #[async_trait]
    impl Source for Slow {
        fn name(&self) -> &str {
            "slow"
        }
        async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
            self.asked.fetch_add(u32::try_from(paths.len()).unwrap(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if paths.iter().any(|p| p.text == "/down") {
                return Err(SourceError::Down { source_name: "slow".into(), why: "down".into() });
            }
            let value = |p: &Path| (!p.text.starts_with("/absent")).then(|| Found::lasting(json!(p.text)));
            Ok(Answer { values: paths.iter().map(value).collect(), calls: 1 })
        }
        fn about(&self) -> Value {
            Value::Null
        }
        async fn health(&self) -> Result<(), SourceError> {
            Ok(())
        }
    }

    fn path(text: &str) -> Path {
        Path { text: text.into(), team: TeamId(1), team_name: "t".into(), pipeline: None, name: text.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_path_is_asked_for_once_at_a_time_and_remembered_found_or_not() {
        let clock = Arc::new(Manual::new(Time(0)));
        let source = Arc::new(Slow { asked: AtomicU32::new(0) });
        let settings = CacheSettings { found: Duration::from_secs(60), absent: Duration::from_secs(10) };
        let cached = Cached::new(source.clone(), clock.clone(), settings);
        let asked = || source.asked.load(Ordering::Relaxed);
        let (ab, bc) = ([path("/a"), path("/b"), path("/absent")], [path("/absent"), path("/b"), path("/c")]);
        let (one, two) = tokio::join!(cached.get_many(&ab), cached.get_many(&bc));
        assert_eq!(asked(), 4);
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.values[2].is_none() && two.values[0].is_none());
        assert_eq!(two.values[1], one.values[1]);
        assert_eq!((one.calls, two.calls), (1, 1));
        assert_eq!(cached.get_many(&ab).await.unwrap().calls, 0);
        clock.advance(Duration::from_secs(11));
        cached.get_many(&ab).await.unwrap();
        assert_eq!(asked(), 5, "the absent one again");
        cached.forget(TeamId(1));
        cached.get_many(&ab[..1]).await.unwrap();
        assert_eq!(asked(), 6);
        assert!(cached.flights.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_for_a_source_that_is_down_does_not_ask_it_again() {
        let source = Arc::new(Slow { asked: AtomicU32::new(0) });
        let clock = Arc::new(Manual::new(Time(0)));
        let cached = Arc::new(Cached::new(source.clone(), clock, CacheSettings::default()));
        let both = [path("/down"), path("/a")];
        let waiting = (0..20).map(|_| cached.get_many(&both));
        let answers = futures_util::future::join_all(waiting).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!(source.asked.load(Ordering::Relaxed), 2, "both paths, once");
        assert!(cached.get_many(&both).await.is_err());
        assert_eq!(source.asked.load(Ordering::Relaxed), 4, "who comes later asks");
        assert!(cached.get_many(&both[1..]).await.is_ok());
        assert!(cached.flights.lock().unwrap().is_empty());
    }
}
