//! Publishers: each makes its server send one message of 61 bytes to every subscriber.
//!
//! A publisher is a plain blocking socket that speaks as much of a protocol as this takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bitcoin::ScriptBuf;
use breakwater::feed::blocks::inv_message;
use serde_json::{Value, json};

use super::stub::Stub;
use crate::floor::Floor;
use crate::swarm::Manner;
use crate::swarm::raw::{Length, Meaning, Raw, Word};
use crate::{MAGIC, Outcome};

/// Longest wait for an answer: Bitcoin Core mines while thousands of peers are behind.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What makes a server send.
pub(super) enum Publisher {
    /// Our own node behind breakwater: mines.
    Stub(Stub),
    /// A full node with JSON-RPC: mines.
    Node(Rpc),
    /// A server that is published to by these bytes, and answers with so many.
    Plain { stream: TcpStream, message: Vec<u8>, answer: bool },
    /// What stands behind a proxy: sends to all its connections.
    Sink(Box<Floor>),
}

impl Publisher {
    /// So many subscribers connect; behind a proxy they must be taken.
    pub(super) fn expect(&mut self, subscribers: u32) -> Outcome {
        match self {
            Publisher::Sink(floor) => floor.accept(subscribers),
            _ => Ok(()),
        }
    }

    /// One message to all.
    pub(super) fn publish(&mut self) -> Outcome {
        match self {
            Publisher::Stub(node) => node.mine(),
            Publisher::Node(rpc) => rpc.mine(1),
            Publisher::Plain { stream, message, answer } => {
                stream.write_all(message)?;
                if *answer { read_line(stream).map(drop) } else { Ok(()) }
            }
            Publisher::Sink(floor) => floor.send_all(&inv_message(MAGIC, &[3; 32])),
        }
    }
}

fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn read_line(stream: &mut TcpStream) -> Outcome<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" && line.len() < 65_536 {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// A subscriber of nats-server: says PING behind its subscription, so that PONG tells that it stands.
static NATS: Raw = Raw {
    greeting: b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB x 1\r\nPING\r\n",
    words: &[
        Word { begins: b"MSG x 1 47\r\n", length: Length::Bytes(61), meaning: Meaning::Delivery },
        Word { begins: b"PONG", length: Length::Line, meaning: Meaning::Ready },
        Word { begins: b"PING", length: Length::Line, meaning: Meaning::Answer(b"PONG\r\n") },
        Word { begins: b"INFO", length: Length::Line, meaning: Meaning::Nothing },
    ],
};
pub(super) const NATS_SUBSCRIBER: Manner = Manner::Raw(&NATS);

pub(super) fn nats(address: SocketAddr) -> Outcome<Publisher> {
    let mut stream = connect(address)?;
    // INFO comes first.
    read_line(&mut stream)?;
    stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
    let message = format!("PUB x 47\r\n{}\r\n", "p".repeat(47)).into_bytes();
    Ok(Publisher::Plain { stream, message, answer: false })
}

/// MQTT 3.1.1: CONNECT with a clean session, no keep-alive and no name.
const MQTT_CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";

/// A subscriber of mosquitto: CONNECT, then SUBSCRIBE to the topic x with QoS 0.
static MQTT: Raw = Raw {
    greeting: b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x82\x06\x00\x01\x00\x01x\x00",
    words: &[
        Word { begins: b"\x30\x3b\x00\x01x", length: Length::Bytes(61), meaning: Meaning::Delivery },
        Word { begins: b"\x20\x02", length: Length::Bytes(4), meaning: Meaning::Nothing },
        Word { begins: b"\x90\x03", length: Length::Bytes(5), meaning: Meaning::Ready },
    ],
};
pub(super) const MQTT_SUBSCRIBER: Manner = Manner::Raw(&MQTT);

pub(super) fn mqtt(address: SocketAddr) -> Outcome<Publisher> {
    let mut stream = connect(address)?;
    stream.write_all(MQTT_CONNECT)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != *b"\x20\x02\x00\x00" {
        return Err(format!("mosquitto refuses the publisher: {answer:02x?}").into());
    }
    let mut message = b"\x30\x3b\x00\x01x".to_vec();
    message.resize(61, b'p');
    Ok(Publisher::Plain { stream, message, answer: false })
}

/// A subscriber of redis-server.
static RESP: Raw = Raw {
    greeting: b"SUBSCRIBE x\r\n",
    words: &[
        Word {
            begins: b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$30\r\n",
            length: Length::Bytes(61),
            meaning: Meaning::Delivery,
        },
        Word {
            begins: b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
            length: Length::Bytes(30),
            meaning: Meaning::Ready,
        },
    ],
};
pub(super) const RESP_SUBSCRIBER: Manner = Manner::Raw(&RESP);

pub(super) fn resp(address: SocketAddr) -> Outcome<Publisher> {
    let message = format!("PUBLISH x {}\r\n", "p".repeat(30)).into_bytes();
    Ok(Publisher::Plain { stream: connect(address)?, message, answer: true })
}

/// JSON-RPC over HTTP, as far as mining needs it: one connection per call.
pub(super) struct Rpc {
    address: SocketAddr,
    /// Whom blocks pay: anyone.
    payee: String,
}

impl Rpc {
    pub(super) fn new(address: SocketAddr) -> Rpc {
        let script = ScriptBuf::from_bytes(vec![0x51]);
        let payee = bitcoin::Address::p2wsh(&script, bitcoin::Network::Regtest).to_string();
        Rpc { address, payee }
    }

    pub(super) fn mine(&self, blocks: u32) -> Outcome {
        self.call("generatetoaddress", json!([blocks, self.payee])).map(drop)
    }

    pub(super) fn call(&self, method: &str, params: Value) -> Outcome<Value> {
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params}).to_string();
        let mut stream = connect(self.address)?;
        // "bench:bench"; bcoin is started without authentication.
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic YmVuY2g6YmVuY2g=\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method}: no HTTP answer"))?;
        let mut answer: Value = serde_json::from_str(body).map_err(|error| format!("{method}: {error}"))?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(format!("{method}: {error}").into()),
        }
    }
}
