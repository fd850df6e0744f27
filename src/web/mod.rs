//! The pages: server-rendered, live through server-sent events, usable without script.
//!
//! One page a file. Only this module names askama; only `markup` lets HTML past its escaper.

pub mod ansi;
pub mod graph;
pub mod link;
pub mod markup;
pub mod span;
pub mod status;
