//! Encrypted clients of a shard, each test over each transport where it makes sense.

use std::time::Duration;

use breakwater::base::limits::{FILE_CHUNK, MAX_MESSAGE, TRANSPORT_TIMEOUT, TRANSPORT_TIMEOUT_PRESSED};
use breakwater::base::{End, Fault};
use breakwater::io::IoEnd;
use breakwater::link::{Answer, ToHub, ToShard, Want};
use breakwater::shard::{HandshakeLimits, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::wire::{InvKind, write};

use super::rig::{PLAIN, extents, tx_news, version};
use super::secure::{BOTH, Over, PLAIN_PORT, Secure, TLS_PORT};
use super::{getdata, message, ping};

#[test]
fn an_encrypted_client_hears_what_a_plain_one_hears_and_keeps_no_buffer() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        assert_eq!(net.rig.shard.core().buffer_bytes(), 0, "{over:?}: idle");
        net.send(&mut peer, &ping(5));
        assert_eq!(net.messages(&mut peer), [("pong".to_owned(), 5u64.to_le_bytes().to_vec())]);
        let hash = net.rig.mine();
        net.rig.settle();
        let told = net.messages(&mut peer);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0.as_str(), &told[0].1[5..]), ("inv", &hash[..]));
        assert_eq!(net.rig.shard.core().buffer_bytes(), 0);
        net.rig.advance(1);
        let report = net.rig.report.as_ref().unwrap();
        assert_eq!((report.tls, report.v2), if over == Over::Tls { (1, 0) } else { (0, 1) });
        net.rig.finish();
    }
}

#[test]
fn an_encrypted_stream_may_come_in_any_pieces() {
    for over in BOTH {
        for piece in [1, 2, 3, 21, 22, 23, 63, 64, 65, 1_000] {
            let mut net = Secure::new();
            net.rig.kernel.0.borrow_mut().piece = piece;
            let mut peer = net.client(over, PLAIN);
            let mut input = ping(1);
            input.extend(message("frobnicate", &[1; 100]));
            input.extend(ping(2));
            net.send(&mut peer, &input);
            assert_eq!(net.commands(&mut peer), ["pong", "pong"], "{over:?} in pieces of {piece}");
            assert_eq!(net.rig.faults(Fault::UnknownCommand), 1);
            net.rig.finish();
        }
    }
}

#[test]
fn a_plain_client_may_come_in_any_pieces_where_v2_is_taken() {
    for piece in [1, 4, 15, 16, 17, 1_000] {
        let mut net = Secure::new();
        net.rig.kernel.0.borrow_mut().piece = piece;
        let client = net.stranger(PLAIN_PORT);
        net.rig.greet(client, PLAIN);
        net.rig.send(client, &ping(3));
        assert!(net.rig.commands(client).contains(&"pong".to_owned()), "in pieces of {piece}");
        net.rig.finish();
    }
}

#[test]
fn blocks_from_files_and_memory_come_whole() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        let old = *net.rig.chain.at(2).unwrap().hash();
        let long = message("block", &vec![7; 3 * FILE_CHUNK + 17]);
        net.send(&mut peer, &getdata(&[(InvKind::WitnessBlock, old)]));
        let (to, want) = net.rig.want();
        assert_eq!(want, Want::Block(old));
        net.rig.answer(to, extents(&[long.clone(), ping(1), long.clone()]));
        let told = net.messages(&mut peer);
        let commands: Vec<&str> = told.iter().map(|(command, _)| command.as_str()).collect();
        assert_eq!(commands, ["block", "ping", "block"], "{over:?}");
        assert!(told[0].1 == long[24..] && told[2].1 == long[24..]);
        let largest = message("block", &vec![9; MAX_MESSAGE]);
        net.send(&mut peer, &getdata(&[(InvKind::WitnessBlock, old)]));
        let (to, _) = net.rig.want();
        net.rig.answer(to, Answer::Bytes(largest.clone().into()));
        let told = net.messages(&mut peer);
        assert!(told.len() == 1 && told[0].1 == largest[24..], "{over:?}");
        assert_eq!(net.rig.shard.core().buffer_bytes(), 0);
        net.rig.finish();
    }
}

