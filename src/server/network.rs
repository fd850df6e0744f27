//! Settings about networks: the encrypted port, proxies, who may call.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use crate::front::origin::network;
use crate::front::{Frames, Networks};

/// What browsers are told when the external URL is https.
const HSTS: &str = "max-age=31536000";

/// Flags about networks.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkFlags {
    /// Port for HTTPS; the other port then only leads there
    #[arg(long, value_name = "PORT")]
    pub tls_bind_port: Option<u16>,
    /// File with the PEM certificate and its chain; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File with the PEM key of the certificate; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Value of the Strict-Transport-Security header, '' for none [default: max-age=31536000 if the external URL is https]
    #[arg(long, value_name = "VALUE")]
    pub strict_transport_security: Option<String>,
    /// Whether other sites may show pages in a frame: deny, sameorigin, or '' for all (content-security-policy says the same)
    #[arg(long, value_name = "VALUE", default_value = "deny", value_parser = frames)]
    pub x_frame_options: Frames,
    /// End a session of `fly hijack` when nothing was typed for so long; 0 for never
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::base::duration::parse)]
    pub intercept_idle_timeout: std::time::Duration,
    /// A proxy, or network of proxies, whose X-Forwarded-For and X-Forwarded-Proto are believed; may be repeated
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,
    /// Only clients of this network may use the server; may be repeated
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub allow_network: Vec<IpNet>,
}

fn frames(word: &str) -> Result<Frames, String> {
    match word.to_lowercase().as_str() {
        "deny" => Ok(Frames::None),
        "sameorigin" => Ok(Frames::Own),
        "" => Ok(Frames::All),
        _ => Err(format!("'{word}' is neither deny nor sameorigin nor empty, which is all that browsers know")),
    }
}

impl NetworkFlags {
    /// Port, certificate and key of the encrypted listener, if there is one.
    pub fn tls(&self, external_url: Option<&str>) -> anyhow::Result<Option<(u16, PathBuf, PathBuf)>> {
        let (Some(port), Some(certificate), Some(key)) = (self.tls_bind_port, &self.tls_cert, &self.tls_key) else {
            let any = self.tls_bind_port.is_some() || self.tls_cert.is_some() || self.tls_key.is_some();
            anyhow::ensure!(!any, "--tls-bind-port, --tls-cert and --tls-key go together; give all three");
            return Ok(None);
        };
        anyhow::ensure!(
            external_url.is_none_or(|url| url.starts_with("https://")),
            "with --tls-bind-port the external URL must be https; change --external-url"
        );
        Ok(Some((port, certificate.clone(), key.clone())))
    }

    /// What the front door needs to know.
    pub fn networks(&self) -> Networks {
        let own_tls = self.tls_bind_port.is_some();
        Networks { proxies: self.trusted_proxy.clone(), allowed: self.allow_network.clone(), own_tls }
    }

    /// What browsers are told about never coming without TLS again.
    pub fn hsts(&self, external_url: &str) -> Option<String> {
        let own = external_url.starts_with("https://").then(|| HSTS.to_owned());
        self.strict_transport_security.clone().or(own).filter(|v| !v.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_needs_all_three_flags_and_an_https_address() {
        let none = NetworkFlags::default();
        assert_eq!(none.tls(Some("http://x")).unwrap(), None);
        let port = NetworkFlags { tls_bind_port: Some(1), ..none };
        assert!(port.tls(None).unwrap_err().to_string().contains("go together"));
        let all = NetworkFlags { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..port };
        assert_eq!(all.tls(None).unwrap(), Some((1, "c".into(), "k".into())));
        assert!(all.tls(Some("http://x")).is_err());
    }

    #[test]
    fn hsts_is_for_https_and_can_be_changed_or_left_out() {
        let with = |value: Option<&str>| NetworkFlags {
            strict_transport_security: value.map(str::to_owned),
            ..NetworkFlags::default()
        };
        assert_eq!(with(None).hsts("http://x"), None);
        assert_eq!(with(None).hsts("https://x").as_deref(), Some(HSTS));
        assert_eq!(with(Some("")).hsts("https://x"), None);
        assert_eq!(with(Some("max-age=5")).hsts("https://x").as_deref(), Some("max-age=5"));
    }
}
