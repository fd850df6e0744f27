//! Where a source may lead git: each host that it names is looked at before git runs, by the rules that all requests
//! for tenants keep (`--deny-networks`).

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::address::{Address, Transport};
use super::settings::Setting;
use super::source::Source;
use crate::base::outgoing::Outgoing;
use crate::resource::Failure;

/// Variables that name a proxy for git and what it runs.
pub const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// A variable by the operator's flags, which the build brings, or by the server's own environment.
pub fn set(name: &str, build: &BTreeMap<String, String>) -> Option<OsString> {
    build.get(name).map(OsString::from).or_else(|| std::env::var_os(name))
}

/// Whether the operator has everything go by a proxy: that finds the hosts then, and must keep the rules itself.
pub fn has_proxy(build: &BTreeMap<String, String>) -> bool {
    PROXIES.iter().any(|name| set(name, build).is_some_and(|value| !value.is_empty()))
}

/// The hosts that go past the operator's proxy, without those that are denied.
pub fn direct(no_proxy: &str, rules: &Outgoing) -> String {
    let hosts = no_proxy.split([',', ' ']).map(str::trim).filter(|host| !host.is_empty());
    let allowed = hosts.filter(|host| match crate::base::network::read(host) {
        Some(network) => !rules.denied().iter().any(|d| d.contains(&network) || network.contains(d)),
        None => *host != "*" && rules.allows_host(host.trim_start_matches('.')).is_ok(),
    });
    allowed.collect::<Vec<_>>().join(",")
}

/// Refuses a source that leads to a denied host, and makes its own proxies addresses that are not looked up again.
pub fn checked(mut source: Source, rules: &Outgoing) -> Result<Source, Failure> {
    if rules.denied().is_empty() {
        return Ok(source);
    }
    host(&source.address, "source.uri", rules)?;
    if let Some(server) = source.signers.as_ref().and_then(|signers| signers.keyserver()) {
        allow(authority(server).map_or(server, bare), "source.gpg_keyserver", rules)?;
    }
    // A proxy of '' would go past the way out that keeps the rules.
    source.settings.retain(|setting| !(is_proxy(&setting.name) && setting.value.trim().is_empty()));
    for setting in &mut source.settings {
        let what = format!("source.git_config: {}", setting.name);
        if is_proxy(&setting.name) {
            setting.value = proxy(setting, &what, rules)?;
        } else if let Some(instead) = rewritten(&setting.name) {
            url(instead, &what, rules)?;
        }
    }
    Ok(source)
}

/// Looks at an address that is not the source's own, such as a submodule's. One that is no host's is left to git.
pub fn url(text: &str, what: &str, rules: &Outgoing) -> Result<(), Failure> {
    match Address::parse(text, true) {
        Ok(address) => host(&address, what, rules),
        Err(_) => Ok(()),
    }
}

fn host(address: &Address, what: &str, rules: &Outgoing) -> Result<(), Failure> {
    match &address.host {
        Some(authority) if address.transport != Transport::Local => allow(bare(authority), what, rules),
        _ => Ok(()),
    }
}

fn allow(host: &str, what: &str, rules: &Outgoing) -> Result<(), Failure> {
    rules.allows_host(host).map_err(|denied| Failure::Failed(format!("{what}: {denied}")))
}

fn is_proxy(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("http.") && name.ends_with(".proxy")
}

/// What addresses become by `url.<address>.insteadOf`.
fn rewritten(name: &str) -> Option<&str> {
    let (section, rest) = name.split_once('.')?;
    let (middle, _) = rest.rsplit_once('.')?;
    section.eq_ignore_ascii_case("url").then_some(middle)
}

/// The part of a URL that names user, host and port.
fn authority(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default())
}

