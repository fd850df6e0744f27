//! The events of a build as a stream of server-sent events, byte for byte as Concourse's client expects them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};

use crate::engine::feed::Follower;
use crate::front::{Answer, Call, Failure, Permit};

/// Where a stream stands.
enum At {
    /// The build's events, the next of which has this number.
    Following(Follower, i64),
    /// All was told; the client must close, else a browser would connect again and again.
    Ended,
}

/// `BuildEvents`
pub async fn stream(permit: Permit, call: Call) -> Answer {
    let build = permit.build()?;
    let from = match call.header("last-event-id") {
        "" => 0,
        text => match text.parse::<i64>() {
            Ok(last) if last >= 0 => last.saturating_add(1),
            _ => return Err(Failure::bare(StatusCode::BAD_REQUEST)),
        },
    };
    let follower = call.app.feed.follow(build, from);
    let body = stream::unfold(At::Following(follower, from), |at| async {
        let (bytes, at) = next(at).await;
        Some((Ok::<_, std::convert::Infallible>(bytes), at))
    });
    let body = body.take_until(call.app.shutdown.token().cancelled_owned());
    // Who is cut off here is told why when they ask again.
    let body = body.take_until(Box::pin(permit.lost(&call.app)));
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::HeaderName::from_static("x-atc-stream-version"), "2.0"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// The next bytes of a stream; waits for them.
async fn next(at: At) -> (Bytes, At) {
    let At::Following(mut follower, number) = at else { return std::future::pending().await };
    match follower.next().await {
        Some(batch) => {
            let next = batch.first_event + i64::try_from(batch.frames.len()).unwrap_or(i64::MAX);
            (batch.sse(), At::Following(follower, next))
        }
        None => (Bytes::from(format!("id: {number}\nevent: end\ndata\n\n")), At::Ended),
    }
}
