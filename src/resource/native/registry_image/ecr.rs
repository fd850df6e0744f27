//! Credentials for Amazon's registry: one signed question, after taking the roles that the source names.
//!
//! The keys of the source count. Those of the server or of its machine are not the tenant's: they are used only where the
//! operator allows it, for all tenants alike.

use base64::Engine;
use reqwest::Method;
use reqwest::Url;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::source::{Aws, Kind, Source};
use crate::base::clock::{Clock, System};
use crate::base::outgoing::{self, Client};
use crate::base::secret::Secret;
use crate::base::trust::Trust;
use crate::resource::registry::client::Notice;
use crate::resource::registry::{Error, Registries, Result};
use crate::secrets::ssm;

/// No answer of AWS is longer.
const LONGEST: usize = 1 << 20;

/// Keys that sign requests.
#[derive(Clone)]
struct Keys {
    id: String,
    secret: Secret<String>,
    session: Secret<String>,
}

impl Source {
    /// The source with credentials and the whole name of its repository, where those have to be asked for.
    pub async fn resolved(&self, registries: &Registries, notice: &Notice) -> Result<Source> {
        if self.aws.aws_region.is_empty() {
            return Ok(self.clone());
        }
        let signed_in = sign_in(&self.aws, registries, notice).await;
        let (password, host) = signed_in.map_err(|e| Error::Invalid(format!("cannot authenticate with ECR: {e}")))?;
        let mut source = self.clone();
        source.username = "AWS".to_owned();
        source.password = password;
        let account = &self.aws.aws_account_id.0;
        let host = match account.as_str() {
            "" => host,
            account => {
                let region = &self.aws.aws_region;
                format!("{account}.dkr.ecr.{region}.{}", domain(region))
            }
        };
        source.repository = format!("{host}/{}", self.repository);
        Ok(source)
    }
}

async fn sign_in(aws: &Aws, registries: &Registries, notice: &Notice) -> Result<(Secret<String>, String)> {
    if !aws.aws_role_arn.is_empty() && !aws.aws_role_arns.is_empty() {
        return Err(Error::Invalid("`aws_role_arn` cannot be set at the same time as `aws_role_arns`".to_owned()));
    }
    let http = registries.outgoing.client(&Trust::default(), |b| b).map_err(|e| Error::Invalid(e.to_string()))?;
    let mut keys = keys(aws, registries).await?;
    let roles = std::iter::once(&aws.aws_role_arn).filter(|arn| !arn.is_empty()).chain(&aws.aws_role_arns);
    for role in roles {
        notice(&format!("assuming role {role}"));
        keys = assume(&http, &aws.aws_region, &keys, role).await?;
    }
    token(&http, &aws.aws_region, &keys).await
}

/// The keys of the source, or the server's own.
async fn keys(aws: &Aws, registries: &Registries) -> Result<Keys> {
    let (id, secret) = (aws.aws_access_key_id.clone(), aws.aws_secret_access_key.clone());
    if !id.is_empty() && !secret.expose().is_empty() {
        return Ok(Keys { id, secret, session: aws.aws_session_token.clone() });
    }
    if !registries.ecr_as_server {
        return Err(Error::Invalid(
            "set source.aws_access_key_id and source.aws_secret_access_key: the server's own AWS credentials are for \
             pipelines only where its operator says so (--allow-ecr-as-server)"
                .to_owned(),
        ));
    }
    let own = ssm::own(&aws.aws_region, &System).await.map_err(Error::Unusable)?;
    Ok(Keys { id: own.key_id, secret: own.secret_key, session: own.session_token })
}

