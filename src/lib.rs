//! whistlestop: a whole Concourse CI in one static binary.
//!
//! Bird's eye: a pipeline file becomes rows (`pipeline`, `store`); passes over the rows (`engine`) check
//! resources, create builds and run their stored plans (`exec`) in containers (`runtime`); events flow back
//! into a log (`event`, `store`) that followers read through `api` (fly) and `web` (browser).
//!
//! Invariants
//! - **Pure core, thin shell.** `vars event pipeline plan schedule auth` are functions over values: no tokio,
//!   SQL, clock, randomness or IO; so is `base`, but for what it lends to others (`clock chance shutdown wake outgoing`).
//! - **The tables are the truth; workers are passes over them.** A wake-up only makes the next pass sooner.
//! - **A build is a stored plan, run again.** Resume is running the plan from the top; leaf results are recorded.
//! - **A step outlives the server.** Its supervisor is our own binary, so every build is static.
//! - **Layers, left to right, no cycles**; modules of one group do not import each other. `tests/it/house.rs` reads
//!   the line below and fails on an import that points right.
//!
//! ```text
//! base < vars event < pipeline < plan schedule auth < store < secrets runtime < audit < resource login < exec < engine worker < front < api web < server < cli
//! ```

pub mod base;

pub mod event;
pub mod vars;

pub mod pipeline;

pub mod auth;
pub mod plan;
pub mod schedule;

pub mod store;

pub mod runtime;
pub mod secrets;

pub mod audit;

pub mod login;
pub mod resource;

pub mod exec;

pub mod engine;

pub mod front;

pub mod api;
pub mod web;

pub mod server;

pub mod cli;
