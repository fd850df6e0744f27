//! Where a sign-in or a button leads back to: always a path on this server, whatever the request says.

use super::percent_decode;

/// `given` if it is such a path, else `/`: nothing a browser could take for another host, however often it was encoded.
pub fn way_back(given: &str) -> String {
    let mut decoded = given.to_owned();
    for _ in 0..5 {
        decoded = percent_decode(&decoded);
    }
    let safe =
        |s: &str| s.starts_with('/') && !s.starts_with("//") && !s.contains('\\') && !s.chars().any(char::is_control);
    if safe(given) && safe(&decoded) && given.is_ascii() { given.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::Url;

    use super::*;

    #[test]
    fn nobody_is_sent_to_another_host() {
        for good in ["/", "/teams/main/pipelines/p?vars.a=%22b%22", "/fly_success?fly_port=4", "/@evil.example.com"] {
            assert_eq!(way_back(good), good);
        }
        for evil in [
            "",
            "evil",
            "//evil",
            "///evil",
            "https://evil",
            "https:/evil",
            "ci.example.com@evil",
            "http://ci.example.com@evil",
            "javascript:alert(1)",
            "/%2Fevil",
            "%2f%2fevil",
            "/%252Fevil",
            "/%25252Fevil",
            "/\\evil",
            "\\\\evil",
            "/%5Cevil",
            "/%255Cevil",
            "/\tevil",
            "/\t/evil",
            "/%09/evil",
            "\n//evil",
            "/a\r\nLocation: https://evil",
            "/%0d%0aLocation:%20https://evil",
            "/ü",
        ] {
            assert_eq!(way_back(evil), "/", "{evil:?}");
        }
    }

    proptest! {
        #[test]
        fn every_way_back_is_a_path_of_this_origin(given in "[/\\\\%25f0dDaA9c:@?#.\\t\\r\\n evil]{0,24}") {
            let base = Url::parse("https://ci.example.com/sky/login").unwrap();
            let back = way_back(&given);
            let resolved = base.join(&back).unwrap();
            prop_assert_eq!(resolved.origin(), base.origin());
            prop_assert!(back.starts_with('/') && resolved.username().is_empty());
            prop_assert!(back.parse::<axum::http::HeaderValue>().is_ok());
        }
    }
}
