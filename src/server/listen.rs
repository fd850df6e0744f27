//! Listeners, and how they end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::base::shutdown::Shutdown;

/// How long open connections may take to finish after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Opens a port; the error says what to do.
pub async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}; choose another port with {flag}"))
}

/// Answers on a port until the stop is asked for and the last answer is given, or the grace is over.
pub fn serve(listener: TcpListener, router: Router, shutdown: &Shutdown) {
    let (asked, late) = (shutdown.token(), shutdown.token());
    // Log lines are small and must not wait for one another.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let server = axum::serve(listener, router).with_graceful_shutdown(asked.cancelled_owned());
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
