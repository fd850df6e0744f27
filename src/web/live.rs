//! Pages that follow what happens: the part between top and foot is rendered again after writes to the store, and sent
//! if it differs from what the reader has. A tab where nothing happens costs a hash now and then and no traffic.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::markup::Markup;
use crate::base::version::digest;
use crate::front::{App, Failure, Permit};

/// Between two looks at least this.
const PAUSE: Duration = Duration::from_secs(1);
/// And at most this: another process may have written.
const LOOK: Duration = Duration::from_secs(5);
/// Then the browser asks again, and its permission is checked again.
const SESSION: Duration = Duration::from_secs(600);

/// What tells two renderings apart: everything but the words for how long ago.
pub fn mark(html: &str) -> String {
    let mut kept = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once("<time ") {
        kept.push_str(before);
        let (tag, after) = after.split_once('>').unwrap_or((after, ""));
        kept.push_str(tag);
        rest = after.split_once("</time>").map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    digest(kept.as_bytes())[..16].to_owned()
}

/// The answer to a page that wants to be told of changes; `seen` is the mark of what it has. It ends with the permission.
pub fn follow<F, Fut>(permit: &Permit, app: App, seen: String, render: F) -> Response
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Markup, Failure>> + Send,
{
    let (writes, lost) = (app.store.writes(), Box::pin(permit.lost(&app)));
    let state = (app, seen, render, writes, Instant::now() + SESSION, false);
    let events = stream::unfold(state, |(app, mut seen, render, mut writes, end, mut waited)| async move {
        loop {
            if waited {
                tokio::select! {
                    () = app.shutdown.asked() => return None,
                    () = tokio::time::sleep_until(end) => return None,
                    () = next_look(&mut writes) => {}
                }
            }
            waited = true;
            writes.borrow_and_update();
            // A pipeline that was removed: the reader is sent to find out.
            let Ok(html) = render().await else {
                let leave = Ok::<_, Infallible>(Event::default().event("leave").data("gone"));
                return Some((leave, (app, seen, render, writes, Instant::now(), true)));
            };
            let html = html.into_string();
            let fresh = mark(&html);
            if fresh != seen {
                seen = fresh;
                // A carriage return cannot be sent; it means nothing between tags.
                let event = Ok(Event::default().event("page").data(html.replace('\r', "")));
                return Some((event, (app, seen, render, writes, end, true)));
            }
        }
    });
    Sse::new(events.take_until(lost)).keep_alive(KeepAlive::default()).into_response()
}

async fn next_look(writes: &mut tokio::sync::watch::Receiver<u64>) {
    tokio::time::sleep(PAUSE).await;
    let _ = tokio::time::timeout(LOOK, writes.changed()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passing_of_time_makes_no_difference() {
        let a = r#"x <time datetime="1" title="t">5s ago</time> y"#;
        assert_eq!(mark(a), mark(&a.replace("5s ago", "9s ago")));
        assert_ne!(mark(a), mark(&a.replace("\"1\"", "\"2\"")));
        assert_ne!(mark(a), mark(&a.replace(" y", " z")));
        assert_eq!(mark("<time "), mark("<time "));
    }
}
