//! All sources together, as the engine, the API and the pages use them.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::idtoken::Issuer;
use super::local::Local;
use super::platform::{self, Platform};
use super::var_source::{Opened, Pool};
use super::{Found, Keyring, Listed, Manager, Name, NameError, Path, Place, SourceError, is_readonly};
use crate::base::clock::Clock;
use crate::base::id::{BuildId, PipelineId, TeamId};
use crate::base::secret::Secret;
use crate::pipeline::VarSource;
use crate::store::Store;
use crate::vars::{self, Missing, Reference, Values};

/// Who asks for values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its team.
    pub team: TeamId,
    /// That team's name.
    pub team_name: String,
    /// Its pipeline, if it has one.
    pub pipeline: Option<(PipelineId, String)>,
    /// Canonical JSON of the pipeline's instance variables, or empty.
    pub instance_vars: String,
    /// Its job, or empty.
    pub job: String,
    /// Its build, if it has a row.
    pub build: Option<BuildId>,
}

impl Asker {
    fn place(&self) -> Result<Place, NameError> {
        Place::new(&self.team_name, self.pipeline.as_ref().map(|(_, name)| name.as_str()))
    }
}

/// Why values could not be had. Texts never hold one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// A name that no source is asked for.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A source gave no answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A source of the pipeline is not there or cannot be opened.
    #[error("{0}")]
    VarSource(String),
    /// The database.
    #[error("{0}")]
    Store(String),
}

