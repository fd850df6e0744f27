//! A network for each team, so that its steps see each other's and no other team's; and the walls around them.
//!
//! Walls are packet filter rules on the engine's own host. They can be put up where that is this host and we are root;
//! elsewhere they are the engine's operator's business, which is said once and by `doctor`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use tokio::sync::watch;

use super::connection::Connection;
use super::naming::{Naming, TEAM};
use super::turn::Turns;
use crate::runtime::network::firewall::{self, Walls};
use crate::runtime::network::{Policy, link};
use crate::runtime::{Error, Result};

/// The role of these networks among our objects.
const PART: &str = "network";
/// Why walls cannot be put up.
const ELSEWHERE: &str = "the Docker engine is not on this host, or in another network namespace";
const GONE: &str =
    "somebody has removed its rules (nft flush ruleset?); a running server puts them up again before its next step";
const NO_ROOT: &str = "the server does not run as root";
/// No team has such a name: the network that is made to see where its bridge is.
const TRIED: &str = "\ntried";
/// Names of a bridge that are tried after the first.
const MOST_BRIDGES: u32 = 8;

/// The networks of one installation.
#[derive(Debug)]
pub struct Networks {
    connection: Arc<Connection>,
    naming: Naming,
    /// What the operator wants all to share instead.
    fixed: Option<String>,
    walls: Walls,
    /// By team.
    known: Mutex<HashMap<String, String>>,
    /// Whether walls stand; the text says why not.
    walled: Mutex<Option<std::result::Result<(), String>>>,
    /// Whether the last is known.
    decided: watch::Sender<bool>,
    turns: Turns,
}

impl Networks {
    /// Nothing is made before it is needed.
    pub fn new(connection: Arc<Connection>, naming: Naming, fixed: Option<String>, policy: Policy) -> Self {
        let walls = Walls {
            table: naming.table(),
            prefix: naming.bridges(),
            deny: policy.deny,
            allow_host: policy.allow_host,
            doors: policy.doors,
            leased: None,
        };
        Networks {
            connection,
            naming,
            fixed,
            walls,
            known: Mutex::default(),
            walled: Mutex::default(),
            decided: watch::Sender::default(),
            turns: Turns::default(),
        }
    }

    /// What the operator wants all to share.
    pub fn fixed(&self) -> Option<&str> {
        self.fixed.as_deref()
    }

    /// The network of a team, made if it is not there.
    pub async fn of(&self, team: &str) -> Result<Option<String>> {
        if self.fixed.is_some() {
            return Ok(self.fixed.clone());
        }
        let _turn = self.turns.take(team).await;
        if let Some(known) = self.known().get(team).cloned() {
            self.tend();
            return Ok(Some(known));
        }
        let name = self.naming.network(team);
        let client = self.connection.client().await?;
        match client.inspect_network(&name, None::<InspectNetworkOptions>).await {
            Ok(_) => {}
            Err(error) => match self.connection.failure("look for the team's network", &error) {
                Error::NotFound(_) => self.create(&client, &name, team).await?,
                other => return Err(other),
            },
        }
        // Names are looked up where that may block.
        let doors = self.walls.doors.clone();
        tokio::task::spawn_blocking(move || doors.open()).await.ok();
        self.wall();
        self.known().insert(team.to_owned(), name.clone());
        Ok(Some(name))
    }

    async fn create(&self, client: &bollard::Docker, name: &str, team: &str) -> Result<()> {
        let mut attempt = 0;
        loop {
            match self.create_on(client, name, team, attempt).await {
                // An engine that died while it made a network keeps the bridge's name for one that it does not list.
                Err(error) if attempt < MOST_BRIDGES && error.to_string().contains("same bridge name") => attempt += 1,
                other => return other,
            }
        }
    }

