//! What an operator asks of a shard: lists, kicks, tags, pauses, throttles.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use breakwater::admission::{Limit, Scope};
use breakwater::base::{ClientId, End, Tags};
use breakwater::io::Done;
use breakwater::link::{Action, Ask, AskId, Filter, ToHub, ToShard, Told, Who};
use breakwater::transport::Kind;

use super::rig::{PLAIN, Rig, extents};
use super::{getdata, message, ping};
use breakwater::wire::InvKind;

const MILLISECOND: Duration = Duration::from_millis(1);

fn act(rig: &mut Rig, who: Who, action: Action) -> (u64, Vec<ClientId>) {
    match rig.ask(Ask::Act { who, action }) {
        Told::Done { clients, unknown } => (clients, unknown),
        other => panic!("{other:?}"),
    }
}

/// A client from an address of its own.
fn from(rig: &mut Rig, address: [u8; 4]) -> u32 {
    let conn = rig.kernel.connect(SocketAddr::from((Ipv4Addr::from(address), 40_000)));
    rig.settle();
    rig.greet(conn, PLAIN);
    rig.messages(conn);
    conn
}

/// Lets `time` pass by milliseconds; bytes that have gone to each of these meanwhile.
fn pass(rig: &mut Rig, time: Duration, conns: &[u32]) -> Vec<usize> {
    let sent = |rig: &mut Rig, conn: u32| {
        let state = &mut *rig.kernel.0.borrow_mut();
        std::mem::take(&mut state.peers.get_mut(&conn).expect("a peer").out).len()
    };
    let mut sums = vec![0; conns.len()];
    for _ in 0..time.as_millis() {
        let now = rig.kernel.0.borrow().now;
        rig.kernel.0.borrow_mut().now = now + MILLISECOND;
        rig.settle();
        for (sum, conn) in sums.iter_mut().zip(conns) {
            *sum += sent(rig, *conn);
        }
    }
    sums
}

#[test]
fn a_client_is_shown_as_it_is() {
    let mut rig = Rig::new();
    let conn = rig.client(PLAIN);
    rig.advance(120);
    assert_eq!(rig.commands(conn), ["ping"]);
    let shown = rig.everybody().remove(0);
    assert_eq!((shown.transport, shown.ready, shown.paused), (Kind::Plain, true, false));
    assert_eq!(&*shown.user_agent, "/test/");
    assert_eq!(shown.connected, Duration::from_secs(120));
    assert_eq!(shown.round_trip, None, "the ping is not answered");
    assert!(shown.bytes_in > 100 && shown.bytes_out > 100, "{shown:?}");
    let before = shown.bytes_in;
    rig.send(conn, &ping(3));
    assert_eq!(rig.everybody()[0].bytes_in, before + 32);
    rig.finish();
}

#[test]
fn a_pong_says_how_far_a_client_is() {
    let mut rig = Rig::new();
    let conn = rig.client(PLAIN);
    rig.advance(120);
    let nonce = rig.messages(conn).remove(0).1;
    let now = rig.kernel.0.borrow().now;
    rig.kernel.0.borrow_mut().now = now + Duration::from_millis(250);
    rig.send(conn, &message("pong", &nonce));
    assert_eq!(rig.everybody()[0].round_trip, Some(Duration::from_millis(250)));
    rig.finish();
}

#[test]
fn pages_join_to_all_who_match() {
    let mut rig = Rig::new();
    for n in 0..50 {
        from(&mut rig, [192, 0, if n % 2 == 0 { 2 } else { 3 }, n]);
    }
    let filter = Filter { network: Some("192.0.2.0/24".parse().unwrap()), ..Filter::default() };
    let (mut found, mut at, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (clients, next) = rig.list(filter.clone(), at, 7);
        assert!(clients.len() <= 7);
        found.extend(clients);
        pages += 1;
        let Some(next) = next else { break };
        at = next;
    }
    assert_eq!((found.len(), pages), (25, 4));
    assert!(found.iter().all(|client| filter.network.unwrap().contains(&client.peer.ip())));
    rig.finish();
}

