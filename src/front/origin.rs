//! Where a request comes from: the address of the caller and whether it came encrypted, as told by the connection or,
//! behind a proxy that the operator trusts, by that proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request};
use ipnet::IpNet;

use crate::base::network::read;

/// The other end of a connection; the listener puts it beside each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The caller's address.
    pub address: IpAddr,
    /// Whether the caller speaks TLS, to us or to a trusted proxy. None if a proxy we do not know may be between.
    pub https: Option<bool>,
}

impl Default for Origin {
    fn default() -> Self {
        Origin { address: IpAddr::V4(Ipv4Addr::LOCALHOST), https: None }
    }
}

/// What the operator says about networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Proxies whose word is taken.
    pub proxies: Vec<IpNet>,
    /// Who may call at all; empty for everybody.
    pub allowed: Vec<IpNet>,
    /// Whether this process has an encrypted port of its own.
    pub own_tls: bool,
}

/// Reads a network: `10.0.0.0/8`, or one address.
pub fn network(text: &str) -> Result<IpNet, String> {
    read(text).ok_or_else(|| format!("{text:?} is no network; write one as 10.0.0.0/8 or fd00::/8"))
}

/// Whether the address is in one of them.
pub fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|n| n.contains(&address))
}

impl Networks {
    /// Where this request comes from.
    pub fn origin<B>(&self, request: &Request<B>) -> Origin {
        match request.extensions().get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(peer)) => self.told(*peer, request.headers()),
            None => Origin::default(),
        }
    }

    fn told(&self, peer: Peer, headers: &HeaderMap) -> Origin {
        let address = peer.address.ip().to_canonical();
        if !within(&self.proxies, address) {
            let https = if peer.tls { Some(true) } else { self.own_tls.then_some(false) };
            return Origin { address, https };
        }
        let values = |name: &str| {
            let lists = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            lists.flat_map(|v| v.split(',')).map(str::trim).map(str::to_owned).collect::<Vec<_>>()
        };
        // Each proxy adds whom it heard it from: what stands before the last one we do not trust, anybody may have sent.
        let mut client = address;
        for hop in values("x-forwarded-for").iter().rev() {
            let Some(hop) = hop_address(hop) else { break };
            client = hop;
            if !within(&self.proxies, hop) {
                break;
            }
        }
        let scheme = values("x-forwarded-proto").pop();
        let https = scheme.map(|s| s.eq_ignore_ascii_case("https")).or(peer.tls.then_some(true));
        Origin { address: client, https }
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()));
    address.map(|a: IpAddr| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(proxies: &[&str], own_tls: bool) -> Networks {
        let proxies = proxies.iter().map(|p| network(p).unwrap()).collect();
        Networks { proxies, allowed: Vec::new(), own_tls }
    }

    fn origin(networks: &Networks, peer: &str, tls: bool, headers: &[(&'static str, &str)]) -> (String, Option<bool>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let origin = networks.told(Peer { address: peer.parse().unwrap(), tls }, &map);
        (origin.address.to_string(), origin.https)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let forwarded = [("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-proto", "https")];
        let plain = networks(&[], false);
        assert_eq!(origin(&plain, "9.9.9.9:5", false, &forwarded), ("9.9.9.9".into(), None));
        assert_eq!(origin(&plain, "[::ffff:9.9.9.9]:5", true, &[]), ("9.9.9.9".into(), Some(true)));
        assert_eq!(origin(&networks(&[], true), "9.9.9.9:5", false, &forwarded), ("9.9.9.9".into(), Some(false)));
        let behind = networks(&["9.9.9.0/24", "2.2.2.2"], false);
        assert_eq!(origin(&behind, "9.9.9.9:5", false, &forwarded), ("1.1.1.1".into(), Some(true)));
        let lie =
            [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1:80, 2.2.2.2"), ("x-forwarded-proto", "http")];
        assert_eq!(origin(&behind, "9.9.9.9:5", false, &lie), ("1.1.1.1".into(), Some(false)));
        let nonsense = [("x-forwarded-for", "1.1.1.1, zz")];
        assert_eq!(origin(&behind, "9.9.9.9:5", false, &nonsense), ("9.9.9.9".into(), None));
    }

    #[test]
    fn a_network_is_a_range_or_an_address() {
        assert_eq!(network("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("10.0.0.0/33").is_err() && network("home").is_err());
        assert!(within(&[network("10.0.0.0/8").unwrap()], "10.9.8.7".parse().unwrap()));
    }
}
