//! TLS: the record layer against a model of what was said, the handshake against anything.

use std::sync::{Arc, OnceLock};

use breakwater::base::End;
use breakwater::transport::tls::{
    Acceptor, Certificate, Client, ClientSetup, Handshake, Hello, MAX_HANDSHAKE_BYTES, Pem, Server, Session,
    Setup, Suite, Trust, peek,
};
use breakwater::transport::{Role, Shake};

// ---- records -------------------------------------------------------------------------------------------

/// One side's steps: it seals, forges, spoils and cuts; the other opens. What is opened is a beginning of what was said, and an
/// end is told by one alert. The first byte: suite and role; then steps of an opcode and an argument.
pub fn tls_records(data: &[u8]) {
    let Some((first, mut rest)) = data.split_first() else { return };
    let suite = [Suite::Aes128, Suite::Aes256, Suite::ChaCha][usize::from(first % 3)];
    let (ours, theirs) = match first & 4 {
        0 => (Role::Responder, Role::Initiator),
        _ => (Role::Initiator, Role::Responder),
    };
    let length = if suite == Suite::Aes256 { 48 } else { 32 };
    let side =
        |role| Session::from_secrets(role, suite, &[1; 48][..length], &[2; 48][..length]).expect("a session");
    let (mut opener, mut sealer) = (side(ours), side(theirs));
    let (mut said, mut wire, mut kept, mut got) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let [op, arg, behind @ ..] = rest {
        let (inner, behind) = behind.split_at(behind.len().min(usize::from(op >> 3)));
        rest = behind;
        match op & 7 {
            0 => {
                let plain = vec![*arg; usize::from(*arg) * 150];
                sealer.seal(&plain, &mut wire);
                said.extend_from_slice(&plain);
            }
            1 | 2 => {
                sealer.seal_raw(*arg, inner, &mut wire);
                // Its type is the last byte that is not zero.
                let whole = [inner, &[*arg]].concat();
                if let Some(end) = whole.iter().rposition(|byte| *byte != 0).filter(|end| whole[*end] == 23) {
                    said.extend_from_slice(&whole[..end]);
                }
            }
            3 if arg & 1 == 0 => sealer.refresh(&mut wire),
            3 => sealer.refresh_both(&mut wire),
            4 => {
                let at = usize::from(*arg).min(wire.len().saturating_sub(1));
                if let Some(byte) = wire.get_mut(at) {
                    *byte ^= inner.first().copied().unwrap_or(1);
                }
            }
            5 => wire.extend_from_slice(inner),
            6 => {
                for piece in wire.chunks(usize::from(*arg) + 1) {
                    kept.extend_from_slice(piece);
                    if !opened(&mut opener, &mut sealer, &mut kept, &mut got, &said) {
                        return;
                    }
                }
                wire.clear();
            }
            _ => sealer.close(&mut wire),
        }
    }
}

/// Opens what there is. False when that was the end.
fn opened(
    opener: &mut Session,
    sealer: &mut Session,
    kept: &mut Vec<u8>,
    got: &mut Vec<u8>,
    said: &[u8],
) -> bool {
    let (mut reply, length) = (Vec::new(), kept.len());
    let outcome = opener.open(kept, &mut reply);
    let mut none = Vec::new();
    let heard = sealer.open(&mut reply, &mut none);
    match outcome {
        Ok(now) => {
            assert!(
                now.plain <= now.used && now.used <= length && (now.closed || now.need > length - now.used)
            );
            got.extend_from_slice(&kept[..now.plain]);
            kept.drain(..now.used);
            assert!(said.starts_with(got), "what was never said");
            // Many requests for key updates, and nothing else, are many answers and nothing else.
            assert!(matches!(heard, Ok(_) | Err(End::TlsLimit)), "{heard:?}");
            !now.closed
        }
        Err(end) => {
            match (end, heard) {
                // An alert of the peer's own has no answer.
                (End::TlsAlert, Ok(_)) => assert!(reply.is_empty()),
                (_, heard) => {
                    assert!(matches!(heard, Err(End::TlsAlert | End::TlsLimit)), "{end}: {heard:?}")
                }
            }
            let mut more = Vec::new();
            assert_eq!(opener.open(&mut [], &mut more), Err(end));
            opener.seal(b"more", &mut more);
            assert!(more.is_empty(), "words after the end");
            false
        }
    }
}

