//! Where secrets come from, as the operator sets it: flags named as Concourse's, and the sources made of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::base::clock::Clock;
use crate::base::outgoing::Outgoing;
use crate::base::secret::Secret;
use crate::secrets::env::{self, Environment, Files};
use crate::secrets::idtoken::Issuer;
use crate::secrets::local::{self, Local};
use crate::secrets::platform::{self, Platform};
use crate::secrets::ssm::{self, Ssm};
use crate::secrets::vault::{self, Vault};
use crate::secrets::{CacheSettings, Cached, Keyring, Lent, Manager, Parts, Pool, Retry, Secrets, Source, Template};
use crate::secrets::{PIPELINE_TEMPLATE, TEAM_TEMPLATE};
use crate::store::Store;

/// See the module's doc.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Secrets")]
pub struct SecretsFlags {
    /// Read secrets from AWS SSM Parameter Store of this region
    #[arg(long, value_name = "REGION")]
    pub aws_ssm_region: Option<String>,
    /// Access key for SSM [default: as the AWS tools find it: environment, profile, web identity, container, instance]
    #[arg(long, value_name = "ID")]
    pub aws_ssm_access_key: Option<String>,
    /// Secret key that belongs to the access key
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub aws_ssm_secret_key: Option<Secret<String>>,
    /// Session token that belongs to the keys
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    pub aws_ssm_session_token: Option<Secret<String>>,
    /// Where SSM is reached, instead of AWS's own address
    #[arg(long, value_name = "URL")]
    pub aws_ssm_endpoint: Option<String>,
    /// Path of a pipeline's parameter
    #[arg(long, value_name = "TEMPLATE", default_value = PIPELINE_TEMPLATE)]
    pub aws_ssm_pipeline_secret_template: String,
    /// Path of a team's parameter
    #[arg(long, value_name = "TEMPLATE", default_value = TEAM_TEMPLATE)]
    pub aws_ssm_team_secret_template: String,
    /// Path of parameters that all teams see
    #[arg(long, value_name = "PATH")]
    pub aws_ssm_shared_path: Option<String>,
    /// KMS key for parameters that are written from here; may have {{.Team}} in it [default: the account's own for SSM]
    #[arg(long, value_name = "KEY")]
    pub aws_ssm_kms_key: Option<String>,
    /// ARN of a team's role, with {{.Team}} in it: its short-lived keys are ((readonly_access_key_id)) and so on
    #[arg(long, value_name = "ARN")]
    pub aws_team_role: Option<String>,
    /// Read secrets from Vault at this address
    #[arg(long, value_name = "URL")]
    pub vault_url: Option<String>,
    /// What stands before every path in Vault
    #[arg(long, value_name = "PATH", default_value = "/concourse")]
    pub vault_path_prefix: String,
    /// Paths below it; may be repeated [default: /{{.Team}}/{{.Pipeline}}/{{.Secret}} and /{{.Team}}/{{.Secret}}]
    #[arg(long, value_name = "TEMPLATE")]
    pub vault_lookup_templates: Vec<String>,
    /// Path below it whose secrets all teams see
    #[arg(long, value_name = "PATH")]
    pub vault_shared_path: Option<String>,
    /// Vault's namespace
    #[arg(long, value_name = "NAME")]
    pub vault_namespace: Option<String>,
    /// Certificates by which Vault is believed, PEM
    #[arg(long, value_name = "FILE")]
    pub vault_ca_cert: Option<PathBuf>,
    /// Believe any certificate of Vault
    #[arg(long)]
    pub vault_insecure_skip_verify: bool,
    /// Token for Vault
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    pub vault_client_token: Option<Secret<String>>,
    /// File with a token for Vault
    #[arg(long, value_name = "FILE")]
    pub vault_client_token_path: Option<PathBuf>,
    /// How to log in to Vault, such as approle
    #[arg(long, value_name = "BACKEND")]
    pub vault_auth_backend: Option<String>,
    /// What the login needs, such as role_id:… and secret_id:…; may be repeated
    #[arg(long, value_name = "NAME:VALUE", hide_env_values = true)]
    pub vault_auth_param: Vec<Secret<String>>,
    /// Read secrets from files TEAM/PIPELINE/NAME and TEAM/NAME of this directory, before other sources
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Read secrets from environment variables whose names begin so, before other sources
    #[arg(long, value_name = "PREFIX")]
    pub secrets_env_prefix: Option<String>,
    /// File with the key of the encrypted store, made at first start [default: secrets.key in the state directory]
    #[arg(long, value_name = "FILE")]
    pub secrets_key_file: Option<PathBuf>,
    /// The key itself, 32 bytes in base64; better given as WHISTLESTOP_SECRETS_KEY
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub secrets_key: Option<Secret<String>>,
    /// The key before it: everything is sealed anew at start
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    pub old_secrets_key: Option<Secret<String>>,
    /// Remember secrets for a while
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = truth)]
    pub secret_cache_enabled: bool,
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::base::duration::parse)]
    pub secret_cache_duration: Duration,
    /// For how long it is remembered that there is no such secret
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = crate::base::duration::parse)]
    pub secret_cache_duration_notfound: Duration,
    /// How often a source that is down is asked before a step errors
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub secret_retry_attempts: u32,
    /// Pause between two of these
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = crate::base::duration::parse)]
    pub secret_retry_interval: Duration,
    /// Issuer of the identity tokens of pipelines, where others find their keys [default: the external URL]
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// Let members read secrets back (`secrets get`); the encrypted store never gives one back
    #[arg(long)]
    pub allow_secrets_get: bool,
    /// YAML file of the platform's values: team (or '*') → readonly_… → value
    #[arg(long, value_name = "FILE")]
    pub platform_values: Option<PathBuf>,
    /// Address from which builds reach out, for ((readonly_egress_ips)); may be repeated
    #[arg(long, value_name = "IP")]
    pub egress_ip: Vec<String>,
}