#[test]
fn what_is_said_in_between_comes_between_messages() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        let old = *net.rig.chain.at(2).unwrap().hash();
        let long = message("block", &vec![7; 3 * FILE_CHUNK]);
        net.send(&mut peer, &getdata(&[(InvKind::WitnessBlock, old)]));
        net.rig.hold(peer.conn, true);
        let (to, _) = net.rig.want();
        net.rig.answer(to, extents(std::slice::from_ref(&long)));
        net.rig.mine();
        net.send(&mut peer, &ping(4));
        net.rig.hold(peer.conn, false);
        assert_eq!(net.commands(&mut peer), ["block", "inv", "pong"], "{over:?}");
        net.rig.finish();
    }
}

#[test]
fn a_large_transaction_in_parts_reaches_the_hub() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        let known = tx_news(1);
        net.send(&mut peer, &known.message);
        net.send(&mut peer, &message("tx", &vec![1; 300_000]));
        let heard = net.rig.heard.iter().filter(|entry| matches!(entry, ToHub::Tx { .. })).count();
        assert_eq!((heard, net.rig.faults(Fault::BadTx)), (1, 1), "{over:?}");
        assert_eq!(net.rig.shard.core().buffer_bytes(), 0);
        net.rig.finish();
    }
}

#[test]
fn a_byte_changed_ends_the_client_and_only_it() {
    for over in BOTH {
        let mut net = Secure::new();
        let (mut bad, mut good) = (net.client(over, PLAIN), net.client(over, PLAIN));
        let mut bytes = bad.seal(&ping(6));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        net.raw(bad.conn, &bytes);
        net.pump(&mut bad);
        let end = if over == Over::Tls { End::TlsBadRecord } else { End::V2BadPacket };
        assert_eq!((net.ends(end), net.rig.closed(bad.conn)), (1, Some(false)), "{over:?}");
        if over == Over::Tls {
            assert_eq!(bad.heard.as_deref(), Some("AlertReceived(BadRecordMac)"));
        }
        net.send(&mut good, &ping(7));
        assert_eq!(net.commands(&mut good), ["pong"]);
        net.rig.finish();
    }
}

