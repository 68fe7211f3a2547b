//! Handshakes: full, resumed, in pieces, refused.

use std::sync::{Arc, Mutex};

use rustls::{AlertDescription, Connection, KeyLog};

use super::support::*;
use crate::base::End;
use crate::transport::tls::*;
use crate::transport::{Role, Shake};

#[test]
fn full_then_resumed_by_the_same_ticket_again_and_again() {
    let server = server(&plain_setup());
    let acceptor = Acceptor::new(&server);
    let client = any_client(2);
    let mut pair = connect(&acceptor, &client, true).unwrap();
    assert!(!pair.server.is_resumed() && !pair.client.is_resumed());
    carry(&mut pair.server, &mut pair.client, b"to the client");
    carry(&mut pair.client, &mut pair.server, &[7; 100_000]);
    assert_eq!(client.tickets(), 1);
    let other = Acceptor::new(&server);
    for _ in 0..5 {
        let mut pair = connect(&other, &client, true).unwrap();
        assert!(pair.server.is_resumed() && pair.client.is_resumed());
        carry(&mut pair.server, &mut pair.client, b"to the client");
        carry(&mut pair.client, &mut pair.server, b"to the server");
    }
    assert_eq!(client.tickets(), 2);
    assert!(!connect(&other, &client, false).unwrap().server.is_resumed());
}

#[test]
fn keys_follow_from_the_captured_secrets() {
    for suite in SUITES {
        for role in [Role::Responder, Role::Initiator] {
            let (session, _) = with_rustls(suite, role, 1 << 20);
            assert!(session.tx == session.tx.derived_again(suite));
            assert!(session.rx == session.rx.derived_again(suite));
            assert!(session.tx != session.rx);
        }
    }
}

#[test]
fn every_size_of_pieces() {
    for role in [Role::Responder, Role::Initiator] {
        for piece in [1, 2, 3, 4, 5, 6, 7, 100, 127, 1000] {
            let (mut session, mut theirs) = with_rustls(Suite::Aes128, role, piece);
            let mut wire = Vec::new();
            session.seal(b"hello", &mut wire);
            assert_eq!(feed(&mut theirs, &wire).unwrap(), b"hello");
        }
    }
}

