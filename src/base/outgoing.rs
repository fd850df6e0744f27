//! Requests that this server makes on a tenant's behalf: one choke point with rules about where they may go.
//!
//! A name is resolved here and its denied addresses are left out, so that neither a name that points there nor a
//! redirect can reach them. Addresses in URLs do not pass a resolver, so [`Client::request`] and the redirect policy
//! look at them too.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Method, RequestBuilder, Url, redirect};

/// Where clouds keep credentials of the machine.
pub const DENIED: &str = "169.254.0.0/16,fd00:ec2::254/128";
const MOST_REDIRECTS: usize = 10;

/// A range of addresses, as `10.0.0.0/8` or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A network that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no network: write it as 169.254.0.0/16 or fd00:ec2::254")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Network { address, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(u32::from(own)), u128::from(u32::from(other)), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (u128::from(own), u128::from(other), 128),
            _ => return false,
        };
        self.bits == 0 || (own ^ other) >> (width - u32::from(self.bits)) == 0
    }
}

/// An address that may not be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} is not allowed: the operator denies the network {network} (--deny-networks)")]
pub struct Denied {
    host: String,
    network: String,
}

/// Where tenants' requests may not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    denied: Arc<[Network]>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing::new(DENIED.split(',').filter_map(|n| n.parse().ok()).collect())
    }
}

impl Outgoing {
    /// Denying these.
    pub fn new(denied: Vec<Network>) -> Self {
        Outgoing { denied: denied.into() }
    }

    /// What is denied.
    pub fn denied(&self) -> &[Network] {
        &self.denied
    }

    /// Whether the address may be reached, whatever way it is written.
    pub fn allows(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        let written = [address, address.to_canonical(), carried(address)];
        match self.denied.iter().find(|network| written.iter().any(|a| network.contains(*a))) {
            Some(network) => Err(Denied { host: host.to_owned(), network: network.to_string() }),
            None => Ok(()),
        }
    }

    fn allows_url(&self, url: &Url) -> Result<(), Denied> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.allows(host, address),
            Err(_) => Ok(()),
        }
    }

    /// A client that keeps the rules; `adapt` may add to how it is built, such as certificates.
    pub fn client(&self, adapt: impl FnOnce(ClientBuilder) -> ClientBuilder) -> reqwest::Result<Client> {
        let rules = self.clone();
        let policy = redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MOST_REDIRECTS {
                return attempt.error("too many redirects");
            }
            match rules.allows_url(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(denied) => attempt.error(denied),
            }
        });
        let builder = adapt(reqwest::Client::builder()).redirect(policy).dns_resolver(Arc::new(self.clone()));
        Ok(Client { http: builder.build()?, rules: self.clone() })
    }
}

/// The IPv4 address in an IPv6 address of the translating prefix.
fn carried(address: IpAddr) -> IpAddr {
    const PREFIX: u128 = 0x0064_ff9b << 96;
    match address {
        IpAddr::V6(v6) if u128::from(v6) & !0xffff_ffff == PREFIX => {
            let low = u32::try_from(u128::from(v6) & 0xffff_ffff).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from(low))
        }
        other => other,
    }
}

impl Resolve for Outgoing {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, host) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let mut denied = None;
            let mut allowed = Vec::with_capacity(found.len());
            for address in found {
                match rules.allows(&host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(error) => denied = Some(error),
                }
            }
            match denied {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// An HTTP client that keeps to the rules.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    rules: Outgoing,
}

impl Client {
    /// A request, unless its URL names a denied address.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Denied> {
        self.rules.allows_url(&url)?;
        Ok(self.http.request(method, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(host: &str) -> bool {
        let url = Url::parse(&format!("http://{host}/")).unwrap();
        Outgoing::default().allows_url(&url).is_err()
    }

    #[test]
    fn metadata_addresses_are_denied_however_they_are_written() {
        for host in [
            "169.254.169.254",
            "169.254.170.2:80",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "2852039166",
            "0xa9fea9fe",
        ] {
            assert!(denied(host), "{host}");
        }
        for host in ["127.0.0.1:5000", "10.0.0.1", "[::1]", "[fd00:ec2::253]", "registry.example", "169.253.0.1"] {
            assert!(!denied(host), "{host}");
        }
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00:ec2::254/128"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("1.2.3.4".parse().unwrap()));
        for text in ["", "10.0.0.0/33", "x/8", "10.0.0.0/x"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_and_a_redirect_that_lead_there_are_refused() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let rules = Outgoing::new(vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
        let client = rules.client(|b| b).unwrap();
        let url = Url::parse("http://localhost:9/").unwrap();
        let error = client.request(Method::GET, url).unwrap().send().await.unwrap_err();
        assert!(format!("{error:?}").contains("Denied"), "{error:?}");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let client = Outgoing::default().client(|b| b).unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let error = client.request(Method::GET, url).unwrap().send().await.unwrap_err();
        assert!(format!("{error:?}").contains("Denied"), "{error:?}");
    }
}
