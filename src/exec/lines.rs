//! What a step that needs no process says in the log.

use super::outcome::Stop;
use super::scope::Scope;
use crate::base::stream::Stream;
use crate::event::{Event, Origin};
use crate::plan::PlanId;

/// Lines of one step, counted, so that a step which is run again after a crash repeats none of them.
pub struct Lines<'a> {
    plan: &'a PlanId,
    scope: &'a Scope,
    end: u64,
}

impl<'a> Lines<'a> {
    /// Of the step `plan`; tells that it begins.
    pub async fn of(plan: &'a PlanId, scope: &'a Scope) -> Result<Lines<'a>, Stop> {
        scope.world.emit(&Origin::step(&plan.0), Event::Initialize).await?;
        Ok(Lines { plan, scope, end: 0 })
    }

    /// Tells that it starts.
    pub async fn start(&self) -> Result<(), Stop> {
        Ok(self.scope.world.emit(&Origin::step(&self.plan.0), Event::Start).await?)
    }

    /// Tells that it has ended.
    pub async fn finish(&self, succeeded: bool) -> Result<(), Stop> {
        Ok(self.scope.world.emit(&Origin::step(&self.plan.0), Event::Finish { succeeded }).await?)
    }

    /// Says whole lines on standard output.
    pub async fn out(&mut self, text: &str) -> Result<(), Stop> {
        self.say(Stream::Stdout, text).await
    }

    /// Says whole lines on standard error.
    pub async fn err(&mut self, text: &str) -> Result<(), Stop> {
        self.say(Stream::Stderr, text).await
    }

    async fn say(&mut self, source: Stream, text: &str) -> Result<(), Stop> {
        self.end += text.len() as u64;
        if self.end <= self.scope.world.output_end(self.plan) {
            return Ok(());
        }
        let origin = Origin { id: self.plan.0.clone(), source: Some(source) };
        let text = self.scope.redactor.redact(text);
        Ok(self.scope.world.output(&origin, text, self.end).await?)
    }
}
