//! Services that come and go while the shard runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use breakwater::base::{End, ServiceId};
use breakwater::link::{Ask, Filter, NewService, ToHub, ToShard, Told};
use breakwater::wire::Services;

use super::rig::{PLAIN, Rig};
use super::script::TAKEN_PORT;

fn new(service: u8, ports: &[u16]) -> Ask {
    let at = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    Ask::Add(NewService {
        service: ServiceId(service),
        listen: ports.iter().map(at).collect(),
        tls: false,
        without: Services::empty(),
        user_agent: bytes::Bytes::from_static(b"/extra/"),
        sessions: 1,
        probes: 2,
        capacity: u32::MAX,
        probe_time: Some(Duration::from_secs(60)),
    })
}

fn bound(rig: &mut Rig, ask: Ask) -> Result<(), (SocketAddr, i32)> {
    match rig.ask(ask) {
        Told::Bound(result) => result,
        other => panic!("{other:?}"),
    }
}

fn listening(rig: &Rig) -> Vec<u8> {
    rig.kernel.0.borrow().listening.iter().copied().collect()
}

#[test]
fn a_service_is_bound_opened_and_closed() {
    let mut rig = Rig::new();
    for round in 0..3 {
        let service = 1 + round;
        assert_eq!(bound(&mut rig, new(service, &[9_000, 9_001])), Ok(()));
        assert_eq!(listening(&rig), [0], "nobody comes before all shards have bound");
        rig.ask(Ask::Open(ServiceId(service)));
        assert_eq!(listening(&rig).len(), 3);
        let number = listening(&rig)[1];
        let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 4_000));
        let conns: Vec<u32> = (0..3).map(|_| rig.kernel.connect_to(number, peer)).collect();
        rig.settle();
        let its = Filter { service: Some(ServiceId(service)), ..Filter::default() };
        assert_eq!(rig.list(its.clone(), 0, 9).0.len(), 2, "its own slots count");
        assert!(rig.closed(conns[2]).is_some());
        rig.ask(Ask::Remove(ServiceId(service)));
        assert_eq!((listening(&rig), rig.kernel.0.borrow().bound.len()), (vec![0], 0));
        // Who is there stays until it is ended; who was accepted while it closed is refused.
        assert_eq!(rig.list(its, 0, 9).0.len(), 2);
        let late = rig.kernel.connect_to(number, peer);
        rig.settle();
        assert!(rig.closed(late).is_some());
        assert_eq!(rig.ends(End::Drained), u64::from(round) + 1);
    }
    let first = rig.client(PLAIN);
    assert!(rig.closed(first).is_none());
    rig.finish();
}

#[test]
fn one_address_that_cannot_be_bound_leaves_none() {
    let mut rig = Rig::new();
    let (at, errno) = bound(&mut rig, new(1, &[9_000, TAKEN_PORT, 9_001])).unwrap_err();
    assert_eq!((at.port(), errno), (TAKEN_PORT, 98));
    assert!(rig.kernel.0.borrow().bound.is_empty());
    // What was never added is removed and opened without harm.
    rig.ask(Ask::Open(ServiceId(1)));
    rig.ask(Ask::Remove(ServiceId(1)));
    assert_eq!(listening(&rig), [0]);
    assert_eq!(bound(&mut rig, new(1, &[9_000, 9_001, 9_002])), Ok(()));
    rig.ask(Ask::Open(ServiceId(1)));
    assert_eq!(listening(&rig), [0, 1, 2, 3], "numbers are used again");
    rig.finish();
}

#[test]
fn more_addresses_than_numbers_are_refused() {
    let mut rig = Rig::new();
    let ports: Vec<u16> = (9_000..9_255).collect();
    assert_eq!(bound(&mut rig, new(1, &ports)).unwrap_err().1, 24);
    assert!(rig.kernel.0.borrow().bound.is_empty());
    assert_eq!(bound(&mut rig, new(1, &ports[..254])), Ok(()));
    rig.tell(ToShard::Drain);
    rig.settle();
    assert!(rig.heard.iter().all(|entry| !matches!(entry, ToHub::Told(..))));
}
