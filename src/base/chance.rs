//! Chance has one source: nothing outside this file asks the system for random bytes.

/// `N` random bytes fit for secrets.
#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes once it has booted");
    bytes
}

/// `N` random bytes in lower-case hexadecimal.
pub fn hex<const N: usize>() -> String {
    hex::encode(bytes::<N>())
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::hex::<16>(), super::hex::<16>());
        assert_eq!(super::hex::<16>().len(), 32);
    }
}