/// Why a value could not be written or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A name that no source is asked for.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The platform's.
    #[error("{0} belongs to the platform: names that begin with readonly_ are set by the operator only")]
    Readonly(String),
    /// The source cannot be written.
    #[error("{0} cannot be written from here: set the value where this server reads it")]
    ReadOnlySource(String),
    /// Too long, or empty.
    #[error("{0}")]
    Value(&'static str),
    /// The source gave no answer.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What [`Secrets`] is made of.
pub struct Parts {
    /// The installation's source.
    pub global: Manager,
    /// Further sources, asked before it: environment, files.
    pub nearer: Vec<Manager>,
    /// The platform's own values.
    pub platform: Platform,
    /// Sources of pipelines.
    pub pool: Pool,
    /// Signs identity tokens.
    pub issuer: Issuer,
    /// The store of our own, for sealing again.
    pub local: Arc<Local>,
    /// The keys of what is sealed.
    pub keys: Arc<Keyring>,
    /// The truth.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether members may read values back (`secrets get`).
    pub readable: bool,
}

/// See the module's doc. Clones share it.
#[derive(Clone)]
pub struct Secrets(Arc<Parts>);

impl std::ops::Deref for Secrets {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// One build or check: what it has asked for already.
pub struct Session {
    asker: Asker,
    sources: Option<Vec<VarSource>>,
    /// Names of its whole plan were asked for.
    ahead: AtomicBool,
    noted: Mutex<HashSet<String>>,
    calls: AtomicU32,
}

impl Session {
    /// For a build or check. Its pipeline's sources are read from the database.
    pub fn new(asker: Asker) -> Session {
        let (ahead, noted, calls) = (AtomicBool::new(false), Mutex::default(), AtomicU32::new(0));
        Session { asker, sources: None, ahead, noted, calls }
    }

    /// With sources that are not stored yet.
    #[must_use]
    pub fn with_sources(mut self, sources: Vec<VarSource>) -> Session {
        self.sources = Some(sources);
        self
    }

    /// Who asks.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Requests that were made for it so far.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether this is the first time that values are wanted, so that all names of the plan should be asked for at once.
    pub fn is_first(&self) -> bool {
        !self.ahead.swap(true, Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.asker.build.is_some() && self.ahead.load(Ordering::Relaxed) {
            metrics::histogram!("whistlestop_secret_calls_per_build").record(f64::from(self.calls()));
        }
    }
}

impl Secrets {
    /// Over its parts.
    pub fn new(parts: Parts) -> Secrets {
        Secrets(Arc::new(parts))
    }

    /// The values of `wanted`, asked for together. What nobody knows is left out, with the paths that were tried.
    pub async fn values(&self, session: &Session, wanted: &[Reference]) -> Result<Values, LookupError> {
        let sources = match (&session.sources, &session.asker.pipeline) {
            (Some(sources), _) => sources.clone(),
            (None, Some((id, _))) if wanted.iter().any(|r| !r.source.is_empty()) => {
                let id = *id;
                let read = self.store.read(move |tx| tx.pipeline_var_sources(id)).await;
                read.map_err(|e| LookupError::Store(e.to_string()))?
            }
            _ => Vec::new(),
        };
        let mut search = Search { secrets: self, session, sources, opened: BTreeMap::new(), uses: Vec::new() };
        let values = search.all(wanted).await;
        let uses = search.uses;
        self.note(session, uses).await;
        values
    }

    /// Asks for the names of a whole plan, so that later steps find them remembered. What cannot be had now is told when
    /// a step wants it.
    pub async fn ahead(&self, session: &Session, plan: &Value) {
        let Ok(names) = vars::references(plan) else { return };
        let safe = |r: &Reference| r.source.is_empty() && Name::of_variable(&r.path).is_ok();
        let wanted: Vec<Reference> = names.into_iter().filter(safe).collect();
        let mut search =
            Search { secrets: self, session, sources: Vec::new(), opened: BTreeMap::new(), uses: Vec::new() };
        if !wanted.is_empty()
            && let Err(error) = search.all(&wanted).await
        {
            tracing::debug!(%error, "the secrets of a plan were not all read ahead");
        }
    }

    /// Writes down which build used what, once for each name.
    async fn note(&self, session: &Session, uses: Vec<(String, String)>) {
        let Some(build) = session.asker.build else { return };
        let mut fresh = uses;
        fresh.retain(|(name, _)| session.noted.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()));
        if fresh.is_empty() {
            return;
        }
        let (team, now) = (session.asker.team, self.clock.now());
        let write = self.store.write(move |tx| {
            fresh.iter().try_for_each(|(name, path)| tx.note_secret_use(team, build, name, path, now))
        });
        if let Err(error) = write.await {
            tracing::warn!(%error, build = build.0, "which secrets a build used is not noted");
        }
    }

    /// Every manager that is asked for plain names, nearest first.
    pub(super) fn managers(&self) -> impl Iterator<Item = &Manager> {
        self.nearer.iter().chain(std::iter::once(&self.global))
    }

    /// Sets a value for a team's pipeline, or for all of the team. Says where.
    pub async fn put(&self, whose: &Asker, name: &str, value: &Secret<String>, who: &str) -> Result<Path, WriteError> {
        const LONGEST: usize = 64 * 1024;
        let path = self.writable(whose, name)?;
        if value.expose().is_empty() {
            return Err(WriteError::Value("the value is empty: remove the secret instead"));
        }
        if value.expose().len() > LONGEST {
            return Err(WriteError::Value("the value is longer than 64 KiB: keep files elsewhere and their key here"));
        }
        let writer = self.global.source().writer();
        let writer = writer.ok_or_else(|| WriteError::ReadOnlySource(self.global.source().name().to_owned()))?;
        writer.put(&path, value, who).await?;
        self.global.forget(whose.team);
        Ok(path)
    }

    /// Removes a value. False if there was none.
    pub async fn delete(&self, whose: &Asker, name: &str) -> Result<bool, WriteError> {
        let path = self.writable(whose, name)?;
        let writer = self.global.source().writer();
        let writer = writer.ok_or_else(|| WriteError::ReadOnlySource(self.global.source().name().to_owned()))?;
        let deleted = writer.delete(&path).await?;
        self.global.forget(whose.team);
        Ok(deleted)
    }

    /// The value of one written secret, where the operator lets members read.
    pub async fn get(&self, whose: &Asker, name: &str) -> Result<Option<Found>, LookupError> {
        let name = Name::of_variable(name)?;
        let Some(path) = self.global.home(whose.team, &whose.place()?, &name) else { return Ok(None) };
        let mut answer = self.global.patiently(&[path]).await?;
        Ok(answer.values.pop().flatten())
    }

    /// What a team has, without values: its own, those of its pipelines, and the platform's.
    pub async fn list(&self, whose: &Asker) -> Result<Vec<Listed>, LookupError> {
        let place = Place { pipeline: None, ..whose.place()? };
        let mut all = Vec::new();
        if let (Some(writer), Some(prefix)) = (self.global.source().writer(), self.global.prefix(whose.team, &place)) {
            all = writer.list(&prefix).await?;
        }
        let known: HashSet<String> = all.iter().map(|l| l.name.clone()).collect();
        for name in self.platform.names(&whose.team_name).into_iter().filter(|n| !known.contains(n)) {
            let (pipeline, changed_by) = (String::new(), "the platform".to_owned());
            all.push(Listed { pipeline, name, changed_at: 0, changed_by, last_used: 0 });
        }
        all.sort_by(|a, b| (&a.pipeline, &a.name).cmp(&(&b.pipeline, &b.name)));
        Ok(all)
    }

    fn writable(&self, whose: &Asker, name: &str) -> Result<Path, WriteError> {
        let name = Name::of_variable(name)?;
        let place = whose.place()?;
        let pipeline = whose.pipeline.as_ref().is_some_and(|(_, p)| is_readonly(p));
        if name.is_readonly() || pipeline {
            return Err(WriteError::Readonly(name.to_string()));
        }
        let source = self.global.source();
        self.global
            .home(whose.team, &place, &name)
            .ok_or_else(|| WriteError::ReadOnlySource(format!("{} at a path of this kind", source.name())))
    }

    /// Seals everything again with a new key, and forgets the old one.
    pub async fn rotate_key(&self) -> Result<usize, String> {
        self.keys.rotate().map_err(|e| e.to_string())?;
        self.reseal().await
    }

    /// Seals with the present key whatever another has sealed; then the others are forgotten.
    pub async fn reseal(&self) -> Result<usize, String> {
        let count = self.local.reseal().await.map_err(|e| e.to_string())?;
        self.issuer.reseal().await?;
        self.platform.reseal().await.map_err(|e| e.to_string())?;
        self.keys.drop_old().map_err(|e| e.to_string())?;
        Ok(count)
    }
}

/// One look-up: every source of the pipeline is opened at most once.
struct Search<'a> {
    secrets: &'a Secrets,
    session: &'a Session,
    sources: Vec<VarSource>,
    opened: BTreeMap<String, Opened>,
    /// Names as written, and where their values stood.
    uses: Vec<(String, String)>,
}

impl Search<'_> {
    async fn all(&mut self, wanted: &[Reference]) -> Result<Values, LookupError> {
        let mut values = Values::default();
        let mut by_source: BTreeMap<&str, Vec<&Reference>> = BTreeMap::new();
        for reference in wanted {
            by_source.entry(&reference.source).or_default().push(reference);
        }
        for (source, references) in by_source {
            if source.is_empty() {
                self.plain(&references, &mut values).await?;
                continue;
            }
            match self.open(references[0]).await? {
                Opened::Manager(manager) => self.ask(&manager, &references, &mut values).await?,
                Opened::IdToken(settings) => self.token(&settings, &references, &mut values).await?,
            }
        }
        Ok(values)
    }

    /// Names without a source: the platform's first, then nearer sources, then the installation's.
    async fn plain(&mut self, references: &[&Reference], values: &mut Values) -> Result<(), LookupError> {
        let asker = &self.session.asker;
        let place = asker.place()?;
        let mut left: Vec<&Reference> = Vec::new();
        for reference in references {
            let name = Name::of_variable(&reference.path)?;
            let found = match is_readonly(name.as_str()) {
                true => self.secrets.platform.value(asker.team, &place, name.as_str()).await?,
                false => None,
            };
            match found {
                Some(found) => self.keep(reference, "the platform", &found, values),
                None => left.push(reference),
            }
        }
        let managers: Vec<&Manager> = self.secrets.managers().collect();
        for manager in managers {
            left.retain(|r| !values.knows(r));
            if !left.is_empty() {
                self.ask(manager, &left, values).await?;
            }
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        manager: &Manager,
        references: &[&Reference],
        values: &mut Values,
    ) -> Result<(), LookupError> {
        let asker = &self.session.asker;
        let place = asker.place()?;
        let mut names = Vec::new();
        for reference in references {
            let name = Name::of_variable(&reference.path)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let search = manager.find(asker.team, &place, &names).await?;
        self.session.calls.fetch_add(search.calls, Ordering::Relaxed);
        if search.calls > 0 {
            let (team, source) = (asker.team_name.clone(), manager.source().name().to_owned());
            metrics::counter!("whistlestop_secret_team_calls_total", "team" => team, "source" => source)
                .increment(u64::from(search.calls));
        }
        for reference in references {
            match search.found.get(&reference.path) {
                Some((path, found)) => self.keep(reference, &path.text, found, values),
                None => {
                    let name = Name::of_variable(&reference.path)?;
                    let paths = manager.paths(asker.team, &place, &name);
                    let tried = paths.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ");
                    values.miss(reference, &format!("{tried} in {}", manager.source().name()));
                }
            }
        }
        Ok(())
    }

    async fn token(
        &mut self,
        settings: &super::idtoken::Settings,
        references: &[&Reference],
        values: &mut Values,
    ) -> Result<(), LookupError> {
        for reference in references {
            if reference.path != "token" {
                let text = "idtoken credential provider only supports the field 'token'";
                return Err(LookupError::VarSource(text.to_owned()));
            }
            let made = self.secrets.issuer.token(settings, &self.session.asker).await;
            let (token, ends) = made.map_err(LookupError::VarSource)?;
            let value = token.expose().clone().into();
            let found = Found { expires: Some(ends), renewed: true, ..Found::lasting(value) };
            self.keep(reference, "an identity token", &found, values);
        }
        Ok(())
    }

    fn keep(&mut self, reference: &Reference, path: &str, found: &Found, values: &mut Values) {
        let value = found.value.expose().clone();
        // Credentials of the platform are renewed wherever they come from.
        let renewed = found.renewed || (reference.source.is_empty() && platform::is_renewed(&reference.path));
        match renewed {
            true => values.insert_passing(reference, value),
            false => values.insert(reference, value),
        }
        if found.open {
            values.open(reference);
            return;
        }
        let whole = Reference { fields: Vec::new(), ..reference.clone() };
        self.uses.push((whole.to_string(), path.to_owned()));
    }

    /// The source that a reference names. Its configuration may name other sources; that they do not go round in a
    /// circle is seen to when the pipeline is set.
    fn open<'b>(&'b mut self, reference: &'b Reference) -> BoxFuture<'b, Result<Opened, LookupError>> {
        Box::pin(async move {
            let name = &reference.source;
            if let Some(source) = self.opened.get(name) {
                return Ok(source.clone());
            }
            let Some(at) = self.sources.iter().position(|s| s.name == *name) else {
                let missing = vars::Error::MissingSource { var: reference.to_string(), name: name.clone() };
                return Err(LookupError::VarSource(missing.to_string()));
            };
            // Out of the list while it is opened, so that it cannot be asked for its own configuration.
            let source = self.sources.remove(at);
            let unfilled = |e: vars::Error| LookupError::VarSource(format!("evaluate var_source '{name}' error: {e}"));
            let needed: Vec<_> = vars::references(&source.config).map_err(unfilled)?.into_iter().collect();
            let values = self.all(&needed).await?;
            let config = vars::interpolate(&source.config, &values, Missing::Error).map_err(unfilled)?;
            let opened = self.secrets.pool.open(&self.session.asker.team_name, &source.kind, &config);
            let opened =
                opened.map_err(|why| LookupError::VarSource(format!("create var_source '{name}' error: {why}")))?;
            self.opened.insert(name.clone(), opened.clone());
            Ok(opened)
        })
    }
}
