//! `artifact_input` and `artifact_output`: what a client has uploaded for a build, and what it wants to download of it.

use super::artifact::Artifact;
use super::outcome::{LeafResult, Outcome, Stop};
use super::scope::Scope;
use crate::plan::{ArtifactInputPlan, ArtifactOutputPlan};

/// Hands an upload to later steps.
pub async fn input(input: &ArtifactInputPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let volume = scope.world.uploaded(input.artifact_id).await?.ok_or_else(|| {
        Stop::Error(format!(
            "the upload for input {} is gone: uploads are kept for 12 hours, run the command again",
            input.name
        ))
    })?;
    let artifacts = vec![(input.name.clone(), Artifact { volume, image: None })];
    Ok(LeafResult { artifacts, ..LeafResult::of(Outcome::Succeeded) })
}

/// Keeps an artifact of the build for download.
pub async fn output(output: &ArtifactOutputPlan, scope: &Scope) -> Result<LeafResult, Stop> {
    let artifact = scope
        .artifacts
        .get(&output.name)
        .ok_or_else(|| Stop::Error(format!("there is no output {}: no step of this build has made it", output.name)))?;
    let volume = super::registry::volume(&artifact, scope).await?;
    scope.world.keep_output(&output.name, &volume).await?;
    Ok(LeafResult::of(Outcome::Succeeded))
}