#[test]
fn an_alert_goes_behind_what_is_being_sent() {
    let mut net = Secure::new();
    let mut peer = net.client(Over::Tls, PLAIN);
    net.rig.hold(peer.conn, true);
    net.rig.mine();
    net.rig.settle();
    net.raw(peer.conn, &[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(net.ends(End::TlsBadRecord), 0, "it has not been told");
    net.rig.hold(peer.conn, false);
    assert_eq!(net.commands(&mut peer), ["inv"]);
    assert_eq!(peer.heard.as_deref(), Some("AlertReceived(BadRecordMac)"));
    assert_eq!(net.ends(End::TlsBadRecord), 1);
    // One that does not take its alert is not waited for.
    let peer = net.client(Over::Tls, PLAIN);
    net.rig.hold(peer.conn, true);
    net.raw(peer.conn, &[23, 3, 3, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    net.rig.advance(4);
    assert_eq!((net.ends(End::TlsBadRecord), net.rig.closed(peer.conn)), (2, Some(true)));
    net.rig.finish();
}

#[test]
fn keys_are_updated_both_ways_in_the_middle_of_traffic() {
    let mut net = Secure::new();
    let mut peer = net.client(Over::Tls, PLAIN);
    for round in 0..40 {
        peer.tls().refresh_traffic_keys().unwrap();
        net.send(&mut peer, &ping(round));
        assert_eq!(net.commands(&mut peer), ["pong"], "round {round}, {:?}", peer.heard);
        net.rig.mine();
        net.rig.settle();
        assert_eq!(net.commands(&mut peer), ["inv"], "round {round}");
    }
    assert!(peer.heard.is_none(), "{:?}", peer.heard);
    net.rig.finish();
}

#[test]
fn goodbyes_are_said_both_ways_and_a_cut_stream_is_told_apart() {
    let mut net = Secure::new();
    let mut polite = net.client(Over::Tls, PLAIN);
    polite.tls().send_close_notify();
    let bytes = polite.seal(&[]);
    net.raw(polite.conn, &bytes);
    net.pump(&mut polite);
    assert_eq!((net.ends(End::Closed), polite.heard.as_deref()), (1, Some("close_notify")));
    let cut = net.client(Over::Tls, PLAIN);
    net.rig.leave(cut.conn);
    assert_eq!(net.ends(End::NoCloseNotify), 1);
    let mut half = net.client(Over::Tls, PLAIN);
    let bytes = half.seal(&ping(1));
    net.raw(half.conn, &bytes[..20]);
    net.rig.leave(half.conn);
    assert_eq!(net.ends(End::Truncated), 1);
    let mut last = net.client(Over::Tls, PLAIN);
    net.rig.tell(ToShard::Drain);
    net.rig.settle();
    net.pump(&mut last);
    assert_eq!(last.heard.as_deref(), Some("close_notify"), "the relay ends");
    net.rig.finish();
}

/// Found by the simulator: close_notify had the next number, and the client could not open it.
#[test]
fn nothing_is_said_behind_a_send_that_failed() {
    const ENOBUFS: i32 = 105;
    let mut net = Secure::new();
    let mut peer = net.client(Over::Tls, PLAIN);
    let _ = net.take_raw(peer.conn);
    net.rig.kernel.0.borrow_mut().peers.get_mut(&peer.conn).unwrap().holds = true;
    let bytes = peer.seal(&ping(1));
    net.raw(peer.conn, &bytes);
    net.rig.kernel.fail_send(peer.conn, ENOBUFS);
    net.rig.settle();
    assert_eq!(net.ends(End::SendError), 1);
    assert_eq!(net.take_raw(peer.conn), [0; 0], "not even close_notify");
    net.rig.finish();
}

#[test]
fn a_record_in_parts_has_a_deadline() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        let bytes = peer.seal(&ping(1));
        for byte in &bytes[..12] {
            net.raw(peer.conn, &[*byte]);
            net.rig.advance(14);
        }
        assert_eq!(net.ends(End::SlowMessage), 1, "{over:?}: {:?}", net.rig.counters().ends);
        net.rig.finish();
    }
}

#[test]
fn what_speaks_another_protocol_is_told_so() {
    let mut net = Secure::new();
    let plain_to_tls = net.stranger(TLS_PORT);
    net.raw(plain_to_tls, &version(true, 1));
    assert_eq!(net.ends(End::NotTls), 1);
    assert_eq!(net.take_raw(plain_to_tls).first(), Some(&21), "an alert in the clear");
    let other = net.stranger(PLAIN_PORT);
    let mut bytes = version(true, 1);
    bytes[0] ^= 1;
    net.raw(other, &bytes);
    assert_eq!(net.ends(End::WrongMagic), 1);
    // A TLS client at the plain port begins no key exchange that ends well.
    let mut lost = net.begin(Over::Tls);
    let hello = net.rig.kernel.0.borrow().peers[&lost.conn].out.clone();
    net.pump(&mut lost);
    let wrong = net.stranger(PLAIN_PORT);
    net.raw(wrong, &[22; 100]);
    net.raw(wrong, &[22; 5_000]);
    assert_eq!(net.ends(End::V2Garbage), 1, "{} {:?}", hello.len(), net.rig.counters().ends);
    net.rig.finish();
}

#[test]
fn silence_in_a_transport_handshake_has_a_short_deadline() {
    let mut net = Secure::new();
    let silent = net.stranger(TLS_PORT);
    let probe = net.stranger(PLAIN_PORT);
    net.raw(probe, &[9; 63]);
    let plain = net.stranger(PLAIN_PORT);
    net.rig.advance(TRANSPORT_TIMEOUT.as_secs() - 1);
    assert_eq!(net.ends(End::TransportTimeout), 0);
    net.rig.advance(2);
    assert_eq!(net.ends(End::TransportTimeout), 2, "{:?}", net.rig.counters().ends);
    assert!(net.rig.closed(silent).is_some() && net.rig.closed(probe).is_some());
    assert!(net.rig.closed(plain).is_none(), "one that has said nothing may still be plain");
    net.rig.finish();
}

fn limits(most: u32, full: u32) -> impl FnOnce(ShardConfig) -> ShardConfig {
    move |config| ShardConfig {
        handshakes: HandshakeLimits { most, full, resumed: full, v2: full },
        ..config
    }
}

#[test]
fn a_crowd_of_tls_handshakes_waits_in_the_kernel() {
    let mut net = Secure::with(limits(4, 0));
    let silent: Vec<u32> = (0..4).map(|_| net.stranger(TLS_PORT)).collect();
    assert!(net.rig.kernel.0.borrow().held.contains(&TLS_PORT), "no more are accepted");
    assert!(!net.rig.kernel.0.borrow().held.contains(&PLAIN_PORT));
    assert_eq!(net.rig.counters().tls_held, 1);
    net.rig.advance(TRANSPORT_TIMEOUT_PRESSED.as_secs() + 1);
    assert_eq!(net.ends(End::TransportTimeout), 4, "whoever is silent gives way early");
    assert!(!net.rig.kernel.0.borrow().held.contains(&TLS_PORT));
    assert!(silent.iter().all(|conn| net.rig.closed(*conn).is_some()));
    let mut peer = net.client(Over::Tls, PLAIN);
    net.send(&mut peer, &ping(1));
    assert_eq!(net.commands(&mut peer), ["pong"]);
    net.rig.finish();
}

#[test]
fn the_oldest_key_exchange_gives_way() {
    let mut net = Secure::with(limits(4, 0));
    let probes: Vec<u32> = (0..4).map(|_| net.stranger(PLAIN_PORT)).collect();
    for probe in &probes {
        net.raw(*probe, &[9; 63]);
    }
    let mut peer = net.client(Over::V2, PLAIN);
    assert_eq!(net.ends(End::HandshakeEvicted), 1);
    assert!(net.rig.closed(probes[0]).is_some() && net.rig.closed(probes[1]).is_none());
    net.send(&mut peer, &ping(1));
    assert_eq!(net.commands(&mut peer), ["pong"]);
    net.rig.finish();
}

#[test]
fn whoever_waits_for_us_gives_way_to_no_probe() {
    let mut net = Secure::with(|config| ShardConfig {
        handshakes: HandshakeLimits { most: 2, v2: 1, full: 1, resumed: 1 },
        ..config
    });
    // One shakes hands, eight wait; the tenth is refused.
    let mut peers: Vec<_> = (0..9).map(|_| net.begin(Over::V2)).collect();
    let refused = net.begin(Over::V2);
    assert_eq!((net.ends(End::HandshakeEvicted), net.rig.closed(refused.conn).is_some()), (1, true));
    for _ in 0..8 {
        let probe = net.stranger(PLAIN_PORT);
        net.raw(probe, &[9; 63]);
    }
    // Probes give way to probes: the one that shakes hands is not late, and the others wait for us.
    assert_eq!(net.ends(End::HandshakeEvicted), 8, "{:?}", net.rig.counters().ends);
    for _ in 0..20 {
        net.rig.advance(1);
        peers.iter_mut().for_each(|peer| net.pump(peer));
    }
    let open = peers.iter().filter(|peer| peer.is_open()).count();
    assert_eq!(open, 9, "one a second, also those who waited for longer than a handshake may take");
    net.rig.finish();
}

#[test]
fn handshakes_have_a_rate_and_whoever_is_over_it_waits() {
    for over in BOTH {
        let mut net = Secure::with(limits(100, 1)).without_tickets();
        let mut first = net.open(over);
        let (mut second, mut third) = (net.begin(over), net.begin(over));
        net.pump(&mut second);
        net.pump(&mut third);
        assert!(!second.is_open() && !third.is_open(), "{over:?}");
        let now = net.rig.kernel.0.borrow().now;
        net.rig.kernel.0.borrow_mut().now = now + Duration::from_millis(1_001);
        net.rig.settle();
        net.pump(&mut second);
        net.pump(&mut third);
        assert!(second.is_open() && !third.is_open(), "{over:?}: in their order");
        net.rig.advance(1);
        net.pump(&mut third);
        assert!(third.is_open());
        net.pump(&mut first);
        net.rig.finish();
    }
}

#[test]
fn a_resumed_session_is_counted_and_has_a_rate_of_its_own() {
    let rates = HandshakeLimits { full: 1, ..HandshakeLimits::free(100) };
    let mut net = Secure::with(|config| ShardConfig { handshakes: rates, ..config });
    let mut first = net.client(Over::Tls, PLAIN);
    net.pump(&mut first);
    let second = net.client(Over::Tls, PLAIN);
    assert!(second.is_open(), "not held up by the rate of full handshakes");
    assert_eq!((net.rig.counters().tls_full, net.rig.counters().tls_resumed), (1, 1));
    net.rig.finish();
}

#[test]
fn leaving_in_the_middle_of_a_handshake_leaves_nothing() {
    for over in BOTH {
        for cut in [1, 20, 64, 100] {
            let mut net = Secure::with(limits(2, 0));
            for _ in 0..5 {
                let mut peer = net.begin(over);
                let _ = peer.seal(&[]);
                let conn = net.stranger(if over == Over::Tls { TLS_PORT } else { PLAIN_PORT });
                net.raw(conn, &[if over == Over::Tls { 22 } else { 7 }; 200][..cut]);
                net.rig.kernel.0.borrow_mut().peers.get_mut(&conn).unwrap().closes = Some(IoEnd::Reset);
                net.rig.kernel.0.borrow_mut().peers.get_mut(&peer.conn).unwrap().closes = Some(IoEnd::Closed);
                net.rig.settle();
            }
            assert!(!net.rig.kernel.0.borrow().held.contains(&TLS_PORT), "{over:?} {cut}");
            let mut peer = net.client(over, PLAIN);
            net.send(&mut peer, &ping(1));
            assert_eq!(net.commands(&mut peer), ["pong"]);
            net.rig.finish();
        }
    }
}

#[test]
fn other_certificates_are_for_newcomers() {
    let mut net = Secure::new();
    let mut old = net.client(Over::Tls, PLAIN);
    let (setup, _) = super::secure::certificate();
    let server = breakwater::transport::tls::Server::load(&setup, None).unwrap();
    net.rig.tell(ToShard::Tls(server));
    net.rig.settle();
    net.send(&mut old, &ping(1));
    assert_eq!(net.commands(&mut old), ["pong"]);
    let mut new = net.begin(Over::Tls);
    net.pump(&mut new);
    assert!(!new.is_open(), "this client does not know the new certificate");
    assert!(
        new.heard.as_deref().is_some_and(|heard| heard.contains("InvalidCertificate")),
        "{:?}",
        new.heard
    );
    assert_eq!(net.ends(End::TlsAlert), 1, "{:?}", net.rig.counters().ends);
    net.rig.finish();
}

#[test]
fn a_locator_and_headers_travel_sealed() {
    for over in BOTH {
        let mut net = Secure::new();
        let mut peer = net.client(over, PLAIN);
        let genesis = *net.rig.chain.at(0).unwrap().hash();
        let mut out = Vec::new();
        write::locator(&mut out, MAGIC, "getheaders", [&genesis].into_iter(), &[0; 32]);
        net.send(&mut peer, &out);
        let told = net.messages(&mut peer);
        assert_eq!((told[0].0.as_str(), told[0].1.len()), ("headers", 1 + 81 * super::rig::HEIGHT as usize));
        net.rig.finish();
    }
}
