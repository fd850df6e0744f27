//! Network namespaces lent to one step after another. Making a container's network is more than half of what its start
//! costs the engine; so a container that only waits has one, and steps of its team join it, one at a time.
//!
//! Only unprivileged steps borrow: they have no power over the namespace. What they can write to are the files with names
//! and addresses that the engine shares with it, so each borrower gets these anew. A later server lends nothing that it
//! has not made itself: what waits is removed, what is lent goes when it is given back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum as State, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions,
};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::archive::Archive;
use super::binary::Binary;
use super::connection::Connection;
use super::container;
use super::hostname::Files;
use super::naming::{HANDLE, Naming, PART, TEAM};
use super::network::Networks;
use super::turn::Turns;
use crate::base::chance;
use crate::runtime::network::Policy;
use crate::runtime::{Error, Result};

/// The role of the containers that wait.
const LEASE: &str = "lease";
/// One that nobody borrowed for so long goes: it takes some 15 MB of the engine's host.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// One is made when a team lacked it twice within this time: a build a day is no reason to keep something ready.
const DEMAND: Duration = Duration::from_secs(60);

/// One that is older is not lent again: the engine gave it the name servers of the day it was made.
const OLDEST: Duration = Duration::from_secs(3600);
/// So long none is made after one could not be; and after it turned out that the engine's files are out of reach.
const REST: Duration = Duration::from_secs(60);
const LONG_REST: Duration = Duration::from_secs(24 * 3600);
/// What runs containers that can join the namespace of another; others take the addresses for themselves.
const JOINING: [&str; 4] = ["runc", "io.containerd.runc.v2", "crun", "youki"];

/// A namespace that waits or is lent.
#[derive(Debug)]
struct Lease {
    team: String,
    /// The engine's name of the container that has it.
    to: Option<String>,
    /// Its step has ended, and its container stays for visitors.
    kept: bool,
    /// What its borrowers get anew; of those that an earlier server lent, nothing is known.
    files: Option<Arc<Files>>,
    made: Instant,
    /// When it was given back.
    since: Instant,
}

/// What is lent, to whom, and what is to be made.
#[derive(Debug, Default)]
struct Stock {
    /// By the name of the container that waits.
    leases: HashMap<String, Lease>,
    making: usize,
    /// When a team last went without.
    lacked: HashMap<String, Instant>,
    /// Until then none is made.
    rest: Option<Instant>,
    closed: bool,
}

/// What a wish for one comes to.
#[derive(Debug)]
enum Wish {
    Lent {
        name: String,
        fresh: bool,
        files: Option<Arc<Files>>,
    },
    /// None is ready, and one shall be made; this one of another team makes room.
    Make {
        instead_of: Option<String>,
    },
    Without,
}

/// What a step may join.
#[derive(Debug)]
pub struct Lent {
    /// The container that waits.
    pub name: String,
    /// It was not this step's before.
    pub fresh: bool,
}

/// All that one installation has on an engine.
#[derive(Debug)]
pub struct Leases {
    pub(super) connection: Arc<Connection>,
    pub(super) naming: Naming,
    pub(super) archive: Arc<Archive>,
    pub(super) binary: Arc<Binary>,
    pub(super) networks: Arc<Networks>,
    pub(super) policy: Policy,
    /// Those that wait or are lent to steps that run, at most; as many again may be lent to kept containers.
    pub(super) most: usize,
    stock: Mutex<Stock>,
    /// Whether any can be lent on this engine.
    found: OnceCell<bool>,
    turns: Turns,
}

