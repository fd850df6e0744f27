//! The recorded pipeline `inside`, job by job: each ends as it ended on Concourse 8.2.5. Its three jobs that are only about
//! `load_var` and `set_pipeline` are tested where these steps are.

use super::image;
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

async fn every_job_ends_as_recorded(runtime: Runtime, flags: &[&str]) {
    let world = World::new(runtime, flags).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_as_recorded_embedded() {
    every_job_ends_as_recorded(Runtime::Embedded, &["--allow-host-rootfs"]).await;
}

/// The images are made of a type that the operator has brought along, since an engine has not the host's files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_as_recorded_in_docker() {
    let types = tempfile::tempdir().unwrap();
    image::rootfs_type(types.path());
    let flags = ["--allow-host-rootfs", "--resource-types", types.path().to_str().unwrap()];
    every_job_ends_as_recorded(Runtime::Docker, &flags).await;
}