/// The same handshake bytes in records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in hello[5..].chunks(size) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[test]
fn a_client_hello_in_many_records_given_in_any_pieces() {
    let server = server(&plain_setup());
    let client = any_client(0);
    for (size, piece) in [(1, 1), (3, 7), (16, 1), (100, 1000), (50, 49)] {
        let mut hello = Vec::new();
        let mut theirs = client.begin(false, &mut hello).unwrap();
        let mut ours = Acceptor::new(&server).begin().unwrap();
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        for bytes in in_records(&hello, size).chunks(piece) {
            kept.extend_from_slice(bytes);
            match ours.step(&mut kept, &mut out) {
                Shake::More { handshake, used } => {
                    kept.drain(..used);
                    ours = handshake;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(kept.is_empty());
        let mut finished = Vec::new();
        let done = theirs.step(&mut out, &mut finished);
        assert!(matches!(done, Shake::Done { .. }));
        assert!(matches!(ours.step(&mut finished, &mut Vec::new()), Shake::Done { .. }));
        theirs = client.begin(false, &mut Vec::new()).unwrap();
        drop(theirs);
    }
}

#[test]
fn what_comes_behind_finished_is_left_for_the_session() {
    let server = server(&plain_setup());
    let client = any_client(0);
    let (mut wire, mut back) = (Vec::new(), Vec::new());
    let theirs = client.begin(false, &mut wire).unwrap();
    let Shake::More { handshake: ours, used } =
        Acceptor::new(&server).begin().unwrap().step(&mut wire, &mut back)
    else {
        panic!("more is needed");
    };
    wire.drain(..used);
    let Shake::Done { session: mut theirs, .. } = theirs.step(&mut back, &mut wire) else { panic!("done") };
    theirs.seal(b"at once", &mut wire);
    let Shake::Done { session: mut ours, used } = ours.step(&mut wire, &mut back) else { panic!("done") };
    let mut rest = wire.split_off(used);
    let opened = ours.open(&mut rest, &mut Vec::new()).unwrap();
    assert_eq!(&rest[..opened.plain], b"at once");
}

fn refused(bytes: &[u8]) -> (End, Vec<u8>) {
    let mut ours = Acceptor::new(&server(&plain_setup())).begin().unwrap();
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(1000) {
        kept.extend_from_slice(piece);
        match ours.step(&mut kept, &mut out) {
            Shake::More { handshake, used } => {
                kept.drain(..used);
                ours = handshake;
            }
            Shake::Done { .. } => panic!("done"),
            Shake::Failed(end) => return (end, out),
        }
    }
    panic!("it is not refused");
}

const fn plain_alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// A ClientHello as of 2008, with this version in front: no extension says that there is anything newer.
fn hello_of_old(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 4, 0xc0, 0x2f, 0xc0, 0x2b, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(extensions);
    let mut hello = vec![22, 3, 1];
    hello.extend_from_slice(&u16::try_from(body.len() + 4).unwrap().to_be_bytes());
    hello.extend_from_slice(&[1, 0]);
    hello.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    hello.extend_from_slice(&body);
    hello
}

#[test]
fn what_is_not_tls_1_3_is_told_so() {
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let versions = |low| [0, 43, 0, 5, 4, 3, 3, 3, low];
    let olds = [
        hello_of_old([3, 3], &[groups, signatures].concat()),
        hello_of_old([3, 1], &groups),
        hello_of_old([3, 2], &[]),
        hello_of_old([3, 3], &[&groups[..], &signatures, &versions(2)].concat()),
        // Offers TLS 1.3, but with SSL 3.0 in front.
        hello_of_old([3, 0], &[&groups[..], &signatures, &versions(4)].concat()),
        hello_of_old([2, 0], &[&groups[..], &signatures, &versions(4)].concat()),
    ];
    for hello in olds {
        assert_eq!(peek(&hello), Hello::Full);
        for size in [1, 20, 1_000] {
            assert_eq!(refused(&in_records(&hello, size)), (End::TlsVersion, plain_alert(70).to_vec()));
        }
    }
    // One that offers TLS 1.3 and lacks a key share is another matter.
    let lacking = hello_of_old([3, 3], &[&groups[..], &signatures, &versions(4)].concat());
    assert_eq!(refused(&lacking).0, End::TlsHandshake);
    for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xf9, 0xbe, 0xb4, 0xd9, b'v', b'e'], &[22, 3, 1, 0, 0, 1]]
    {
        assert_eq!(peek(other), Hello::Other);
        let (end, alert) = refused(other);
        assert_eq!((end, alert.len(), &alert[..3]), (End::NotTls, 7, &[21, 3, 3][..]));
    }
}

#[test]
fn a_handshake_is_bounded() {
    let mut hello = vec![0; 5];
    hello.extend_from_slice(&[1, 0, 0xff, 0xff]);
    hello.resize(5 + 4 + 0xffff, 0);
    let (end, alert) = refused(&in_records(&hello, 16_000));
    assert_eq!((end, &alert[..]), (End::TlsLimit, &plain_alert(40)[..]));
}

/// Takes the secret that a client seals its side of the handshake with.
#[derive(Debug, Default)]
struct Tapped(Mutex<Vec<u8>>);

impl KeyLog for Tapped {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_HANDSHAKE_TRAFFIC_SECRET" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

/// Our server gets the hello of rustls' client and then these bytes instead of its answer; the keys are those that the client would
/// seal it with. Gives our end and the client's.
fn instead(bytes: impl Fn(&[u8], &mut suite::Keys) -> Vec<u8>) -> (End, rustls::Error) {
    let tapped = Arc::new(Tapped::default());
    let mut theirs = rustls_client_with(Suite::Aes256, |config| config.key_log = tapped.clone());
    let (mut wire, mut out) = (Vec::new(), Vec::new());
    theirs.write_tls(&mut wire).unwrap();
    let server = server(&plain_setup());
    let Shake::More { mut handshake, .. } = Acceptor::new(&server).begin().unwrap().step(&mut wire, &mut out)
    else {
        panic!("more is needed");
    };
    feed(&mut theirs, &out).unwrap();
    let mut answer = Vec::new();
    while theirs.wants_write() {
        theirs.write_tls(&mut answer).unwrap();
    }
    let (mut kept, mut out) = (Vec::new(), Vec::new());
    let mut keys = suite::Keys::derived(Suite::Aes256, &tapped.0.lock().unwrap()).unwrap();
    for piece in bytes(&answer, &mut keys).chunks(100) {
        kept.extend_from_slice(piece);
        match handshake.step(&mut kept, &mut out) {
            Shake::More { handshake: next, used } => {
                kept.drain(..used);
                handshake = next;
            }
            Shake::Done { .. } => panic!("done"),
            Shake::Failed(end) => return (end, feed(&mut theirs, &out).expect_err("an alert")),
        }
    }
    panic!("it is not refused");
}

#[test]
fn failures_behind_the_server_hello_are_told_under_the_right_key() {
    let (end, alert) = instead(|answer, _| {
        let mut spoilt = answer.to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        spoilt
    });
    assert_eq!(end, End::TlsBadRecord);
    assert_eq!(alert, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    // rustls itself says nothing to these two.
    let (end, alert) = instead(|_, _| [20, 3, 3, 0, 1, 1].repeat(40));
    assert_eq!(end, End::TlsHandshake);
    assert_eq!(alert, rustls::Error::AlertReceived(AlertDescription::UnexpectedMessage));
    let sealed = |keys: &mut suite::Keys, contents: &[(u8, &[u8])]| {
        let (cipher, mut out) = (keys.cipher(Suite::Aes256).unwrap(), Vec::new());
        for (content, plain) in contents {
            session::record(keys, &cipher, *content, plain, &mut out).unwrap();
        }
        out
    };
    let padded = &[(0, &[22u8, 0, 0][..]); 40][..];
    let wrong: [&[(u8, &[u8])]; 5] = [
        // An empty one; many with padding only; a cut one with an alert or another content between; data before Finished.
        &[(22, &[])],
        padded,
        &[(22, &[20, 0]), (21, &[1, 0])],
        &[(22, &[20, 0]), (23, b"data")],
        &[(23, b"data")],
    ];
    for contents in wrong {
        let (end, alert) = instead(|_, keys| sealed(keys, contents));
        assert!(matches!(end, End::TlsHandshake | End::TlsUnexpected), "{end} {contents:?}");
        assert_eq!(alert, rustls::Error::AlertReceived(AlertDescription::UnexpectedMessage), "{contents:?}");
    }
    let (end, alert) = instead(|_, _| [21, 3, 3, 0, 2, 1, 0].to_vec());
    assert_eq!(end, End::TlsAlert, "close_notify in the middle: {alert:?}");
}

#[test]
fn alpn_is_ours_or_none() {
    let offers: [(&[&[u8]], bool); 4] = [
        (&[], true),
        (&[b"bitcoin/1"], true),
        (&[b"h2", b"bitcoin/1"], true),
        (&[b"h2", b"bitcoin/2"], false),
    ];
    for (offer, welcome) in offers {
        let mut theirs = rustls_client_with(Suite::Aes128, |config| {
            config.alpn_protocols = offer.iter().map(|name| name.to_vec()).collect();
        });
        let ours = Acceptor::new(&server(&plain_setup())).begin().unwrap();
        let outcome = shake(ours, &mut theirs, Vec::new(), 1 << 16);
        match welcome {
            true => {
                outcome.unwrap();
                let chosen = theirs.alpn_protocol();
                assert_eq!(chosen, (!offer.is_empty()).then_some(&b"bitcoin/1"[..]));
            }
            false => {
                assert_eq!(outcome.unwrap_err(), End::TlsHandshake);
                let error = theirs.process_new_packets().unwrap_err();
                assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol));
            }
        }
    }
}

#[test]
fn a_group_without_a_key_share_takes_a_second_hello() {
    let mut theirs: Connection = rustls_client_with(Suite::Aes128, |config| {
        let mut provider = rustls::crypto::CryptoProvider::clone(config.crypto_provider());
        // What the server does not have comes first, so the first key share is of no use.
        provider.kx_groups = vec![
            rustls::crypto::aws_lc_rs::kx_group::SECP256R1MLKEM768,
            rustls::crypto::aws_lc_rs::kx_group::SECP384R1,
        ];
        let verifier = trust::Keyed { pin: None, algorithms: provider.signature_verification_algorithms };
        *config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(verifier))
            .with_no_client_auth();
    });
    let ours = Acceptor::new(&server(&plain_setup())).begin().unwrap();
    shake(ours, &mut theirs, Vec::new(), 10).unwrap();
    assert_eq!(theirs.handshake_kind(), Some(rustls::HandshakeKind::FullWithHelloRetryRequest));
}

#[test]
fn peek_tells_full_from_resuming_however_it_comes() {
    let server = server(&plain_setup());
    let client = any_client(1);
    let hello = |resume: bool| {
        let mut out = Vec::new();
        client.begin(resume, &mut out).unwrap();
        out
    };
    let mut cases = vec![(hello(true), Hello::Full)];
    connect(&Acceptor::new(&server), &client, false).unwrap();
    cases.push((hello(true), Hello::Resuming));
    cases.push((hello(false), Hello::Full));
    for (hello, expected) in cases {
        for size in [1, 2, 5, 50, 16_000] {
            let bytes = in_records(&hello, size);
            let mut last = Hello::Incomplete;
            for cut in 0..=bytes.len() {
                let now = peek(&bytes[..cut]);
                // Once said it stays.
                assert!(last == Hello::Incomplete || now == last, "{last:?} {now:?} at {cut}");
                last = now;
            }
            assert_eq!(last, expected);
        }
    }
}
