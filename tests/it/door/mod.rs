//! Through the front door: the real binary as a child process, real git servers, real Docker, a real browser.

mod alone;
mod browser;
mod caches;
mod chaos;
mod chromium;
mod concourse;
mod crowd;
mod demo;
mod doctor;
mod errors;
mod full;
mod halt;
mod image;
mod images;
mod inside;
mod local;
mod neighbours;
mod packed;
mod prune;
mod push;
mod recorded;
mod remote;
mod restart;
mod roles;
mod turns;
mod world;
