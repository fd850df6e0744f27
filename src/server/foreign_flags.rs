//! Flags of Concourse's `web`, `worker` and `quickstart` that mean nothing here, are not offered, or are called otherwise:
//! whoever brings their settings along is told what becomes of each.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// What becomes of a flag of Concourse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is ours under this name.
    Called(&'static str),
    /// What it sets does not exist here, or needs no setting.
    NoEffect,
    /// What it asks for is not done here; why, and what to do instead.
    Refused(&'static str),
}

use Fate::{Called, NoEffect, Refused};

const SIGN_IN: &str = "sign in through OpenID (--oidc-…), which Dex and others offer for it, GitHub or Google";
const SECRETS: &str = "secrets come from this server's own store, SSM (--aws-ssm-…) or Vault (--vault-…)";
const METRICS: &str = "metrics are read by Prometheus (--prometheus-bind-port)";
const KEYS: &str = "secrets are sealed with a key made at the first start, or with --secrets-key";
const OPA: &str = "no policy agent is asked; say who may do what with --config-rbac";
const SYSLOG: &str = "build logs are not sent on; they stay in the state directory, and clients follow them";
const TRACES: &str = "no traces are sent; metrics say how long builds, steps and requests take";
const ACME: &str = "certificates are files (--tls-cert, --tls-key), read again when an ACME client renews them";
const MUTUAL: &str = "clients' certificates are not asked for; let a proxy in front do that (--trusted-proxy)";
const CONTAINERS: &str =
    "containers are of our own making or Docker's; `whistlestop doctor` says which walls they have";
const VAULT: &str = "Vault is believed by --vault-ca-cert and asked with --vault-client-token or --vault-auth-backend";

/// Names as on the command line; one that ends in `*` is for all that begin so, unless they are listed before it.
#[rustfmt::skip]
const FLAGS: &[(&str, Fate)] = &[
    // Called otherwise here.
    ("name", Called("worker-name")),
    ("worker-tag", Called("tag")), ("worker-runtime", Called("runtime")),
    ("worker-resource-types", Called("resource-types")), ("worker-http-proxy", Called("http-proxy")),
    ("worker-https-proxy", Called("https-proxy")), ("worker-no-proxy", Called("no-proxy")),
    ("worker-log-level", NoEffect), ("worker-bind-*", NoEffect),
    ("containerd-dns-server", Called("dns-server")),
    ("containerd-restricted-network", Called("deny-networks")),
    ("containerd-network-pool", Called("network-pool")),
    ("containerd-privileged-mode", Called("privileged-mode")),
    ("containerd-allow-host-access", Called("allow-host-access")),
    // Its values are an address and names with spaces between.
    ("containerd-additional-hosts", Called("extra-host")),
    ("garden-dns-server", Called("dns-server")),
    ("garden-deny-network", Called("deny-networks")),
    ("garden-network-pool", Called("network-pool")),
    ("garden-allow-host-access", Called("allow-host-access")),
    // Containers.
    ("containerd-seccomp-profile", Refused(CONTAINERS)),
    ("containerd-oci-hooks-dir", Refused(CONTAINERS)),
    ("containerd-allowed-device", Refused(CONTAINERS)),
    ("containerd-v6-*", Refused("steps have IPv4 in a network of their own; --step-network host gives them the host's")),
    ("containerd-*", NoEffect),
    ("garden-*", NoEffect),
    ("baggageclaim-*", NoEffect),
    ("external-garden-url", Refused(CONTAINERS)),
    ("certs-dir", Refused("authorities for built-in resource types are those of the host or of SSL_CERT_FILE; images bring theirs")),
    ("team", Refused("the worker in this process serves all teams; keep teams apart with --tag")),
    // Workers are this process.
    ("tsa-*", NoEffect), ("healthcheck-*", NoEffect), ("work-dir", NoEffect), ("ephemeral", NoEffect),
    ("version", NoEffect), ("sweep-interval", NoEffect), ("volume-sweeper-max-in-flight", NoEffect),
    ("container-sweeper-max-in-flight", NoEffect), ("rebalance-interval", NoEffect),
    ("connection-drain-timeout", NoEffect), ("peer-address", NoEffect), ("enable-rerun-when-worker-disappears", NoEffect),
    ("enable-p2p-volume-streaming", NoEffect), ("p2p-volume-streaming-timeout", NoEffect),
    ("enable-cache-streamed-volumes", NoEffect), ("streaming-artifacts-compression", NoEffect),
    ("streaming-size-limitation", NoEffect), ("container-placement-strategy", NoEffect),
    ("no-input-container-placement-strategy", NoEffect), ("check-container-placement-strategy", NoEffect),
    ("max-active-containers-per-worker", Refused("containers are not counted; bound them with serial groups and --max-active-tasks-per-worker")),
    ("max-active-volumes-per-worker", Refused("volumes are not counted; bound caches with --max-cache-size and builds with --low-disk-watermark")),
    // The database is a file in the state directory, and passes wake each other.
    ("postgres-*", NoEffect), ("db-notification-bus-queue-size", NoEffect), ("api-max-conns", NoEffect),
    ("backend-max-conns", NoEffect), ("log-db-queries", NoEffect), ("log-cluster-name", NoEffect),
    ("component-runner-interval", NoEffect), ("lidar-scanner-interval", NoEffect), ("build-tracker-interval", NoEffect),
    ("pipeline-pauser-interval", NoEffect), ("job-scheduling-max-in-flight", NoEffect), ("gc-interval", NoEffect),
    ("gc-missing-grace-period", NoEffect), ("gc-check-recycle-period", NoEffect),
    ("gc-var-source-recycle-period", NoEffect), ("num-goroutine-threshold", NoEffect),
    ("garden-request-timeout", NoEffect), ("signing-key-*", NoEffect), ("debug-bind-*", NoEffect),
    ("telemetry-opt-in", NoEffect), ("secret-cache-purge-interval", NoEffect),
    // Always so.
    ("enable-redact-secrets", NoEffect), ("enable-across-step", NoEffect), ("enable-pipeline-instances", NoEffect),
    ("enable-resource-causality", NoEffect),
    ("disable-redact-secrets", Refused("secrets are taken out of every log")),
    // The front door.
    ("session-signing-key", NoEffect), ("client-id", NoEffect), ("client-secret", NoEffect), ("system-claim-*", NoEffect),
    ("password-connector", Refused("fly signs in with the password of a local user (--add-local-user), or in the browser")),
    ("add-client", Refused("programs sign in with service accounts (`fly create-service-account`)")),
    ("display-user-id-per-connector", Refused("users are shown by the name their provider gives; choose it with --oidc-user-name-key")),
    ("tls-ca-cert", Refused(MUTUAL)),
    ("enable-lets-encrypt", Refused(ACME)), ("lets-encrypt-*", Refused(ACME)),
    ("concurrent-request-limit", Refused("requests are not counted; limit them in a proxy in front (--trusted-proxy)")),
    ("content-security-policy", Refused("pages have a policy of their own, which allows no inline script and no frame")),
    ("web-public-dir", Refused("pages are part of this program")),
    ("opa-*", Refused(OPA)), ("policy-check-*", Refused(OPA)),
    // Who signs in.
    ("bitbucket-cloud-*", Refused(SIGN_IN)), ("cf-*", Refused(SIGN_IN)), ("gitlab-*", Refused(SIGN_IN)),
    ("gitea-*", Refused(SIGN_IN)), ("ldap-*", Refused(SIGN_IN)), ("microsoft-*", Refused(SIGN_IN)),
    ("oauth-*", Refused(SIGN_IN)), ("saml-*", Refused(SIGN_IN)),
    ("main-team-bitbucket-cloud-*", Refused(SIGN_IN)), ("main-team-cf-*", Refused(SIGN_IN)),
    ("main-team-gitlab-*", Refused(SIGN_IN)), ("main-team-gitea-*", Refused(SIGN_IN)),
    ("main-team-ldap-*", Refused(SIGN_IN)), ("main-team-microsoft-*", Refused(SIGN_IN)),
    ("main-team-oauth-*", Refused(SIGN_IN)), ("main-team-saml-*", Refused(SIGN_IN)),
    // Secrets.
    ("encryption-key*", Refused(KEYS)), ("old-encryption-key*", Refused(KEYS)),
    ("aws-secretsmanager-*", Refused(SECRETS)), ("conjur-*", Refused(SECRETS)), ("credhub-*", Refused(SECRETS)),
    ("kubernetes-*", Refused(SECRETS)), ("dummy-creds-var", Refused(SECRETS)),
    ("vault-ca-path", Refused(VAULT)), ("vault-client-cert", Refused(VAULT)), ("vault-client-key", Refused(VAULT)),
    ("vault-server-name", Refused(VAULT)), ("vault-*", NoEffect),
    // What is told to whom.
    ("syslog-*", Refused(SYSLOG)), ("tracing-*", Refused(TRACES)), ("datadog-*", Refused(METRICS)),
    ("influxdb-*", Refused(METRICS)), ("newrelic-*", Refused(METRICS)), ("emit-to-logs", Refused(METRICS)),
    ("metrics-host-name", NoEffect), ("metrics-buffer-size", NoEffect), ("capture-error-metrics", NoEffect),
];

/// Those without effect that take no value.
const SWITCHES: &[&str] = &[
    "ephemeral",
    "enable-rerun-when-worker-disappears",
    "enable-p2p-volume-streaming",
    "enable-cache-streamed-volumes",
    "log-db-queries",
    "log-cluster-name",
    "telemetry-opt-in",
    "enable-redact-secrets",
    "enable-across-step",
    "enable-pipeline-instances",
    "enable-resource-causality",
    "capture-error-metrics",
    "baggageclaim-disable-user-namespaces",
    "containerd-dns-proxy-enable",
    "garden-dns-proxy-enable",
    "tsa-log-cluster-name",
    "vault-disable-srv-lookup",
    "vault-enable-kv-mount-cache",
];

/// What becomes of a flag of this name that is not ours; `None` if Concourse does not have it either.
pub fn fate(name: &str) -> Option<Fate> {
    let listed = |name: &str| {
        let fits = |known: &str| known.strip_suffix('*').map_or(known == name, |start| name.starts_with(start));
        FLAGS.iter().find(|(known, _)| fits(known)).map(|(_, fate)| *fate)
    };
    // Concourse's quickstart has the worker's flags with a word before them.
    listed(name).or_else(|| name.strip_prefix("worker-").and_then(listed))
}

/// What Concourse calls a flag of ours.
pub fn also_called(ours: &str) -> impl Iterator<Item = String> + use<> {
    let is_it = |fate: &Fate| matches!(fate, Called(name) if *name == ours);
    let names: Vec<&str> = FLAGS.iter().filter(|(_, fate)| is_it(fate)).map(|(name, _)| *name).collect();
    names.into_iter().flat_map(|name| [name.to_owned(), format!("worker-{name}")])
}

/// A command line without what has no effect here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// The words that are left, under our names.
    pub args: Vec<OsString>,
    /// The flags that were left out.
    pub dropped: Vec<String>,
}

