//! Runs the scripts of a type that comes as an image: what to start, and what to make of what it says.
//!
//! The caller starts the container through [`crate::runtime::Runtime`]; here is the contract on both sides of it.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;

use super::{Request, Response, Script};
use crate::base::version::{MetadataField, Version};
use crate::runtime::{Attached, Exit, Output, Process, Stream};

/// The longest answer that is read; a longer one is no answer but a mistake, and would fill the memory.
pub const MAX_ANSWER: usize = 64 << 20;

/// Why a script gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container is gone or its engine is.
    #[error("{0}")]
    Lost(String),
    /// The script could not be started at all.
    #[error("{message}")]
    NotStarted {
        /// Why, as Concourse words it.
        message: String,
    },
    /// It wrote more than any answer has.
    #[error("the resource script wrote more than {} MiB to standard output: it must write only its answer there and \
             everything else to standard error", MAX_ANSWER >> 20)]
    TooLong,
    /// The answer has no version.
    #[error("resource script ({0}) output a null version")]
    NullVersion(String),
    /// The answer is not what the contract says.
    #[error("resource script ({script}) output what is not {expected}: {source}")]
    Malformed {
        /// The script with its argument.
        script: String,
        /// What it should have been.
        expected: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The log could not be passed on.
    #[error("cannot pass on the log: {0}")]
    Log(String),
}

/// What a script did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status; the answer is only good where it is 0.
    pub status: i32,
    /// All of its standard output.
    pub stdout: Bytes,
}

/// Where `in` puts and `out` finds files, and where `check` runs, as Concourse has it.
pub fn directory(script: Script) -> &'static str {
    match script {
        Script::Check => "/tmp/build/check",
        Script::In => "/tmp/build/get",
        Script::Out => "/tmp/build/put",
    }
}

/// The process of `script`, working in `dir` on `request`. `env` is `NAME=value`.
pub fn script_process(script: Script, dir: &str, request: &Request, env: Vec<String>, user: Option<String>) -> Process {
    Process {
        path: script.path(),
        args: if script == Script::Check { Vec::new() } else { vec![dir.to_owned()] },
        env,
        dir: dir.to_owned(),
        user,
        tty: None,
        stdin: request.payload(script),
        owns: Vec::new(),
    }
}

/// Reads a script's output to its end: standard output is the answer, standard error goes to `log`, each chunk with
/// its offset among all bytes of the process, so that a log that was partly stored can be continued. The caller
/// attaches from 0 after a restart as well, since the answer is needed whole.
pub async fn collect<F>(attached: &mut Attached, mut log: F) -> Result<Ran, Error>
where
    F: AsyncFnMut(u64, Bytes) -> Result<(), Error>,
{
    let mut stdout = BytesMut::new();
    while let Some(output) = attached.recv().await {
        match output {
            Output::Data { stream: Stream::Stdout, bytes, .. } => {
                if stdout.len() + bytes.len() > MAX_ANSWER {
                    return Err(Error::TooLong);
                }
                stdout.extend_from_slice(&bytes);
            }
            Output::Data { stream: Stream::Stderr, offset, bytes } => log(offset, bytes).await?,
            Output::Exited(Exit::Status(status)) => return Ok(Ran { status, stdout: stdout.freeze() }),
            Output::Exited(Exit::NotStarted { message, .. }) => return Err(Error::NotStarted { message }),
            Output::Lost(message) => return Err(Error::Lost(message)),
        }
    }
    Err(Error::Lost("the container's output ended before the script did".to_owned()))
}

/// The versions that `check` answered, oldest first. Nothing, and null, are no versions.
pub fn parse_check(stdout: &[u8]) -> Result<Vec<Version>, Error> {
    let answer: Option<Vec<Version>> = first(stdout)
        .transpose()
        .map_err(|source| Error::Malformed { script: Script::Check.path(), expected: "a list of versions", source })?
        .flatten();
    Ok(answer.unwrap_or_default())
}

/// The answer of `in` or `out`, run in `dir`.
pub fn parse_response(script: Script, dir: &str, stdout: &[u8]) -> Result<Response, Error> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        version: Option<Version>,
        #[serde(default)]
        metadata: Option<Vec<Field>>,
    }
    #[derive(Deserialize)]
    struct Field {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        value: Option<String>,
    }
    let command = || format!("{} {dir}", script.path());
    let answer: Option<Option<Answer>> = first(stdout).transpose().map_err(|source| Error::Malformed {
        script: command(),
        expected: "a version with metadata",
        source,
    })?;
    let answer = answer.flatten().ok_or_else(|| Error::NullVersion(command()))?;
    let version = answer.version.ok_or_else(|| Error::NullVersion(command()))?;
    let field = |f: Field| MetadataField { name: f.name.unwrap_or_default(), value: f.value.unwrap_or_default() };
    Ok(Response { version, metadata: answer.metadata.unwrap_or_default().into_iter().map(field).collect() })
}

