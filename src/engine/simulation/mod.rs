//! Random pipelines run by the real passes on a runtime of words, with a clock that is moved by hand: commits, builds
//! that succeed, fail, get lost or are aborted, pauses, pins, disabled versions, reruns, and a server that is killed at
//! any moment and opened again on the same state.
//!
//! Many pipelines share a world, so that a round of one pass serves all of them. After each round the rules of
//! `rules.rs` must hold. The seed is in every message; `WHISTLESTOP_SIMULATE=PIPELINES[,SEED]` sets how many there are
//! and where to start.

mod pipeline;
mod rules;
mod world;

use std::time::Duration;

use pipeline::Chance;
use world::World;

use super::ledger::Ledger;
use super::{Pass, gc};
use crate::base::id::ResourceId;
use crate::exec::{BuildEnv, VolumeNote, World as _};
use crate::runtime::VolumeHandle;

/// Pipelines of one world.
const TOGETHER: usize = 125;
/// Rounds of a world; each does one thing to each pipeline.
const ROUNDS: usize = 12;
/// Pipelines where nothing else is said.
const FEW: usize = 60;

/// How many pipelines, and the first seed.
fn wanted() -> (usize, u64) {
    let text = std::env::var("WHISTLESTOP_SIMULATE").unwrap_or_default();
    let mut parts = text.split(',');
    let pipelines = parts.next().and_then(|n| n.parse().ok()).unwrap_or(FEW);
    (pipelines, parts.next().and_then(|n| n.parse().ok()).unwrap_or(1))
}

/// Runs one world to its end and returns what happened, by pipeline. `cruel`: it is also killed while it works.
async fn run(seed: u64, pipelines: usize, cruel: bool) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut world = World::new(seed, pipelines, &mut chance).await;
    for round in 0..ROUNDS {
        let how = world.round(&mut chance).await;
        if cruel && round % 4 == 3 {
            world.kill(chance.below(40)).await;
        }
        world.settle().await;
        if round % 5 == 4 {
            world.kill(0).await;
            world.settle().await;
        }
        world.check(&how).await;
    }
    world.finish().await;
    world.trace
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_hold_in_random_pipelines() {
    let (pipelines, first) = wanted();
    let worlds = pipelines.div_ceil(TOGETHER);
    for n in 0..worlds {
        let size = TOGETHER.min(pipelines - n * TOGETHER);
        run(first + n as u64, size, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_trace() {
    let (_, seed) = wanted();
    let (one, two) = (run(seed, 20, false).await, run(seed, 20, false).await);
    assert!(one.len() > 200, "little happened: {}", one.len());
    for (line, (a, b)) in one.iter().zip(&two).enumerate() {
        assert_eq!(a, b, "seed {seed}, line {line}");
    }
    assert_eq!(one.len(), two.len(), "seed {seed}");
}

/// A check without a row has no build by which the collector could see that its volumes are needed.
#[tokio::test]
async fn a_long_check_keeps_its_volumes_until_it_is_over() {
    let world = World::new(1, 1, &mut Chance::new(1)).await;
    let shared = &world.shared;
    let env = BuildEnv { team_id: 1, ..BuildEnv::default() };
    let check = Ledger::of_check(shared.clone(), env, ResourceId(1));
    let (handle, parent, container) = (VolumeHandle("fetched".to_owned()), None, None);
    let note = VolumeNote { handle, kind: "resource", parent, container, path: String::new() };
    check.note_volume(note).await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    let mut collect = gc::Collect::new(shared.clone());
    for kept in [true, false] {
        collect.once().await.unwrap();
        let volumes = shared.store.read(|tx| tx.volume_handles()).await.unwrap();
        assert_eq!(volumes.contains(&"fetched".to_owned()), kept);
        check.clear(false).await;
    }
}
