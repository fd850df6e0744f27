//! Requests that this server makes on a tenant's behalf: one choke point with rules about where they may go.
//!
//! A name is resolved here and its denied addresses are left out, so that neither a name that points there nor a
//! redirect can reach them. Addresses in URLs do not pass a resolver, so [`Client::request`] and the redirect policy
//! look at them too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Method, NoProxy, Proxy, RequestBuilder, Url, redirect};

use super::network;
use super::trust::{Trust, TrustError};

const MOST_REDIRECTS: usize = 10;

/// An address that may not be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{host} is not allowed: the operator denies the network {network} (--deny-networks)")]
pub struct Denied {
    host: String,
    network: String,
}

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum NoAddress {
    /// All that it has are denied.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It has none.
    #[error("{host} cannot be found: {cause}")]
    Unknown {
        /// The host.
        host: String,
        /// What the resolver says.
        cause: std::io::Error,
    },
}

/// Where tenants' requests may not go, and by which way they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    denied: Arc<[IpNet]>,
    proxies: Arc<Proxies>,
}

/// The proxies that requests pass; without any, those that the environment of the process names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For http.
    pub http: Option<String>,
    /// For https.
    pub https: Option<String>,
    /// Hosts that are reached directly, with commas between.
    pub none: Option<String>,
}

impl Proxies {
    /// An address of a proxy.
    pub fn address(text: &str) -> Result<String, String> {
        let wrong = |e: reqwest::Error| format!("{text:?} is no address of a proxy, such as http://proxy:3128: {e}");
        Proxy::all(text).map(|_| text.to_owned()).map_err(wrong)
    }

    /// As programs look for them in their environment.
    pub fn variables(&self) -> Vec<String> {
        let named = [("http_proxy", &self.http), ("https_proxy", &self.https), ("no_proxy", &self.none)];
        named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))).collect()
    }

    fn add_to(&self, mut builder: ClientBuilder) -> reqwest::Result<ClientBuilder> {
        let direct = self.none.as_deref().and_then(NoProxy::from_string);
        let ways = [self.http.as_deref().map(Proxy::http), self.https.as_deref().map(Proxy::https)];
        for way in ways.into_iter().flatten() {
            builder = builder.proxy(way?.no_proxy(direct.clone()));
        }
        Ok(builder)
    }

    /// Whether the operator has named this host as a proxy, so that it may be reached wherever it is.
    fn are_on(&self, host: &str) -> bool {
        let host_of = |text: &String| {
            let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
            url.ok().and_then(|url| url.host_str().map(str::to_owned))
        };
        [&self.http, &self.https].into_iter().flatten().filter_map(host_of).any(|proxy| proxy == host)
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Outgoing::new(network::metadata())
    }
}

impl Outgoing {
    /// Denying these.
    pub fn new(denied: Vec<IpNet>) -> Self {
        Outgoing { denied: denied.into(), proxies: Arc::default() }
    }

    /// The same by way of these.
    pub fn through(self, proxies: Proxies) -> Self {
        Outgoing { proxies: Arc::new(proxies), ..self }
    }

    /// What is denied.
    pub fn denied(&self) -> &[IpNet] {
        &self.denied
    }

    /// Whether the address may be reached, whatever way it is written.
    pub fn allows(&self, host: &str, address: IpAddr) -> Result<(), Denied> {
        let written = [address, address.to_canonical(), carried(address)];
        match self.denied.iter().find(|network| written.iter().any(|a| network.contains(a))) {
            Some(network) => Err(Denied { host: host.to_owned(), network: network.to_string() }),
            None => Ok(()),
        }
    }

    /// The addresses of a host that may be reached, for connections that are not made by a [`Client`]. Blocks.
    pub fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NoAddress> {
        let bare = host.trim_matches(['[', ']']);
        let found = (bare, port).to_socket_addrs();
        let found = found.map_err(|cause| NoAddress::Unknown { host: bare.to_owned(), cause })?;
        Ok(self.allowed(bare, found)?)
    }

    /// Whether none of the host's addresses is denied: for those that connect by themselves, to whichever they like. A
    /// host without an address is left to them too. Blocks.
    pub fn allows_host(&self, host: &str) -> Result<(), Denied> {
        let bare = host.trim_matches(['[', ']']);
        let Ok(mut found) = (bare, 0).to_socket_addrs() else { return Ok(()) };
        found.try_for_each(|address| self.allows(bare, address.ip()))
    }

