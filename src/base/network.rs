//! Ranges of addresses as operators write them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Where clouds keep credentials of the machine: nearly all at a link-local address; AWS (also for containers) and
/// Google at IPv6 addresses of their own, Alibaba and Oracle at IPv4 addresses of their own.
pub const METADATA: &str = "169.254.0.0/16,fd00:ec2::254,fd00:ec2::23,fd20:ce::254,100.100.100.200,192.0.0.192";

/// Reads `10.0.0.0/8`, or a single address. Bits behind the prefix are dropped.
pub fn read(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().map(IpNet::from).ok();
    text.parse::<IpNet>().ok().or_else(one).map(|network| network.trunc())
}

/// The networks of [`METADATA`].
pub fn metadata() -> Vec<IpNet> {
    METADATA.split(',').map(|text| read(text).expect("a constant")).collect()
}

/// The networks of [`METADATA`] that `denied` leaves open, wholly or in part.
pub fn open_metadata(denied: &[IpNet]) -> Vec<IpNet> {
    metadata().into_iter().filter(|network| !denied.iter().any(|d| d.contains(network))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00:ec2::254/128"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert!(read("0.0.0.0/0").unwrap().contains(&"1.2.3.4".parse::<IpAddr>().unwrap()));
        for text in ["", "10.0.0.0/33", "x/8", "10.0.0.0/x"] {
            assert!(read(text).is_none(), "{text}");
        }
        assert_eq!(metadata().len(), 6);
    }

    #[test]
    fn metadata_that_stays_open_is_named() {
        assert_eq!(open_metadata(&metadata()), []);
        let denied = ["169.254.169.254", "fd00::/8", "100.64.0.0/10", "192.0.0.0/24"].map(|text| read(text).unwrap());
        assert_eq!(open_metadata(&denied), [read("169.254.0.0/16").unwrap()]);
        assert_eq!(open_metadata(&[read("10.0.0.0/8").unwrap()]).len(), 6);
    }
}