impl Leases {
    /// Nothing is made before it is needed.
    pub fn new(
        engine: (Arc<Connection>, Naming),
        archive: Arc<Archive>,
        binary: Arc<Binary>,
        networks: Arc<Networks>,
        policy: Policy,
        most: usize,
    ) -> Arc<Self> {
        let (connection, naming) = engine;
        // The name of a host is set by us, which takes root where the engine is.
        let separate = |name: &str| !matches!(name, "host" | "none") && !name.starts_with("container:");
        let separate = networks.fixed().is_none_or(separate);
        let able = separate && connection.is_local() && nix::unistd::Uid::effective().is_root();
        let most = if able { most } else { 0 };
        let (stock, found, turns) = (Mutex::default(), OnceCell::new(), Turns::default());
        Arc::new(Leases { connection, naming, archive, binary, networks, policy, most, stock, found, turns })
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A namespace for a container, the same one if it has one, where programs find this name of the host. `None` where
    /// none is ready: the step then gets a network of its own, which is only slower.
    pub async fn take(self: &Arc<Self>, team: &str, container: &str, host: &str) -> Option<Lent> {
        if self.most == 0 || !self.found.get_or_try_init(|| self.begin()).await.is_ok_and(|able| *able) {
            return None;
        }
        let wish = self.stock().wish(team, container, self.most, Instant::now());
        match wish {
            Wish::Lent { name, fresh, files } => {
                if let (true, Some(files)) = (fresh, files) {
                    let host = host.to_owned();
                    let written = tokio::task::spawn_blocking(move || files.write(&host)).await;
                    if !matches!(written, Ok(Ok(()))) {
                        tracing::debug!(name, "the files of a network that was kept ready cannot be written");
                        self.stock().leases.remove(&name);
                        self.remove_later(name);
                        return None;
                    }
                }
                Some(Lent { name, fresh })
            }
            Wish::Make { instead_of } => {
                if let Some(name) = instead_of {
                    self.remove_later(name);
                }
                tokio::spawn(self.clone().make(team.to_owned()));
                None
            }
            Wish::Without => None,
        }
    }

    /// Takes back what a container had, which is gone; one that had none is fine.
    pub fn give_back(self: &Arc<Self>, container: &str) {
        let now = Instant::now();
        let given = self.stock().give_back(container, now);
        match given {
            Some((name, true)) => self.wait_idly(name, now),
            Some((name, false)) => self.remove_later(name),
            None => {}
        }
    }

    /// Forgets one that could not be joined, and all that nobody has: with the engine for one, others may have ended.
    pub fn distrust(self: &Arc<Self>, name: &str) {
        let gone: Vec<String> = {
            let mut stock = self.stock();
            stock.leases.extract_if(|own, lease| own == name || lease.to.is_none()).map(|(name, _)| name).collect()
        };
        gone.into_iter().for_each(|name| self.remove_later(name));
    }

    fn remove_later(self: &Arc<Self>, name: String) {
        let leases = self.clone();
        tokio::spawn(async move { leases.remove(&name).await });
    }

    /// Removes one that nobody borrows for long.
    fn wait_idly(self: &Arc<Self>, name: String, since: Instant) {
        let leases = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let idle = leases.stock().drop_idle(&name, since);
            if idle {
                leases.remove(&name).await;
            }
        });
    }

    /// Notes that a container's step has ended, and that it is kept.
    pub fn keep(&self, container: &str) {
        let mut stock = self.stock();
        if let Some(lease) = stock.leases.values_mut().find(|lease| lease.to.as_deref() == Some(container)) {
            lease.kept = true;
        }
    }

    /// Whether any can be lent here; looks at what an earlier server left.
    async fn begin(self: &Arc<Self>) -> Result<bool> {
        let client = self.connection.client().await?;
        let info = client.info().await.map_err(|e| self.connection.failure("ask the engine about itself", &e))?;
        let able = info.default_runtime.is_none_or(|runtime| JOINING.contains(&runtime.as_str()));
        let now = Instant::now();
        for (name, to) in self.there().await? {
            if to.is_none() {
                self.remove(&name).await;
                continue;
            }
            let lease = Lease { team: String::new(), to, kept: true, files: None, made: now, since: now };
            self.stock().leases.insert(name, lease);
        }
        Ok(able)
    }

    /// Names of those that no step has.
    pub async fn idle(&self) -> Result<Vec<String>> {
        Ok(self.there().await?.into_iter().filter(|(_, to)| to.is_none()).map(|(name, _)| name).collect())
    }

    /// Removes all that no step has, and makes no more.
    pub async fn close(&self) {
        self.stock().closed = true;
        // Whoever is making one has finished then.
        let _turn = self.turns.take("make").await;
        let Ok(idle) = self.idle().await else { return };
        let removals = idle.iter().map(|name| self.remove(name));
        futures_util::future::join_all(removals).await;
    }

    /// Removes one.
    pub async fn remove(&self, name: &str) {
        self.stock().leases.remove(name);
        let Ok(client) = self.connection.client().await else { return };
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        if let Err(error) = client.remove_container(name, Some(options)).await {
            tracing::debug!(name, %error, "a container that holds a network was not removed");
        }
    }

    /// Those on the engine, with the container that runs in each.
    async fn there(&self) -> Result<Vec<(String, Option<String>)>> {
        let client = self.connection.client().await?;
        let options = ListContainersOptions { all: true, filters: Some(self.naming.filter()), ..Default::default() };
        let listed = client.list_containers(Some(options)).await;
        let listed = listed.map_err(|e| self.connection.failure("list containers", &e))?;
        let (mut waiting, mut lent) = (Vec::new(), HashMap::new());
        for container in listed {
            let labels = container.labels.unwrap_or_default();
            let name = container.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
            let name = name.trim_start_matches('/').to_owned();
            let network = container.host_config.and_then(|config| config.network_mode).unwrap_or_default();
            // Labels of an image become its containers': one of a step is a step, whatever it says besides.
            if labels.contains_key(HANDLE) {
                let running = container.state == Some(State::RUNNING);
                if let (Some(of), true) = (network.strip_prefix("container:"), running) {
                    lent.insert(of.to_owned(), name);
                }
            } else if labels.get(PART).is_some_and(|part| part == LEASE) {
                waiting.push((name, container.id.unwrap_or_default()));
            }
        }
        // The engine may tell either of what it was told.
        let with = |(name, id): (String, String)| {
            let to = lent.remove(&name).or_else(|| lent.remove(&id));
            (name, to)
        };
        Ok(waiting.into_iter().map(with).collect())
    }

    async fn make(self: Arc<Self>, team: String) {
        let _turn = self.turns.take("make").await;
        let name = self.naming.lease(&chance::hex::<4>());
        let closed = self.stock().closed;
        let made = if closed { Ok(None) } else { self.made(&name, &team).await.map(Some) };
        let now = Instant::now();
        self.stock().making -= 1;
        match made {
            Ok(Some(files)) => {
                let lease = Lease { team, to: None, kept: false, files: Some(files), made: now, since: now };
                self.stock().leases.insert(name.clone(), lease);
                self.wait_idly(name, now);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "no network is kept ready for steps");
                self.stock().rest = Some(now + if matches!(error, Error::Invalid(_)) { LONG_REST } else { REST });
                self.remove(&name).await;
            }
        }
    }

    async fn made(&self, name: &str, team: &str) -> Result<Arc<Files>> {
        let (image, binary, network) =
            tokio::try_join!(self.archive.empty_image(), self.binary.volume(), self.networks.of(team))?;
        let mut labels = self.naming.part_labels(LEASE);
        labels.insert(TEAM.to_owned(), team.to_owned());
        let policy = &self.policy;
        let hosts = policy.hosts.iter().map(|h| format!("{}:{}", h.name, h.address)).collect();
        let body = ContainerCreateBody {
            image: Some(image),
            entrypoint: Some([container::SUPERVISOR, "supervise", "--wait"].map(str::to_owned).to_vec()),
            labels: Some(labels),
            // Process 1 does not hear of others.
            stop_signal: Some("SIGKILL".to_owned()),
            host_config: Some(HostConfig {
                network_mode: network,
                mounts: Some(vec![container::supervisor_mount(binary)]),
                cap_drop: Some(vec!["ALL".to_owned()]),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                dns: (!policy.dns.is_empty()).then(|| policy.dns.iter().map(ToString::to_string).collect()),
                extra_hosts: Some(hosts),
                ..Default::default()
            }),
            ..Default::default()
        };
        let client = self.connection.client().await?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let failure = |e: &bollard::errors::Error| self.connection.failure("keep a network ready for steps", e);
        client.create_container(Some(options), body).await.map_err(|e| failure(&e))?;
        client.start_container(name, None::<StartContainerOptions>).await.map_err(|e| failure(&e))?;
        let told = client.inspect_container(name, None::<InspectContainerOptions>).await.map_err(|e| failure(&e))?;
        let read = tokio::task::spawn_blocking(move || Files::of(&told)).await;
        let files = read.map_err(std::io::Error::other).flatten();
        files.map(Arc::new).map_err(|e| Error::Invalid(format!("the engine's files are out of reach: {e}")))
    }
}

