//! Pairs of virtual interfaces, their addresses and routes.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipnet::Ipv4Net;
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::{Message, Socket, attributes};

/// The name of a container's only interface besides loopback.
const INSIDE: &str = "eth0";
/// Attributes of links, of which the kernel's headers know more than libc does.
const IFLA_NET_NS_FD: u16 = 28;
const VETH_INFO_PEER: u16 = 1;

/// Runs `work` on a thread of its own, so that it may change that thread's namespace.
pub fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("network".into()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread for a network namespace ended early")))
}

/// A new network namespace with nothing in it; it lives as long as the descriptor or a process in it.
pub fn namespace() -> io::Result<OwnedFd> {
    aside(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

/// Number of an interface of this thread's namespace.
pub fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a terminated string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn link_head(index: u32, flags: i32) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&(flags as u32).to_ne_bytes());
    // Which of the flags are meant.
    head[12..16].copy_from_slice(&(flags as u32).to_ne_bytes());
    head
}

fn up(socket: &Socket, index: u32) -> io::Result<()> {
    socket.ask(Message::new(libc::RTM_NEWLINK, 0, &link_head(index, libc::IFF_UP)))
}

fn give_address(socket: &Socket, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut head = [0; 8];
    (head[0], head[1]) = (libc::AF_INET as u8, prefix);
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head);
    message.put(libc::IFA_LOCAL, &address.octets()).put(libc::IFA_ADDRESS, &address.octets());
    socket.ask(message)
}

fn default_route(socket: &Socket, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    // Family, prefixes, service; then table, protocol, scope and type.
    let main = [libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
    let mut head = [libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&main);
    let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head);
    message.put(libc::RTA_GATEWAY, &gateway.octets()).put(libc::RTA_OIF, &index.to_ne_bytes());
    socket.ask(message)
}

/// Joins `namespace` to this one by a pair of interfaces: `outside` here, `eth0` there, each with an address of `net`,
/// and the way out through here.
pub fn join(namespace: &OwnedFd, outside: &str, net: Ipv4Net, mtu: u32) -> io::Result<()> {
    let (gateway, address) = ends(net);
    let here = Socket::open(libc::NETLINK_ROUTE)?;
    let inside = namespace.as_raw_fd();
    let mut pair = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &link_head(0, 0));
    pair.text(libc::IFLA_IFNAME, outside).put(libc::IFLA_MTU, &mtu.to_ne_bytes());
    pair.nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&link_head(0, 0))
                    .text(libc::IFLA_IFNAME, INSIDE)
                    .put(libc::IFLA_MTU, &mtu.to_ne_bytes())
                    .put(IFLA_NET_NS_FD, &inside.to_ne_bytes());
            });
        });
    });
    here.ask(pair)?;
    let index = index(outside)?;
    for (setting, value) in [("ipv4/conf", ("rp_filter", "1")), ("ipv6/conf", ("disable_ipv6", "1"))] {
        // What is sent must come from the address that was given; kernels without IPv6 have no second setting.
        std::fs::write(format!("/proc/sys/net/{setting}/{outside}/{}", value.0), value.1).ok();
    }
    give_address(&here, index, gateway, net.prefix_len())?;
    up(&here, index)?;
    let namespace = namespace.as_fd().try_clone_to_owned()?;
    aside(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        // `ping` and low ports without rights, which the step has in its own user namespace only.
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").ok();
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
        let there = Socket::open(libc::NETLINK_ROUTE)?;
        up(&there, self::index("lo")?)?;
        let eth0 = self::index(INSIDE)?;
        give_address(&there, eth0, address, net.prefix_len())?;
        up(&there, eth0)?;
        default_route(&there, eth0, gateway)
    })
}

/// In this thread's namespace, which has nothing but loopback: whatever is sent is lost without a word, as where Concourse
/// drops a step's packets.
pub fn lead_nowhere() -> io::Result<()> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let lo = index("lo")?;
    up(&socket, lo)?;
    let main = [libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RT_SCOPE_LINK, libc::RTN_UNICAST];
    let mut head = [libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&main);
    let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head);
    message.put(libc::RTA_OIF, &lo.to_ne_bytes());
    socket.ask(message)
}

/// The same in the network namespace of a process, if it is one of the container with that id.
pub fn lead_nowhere_of(process: i64, container: &str) -> io::Result<()> {
    let namespace = namespace_of(process, container, "net")?;
    aside(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        lead_nowhere()
    })
}

/// A namespace of a process, if it is one of the container with that id: an engine on another host has processes of other
/// numbers.
pub fn namespace_of(process: i64, container: &str, kind: &str) -> io::Result<File> {
    let of = format!("/proc/{process}");
    let namespace = File::open(format!("{of}/ns/{kind}"))?;
    if container.is_empty() || !std::fs::read_to_string(format!("{of}/cgroup"))?.contains(container) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the container is not on this host"));
    }
    Ok(namespace)
}

/// The two addresses of a link: the host's and the container's.
pub fn ends(net: Ipv4Net) -> (Ipv4Addr, Ipv4Addr) {
    let base = u32::from(net.network());
    (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2))
}

/// Removes an interface with its other end; absent is fine.
pub fn remove(name: &str) -> io::Result<()> {
    let Ok(index) = index(name) else { return Ok(()) };
    Socket::open(libc::NETLINK_ROUTE)?.ask(Message::new(libc::RTM_DELLINK, 0, &link_head(index, 0)))
}

/// Names of this host's interfaces.
pub fn names() -> io::Result<Vec<String>> {
    Ok(links()?.into_iter().map(|(name, _)| name).collect())
}

/// Interfaces with the largest packet each takes.
fn links() -> io::Result<Vec<(String, u32)>> {
    let links = Socket::open(libc::NETLINK_ROUTE)?.list(libc::RTM_GETLINK, &[0; 16])?;
    let read = |link: &Vec<u8>| {
        let found = attributes(link.get(16..)?);
        let value = |kind| found.iter().find(|(k, _)| *k == kind).map(|(_, value)| *value);
        let name = value(libc::IFLA_IFNAME)?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
        let mtu = value(libc::IFLA_MTU).and_then(|v| v.try_into().ok()).map_or(1500, u32::from_ne_bytes);
        Some((name, mtu))
    };
    Ok(links.iter().filter_map(read).collect())
}

/// The networks that this host has addresses in.
pub fn networks() -> io::Result<Vec<Ipv4Net>> {
    let mut head = [0; 8];
    head[0] = libc::AF_INET as u8;
    let addresses = Socket::open(libc::NETLINK_ROUTE)?.list(libc::RTM_GETADDR, &head)?;
    let network = |entry: &Vec<u8>| {
        let prefix = *entry.get(1)?;
        let found = attributes(entry.get(8..)?).into_iter().find(|(kind, _)| *kind == libc::IFA_LOCAL)?.1;
        let octets: [u8; 4] = found.try_into().ok()?;
        Some(Ipv4Net::new(octets.into(), prefix).ok()?.trunc())
    };
    Ok(addresses.iter().filter_map(network).collect())
}

/// The interface of the default route and the largest packet it takes.
pub fn uplink() -> Option<(String, u32)> {
    let routes = std::fs::read_to_string("/proc/thread-self/net/route").ok()?;
    let name = routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then(|| name.to_owned())
    })?;
    let mtu = links().ok()?.into_iter().find(|(found, _)| *found == name)?.1;
    Some((name, mtu))
}

/// Whether `address` belongs to this host.
pub fn is_ours(address: IpAddr) -> bool {
    // Only an address of one's own can be bound to; port 0 is always free.
    std::net::UdpSocket::bind((address, 0)).is_ok()
}
