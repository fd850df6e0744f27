//! What steps reach and what they do not: the operator's word on it, and the means to hold it on a Linux host.

mod doors;
pub mod firewall;
pub mod lease;
pub mod link;
mod netlink;
pub mod owned;

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::base::network;
pub use doors::Doors;
pub use lease::{Lease, Leases};

/// Which network steps of the embedded runtime get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// One of their own where the host lets us make it, else the host's.
    #[default]
    Auto,
    /// One of their own, or they do not start.
    Own,
    /// The host's: no walls.
    Host,
}

/// The operator's word on networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which network the embedded runtime gives.
    pub mode: Mode,
    /// Networks that no step may reach.
    pub deny: Vec<IpNet>,
    /// Name servers in place of the host's.
    pub dns: Vec<IpAddr>,
    /// More names in `/etc/hosts`.
    pub hosts: Vec<HostEntry>,
    /// Where addresses of the embedded runtime's steps come from.
    pub pool: Ipv4Net,
    /// Whether steps may reach whatever listens on this host.
    pub allow_host: bool,
    /// What they may reach there anyway.
    pub doors: Doors,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            mode: Mode::default(),
            deny: network::metadata(),
            dns: Vec::new(),
            hosts: Vec::new(),
            pool: Ipv4Net::new(Ipv4Addr::new(10, 80, 0, 0), 16).expect("a constant"),
            allow_host: false,
            doors: Doors::default(),
        }
    }
}

/// A name for an address, as `--extra-host NAME:ADDRESS` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl FromStr for HostEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not NAME:ADDRESS, such as db.internal:10.1.2.3");
        // Or as a line of the file itself, which is how Concourse has it.
        let as_line = text.split_once(' ').map(|(address, name)| (name.trim(), address));
        let (name, address) = as_line.or_else(|| text.split_once([':', '='])).ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong());
        }
        let address = address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?;
        Ok(HostEntry { name: name.to_owned(), address })
    }
}

/// A network from `10.0.0.0/8` or a single address.
pub fn parse_net(text: &str) -> Result<IpNet, String> {
    network::read(text).ok_or_else(|| format!("'{text}' is neither a network such as 10.0.0.0/8 nor an address"))
}

/// Files that may hold the host's name servers, the one that programs read first. Those after it are where a resolver
/// on loopback keeps the servers it asks itself.
const RESOLV: &[&str] =
    &["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];

impl Policy {
    /// What `/etc/resolv.conf` says in a container; `own` if that has a network of its own, where servers on the
    /// host's loopback do not answer.
    pub fn resolv(&self, own: bool) -> String {
        let read = |path: &&str| std::fs::read_to_string(path).ok();
        resolv(&self.dns, own, &RESOLV.iter().filter_map(read).collect::<Vec<_>>())
    }

    /// What `/etc/hosts` says for a container of that name and address.
    pub fn hosts(&self, hostname: &str, address: Option<Ipv4Addr>) -> String {
        let address = address.unwrap_or(Ipv4Addr::new(127, 0, 1, 1));
        let mut text = format!("127.0.0.1 localhost\n{address} {hostname}\n");
        for entry in &self.hosts {
            text.push_str(&format!("{} {}\n", entry.address, entry.name));
        }
        text
    }
}

fn resolv(dns: &[IpAddr], own: bool, files: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let host = files.first().map_or("", String::as_str);
    lines.extend(host.lines().filter(|l| !l.starts_with("nameserver")).map(|l| l.trim_end().to_owned()));
    if !dns.is_empty() {
        lines.extend(dns.iter().map(|server| format!("nameserver {server}")));
        return lines.join("\n") + "\n";
    }
    let servers = |text: &String| -> Vec<String> {
        let named = text.lines().filter_map(|l| l.strip_prefix("nameserver"));
        let reachable = |server: &&str| !own || server.parse::<IpAddr>().is_ok_and(|a| !a.is_loopback() && a.is_ipv4());
        named.map(str::trim).filter(reachable).map(|server| format!("nameserver {server}")).collect()
    };
    lines.extend(files.iter().map(servers).find(|found| !found.is_empty()).unwrap_or_default());
    lines.retain(|line| !line.is_empty() && !line.starts_with('#'));
    lines.join("\n") + "\n"
}

/// The first hexadecimal digits of what tells one installation's objects from another's.
pub fn short(name: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(name.as_bytes())[..3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_hosts_are_read_or_refused() {
        assert_eq!(parse_net("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_net("fd00:ec2::254").unwrap().to_string(), "fd00:ec2::254/128");
        assert!(parse_net("ten").unwrap_err().contains("'ten' is neither"));
        let entry: HostEntry = "db.internal:10.1.2.3".parse().unwrap();
        assert_eq!((entry.name.as_str(), entry.address.to_string().as_str()), ("db.internal", "10.1.2.3"));
        assert_eq!("six:[fd00::1]".parse::<HostEntry>().unwrap().address.to_string(), "fd00::1");
        for bad in ["db", "db:", ":1.2.3.4", "d b:1.2.3.4", "db:nowhere"] {
            assert!(bad.parse::<HostEntry>().is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers_are_those_a_container_reaches() {
        let stub = "# made by\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n".to_owned();
        let real = "nameserver 10.0.0.1\nnameserver fe80::1\n".to_owned();
        let files = [stub, real];
        assert_eq!(resolv(&[], true, &files), "options edns0\nsearch lan\nnameserver 10.0.0.1\n");
        assert_eq!(resolv(&[], false, &files), "options edns0\nsearch lan\nnameserver 127.0.0.53\n");
        let own = ["9.9.9.9".parse().unwrap()];
        assert!(resolv(&own, true, &files).ends_with("nameserver 9.9.9.9\n"));
        assert_eq!(resolv(&[], true, &[]), "\n");
    }

    #[test]
    fn hosts_name_the_container_and_what_was_added() {
        let policy = Policy { hosts: vec!["db:10.1.2.3".parse().unwrap()], ..Policy::default() };
        assert_eq!(
            policy.hosts("c1", Some(Ipv4Addr::new(10, 80, 0, 2))),
            "127.0.0.1 localhost\n10.80.0.2 c1\n10.1.2.3 db\n"
        );
    }
}