impl Stock {
    fn wish(&mut self, team: &str, container: &str, most: usize, now: Instant) -> Wish {
        let own = self.leases.iter().find(|(_, lease)| lease.to.as_deref() == Some(container));
        if let Some((name, lease)) = own {
            return Wish::Lent { name: name.clone(), fresh: false, files: lease.files.clone() };
        }
        let free = self.leases.iter_mut().find(|(_, lease)| lease.to.is_none() && lease.team == team);
        if let Some((name, lease)) = free {
            lease.to = Some(container.to_owned());
            return Wish::Lent { name: name.clone(), fresh: true, files: lease.files.clone() };
        }
        let again = self.lacked.insert(team.to_owned(), now).is_some_and(|before| now - before < DEMAND);
        if !again || self.closed || self.rest.is_some_and(|rest| now < rest) {
            return Wish::Without;
        }
        let all = self.leases.len() + self.making;
        let busy = all - self.leases.values().filter(|lease| lease.kept).count();
        let mut instead_of = None;
        if busy >= most || all >= 2 * most {
            let idle = self.leases.iter().filter(|(_, lease)| lease.to.is_none());
            let Some((longest, _)) = idle.min_by_key(|(_, lease)| lease.since) else { return Wish::Without };
            instead_of = Some(longest.clone());
        }
        instead_of.iter().for_each(|name| drop(self.leases.remove(name)));
        self.making += 1;
        Wish::Make { instead_of }
    }

