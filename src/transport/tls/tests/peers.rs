//! rustls as the other side: both roles, every suite, data, key updates and ends in any pieces.

use proptest::prelude::*;
use rustls::AlertDescription;

use super::super::session::{ALERT, DATA, HANDSHAKE};
use super::support::*;
use crate::base::End;
use crate::transport::Role;
use crate::transport::tls::*;

const ROLES: [Role; 2] = [Role::Responder, Role::Initiator];

#[derive(Clone, Copy, Debug)]
enum Act {
    WeSay(usize),
    TheySay(usize),
    WeRefresh,
    WeRefreshBoth,
    TheyRefresh,
}

/// Plays this with rustls; what it says comes in these pieces.
fn play(suite: Suite, role: Role, acts: &[Act], piece: usize) {
    let (mut ours, mut theirs) = with_rustls(suite, role, 1 << 20);
    let mut reader = Reader::default();
    let (mut said_by_us, mut said_by_them) = (Vec::new(), Vec::new());
    for (n, act) in acts.iter().enumerate() {
        let mut wire = Vec::new();
        match act {
            Act::WeSay(length) => {
                ours.seal(&vec![n as u8; *length], &mut wire);
                said_by_us.extend(std::iter::repeat_n(n as u8, *length));
            }
            Act::WeRefresh => ours.refresh(&mut wire),
            Act::WeRefreshBoth => ours.refresh_both(&mut wire),
            Act::TheyRefresh => theirs.refresh_traffic_keys().unwrap(),
            Act::TheySay(length) => {
                for bytes in said(&mut theirs, &vec![n as u8; *length]).chunks(piece) {
                    reader.push(&mut ours, bytes).unwrap();
                }
                said_by_them.extend(std::iter::repeat_n(n as u8, *length));
            }
        }
        let heard = feed(&mut theirs, &wire).unwrap();
        assert_eq!(heard, std::mem::take(&mut said_by_us));
        feed(&mut theirs, &std::mem::take(&mut reader.reply)).unwrap();
        let more = said(&mut theirs, b"");
        for bytes in more.chunks(piece) {
            reader.push(&mut ours, bytes).unwrap();
        }
        feed(&mut theirs, &std::mem::take(&mut reader.reply)).unwrap();
    }
    assert!(reader.is_empty());
    assert_eq!(reader.plain, said_by_them);
    // Both say that they end.
    let mut wire = Vec::new();
    ours.close(&mut wire);
    feed(&mut theirs, &wire).unwrap();
    assert!(theirs.process_new_packets().unwrap().peer_has_closed());
    theirs.send_close_notify();
    reader.push(&mut ours, &said(&mut theirs, b"")).unwrap();
    assert!(reader.closed);
}

#[test]
fn data_and_key_updates_with_every_suite_in_both_roles() {
    let acts = [
        Act::WeSay(1),
        Act::TheySay(1),
        Act::TheyRefresh,
        Act::TheySay(16_384),
        Act::WeRefresh,
        Act::WeSay(100_000),
        Act::WeRefreshBoth,
        Act::TheySay(70_000),
        Act::WeSay(16_385),
        Act::TheyRefresh,
        Act::TheyRefresh,
        Act::TheySay(5),
        Act::WeSay(5),
    ];
    for suite in SUITES {
        for role in ROLES {
            for piece in [1 << 20, 1000, 17] {
                play(suite, role, &acts, piece);
            }
        }
    }
}

#[test]
fn every_split_of_a_short_stream() {
    for suite in SUITES {
        let (mut ours, mut theirs) = with_rustls(suite, Role::Responder, 1 << 20);
        let mut template = Vec::new();
        for cut in 0.. {
            template.clear();
            template.extend(said(&mut theirs, b"one"));
            theirs.refresh_traffic_keys().unwrap();
            template.extend(said(&mut theirs, b"two"));
            if cut > template.len() {
                break;
            }
            let mut reader = Reader::default();
            reader.push(&mut ours, &template[..cut]).unwrap();
            reader.push(&mut ours, &template[cut..]).unwrap();
            assert_eq!(reader.plain, b"onetwo");
        }
    }
}

#[test]
fn alerts_are_understood_by_rustls() {
    let cases: [(u8, &[u8], End, AlertDescription); 5] = [
        (99, b"x", End::TlsUnexpected, AlertDescription::UnexpectedMessage),
        (HANDSHAKE, &[24, 0, 0, 1, 9], End::TlsUnexpected, AlertDescription::IllegalParameter),
        (HANDSHAKE, &[24, 0, 0, 0], End::TlsUnexpected, AlertDescription::DecodeError),
        (DATA, &[1; 16_385], End::TlsOverflow, AlertDescription::RecordOverflow),
        (ALERT, &[], End::TlsUnexpected, AlertDescription::UnexpectedMessage),
    ];
    for suite in SUITES {
        for (content, plain, end, alert) in cases {
            let (mut ours, mut theirs) = with_rustls(suite, Role::Responder, 1 << 20);
            // What rustls would never seal is sealed with the key that it seals with.
            let cipher = ours.rx.cipher(suite).unwrap();
            let seq = ours.rx.seq();
            let (mut wire, mut reply) = (Vec::new(), Vec::new());
            session::record(&mut ours.rx, &cipher, content, plain, &mut wire).unwrap();
            ours.rx.jump(seq);
            assert_eq!(ours.open(&mut wire, &mut reply), Err(end));
            let error = feed(&mut theirs, &reply).unwrap_err();
            assert_eq!(error, rustls::Error::AlertReceived(alert));
        }
        let (mut ours, mut theirs) = with_rustls(suite, Role::Responder, 1 << 20);
        let mut wire = said(&mut theirs, b"data");
        wire[7] ^= 1;
        let mut reply = Vec::new();
        assert_eq!(ours.open(&mut wire, &mut reply), Err(End::TlsBadRecord));
        let error = feed(&mut theirs, &reply).unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(AlertDescription::BadRecordMac));
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1usize..50_000).prop_map(Act::WeSay),
        (1usize..50_000).prop_map(Act::TheySay),
        Just(Act::WeRefresh),
        Just(Act::WeRefreshBoth),
        Just(Act::TheyRefresh),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn anything_in_any_order(
        acts in prop::collection::vec(any_act(), 1..20),
        suite in 0usize..3,
        role in 0usize..2,
        piece in 1usize..5_000,
    ) {
        play(SUITES[suite], ROLES[role], &acts, piece);
    }
}