#[test]
fn a_kick_ends_those_it_names_and_says_who_was_not_there() {
    let mut rig = Rig::new();
    let conns: Vec<u32> = (0..3).map(|n| from(&mut rig, [192, 0, 2, n])).collect();
    let ids: Vec<ClientId> = rig.everybody().iter().map(|client| client.id).collect();
    let stale = ClientId { slot: ids[0].slot, generation: ids[0].generation + 1 };
    let who = Who::Ids(vec![ids[1], stale, ClientId { slot: 999, generation: 1 }]);
    let (done, unknown) = act(&mut rig, who, Action::End(End::Kicked));
    assert_eq!((done, unknown.len(), unknown[0]), (1, 2, stale));
    assert_eq!(conns.iter().filter(|conn| rig.closed(**conn).is_some()).count(), 1);
    assert_eq!(rig.ends(End::Kicked), 1);
    let filter = Filter { network: Some("192.0.2.0/31".parse().unwrap()), ..Filter::default() };
    let (done, _) = act(&mut rig, Who::Matching(filter), Action::End(End::Kicked));
    assert_eq!((done, rig.everybody().len()), (1, 1), "of .0 and .1 one had gone");
    rig.finish();
}

#[test]
fn tags_are_given_and_taken() {
    let mut rig = Rig::new();
    from(&mut rig, [192, 0, 2, 1]);
    from(&mut rig, [192, 0, 2, 2]);
    let id = rig.everybody()[0].id;
    let tag = Action::Tag { add: Tags(5), remove: Tags(0) };
    assert_eq!(act(&mut rig, Who::Ids(vec![id]), tag).0, 1);
    let tagged =
        |rig: &mut Rig, tags| rig.list(Filter { tags: Tags(tags), ..Filter::default() }, 0, 9).0.len();
    assert_eq!(
        [tagged(&mut rig, 4), tagged(&mut rig, 5), tagged(&mut rig, 2), tagged(&mut rig, 0)],
        [1, 1, 0, 2]
    );
    act(&mut rig, Who::Matching(Filter::default()), Action::Tag { add: Tags(2), remove: Tags(4) });
    assert_eq!([tagged(&mut rig, 4), tagged(&mut rig, 2)], [0, 2]);
    rig.finish();
}

#[test]
fn who_is_paused_is_not_read_and_still_hears_of_blocks() {
    let mut rig = Rig::new();
    let (conn, other) = (rig.client(PLAIN), rig.client(PLAIN));
    let id = rig.everybody()[0].id;
    act(&mut rig, Who::Ids(vec![id]), Action::Pause(Duration::from_secs(60)));
    assert!(rig.everybody()[0].paused);
    rig.send(conn, &ping(1));
    rig.send(conn, &ping(2));
    rig.send(other, &ping(3));
    assert_eq!((rig.commands(conn).len(), rig.commands(other).len()), (0, 1));
    rig.mine();
    rig.settle();
    assert_eq!(rig.commands(conn), ["inv"]);
    rig.advance(61);
    assert_eq!(rig.commands(conn), ["pong", "pong"], "read again when the pause is over");
    act(&mut rig, Who::Ids(vec![id]), Action::Pause(Duration::from_secs(60)));
    act(&mut rig, Who::Ids(vec![id]), Action::Pause(Duration::ZERO));
    rig.send(conn, &ping(4));
    assert_eq!(rig.commands(conn), ["pong"], "a pause ends when the operator says so");
    rig.finish();
}

/// Has the client ask for a file that is long enough for any test.
fn wants_a_file(rig: &mut Rig, conn: u32) {
    let old = *rig.chain.at(2).unwrap().hash();
    rig.send(conn, &getdata(&[(InvKind::WitnessBlock, old)]));
    // Under a throttle the question itself waits for its turn.
    for _ in 0..1_000 {
        if !rig.heard.is_empty() {
            break;
        }
        pass(rig, MILLISECOND, &[]);
    }
    let (to, _) = rig.want();
    let file = vec![vec![0; 64 << 20]];
    rig.tell(ToShard::Answer { client: to.client, id: to.id, answer: extents(&file) });
}

fn within_one_percent(sent: usize, rate: u64, seconds: u64) {
    let wanted = (rate * seconds) as f64;
    assert!((sent as f64 - wanted).abs() <= 0.01 * wanted, "{sent} of {wanted}");
}

