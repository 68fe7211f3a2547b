//! Flow control: who asks for more than its capacity waits, and gets exactly its capacity.

use std::time::Duration;

use breakwater::link::{Action, Ask, ClientInfo, Who};
use breakwater::shard::{Service, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::wire::write;

use super::rig::{PLAIN, Rig, config};
use super::{message, ping};

fn with(capacity: u32) -> Rig {
    let service = Service { capacity, ..Service::open(b"/breakwater:test/") };
    Rig::with(ShardConfig { services: vec![service], ..config() })
}

fn set_capacity(rig: &mut Rig, client: &ClientInfo, capacity: u32) {
    let action = Action::Set { capacity: Some(capacity), factors: None, tags: None };
    rig.ask(Ask::Act { who: Who::Ids(vec![client.id]), action });
}

/// Lets `time` pass by milliseconds, with every client always having asked for more; how many answers each has had.
fn ask_without_pause(
    rig: &mut Rig,
    conns: &[u32],
    time: Duration,
    request: &[u8],
    answer: &str,
) -> Vec<usize> {
    let mut answers = vec![0; conns.len()];
    for _ in 0..time.as_millis() {
        let now = rig.kernel.0.borrow().now;
        rig.kernel.0.borrow_mut().now = now + Duration::from_millis(1);
        for (conn, count) in conns.iter().zip(&mut answers) {
            let waiting = rig.kernel.0.borrow().peers[conn].inbox.len();
            if waiting < 10 * request.len() {
                let bytes = request.repeat(10);
                rig.kernel.0.borrow_mut().peers.get_mut(conn).expect("a peer").inbox.extend(bytes);
            }
            *count += rig.messages(*conn).iter().filter(|(command, _)| command == answer).count();
        }
        rig.settle();
    }
    answers
}

fn get_headers(rig: &Rig) -> Vec<u8> {
    let mut out = Vec::new();
    let genesis = *rig.chain.at(0).unwrap().hash();
    write::locator(&mut out, MAGIC, "getheaders", [&genesis].into_iter(), &[0; 32]);
    out
}

#[test]
fn who_asks_without_pause_is_served_in_proportion_to_its_capacity() {
    let mut rig = with(1_000);
    let conns: Vec<u32> = (0..8).map(|_| rig.client(PLAIN)).collect();
    let shown = rig.everybody();
    for (n, client) in shown.iter().enumerate() {
        set_capacity(&mut rig, client, 250 << (n % 4));
    }
    let request = get_headers(&rig);
    // The buffers are emptied first: what they held is not of the capacity.
    ask_without_pause(&mut rig, &conns, Duration::from_secs(3), &request, "headers");
    let served = ask_without_pause(&mut rig, &conns, Duration::from_secs(60), &request, "headers");
    for (n, count) in served.iter().enumerate() {
        let share = served[n - n % 4] * (1 << (n % 4));
        let off = (*count as f64 - share as f64).abs() / share as f64;
        assert!(off <= 0.05, "{served:?}: client {n} is off by {off}");
    }
    assert!(
        rig.everybody().iter().all(|client| client.paused && client.costs[0] > 0),
        "paused, not disconnected"
    );
    let costs = rig.everybody()[3].costs[0];
    assert!((100_000..=140_000).contains(&costs), "2,000 units a second for 63 s and 6 s of buffer: {costs}");
    assert!(rig.counters().over_capacity > 100);
    rig.finish();
}

#[test]
fn what_waits_for_capacity_is_answered_in_order_and_nothing_is_lost() {
    let mut rig = with(100);
    let conn = rig.client(PLAIN);
    let mut input = Vec::new();
    for nonce in 0..60 {
        input.extend(get_headers(&rig));
        input.extend(ping(nonce));
    }
    rig.send(conn, &input);
    let mut told = rig.messages(conn);
    assert!(told.len() < 120, "the buffer does not hold all of it");
    for _ in 0..60 {
        rig.advance(1);
        told.extend(rig.messages(conn));
    }
    let nonces: Vec<u64> = told
        .iter()
        .filter(|(command, _)| command == "pong")
        .map(|(_, payload)| u64::from_le_bytes(payload[..8].try_into().unwrap()))
        .collect();
    assert_eq!(nonces, (0..60).collect::<Vec<_>>());
    assert_eq!(told.iter().filter(|(command, _)| command == "headers").count(), 60);
    rig.finish();
}

#[test]
fn a_waiting_client_hears_of_blocks_and_more_capacity_helps_at_once() {
    let mut rig = with(10);
    let conn = rig.client(PLAIN);
    for _ in 0..20 {
        rig.send(conn, &get_headers(&rig));
    }
    rig.messages(conn);
    let shown = rig.everybody().remove(0);
    assert!(shown.paused && shown.buffer < 60, "{shown:?}");
    rig.mine();
    rig.settle();
    assert!(rig.commands(conn).iter().any(|command| command == "inv"));
    set_capacity(&mut rig, &shown, 1_000_000);
    rig.advance(1);
    rig.send(conn, &message("getaddr", &[]));
    rig.send(conn, &ping(1));
    assert!(rig.commands(conn).iter().any(|command| command == "pong"));
    rig.finish();
}
