//! Certificates, and pairs of sides that talk in memory.

use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};

use crate::base::End;
use crate::transport::Shake;
use crate::transport::tls::*;

/// A CA, and what it signs.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> Pem {
        Pem::Text(self.0.pem())
    }

    pub fn sign(&self, names: &[&str]) -> Certificate {
        self.sign_until(names, 2090)
    }

    pub fn sign_until(&self, names: &[&str], until_year: i32) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.0).unwrap();
        Certificate { chain: Pem::Text(own.pem()), key: Pem::Text(key.serialize_pem()) }
    }
}

pub fn server(setup: &Setup) -> Arc<Server> {
    Server::load(setup, None).unwrap()
}

pub fn plain_setup() -> Setup {
    Setup { certificates: vec![Ca::new().sign(&["localhost"])], ..Setup::default() }
}

pub fn any_client(tickets: usize) -> Client {
    Client::new(&ClientSetup {
        name: "localhost".into(),
        trust: Trust::InsecureAnyCertificate,
        alpn: true,
        certificate: None,
        tickets,
    })
    .unwrap()
}

pub struct Pair {
    pub server: Box<Session>,
    pub client: Box<Session>,
}

/// A handshake of ours with ours; the server's ticket has been opened by the client.
pub fn connect(
    acceptor: &Acceptor,
    client: &Client,
    resume: bool,
) -> Result<Pair, (Option<End>, Option<End>)> {
    let mut to_server = Vec::new();
    let mut to_client = Vec::new();
    let mut client_side = Some(client.begin(resume, &mut to_server).unwrap());
    let mut server_side = Some(acceptor.begin().unwrap());
    let (mut client_session, mut server_session) = (None, None);
    let (mut client_end, mut server_end) = (None, None);
    for _ in 0..10 {
        if let Some(side) = server_side.take() {
            match side.step(&mut to_server, &mut to_client) {
                Shake::More { handshake, used } => {
                    to_server.drain(..used);
                    server_side = Some(handshake);
                }
                Shake::Done { session, used } => {
                    to_server.drain(..used);
                    server_session = Some(session);
                }
                Shake::Failed(end) => server_end = Some(end),
            }
        }
        if let Some(side) = client_side.take() {
            match side.step(&mut to_client, &mut to_server) {
                Shake::More { handshake, used } => {
                    to_client.drain(..used);
                    client_side = Some(handshake);
                }
                Shake::Done { session, used } => {
                    to_client.drain(..used);
                    client_session = Some(session);
                }
                Shake::Failed(end) => client_end = Some(end),
            }
        }
    }
    match (server_session, client_session) {
        (Some(server), Some(mut client)) => {
            let opened = client.open(&mut to_client, &mut to_server).unwrap();
            assert_eq!((opened.plain, opened.used), (0, to_client.len()));
            Ok(Pair { server, client })
        }
        (None, Some(mut client)) => {
            let end = client.open(&mut to_client, &mut to_server).err();
            Err((server_end, end))
        }
        _ => Err((server_end, client_end)),
    }
}

/// Everything that `from` seals of `plain` is what `to` opens.
pub fn carry(from: &mut Session, to: &mut Session, plain: &[u8]) {
    let (mut wire, mut reply) = (Vec::new(), Vec::new());
    from.seal(plain, &mut wire);
    assert!(wire.len() <= Session::sealed_len(plain.len()));
    let opened = to.open(&mut wire, &mut reply).unwrap();
    assert_eq!(&wire[..opened.plain], plain);
    assert_eq!(opened.used, wire.len());
    assert!(reply.is_empty());
}
