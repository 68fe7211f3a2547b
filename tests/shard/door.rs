//! Who is let in: bans, probes, sessions, services.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use breakwater::admission::{Ban, Bans, ProbeLimits};
use breakwater::base::{Class, End, ServiceId};
use breakwater::link::ToShard;
use breakwater::shard::{Listener, ListenerKind, Service, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::wire::{Message, Services, parse, write};
use bytes::Bytes;

use super::rig::{Manner, PLAIN, Rig, config};
use super::{message, ping};

fn service(sessions: u32, probes: u32) -> Service {
    Service {
        sessions,
        probes,
        probe_time: Some(Duration::from_secs(60)),
        ..Service::open(b"/breakwater:test/")
    }
}

fn with(service: Service) -> Rig {
    Rig::with(ShardConfig { services: vec![service], ..config() })
}

fn knock(rig: &mut Rig, listener: u8, host: u8) -> u32 {
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), 40_000));
    let conn = rig.kernel.connect_to(listener, peer);
    rig.settle();
    conn
}

#[test]
fn a_probe_that_asks_for_nothing_goes_and_one_that_asks_stays() {
    let mut rig = with(service(5, 5));
    let (idle, works, listens) =
        (rig.client(PLAIN), rig.client(PLAIN), rig.client(Manner { headers: true, ..PLAIN }));
    assert!(rig.everybody().iter().all(|client| client.class == Class::Probe));
    rig.sync(works);
    rig.send(idle, &ping(1));
    rig.send(idle, &message("getaddr", &[]));
    assert_eq!(rig.counters().promoted, 1, "pings and getaddr are no work");
    rig.advance(31);
    assert_eq!(rig.counters().promoted, 2, "who wants headers announced is a session after 30 s");
    rig.advance(40);
    assert_eq!((rig.closed(idle).is_some(), rig.closed(works), rig.closed(listens)), (true, None, None));
    assert_eq!(rig.ends(End::ProbeOver), 1);
    rig.finish();
}

#[test]
fn probes_take_no_session_slots_and_sessions_do_not_wait_behind_probes() {
    let mut rig = with(service(2, 3));
    let probes: Vec<u32> = (0..3).map(|_| rig.client(PLAIN)).collect();
    let refused = rig.stranger();
    assert_eq!(
        (rig.closed(refused), rig.ends(End::NoProbeSlot)),
        (Some(true), 1),
        "refused before anything is said"
    );
    rig.sync(probes[0]);
    rig.sync(probes[1]);
    let (late, later) = (rig.client(PLAIN), rig.client(PLAIN));
    assert_eq!((rig.closed(late), rig.closed(later)), (None, None), "promotion has freed two");
    rig.leave(probes[0]);
    rig.sync(late);
    assert_eq!(rig.counters().promoted, 3);
    rig.finish();
}

#[test]
fn who_finds_no_session_slot_is_told_where_else_to_go() {
    let mut rig = with(service(1, 3));
    let (mut addr, mut addrv2) = (Vec::new(), Vec::new());
    write::raw(&mut addr, MAGIC, "addr", &[0]);
    write::raw(&mut addrv2, MAGIC, "addrv2", &[0]);
    rig.tell(ToShard::Addresses { addr: addr.into(), addrv2: addrv2.into() });
    let first = rig.client(PLAIN);
    rig.sync(first);
    let second = rig.client(PLAIN);
    let tip = rig.chain.tip_hash();
    let mut out = Vec::new();
    write::locator(&mut out, MAGIC, "getheaders", [&tip].into_iter(), &[0; 32]);
    rig.send(second, &out);
    assert_eq!(rig.commands(second), ["addr"]);
    assert_eq!(
        (rig.closed(second), rig.ends(End::NoSession)),
        (Some(false), 1),
        "closed in order, not reset"
    );
    rig.leave(first);
    let third = rig.client(PLAIN);
    rig.sync(third);
    rig.finish();
}

