//! The form of a token: twenty random bytes and the time it ends, as Concourse's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::base::chance;
use crate::base::clock::Time;

/// Draws a token that ends at `expires`. Unpadded, as the client reads it to tell when it ends.
pub fn make(expires: Time) -> String {
    let mut bytes = chance::bytes::<20>().to_vec();
    bytes.extend(expires.unix().to_le_bytes());
    STANDARD_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_when_it_ends() {
        let bytes = STANDARD_NO_PAD.decode(make(Time(7_000))).unwrap();
        assert_eq!(bytes.len(), 28);
        assert_eq!(bytes[20..], 7i64.to_le_bytes());
    }
}
