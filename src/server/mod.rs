//! The process: configuration, composition of the world, listeners, metrics, and its end.

mod bells;
pub mod compose;
pub mod config;
pub mod containment;
pub mod doctor;
pub mod foreign_flags;
pub mod listen;
pub mod lock;
pub mod log;
pub mod main_team;
pub mod metrics;
mod natives;
mod nearest;
pub mod network;
pub mod program;
pub mod registries;
pub mod runtimes;
pub mod secrets;
pub mod sign_in;
pub mod tls;

pub use compose::{World, run};
pub use config::Serve;