#[test]
fn who_comes_too_often_as_a_probe_waits_and_who_works_does_not() {
    let limits = ProbeLimits { every: Duration::from_secs(600), burst: 3, group: 16 };
    let mut rig =
        Rig::with(ShardConfig { services: vec![service(50, 50)], probe_limits: limits, ..config() });
    for _ in 0..3 {
        let conn = knock(&mut rig, 0, 1);
        assert_eq!(rig.closed(conn), None);
        rig.leave(conn);
    }
    let fourth = knock(&mut rig, 0, 1);
    assert_eq!((rig.closed(fourth), rig.ends(End::ProbeTooOften)), (Some(true), 1));
    let neighbour = knock(&mut rig, 0, 2);
    assert_eq!(rig.closed(neighbour), None, "another host of the /24");
    for _ in 0..10 {
        let conn = knock(&mut rig, 0, 3);
        rig.greet(conn, PLAIN);
        rig.messages(conn);
        rig.sync(conn);
        rig.leave(conn);
    }
    assert_eq!(rig.ends(End::ProbeTooOften), 1, "what became a session is not counted");
    rig.advance(601);
    let again = knock(&mut rig, 0, 1);
    assert_eq!(rig.closed(again), None);
    rig.finish();
}

#[test]
fn the_banned_are_refused_until_the_ban_is_over() {
    let mut rig = Rig::new();
    let unix = rig.kernel.hand().0.borrow().now.secs();
    let now = breakwater::io::Kernel::unix_time(&rig.kernel);
    let mut bans = Bans::default();
    let network = "192.0.2.0/30".parse().unwrap();
    bans.insert(Ban { network, until: now + 100, since: now, reason: "test".to_string() }).unwrap();
    rig.tell(ToShard::Bans(Arc::new(bans)));
    rig.settle();
    let (inside, outside) = (knock(&mut rig, 0, 1), knock(&mut rig, 0, 9));
    assert_eq!((rig.closed(inside), rig.closed(outside)), (Some(true), None));
    assert_eq!((rig.ends(End::Banned), unix), (1, unix));
    rig.advance(101);
    let inside = knock(&mut rig, 0, 1);
    assert_eq!(rig.closed(inside), None, "a shard looks at the time itself");
    rig.finish();
}

#[test]
fn two_services_differ_in_name_bits_and_slots() {
    let light = Service {
        id: ServiceId(1),
        user_agent: Bytes::from_static(b"/light/"),
        without: Services::COMPACT_FILTERS,
        ..service(1, 1)
    };
    let listeners = [0, 1].map(|id| Listener { kind: ListenerKind::Plain, service: ServiceId(id) }).to_vec();
    let mut rig = Rig::with(ShardConfig { services: vec![service(5, 5), light], listeners, ..config() });
    let mut shown = Vec::new();
    let mut conns = Vec::new();
    for listener in [0, 1] {
        let conn = knock(&mut rig, listener, listener);
        rig.greet(conn, PLAIN);
        let payload = rig.messages(conn).remove(0).1;
        let command = breakwater::wire::Command::new("version");
        let Ok(Message::Version(version)) = parse(&command, &payload) else { panic!() };
        shown.push((version.services.contains(Services::COMPACT_FILTERS), version.user_agent.to_vec()));
        conns.push(conn);
    }
    assert_eq!(shown, [(true, b"/breakwater:test/".to_vec()), (false, b"/light/".to_vec())]);
    let crowded = knock(&mut rig, 1, 7);
    assert_eq!(rig.closed(crowded), Some(true), "the second service has one probe slot");
    // The bit is a rule, not a word.
    let mut ask = vec![0];
    ask.extend(1_u32.to_le_bytes());
    ask.extend(rig.chain.tip_hash());
    for conn in &conns {
        rig.send(*conn, &message("getcfilters", &ask));
    }
    assert_eq!((rig.closed(conns[0]), rig.ends(End::FiltersNotServed)), (None, 1));
    assert!(rig.closed(conns[1]).is_some());
    assert_eq!(rig.everybody().iter().map(|client| client.service.0).collect::<Vec<_>>(), [0]);
    rig.finish();
}
