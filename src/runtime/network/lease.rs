//! Networks of their own for steps: a namespace each, joined to the host by a pair of interfaces, behind walls.
//!
//! A few are made ahead, so that a step does not wait for one. A namespace is held by a descriptor of this process or
//! by the processes in it, and an interface pair by its namespace: so nothing is left behind by a server that dies.
//! What one unprivileged container of a team has used, another of the same team may get: it had no power to change it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ipnet::Ipv4Net;

use super::{Mode, Policy, firewall, link, owned, short};

/// Made ahead of need.
const SPARE: usize = 4;
/// Kept of what was used.
const MOST_USED: usize = 16;
/// Bits of an address that tell the ends of one pair from each other and from the broadcast.
const PAIR: u8 = 30;

/// A network of its own.
#[derive(Debug)]
pub struct Lease {
    namespace: OwnedFd,
    /// The host's end.
    interface: String,
    /// The container's address.
    pub address: Ipv4Addr,
    net: Ipv4Net,
}

impl Lease {
    /// The namespace, for a process that is to join it.
    pub fn namespace(&self) -> io::Result<OwnedFd> {
        self.namespace.as_fd().try_clone_to_owned()
    }
}

#[derive(Default)]
struct Stock {
    /// Never used.
    fresh: Vec<Lease>,
    /// Used by the team before.
    used: Vec<(String, Lease)>,
    /// In use, by container.
    out: HashMap<String, (String, bool, Lease)>,
    /// Networks of any of them.
    taken: HashSet<Ipv4Net>,
    making: bool,
    closed: bool,
}

/// All networks of one installation.
pub struct Leases {
    policy: Policy,
    walls: firewall::Walls,
    mtu: u32,
    /// Our own binary.
    exe: PathBuf,
    stock: Mutex<Stock>,
    next: AtomicU32,
    raised: OnceLock<Result<(), String>>,
}

impl Leases {
    /// For the installation on this directory, of our own binary `exe`. Touches nothing yet.
    pub fn new(policy: Policy, state: &Path, exe: &Path) -> Arc<Leases> {
        let short = short(&state.display().to_string());
        let (uplink, mtu) = link::uplink().unwrap_or((String::new(), 1500));
        let walls = firewall::Walls {
            table: format!("whistlestop-{short}e"),
            prefix: format!("ws{short}e-"),
            deny: policy.deny.clone(),
            allow_host: policy.allow_host,
            doors: policy.doors.clone(),
            leased: Some((policy.pool, uplink)),
        };
        Arc::new(Leases {
            policy,
            walls,
            mtu,
            exe: exe.to_owned(),
            stock: Mutex::default(),
            next: AtomicU32::new(0),
            raised: OnceLock::new(),
        })
    }

    /// The operator's word.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether steps get networks of their own; the error says why not.
    pub fn ready(&self) -> Result<bool, String> {
        if self.policy.mode == Mode::Host {
            return Ok(false);
        }
        let raised = self.raised.get_or_init(|| {
            self.raise().inspect_err(|why| tracing::warn!(why, "steps share this host's network: no walls around them"))
        });
        match (raised, self.policy.mode) {
            (Ok(()), _) => Ok(true),
            (Err(_), Mode::Auto) => Ok(false),
            (Err(why), _) => Err(why.clone()),
        }
    }

    /// Why steps get the host's network, where they would. Changes nothing.
    pub fn shortcoming(&self) -> Option<String> {
        if self.policy.mode == Mode::Host {
            return Some("--step-network host".to_owned());
        }
        self.able().and_then(|()| self.walls.try_out().map_err(no_walls)).err()
    }

    /// Puts up again what others on this host have taken down since.
    pub fn tend(&self) {
        if let Some(Ok(())) = self.raised.get()
            && let Err(error) = self.walls.keep_up()
        {
            tracing::warn!(%error, "the walls around steps are down, and cannot be put up again");
        }
    }