#[test]
fn a_throttled_client_gets_its_rate_and_its_neighbour_everything() {
    for rate in [10_000, 1_000_000] {
        let mut rig = Rig::new();
        let (slow, free) = (rig.client(PLAIN), rig.client(PLAIN));
        let id = rig.everybody()[0].id;
        let throttle = Action::Throttle { down: Limit::Bytes(rate), up: Limit::Keep };
        act(&mut rig, Who::Ids(vec![id]), throttle);
        assert_eq!(rig.everybody()[0].throttle_down, Some(rate));
        wants_a_file(&mut rig, slow);
        wants_a_file(&mut rig, free);
        pass(&mut rig, Duration::from_secs(1), &[slow, free]);
        assert_eq!(rig.shard.core().counters().file_bytes / (64 << 20), 1, "the neighbour has it all");
        within_one_percent(pass(&mut rig, Duration::from_secs(10), &[slow])[0], rate, 10);
        let free_again = Action::Throttle { down: Limit::Unlimited, up: Limit::Keep };
        act(&mut rig, Who::Ids(vec![id]), free_again);
        let rest = pass(&mut rig, Duration::from_millis(5), &[slow])[0];
        assert!(rest > 40 << 20, "{rest} bytes at once when the throttle is lifted");
        rig.finish();
    }
}

#[test]
fn a_shared_throttle_is_shared_and_exact() {
    let mut rig = Rig::new();
    let conns: Vec<u32> = (0..4).map(|_| rig.client(PLAIN)).collect();
    let rate = 400_000;
    rig.ask(Ask::Throttle { scope: Scope::All, down: Limit::Bytes(rate), up: Limit::Keep });
    for conn in &conns {
        wants_a_file(&mut rig, *conn);
    }
    pass(&mut rig, Duration::from_secs(1), &conns);
    let sent = pass(&mut rig, Duration::from_secs(10), &conns);
    within_one_percent(sent.iter().sum(), rate, 10);
    for part in &sent {
        assert!((900_000..1_100_000).contains(part), "an even share: {sent:?}");
    }
    // A fifth one with little to ask waits for its turn, not for the others' files.
    let fifth = rig.client(PLAIN);
    pass(&mut rig, Duration::from_secs(1), &[fifth]);
    rig.send(fifth, &ping(1));
    let pong = pass(&mut rig, Duration::from_millis(500), &[fifth])[0];
    assert_eq!(pong, 32);
    rig.ask(Ask::Throttle { scope: Scope::All, down: Limit::Unlimited, up: Limit::Unlimited });
    pass(&mut rig, Duration::from_millis(300), &conns);
    rig.finish();
}

#[test]
fn who_waits_at_a_low_rate_goes_on_at_once_at_a_higher_one_and_without_a_limit() {
    let mut rig = Rig::new();
    let conns: Vec<u32> = (0..4).map(|_| rig.client(PLAIN)).collect();
    let others: Vec<u32> = (0..20).map(|_| rig.client(PLAIN)).collect();
    others.iter().for_each(|conn| rig.sync(*conn));
    let set = |rig: &mut Rig, down| {
        rig.ask(Ask::Throttle { scope: Scope::All, down, up: Limit::Keep });
    };
    set(&mut rig, Limit::Bytes(10_000));
    conns.iter().for_each(|conn| wants_a_file(&mut rig, *conn));
    pass(&mut rig, Duration::from_secs(1), &conns);
    // Announcements go without waiting, and those who wait come behind them: for many seconds at this rate.
    for _ in 0..200 {
        rig.mine();
        rig.settle();
    }
    let told: usize = others.iter().map(|conn| rig.messages(*conn).len()).sum();
    assert_eq!(told, 200 * others.len(), "announcements");
    pass(&mut rig, Duration::from_secs(1), &conns);
    assert_eq!(pass(&mut rig, Duration::from_secs(1), &conns), [0; 4], "all wait");
    set(&mut rig, Limit::Bytes(4_000_000));
    let sent = pass(&mut rig, Duration::from_secs(1), &conns);
    assert!(sent.iter().all(|sent| *sent > 900_000), "the debt is paid at the new rate: {sent:?}");
    set(&mut rig, Limit::Bytes(10_000));
    pass(&mut rig, Duration::from_secs(2), &conns);
    set(&mut rig, Limit::Unlimited);
    let sent = pass(&mut rig, Duration::from_millis(10), &conns);
    assert!(sent.iter().all(|sent| *sent > 1_000_000), "nobody waits: {sent:?}");
    rig.finish();
}

#[test]
fn what_a_throttled_client_sends_is_read_at_its_rate() {
    let mut rig = Rig::new();
    rig.kernel.0.borrow_mut().piece = 500;
    let conn = rig.client(PLAIN);
    let id = rig.everybody()[0].id;
    act(&mut rig, Who::Ids(vec![id]), Action::Throttle { down: Limit::Keep, up: Limit::Bytes(20_000) });
    let pings: Vec<u8> = (0..20_000).flat_map(ping).collect();
    rig.send(conn, &pings);
    pass(&mut rig, Duration::from_secs(1), &[conn]);
    // A pong is as long as its ping.
    within_one_percent(pass(&mut rig, Duration::from_secs(10), &[conn])[0], 20_000, 10);
    rig.finish();
}

