//! The API through the front door.

mod builds;
mod door;
mod ends;
mod installation;
mod lost;
mod matrix;
mod odd;
mod one_off;
mod pages;
mod pipelines;
mod resources;
mod sign_in;
mod teams;
mod walls;
