//! How many rows strangers may leave: requests that were refused and that nobody known sent are written down up to a
//! number for each address and minute; of the others only how many they were. Else one machine could fill the disk.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::clock::Time;

/// Rows for an address in a minute.
pub const MOST_ROWS: u64 = 100;
/// Addresses that are told apart in a minute; all others share one count.
const MOST_ADDRESSES: usize = 4096;
const MINUTE: i64 = 60_000;

/// Counts of the minute that goes on.
#[derive(Debug, Default)]
pub struct Flood {
    minute: i64,
    requests: BTreeMap<String, u64>,
}

/// Requests of one address that left no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    /// Whose.
    pub address: String,
    /// How many.
    pub requests: u64,
    /// The end of their minute.
    pub until: Time,
}

impl Flood {
    /// What is to be said of a minute that is over by `now`; each is said once.
    pub fn ended(&mut self, now: Time) -> Vec<Unwritten> {
        let minute = now.0.div_euclid(MINUTE);
        if minute == self.minute {
            return Vec::new();
        }
        let until = Time((self.minute + 1) * MINUTE);
        self.minute = minute;
        let over = std::mem::take(&mut self.requests).into_iter().filter(|(_, requests)| *requests > MOST_ROWS);
        over.map(|(address, requests)| Unwritten { address, requests: requests - MOST_ROWS, until }).collect()
    }

    /// Counts a request; whether it is written down.
    pub fn is_written(&mut self, address: &str) -> bool {
        let mut place = place(address);
        if self.requests.len() >= MOST_ADDRESSES && !self.requests.contains_key(&place) {
            "other addresses".clone_into(&mut place);
        }
        let requests = self.requests.entry(place).or_default();
        *requests += 1;
        *requests <= MOST_ROWS
    }
}

/// An address, or the network of 64 bits that one machine has to itself where addresses are long.
fn place(address: &str) -> String {
    match address.parse::<IpAddr>().map(|a| a.to_canonical()) {
        Ok(IpAddr::V6(long)) => ipnet::Ipv6Net::new(long, 64).map_or(long.to_string(), |net| net.trunc().to_string()),
        Ok(short) => short.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_counted_and_said_once() {
        let mut flood = Flood::default();
        assert_eq!(flood.ended(Time(5 * MINUTE)), []);
        let written = (0..250).filter(|_| flood.is_written("10.0.0.1")).count();
        assert_eq!(written as u64, MOST_ROWS);
        assert!(flood.is_written("10.0.0.2"), "others are not held back");
        assert_eq!(flood.ended(Time(5 * MINUTE + 59_999)), []);
        let more = Unwritten { address: "10.0.0.1".into(), requests: 150, until: Time(6 * MINUTE) };
        assert_eq!(flood.ended(Time(6 * MINUTE)), [more]);
        assert_eq!(flood.ended(Time(7 * MINUTE)), []);
        assert!(flood.is_written("10.0.0.1"));
    }

    #[test]
    fn a_network_of_one_machine_counts_as_one_and_many_as_others() {
        let mut flood = Flood::default();
        let written = (0..300).filter(|n| flood.is_written(&format!("2001:db8::{n:x}"))).count();
        assert_eq!(written as u64, MOST_ROWS);
        for n in 0..100_000_u32 {
            flood.is_written(&std::net::Ipv4Addr::from(n).to_string());
        }
        assert!(flood.requests.len() <= MOST_ADDRESSES + 1, "{}", flood.requests.len());
    }
}
