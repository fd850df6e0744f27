//! The events of a build as a stream of server-sent events, byte for byte as Concourse's client expects them.

use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{Stream, StreamExt};

use super::check;
use crate::engine::feed::{Follower, packed};
use crate::front::{Answer, Call, Failure, Permit};

/// Where a stream stands.
enum At {
    /// The build's events, the next of which has this number.
    Following(Follower, i64, Form),
    /// All was told; the client must close, else a browser would connect again and again.
    Ended,
}

/// How the bytes go over the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// As gzip, of which nothing was sent yet.
    Unpacked,
    Packed,
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
    if call.app.store.read(move |tx| tx.build(build)).await?.is_none() {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        return answer(&permit, &call, check::follow(call.app.clone(), build, from), Form::Plain);
    }
    let follower = call.app.feed.follow(build, from);
    let form = if takes_gzip(call.header("accept-encoding")) { Form::Unpacked } else { Form::Plain };
    let events = stream::unfold(At::Following(follower, from, form), |at| async { Some(next(at).await) });
    answer(&permit, &call, events, form)
}

fn answer(permit: &Permit, call: &Call, events: impl Stream<Item = Bytes> + Send + 'static, form: Form) -> Answer {
    let body = events.map(Ok::<_, std::convert::Infallible>);
    // Looked at when one of them has something to say, and not with each of the events.
    let ends = FuturesUnordered::<Pin<Box<dyn Future<Output = ()> + Send>>>::new();
    ends.push(Box::pin(call.app.shutdown.token().cancelled_owned()));
    // Who is cut off here is told why when they ask again.
    ends.push(Box::pin(permit.lost(&call.app)));
    let body = body.take_until(ends.into_future());
    let mut response = Response::new(Body::from_stream(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::VARY, "accept-encoding"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::HeaderName::from_static("x-atc-stream-version"), "2.0"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if form != Form::Plain {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// The next bytes of a stream; waits for them.
async fn next(at: At) -> (Bytes, At) {
    let At::Following(mut follower, number, form) = at else { return std::future::pending().await };
    if form == Form::Unpacked {
        return (Bytes::from_static(packed::HEAD), At::Following(follower, number, Form::Packed));
    }
    match follower.next().await {
        Some(batch) => {
            let next = batch.first_event + i64::try_from(batch.frames.len()).unwrap_or(i64::MAX);
            let bytes = if form == Form::Packed { batch.sse_packed() } else { batch.sse() };
            (bytes, At::Following(follower, next, form))
        }
        None => {
            let end = format!("id: {number}\nevent: end\ndata\n\n");
            let end = if form == Form::Packed { packed::pack(end.as_bytes()) } else { end.into() };
            (end, At::Ended)
        }
    }
}

/// Whether an `Accept-Encoding` asks for gzip (RFC 9110, 12.5.3).
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for asked in ["gzip", "deflate, GZIP;q=0.5, br", "br,gzip ; q=1"] {
            assert!(takes_gzip(asked), "{asked}");
        }
        for not in ["", "identity", "deflate, br", "gzip;q=0", "gzip; q=0.000", "gzipped"] {
            assert!(!takes_gzip(not), "{not}");
        }
    }
}
