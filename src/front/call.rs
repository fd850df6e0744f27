//! One request, taken apart.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::de::SliceRead;

use super::{App, Failure, Origin};

/// Longest body that is read into memory: a pipeline's configuration is the largest of them.
const LONGEST: usize = 32 * 1024 * 1024;

/// A request on its way to its handler.
pub struct Call {
    /// The application.
    pub app: App,
    /// Method, address and headers.
    pub parts: Parts,
    /// Parameters of the path, decoded.
    pub path: BTreeMap<String, String>,
    /// Parameters of the query.
    pub query: Query,
    /// Fields of a posted form; only pages have them, see [`super::Routes::form`].
    pub form: Query,
    /// Where it comes from.
    pub origin: Origin,
    /// The cross-site request token of the session, for forms.
    pub csrf: String,
    /// The body, unless it was read as a form. The lock only makes a `Call` shareable between threads.
    pub(super) body: Mutex<Body>,
}

impl Call {
    /// A parameter of the path.
    pub fn param(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A parameter of the path that is an id; anything else is a bad request.
    pub fn id<T: FromStr>(&self, name: &str) -> Result<T, Failure> {
        self.param(name).parse().map_err(|_| Failure::bare(StatusCode::BAD_REQUEST))
    }

    /// A header's text, or ''.
    pub fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The body as it comes.
    pub fn into_body(self) -> Body {
        self.body.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The whole body.
    pub async fn bytes(self) -> Result<Bytes, Failure> {
        read_all(self.into_body()).await
    }

    /// The body as JSON, when the rest of the call is still needed.
    pub async fn take_json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let body = std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner));
        read_json(body).await
    }

    /// The body as JSON; anything else is a bad request.
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        read_json(self.into_body()).await
    }

    /// The body as an object where Concourse takes it as Go reads it: `null` is as good as nothing, for the whole and for
    /// each field, and what follows the value is left alone. The type says by `#[serde(default)]` what nothing means.
    pub async fn lenient_json<T: DeserializeOwned + Default>(self) -> Result<T, Failure> {
        lenient(&read_all(self.into_body()).await?, Value::is_object)
    }

    /// The same of a list.
    pub async fn lenient_list<T: DeserializeOwned>(self) -> Result<Vec<T>, Failure> {
        lenient(&read_all(self.into_body()).await?, Value::is_array)
    }
}

/// `fits`: whether a value is of the wanted kind, since a structure can also be read from a list of its fields' values.
fn lenient<T: DeserializeOwned + Default>(bytes: &[u8], fits: fn(&Value) -> bool) -> Result<T, Failure> {
    let mut value = placed::<Value>(&mut serde_json::Deserializer::from_slice(bytes))?;
    if value.is_null() {
        return Ok(T::default());
    }
    // Read once more from the text, whose errors tell the place.
    match placed(&mut serde_json::Deserializer::from_slice(bytes)) {
        Ok(read) if fits(&value) => Ok(read),
        Ok(_) => Err(Failure::bad_request("malformed request: an object is expected")),
        Err(failure) => {
            if let Value::Object(map) = &mut value {
                map.retain(|_, value| !value.is_null());
            }
            T::deserialize(value).map_err(|_| failure)
        }
    }
}

/// Reads one value. What is wrong with it is told with the field, which the line and column would leave to be counted.
fn placed<T: DeserializeOwned>(from: &mut serde_json::Deserializer<SliceRead<'_>>) -> Result<T, Failure> {
    serde_path_to_error::deserialize(from).map_err(|e| {
        let place = match e.path().to_string().as_str() {
            "." => String::new(),
            path => format!("{path}: "),
        };
        Failure::bad_request(format!("malformed request: {place}{}", e.inner()))
    })
}

/// Text as JSON and nothing else; anything else is a bad request, which names the field.
pub fn json_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let read = placed(&mut from)?;
    from.end().map_err(|e| Failure::bad_request(format!("malformed request: {e}")))?;
    Ok(read)
}

async fn read_all(body: Body) -> Result<Bytes, Failure> {
    let read = axum::body::to_bytes(body, LONGEST).await;
    read.map_err(|e| Failure::bad_request(format!("the body could not be read: {e}")))
}

async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    json_of(&read_all(body).await?)
}

/// Names and values in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Query {
        let decode = |s: &str| percent_decode(&s.replace('+', " "));
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        Query(text.split('&').filter(|p| !p.is_empty()).map(pair).collect())
    }

    /// The first value of that name, or ''.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// Every value of that name.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether the name is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }
}

/// Decodes `%41`; what is not an escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|h| hex::decode(h).ok());
        match escaped {
            Some(byte) => {
                out.extend(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes for a query as Go's `url.QueryEscape` does.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_taken_as_go_reads_it() {
        #[derive(Debug, Default, PartialEq, serde::Deserialize)]
        #[serde(default)]
        struct Named {
            name: String,
        }
        let named =
            |text: &str| lenient::<Named>(text.as_bytes(), Value::is_object).map(|n| n.name).map_err(|f| f.status);
        for (body, expected) in [
            ("{}", Ok("")),
            ("null", Ok("")),
            (r#"{"name":null}"#, Ok("")),
            (r#"{"name":"a","more":1}"#, Ok("a")),
            (r#"{"name":"a"} and more"#, Ok("a")),
            (r#"{"name":1}"#, Err(StatusCode::BAD_REQUEST)),
            ("", Err(StatusCode::BAD_REQUEST)),
            ("{", Err(StatusCode::BAD_REQUEST)),
            ("1", Err(StatusCode::BAD_REQUEST)),
            ("[]", Err(StatusCode::BAD_REQUEST)),
        ] {
            assert_eq!(named(body), expected.map(str::to_owned), "{body}");
        }
        assert_eq!(lenient::<Vec<String>>(b"null", Value::is_array).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_query_is_decoded() {
        let q = Query::parse("a=1&b=x+y%2Fz&a=2&flag&bad=%zz%4");
        assert_eq!(q.get("a"), "1");
        assert_eq!(q.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(q.get("b"), "x y/z");
        assert_eq!(q.get("bad"), "%zz%4");
        assert!(q.has("flag") && !q.has("none"));
        assert_eq!(percent_decode(&query_escape("ä/?&=").replace('+', " ")), "ä/?&=");
    }
}