/// A source with what a child cannot find out itself: the operator's mirror, and keys of the server that it may use.
pub async fn lent(source: &Map<String, Value>, registries: &Registries) -> Result<Map<String, Value>> {
    let (read, mut lent) = (Source::read(Kind::Registry, source)?, source.clone());
    if let Some(mirror) = read.mirror(registries) {
        let member = json!({
            "host": mirror.host,
            "username": mirror.username,
            "password": mirror.password.expose(),
            "ca_certs": mirror.ca_certs,
        });
        lent.insert("registry_mirror".to_owned(), member);
    }
    if !read.aws.aws_region.is_empty() {
        let keys = keys(&read.aws, registries).await?;
        for (name, value) in [
            ("aws_access_key_id", keys.id),
            ("aws_secret_access_key", keys.secret.expose().clone()),
            ("aws_session_token", keys.session.expose().clone()),
        ] {
            lent.insert(name.to_owned(), value.into());
        }
    }
    Ok(lent)
}

/// Account and region of a registry of Amazon's.
pub(super) fn registry(host: &str) -> Option<(&str, &str)> {
    let (account, rest) = host.split_once(".dkr.ecr")?;
    let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
    let (region, rest) = rest.split_once('.')?;
    (rest == domain(region)).then_some((account, region))
}

/// Under which name Amazon's services of a region are.
fn domain(region: &str) -> &'static str {
    match region.split_once('-').map(|(partition, _)| partition) {
        Some("cn") => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

fn endpoint(service: &str, region: &str) -> Result<Url> {
    let usual = format!("https://{service}.{region}.{}/", domain(region));
    // As the tools of AWS have it, for machines without a way out and for tests.
    let text = std::env::var("AWS_ENDPOINT_URL").unwrap_or(usual);
    Url::parse(&text).map_err(|e| Error::Invalid(format!("{text:?} is no address of AWS: {e}")))
}

async fn ask(
    http: &Client,
    url: Url,
    (region, service): (&str, &str),
    keys: &Keys,
    (kind, target, body): (&str, &str, String),
) -> Result<String> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let named = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.clone(),
    };
    let time = jiff::Timestamp::from_millisecond(System.now().0).unwrap_or_default();
    let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = vec![("content-type", kind.to_owned()), ("host", named), ("x-amz-date", date.clone())];
    if !keys.session.expose().is_empty() {
        headers.push(("x-amz-security-token", keys.session.expose().clone()));
    }
    if !target.is_empty() {
        headers.push(("x-amz-target", target.to_owned()));
    }
    let signature = sign(&headers, &body, &date, (region, service), keys);
    let mut request = http.request(Method::POST, url).map_err(|e| Error::Invalid(e.to_string()))?;
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        request = request.header(*name, value);
    }
    let answer = request.header("authorization", signature).body(body).send().await;
    let unreachable =
        |e: reqwest::Error| Error::Unreachable { host: host.clone(), reason: e.without_url().to_string() };
    let answer = answer.map_err(unreachable)?;
    let status = answer.status();
    let bytes = outgoing::read(answer, LONGEST).await.map_err(|e| Error::Unusable(format!("{service}: {e}")))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let detail = text.chars().take(400).collect::<String>();
    Err(Error::Refused { what: format!("ask {service}"), host, status: status.as_u16(), detail })
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

