//! Judges the certificates of servers.
//!
//! An authority that is trusted vouches for itself too: most people make one certificate, which is its own authority
//! and the server's, and hand it to the client. WebPKI refuses that, since an authority should not be a server; here, as
//! in Go, a server whose very certificate is trusted is believed, as long as the certificate is of this time and of the
//! server's name. Nobody is believed who would not be otherwise: who has its key could have signed another one with it.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::TrustError;

/// See the module's doc.
#[derive(Debug)]
pub struct Verifier {
    /// Without one, anybody is believed.
    judge: Option<Judge>,
    schemes: Vec<SignatureScheme>,
}

#[derive(Debug)]
struct Judge {
    of_authorities: Arc<WebPkiServerVerifier>,
    trusted: HashSet<CertificateDer<'static>>,
}

impl Verifier {
    /// Believes these, and those they signed.
    pub fn new(trusted: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let of_authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let of_authorities = of_authorities.map_err(|_| TrustError::Nobody)?;
        let judge = Judge { of_authorities, trusted: trusted.into_iter().collect() };
        Ok(Verifier { judge: Some(judge), schemes: schemes(provider) })
    }

    /// Believes anybody.
    pub fn of_anybody(provider: &CryptoProvider) -> Self {
        Verifier { judge: None, schemes: schemes(provider) }
    }
}

fn schemes(provider: &CryptoProvider) -> Vec<SignatureScheme> {
    provider.signature_verification_algorithms.supported_schemes()
}

impl Judge {
    fn verify(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.of_authorities.verify_server_cert(shown, between, name, &[], now);
        if judged.is_ok() || !self.trusted.contains(shown) {
            return judged.map_err(|error| if is_of_authority(&error) { unknown() } else { error });
        }
        // Apart from who signed it: its time is looked at before that.
        match self.of_authorities.verify_server_cert(shown, &[], name, &[], now) {
            Err(error) if is_of_authority(&error) || error == unknown() => {}
            judged => return judged,
        }
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

fn unknown() -> Error {
    CertificateError::UnknownIssuer.into()
}

/// Whether an authority's certificate was refused for being one; WebPKI's errors have no type here.
fn is_of_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string() == "CaUsedAsEndEntity")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.judge {
            Some(judge) => judge.verify(shown, between, name, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.judge {
            Some(judge) => judge.of_authorities.verify_tls12_signature(message, shown, signed),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.judge {
            Some(judge) => judge.of_authorities.verify_tls13_signature(message, shown, signed),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;

    /// Its own authority, of localhost and 127.0.0.1.
    const SELF: &str = "
-----BEGIN CERTIFICATE-----
MIIBkjCCATegAwIBAgIUKHyjGzGpls0UvoFWgxkRdM0XUJEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEc2VsZjAgFw0yNjExMjQwNDAzNTNaGA8yMTI2MTAzMTA0MDM1
M1owDzENMAsGA1UEAwwEc2VsZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFT/
4gu/yjT0cl2e8x+iAqMF9/VGO8xSQuj1r2ziIeIr4yRAFuEhRBtV05UKrlTOyFzo
SGQunXBb+/q6bp46qgajbzBtMB0GA1UdDgQWBBTmxrOXQkcE99BOIL22HLs/sehU
SDAfBgNVHSMEGDAWgBTmxrOXQkcE99BOIL22HLs/sehUSDAPBgNVHRMBAf8EBTAD
AQH/MBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAKBggqhkjOPQQDAgNJADBG
AiEA1scrR6zBO3+3WMVIM57WoNKFSZH8ZVls9Rb0gqUvNM8CIQDIJDq6vr3M8R49
aiHQEkGLxpTzfA21+DGlDPEE+bLyXQ==
-----END CERTIFICATE-----
";
    /// Of localhost, signed by an authority that nobody here knows.
    const LEAF: &str = "
-----BEGIN CERTIFICATE-----
MIIBizCCATCgAwIBAgIUTN49fTuOJq4E17yPmLheqq0kmHUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYXV0aG9yaXR5MCAXDTI2MTEyNDA0MDM1NFoYDzIxMjYxMDMx
MDQwMzU0WjAPMQ0wCwYDVQQDDARsZWFmMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEFfPyg+ntu6+7zu6avScC9Wt8e07+BOYdT7rj8Z9l3KqSayhS9W+aIkt9dRvb
07MyTqHoG+AgkNmkESJS9ji0B6NjMGEwFAYDVR0RBA0wC4IJbG9jYWxob3N0MAkG
A1UdEwQCMAAwHQYDVR0OBBYEFEu/txhAmOdXSoE9T9HNC7CBCqHGMB8GA1UdIwQY
MBaAFBDxdml9KwyKGf6Z+DYnFHHzf5QJMAoGCCqGSM49BAMCA0kAMEYCIQDQDX87
g67Lo8fKu+lTFXmuv6tmFsN/WOF6Fq24lDS/UAIhAJxTh7BiVh3ZILW9F4nXK2Rc
nAVnJr34O3uqYXSv0BrD
-----END CERTIFICATE-----
";
    const NOW: u64 = 1_800_000_000;

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    /// What becomes of a server with this certificate where these are trusted.
    fn judged(trusted: &[&str], shown: &str, name: &str, now: u64) -> String {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let trusted = trusted.iter().map(|pem| certificate(pem)).collect();
        let verifier = Verifier::new(trusted, &provider).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        match verifier.verify_server_cert(&certificate(shown), &[], &name, &[], now) {
            Ok(_) => "believed".to_owned(),
            Err(Error::InvalidCertificate(error)) => format!("{error:?}").split([' ', '{']).next().unwrap().to_owned(),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn a_certificate_that_is_trusted_itself_is_believed_in_its_time_and_under_its_name() {
        for (trusted, shown, name, now, expected) in [
            (SELF, SELF, "localhost", NOW, "believed"),
            (SELF, SELF, "127.0.0.1", NOW, "believed"),
            (SELF, SELF, "example.com", NOW, "NotValidForNameContext"),
            (SELF, SELF, "localhost", 4_999_999_999, "ExpiredContext"),
            (SELF, SELF, "localhost", 1_000_000_000, "NotValidYetContext"),
            (LEAF, LEAF, "localhost", NOW, "believed"),
            (LEAF, LEAF, "example.com", NOW, "NotValidForNameContext"),
            (LEAF, LEAF, "localhost", 4_999_999_999, "ExpiredContext"),
            (LEAF, SELF, "localhost", NOW, "UnknownIssuer"),
            (SELF, LEAF, "localhost", NOW, "UnknownIssuer"),
        ] {
            assert_eq!(judged(&[trusted], shown, name, now), expected, "{name} {now}");
        }
    }
}
