//! The API as the client of Concourse speaks it: one noun a file, shapes in `show`.

pub mod info;
pub mod show;
pub mod sky;
pub mod user;

use crate::auth::Action;
use crate::front::Routes;

/// Adds every handler of the API and of signing in.
pub fn routes(routes: Routes) -> Routes {
    let routes = sky::routes(routes);
    routes.on(Action::GetInfo, info::info).on(Action::GetInfoCreds, info::creds).on(Action::GetUser, user::current)
}