    /// Those that are not denied; an error if that is all of them.
    fn allowed(&self, host: &str, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Denied> {
        let mut denied = None;
        let mut allowed = Vec::new();
        for address in found {
            match self.allows(host, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(error) => denied = Some(error),
            }
        }
        match denied {
            Some(error) if allowed.is_empty() => Err(error),
            _ => Ok(allowed),
        }
    }

    fn allows_url(&self, url: &Url) -> Result<(), Denied> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.allows(host, address),
            Err(_) => Ok(()),
        }
    }

    /// Denying nothing: for what the operator has set.
    pub fn anywhere() -> Self {
        Outgoing::new(Vec::new())
    }

    /// A client that keeps the rules and believes these; `adapt` may add to how it is built, such as time limits.
    pub fn client(
        &self,
        trust: &Trust,
        adapt: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> Result<Client, TrustError> {
        self.build(adapt(trust.client()?), self.redirects())
    }

    /// A client that keeps the rules and follows no redirect.
    pub fn straight_client(&self, adapt: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, TrustError> {
        self.build(adapt(Trust::default().client()?), redirect::Policy::none())
    }

    fn redirects(&self) -> redirect::Policy {
        let rules = self.clone();
        redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > MOST_REDIRECTS {
                return attempt.error("too many redirects");
            }
            match rules.allows_url(attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(denied) => attempt.error(denied),
            }
        })
    }

    fn build(&self, builder: ClientBuilder, policy: redirect::Policy) -> Result<Client, TrustError> {
        let builder = self.proxies.add_to(builder)?;
        let builder = builder.redirect(policy).dns_resolver(Arc::new(self.clone()));
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
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed = match rules.proxies.are_on(&host) {
                true => found.collect(),
                false => rules.allowed(&host, found)?,
            };
            Ok(Box::new(allowed.into_iter()) as Addrs)
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

/// Why an answer was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It broke off.
    #[error(transparent)]
    Broken(#[from] reqwest::Error),
    /// It does not end.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// A whole answer, as long as it is no longer than `most` bytes: who answers a tenant's request may mean ill.
pub async fn read(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(ReadError::TooLong(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
            "100.100.100.200",
            "192.0.0.192",
            "[fd20:ce::254]",
            "[fd00:ec2::23]",
        ] {
            assert!(denied(host), "{host}");
        }
        for host in ["127.0.0.1:5000", "10.0.0.1", "[::1]", "[fd00:ec2::253]", "registry.example", "169.253.0.1"] {
            assert!(!denied(host), "{host}");
        }
    }

    #[tokio::test]
    async fn requests_pass_the_proxy_wherever_it_is() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        let http = Some(format!("http://localhost:{port}"));
        let proxies = Proxies { http, none: Some("direct.invalid".to_owned()), https: None };
        assert_eq!(
            proxies.variables(),
            [format!("http_proxy=http://localhost:{port}"), "no_proxy=direct.invalid".into()]
        );
        let rules = Outgoing::new(["127.0.0.0/8", "::1"].map(|text| network::read(text).unwrap()).to_vec());
        let client = rules.through(proxies).straight_client(|b| b).unwrap();
        let ask = |host: &str| client.request(Method::GET, Url::parse(&format!("http://{host}/x")).unwrap()).unwrap();
        assert!(ask("direct.invalid").send().await.is_err());
        assert_eq!(ask("registry.invalid").send().await.unwrap().status(), 204);
        assert!(asked.await.unwrap().starts_with("GET http://registry.invalid/x "));
        assert!(Proxies::address("http://").is_err());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_not_read_to_its_end() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
        });
        let client = Outgoing::anywhere().straight_client(|b| b).unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let answer = client.request(Method::GET, url).unwrap().send().await.unwrap();
        assert_eq!(read(answer, 10_000).await.unwrap_err().to_string(), "the answer is longer than 10000 bytes");
    }

    #[tokio::test]
    async fn a_name_and_a_redirect_that_lead_there_are_refused() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let rules = Outgoing::new(["127.0.0.0/8", "::1"].map(|text| network::read(text).unwrap()).to_vec());
        let client = rules.client(&Trust::default(), |b| b).unwrap();
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
        let client = Outgoing::default().client(&Trust::default(), |b| b).unwrap();
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let error = client.request(Method::GET, url).unwrap().send().await.unwrap_err();
        assert!(format!("{error:?}").contains("Denied"), "{error:?}");
    }
}
