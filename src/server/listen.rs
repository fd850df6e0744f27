//! Listeners, and how they end.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::serve::Listener;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::base::shutdown::Shutdown;
use crate::front::Peer;

/// How long open connections may take to finish after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when the process has no more file descriptors.
const FULL: Duration = Duration::from_millis(500);

/// How long the first request of a connection may take to say what it asks for.
const FIRST: Duration = Duration::from_secs(30);
/// How long the next one may, idleness included: longer than proxies keep a connection that they may use again.
const NEXT: Duration = Duration::from_secs(150);

/// Opens a port; the error says what to do.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}; choose another port with {flag}"))
}

/// The next connection; those that broke before they were taken do not count.
pub(super) async fn next_connection(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Log lines are small and must not wait for one another.
                drop(stream.set_nodelay(true));
                return (stream, address);
            }
            Err(e) if e.raw_os_error().is_some_and(|n| [libc::EMFILE, libc::ENFILE].contains(&n)) => {
                tracing::error!(error = %e, "no connection can be taken");
                tokio::time::sleep(FULL).await;
            }
            Err(_) => {}
        }
    }
}

/// Plain connections.
pub struct Plain(pub TcpListener);

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = next_connection(&self.0).await;
        (stream, Peer { address, tls: false })
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(Peer { address: self.0.local_addr()?, tls: false })
    }
}

/// Answers on a port until the stop is asked for and the last answer is given, or the grace is over.
pub fn serve<L>(mut listener: L, router: Router, shutdown: &Shutdown)
where
    L: Listener<Addr = Peer>,
{
    let (stop, open) = (shutdown.token(), TaskTracker::new());
    shutdown.spawn(async move {
        loop {
            let (io, peer) = tokio::select! {
                next = listener.accept() => next,
                () = stop.cancelled() => break,
            };
            open.spawn(converse(io, peer, router.clone(), stop.clone()));
        }
        drop(listener);
        open.close();
        if tokio::time::timeout(GRACE, open.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end of the grace period");
        }
    });
}

/// One connection, until the other side ends it, or takes too long to ask, or the stop is asked for.
async fn converse<I>(io: I, peer: Peer, router: Router, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(NEXT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
    // Looked at when one of them has happened, and not whenever the connection has something to do.
    let mut moments = FuturesUnordered::<Pin<Box<dyn Future<Output = Moment> + Send>>>::new();
    moments.push(Box::pin(tokio::time::sleep(FIRST).map(|()| Moment::Late)));
    moments.push(Box::pin(stop.cancelled_owned().map(|()| Moment::Stop)));
    loop {
        tokio::select! {
            biased;
            // How it ended is the other side's business.
            _ = connection.as_mut() => return,
            Some(moment) = moments.next() => match moment {
                Moment::Late if !asked.load(Ordering::Relaxed) => return,
                Moment::Late => {}
                Moment::Stop => connection.as_mut().graceful_shutdown(),
            },
        }
    }
}

/// What happens to a connection from this side.
enum Moment {
    /// The time for the first request is over.
    Late,
    Stop,
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A connection to a server that answers `x`.
    fn connected(stop: &CancellationToken) -> DuplexStream {
        let (near, far) = duplex(4096);
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), tls: false };
        let answer = |ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.address.to_string() };
        tokio::spawn(converse(far, peer, Router::new().fallback(answer), stop.clone()));
        near
    }

    async fn answer(stream: &mut DuplexStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"127.0.0.1:1") {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0, "{}", String::from_utf8_lossy(&said));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_he_asks_for_is_not_waited_for() {
        let began = Instant::now();
        for half in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
            let mut stream = connected(&CancellationToken::new());
            stream.write_all(half.as_bytes()).await.unwrap();
            let before = Instant::now();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(before.elapsed().as_secs(), 30, "{half:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_of_use_may_rest_between_requests() {
        let mut stream = connected(&CancellationToken::new());
        for _ in 0..3 {
            answer(&mut stream).await;
            tokio::time::sleep(Duration::from_secs(120)).await;
        }
        stream.write_all(b"GET / HT").await.unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).await.is_ok(), "but not in the middle of one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_connections_that_rest() {
        let stop = CancellationToken::new();
        let mut stream = connected(&stop);
        answer(&mut stream).await;
        let before = Instant::now();
        stop.cancel();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(1));
    }
}
