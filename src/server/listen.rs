//! Listeners, and how they end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};

use super::tls::Encrypted;
use crate::base::shutdown::Shutdown;
use crate::front::Peer;

/// How long open connections may take to finish after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when the process has no more file descriptors.
const FULL: Duration = Duration::from_millis(500);

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

impl Connected<IncomingStream<'_, Plain>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Plain>) -> Self {
        *stream.remote_addr()
    }
}

impl Connected<IncomingStream<'_, Encrypted>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Encrypted>) -> Self {
        *stream.remote_addr()
    }
}

/// Answers on a port until the stop is asked for and the last answer is given, or the grace is over.
pub fn serve<L>(listener: L, router: Router, shutdown: &Shutdown)
where
    L: Listener<Addr = Peer>,
    for<'a> Peer: Connected<IncomingStream<'a, L>>,
{
    let (asked, late) = (shutdown.token(), shutdown.token());
    let service = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(asked.cancelled_owned());
    shutdown.spawn(async move {
        let over = async move {
            late.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = server => if let Err(e) = ended {
                tracing::error!(error = %e, "a listener failed");
            },
            () = over => tracing::warn!("connections were still open at the end of the grace period"),
        }
    });
}
