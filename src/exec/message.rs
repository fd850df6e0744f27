//! `run`: sends a message to a prototype. Concourse 8 has the step, its checks and its place in a plan, and no
//! prototypes to talk to: it says so, and goes on.

use super::lines::Lines;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use crate::plan::{PlanId, RunPlan};

/// Runs the step, with Concourse's words.
pub async fn run(plan: &PlanId, run: &RunPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let mut lines = Lines::of(plan, scope).await?;
    lines.err("\u{1b}[1;33mthe run step is not yet implemented\u{1b}[0m\n\n").await?;
    lines.start().await?;
    let (message, prototype) = (&run.message, &run.kind);
    lines.err(&format!("\u{1b}[1;34mpretending to run {message} on prototype {prototype}...\u{1b}[0m\n")).await?;
    lines.finish(true).await?;
    Ok(LeafResult::of(Outcome::Succeeded))
}
