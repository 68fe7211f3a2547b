//! HTTP to the admin interface, over its Unix socket or TCP: a connection a call.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::uri::Authority;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::Failure;
use crate::control::admin::short_way;
use crate::control::one_line;

/// Longest call: the relay gives up earlier.
const CALL_TIME: Duration = Duration::from_secs(15);
/// Longest answer, bytes: a thousand clients are about a megabyte, the bans at most twenty.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Longest line of an event.
const LINE_BYTES: usize = 64 * 1024;

/// Where the admin interface is.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address, and the token.
    Tcp(Authority, Option<String>),
}

impl Endpoint {
    /// From a URL.
    pub(in crate::cli) fn tcp(url: &str, token: Option<String>) -> Result<Endpoint, String> {
        let wrong = |expected: &str| format!("--url is {url}, expected {expected}");
        if url.starts_with("https://") {
            return Err(wrong(
                "http://HOST:PORT: encryption is left to a tunnel, such as ssh -L 9333:127.0.0.1:9333",
            ));
        }
        let rest = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = rest.and_then(|rest| rest.parse::<Authority>().ok());
        match authority
            .filter(|authority| authority.port_u16().is_some() && !authority.as_str().contains('@'))
        {
            Some(authority) => Ok(Endpoint::Tcp(authority, token)),
            None => Err(wrong("http://HOST:PORT")),
        }
    }

    fn name(&self) -> String {
        match self {
            Endpoint::Unix(path) => path.display().to_string(),
            Endpoint::Tcp(authority, _) => authority.to_string(),
        }
    }
}

/// A client of one admin interface.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Client {
    endpoint: Endpoint,
}

impl Client {
    /// For this place.
    pub(in crate::cli) fn new(endpoint: Endpoint) -> Client {
        Client { endpoint }
    }

    /// A call, and the text of its answer; an error is the server's sentence.
    pub(in crate::cli) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, Failure> {
        let call = async {
            let response = self.send(method, path, body).await?;
            text(response).await
        };
        let late = || Failure::Other(format!("no answer within {} s", CALL_TIME.as_secs()));
        tokio::time::timeout(CALL_TIME, call).await.map_err(|_| late())?
    }

    /// Begins to watch events.
    pub(in crate::cli) async fn events(&self, path: &str) -> Result<EventLines, Failure> {
        let response = self.send("GET", path, None).await?;
        if !response.status().is_success() {
            return Err(match text(response).await {
                Err(failure) => failure,
                Ok(text) => Failure::Other(format!("no events but {}", one_line(&text))),
            });
        }
        Ok(EventLines { body: response.into_body(), buffer: Vec::new() })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let (host, token) = match &self.endpoint {
            Endpoint::Unix(_) => ("localhost", None),
            Endpoint::Tcp(authority, token) => (authority.as_str(), token.as_ref()),
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or(Bytes::new(), |body| Bytes::from(body.to_string()));
        let request = request
            .body(Full::new(bytes))
            .map_err(|error| Failure::Other(format!("the request: {error}")))?;
        let away = |error: std::io::Error| {
            let hint = "is the relay running, and is this its address? (--socket PATH or --url URL)";
            Failure::Other(format!("cannot reach {}: {error}; {hint}", self.endpoint.name()))
        };
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let (_folder, way) = short_way(path).map_err(away)?;
                exchange(UnixStream::connect(way).await.map_err(away)?, request).await
            }
            Endpoint::Tcp(authority, _) => {
                exchange(TcpStream::connect(authority.as_str()).await.map_err(away)?, request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Failure::Other(format!("the admin interface: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        // An error is seen by who waits for the answer.
        let _ = connection.await;
    });
    sender.send_request(request).await.map_err(failed)
}

/// The body as text, or the sentence of an error.
async fn text(response: Response<Incoming>) -> Result<String, Failure> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let bytes = body.map_err(|error| Failure::Other(format!("the answer: {error}")))?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let value = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
    let sentence = value["error"]["message"].as_str();
    Err(Failure::Other(sentence.map_or_else(|| format!("status {status}"), one_line)))
}

/// Server-sent events as they come.
#[derive(Debug)]
pub(in crate::cli) struct EventLines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl EventLines {
    /// Name and data of the next; none at the end.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<(String, String)>, Failure> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match read(&String::from_utf8_lossy(&block)) {
                    Some(event) => return Ok(Some(event)),
                    // A comment that keeps the connection alive.
                    None => continue,
                }
            }
            if self.buffer.len() > LINE_BYTES {
                return Err(Failure::Other(format!("an event is longer than {LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => {
                    return Err(Failure::Other(format!(
                        "the events were cut off, the relay may have ended: {error}"
                    )));
                }
            }
        }
    }
}

fn read(block: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.map(|text| text.strip_prefix(' ').unwrap_or(text)).collect::<Vec<_>>()
    };
    let data = value("data");
    (!data.is_empty()).then(|| (value("event").concat(), data.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for good in ["http://127.0.0.1:9333", "http://[::1]:9333/", "http://relay.example:80"] {
            assert!(Endpoint::tcp(good, None).is_ok(), "{good}");
        }
        for bad in
            ["", "127.0.0.1:9333", "http://", "http://host", "http://a@b:1", "http://h:1/p", "https://h:1"]
        {
            assert!(Endpoint::tcp(bad, None).is_err_and(|text| text.contains("http://HOST:PORT")), "{bad}");
        }
    }

    #[test]
    fn events_are_read_and_comments_passed_over() {
        assert_eq!(
            read("event: tip\ndata: {\"a\":\ndata: 1}\n\n"),
            Some(("tip".into(), "{\"a\":\n1}".into()))
        );
        assert_eq!(read(":\n\n"), None);
    }
}
