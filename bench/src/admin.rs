//! Calls of a relay's admin interface over its Unix socket, for benchmarks: a connection a call, blocking, so that a call takes
//! no longer than the relay does.
//!
//! Only as much of HTTP as that interface speaks: it closes after the answer when it is asked to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Outcome;

/// Longest call.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients of a page.
const PAGE: u32 = 1_000;

/// Who asks one relay.
#[derive(Debug, Clone)]
pub(crate) struct AdminClient {
    socket: PathBuf,
}

impl AdminClient {
    /// Of the relay with this socket.
    pub(crate) fn new(socket: PathBuf) -> AdminClient {
        AdminClient { socket }
    }

    /// A call below /api/v1; what it is answered, null when that is nothing.
    ///
    /// # Errors
    /// The relay's own sentence, or why there is no answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let text = self.text(method, &format!("/api/v1{path}"), body)?;
        match text.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}").into()),
        }
    }

    /// A POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.call("POST", path, Some(body))
    }

    /// The id of the client with this address; there must be one.
    pub(crate) fn id_of(&self, address: std::net::SocketAddr) -> Outcome<String> {
        let (mut after, wanted) = (String::new(), address.to_string());
        loop {
            let path = format!("/clients?network={}&limit={PAGE}{after}", address.ip());
            let page = self.call("GET", &path, None)?;
            let clients = page["clients"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(found) = clients.iter().find(|client| client["address"] == wanted) {
                return found["id"].as_str().map(str::to_string).ok_or_else(|| "a client without id".into());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Err(format!("the relay lists no client {address}").into()),
            }
        }
    }

    /// Does something to one client.
    pub(crate) fn act(&self, what: &str, id: &str, mut body: Value) -> Outcome {
        body["ids"] = json!([id]);
        let done = self.post(&format!("/clients/{what}"), &body)?;
        match done["clients"].as_u64() {
            Some(1) => Ok(()),
            _ => Err(format!("{what} of {id} was answered by {done}").into()),
        }
    }

    /// The sum over all shards of the metrics with this name, by the value of their label `by`.
    pub(crate) fn metrics(&self, name: &str, by: &str) -> Outcome<std::collections::BTreeMap<String, u64>> {
        let mut sums = std::collections::BTreeMap::new();
        for line in self.text("GET", "/metrics", None)?.lines() {
            let Some((labels, value)) = line
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('{'))
                .and_then(|rest| rest.split_once("} "))
            else {
                continue;
            };
            let label = labels.split(',').find_map(|label| label.strip_prefix(by)?.strip_prefix("=\""));
            let label = label.map(|label| label.trim_end_matches('"').to_string()).unwrap_or_default();
            *sums.entry(label).or_default() += value.parse::<f64>().unwrap_or(0.0) as u64;
        }
        Ok(sums)
    }

    fn text(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<String> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = UnixStream::connect(&self.socket)
            .map_err(|error| format!("the relay's {}: {error}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|error| format!("{method} {path}: {error}"))?;
        read(&answer).map_err(|what| format!("{method} {path}: {what}").into())
    }
}

/// The body of an answer; the sentence of an error.
fn read(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer has no end")?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body =
        if chunked { joined(body).ok_or("the answer's chunks cannot be read")? } else { body.to_string() };
    match status {
        Some(200..=299) => Ok(body),
        status => {
            let value = serde_json::from_str::<Value>(&body).unwrap_or(Value::Null);
            let sentence = value["error"]["message"].as_str().map(str::to_string);
            Err(sentence.unwrap_or_else(|| format!("status {status:?}: {body}")))
        }
    }
}

/// A body in chunks (RFC 9112 section 7.1).
fn joined(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, behind) = rest.split_once("\r\n")?;
        let length = usize::from_str_radix(length.split(';').next()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(behind.get(..length)?);
        rest = behind.get(length + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_and_in_chunks() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Ok("{}".to_string()));
        assert_eq!(read(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(String::new()));
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read(chunks), Ok("abcd".to_string()));
        let error = b"HTTP/1.1 404 Not Found\r\n\r\n{\"error\":{\"message\":\"no such client\"}}";
        assert_eq!(read(error), Err("no such client".to_string()));
        assert!(read(b"HTTP/1.1 500 X\r\n\r\noops").unwrap_err().contains("500"));
        assert!(read(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
