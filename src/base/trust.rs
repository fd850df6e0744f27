//! Who is believed to vouch for servers: the authorities that this host or `SSL_CERT_FILE` names, and where there are
//! none, as in an image of nothing but this binary, Mozilla's, which are part of it. Every HTTP client begins here.

use std::error::Error;
use std::sync::LazyLock;

use base64::Engine as _;
use reqwest::{Certificate, ClientBuilder};

/// Those who set one of these mean no others.
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Mozilla's, where nothing else is there to be believed.
static BUNDLED: LazyLock<Vec<Certificate>> = LazyLock::new(|| {
    let named = NAMED.iter().any(|name| std::env::var_os(name).is_some());
    if named || !rustls_native_certs::load_native_certs().certs.is_empty() { Vec::new() } else { mozilla() }
});

/// An HTTP client in the making.
pub fn client() -> ClientBuilder {
    let builder = reqwest::Client::builder();
    if BUNDLED.is_empty() { builder } else { builder.tls_certs_merge(BUNDLED.iter().cloned()) }
}

/// What to do about a client that cannot be made, to be put behind the reason.
pub fn remedy(error: &reqwest::Error) -> &'static str {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains("No CA certificates") {
            return "; SSL_CERT_FILE or SSL_CERT_DIR is set in this program's environment and leads to no PEM \
                    certificate: correct it or unset it";
        }
        cause = error.source();
    }
    ""
}

/// The authorities that this host or its environment names, as PEM; none where it names none.
pub fn of_host() -> Option<String> {
    let found = rustls_native_certs::load_native_certs().certs;
    (!found.is_empty()).then(|| found.iter().map(|certificate| pem(certificate)).collect())
}

fn pem(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

fn mozilla() -> Vec<Certificate> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    roots.iter().filter_map(|root| Certificate::from_der(root).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_authorities_are_all_good_and_enough_by_themselves() {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        let mut store = rustls::RootCertStore::empty();
        assert_eq!(store.add_parsable_certificates(roots.iter().cloned()), (roots.len(), 0));
        assert!(roots.len() > 100, "{}", roots.len());
        assert_eq!(mozilla().len(), roots.len());
        let text: String = roots.iter().map(|root| pem(root)).collect();
        assert_eq!(Certificate::from_pem_bundle(text.as_bytes()).unwrap().len(), roots.len());
        assert!(reqwest::Client::builder().tls_certs_only(mozilla()).build().is_ok());
    }
}