    fn able(&self) -> Result<(), String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err("an ordinary user cannot make interfaces".to_owned());
        }
        link::namespace().map(drop).map_err(|e| format!("network namespaces cannot be made ({e})"))
    }

    fn raise(&self) -> Result<(), String> {
        self.able()?;
        self.walls.raise().map_err(no_walls)?;
        let forward = "/proc/sys/net/ipv4/ip_forward";
        if std::fs::read_to_string(forward).is_ok_and(|v| v.trim() == "0") {
            std::fs::write(forward, "1")
                .map_err(|e| format!("packets are not forwarded, and {forward} cannot be set ({e})"))?;
            tracing::info!("net.ipv4.ip_forward was off and is on now, so that steps reach the network");
        }
        Ok(())
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network for `container`; the same one if it has one. Blocks for some milliseconds where none is ready.
    pub fn take(self: &Arc<Self>, container: &str, team: &str, privileged: bool) -> io::Result<(OwnedFd, Ipv4Addr)> {
        self.walls.restore()?;
        let ready = {
            let mut stock = self.stock();
            if let Some((_, _, lease)) = stock.out.get(container) {
                return Ok((lease.namespace()?, lease.address));
            }
            let used = if privileged { None } else { stock.used.iter().position(|(t, _)| t == team) };
            match used {
                Some(at) => Some(stock.used.swap_remove(at).1),
                None => stock.fresh.pop(),
            }
        };
        let lease = match ready {
            Some(lease) => lease,
            None => self.make()?,
        };
        let answer = (lease.namespace()?, lease.address);
        self.stock().out.insert(container.to_owned(), (team.to_owned(), privileged, lease));
        self.make_ahead();
        Ok(answer)
    }

    /// Takes it back; absent is fine. The container's processes must have gone.
    pub fn give_back(&self, container: &str) {
        let mut stock = self.stock();
        let Some((team, privileged, lease)) = stock.out.remove(container) else { return };
        if privileged || stock.used.len() >= MOST_USED {
            stock.taken.remove(&lease.net);
        } else {
            stock.used.push((team, lease));
        }
    }

    /// Lets go of all that no container uses, and of the walls if there is none left.
    pub fn close(&self) {
        let mut stock = self.stock();
        stock.closed = true;
        let idle: Vec<Lease> = stock.fresh.drain(..).collect();
        let used: Vec<Lease> = stock.used.drain(..).map(|(_, lease)| lease).collect();
        drop(stock);
        for lease in idle.into_iter().chain(used) {
            // Not only its namespace, which the kernel takes down when it finds the time.
            link::remove(&lease.interface).ok();
        }
        if firewall::table_exists(&self.walls.table) && self.interfaces().is_empty() {
            self.walls.lower().ok();
        }
    }

    /// Interfaces of this installation's steps that there are now, those of an earlier server included.
    pub fn interfaces(&self) -> Vec<String> {
        let held: HashSet<String> = {
            let stock = self.stock();
            let idle = stock.fresh.iter().chain(stock.used.iter().map(|(_, lease)| lease));
            idle.map(|lease| lease.interface.clone()).collect()
        };
        let names = link::names().unwrap_or_default();
        names.into_iter().filter(|name| name.starts_with(&self.walls.prefix) && !held.contains(name)).collect()
    }

    /// Name of our table of packet filter rules.
    pub fn walls(&self) -> &firewall::Walls {
        &self.walls
    }

    fn make_ahead(self: &Arc<Self>) {
        {
            let mut stock = self.stock();
            if stock.making || stock.closed || stock.fresh.len() + stock.used.len() >= SPARE {
                return;
            }
            stock.making = true;
        }
        let leases = self.clone();
        let made = std::thread::Builder::new().name("network".into()).spawn(move || {
            loop {
                let made = leases.make();
                let mut stock = leases.stock();
                match made {
                    Ok(lease) if stock.closed => {
                        stock.making = false;
                        drop(stock);
                        link::remove(&lease.interface).ok();
                        return;
                    }
                    Ok(lease) => stock.fresh.push(lease),
                    Err(_) => break stock.making = false,
                }
                if stock.fresh.len() + stock.used.len() >= SPARE {
                    break stock.making = false;
                }
            }
        });
        if made.is_err() {
            self.stock().making = false;
        }
    }

    fn make(&self) -> io::Result<Lease> {
        // Where there are no user namespaces, a privileged step can have a network all the same.
        let namespace = owned::namespace(&self.exe).or_else(|error| {
            tracing::debug!(%error, "a network without a user namespace of its own");
            link::namespace()
        })?;
        loop {
            let net = self.reserve()?;
            let (_, address) = link::ends(net);
            let number = (u32::from(net.network()) - u32::from(self.policy.pool.network())) >> 2;
            let interface = format!("{}{number:x}", self.walls.prefix);
            match link::join(&namespace, &interface, net, self.mtu) {
                Ok(()) => return Ok(Lease { namespace, interface, address, net }),
                // Another server on this directory is making it, and has not given it its address yet.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && link::index(&interface).is_ok() => {}
                Err(e) => {
                    link::remove(&interface).ok();
                    self.stock().taken.remove(&net);
                    return Err(e);
                }
            }
        }
    }

    /// A network that neither we nor anybody else on this host uses.
    fn reserve(&self) -> io::Result<Ipv4Net> {
        let others = link::networks()?;
        let pool = self.policy.pool;
        let all = 1u32 << (PAIR.saturating_sub(pool.prefix_len())).min(20);
        for _ in 0..all {
            let number = self.next.fetch_add(1, Ordering::Relaxed) % all;
            let base = Ipv4Addr::from(u32::from(pool.network()) + (number << 2));
            let Ok(net) = Ipv4Net::new(base, PAIR) else { continue };
            let free = !others.iter().any(|other| other.contains(&net) || net.contains(other));
            if free && self.stock().taken.insert(net) {
                return Ok(net);
            }
        }
        Err(io::Error::other(format!("no addresses are left in {pool}; name a larger network with --network-pool")))
    }
}

fn no_walls(error: io::Error) -> String {
    format!("the kernel's packet filter cannot be set up ({error}); it needs nf_tables with nft_nat, nft_masq, nft_ct")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_fit_the_kernel() {
        let leases = Leases::new(Policy::default(), Path::new("/var/lib/whistlestop/worker"), Path::new(""));
        assert!(format!("{}{:x}", leases.walls.prefix, (1 << 14) - 1).len() <= 15);
        assert_ne!(leases.walls.table, Leases::new(Policy::default(), Path::new("/other"), Path::new("")).walls.table);
    }

    #[test]
    fn each_network_is_given_out_once() {
        let policy = Policy { pool: "10.255.3.0/29".parse().unwrap(), ..Policy::default() };
        let leases = Leases::new(policy, Path::new("/nowhere"), Path::new(""));
        let first = leases.reserve().unwrap();
        assert_ne!(first, leases.reserve().unwrap());
        assert!(leases.reserve().unwrap_err().to_string().contains("--network-pool"));
    }
}
