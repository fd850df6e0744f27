//! Through the front door: the real binary as a child process, real git servers, real Docker, a real browser.

mod demo;
mod image;
mod push;
mod remote;
mod world;