/// The host alone.
fn bare(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(long) => long.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// A proxy by an address that is allowed. One that is spoken to over TLS keeps its name, which its certificate is for.
fn proxy(setting: &Setting, what: &str, rules: &Outgoing) -> Result<String, Failure> {
    let text = setting.value.trim();
    let named = authority(text).unwrap_or_else(|| text.split('/').next().unwrap_or_default());
    let host = bare(named);
    if host.is_empty() {
        return Err(Failure::Config(format!("{what} names no host")));
    }
    allow(host, what, rules)?;
    if text.to_ascii_lowercase().starts_with("https:") {
        return Ok(text.to_owned());
    }
    let found = rules.addresses(host, 0).map_err(|error| Failure::Failed(format!("{what}: {error}")))?;
    let Some(address) = found.first().map(std::net::SocketAddr::ip) else {
        return Err(Failure::Failed(format!("{what}: {host} has no address")));
    };
    let login = named.rsplit_once('@').map_or(String::new(), |(login, _)| format!("{login}@"));
    let after = named.rsplit_once('@').map_or(named, |(_, host)| host);
    let port = after.rsplit_once(']').map_or(after, |(_, port)| port);
    let port = port.rsplit_once(':').map_or(String::new(), |(_, port)| format!(":{port}"));
    let scheme = text.split_once("://").map_or("http", |(scheme, _)| scheme);
    let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    Ok(format!("{scheme}://{login}{address}{port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules() -> Outgoing {
        Outgoing::new(["127.0.0.0/8", "::1", "10.0.0.0/8"].map(|n| crate::base::network::read(n).unwrap()).to_vec())
    }

    fn of(source: &Value) -> Result<Source, String> {
        let source = Source::read(source.as_object().unwrap(), true).map_err(|f| f.to_string())?;
        checked(source, &rules()).map_err(|f| f.to_string())
    }

    #[test]
    fn every_host_that_a_source_names_is_looked_at() {
        let set = |name: &str, value: &str| json!({"uri": "https://192.0.2.1/r", "git_config": [{"name": name, "value": value}]});
        for source in [
            json!({"uri": "http://127.0.0.1:80/r"}),
            json!({"uri": "https://u:p@localhost/r"}),
            json!({"uri": "ssh://git@[::1]:22/r"}),
            json!({"uri": "git@10.1.2.3:r"}),
            json!({"uri": "git://localhost/r"}),
            json!({"uri": "https://[::ffff:127.0.0.1]/r"}),
            json!({"uri": "https://192.0.2.1/r", "commit_verification_key_ids": ["A"], "gpg_keyserver": "hkp://localhost"}),
            set("http.proxy", "http://localhost:3128"),
            set("http.proxy", "127.0.0.1:3128"),
            set("http.https://h/.proxy", "socks5://u:p@10.0.0.1"),
            set("url.ssh://localhost/.insteadOf", "https://192.0.2.1/"),
            set("url.http://127.1/.pushInsteadOf", "https://192.0.2.1/"),
        ] {
            let error = of(&source).expect_err(&source.to_string());
            assert!(error.contains("--deny-networks"), "{source}: {error}");
        }
        for source in [
            json!({"uri": "https://192.0.2.1:8443/r"}),
            json!({"uri": "git@nowhere.invalid:r"}),
            json!({"uri": "/r"}),
            set("url.git@192.0.2.1:.insteadOf", "https://192.0.2.1/"),
        ] {
            of(&source).unwrap();
        }
    }

    #[test]
    fn a_source_s_own_proxy_is_an_address_and_never_none() {
        for (written, set) in [
            ("http://u:p@192.0.2.1:3128/", Some("http://u:p@192.0.2.1:3128")),
            ("192.0.2.1:3128", Some("http://192.0.2.1:3128")),
            ("socks5h://[2001:db8::1]:1080", Some("socks5h://[2001:db8::1]:1080")),
            ("https://192.0.2.1:3129", Some("https://192.0.2.1:3129")),
            (" ", None),
        ] {
            let source = json!({"uri": "/r", "git_config": [{"name": "http.proxy", "value": written}]});
            let source = of(&source).unwrap();
            assert_eq!(source.settings.first().map(|s| s.value.as_str()), set, "{written}");
        }
    }

    #[test]
    fn nothing_denied_goes_past_the_operator_s_proxy() {
        let direct = |text| direct(text, &rules());
        assert_eq!(direct("localhost, 127.0.0.1,10.1.0.0/16,192.0.2.0/24 .invalid"), "192.0.2.0/24,.invalid");
        assert_eq!(direct("*"), "");
        assert_eq!(direct("0.0.0.0/0"), "");
    }
}