fn truth(word: &str) -> Result<bool, &'static str> {
    super::config::truth(word).ok_or("write true or false")
}

impl SecretsFlags {
    /// Makes the sources. Nothing is asked yet. `tenants` is where requests may go that pipelines make us send.
    pub fn open(
        &self,
        state: &Path,
        (store, clock): (&Store, &Arc<dyn Clock>),
        url: &str,
        tenants: Outgoing,
    ) -> anyhow::Result<Secrets> {
        let keys = Arc::new(self.keyring(state)?);
        let local = Arc::new(Local::new(store.clone(), keys.clone(), clock.clone()));
        let retry = Retry { attempts: self.secret_retry_attempts.max(1), interval: self.secret_retry_interval };
        let cache = self.cache();
        let uncached = CacheSettings { found: Duration::ZERO, absent: Duration::ZERO };
        let manager = |source: Arc<dyn Source>, cache, templates: Vec<Template>| {
            Manager::new(Cached::new(source, clock.clone(), cache), templates, retry)
        };
        let aws = self.aws()?;
        let (global, team_template) = if let Some(settings) = &aws {
            let templates = parsed(&settings.templates)?;
            let team = templates.iter().find(|t| t.names_team() && !t.needs_pipeline()).cloned();
            (manager(Arc::new(Ssm::new(settings.clone())), cache, templates), team)
        } else if let Some(settings) = self.vault()? {
            let templates = settings.paths()?;
            let team = templates.iter().find(|t| t.names_team() && !t.needs_pipeline()).cloned();
            (manager(Arc::new(Vault::new(settings, clock.clone())), cache, templates), team)
        } else {
            let templates = parsed(&local::TEMPLATES)?;
            let team = templates.get(1).cloned();
            (manager(local.clone(), uncached, templates), team)
        };
        let mut nearer = Vec::new();
        if let Some(directory) = &self.secrets_dir {
            nearer.push(manager(Arc::new(Files::new(directory.clone())), uncached, parsed(&env::TEMPLATES)?));
        }
        if let Some(prefix) = &self.secrets_env_prefix {
            nearer.push(manager(Arc::new(Environment::new(prefix)), uncached, parsed(&env::TEMPLATES)?));
        }
        let settings = platform::Settings {
            values: self.platform_values()?,
            egress_ips: self.egress_ip.clone(),
            role: self.aws_team_role.clone(),
            aws: aws.clone().unwrap_or_default(),
        };
        Ok(Secrets::new(Parts {
            global,
            nearer,
            platform: Platform::new(settings, store.clone(), keys.clone(), clock.clone(), team_template),
            pool: Pool::new(Lent { ssm: aws, cache, retry, rules: tenants }, clock.clone()),
            issuer: {
                let issuer = self.oidc_issuer_url.as_deref().map_or(url, |url| url.trim_end_matches('/'));
                Issuer::new(store.clone(), keys.clone(), clock.clone(), issuer)
            },
            local,
            keys,
            store: store.clone(),
            clock: clock.clone(),
            readable: self.allow_secrets_get,
        }))
    }

