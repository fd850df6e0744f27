//! The subject of a person over all connectors, as Concourse's identity server writes it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A protobuf message of user id and connector, in base64.
pub fn subject(user: &str, connector: &str) -> String {
    let mut bytes = Vec::new();
    for (tag, text) in [(0x0a, user), (0x12, connector)] {
        bytes.push(tag);
        let mut length = text.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(text.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_concourse_s() {
        assert_eq!(subject("m-owner", "local"), "CgdtLW93bmVyEgVsb2NhbA");
    }
}