/// Bytes that the shard has taken of a connection while `time` passes.
fn taken(rig: &mut Rig, conn: u32, time: Duration) -> usize {
    let waits = |rig: &Rig| rig.kernel.0.borrow().peers[&conn].inbox.len();
    let before = waits(rig);
    pass(rig, time, &[conn]);
    before - waits(rig)
}

#[test]
fn a_throttled_client_is_received_at_its_rate_in_pieces_of_it() {
    for rate in [10_000, 30_000, 1_000_000] {
        let mut rig = Rig::new();
        let (conn, free) = (rig.client(PLAIN), rig.client(PLAIN));
        let id = rig.everybody()[0].id;
        act(&mut rig, Who::Ids(vec![id]), Action::Throttle { down: Limit::Keep, up: Limit::Bytes(rate) });
        let pings: Vec<u8> = (0..400_000).flat_map(ping).collect();
        rig.send(conn, &pings);
        rig.send(free, &pings);
        taken(&mut rig, conn, Duration::from_secs(1));
        assert!(rig.kernel.0.borrow().peers[&free].inbox.is_empty(), "the neighbour is read at once");
        within_one_percent(taken(&mut rig, conn, Duration::from_secs(10)), rate, 10);
        // As before, once nothing holds it.
        act(&mut rig, Who::Ids(vec![id]), Action::Throttle { down: Limit::Keep, up: Limit::Unlimited });
        taken(&mut rig, conn, Duration::from_secs(1));
        assert!(rig.kernel.0.borrow().peers[&conn].inbox.is_empty());
        rig.finish();
    }
}

#[test]
fn a_message_that_our_own_throttle_makes_slow_is_not_late() {
    let mut rig = Rig::new();
    let (slow, stops) = (rig.client(PLAIN), rig.client(PLAIN));
    let ids: Vec<ClientId> = rig.everybody().iter().map(|client| client.id).collect();
    let limit = Limit::Bytes(10_000);
    act(&mut rig, Who::Ids(ids.clone()), Action::Throttle { down: Limit::Keep, up: limit });
    // Three megabytes take five minutes at that rate; the longest a message may take is two.
    let unknown = super::message("nonsense", &vec![0; 3_000_000]);
    rig.send(slow, &unknown);
    rig.send(stops, &unknown[..100_000]);
    for second in 0..290 {
        rig.advance(1);
        // All that has been paid for: a client sends on as fast as it is let.
        pass(&mut rig, MILLISECOND, &[slow]);
        assert!(rig.closed(slow).is_none(), "after {second} s");
    }
    assert_eq!(
        (rig.ends(End::SlowMessage), rig.closed(stops).is_some()),
        (1, true),
        "who stops is late all the same"
    );
    // Nor is one late whom the operator has paused in the middle of a message.
    let paused = rig.client(PLAIN);
    rig.send(paused, &unknown[..1_000]);
    let id = rig.everybody().iter().map(|client| client.id).max_by_key(|id| id.generation).unwrap();
    act(&mut rig, Who::Ids(vec![id]), Action::Pause(Duration::from_secs(600)));
    rig.advance(300);
    assert!(rig.closed(paused).is_none());
    rig.finish();
}

#[test]
fn a_long_table_is_looked_at_over_several_turns() {
    let mut rig = Rig::with(super::ShardConfig { max_clients: 6_000, ..super::config() });
    for n in 0..5_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        rig.kernel.connect(SocketAddr::from((Ipv4Addr::new(10, a, b, c), 4_000)));
    }
    rig.settle();
    rig.tell(ToShard::Ask(
        AskId(1),
        Arc::new(Ask::Act {
            who: Who::Matching(Filter { network: Some("10.0.0.0/24".parse().unwrap()), ..Filter::default() }),
            action: Action::End(End::Kicked),
        }),
    ));
    let mut turns = 0;
    while rig.heard.is_empty() {
        rig.kernel.done(Done::Doorbell);
        rig.turn();
        turns += 1;
        assert!(turns < 100);
    }
    assert!(turns >= 2, "5,000 slots are more than a turn looks at");
    assert!(
        matches!(rig.heard.pop_back(), Some(ToHub::Told(AskId(1), told)) if matches!(*told, Told::Done { clients: 256, .. }))
    );
    rig.finish();
}
