//! Who is believed to vouch for servers: the authorities that this host or `SSL_CERT_FILE` names, and where there are
//! none, as in an image of nothing but this binary, Mozilla's, which are part of it; and those that a user names.
//! Every HTTP client begins here.

mod fault;
mod verifier;

use std::sync::Arc;

use base64::Engine as _;
use reqwest::ClientBuilder;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};

pub use self::fault::{OF_HOST, Remedies, fault};
use self::verifier::Verifier;

/// Those who set one of these mean no others.
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Why nobody can be believed, or nothing be shown.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// What should be PEM is not.
    #[error("it holds no PEM certificate{}", .0.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    NoCertificate(Option<pem::Error>),
    /// A certificate in it is damaged.
    #[error("a certificate in it cannot be read: {0}")]
    Damaged(rustls::Error),
    /// No private key, where one should be.
    #[error("it holds no PEM private key: {0}")]
    NoKey(pem::Error),
    /// The environment names authorities, and there are none.
    #[error(
        "SSL_CERT_FILE or SSL_CERT_DIR is set in this program's environment and leads to no PEM certificate: correct it \
         or unset it"
    )]
    Nobody,
    /// Certificate and key do not go together, or rustls does not know them.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The client cannot be made.
    #[error("{0}")]
    Client(#[from] reqwest::Error),
}

/// Whom a client believes beside the authorities of this host, and who it says that it is itself.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    own: Vec<CertificateDer<'static>>,
    unchecked: bool,
    one_version: bool,
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
}

impl Trust {
    /// Believes these too: authorities, and servers whose very certificate is among them.
    pub fn and(mut self, pem: &[u8]) -> Result<Self, TrustError> {
        let more = certificates(pem)?;
        let mut store = RootCertStore::empty();
        more.iter().try_for_each(|own| store.add(own.clone())).map_err(TrustError::Damaged)?;
        self.own.extend(more);
        Ok(self)
    }

    /// Believes anybody, if `unchecked`.
    pub fn unchecked(self, unchecked: bool) -> Self {
        Trust { unchecked, ..self }
    }

    /// Speaks HTTP/1.1 and nothing newer.
    pub fn http1(self) -> Self {
        Trust { one_version: true, ..self }
    }

    /// Shows servers this certificate, whose key is this.
    pub fn identity(self, certificate: &[u8], key: &[u8]) -> Result<Self, TrustError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TrustError::NoKey)?;
        Ok(Trust { identity: Some(Arc::new((certificates(certificate)?, key))), ..self })
    }

    /// An HTTP client in the making.
    pub fn client(&self) -> Result<ClientBuilder, TrustError> {
        let builder = reqwest::Client::builder().tls_backend_preconfigured(self.config()?);
        Ok(if self.one_version { builder.http1_only() } else { builder })
    }

    fn config(&self) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = match self.unchecked {
            true => Verifier::of_anybody(&provider),
            false => Verifier::new(self.believed()?, &provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.identity.as_deref() {
            Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => config.with_no_client_auth(),
        };
        let versions: &[&[u8]] = if self.one_version { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        config.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
        Ok(config)
    }

    /// Everybody who is believed.
    fn believed(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let mut all = rustls_native_certs::load_native_certs().certs;
        if all.is_empty() && !NAMED.iter().any(|name| std::env::var_os(name).is_some()) {
            all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
        }
        all.extend(self.own.iter().cloned());
        if all.is_empty() { Err(TrustError::Nobody) } else { Ok(all) }
    }
}

/// One or more.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TrustError::NoCertificate(None)),
        Ok(found) => Ok(found),
        Err(error) => Err(TrustError::NoCertificate(Some(error))),
    }
}

/// The authorities that this host or its environment names, as PEM; none where it names none.
pub fn of_host() -> Option<String> {
    let found = rustls_native_certs::load_native_certs().certs;
    (!found.is_empty()).then(|| found.iter().map(|certificate| armoured(certificate)).collect())
}

fn armoured(certificate: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_authorities_are_all_good_and_enough_by_themselves() {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        let mut store = RootCertStore::empty();
        assert_eq!(store.add_parsable_certificates(roots.iter().cloned()), (roots.len(), 0));
        assert!(roots.len() > 100, "{}", roots.len());
        let text: String = roots.iter().map(|root| armoured(root)).collect();
        let own = Trust::default().and(text.as_bytes()).unwrap();
        assert_eq!(own.own.len(), roots.len());
        assert!(own.client().unwrap().build().is_ok());
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        for (pem, told) in [
            ("nonsense", "it holds no PEM certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate in it cannot be read: "),
        ] {
            let error = Trust::default().and(pem.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let error = Trust::default().identity(b"", b"nonsense").unwrap_err().to_string();
        assert!(error.starts_with("it holds no PEM private key"), "{error}");
    }
}