    /// Flags of sources that know a team by its name: by the paths of its secrets, or by its role. The encrypted store
    /// is not one of them.
    pub fn named_teams(&self) -> Vec<&'static str> {
        let named = |text: &str| text.parse::<Template>().is_ok_and(|template| template.names_team());
        let ssm = [&self.aws_ssm_pipeline_secret_template, &self.aws_ssm_team_secret_template];
        [
            ("--aws-ssm-region", self.aws_ssm_region.is_some() && ssm.into_iter().any(|text| named(text))),
            ("--vault-url", self.vault_url.is_some()),
            ("--secrets-dir", self.secrets_dir.is_some()),
            ("--secrets-env-prefix", self.secrets_env_prefix.is_some()),
            ("--platform-values", self.platform_values.is_some()),
            ("--aws-team-role", self.aws_team_role.is_some()),
        ]
        .into_iter()
        .filter_map(|(flag, is_set)| is_set.then_some(flag))
        .collect()
    }

    fn keyring(&self, state: &Path) -> anyhow::Result<Keyring> {
        let old = self.old_secrets_key.as_ref().map(|k| k.expose().as_str());
        match &self.secrets_key {
            Some(key) => Ok(Keyring::given(key.expose(), old)?),
            None if old.is_some() => anyhow::bail!("--old-secrets-key needs the new key as --secrets-key"),
            None => {
                let file = self.secrets_key_file.clone().unwrap_or_else(|| state.join("secrets.key"));
                Ok(Keyring::open(&file)?)
            }
        }
    }

    fn cache(&self) -> CacheSettings {
        match self.secret_cache_enabled {
            true => CacheSettings { found: self.secret_cache_duration, absent: self.secret_cache_duration_notfound },
            false => CacheSettings { found: Duration::ZERO, absent: Duration::ZERO },
        }
    }

    fn aws(&self) -> anyhow::Result<Option<ssm::Settings>> {
        let Some(region) = &self.aws_ssm_region else { return Ok(None) };
        let keys = match (&self.aws_ssm_access_key, &self.aws_ssm_secret_key) {
            (Some(id), Some(key)) => Some((id.clone(), key.clone())),
            (None, None) => None,
            (None, _) => anyhow::bail!("must provide aws access key id: --aws-ssm-access-key"),
            (_, None) => anyhow::bail!("must provide aws secret access key: --aws-ssm-secret-key"),
        };
        let mut templates =
            vec![self.aws_ssm_pipeline_secret_template.clone(), self.aws_ssm_team_secret_template.clone()];
        if let Some(shared) = &self.aws_ssm_shared_path {
            templates.push(format!("{}/{{{{.Secret}}}}", shared.trim_end_matches('/')));
        }
        warn_of_shared(&parsed(&templates[..2])?);
        parsed(&templates)?;
        Ok(Some(ssm::Settings {
            region: region.clone(),
            keys,
            session_token: self.aws_ssm_session_token.clone(),
            endpoint: self.aws_ssm_endpoint.clone(),
            kms_key: self.aws_ssm_kms_key.clone(),
            templates,
            rules: None,
        }))
    }

    fn vault(&self) -> anyhow::Result<Option<vault::Settings>> {
        let Some(url) = &self.vault_url else { return Ok(None) };
        let auth = if let Some(token) = &self.vault_client_token {
            vault::Auth::Token(token.clone())
        } else if let Some(file) = &self.vault_client_token_path {
            vault::Auth::TokenFile(file.clone())
        } else if let Some(backend) = &self.vault_auth_backend {
            let mut params = HashMap::new();
            for pair in &self.vault_auth_param {
                let (name, value) =
                    pair.expose().split_once([':', '=']).context("--vault-auth-param must be NAME:VALUE")?;
                params.insert(name.to_owned(), Secret::new(value.to_owned()));
            }
            vault::Auth::Login { backend: backend.clone(), params }
        } else {
            anyhow::bail!("must configure client token or auth backend: --vault-client-token or --vault-auth-backend");
        };
        let read =
            |file: &PathBuf| std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
        let mut templates = self.vault_lookup_templates.clone();
        if templates.is_empty() {
            templates = vault::TEMPLATES.iter().map(|t| (*t).to_owned()).collect();
        }
        warn_of_shared(&parsed(&templates)?);
        Ok(Some(vault::Settings {
            url: url.clone(),
            prefix: self.vault_path_prefix.clone(),
            templates,
            shared_path: self.vault_shared_path.clone(),
            root_paths: false,
            namespace: self.vault_namespace.clone(),
            ca_cert: self.vault_ca_cert.as_ref().map(read).transpose()?,
            insecure: self.vault_insecure_skip_verify,
            auth,
            rules: Outgoing::anywhere(),
        }))
    }

    fn platform_values(&self) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
        let Some(file) = &self.platform_values else { return Ok(BTreeMap::new()) };
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let values: Option<BTreeMap<String, BTreeMap<String, String>>> = serde_yaml::from_str(&text)
            .with_context(|| format!("{} must map teams to names to values", file.display()))?;
        let values = values.unwrap_or_default();
        for name in values.values().flat_map(BTreeMap::keys) {
            anyhow::ensure!(
                crate::secrets::is_readonly(name),
                "{}: {name} is no platform value: names must begin with readonly_",
                file.display()
            );
        }
        Ok(values)
    }
}

/// Says which paths are no wall between teams, as far as the operator can have meant them to be one.
fn warn_of_shared(templates: &[Template]) {
    for template in templates.iter().filter(|t| !t.keeps_teams_apart()) {
        tracing::warn!(%template, "this path does not keep teams apart: they see secrets of each other; end the name with a slash");
    }
}

fn parsed(templates: &[impl AsRef<str>]) -> anyhow::Result<Vec<Template>> {
    Ok(templates.iter().map(|t| t.as_ref().parse()).collect::<Result<_, _>>()?)
}
