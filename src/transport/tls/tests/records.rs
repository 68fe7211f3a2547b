//! Every rule of the record layer, and the alert for who breaks it.

use proptest::prelude::*;

use super::super::alert::*;
use super::super::session::{ALERT, DATA, HANDSHAKE, HEADER, MAX_PLAIN};
use super::support::*;
use crate::base::End;
use crate::transport::tls::*;
use crate::transport::{Opened, Role};

const REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];
const NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];

pub fn pair() -> Pair {
    connect(&Acceptor::new(&server(&plain_setup())), &any_client(0), false).unwrap()
}

/// The server opens this; what it says in reply the client opens.
pub fn open(pair: &mut Pair, wire: &mut [u8]) -> (Result<Opened, End>, Vec<u8>) {
    let mut reply = Vec::new();
    (pair.server.open(wire, &mut reply), reply)
}

/// The server ends for this reason and says so by one alert.
pub fn refuses(pair: &mut Pair, wire: &mut [u8], end: End, alert: u8) {
    let (opened, mut reply) = open(pair, wire);
    assert_eq!(opened, Err(end));
    assert_eq!(described(&mut pair.client, &mut reply), [alert]);
    // And then it is over: no second alert, nothing sealed.
    let mut more = Vec::new();
    assert_eq!(pair.server.open(&mut [], &mut more), Err(end));
    pair.server.seal(b"more", &mut more);
    pair.server.close(&mut more);
    pair.server.refresh(&mut more);
    assert!(more.is_empty());
}

/// The alerts in a stream.
pub fn described(to: &mut Session, wire: &mut [u8]) -> Vec<u8> {
    let mut alerts = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let header: [u8; 5] = rest[..5].try_into().unwrap();
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let cipher = to.rx.cipher(to.suite).unwrap();
        let inner = to.rx.open(&cipher, header, &mut rest[5..5 + length]).unwrap();
        assert_eq!(rest[5 + inner - 1], ALERT);
        assert_eq!(inner, 3);
        alerts.push(rest[6]);
        rest = &mut rest[5 + length..];
    }
    alerts
}