/// The first JSON value, if there is any; what follows it is nobody's concern, as in Go.
fn first<T: serde::de::DeserializeOwned>(stdout: &[u8]) -> Option<Result<T, serde_json::Error>> {
    let value = serde_json::Deserializer::from_slice(stdout).into_iter::<Value>().next()?;
    Some(value.and_then(serde_json::from_value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;

    fn request() -> Request {
        Request {
            source: json!({"uri": "x"}).as_object().cloned().unwrap(),
            params: json!({"p": 1}).as_object().cloned(),
            version: Some(Version::from([("ref", "1")])),
        }
    }

    #[test]
    fn each_script_gets_only_the_members_it_knows() {
        for (script, args, stdin) in [
            (Script::Check, &[][..], r#"{"source":{"uri":"x"},"version":{"ref":"1"}}"#),
            (Script::In, &["/d"], r#"{"source":{"uri":"x"},"params":{"p":1},"version":{"ref":"1"}}"#),
            (Script::Out, &["/d"], r#"{"source":{"uri":"x"},"params":{"p":1}}"#),
        ] {
            let process = script_process(script, "/d", &request(), vec!["A=b".into()], None);
            assert_eq!(process.path, format!("/opt/resource/{script}"));
            assert_eq!(process.args, args);
            assert_eq!(String::from_utf8(process.stdin).unwrap(), stdin);
        }
        let bare = Request::default();
        assert_eq!(bare.payload(Script::Check), br#"{"source":{}}"#);
    }

    async fn run(outputs: Vec<Output>) -> (Result<Ran, Error>, Vec<(u64, Bytes)>) {
        let (tx, mut rx) = mpsc::channel(16);
        for output in outputs {
            tx.send(output).await.unwrap();
        }
        drop(tx);
        let mut log = Vec::new();
        let ran = collect(&mut rx, async |offset, bytes| {
            log.push((offset, bytes));
            Ok(())
        })
        .await;
        (ran, log)
    }

    fn data(stream: Stream, offset: u64, text: &'static str) -> Output {
        Output::Data { stream, offset, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[tokio::test]
    async fn the_answer_and_the_log_are_told_apart() {
        let (ran, log) = run(vec![
            data(Stream::Stderr, 0, "one\n"),
            data(Stream::Stdout, 4, "[{\"v\":"),
            data(Stream::Stderr, 10, "two\n"),
            data(Stream::Stdout, 14, "\"1\"}]"),
            Output::Exited(Exit::Status(0)),
        ])
        .await;
        assert_eq!(ran.unwrap(), Ran { status: 0, stdout: Bytes::from_static(b"[{\"v\":\"1\"}]") });
        assert_eq!(log, [(0, Bytes::from_static(b"one\n")), (10, Bytes::from_static(b"two\n"))]);
    }

    #[tokio::test]
    async fn a_script_that_never_ended_is_lost() {
        assert!(matches!(run(vec![data(Stream::Stdout, 0, "x")]).await.0, Err(Error::Lost(_))));
        assert!(matches!(run(vec![Output::Lost("gone".into())]).await.0, Err(Error::Lost(text)) if text == "gone"));
        let message = "exec: \"/opt/resource/in\": no such file or directory".to_owned();
        let ended = Output::Exited(Exit::NotStarted { message: message.clone(), not_found: true });
        assert_eq!(run(vec![ended]).await.0.unwrap_err().to_string(), message);
    }

    #[test]
    fn what_check_may_answer() {
        for (answer, versions) in [
            ("", Some(vec![])),
            ("\n", Some(vec![])),
            ("null", Some(vec![])),
            ("[]", Some(vec![])),
            (r#"[{"v":"1"},{"v":"2"}] trailing"#, Some(vec!["1", "2"])),
            (r#"[{"v":1}]"#, None),
            ("{}", None),
            ("oops", None),
        ] {
            let expected = versions.map(|vs| vs.into_iter().map(|v| Version::from([("v", v)])).collect::<Vec<_>>());
            assert_eq!(parse_check(answer.as_bytes()).ok(), expected, "{answer}");
        }
    }

    #[test]
    fn what_in_and_out_may_answer() {
        let parse = |text: &str| parse_response(Script::Out, "/tmp/build/put", text.as_bytes());
        let ok = parse(r#"{"version":{"v":"1"},"metadata":[{"name":"a","value":"b","type":"time"},{"name":"c"}]}"#);
        let names: Vec<_> = ok.unwrap().metadata.into_iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(names, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        assert!(parse(r#"{"version":{},"metadata":null}"#).is_ok());
        for null in ["", "{}", r#"{"version":null}"#, "null"] {
            assert_eq!(
                parse(null).unwrap_err().to_string(),
                "resource script (/opt/resource/out /tmp/build/put) output a null version",
                "{null}"
            );
        }
        assert!(matches!(parse("\"1\""), Err(Error::Malformed { .. })));
    }
}