    /// What a container had, and whether it can be lent again; if not, it is forgotten.
    fn give_back(&mut self, container: &str, now: Instant) -> Option<(String, bool)> {
        let (name, lease) = self.leases.iter_mut().find(|(_, lease)| lease.to.as_deref() == Some(container))?;
        let name = name.clone();
        (lease.to, lease.kept, lease.since) = (None, false, now);
        let good = lease.files.is_some() && now - lease.made < OLDEST && !self.closed;
        if !good {
            self.leases.remove(&name);
        }
        Some((name, good))
    }

    /// Forgets one that nobody borrowed since; whether it did.
    fn drop_idle(&mut self, name: &str, since: Instant) -> bool {
        let idle = self.leases.get(name).is_some_and(|lease| lease.to.is_none() && lease.since == since);
        if idle {
            self.leases.remove(name);
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(team: &str, since: Instant) -> Lease {
        let files = Some(Arc::default());
        Lease { team: team.into(), to: None, kept: false, files, made: since, since }
    }

    fn lent(wish: Wish) -> Option<(String, bool)> {
        match wish {
            Wish::Lent { name, fresh, .. } => Some((name, fresh)),
            _ => None,
        }
    }

    #[test]
    fn one_is_lent_to_one_of_its_team_at_a_time() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        stock.leases.insert("l".into(), lease("a", now));
        assert_eq!(lent(stock.wish("b", "b1", 8, now)), None);
        assert_eq!(lent(stock.wish("a", "a1", 8, now)), Some(("l".to_owned(), true)));
        assert_eq!(lent(stock.wish("a", "a1", 8, now)), Some(("l".to_owned(), false)), "the same container again");
        assert_eq!(lent(stock.wish("a", "a2", 8, now)), None);
        assert_eq!(stock.give_back("a2", now), None);
        assert_eq!(stock.give_back("a1", now), Some(("l".to_owned(), true)));
        assert_eq!(lent(stock.wish("a", "a2", 8, now)), Some(("l".to_owned(), true)));
        assert_eq!(stock.give_back("a2", now + OLDEST), Some(("l".to_owned(), false)), "it is too old");
        assert!(stock.leases.is_empty());
    }

    #[test]
    fn one_is_made_for_who_lacks_it_twice_in_short_time() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        let made = |wish| matches!(wish, Wish::Make { .. });
        assert!(!made(stock.wish("a", "a1", 2, now)));
        assert!(!made(stock.wish("a", "a2", 2, now + DEMAND)));
        let now = now + DEMAND;
        assert!(made(stock.wish("a", "a3", 2, now)) && made(stock.wish("a", "a4", 2, now)));
        assert!(!made(stock.wish("a", "a5", 2, now)), "no more than two");
        stock.making = 0;
        stock.rest = Some(now + REST);
        assert!(!made(stock.wish("a", "a6", 2, now)), "the last could not be made");
        stock.rest = None;
        stock.leases.extend([("l1".to_owned(), lease("b", now)), ("l2".to_owned(), lease("b", now + IDLE))]);
        let Wish::Make { instead_of } = stock.wish("a", "a7", 2, now) else { panic!("another team keeps all") };
        assert_eq!(instead_of.as_deref(), Some("l1"), "the one that waits longest");
    }

    #[test]
    fn what_is_kept_takes_no_place_up_to_a_bound() {
        let (mut stock, now) = (Stock::default(), Instant::now());
        for n in 0..3 {
            let to = Some(format!("k{n}"));
            stock.leases.insert(format!("l{n}"), Lease { to, kept: true, ..lease("a", now) });
        }
        stock.wish("a", "a1", 2, now);
        assert!(matches!(stock.wish("a", "a2", 2, now), Wish::Make { .. }));
        assert!(matches!(stock.wish("a", "a3", 2, now), Wish::Without));
    }
}