#[test]
fn records_of_the_wrong_kind_are_refused_by_the_right_alert() {
    let client_messages = [1u8, 2, 4, 5, 8, 11, 13, 15, 20, 25, 254];
    for kind in client_messages {
        let (mut pair, mut wire) = (pair(), Vec::new());
        forge(&mut pair.client, HANDSHAKE, &[kind, 0, 0, 1, 0], &mut wire);
        refuses(&mut pair, &mut wire, End::TlsUnexpected, UNEXPECTED_MESSAGE);
    }
    let cases: [(&str, u8, &[u8], End, u8); 14] = [
        ("sealed change_cipher_spec", 20, &[1], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("heartbeat", 24, &[1], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("unknown content", 99, b"x", End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("nothing but padding", 0, &[0; 20], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("empty inner plaintext", 0, &[], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("empty alert", ALERT, &[], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("alert of one byte", ALERT, &[1], End::TlsUnexpected, DECODE_ERROR),
        ("two alerts", ALERT, &[1, 90, 1, 0], End::TlsUnexpected, DECODE_ERROR),
        ("empty handshake", HANDSHAKE, &[], End::TlsUnexpected, UNEXPECTED_MESSAGE),
        ("KeyUpdate with a wrong value", HANDSHAKE, &[24, 0, 0, 1, 2], End::TlsUnexpected, ILLEGAL_PARAMETER),
        ("KeyUpdate without a value", HANDSHAKE, &[24, 0, 0, 0], End::TlsUnexpected, DECODE_ERROR),
        ("KeyUpdate that is too long", HANDSHAKE, &[24, 0, 0, 2, 0, 0], End::TlsUnexpected, DECODE_ERROR),
        (
            "bytes behind a KeyUpdate",
            HANDSHAKE,
            &[24, 0, 0, 1, 0, 24],
            End::TlsUnexpected,
            UNEXPECTED_MESSAGE,
        ),
        (
            "two KeyUpdates in one record",
            HANDSHAKE,
            &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
            End::TlsUnexpected,
            UNEXPECTED_MESSAGE,
        ),
    ];
    for (what, content, plain, end, alert) in cases {
        println!("{what}");
        let (mut pair, mut wire) = (pair(), Vec::new());
        forge(&mut pair.client, content, plain, &mut wire);
        refuses(&mut pair, &mut wire, end, alert);
    }
}

#[test]
fn records_in_the_clear_are_refused() {
    for kind in [0, 20, 21, 22, 24, 71, 255] {
        let mut pair = pair();
        refuses(&mut pair, &mut [kind, 3, 3, 0, 1, 1], End::TlsUnexpected, UNEXPECTED_MESSAGE);
    }
}

#[test]
fn too_long_is_overflow() {
    // Said by the header alone.
    let mut first = pair();
    let length = u16::try_from(MAX_PLAIN + 257).unwrap().to_be_bytes();
    refuses(&mut first, &mut [DATA, 3, 3, length[0], length[1]], End::TlsOverflow, RECORD_OVERFLOW);
    // Sealed as it should be, but with more inside than there may be; the last byte of the longest record is its content type.
    let (mut second, mut wire) = (pair(), Vec::new());
    forge(&mut second.client, DATA, &[7; MAX_PLAIN + 1], &mut wire);
    refuses(&mut second, &mut wire, End::TlsOverflow, RECORD_OVERFLOW);
    let (mut padded, mut wire) = (pair(), Vec::new());
    forge(&mut padded.client, 0, &[&[7, DATA][..], &[0; MAX_PLAIN]].concat(), &mut wire);
    refuses(&mut padded, &mut wire, End::TlsOverflow, RECORD_OVERFLOW);
    let (mut third, mut wire) = (pair(), Vec::new());
    forge(&mut third.client, DATA, &[7; MAX_PLAIN], &mut wire);
    assert_eq!(open(&mut third, &mut wire).0.unwrap().plain, MAX_PLAIN);
}

#[test]
fn too_short_or_changed_does_not_authenticate() {
    for length in 0..16 {
        let mut pair = pair();
        let mut wire = vec![DATA, 3, 3, 0, length];
        wire.resize(HEADER + usize::from(length), 0);
        refuses(&mut pair, &mut wire, End::TlsBadRecord, BAD_RECORD_MAC);
    }
    let (mut template, mut wire) = (pair(), Vec::new());
    template.client.seal(b"ping", &mut wire);
    for bit in 0..wire.len() * 8 {
        // The type and the length are other rules; everything else, the legacy version too, is authenticated.
        if bit / 8 == 0 || (3..5).contains(&(bit / 8)) {
            continue;
        }
        let (mut pair, mut wire) = (pair(), Vec::new());
        pair.client.seal(b"ping", &mut wire);
        wire[bit / 8] ^= 1 << (bit % 8);
        refuses(&mut pair, &mut wire, End::TlsBadRecord, BAD_RECORD_MAC);
    }
}

#[test]
fn replayed_reordered_and_left_out_records_do_not_authenticate() {
    let records = |pair: &mut Pair| -> Vec<Vec<u8>> {
        (0..3u8)
            .map(|n| {
                let mut wire = Vec::new();
                pair.client.seal(&[n], &mut wire);
                wire
            })
            .collect()
    };
    for order in [&[0usize, 0][..], &[1], &[0, 2], &[0, 1, 0], &[1, 0]] {
        let mut pair = pair();
        let made = records(&mut pair);
        let mut wire: Vec<u8> = order.iter().flat_map(|n| made[*n].clone()).collect();
        refuses(&mut pair, &mut wire, End::TlsBadRecord, BAD_RECORD_MAC);
    }
}

#[test]
fn padded_empty_and_many_records_are_joined() {
    let (mut pair, mut wire) = (pair(), Vec::new());
    forge(&mut pair.client, 0, &[&b"first "[..], &[DATA], &[0; 300]].concat(), &mut wire);
    forge(&mut pair.client, DATA, b"", &mut wire);
    forge(&mut pair.client, DATA, b"second\0", &mut wire);
    forge(&mut pair.client, 0, &[DATA, 0, 0], &mut wire);
    let whole = wire.len();
    wire.extend_from_slice(&[DATA, 3, 3]);
    let (opened, reply) = open(&mut pair, &mut wire);
    assert_eq!(opened, Ok(Opened { plain: 13, used: whole, need: 5, closed: false }));
    assert_eq!(&wire[..13], b"first second\0");
    assert!(reply.is_empty());
}

#[test]
fn a_key_update_may_be_cut_anywhere_but_not_interleaved() {
    for cut in 1..5 {
        let (mut pair, mut wire) = (pair(), Vec::new());
        forge(&mut pair.client, HANDSHAKE, &REQUESTED[..cut], &mut wire);
        let (opened, reply) = open(&mut pair, &mut wire);
        assert!(opened.is_ok() && reply.is_empty());
        let mut wire = Vec::new();
        forge(&mut pair.client, HANDSHAKE, &REQUESTED[cut..], &mut wire);
        pair.client.tx.update(pair.client.suite).unwrap();
        pair.client.seal(b"under the new key", &mut wire);
        let (opened, mut reply) = open(&mut pair, &mut wire);
        assert_eq!(&wire[..opened.unwrap().plain], b"under the new key");
        // The answer asks for nothing, else it would never end.
        let mut none = Vec::new();
        pair.client.open(&mut reply, &mut none).unwrap();
        assert!(none.is_empty());
        let Pair { mut server, mut client } = pair;
        carry(&mut server, &mut client, b"and back");
        carry(&mut client, &mut server, b"and forth");
    }
    for (content, plain) in [(DATA, &b"data"[..]), (DATA, b""), (ALERT, &[1, CLOSE_NOTIFY])] {
        for cut in 1..5 {
            let (mut pair, mut wire) = (pair(), Vec::new());
            forge(&mut pair.client, HANDSHAKE, &NOT_REQUESTED[..cut], &mut wire);
            forge(&mut pair.client, content, plain, &mut wire);
            refuses(&mut pair, &mut wire, End::TlsUnexpected, UNEXPECTED_MESSAGE);
        }
    }
}

#[test]
fn key_updates_of_both_sides() {
    let Pair { mut server, mut client } = pair();
    for round in 0..40u8 {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        if round % 2 == 0 {
            client.refresh_both(&mut there)
        } else {
            client.refresh(&mut there)
        }
        client.seal(&[round; 100], &mut there);
        let opened = server.open(&mut there, &mut back).unwrap();
        assert_eq!(&there[..opened.plain], [round; 100]);
        assert_eq!(back.is_empty(), round % 2 == 1);
        client.open(&mut back, &mut Vec::new()).unwrap();
        carry(&mut server, &mut client, &[round; 50]);
    }
}

#[test]
fn close_notify_both_ways() {
    let (mut pair, mut wire) = (pair(), Vec::new());
    pair.client.seal(b"last words", &mut wire);
    pair.client.close(&mut wire);
    pair.client.close(&mut wire);
    pair.client.seal(b"not sent", &mut wire);
    pair.client.refresh(&mut wire);
    let whole = wire.len();
    wire.extend_from_slice(b"not read");
    let (opened, reply) = open(&mut pair, &mut wire);
    let opened = opened.unwrap();
    assert_eq!((&wire[..opened.plain], opened.used, opened.closed), (&b"last words"[..], whole, true));
    assert!(reply.is_empty());
    let again = pair.server.open(&mut wire[whole..], &mut Vec::new()).unwrap();
    assert_eq!((again.plain, again.used, again.closed), (0, 0, true));
    // The other direction goes on until it is closed too (section 6.1).
    carry(&mut pair.server, &mut pair.client, b"still here");
    let mut wire = Vec::new();
    pair.server.close(&mut wire);
    assert!(pair.client.open(&mut wire, &mut Vec::new()).unwrap().closed);
    // Who has closed says nothing more, not even an alert.
    let mut reply = Vec::new();
    let (mut other, mut wire) = (self::pair(), Vec::new());
    other.server.close(&mut wire);
    assert_eq!(other.server.open(&mut [DATA, 3, 3, 0, 0], &mut reply), Err(End::TlsBadRecord));
    assert!(reply.is_empty());
}

#[test]
fn alerts_of_the_peer_end_it_without_an_answer() {
    for description in [10, 20, 22, 40, 46, 47, 50, 51, 70, 80, 255] {
        for level in [1, 2] {
            let (mut pair, mut wire) = (pair(), Vec::new());
            forge(&mut pair.client, ALERT, &[level, description], &mut wire);
            assert_eq!(open(&mut pair, &mut wire), (Err(End::TlsAlert), Vec::new()));
        }
    }
    let (mut pair, mut wire) = (pair(), Vec::new());
    forge(&mut pair.client, ALERT, &[1, USER_CANCELED], &mut wire);
    forge(&mut pair.client, ALERT, &[1, CLOSE_NOTIFY], &mut wire);
    assert!(open(&mut pair, &mut wire).0.unwrap().closed);
}

pub fn paired(suite: Suite) -> Pair {
    let (client, server) = ([2; 48], [1; 48]);
    let side =
        |role| Session::from_secrets(role, suite, suite.secret(&client), suite.secret(&server)).unwrap();
    Pair { server: side(Role::Responder), client: side(Role::Initiator) }
}

#[test]
fn secrets_have_the_length_of_the_hash() {
    for suite in SUITES {
        for length in [0, 16, 31, 33, 47, 49, 64] {
            let secret = vec![1; length];
            assert!(Session::from_secrets(Role::Responder, suite, &secret, &secret).is_none());
        }
    }
}

#[test]
fn a_client_skips_tickets_wherever_they_are_cut() {
    let ticket = [&[4, 0, 1, 0][..], &[9; 256]].concat();
    let stream = [&ticket[..], &ticket, &REQUESTED].concat();
    for size in [1, 2, 3, 4, 5, 7, 100, 259, 260, 261, 525] {
        let Pair { mut server, mut client } = pair();
        let (mut wire, mut reply) = (Vec::new(), Vec::new());
        for part in stream.chunks(size) {
            forge(&mut server, HANDSHAKE, part, &mut wire);
        }
        server.tx.update(server.suite).unwrap();
        server.seal(b"behind them", &mut wire);
        let opened = client.open(&mut wire, &mut reply).unwrap();
        assert_eq!(&wire[..opened.plain], b"behind them");
        assert_eq!(reply.len(), 27, "the request was seen");
    }
    for wrong in [&[4u8, 0, 0, 0][..], &[4, 255, 255, 255], &[13, 0, 0, 1, 0]] {
        let Pair { mut server, mut client } = pair();
        let (mut wire, mut reply) = (Vec::new(), Vec::new());
        forge(&mut server, HANDSHAKE, wrong, &mut wire);
        assert_eq!(client.open(&mut wire, &mut reply), Err(End::TlsUnexpected));
        assert_eq!(reply.len(), 24);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is said in whatever pieces of whatever length arrives as it was, with key updates in between.
    #[test]
    fn any_split_of_any_messages(
        messages in prop::collection::vec((0usize..40_000, any::<u8>(), 0u8..8), 1..8),
        pieces in prop::collection::vec(1usize..20_000, 1..40),
        suite in 0usize..3,
    ) {
        let Pair { mut server, mut client } = paired(SUITES[suite]);
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        for (length, byte, then) in messages {
            client.seal(&vec![byte; length], &mut wire);
            plain.extend(std::iter::repeat_n(byte, length));
            match then {
                0 => client.refresh(&mut wire),
                1 => client.refresh_both(&mut wire),
                2 => forge(&mut client, DATA, b"", &mut wire),
                _ => {}
            }
        }
        let mut reader = Reader::default();
        let mut rest = &wire[..];
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            reader.push(&mut server, now).unwrap();
            rest = later;
        }
        prop_assert!(reader.is_empty());
        prop_assert_eq!(reader.plain, plain);
        let mut reply = reader.reply;
        client.open(&mut reply, &mut Vec::new()).unwrap();
        carry(&mut server, &mut client, b"and back");
    }

    /// A spoilt stream never opens to anything but a beginning of what was said, and ends by one alert at most.
    #[test]
    fn spoilt_streams(
        lengths in prop::collection::vec(1usize..300, 1..8),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
        how in 0u8..4,
        piece in 1usize..400,
    ) {
        let mut pair = pair();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        for (n, length) in lengths.iter().enumerate() {
            pair.client.seal(&vec![n as u8; *length], &mut wire);
            plain.extend(std::iter::repeat_n(n as u8, *length));
        }
        let at = at.index(wire.len());
        match how {
            0 => wire[at] ^= 1 << bit,
            1 => wire.truncate(at),
            2 => drop(wire.drain(at..(at + 30).min(wire.len()))),
            _ => {
                let again = wire[at..(at + 50).min(wire.len())].to_vec();
                wire.splice(at..at, again);
            }
        }
        let mut reader = Reader::default();
        let mut end = None;
        for part in wire.chunks(piece) {
            if let Err(error) = reader.push(&mut pair.server, part) {
                end = Some(error);
                break;
            }
        }
        prop_assert!(plain.starts_with(&reader.plain));
        let alerts = described(&mut pair.client, &mut reader.reply);
        prop_assert_eq!(alerts.len(), usize::from(end.is_some()));
        if how == 1 {
            prop_assert_eq!(end, None, "what is cut is not wrong yet");
        }
    }
}
