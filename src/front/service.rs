//! Making service accounts: what may be asked for, by the API and by the page alike.

use std::time::Duration;

use serde::Deserialize;

use super::{Call, Failure, Permit};
use crate::auth::Role;
use crate::base::duration;
use crate::base::error::{Error, Kind};
use crate::login::{Issued, NewService};
use crate::store::token::ServiceAccount;

/// How long a service account is good if nothing is said.
const DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long it can be good at most.
const LONGEST: Duration = Duration::from_secs(2 * 366 * 24 * 3600);

/// What is said about a service account to be made.
#[derive(Debug, Clone, Deserialize)]
pub struct Wanted {
    /// Its name within the team.
    pub name: String,
    /// What it may do there.
    pub role: String,
    /// How long it is good, such as `720h`.
    #[serde(default)]
    pub expires_in: String,
}

/// Makes a service account of the team in the path.
pub async fn make_account(permit: &Permit, call: &Call, wanted: Wanted) -> Result<(ServiceAccount, Issued), Failure> {
    let invalid = |message: String, hint: &str| Failure::from(Error::new(Kind::Invalid, message).hint(hint));
    if permit.caller().is_some_and(|c| c.is_service) {
        let error = Error::new(Kind::Forbidden, "a service account cannot make another");
        return Err(error.hint("an owner of the team has to sign in for that").into());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if wanted.name.is_empty() || wanted.name.len() > 100 || !wanted.name.chars().all(plain) {
        let hint = "use up to 100 letters, digits, dots, dashes and underscores";
        return Err(invalid(format!("{:?} cannot be the name of a service account", wanted.name), hint));
    }
    let role = Role::from_name(&wanted.role).ok_or_else(|| {
        invalid(format!("unknown role {:?}", wanted.role), "there are owner, member, pipeline-operator and viewer")
    })?;
    let lifetime = match wanted.expires_in.as_str() {
        "" => DEFAULT,
        text => duration::parse(text).map_err(|e| invalid(format!("expires_in: {e}"), "write it as 720h"))?,
    };
    if lifetime.is_zero() || lifetime > LONGEST {
        return Err(invalid("expires_in is out of range".to_owned(), "choose up to two years, such as 8760h"));
    }
    let account = NewService {
        team: permit.team()?,
        name: wanted.name.clone(),
        role,
        lifetime,
        created_by: permit.user().to_owned(),
        address: call.origin.address.to_string(),
    };
    call.app.login.issue_service(account).await?.ok_or_else(|| {
        let message = format!("the team has a service account {:?} already", wanted.name);
        Error::new(Kind::Conflict, message).hint("remove it first, or choose another name").into()
    })
}
