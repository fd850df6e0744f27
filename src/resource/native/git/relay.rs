//! Git's way out by HTTP: a SOCKS proxy on this machine's loopback that lets through what the rules for tenants'
//! requests allow. It looks at the address of each connection, so neither a redirect, a submodule, a rewritten address
//! nor a name that changes its mind leads anywhere else; git itself has no such rules.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::outgoing::{NoAddress, Outgoing};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a client may take to say where it wants to go.
const ASK: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const DENIED: u8 = 2;
const NO_HOST: u8 = 4;
const REFUSED: u8 = 5;
const NOT_SPOKEN: u8 = 7;

/// The proxy; it ends with this.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: Outgoing,
    over: AtomicBool,
    /// Why the last connection that did not come about did not.
    failed: Mutex<Option<String>>,
}

impl Relay {
    /// Begins to listen.
    pub fn open(rules: Outgoing) -> io::Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { rules, over: AtomicBool::new(false), failed: Mutex::default() });
        let served = shared.clone();
        std::thread::Builder::new().name("git relay".to_owned()).spawn(move || serve(&listener, &served))?;
        Ok(Relay { address, shared })
    }

    /// What git is to use as its proxy; names are looked up here.
    pub fn proxy(&self) -> String {
        format!("socks5h://{}", self.address)
    }

    /// Why a connection did not come about, once: git knows no more than that it did not.
    pub fn take_failure(&self) -> Option<String> {
        self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener, which sees that it is over.
        drop(TcpStream::connect_timeout(&self.address, ASK));
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = shared.clone();
        // Without a thread for it the connection is dropped, which git tells of.
        let spawned = std::thread::Builder::new().name("git relay".to_owned()).spawn(move || {
            // Whoever hangs up has no use for an error.
            let _ = carry(client, &shared);
        });
        drop(spawned);
    }
}

fn carry(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(ASK))?;
    let server = match wanted(&mut client)? {
        Some((host, port)) => match connect(&host, port, &shared.rules) {
            Ok(server) => server,
            Err((code, why)) => {
                *shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                return answer(&mut client, code);
            }
        },
        None => return answer(&mut client, NOT_SPOKEN),
    };
    answer(&mut client, 0)?;
    client.set_read_timeout(None)?;
    let (mut up_from, mut up_to) = (client.try_clone()?, server.try_clone()?);
    std::thread::Builder::new().name("git relay".to_owned()).spawn(move || {
        let _ = io::copy(&mut up_from, &mut up_to);
        // Git has hung up or was ended: nobody reads what may still come.
        let _ = up_to.shutdown(Shutdown::Both);
    })?;
    let (mut down_from, mut down_to) = (server, client);
    let _ = io::copy(&mut down_from, &mut down_to);
    down_to.shutdown(Shutdown::Both)
}

/// Where the client wants to go; `None` for anything but a connection.
fn wanted(client: &mut TcpStream) -> io::Result<Option<(String, u16)>> {
    let [version, methods] = read(client)?;
    if version != VERSION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    client.read_exact(&mut vec![0; usize::from(methods)])?;
    client.write_all(&[VERSION, 0])?;
    let [_, command, _, kind] = read(client)?;
    let host = match kind {
        1 => IpAddr::from(Ipv4Addr::from(read::<4>(client)?)).to_string(),
        4 => IpAddr::from(Ipv6Addr::from(read::<16>(client)?)).to_string(),
        3 => {
            let [length] = read(client)?;
            let mut name = vec![0; usize::from(length)];
            client.read_exact(&mut name)?;
            String::from_utf8(name).map_err(io::Error::other)?
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let port = u16::from_be_bytes(read(client)?);
    Ok((command == 1).then_some((host, port)))
}

fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn answer(client: &mut TcpStream, code: u8) -> io::Result<()> {
    client.write_all(&[VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0])
}

fn connect(host: &str, port: u16, rules: &Outgoing) -> Result<TcpStream, (u8, String)> {
    let addresses = rules.addresses(host, port).map_err(|error| match error {
        NoAddress::Denied(_) => (DENIED, error.to_string()),
        NoAddress::Unknown { .. } => (NO_HOST, error.to_string()),
    })?;
    let mut failed = (NO_HOST, format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(server) => return Ok(server),
            Err(error) => failed = (REFUSED, format!("cannot connect to {host} port {port} ({address}): {error}")),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(relay: &Relay, request: &[u8]) -> (TcpStream, u8) {
        let mut client = TcpStream::connect(relay.address).unwrap();
        client.write_all(&[VERSION, 1, 0]).unwrap();
        assert_eq!(read::<2>(&mut client).unwrap(), [VERSION, 0]);
        client.write_all(request).unwrap();
        let code = read::<10>(&mut client).unwrap()[1];
        (client, code)
    }

    fn to(host: &str, port: u16) -> Vec<u8> {
        let mut request = vec![VERSION, 1, 0, 3, u8::try_from(host.len()).unwrap()];
        request.extend(host.as_bytes());
        request.extend(port.to_be_bytes());
        request
    }

    #[test]
    fn bytes_go_both_ways_until_one_side_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Relay::open(Outgoing::default()).unwrap();
        let (mut client, code) = ask(&relay, &to("localhost", port));
        assert_eq!(code, 0);
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"to").unwrap();
        assert_eq!(&read::<2>(&mut server).unwrap(), b"to");
        server.write_all(b"fro").unwrap();
        drop(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"fro");
        assert_eq!(relay.take_failure(), None);
    }

    #[test]
    fn what_is_denied_is_not_reached_and_the_flag_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let denied = ["127.0.0.0/8", "::1"].map(|n| crate::base::network::read(n).unwrap());
        let relay = Relay::open(Outgoing::new(denied.to_vec())).unwrap();
        let mut by_address = vec![VERSION, 1, 0, 1, 127, 0, 0, 1];
        by_address.extend(port.to_be_bytes());
        for request in [to("127.0.0.1", port), to("localhost", port), to("2130706433", port), by_address] {
            assert_eq!(ask(&relay, &request).1, DENIED);
            assert!(relay.take_failure().unwrap().contains("--deny-networks"));
        }
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // Only connections: neither listening nor datagrams.
        assert_eq!(ask(&relay, &[VERSION, 2, 0, 1, 10, 0, 0, 1, 0, 80]).1, NOT_SPOKEN);
        assert_eq!(ask(&relay, &to("nowhere.invalid", 80)).1, NO_HOST);
    }
}
