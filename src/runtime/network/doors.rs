//! The ways through the walls to the server itself: tasks log in to it and set pipelines.

use std::net::ToSocketAddrs;
use std::sync::{Arc, OnceLock};

use super::link;

/// What steps may reach on this host in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doors {
    /// Ports of the server's listeners, unless they are on loopback only.
    pub ports: Vec<u16>,
    /// Host and port of its external address, where something else on this host may listen in its place.
    pub front: Option<(String, u16)>,
    front_is_here: Arc<OnceLock<bool>>,
}

impl Doors {
    /// Through these ports.
    pub fn new(ports: Vec<u16>, front: Option<(String, u16)>) -> Doors {
        let front = front.filter(|(_, port)| !ports.contains(port));
        Doors { ports, front, front_is_here: Arc::default() }
    }

    /// The ports that stand open. Blocks while the host of the external address is looked up; no more once it, or a clone
    /// of it, has found it.
    pub fn open(&self) -> Vec<u16> {
        let here = |(host, port): &&(String, u16)| match self.front_is_here.get() {
            Some(here) => *here,
            None => (host.as_str(), *port).to_socket_addrs().is_ok_and(|mut found| {
                let here = found.any(|address| !address.ip().is_loopback() && link::is_ours(address.ip()));
                *self.front_is_here.get_or_init(|| here)
            }),
        };
        let front = self.front.as_ref().filter(here).map(|(_, port)| *port);
        self.ports.iter().copied().chain(front).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_let_through_where_it_is_on_this_host() {
        let open = |host: &str, port| Doors::new(vec![8080], Some((host.to_owned(), port))).open();
        // Loopback is a step's own.
        assert_eq!(open("127.0.0.1", 443), [8080]);
        // Documentation's, so nobody's.
        assert_eq!(open("192.0.2.1", 443), [8080]);
        assert_eq!(open("192.0.2.1", 8080), [8080]);
        assert_eq!(open("no.such.host.invalid", 443), [8080]);
        let sent = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // Nothing is sent by this; the kernel chooses the address it would send from.
        if sent.connect("192.0.2.1:9").is_ok() {
            let own = sent.local_addr().unwrap().ip().to_string();
            assert_eq!(open(&own, 443), [8080, 443]);
        }
    }
}