/// The `authorization` header of a POST to `/` by AWS's version 4. `headers` are in order of name.
fn sign(headers: &[(&str, String)], body: &str, date: &str, (region, service): (&str, &str), keys: &Keys) -> String {
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let body = hex::encode(Sha256::digest(body.as_bytes()));
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{body}");
    let day = &date[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical.as_bytes())));
    let first = format!("AWS4{}", keys.secret.expose());
    let key = [day, region, service, "aws4_request"]
        .iter()
        .fold(first.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    let signature = hex::encode(hmac(&key, text.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
}

async fn assume(http: &Client, region: &str, keys: &Keys, role: &str) -> Result<Keys> {
    let mut form = Url::parse("http://form/").map_err(|e| Error::Invalid(e.to_string()))?;
    form.query_pairs_mut()
        .append_pair("Action", "AssumeRole")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", "whistlestop");
    let body = form.query().unwrap_or_default().to_owned();
    let form = ("application/x-www-form-urlencoded; charset=utf-8", "", body);
    let text = ask(http, endpoint("sts", region)?, (region, "sts"), keys, form).await?;
    let member = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let (id, secret, session) = (member("AccessKeyId"), member("SecretAccessKey"), member("SessionToken"));
    match (id, secret, session) {
        (Some(id), Some(secret), Some(session)) => {
            Ok(Keys { id, secret: Secret::new(secret), session: Secret::new(session) })
        }
        _ => Err(Error::Unusable(format!("error assuming role '{role}': the answer has no credentials"))),
    }
}

/// Password, and host of the registry.
async fn token(http: &Client, region: &str, keys: &Keys) -> Result<(Secret<String>, String)> {
    const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    let question = ("application/x-amz-json-1.1", TARGET, "{}".to_owned());
    let text = ask(http, endpoint("api.ecr", region)?, (region, "ecr"), keys, question).await?;
    let wrong = || Error::Unusable("the answer of ECR has no authorization token".to_owned());
    let answer: serde_json::Value = serde_json::from_str(&text).map_err(|_| wrong())?;
    let data = &answer["authorizationData"][0];
    let token = data["authorizationToken"].as_str().ok_or_else(wrong)?;
    let pair = base64::engine::general_purpose::STANDARD.decode(token).map_err(|_| wrong())?;
    let pair = String::from_utf8(pair).map_err(|_| wrong())?;
    let (_, password) = pair.split_once(':').ok_or_else(wrong)?;
    let host = data["proxyEndpoint"].as_str().unwrap_or_default().trim_start_matches("https://").to_owned();
    Ok((Secret::new(password.trim().to_owned()), host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::registry::Mirror;

    #[test]
    fn requests_are_signed_as_aws_wants_it() {
        // "post-vanilla" of AWS's own suite.
        let keys = Keys {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            session: Secret::default(),
        };
        let headers = [("host", "example.amazonaws.com".to_owned()), ("x-amz-date", "20150830T123600Z".to_owned())];
        let signed = sign(&headers, "", "20150830T123600Z", ("us-east-1", "service"), &keys);
        let expected = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert!(signed.ends_with(&format!("Signature={expected}")), "{signed}");
        assert!(signed.contains("AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date,"));
    }

    #[test]
    fn registries_of_amazon_are_known_in_each_partition() {
        let found = |host: &str| registry(host).map(|(account, region)| format!("{account} {region}"));
        assert_eq!(found("1.dkr.ecr.eu-west-1.amazonaws.com").as_deref(), Some("1 eu-west-1"));
        assert_eq!(found("1.dkr.ecr.cn-north-1.amazonaws.com.cn").as_deref(), Some("1 cn-north-1"));
        assert_eq!(found("1.dkr.ecr-fips.us-gov-west-1.amazonaws.com").as_deref(), Some("1 us-gov-west-1"));
        for other in ["1.dkr.ecr.eu-west-1.amazonaws.com.evil.example", "ecr.example", "1.dkr.ecr.x.amazonaws.com.cn"] {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(endpoint("sts", "cn-north-1").unwrap().as_str(), "https://sts.cn-north-1.amazonaws.com.cn/");
    }

    #[tokio::test]
    async fn a_child_is_told_of_the_mirror_and_never_of_the_servers_keys_unasked() {
        let mirror = Mirror { host: "m".into(), password: Secret::new("p".into()), ..Mirror::default() };
        let registries = Registries { mirror: Some(mirror.into()), ..Registries::default() };
        let lent = async |source: Value| super::lent(source.as_object().unwrap(), &registries).await;
        let given = lent(json!({"repository": "a"})).await.unwrap();
        assert_eq!(given["registry_mirror"]["password"], "p");
        Source::read(Kind::Registry, &given).unwrap();
        let own = lent(json!({"repository": "a", "registry_mirror": {"host": "own"}})).await.unwrap();
        assert_eq!(own["registry_mirror"]["host"], "own");
        let refused = lent(json!({"repository": "a", "aws_region": "eu-west-1"})).await.unwrap_err();
        assert!(refused.to_string().contains("--allow-ecr-as-server"), "{refused}");
    }

    #[test]
    fn a_long_key_is_hashed_first() {
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex::encode(hmac(&[0xaa; 131], message)), expected);
    }
}