/// Translates the words after a command that starts a server. The error names a flag that asks for what is not done here.
pub fn translate(args: &[OsString], own: impl Fn(&str) -> bool) -> Result<Translated, String> {
    let mut to = Translated::default();
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let flag = arg.to_str().and_then(|text| text.strip_prefix("--"));
        let (name, value) = match flag.map(|flag| flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)))) {
            Some(("", None)) => {
                to.args.push(arg.clone());
                to.args.extend(rest.cloned());
                break;
            }
            Some((name, value)) if !own(name) => (name, value),
            _ => {
                to.args.push(arg.clone());
                continue;
            }
        };
        match fate(name) {
            None => to.args.push(arg.clone()),
            Some(Called(ours)) => {
                to.args.push(value.map_or_else(|| format!("--{ours}"), |value| format!("--{ours}={value}")).into());
            }
            Some(Refused(why)) => return Err(format!("--{name} is not supported: {why}")),
            Some(NoEffect) => {
                let bare = name.strip_prefix("worker-").unwrap_or(name);
                if value.is_none() && !SWITCHES.contains(&bare) {
                    rest.next_if(|word| !word.as_encoded_bytes().starts_with(b"--"));
                }
                to.dropped.push(format!("--{name}"));
            }
        }
    }
    Ok(to)
}

