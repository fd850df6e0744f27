//! As much HTTP as the benchmarks need, over TCP or a Unix socket: the bare requests are the floor, so nothing of a
//! client library may be in them.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Length {
    Bytes(usize),
    Chunks,
    Close,
}

/// One connection.
pub struct Link {
    stream: BufReader<Box<dyn Stream>>,
    length: Length,
    /// Bytes of the chunk being read that are still to come.
    chunk: usize,
}

impl Link {
    /// Connects.
    pub async fn open(place: &Place) -> Result<Link> {
        let stream: Box<dyn Stream> = match place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(Link { stream: BufReader::with_capacity(64 * 1024, stream), length: Length::Bytes(0), chunk: 0 })
    }

    /// Sends a request and reads the head of the answer. `head` holds further lines, each with its end.
    pub async fn send(&mut self, method: &str, path: &str, head: &str, body: &[u8]) -> Result<u16> {
        let length = body.len();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{head}\r\n");
        request.push_str(std::str::from_utf8(body).map_err(Error::other)?);
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| Error::other(first.clone()))?;
        self.length = if status == 204 || status == 304 { Length::Bytes(0) } else { Length::Close };
        self.chunk = 0;
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(status);
            }
            if let Some(n) = line.strip_prefix("content-length:") {
                self.length = Length::Bytes(n.trim().parse().map_err(Error::other)?);
            } else if line.strip_prefix("transfer-encoding:").is_some_and(|v| v.contains("chunked")) {
                self.length = Length::Chunks;
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Some more bytes of the body, appended; `false` at its end.
    pub async fn more(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        let left = match self.length {
            Length::Bytes(0) => return Ok(false),
            Length::Bytes(n) => n,
            Length::Close => usize::MAX,
            Length::Chunks if self.chunk > 0 => self.chunk,
            Length::Chunks => {
                let size = usize::from_str_radix(self.line().await?.trim(), 16).map_err(Error::other)?;
                if size == 0 {
                    self.line().await?;
                    self.length = Length::Bytes(0);
                    return Ok(false);
                }
                self.chunk = size;
                size
            }
        };
        let there = self.stream.fill_buf().await?;
        let n = there.len().min(left);
        into.extend_from_slice(&there[..n]);
        self.stream.consume(n);
        match &mut self.length {
            Length::Bytes(left) => *left -= n,
            Length::Close if n == 0 => return Ok(false),
            Length::Chunks => {
                self.chunk -= n;
                if self.chunk == 0 {
                    self.line().await?;
                }
            }
            Length::Close => {}
        }
        if n == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
    }

    /// The whole body.
    pub async fn body(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.more(&mut body).await? {}
        Ok(body)
    }

    /// What follows until the other side closes, after the connection has become a stream.
    pub async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    /// A request whose answer must be a success, and is JSON.
    pub async fn json(&mut self, method: &str, path: &str, head: &str, body: &[u8]) -> Result<serde_json::Value> {
        let status = self.send(method, path, head, body).await?;
        let answer = self.body().await?;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&answer);
            return Err(Error::other(format!("{method} {path}: {status} {text}")));
        }
        if answer.is_empty() {
            Ok(serde_json::Value::Null)
        } else {
            serde_json::from_slice(&answer).or(Ok(text(&answer)))
        }
    }
}

fn text(bytes: &[u8]) -> serde_json::Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}
