//! Who may do what: the table of actions, roles, claims, and the decision. Functions over values.

pub mod action;
pub mod claims;
pub mod policy;
pub mod role;

pub use action::{Access, Action, Category};
pub use claims::{Claims, TeamAuth};
pub use policy::{Decision, Object, Standing, decide};
pub use role::Role;
