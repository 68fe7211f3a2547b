//! The other side of encrypted connections on the scripted kernel: rustls, and a BIP324 initiator.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use breakwater::base::End;
use breakwater::shard::{ListenerKind, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::transport::{Pipe, tls};
use breakwater::wire::{Framing, Step};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::rig::{Manner, Rig, config, version};
use breakwater::wire::write;

/// Listeners of [`secure_config`].
pub const PLAIN_PORT: u8 = 0;
pub const TLS_PORT: u8 = 1;

/// Who is at the other end.
pub enum Side {
    V2(Box<Pipe>),
    Tls(Box<rustls::ClientConnection>),
}

/// A client that speaks an encrypted transport.
pub struct Peer {
    pub conn: u32,
    pub side: Side,
    /// Opened and not looked at.
    plain: Vec<u8>,
    /// What the other side made of the stream's end.
    pub heard: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    V2,
    Tls,
}

pub const BOTH: [Over; 2] = [Over::V2, Over::Tls];

pub fn certificate() -> (tls::Setup, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let certificate = tls::Certificate {
        chain: tls::Pem::Text(made.cert.pem()),
        key: tls::Pem::Text(made.signing_key.serialize_pem()),
    };
    (tls::Setup { certificates: vec![certificate], ..tls::Setup::default() }, roots)
}

/// A shard with a plain and a TLS listener, and a way to make clients for it.
pub struct Secure {
    pub rig: Rig,
    config: Arc<rustls::ClientConfig>,
    seed: u64,
}

impl Secure {
    pub fn new() -> Secure {
        Secure::with(|config| config)
    }

    pub fn with(change: impl FnOnce(ShardConfig) -> ShardConfig) -> Secure {
        let (setup, roots) = certificate();
        let config = change(ShardConfig {
            listeners: vec![ListenerKind::Plain.into(), ListenerKind::Tls.into()],
            v2: true,
            tls: Some(tls::Server::load(&setup, None).unwrap()),
            ..config()
        });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Secure { rig: Rig::with(config), config: Arc::new(client), seed: 0 }
    }

    /// A connection whose first bytes are on their way.
    pub fn begin(&mut self, over: Over) -> Peer {
        self.seed += 1;
        let mut out = Vec::new();
        let (port, side) = match over {
            Over::V2 => {
                let mut rng = StdRng::seed_from_u64(self.seed);
                (PLAIN_PORT, Side::V2(Box::new(Pipe::v2(MAGIC, &mut rng, &mut out))))
            }
            Over::Tls => {
                let name = "localhost".try_into().unwrap();
                let mut tls = rustls::ClientConnection::new(self.config.clone(), name).unwrap();
                tls.write_tls(&mut out).unwrap();
                (TLS_PORT, Side::Tls(Box::new(tls)))
            }
        };
        let conn = self.stranger(port);
        self.raw(conn, &out);
        Peer { conn, side, plain: Vec::new(), heard: None }
    }

    /// A connection whose transport is open.
    pub fn open(&mut self, over: Over) -> Peer {
        let mut peer = self.begin(over);
        self.pump(&mut peer);
        assert!(peer.is_open(), "{over:?}");
        peer
    }

    /// A client that has shaken hands; what it was told until then is dropped.
    pub fn client(&mut self, over: Over, manner: Manner) -> Peer {
        let mut peer = self.open(over);
        let mut out = version(manner.relay, 7);
        if manner.wtxid {
            write::empty(&mut out, MAGIC, "wtxidrelay");
        }
        write::empty(&mut out, MAGIC, "verack");
        self.send(&mut peer, &out);
        let told = self.commands(&mut peer);
        assert_eq!(told.first().map(String::as_str), Some("version"), "{over:?}");
        peer
    }

    /// No client resumes.
    pub fn without_tickets(mut self) -> Secure {
        Arc::get_mut(&mut self.config).unwrap().resumption = rustls::client::Resumption::disabled();
        self
    }

    pub fn stranger(&mut self, port: u8) -> u32 {
        let conn = self.rig.kernel.connect_to(port, SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 40_000)));
        self.rig.settle();
        conn
    }

    /// Bytes as they are.
    pub fn raw(&mut self, conn: u32, bytes: &[u8]) {
        self.rig.send(conn, bytes);
    }

    /// What the shard has sent as it is, and nobody has looked at.
    pub fn take_raw(&mut self, conn: u32) -> Vec<u8> {
        std::mem::take(&mut self.rig.kernel.0.borrow_mut().peers.get_mut(&conn).unwrap().out)
    }

    /// Messages of a client, sealed.
    pub fn send(&mut self, peer: &mut Peer, frames: &[u8]) {
        let bytes = peer.seal(frames);
        self.raw(peer.conn, &bytes);
        self.pump(peer);
    }

    /// Brings to the client what was sent to it, and what it answers to the shard, until nothing moves.
    pub fn pump(&mut self, peer: &mut Peer) {
        for _ in 0..1_000 {
            let mut came = self.take_raw(peer.conn);
            let answer = peer.take(&mut came);
            if !answer.is_empty() {
                self.raw(peer.conn, &answer);
            } else if came.is_empty() {
                return;
            }
        }
        panic!("the two never come to rest");
    }

    /// The whole messages a client has been sent since the last call.
    pub fn messages(&mut self, peer: &mut Peer) -> Vec<(String, Vec<u8>)> {
        self.pump(peer);
        let framing = match &peer.side {
            Side::V2(_) => Framing::V2,
            Side::Tls(_) => Framing::V1(MAGIC),
        };
        let (mut found, mut at) = (Vec::new(), 0);
        while at < peer.plain.len() {
            match framing.split(&peer.plain[at..]) {
                Step::Message { command, payload, used } => {
                    found.push((command.name().to_owned(), payload.to_vec()));
                    at += used;
                }
                other => panic!("{} bytes at {at} are no message: {other:?}", peer.plain.len() - at),
            }
        }
        peer.plain.clear();
        found
    }

    pub fn commands(&mut self, peer: &mut Peer) -> Vec<String> {
        self.messages(peer).into_iter().map(|(command, _)| command).collect()
    }

    pub fn ends(&self, end: End) -> u64 {
        self.rig.ends(end)
    }
}

