//! Network namespaces lent to one step after another. Making a container's network is more than half of what its start
//! costs the engine; so a container that only waits has one, and steps of its team join it, one at a time.
//!
//! Only unprivileged steps borrow: they cannot change what the next of their team finds. Which waiting container is
//! lent to which step is written nowhere but on the engine, where a later server reads it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerSummaryStateEnum as State, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StartContainerOptions,
};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::archive::Archive;
use super::binary::Binary;
use super::connection::Connection;
use super::container;
use super::naming::{HANDLE, Naming, PART, TEAM};
use super::network::Networks;
use super::turn::Turns;
use crate::base::chance;
use crate::runtime::Result;
use crate::runtime::network::Policy;

/// The role of the containers that wait.
const LEASE: &str = "lease";
/// One that nobody borrowed for so long goes: it takes some 15 MB of the engine's host.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// One is made when a team lacked it twice within this time: a build a day is no reason to keep something ready.
const DEMAND: Duration = Duration::from_secs(60);

/// A namespace that waits or is lent.
#[derive(Debug)]
struct Lease {
    team: String,
    /// The engine's name of the container that has it.
    to: Option<String>,
    /// Its step has ended, and its container stays for visitors.
    kept: bool,
    /// When it was given back.
    since: Instant,
}

#[derive(Debug, Default)]
struct Stock {
    /// By the name of the container that waits.
    leases: HashMap<String, Lease>,
    making: usize,
    /// When a team last went without.
    lacked: HashMap<String, Instant>,
    closed: bool,
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
    found: OnceCell<()>,
    turns: Turns,
}

/// What of it there is on the engine.
struct There {
    name: String,
    team: String,
    running: bool,
    to: Option<String>,
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

    /// A namespace for a container, the same one if it has one. `None` where none is ready: the step then gets a network
    /// of its own, which is only slower.
    pub async fn take(self: &Arc<Self>, team: &str, container: &str) -> Option<Lent> {
        if self.most == 0 || self.found.get_or_try_init(|| self.look()).await.is_err() {
            return None;
        }
        let mut stock = self.stock();
        let own = stock.leases.iter().find(|(_, lease)| lease.to.as_deref() == Some(container));
        if let Some((name, _)) = own {
            return Some(Lent { name: name.clone(), fresh: false });
        }
        let free = stock.leases.iter_mut().find(|(_, lease)| lease.to.is_none() && lease.team == team);
        if let Some((name, lease)) = free {
            lease.to = Some(container.to_owned());
            return Some(Lent { name: name.clone(), fresh: true });
        }
        let now = Instant::now();
        let again = stock.lacked.insert(team.to_owned(), now).is_some_and(|before| now - before < DEMAND);
        let all = stock.leases.len() + stock.making;
        let busy = all - stock.leases.values().filter(|lease| lease.kept).count();
        if again && !stock.closed && busy < self.most && all < 2 * self.most {
            stock.making += 1;
            tokio::spawn(self.clone().make(team.to_owned()));
        }
        None
    }

    /// Takes back what a container had, which is gone; one that had none is fine.
    pub fn give_back(self: &Arc<Self>, container: &str) {
        let mut stock = self.stock();
        let lent = stock.leases.iter_mut().find(|(_, lease)| lease.to.as_deref() == Some(container));
        let Some((name, lease)) = lent else { return };
        (lease.to, lease.kept, lease.since) = (None, false, Instant::now());
        let (leases, name, since) = (self.clone(), name.clone(), lease.since);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            if leases.stock().drop_idle(&name, since) {
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

    /// Looks at what there is on the engine, after one of ours turned out not to be.
    pub async fn look(&self) -> Result<()> {
        let there = self.there().await?;
        let mut gone = Vec::new();
        {
            let mut stock = self.stock();
            let mut before = std::mem::take(&mut stock.leases);
            for There { name, team, running, to } in there {
                if !running && to.is_none() {
                    gone.push(name);
                    continue;
                }
                let kept = before.remove(&name).is_some_and(|lease| lease.kept);
                stock.leases.insert(name, Lease { team, to, kept, since: Instant::now() });
            }
        }
        for name in gone {
            self.remove(&name).await;
        }
        Ok(())
    }

    /// Names of those that no step has.
    pub async fn idle(&self) -> Result<Vec<String>> {
        Ok(self.there().await?.into_iter().filter(|lease| lease.to.is_none()).map(|lease| lease.name).collect())
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

    async fn there(&self) -> Result<Vec<There>> {
        let client = self.connection.client().await?;
        let options = ListContainersOptions { all: true, filters: Some(self.naming.filter()), ..Default::default() };
        let listed = client.list_containers(Some(options)).await;
        let listed = listed.map_err(|e| self.connection.failure("list containers", &e))?;
        let own = |names: &Option<Vec<String>>| {
            names.as_ref().and_then(|names| names.first()).map(|name| name.trim_start_matches('/').to_owned())
        };
        let (mut waiting, mut lent) = (Vec::new(), HashMap::new());
        for container in listed {
            let mut labels = container.labels.unwrap_or_default();
            let Some(name) = own(&container.names) else { continue };
            let network = container.host_config.and_then(|config| config.network_mode).unwrap_or_default();
            if labels.get(PART).is_some_and(|part| part == LEASE) {
                let running = container.state == Some(State::RUNNING);
                waiting.push((name, container.id, labels.remove(TEAM).unwrap_or_default(), running));
            } else if let (Some(of), true) = (network.strip_prefix("container:"), labels.contains_key(HANDLE)) {
                lent.insert(of.to_owned(), name);
            }
        }
        let there = waiting.into_iter().map(|(name, id, team, running)| {
            // The engine may tell either of what it was told.
            let to = lent.remove(&name).or_else(|| lent.remove(&id.unwrap_or_default()));
            There { name, team, running, to }
        });
        Ok(there.collect())
    }

    async fn make(self: Arc<Self>, team: String) {
        let _turn = self.turns.take("make").await;
        let name = self.naming.lease(&chance::hex::<4>());
        let closed = self.stock().closed;
        let made = if closed { Ok(()) } else { self.made(&name, &team).await };
        {
            let mut stock = self.stock();
            stock.making -= 1;
            if made.is_ok() && !closed {
                let lease = Lease { team, to: None, kept: false, since: Instant::now() };
                stock.leases.insert(name.clone(), lease);
            }
        }
        if let Err(error) = made {
            tracing::debug!(%error, "no network is kept ready for steps");
            self.remove(&name).await;
        }
    }

    async fn made(&self, name: &str, team: &str) -> Result<()> {
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
            host_config: Some(HostConfig {
                network_mode: network,
                mounts: Some(vec![container::supervisor_mount(binary)]),
                cap_drop: Some(vec!["ALL".to_owned()]),
                readonly_rootfs: Some(true),
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
        client.start_container(name, None::<StartContainerOptions>).await.map_err(|e| failure(&e))
    }
}

impl Stock {
    /// Forgets one that nobody borrowed since; whether it did.
    fn drop_idle(&mut self, name: &str, since: Instant) -> bool {
        let idle = self.leases.get(name).is_some_and(|lease| lease.to.is_none() && lease.since == since);
        if idle {
            self.leases.remove(name);
        }
        idle
    }
}
