//! What the API and the pages share: the application, the way from a request to a handler, and back.
//!
//! Every route is an action of the table in `auth`, or a page that shows what an action would: [`Routes`] puts the
//! permission check and the audit in front of each handler, and a handler cannot be called without the [`Permit`]
//! that only the check makes.

mod answer;
mod app;
mod call;
mod gate;
mod instance;
pub mod origin;
pub mod pages;
mod permit;
mod routes;
pub mod secret;
pub mod service;
mod session;
mod team_networks;
pub mod trail;
mod way_back;

pub use answer::{Answer, Failure, as_json, empty, html, json, redirect, text};
pub use app::{App, AppParts, BuiltIn, Frames, LogLevel, Settings};
pub use call::{Call, Query, json_of, percent_decode, query_escape};
pub use instance::instance_vars;
pub use origin::{Networks, Origin, Peer};
pub use permit::{Caller, Permit, Rights, Visible, archived};
pub use routes::{PageRoute, Routes};
pub use session::{Token, clear_cookies, cookie, csrf_of, is_own, session_cookies, token};
pub use team_networks::set_team_networks;
pub use way_back::way_back;
