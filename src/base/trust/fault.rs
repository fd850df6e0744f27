//! Why a server was not believed, in Go's words, and what to do about it.

use std::error::Error as StdError;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, InvalidMessage};

/// How whoever uses a client makes it believe a server.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// Where authorities are named.
    pub authority: &'static str,
    /// What switches the check off, if anything does.
    pub unchecked: Option<&'static str>,
}

/// Where nothing is set for a server in particular.
pub const OF_HOST: Remedies = Remedies { authority: "SSL_CERT_FILE in the environment", unchecked: None };

/// What TLS did not like, if it was TLS that failed.
pub fn fault(error: &(dyn StdError + 'static), remedies: &Remedies) -> Option<String> {
    match tls(error)? {
        Error::InvalidCertificate(error) => {
            Some(format!("tls: failed to verify certificate: {}", of_certificate(error, remedies)))
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(
            "http: server gave HTTP response to HTTPS client; if it speaks no TLS, its address is http://…".to_owned(),
        ),
        _ => None,
    }
}

/// An error of TLS somewhere in a chain; those of IO hide theirs.
fn tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| carried.and_then(|carried| carried.downcast_ref()));
        if found.is_some() {
            return found;
        }
        at = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn of_certificate(error: &CertificateError, remedies: &Remedies) -> String {
    let Remedies { authority, unchecked } = remedies;
    let or_unchecked = unchecked.map(|flag| format!(", or give up the check with {flag}")).unwrap_or_default();
    match error {
        CertificateError::UnknownIssuer => format!(
            "x509: certificate signed by unknown authority; name the PEM file of who signed it (the server's own \
             certificate, if nobody else did) with {authority}{or_unchecked}"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let wanted = expected.to_str();
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let says = match names.as_slice() {
                [] => format!("is not valid for any names, but wanted to match {wanted}"),
                names => format!("is valid for {}, not {wanted}", names.join(", ")),
            };
            format!(
                "x509: certificate {says}; use an address with one of its names, have a certificate made for this one \
                 (subjectAltName){or_unchecked}"
            )
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "x509: certificate has expired or is not yet valid: current time {} is after {}; have it renewed, set this \
             machine's clock right{or_unchecked}",
            stamp(*time),
            stamp(*not_after)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "x509: certificate has expired or is not yet valid: current time {} is before {}; wait, set this machine's \
             clock right{or_unchecked}",
            stamp(*time),
            stamp(*not_before)
        ),
        other => format!("{other}; have another one made{or_unchecked}"),
    }
}

/// `localhost` of `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    inner.trim_matches('"')
}

fn stamp(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}
