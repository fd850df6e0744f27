//! Setting the networks a team's members must call from, by the API and by the page alike.

use super::origin::{network, within};
use super::{Call, Failure, Permit};
use crate::base::error::{Error, Kind};

/// Networks a team can list.
const MOST: usize = 100;

/// Sets the list. Owners cannot lock themselves out.
pub async fn set_team_networks(permit: &Permit, call: &Call, wanted: &[String]) -> Result<Vec<String>, Failure> {
    let parsed: Result<Vec<_>, String> = wanted.iter().map(|n| network(n.trim())).collect();
    let parsed = parsed.map_err(Failure::bad_request)?;
    let refused = |message: String, hint: &str| Failure::from(Error::new(Kind::Invalid, message).hint(hint));
    if parsed.len() > MOST {
        return Err(refused(format!("{} networks are too many", parsed.len()), "join some into wider ones"));
    }
    let address = call.origin.address;
    if !parsed.is_empty() && !permit.is_admin() && !within(&parsed, address) {
        let message = format!("you call from {address}, which is in none of these networks");
        return Err(refused(message, "add a network that holds it, else you would lock yourself out"));
    }
    let networks: Vec<String> = parsed.iter().map(ToString::to_string).collect();
    let (team, stored) = (permit.team()?, networks.clone());
    call.app.store.write(move |tx| tx.set_team_networks(team, &stored)).await?;
    Ok(networks)
}
