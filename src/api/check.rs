//! Checks that left no row, told as builds by the id that resources show: most checks are too short and too many for a
//! row and a log of their own, so what is told of one is what its resource knows of it, until the next one.

use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, stream};

use super::show::resource::LastCheck;
use crate::base::id::BuildId;
use crate::event::{Event, Origin};
use crate::front::{App, Failure};

/// One that goes on is looked at again at least this often.
const LOOK: Duration = Duration::from_secs(5);
/// And not more often than this, however much is written.
const PAUSE: Duration = Duration::from_millis(100);

/// The check of that id, if it is the last of its resource.
pub async fn find(app: &App, id: BuildId) -> Result<Option<LastCheck>, Failure> {
    let view = app.store.read(move |tx| tx.view_of_check(id)).await?;
    Ok(view.as_ref().map(LastCheck::without_row))
}

/// Its events as they are sent, from the `next`th on; it ends with the check.
pub fn follow(app: App, id: BuildId, next: usize) -> impl Stream<Item = Bytes> + Send {
    stream::unfold((app, Some(next)), move |(app, next)| async move {
        // The client must close, else a browser would connect again and again.
        let Some(next) = next else { return std::future::pending().await };
        let mut writes = app.store.writes();
        loop {
            writes.borrow_and_update();
            let check = match find(&app, id).await {
                Ok(check) => check,
                Err(_) => return None,
            };
            let events = check.as_ref().map(events).unwrap_or_default();
            if let Some(fresh) = events.get(next..).filter(|fresh| !fresh.is_empty()) {
                return Some((Bytes::from(fresh.concat()), (app, Some(events.len()))));
            }
            if check.is_none_or(|c| c.build.ended_at.is_some()) {
                return Some((Bytes::from(format!("id: {next}\nevent: end\ndata\n\n")), (app, None)));
            }
            // Anything may have been written.
            let _ = tokio::time::timeout(LOOK, writes.changed()).await;
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// All that is known to have happened.
fn events(check: &LastCheck) -> Vec<String> {
    let (build, step) = (&check.build, Origin::step("1"));
    let started = build.started_at.unwrap_or(build.created_at).unix();
    let name = build.resource_name.clone().unwrap_or_default();
    let mut all = vec![
        (Event::Status("started"), Origin::step(""), started),
        (Event::InitializeCheck { name }, step.clone(), started),
    ];
    if let Some(ended) = build.ended_at.map(|t| t.unix()) {
        if !check.error.is_empty() {
            all.push((Event::Error(check.error.clone()), step.clone(), ended));
        }
        all.push((Event::Finish { succeeded: check.error.is_empty() }, step, ended));
        all.push((Event::Status(build.status.as_str()), Origin::step(""), ended));
    }
    let sent = |(number, (event, origin, time)): (i64, (Event, Origin, i64))| {
        format!("id: {number}\nevent: event\ndata: {}\n\n", event.to_wire(&origin, time, number))
    };
    (0..).zip(all).map(sent).collect()
}
