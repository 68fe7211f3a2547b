//! TLS in memory, on one core: handshakes as the shard does them against a bare rustls loop, and records.
//!
//! Ours looks at the first bytes, accepts, steps and ends with a session; the bare loop is rustls' unbuffered connection with the same
//! settings and rustls' own ticketer, and ends with the connection. Both get the same clients; the clients' work is not in the
//! figures. A round is a batch of handshakes half by half, as they come to a shard: first all hellos, then all answers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use breakwater::base::End;
use breakwater::transport::tls::{
    Acceptor, Certificate, Client, ClientSetup, Handshake, Pem, Server, Session, Setup, Suite, Trust, peek,
};
use breakwater::transport::{Role, Shake};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::ConnectionState;
use serde_json::json;

use super::{Common, RELAY_CORE, quartile};
use crate::certificate::self_signed;
use crate::report::Report;
use crate::{Outcome, os};

/// Of the bare loop's rate, at least.
const TARGET: f64 = 0.85;
/// Rounds of each before those that count.
const WARM_UP: u32 = 2;
/// Sizes of the records: an announcement, a kilobyte, the longest.
const SIZES: [(usize, &str); 3] = [(61, "61 B"), (1_024, "1 KB"), (16_384, "16 KB")];
const SUITES: [(Suite, &str, usize); 3] =
    [(Suite::Aes128, "aes128", 32), (Suite::Aes256, "aes256", 48), (Suite::ChaCha, "chacha", 32)];

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Handshakes in a round.
    #[arg(long, default_value_t = 200)]
    batch: usize,
    /// Rounds measured, of each kind.
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: Args) -> Outcome {
    let (batch, rounds) = if args.common.tiny { (3, 2) } else { (args.batch, args.rounds) };
    let mut report = Report::new("tls", json!({ "batch": batch, "rounds": rounds }));
    os::pin(RELAY_CORE);
    let sides = Sides::make()?;
    let mut ratios = Vec::new();
    for (key, text, resume) in [("full", "full handshake", false), ("resumed", "resumed handshake", true)] {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        let (our_clients, bare_clients) = (Sides::client()?, Sides::client()?);
        // Each loop resumes by tickets of its own.
        sides.ours(&our_clients, 1, false)?;
        sides.bare(&bare_clients, 1, false)?;
        for round in 0..WARM_UP + rounds {
            let o = sides.ours(&our_clients, batch, resume)?;
            let b = sides.bare(&bare_clients, batch, resume)?;
            if round >= WARM_UP {
                ours.push(o.as_secs_f64() * 1e6 / batch as f64);
                bare.push(b.as_secs_f64() * 1e6 / batch as f64);
            }
        }
        let (ours, bare) = (quartile(&mut ours), quartile(&mut bare));
        report.number(&format!("bare_{key}_us"), &format!("{text}, bare rustls loop"), bare, "us");
        report.number(&format!("{key}_us"), &format!("{text}, ours"), ours, "us");
        report.number(&format!("{key}_per_second"), "  a second, on one core", 1e6 / ours, "");
        ratios.push((format!("{key}_ratio"), format!("{text}s, rate against the bare loop"), bare / ours));
    }
    records(&mut report, if args.common.tiny { 10 } else { 20_000 })?;
    report.number("session_bytes", "an open session", size_of::<Session>() as f64, "bytes");
    report.number(
        "handshake_bytes",
        "a handshake, without rustls' heap",
        size_of::<Handshake>() as f64,
        "bytes",
    );
    if let [(_, full_text, full), (key, text, resumed)] = &ratios[..] {
        report.bound(key, text, *resumed, TARGET, true);
        report.at_least(full_text, *full, TARGET);
    }
    report.finish(args.common)
}

/// Both loops, of the same certificate.
struct Sides {
    acceptor: Acceptor,
    config: Arc<rustls::ServerConfig>,
}

impl Sides {
    fn make() -> Outcome<Sides> {
        let (chain, key) = self_signed()?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        let mut config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(chain.as_bytes())?],
                PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            )?;
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let certificates = vec![Certificate { chain: Pem::Text(chain), key: Pem::Text(key) }];
        let server = Server::load(&Setup { certificates, ..Setup::default() }, None)?;
        Ok(Sides { acceptor: Acceptor::new(&server), config: Arc::new(config) })
    }

    fn client() -> Outcome<Client> {
        Ok(Client::new(&ClientSetup {
            name: "localhost".into(),
            trust: Trust::InsecureAnyCertificate,
            alpn: false,
            certificate: None,
            tickets: 1,
        })?)
    }

    /// The time of our side for so many handshakes.
    fn ours(&self, client: &Client, batch: usize, resume: bool) -> Outcome<Duration> {
        let (clients, mut hellos) = begun(client, batch, resume)?;
        let mut flights = vec![Vec::new(); batch];
        let start = os::thread_cpu();
        let mut open = Vec::with_capacity(batch);
        for (hello, flight) in hellos.iter_mut().zip(&mut flights) {
            black_box(peek(hello));
            match self.acceptor.begin().map_err(said)?.step(hello, flight) {
                Shake::More { handshake, .. } => open.push(handshake),
                other => return Err(format!("no answer to a hello: {other:?}").into()),
            }
        }
        let first = os::thread_cpu() - start;
        let (mut theirs, mut answers) = answered(clients, &mut flights)?;
        flights.iter_mut().for_each(Vec::clear);
        let start = os::thread_cpu();
        let mut sessions = Vec::with_capacity(batch);
        for ((handshake, answer), last) in open.into_iter().zip(&mut answers).zip(&mut flights) {
            match handshake.step(answer, last) {
                Shake::Done { session, .. } if session.is_resumed() == resume => sessions.push(session),
                other => return Err(format!("not done: {other:?}").into()),
            }
        }
        let time = first + (os::thread_cpu() - start);
        take_tickets(&mut theirs, &mut flights)?;
        Ok(time)
    }

    /// The time of the bare loop for as many.
    fn bare(&self, client: &Client, batch: usize, resume: bool) -> Outcome<Duration> {
        let (clients, mut hellos) = begun(client, batch, resume)?;
        let mut flights = vec![Vec::new(); batch];
        let start = os::thread_cpu();
        let mut open = Vec::with_capacity(batch);
        for (hello, flight) in hellos.iter_mut().zip(&mut flights) {
            let mut connection = Box::new(UnbufferedServerConnection::new(self.config.clone())?);
            if pump(&mut connection, hello, flight)? {
                return Err("done too early".into());
            }
            open.push(connection);
        }
        let first = os::thread_cpu() - start;
        let (mut theirs, mut answers) = answered(clients, &mut flights)?;
        flights.iter_mut().for_each(Vec::clear);
        let start = os::thread_cpu();
        for ((connection, answer), last) in open.iter_mut().zip(&mut answers).zip(&mut flights) {
            if !pump(connection, answer, last)? {
                return Err("not done".into());
            }
        }
        let time = first + (os::thread_cpu() - start);
        take_tickets(&mut theirs, &mut flights)?;
        Ok(time)
    }
}