/// The variables of Concourse's that are set and have no effect, with why where that is not plain; one line.
pub fn notice(
    dropped: &[String],
    variables: impl Iterator<Item = String>,
    own: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut without: Vec<String> = dropped.to_vec();
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for variable in variables {
        let Some(name) = variable.strip_prefix("CONCOURSE_").map(|name| name.to_lowercase().replace('_', "-")) else {
            continue;
        };
        if own(&name) {
            continue;
        }
        match fate(&name) {
            Some(Called(_)) => {}
            Some(Refused(why)) => refused.entry(why).or_default().push(variable),
            Some(NoEffect) | None => without.push(variable),
        }
    }
    let refused = refused.into_iter().map(|(why, names)| format!("not supported: {} ({why})", names.join(", ")));
    let without = (!without.is_empty()).then(|| format!("without effect here: {}", without.join(", ")));
    let lines: Vec<String> = without.into_iter().chain(refused).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::is_own;

    fn translated(args: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let args: Vec<OsString> = args.iter().map(Into::into).collect();
        let to = translate(&args, is_own)?;
        Ok((to.args.into_iter().map(|arg| arg.into_string().unwrap()).collect(), to.dropped))
    }

    #[test]
    fn a_command_line_of_concourse_s_becomes_ours() {
        for (given, args, dropped) in [
            (&["--bind-port", "1", "--cluster-name=x"][..], "--bind-port 1 --cluster-name=x", ""),
            (&["--postgres-host", "db", "--bind-port=1"], "--bind-port=1", "--postgres-host"),
            (&["--enable-across-step", "--bind-port=1"], "--bind-port=1", "--enable-across-step"),
            (&["--worker-ephemeral", "--tsa-log-cluster-name"], "", "--worker-ephemeral --tsa-log-cluster-name"),
            (&["--containerd-dns-server", "1.1.1.1"], "--dns-server 1.1.1.1", ""),
            (&["--worker-containerd-restricted-network=10.0.0.0/8"], "--deny-networks=10.0.0.0/8", ""),
            (&["--worker-name", "w", "--worker-work-dir", "/w"], "--worker-name w", "--worker-work-dir"),
            (&["--worker-tag=a", "--worker-bind-ip=0.0.0.0"], "--tag=a", "--worker-bind-ip"),
            (&["--no-such-flag", "x"], "--no-such-flag x", ""),
            (&["--", "--postgres-host"], "-- --postgres-host", ""),
        ] {
            let (got, left_out) = translated(given).unwrap();
            assert_eq!((got.join(" "), left_out.join(" ")), (args.to_owned(), dropped.to_owned()), "{given:?}");
        }
        let refused = translated(&["--main-team-ldap-user", "ann"]).unwrap_err();
        assert!(refused.starts_with("--main-team-ldap-user is not supported: ") && refused.contains("--oidc-"));
    }

    #[test]
    fn no_flag_of_ours_is_foreign_and_each_translation_is_ours() {
        for (name, fate) in FLAGS {
            let ours = is_own(name) && *name != "worker-name";
            assert!(!ours, "{name} is our flag");
            if let Called(ours) = fate {
                assert!(is_own(ours), "{name} is not called {ours}");
            }
        }
    }

    #[test]
    fn variables_without_effect_are_named_once() {
        let set = ["CONCOURSE_BIND_PORT", "CONCOURSE_POSTGRES_HOST", "CONCOURSE_LDAP_HOST", "CONCOURSE_LDAP_BIND_DN"];
        let more =
            ["CONCOURSE_CONTAINERD_DNS_SERVER", "CONCOURSE_WORKER_CONTAINERD_NETWORK_POOL", "PATH", "CONCOURSE_X"];
        let told = notice(&[], set.iter().chain(&more).map(|name| (*name).to_owned()), is_own).unwrap();
        let expected = format!(
            "without effect here: CONCOURSE_POSTGRES_HOST, CONCOURSE_X; not supported: CONCOURSE_LDAP_HOST, \
             CONCOURSE_LDAP_BIND_DN ({SIGN_IN})"
        );
        assert_eq!(told, expected);
        assert_eq!(notice(&[], std::iter::empty(), is_own), None);
    }
}
