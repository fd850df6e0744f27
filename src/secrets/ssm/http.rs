//! Carries the AWS SDK's requests by the HTTP client that the rest of the server uses, so that there is one TLS in it.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use crate::base::outgoing::{self, Outgoing};

/// Longest answer that is read: ten parameters are far shorter.
const LONGEST: usize = 4 * 1024 * 1024;

/// See the module's doc.
#[derive(Debug, Clone)]
pub struct Carrier(outgoing::Client);

impl Carrier {
    /// A client that keeps these rules, follows no redirect and gives up soon.
    pub fn new(rules: &Outgoing) -> Result<Carrier, String> {
        let client =
            rules.straight_client(|b| b.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(20)));
        client.map(Carrier).map_err(|e| format!("no HTTP client can be made: {e}"))
    }
}

impl HttpClient for Carrier {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Carrier {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { carry(&client, request).await })
    }
}

async fn carry(client: &outgoing::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let method =
        reqwest::Method::from_bytes(request.method().as_bytes()).map_err(|e| ConnectorError::user(e.into()))?;
    let body = request.body().bytes().ok_or_else(|| ConnectorError::user("a body that comes in pieces".into()))?;
    let url = reqwest::Url::parse(request.uri()).map_err(|e| ConnectorError::user(e.into()))?;
    let sent = client.request(method, url).map_err(|denied| ConnectorError::user(denied.into()))?;
    let mut sent = sent.body(body.to_vec());
    for (name, value) in request.headers() {
        sent = sent.header(name, value);
    }
    let failed = |e: reqwest::Error| match e.is_timeout() {
        true => ConnectorError::timeout(e.into()),
        false => ConnectorError::io(e.into()),
    };
    let answer = sent.send().await.map_err(failed)?;
    let status = StatusCode::try_from(answer.status().as_u16()).map_err(|e| ConnectorError::user(e.into()))?;
    let headers = answer.headers().clone();
    let bytes = outgoing::read(answer, LONGEST).await.map_err(|e| ConnectorError::io(e.into()))?;
    let mut response = HttpResponse::new(status, SdkBody::from(bytes));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}
