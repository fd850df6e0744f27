//! The one integration binary: a folder for each area.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod api;
mod corpus;
mod door;
mod engine;
mod file;
mod fly;
mod house;
mod login;
mod resource;
mod runtime;
mod secrets;
mod web;
mod world;
