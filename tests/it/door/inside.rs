//! The recorded pipeline `inside`, job by job: each ends as it ended on Concourse 8.2.5. Its three jobs that are only about
//! `load_var` and `set_pipeline` are tested where these steps are.

use super::world::{Runtime, World};

const PIPELINE: &str = include_str!("../../data/inside/inside.yml");

/// Jobs and how they ended. `priv` ended in an error there because its worker could not give all capabilities.
const ENDED: &[(&str, &str)] = &[
    ("task", "succeeded"),
    ("priv", "succeeded"),
    ("user", "succeeded"),
    ("missing-dir", "errored"),
    ("missing-input", "errored"),
    ("missing-image", "errored"),
    ("missing-file", "errored"),
    ("missing-artifact", "errored"),
    ("no-image", "errored"),
    ("missing-user", "errored"),
    ("not-executable", "errored"),
    ("other-platform", "errored"),
    ("tagged", "errored"),
    ("killed", "failed"),
    ("memory", "failed"),
    ("output-lines", "succeeded"),
    ("unknown-type", "errored"),
    ("undefined-var", "errored"),
    ("put-fails", "failed"),
    ("get-fails", "failed"),
    ("ensure-fails", "failed"),
    ("success-hook-fails", "failed"),
    ("failure-hook-errors", "errored"),
    ("retry-then-good", "succeeded"),
    ("try-errors", "succeeded"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_as_recorded() {
    let world = World::new(Runtime::Embedded, &["--allow-host-rootfs"]).await;
    world.pipeline("inside", PIPELINE).await;
    assert_eq!(PIPELINE.matches("\n- name: ").count(), ENDED.len());
    let mut builds = Vec::new();
    for (job, status) in ENDED {
        builds.push((world.trigger("inside", job).await, *job, *status));
    }
    for (build, job, status) in builds {
        assert_eq!(world.finish(build).await, status, "{job}: {}", world.watch(build).await);
    }
}
