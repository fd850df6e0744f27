//! The encrypted port: certificate and key from files, read again at the first handshake after they have changed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::listen::next_connection;
use crate::front::Peer;

/// For a handshake; who needs longer does not mean it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const AT_ONCE: usize = 256;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or not PEM.
    #[error("cannot read {}: {message}; it must be PEM", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// They do not belong together, or rustls does not know them.
    #[error("the certificate of --tls-cert and the key of --tls-key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// When files were last changed, and how long they are: what tells that they are others.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The certificate in force.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let file = |path: &Path, message: String| TlsError::File { path: path.to_owned(), message };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|e| file(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(file(certificate, "it holds no certificate".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e.to_string()))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, secret, &aws_lc_rs::default_provider())?))
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = stamp(&self.certificate, &self.key);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != found {
            // Also after a failure: the same files would fail the same way.
            current.0 = found;
            match load(&self.certificate, &self.key) {
                Ok(pair) => {
                    current.1 = pair;
                    tracing::info!(certificate = %self.certificate.display(), "the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
        Some(current.1.clone())
    }
}

/// TLS with this certificate and key.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let stamp = stamp(certificate, key);
    let pair = load(certificate, key)?;
    let files = Files { certificate: certificate.to_owned(), key: key.to_owned(), current: Mutex::new((stamp, pair)) };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(files));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connections whose handshake is done; a slow one keeps nobody waiting.
pub struct Encrypted {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
    address: std::net::SocketAddr,
}

impl Encrypted {
    /// Over a listener. Its task ends when this is dropped.
    pub fn new(listener: TcpListener, acceptor: TlsAcceptor) -> std::io::Result<Encrypted> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(AT_ONCE);
        let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        tokio::spawn(async move {
            loop {
                let Ok(turn) = turns.clone().acquire_owned().await else { return };
                let (stream, address) = tokio::select! {
                    next = next_connection(&listener) => next,
                    () = sender.closed() => return,
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let done = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                    drop(turn);
                    if let Ok(Ok(stream)) = done {
                        drop(sender.send((stream, Peer { address, tls: true })).await);
                    }
                });
            }
        });
        Ok(Encrypted { ready, address })
    }
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(next) => next,
            // The task lives as long as this, so it ends only with the process.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(Peer { address: self.address, tls: true })
    }
}
