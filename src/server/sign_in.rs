//! Settings about signing in through other servers, named as Concourse's.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::base::trust::{OF_HOST, Remedies};
use crate::login::{Connector, GitHub, GitHubSettings, OpenId, OpenIdSettings, Outgoing};

/// Google's issuer.
const GOOGLE: &str = "https://accounts.google.com";

/// Flags about signing in through other servers.
#[derive(Debug, Clone, Default, Args)]
pub struct SignInFlags {
    /// Client id of an OAuth app of GitHub; its callback is EXTERNAL_URL/sky/issuer/callback
    #[arg(long, value_name = "ID")]
    pub github_client_id: Option<String>,
    /// Client secret of the OAuth app
    #[arg(long, value_name = "SECRET")]
    pub github_client_secret: Option<Secret<String>>,
    /// A GitHub Enterprise host, without scheme [default: github.com]
    #[arg(long, value_name = "HOST")]
    pub github_host: Option<String>,
    /// File with the PEM authority of the Enterprise host
    #[arg(long, value_name = "FILE")]
    pub github_ca_cert: Option<PathBuf>,
    /// Client id of Google; its redirect URI is EXTERNAL_URL/sky/issuer/callback
    #[arg(long, value_name = "ID")]
    pub google_client_id: Option<String>,
    /// Client secret of Google
    #[arg(long, value_name = "SECRET")]
    pub google_client_secret: Option<Secret<String>>,
    /// Only accounts of this Google Workspace domain may sign in
    #[arg(long, value_name = "DOMAIN")]
    pub google_hosted_domain: Option<String>,
    /// What the OpenID provider is called on the sign-in page
    #[arg(long, value_name = "NAME", default_value = "OIDC")]
    pub oidc_display_name: String,
    /// Issuer of an OpenID provider, where it is discovered; its redirect URI is EXTERNAL_URL/sky/issuer/callback
    #[arg(long, value_name = "URL")]
    pub oidc_issuer: Option<String>,
    /// Client id of the OpenID provider
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// Client secret of the OpenID provider
    #[arg(long, value_name = "SECRET")]
    pub oidc_client_secret: Option<Secret<String>>,
    /// What to ask for beside openid; may be repeated [default: profile, email]
    #[arg(long, value_name = "SCOPE")]
    pub oidc_scope: Vec<String>,
    /// The claim that lists groups
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    pub oidc_groups_key: String,
    /// A claim that teams may name users by, beside the subject and the verified address
    #[arg(long, value_name = "CLAIM")]
    pub oidc_user_name_key: Option<String>,
    /// File with PEM authorities of the OpenID provider; may be repeated
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_cert: Vec<PathBuf>,
    /// Do not check the OpenID provider's certificate
    #[arg(long)]
    pub oidc_skip_ssl_validation: bool,
    /// Take no groups from the OpenID provider
    #[arg(long)]
    pub oidc_disable_groups: bool,
    /// Take addresses for verified where the OpenID provider does not say whether they are
    #[arg(long)]
    pub oidc_skip_email_verified_validation: bool,
    /// Read the ID token only, not the user info endpoint
    #[arg(long)]
    pub oidc_disable_get_user_info: bool,
}

