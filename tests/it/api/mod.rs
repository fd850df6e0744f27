//! The API through the front door.

mod door;
mod sign_in;