impl Peer {
    pub fn is_open(&self) -> bool {
        match &self.side {
            Side::V2(pipe) => pipe.is_open(),
            Side::Tls(tls) => !tls.is_handshaking(),
        }
    }

    pub fn tls(&mut self) -> &mut rustls::ClientConnection {
        match &mut self.side {
            Side::Tls(tls) => tls,
            Side::V2(_) => panic!("no TLS"),
        }
    }

    pub fn seal(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.side {
            Side::V2(pipe) => pipe.send(frames, &mut out),
            Side::Tls(tls) => {
                tls.set_buffer_limit(None);
                tls.writer().write_all(frames).unwrap();
                while tls.wants_write() {
                    tls.write_tls(&mut out).unwrap();
                }
            }
        }
        out
    }

    /// Takes what was sent to it; what it has to say to that.
    fn take(&mut self, bytes: &mut [u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.side {
            Side::V2(pipe) => {
                if let Err(end) = pipe.received(bytes, &mut self.plain, &mut out) {
                    self.heard.get_or_insert(format!("{end:?}"));
                }
            }
            Side::Tls(tls) => {
                let mut left = &*bytes;
                while !left.is_empty() {
                    tls.read_tls(&mut left).unwrap();
                    match tls.process_new_packets() {
                        Ok(state) => {
                            let mut some = vec![0; state.plaintext_bytes_to_read()];
                            tls.reader().read_exact(&mut some).unwrap();
                            self.plain.extend(some);
                            if state.peer_has_closed() {
                                self.heard.get_or_insert("close_notify".to_string());
                            }
                        }
                        Err(error) => {
                            self.heard.get_or_insert(format!("{error:?}"));
                            // What was opened before it is there all the same.
                            let _ = tls.reader().read_to_end(&mut self.plain);
                            break;
                        }
                    }
                }
                while tls.wants_write() {
                    tls.write_tls(&mut out).unwrap();
                }
            }
        }
        out
    }
}