impl SignInFlags {
    /// Each way that is fully described.
    pub fn connectors(&self, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<Connector>> {
        let mut connectors = Vec::new();
        if let Some((id, secret)) = pair("github", &self.github_client_id, &self.github_client_secret)? {
            let authority: Vec<PathBuf> = self.github_ca_cert.iter().cloned().collect();
            let remedies = Remedies { authority: "--github-ca-cert", unchecked: None };
            let outgoing = Outgoing::new(&authority, false, remedies).context("--github-ca-cert")?;
            let settings = GitHubSettings { client_id: id, client_secret: secret, host: self.github_host.clone() };
            connectors.push(Connector::GitHub(GitHub::new(settings, outgoing)?));
        }
        if let Some((id, secret)) = pair("google", &self.google_client_id, &self.google_client_secret)? {
            let provider = OpenId::new(self.google(id, secret), Outgoing::new(&[], false, OF_HOST)?, clock.clone())?;
            connectors.push(Connector::OpenId(Box::new(provider)));
        }
        if let Some((id, secret)) = pair("oidc", &self.oidc_client_id, &self.oidc_client_secret)? {
            let issuer = self.oidc_issuer.clone().context("--oidc-client-id needs --oidc-issuer")?;
            let remedies = Remedies { authority: "--oidc-ca-cert", unchecked: Some("--oidc-skip-ssl-validation") };
            let outgoing = Outgoing::new(&self.oidc_ca_cert, self.oidc_skip_ssl_validation, remedies);
            let outgoing = outgoing.context("--oidc-ca-cert")?;
            let provider = OpenId::new(self.oidc(issuer, id, secret), outgoing, clock.clone());
            let provider = provider.context("--oidc-issuer or --oidc-user-name-key")?;
            connectors.push(Connector::OpenId(Box::new(provider)));
        }
        anyhow::ensure!(
            self.oidc_issuer.is_none() || self.oidc_client_id.is_some(),
            "--oidc-issuer needs --oidc-client-id and --oidc-client-secret"
        );
        Ok(connectors)
    }

    fn google(&self, client_id: String, client_secret: Secret<String>) -> OpenIdSettings {
        OpenIdSettings {
            id: "google".to_owned(),
            label: "Google".to_owned(),
            issuer: GOOGLE.to_owned(),
            client_id,
            client_secret,
            scopes: vec!["profile".to_owned(), "email".to_owned()],
            groups_key: None,
            user_key: None,
            trust_addresses: false,
            ask_user_info: false,
            domain: self.google_hosted_domain.clone(),
        }
    }

    fn oidc(&self, issuer: String, client_id: String, client_secret: Secret<String>) -> OpenIdSettings {
        let scopes = if self.oidc_scope.is_empty() {
            vec!["profile".to_owned(), "email".to_owned()]
        } else {
            self.oidc_scope.clone()
        };
        OpenIdSettings {
            id: "oidc".to_owned(),
            label: self.oidc_display_name.clone(),
            issuer,
            client_id,
            client_secret,
            scopes,
            groups_key: (!self.oidc_disable_groups).then(|| self.oidc_groups_key.clone()),
            user_key: self.oidc_user_name_key.clone(),
            trust_addresses: self.oidc_skip_email_verified_validation,
            ask_user_info: !self.oidc_disable_get_user_info,
            domain: None,
        }
    }
}

/// Id and secret, both or none.
fn pair(
    name: &str,
    id: &Option<String>,
    secret: &Option<Secret<String>>,
) -> anyhow::Result<Option<(String, Secret<String>)>> {
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some((id.clone(), secret.clone()))),
        (None, None) => Ok(None),
        _ => anyhow::bail!("--{name}-client-id and --{name}-client-secret go together; give both"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::System;

    fn ids(flags: &SignInFlags) -> Result<Vec<String>, String> {
        let clock: Arc<dyn Clock> = Arc::new(System);
        let connectors = flags.connectors(&clock).map_err(|e| format!("{e:#}"))?;
        Ok(connectors.iter().map(|c| c.id().to_owned()).collect())
    }

    #[test]
    fn several_ways_can_be_open_and_half_of_one_is_refused() {
        let secret = || Some(Secret::new("s".to_owned()));
        let mut flags = SignInFlags::default();
        assert_eq!(ids(&flags), Ok(Vec::new()));
        flags.github_client_id = Some("g".into());
        assert!(ids(&flags).unwrap_err().contains("--github-client-secret"));
        flags.github_client_secret = secret();
        (flags.google_client_id, flags.google_client_secret) = (Some("x".into()), secret());
        (flags.oidc_client_id, flags.oidc_client_secret) = (Some("o".into()), secret());
        assert!(ids(&flags).unwrap_err().contains("--oidc-issuer"));
        flags.oidc_issuer = Some("https://id.example.com".into());
        assert_eq!(ids(&flags).unwrap(), ["github", "google", "oidc"]);
        flags.oidc_user_name_key = Some("name".into());
        assert!(ids(&flags).unwrap_err().contains("choose the claim"));
    }
}