    async fn create_on(&self, client: &bollard::Docker, name: &str, team: &str, attempt: u32) -> Result<()> {
        let mut labels = self.naming.part_labels(PART);
        labels.insert(TEAM.to_owned(), team.to_owned());
        let bridge = [("com.docker.network.bridge.name".to_owned(), self.naming.bridge(team, attempt))];
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(bridge.into()),
            labels: Some(labels),
            ..Default::default()
        };
        let Err(error) = client.create_network(request).await else { return Ok(()) };
        // Another process of ours may have been faster.
        if client.inspect_network(name, None::<InspectNetworkOptions>).await.is_ok() {
            return Ok(());
        }
        let failure = self.connection.failure("make a network for the team", &error);
        let text = failure.to_string();
        if text.contains("predefined") || text.contains("non-overlapping") || text.contains("fully subnetted") {
            return Err(Error::Failed(format!(
                "{text}; the engine has no addresses left for another network: give it more with \
                 \"default-address-pools\" in its daemon.json, or let all teams share one with --docker-network"
            )));
        }
        Err(failure)
    }

    /// Forgets a network that turned out to be gone; false if it was not known.
    pub fn forget(&self, team: &str) -> bool {
        self.known().remove(team).is_some()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether walls stand around steps here, or would; the text says why not. What no network has shown yet is tried on
    /// one that is made for that, if `really`, and else taken from where the engine's own bridge is.
    pub async fn standing(&self, really: bool) -> std::result::Result<(), String> {
        let known = self.walled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            self.tend();
            return known;
        }
        if !nix::unistd::Uid::effective().is_root() {
            return Err(NO_ROOT.to_owned());
        }
        let ours = link::names().unwrap_or_default().iter().any(|name| name.starts_with(&self.naming.bridges()));
        if !ours {
            let here = match really {
                true => self.is_here().await.map_err(|e| format!("no network can be made to try it: {e}"))?,
                false => self.has_its_bridge_here().await,
            };
            if !here {
                return Err(ELSEWHERE.to_owned());
            }
        }
        match firewall::table_exists(&self.walls.table) {
            true => return Ok(()),
            // A server puts them up with the first network that it uses.
            false if ours && really => return Err(GONE.to_owned()),
            false => {}
        }
        self.walls.try_out().map_err(|e| format!("the kernel's packet filter cannot be set up ({e})"))
    }

    /// Returns once a first network has shown whether walls stand.
    pub async fn decided(&self) {
        let mut decided = self.decided.subscribe();
        // The sender lives as long as we do.
        decided.wait_for(|decided| *decided).await.ok();
    }

    /// Makes a network and looks for its bridge among this host's interfaces.
    async fn is_here(&self) -> Result<bool> {
        let client = self.connection.client().await?;
        let name = self.naming.network(TRIED);
        self.remove(&name).await?;
        self.create(&client, &name, TRIED).await?;
        let here = link::names().unwrap_or_default().iter().any(|name| name.starts_with(&self.naming.bridges()));
        self.remove(&name).await?;
        Ok(here)
    }

    /// Whether the bridge that the engine has from the start is one of this host's interfaces.
    async fn has_its_bridge_here(&self) -> bool {
        let Ok(client) = self.connection.client().await else { return false };
        let Ok(found) = client.inspect_network("bridge", None::<InspectNetworkOptions>).await else { return false };
        let named = found.options.and_then(|mut options| options.remove("com.docker.network.bridge.name"));
        named.is_some_and(|bridge| link::names().unwrap_or_default().contains(&bridge))
    }

    /// Puts the walls up, once a bridge shows that the engine's host is this one.
    fn wall(&self) {
        let mut walled = self.walled.lock().unwrap_or_else(PoisonError::into_inner);
        match walled.as_ref() {
            Some(Ok(())) => return self.restore(),
            Some(Err(_)) => return,
            None => {}
        }
        let prefix = self.naming.bridges();
        let raised = if !link::names().unwrap_or_default().iter().any(|name| name.starts_with(&prefix)) {
            Err(ELSEWHERE.to_owned())
        } else if !nix::unistd::Uid::effective().is_root() {
            Err(NO_ROOT.to_owned())
        } else {
            self.walls.raise().map_err(|e| format!("the kernel's packet filter cannot be set up ({e})"))
        };
        if let Err(why) = &raised {
            tracing::warn!(
                why,
                "steps are not kept from metadata addresses and from this host's listeners; forbid that on the engine's \
                 host (whistlestop doctor says how)"
            );
        }
        *walled = Some(raised);
        self.decided.send_replace(true);
    }

    /// Puts the walls up again if they stood and somebody has taken them down.
    pub fn tend(&self) {
        if matches!(*self.walled.lock().unwrap_or_else(PoisonError::into_inner), Some(Ok(()))) {
            self.restore();
        }
    }

    fn restore(&self) {
        if let Err(error) = self.walls.restore() {
            tracing::warn!(%error, "the walls around steps are down, and cannot be put up again");
        }
    }

    /// Our table and the prefix of our bridges.
    pub fn walls(&self) -> &Walls {
        &self.walls
    }

    /// Names of this installation's networks that no container is on.
    pub async fn idle(&self) -> Result<Vec<String>> {
        let client = self.connection.client().await?;
        let options = ListNetworksOptions { filters: Some(self.naming.part_filter(PART)) };
        let listed = client.list_networks(Some(options)).await;
        let listed = listed.map_err(|e| self.connection.failure("list networks", &e))?;
        let mut idle = Vec::new();
        for name in listed.into_iter().filter_map(|network| network.name) {
            let network = client.inspect_network(&name, None::<InspectNetworkOptions>).await;
            if network.is_ok_and(|n| n.containers.is_none_or(|c| c.is_empty())) {
                idle.push(name);
            }
        }
        Ok(idle)
    }

    /// Removes what no container is on, and the walls if nothing is left.
    pub async fn close(&self) {
        let Ok(idle) = self.idle().await else { return };
        for name in idle {
            self.remove(&name).await.ok();
        }
        let prefix = self.naming.bridges();
        let left = link::names().unwrap_or_default().iter().any(|name| name.starts_with(&prefix));
        if !left && firewall::table_exists(&self.walls.table) {
            self.walls.lower().ok();
            *self.walled.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Removes a network; one that a container is on stays, absent is fine.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.known().retain(|_, known| known != name);
        let client = self.connection.client().await?;
        match client.remove_network(name).await {
            Ok(()) => Ok(()),
            Err(error) => match self.connection.failure("remove a network", &error) {
                Error::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}
