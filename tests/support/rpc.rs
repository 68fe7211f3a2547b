//! JSON-RPC over HTTP, as far as bcoin and Bitcoin Core need it: one connection per call.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);

/// "test:test" in base64; Bitcoin Core is started with that user, bcoin does not look.
const AUTHORIZATION: &str = "Basic dGVzdDp0ZXN0";

pub struct Rpc {
    address: SocketAddr,
}

impl Rpc {
    pub fn new(address: SocketAddr) -> Rpc {
        Rpc { address }
    }

    /// The result, or the error in the node's or the system's words.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).to_string();
        let answer = self.exchange(&body).map_err(|e| format!("{method}: {e}"))?;
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|e| format!("{method}: {e} in {answer:?}"))?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(format!("{method}: {error}")),
        }
    }

    fn exchange(&self, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        // Both nodes send the body in one piece with its length, and close after it.
        match answer.split_once("\r\n\r\n") {
            Some((_, body)) => Ok(body.to_string()),
            None => Err(std::io::Error::other(format!("no HTTP answer: {answer:?}"))),
        }
    }
}
