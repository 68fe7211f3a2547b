//! One request on one connection, by hand: nothing between the test and the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::support::wait::PATIENCE;

pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.headers, self.body))
    }

    /// The value of a header, in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_lowercase())
    }
}

/// A connection of either kind.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub fn unix(path: &Path) -> Box<dyn Stream> {
    let stream = UnixStream::connect(path).expect("the socket is there");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

pub fn tcp(address: SocketAddr) -> Box<dyn Stream> {
    let stream = TcpStream::connect(address).expect("the address answers");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Box::new(stream)
}

/// Head and body as they are, read to the end of the connection.
pub fn exchange(mut stream: Box<dyn Stream>, request: &[u8]) -> Answer {
    // A server that has refused already may not read all of it.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a status");
    Answer { status, headers: headers.to_owned(), body: body.to_owned() }
}

/// A request with JSON, or without a body.
pub fn request(method: &str, path: &str, body: Option<&str>, more: &str) -> Vec<u8> {
    let kind = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
    let body = body.unwrap_or("");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    format!("{head}Content-Length: {length}\r\n{kind}{more}\r\n{body}").into_bytes()
}
