//! A build's page while the build goes on: first why it waits, then each batch of events as changes to the page.
//!
//! The page was drawn up to event N; this starts from the same tree and sends what comes after. A browser that lost
//! the connection says how far it got.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::change::{Change, changes, settle};
use super::tree::Tree;
use super::{Asked, View, head, log, steps, view, why_part};
use crate::engine::feed::Follower;
use crate::front::{Answer, App, Call, Failure, Permit};
use crate::web::live::mark;

/// A pending build is looked at this often even if nothing was heard.
const LOOK: Duration = Duration::from_secs(3);
/// Writes that come close together cause one look.
const PAUSE: Duration = Duration::from_millis(200);

/// `GET /builds/{build_id}/live?from=N`
pub async fn follow(permit: Permit, call: Call) -> Answer {
    let asked = Asked::of_build(&permit, &call)?;
    let last: Option<i64> = call.header("last-event-id").parse().ok();
    let from = last.or_else(|| call.query.get("from").parse().ok()).unwrap_or(0);
    let lost = Box::pin(permit.lost(&call.app));
    let live = Live { app: call.app, asked, from, phase: Phase::Waiting(String::new()) };
    let events = stream::unfold(live, |mut live| async move {
        let event = live.next().await?;
        Some((Ok::<_, Infallible>(event), live))
    });
    Ok(Sse::new(events.take_until(lost)).keep_alive(KeepAlive::default()).into_response())
}

struct Live {
    app: App,
    asked: Asked,
    from: i64,
    phase: Phase,
}

enum Phase {
    /// Until there is a plan. Holds the mark of the reasons that were sent.
    Waiting(String),
    /// Events come.
    Running(Box<(Tree, Follower)>),
    /// All was said; the browser must not ask again.
    Over,
}

impl Live {
    async fn next(&mut self) -> Option<Event> {
        if self.app.shutdown.is_asked() {
            return None;
        }
        let made = match &self.phase {
            Phase::Waiting(_) => self.wait().await,
            Phase::Running(_) => self.run().await,
            Phase::Over => return None,
        };
        made.unwrap_or_else(|_| {
            self.phase = Phase::Over;
            Some(Event::default().event("reload").data("lost"))
        })
    }

    /// Looks at the build until it has a plan.
    async fn wait(&mut self) -> Result<Option<Event>, Failure> {
        let mut writes = self.app.store.writes();
        loop {
            writes.borrow_and_update();
            let view = view(&self.app, &self.asked, Some(0)).await?;
            if view.started.is_some() || view.status.is_final() {
                return self.start(&view).await;
            }
            let html = why_part(&view)?;
            if let Phase::Waiting(sent) = &mut self.phase {
                let fresh = mark(&html);
                if *sent != fresh {
                    let first = sent.is_empty();
                    *sent = fresh;
                    if !first {
                        return Ok(Some(event(0, &[Change::inner("build-why", html)])));
                    }
                }
            }
            tokio::select! {
                () = self.app.shutdown.asked() => return Ok(None),
                _ = tokio::time::timeout(LOOK, writes.changed()) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// There is a plan: the page gets its steps, unless it has them, and events follow.
    async fn start(&mut self, view: &View) -> Result<Option<Event>, Failure> {
        let (build, plan) = (view.row.clone(), view.plan.clone());
        let mut tree = log::read(&self.app, &build, &plan, Some(self.from)).await?;
        settle(&mut tree);
        let follower = self.app.feed.follow(build.id, tree.next_event);
        let drawn = self.from > 0;
        self.phase = Phase::Running(Box::new((tree, follower)));
        let mut all = vec![Change::inner("build-head", head(view)?), Change::inner("build-why", String::new())];
        if !drawn {
            all.push(Change::inner("build-steps", steps(view)?));
        }
        Ok(Some(event(self.from, &all)))
    }

    async fn run(&mut self) -> Result<Option<Event>, Failure> {
        let Phase::Running(running) = &mut self.phase else { return Ok(None) };
        let (tree, follower) = running.as_mut();
        loop {
            let batch = tokio::select! {
                () = self.app.shutdown.asked() => return Ok(None),
                batch = follower.next() => batch,
            };
            let Some(batch) = batch else {
                self.phase = Phase::Over;
                return Ok(Some(Event::default().event("end").data("end")));
            };
            let before = (tree.status.clone(), tree.errors.len());
            for frame in &batch.frames {
                tree.apply(&serde_json::from_slice::<Value>(&frame.json()).unwrap_or(Value::Null));
            }
            let mut all = changes(tree, &self.asked.raw()).map_err(crate::base::error::Error::internal)?;
            if before != (tree.status.clone(), tree.errors.len()) {
                let view = view(&self.app, &self.asked, Some(0)).await?;
                all.push(Change::inner("build-head", head(&view)?));
                if tree.errors.len() > before.1 {
                    all.push(Change::inner("build-errors", super::errors(tree)?));
                }
            }
            if !all.is_empty() {
                return Ok(Some(event(tree.next_event, &all)));
            }
        }
    }
}

/// A set of changes; its id says how far the page is afterwards.
fn event(next: i64, all: &[Change]) -> Event {
    // JSON has neither line feeds nor carriage returns in it.
    Event::default().event("change").id(next.to_string()).data(serde_json::to_string(all).unwrap_or_default())
}