/// An end is a value, not an error.
fn said(end: End) -> String {
    format!("the connection ended: {end}")
}

#[allow(clippy::vec_box)] // A handshake is stepped in its box.
type Begun = (Vec<Box<Handshake>>, Vec<Vec<u8>>);

fn begun(client: &Client, batch: usize, resume: bool) -> Outcome<Begun> {
    let mut hellos = vec![Vec::new(); batch];
    let clients: Result<Vec<_>, _> = hellos.iter_mut().map(|hello| client.begin(resume, hello)).collect();
    Ok((clients.map_err(said)?, hellos))
}

/// The clients' side of the middle: their sessions, and what they answer.
#[allow(clippy::type_complexity, clippy::vec_box)] // Two lists; a handshake is stepped in its box.
fn answered(
    clients: Vec<Box<Handshake>>,
    flights: &mut [Vec<u8>],
) -> Outcome<(Vec<Box<Session>>, Vec<Vec<u8>>)> {
    let mut answers = vec![Vec::new(); clients.len()];
    let mut sessions = Vec::new();
    for ((client, flight), answer) in clients.into_iter().zip(flights).zip(&mut answers) {
        match client.step(flight, answer) {
            Shake::Done { session, .. } => sessions.push(session),
            other => return Err(format!("a client is not done: {other:?}").into()),
        }
    }
    Ok((sessions, answers))
}

fn take_tickets(sessions: &mut [Box<Session>], flights: &mut [Vec<u8>]) -> Outcome<()> {
    for (session, flight) in sessions.iter_mut().zip(flights) {
        session.open(flight, &mut Vec::new()).map_err(said)?;
    }
    Ok(())
}

/// Lets rustls read and say; whether the handshake is done.
fn pump(connection: &mut UnbufferedServerConnection, input: &mut [u8], out: &mut Vec<u8>) -> Outcome<bool> {
    let mut done = 0;
    loop {
        let status = connection.process_tls_records(&mut input[done..]);
        done += status.discard;
        match status.state? {
            ConnectionState::EncodeTlsData(mut data) => {
                let before = out.len();
                // The longest flight of this certificate fits.
                out.resize(before + 4_096, 0);
                let written = data.encode(&mut out[before..])?;
                out.truncate(before + written);
            }
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::BlockedHandshake => return Ok(false),
            ConnectionState::WriteTraffic(_) => return Ok(true),
            other => return Err(format!("{other:?}").into()),
        }
    }
}

/// Sealing and opening, per record; the key's schedule is in it each time.
fn records(report: &mut Report, count: usize) -> Outcome {
    for (suite, name, length) in SUITES {
        let side = |role| {
            Session::from_secrets(role, suite, &[1; 48][..length], &[2; 48][..length]).ok_or("secrets")
        };
        let (mut from, mut to) = (side(Role::Responder)?, side(Role::Initiator)?);
        for (size, text) in SIZES {
            let plain = vec![7u8; size];
            let (mut seals, mut opens) = (Vec::new(), Vec::new());
            // In rounds that stay in the cache, as what is sealed for one client after another does.
            let records = 20.min(count);
            let mut wires = vec![Vec::with_capacity(Session::sealed_len(size)); records];
            let mut reply = Vec::new();
            for _ in 0..count / records {
                wires.iter_mut().for_each(Vec::clear);
                let start = os::thread_cpu();
                wires.iter_mut().for_each(|wire| from.seal(black_box(&plain), wire));
                let middle = os::thread_cpu();
                for wire in &mut wires {
                    black_box(to.open(wire, &mut reply).map_err(said)?);
                }
                seals.push((middle - start).as_secs_f64() * 1e9 / records as f64);
                opens.push((os::thread_cpu() - middle).as_secs_f64() * 1e9 / records as f64);
            }
            let key = size.to_string();
            let (seal, open) = (quartile(&mut seals), quartile(&mut opens));
            report.number(
                &format!("{name}_seal_{key}_ns"),
                &format!("{name}, sealing a record of {text}"),
                seal,
                "ns",
            );
            report.number(
                &format!("{name}_open_{key}_ns"),
                &format!("{name}, opening one of {text}"),
                open,
                "ns",
            );
        }
    }
    Ok(())
}