// ---- handshake -----------------------------------------------------------------------------------------

/// Both sides of a handshake, made once.
fn sides() -> &'static (Arc<Server>, Client) {
    static SIDES: OnceLock<(Arc<Server>, Client)> = OnceLock::new();
    SIDES.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = Certificate {
            chain: Pem::Text(made.cert.pem()),
            key: Pem::Text(made.signing_key.serialize_pem()),
        };
        let setup = Setup { certificates: vec![certificate], ..Setup::default() };
        let client = ClientSetup {
            name: "localhost".into(),
            trust: Trust::InsecureAnyCertificate,
            alpn: true,
            certificate: None,
            tickets: 1,
        };
        (Server::load(&setup, None).expect("a server"), Client::new(&client).expect("a client"))
    })
}

/// Bytes for a server, or a client when the first byte is odd, in pieces as long as the second says.
pub fn tls_handshake(data: &[u8]) {
    let [first, second, bytes @ ..] = data else { return };
    let (server, client) = sides();
    let mut out = Vec::new();
    let begun = match first & 1 {
        0 => Acceptor::new(server).begin(),
        _ => client.begin(first & 2 == 0, &mut out),
    };
    if first & 1 == 0 {
        looked_at(bytes);
    }
    let mut handshake: Box<Handshake> = begun.expect("a handshake");
    let mut kept = Vec::new();
    for piece in bytes.chunks(usize::from(*second) * 8 + 1) {
        kept.extend_from_slice(piece);
        let length = kept.len();
        match handshake.step(&mut kept, &mut out) {
            Shake::More { handshake: next, used } => {
                assert!(used <= length);
                kept.drain(..used);
                assert!(kept.len() <= MAX_HANDSHAKE_BYTES);
                handshake = next;
            }
            Shake::Done { used, .. } => {
                assert!(used <= length);
                return;
            }
            Shake::Failed(end) => {
                assert!(first & 1 == 1 || end == End::TlsAlert || !out.is_empty(), "{end} without a word");
                return;
            }
        }
    }
}

/// What is said of more bytes does not contradict what was said of fewer.
fn looked_at(bytes: &[u8]) {
    let mut last = Hello::Incomplete;
    for cut in (0..bytes.len().min(2_000)).step_by(7).chain([bytes.len()]) {
        let now = peek(&bytes[..cut]);
        assert!(last == Hello::Incomplete || now == last, "{last:?}, then {now:?}");
        last = now;
    }
}

/// What a client and a server say first, for the corpus.
#[allow(dead_code)] // Only the corpus' maker asks.
pub fn first_words() -> Vec<(&'static str, Vec<u8>)> {
    let (server, client) = sides();
    let mut hello = Vec::new();
    let theirs = client.begin(false, &mut hello).expect("a handshake");
    let mut answer = Vec::new();
    let ours = Acceptor::new(server).begin().expect("a handshake").step(&mut hello.clone(), &mut answer);
    let mut finished = Vec::new();
    let flight = answer.clone();
    let Shake::Done { session: mut client_side, .. } = theirs.step(&mut answer, &mut finished) else {
        panic!("not done")
    };
    let Shake::More { handshake, .. } = ours else { panic!("more") };
    let mut ticket = Vec::new();
    assert!(matches!(handshake.step(&mut finished, &mut ticket), Shake::Done { .. }));
    client_side.open(&mut ticket, &mut Vec::new()).expect("a ticket");
    let mut resuming = Vec::new();
    client.begin(true, &mut resuming).expect("a handshake");
    vec![("hello", hello), ("resuming", resuming), ("flight", flight)]
}
