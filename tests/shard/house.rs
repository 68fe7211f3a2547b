//! Capacity: who is in within the shard's part, who gives way, what priority clients get, who is paused when too many recharge.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use breakwater::admission::{Factors, Grant, Limit, PrioritySet, Protected};
use breakwater::base::{Class, ClientId, End, Tags};
use breakwater::link::{
    Action, Ask, Came, Gone, HouseOrder, HouseRules, Rank, Standing, Step, ToHub, ToShard, Told, Used, Who,
};
use breakwater::shard::{Service, ShardConfig};
use breakwater::stub::MAGIC;
use breakwater::wire::write;

use super::rig::{PLAIN, Rig, config};

const CAPACITY: u32 = 1_000;

/// Room for so many free clients.
fn with_room(clients: u64) -> Rig {
    with(clients, u32::MAX)
}

fn with(clients: u64, sessions: u32) -> Rig {
    let service = Service { capacity: CAPACITY, sessions, ..Service::open(b"/breakwater:test/") };
    let factors = Factors { time: 1.0, capacity: 0.0, request: 1.0 };
    let house = HouseRules { factors, bias: Duration::from_secs(10), ..HouseRules::open() };
    let capacity = clients * u64::from(CAPACITY);
    Rig::with(ShardConfig { services: vec![service], capacity, house, ..config() })
}

fn order(rig: &mut Rig, clients: u64, shed: bool, freeze: u64) {
    let grant = Grant { number: 9, amount: clients * u64::from(CAPACITY) };
    rig.tell(ToShard::House(HouseOrder { grant, shed, freeze }));
    rig.settle();
}

fn rank(rig: &mut Rig, client: ClientId, standing: Standing, pays: bool) {
    rig.tell(ToShard::Rank(Rank { client, standing, pays, tags: Tags(2), untag: Tags(0) }));
    rig.settle();
}

fn priority(capacity: u32) -> Standing {
    Standing::Priority { capacity }
}

fn came(rig: &mut Rig) -> Vec<Came> {
    let of = |entry| if let ToHub::Came(list) = entry { list.into_vec() } else { Vec::new() };
    rig.house.drain(..).flat_map(of).collect()
}

fn gone(rig: &mut Rig) -> Vec<Gone> {
    let of = |entry| if let ToHub::Gone(list) = entry { list.into_vec() } else { Vec::new() };
    rig.house.drain(..).flat_map(of).collect()
}

fn ask_headers(rig: &mut Rig, conn: u32) {
    let tip = rig.chain.tip_hash();
    let mut out = Vec::new();
    write::locator(&mut out, MAGIC, "getheaders", [&tip].into_iter(), &[0; 32]);
    rig.send(conn, &out);
}

/// A client that knocks at a full house: its connection, and who it is.
fn knocker(rig: &mut Rig) -> (u32, ClientId) {
    rig.house.clear();
    let conn = rig.client(PLAIN);
    ask_headers(rig, conn);
    let came = came(rig);
    assert!(matches!(came[..], [Came { step: Step::Knocks, .. }]), "{came:?}");
    assert_eq!(rig.commands(conn), [] as [&str; 0], "its request stays unread");
    (conn, came[0].client)
}

#[test]
fn free_clients_are_in_while_there_is_room_and_the_hub_hears_of_each() {
    let mut rig = with_room(2);
    let (first, second) = (rig.client(PLAIN), rig.client(PLAIN));
    assert!(rig.house.is_empty(), "probes are nobody yet");
    rig.sync(first);
    rig.sync(second);
    let list = came(&mut rig);
    assert!(list.len() == 2 && list.iter().all(|came| came.step == Step::In), "{list:?}");
    let (third, id) = knocker(&mut rig);
    rank(&mut rig, id, Standing::Free { debt: 0.0 }, false);
    assert_eq!(
        (rig.closed(third).is_some(), rig.ends(End::NoCapacity)),
        (true, 1),
        "nobody is worse than it"
    );
    rig.leave(first);
    let gone = gone(&mut rig);
    assert!(matches!(gone[..], [Gone { class: Class::Free, end: End::Closed, .. }]), "{gone:?}");
    let fourth = rig.client(PLAIN);
    rig.sync(fourth);
    rig.finish();
}

#[test]
fn a_newcomer_that_owes_less_takes_the_place_of_the_worst() {
    let count = Protected::MOST + 8;
    let mut rig = with_room(count as u64);
    let conns: Vec<u32> = (0..count).map(|_| rig.client(PLAIN)).collect();
    conns.iter().for_each(|conn| rig.sync(*conn));
    let list = came(&mut rig);
    // All come from one address, so that of the groups four are spared, and of the old sixteen: the first.
    let worst = list[20].client;
    rank(&mut rig, worst, Standing::Free { debt: 5_000_000.0 }, false);
    let (debtor, id) = knocker(&mut rig);
    rank(&mut rig, id, Standing::Free { debt: 6_000_000.0 }, false);
    assert_eq!((rig.closed(debtor).is_some(), rig.closed(conns[20])), (true, None), "it owes more");
    let (better, id) = knocker(&mut rig);
    rank(&mut rig, id, Standing::Free { debt: 1_000.0 }, false);
    assert_eq!(rig.commands(better), ["headers"], "it is in, and its request is answered");
    assert_eq!((rig.closed(conns[20]).is_some(), rig.ends(End::Replaced)), (true, 1));
    assert_eq!(rig.counters().replaced, 1);
    let told: Vec<Step> = came(&mut rig).iter().map(|came| came.step).collect();
    assert_eq!(told, [Step::After]);
    rig.finish();
}

#[test]
fn a_priority_client_is_in_whatever_is_full() {
    let mut rig = with(1, 1);
    // An account by certificate or address may be anybody's: the hub is asked.
    let mut known = PrioritySet::default();
    known.insert("198.51.100.0/24".parse().unwrap(), 0);
    rig.tell(ToShard::Known(Arc::new(known)));
    let first = rig.client(PLAIN);
    rig.sync(first);
    let (conn, id) = knocker(&mut rig);
    rank(&mut rig, id, priority(50_000), true);
    assert_eq!(rig.commands(conn), ["headers"]);
    let shown = rig.everybody();
    let client = shown.iter().find(|client| client.id == id).unwrap();
    assert_eq!((client.class, client.capacity, client.tags), (Class::Priority, 50_000, Tags(2)));
    assert_eq!(rig.closed(first), None, "the hub says who has to go");
    order(&mut rig, 0, true, 0);
    assert_eq!((rig.closed(first).is_some(), rig.closed(conn)), (true, None));
    // Its balance is used up.
    rank(&mut rig, id, Standing::Free { debt: 3.0 }, true);
    let client = &rig.everybody()[0];
    assert_eq!((client.class, client.capacity), (Class::Free, u64::from(CAPACITY)));
    rank(&mut rig, id, Standing::Out, true);
    assert!(rig.closed(conn).is_some());
    rig.finish();
}

#[test]
fn who_finds_no_slot_is_not_kept_waiting_when_nobody_is_known() {
    let mut rig = with(9, 1);
    let first = rig.client(PLAIN);
    rig.sync(first);
    let second = rig.client(PLAIN);
    ask_headers(&mut rig, second);
    assert_eq!((rig.closed(second).is_some(), rig.ends(End::NoSession)), (true, 1));
    rig.finish();
}

#[test]
fn known_addresses_pass_the_limits_of_probes_and_a_full_table() {
    let service = Service { probes: 1, capacity: CAPACITY, ..Service::open(b"/breakwater:test/") };
    let mut rig = Rig::with(ShardConfig { services: vec![service], max_clients: 16, ..config() });
    let mut known = PrioritySet::default();
    known.insert("198.51.100.0/24".parse().unwrap(), 0);
    rig.tell(ToShard::Known(Arc::new(known)));
    for _ in 0..14 {
        let conn = rig.client(PLAIN);
        rig.sync(conn);
    }
    let stranger = rig.stranger();
    assert_eq!((rig.closed(stranger), rig.ends(End::Full)), (Some(true), 1), "two places are kept");
    let friend = |rig: &mut Rig| {
        let conn = rig.kernel.connect(SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 40_000)));
        rig.settle();
        rig.greet(conn, PLAIN);
        rig.messages(conn);
        conn
    };
    rig.house.clear();
    let first = friend(&mut rig);
    ask_headers(&mut rig, first);
    let id = came(&mut rig)[0].client;
    rank(&mut rig, id, priority(10), true);
    assert_eq!(rig.ends(End::Replaced), 1, "a free client makes room for the next one");
    let second = friend(&mut rig);
    assert_eq!((rig.closed(first), rig.closed(second)), (None, None));
    rig.finish();
}

#[test]
fn a_total_that_falls_ends_the_worst_first_and_no_more_than_needed() {
    let mut rig = with_room(600);
    let conns: Vec<u32> = (0..600).map(|_| rig.client(PLAIN)).collect();
    conns.iter().for_each(|conn| rig.sync(*conn));
    let list = came(&mut rig);
    for came in &list[300..] {
        rank(&mut rig, came.client, Standing::Free { debt: 9_000.0 }, false);
    }
    order(&mut rig, 310, false, 0);
    assert_eq!(rig.ends(End::Replaced), 0, "told to take nobody new");
    order(&mut rig, 310, true, 0);
    assert_eq!((rig.ends(End::Replaced), rig.counters().shed), (290, 290));
    assert!(conns[..300].iter().all(|conn| rig.closed(*conn).is_none()), "the worst were the others");
    rig.finish();
}

#[test]
fn what_clients_of_accounts_are_served_is_told_every_second() {
    let mut rig = with_room(9);
    let conn = rig.client(PLAIN);
    rig.sync(conn);
    let id = came(&mut rig)[0].client;
    rank(&mut rig, id, priority(1_000_000), true);
    rig.advance(1);
    rig.house.clear();
    rig.sync(conn);
    rig.advance(2);
    let used: Vec<Used> = rig
        .house
        .drain(..)
        .flat_map(|entry| if let ToHub::Used(list) = entry { list.into_vec() } else { Vec::new() })
        .collect();
    let sum: u32 = used.iter().map(|used| used.cost).sum();
    assert!(used.len() == 2 && used.iter().all(|used| used.client == id), "{used:?}");
    assert!((8..100).contains(&sum), "one getheaders: {sum}");
    rig.finish();
}

#[test]
fn too_many_that_recharge_are_paused_the_worst_first_and_go_on_later() {
    let mut rig = with_room(10);
    let conns: Vec<u32> = (0..4).map(|_| rig.client(PLAIN)).collect();
    let genesis = *rig.chain.at(0).unwrap().hash();
    let mut request = Vec::new();
    write::locator(&mut request, MAGIC, "getheaders", [&genesis].into_iter(), &[0; 32]);
    for (n, conn) in conns.iter().enumerate() {
        // More than the buffer holds: each recharges for a while, the later ones have had more.
        rig.send(*conn, &request.repeat(600 + 40 * n));
    }
    rig.advance(2);
    let report = rig.report.clone().unwrap().house;
    assert_eq!((report.recharging, report.free.used), (4 * u64::from(CAPACITY), 4 * u64::from(CAPACITY)));
    order(&mut rig, 10, false, u64::from(CAPACITY) + 1);
    assert_eq!(rig.counters().frozen, 2);
    rig.advance(2);
    assert_eq!(
        rig.report.clone().unwrap().house.recharging,
        2 * u64::from(CAPACITY),
        "the frozen need nothing"
    );
    rig.advance(60);
    let served: Vec<usize> = conns.iter().map(|conn| rig.messages(*conn).len()).collect();
    assert!(
        served.iter().enumerate().all(|(n, served)| *served == 600 + 40 * n),
        "nothing is lost: {served:?}"
    );
    assert_eq!(rig.report.clone().unwrap().house.recharging, 0);
    rig.finish();
}

#[test]
fn more_capacity_is_given_only_where_there_is_room_and_defaults_hold_for_newcomers() {
    let mut rig = with_room(3);
    let conn = rig.client(PLAIN);
    rig.sync(conn);
    let id = came(&mut rig)[0].client;
    let set = |rig: &mut Rig, capacity| {
        let action = Action::Set { capacity: Some(capacity), factors: None, tags: None };
        let told = rig.ask(Ask::Act { who: Who::Ids(vec![id]), action });
        let Told::Done { clients, .. } = told else { panic!("{told:?}") };
        clients
    };
    assert_eq!(set(&mut rig, 4 * CAPACITY), 0, "not done");
    assert_eq!(set(&mut rig, 3 * CAPACITY), 1);
    let (other, id) = knocker(&mut rig);
    rank(&mut rig, id, Standing::Free { debt: 0.0 }, false);
    assert!(rig.closed(other).is_some(), "it has all of it");
    assert_eq!(set(&mut rig, CAPACITY), 1);
    let rules = HouseRules { throttle_down: Limit::Bytes(5_000), ..HouseRules::open() };
    rig.tell(ToShard::HouseRules(Arc::new(rules)));
    let later = rig.client(PLAIN);
    rig.sync(later);
    let limits: Vec<Option<u64>> = rig.everybody().iter().map(|client| client.throttle_down).collect();
    assert_eq!(limits, [None, Some(5_000)]);
    rig.finish();
}

#[test]
fn who_knocks_and_goes_is_told_to_the_hub_before_and_after_its_word() {
    let mut rig = with_room(1);
    let first = rig.client(PLAIN);
    rig.sync(first);
    let (conn, id) = knocker(&mut rig);
    rig.leave(conn);
    // It is not read while it waits: that it has gone is seen with the hub's word, and told.
    rank(&mut rig, id, priority(9), true);
    let told = gone(&mut rig);
    assert!(matches!(told[..], [Gone { class: Class::Priority, .. }]) && told[0].client == id, "{told:?}");
    // Who breaks a rule while it waits has gone before.
    let (conn, id) = knocker(&mut rig);
    let kick = Ask::Act { who: Who::Ids(vec![id]), action: Action::End(End::Kicked) };
    rig.ask(kick);
    assert!(rig.closed(conn).is_some() && gone(&mut rig).iter().any(|gone| gone.client == id));
    rank(&mut rig, id, priority(9), true);
    let (conn, id) = knocker(&mut rig);
    rank(&mut rig, id, Standing::Free { debt: 9.0 }, true);
    assert!(rig.closed(conn).is_some(), "its account is empty, and there is no room");
    assert!(gone(&mut rig).iter().any(|gone| gone.client == id), "the account has one client less");
    rig.finish();
}

#[test]
fn a_default_throttle_takes_nothing_of_what_is_being_read() {
    let mut rig = with_room(3);
    let rules = HouseRules { throttle_down: Limit::Bytes(1_000_000), ..HouseRules::open() };
    rig.tell(ToShard::HouseRules(Arc::new(rules)));
    let conn = rig.client(PLAIN);
    let tip = rig.chain.tip_hash();
    let mut out = Vec::new();
    for _ in 0..3 {
        write::locator(&mut out, MAGIC, "getheaders", [&tip].into_iter(), &[0; 32]);
    }
    // Three and a half: the first makes it a session in the middle of the piece.
    let whole = out.len() / 3;
    let half = whole / 2;
    out.extend_from_within(..half);
    rig.send(conn, &out);
    assert_eq!(rig.commands(conn), ["headers"; 3]);
    let rest = out[half..whole].to_vec();
    rig.send(conn, &rest);
    assert_eq!(rig.commands(conn), ["headers"]);
    rig.finish();
}

#[test]
fn tags_of_an_account_go_with_it() {
    let mut rig = with_room(3);
    let conn = rig.client(PLAIN);
    rig.sync(conn);
    let id = came(&mut rig)[0].client;
    rank(&mut rig, id, priority(10), true);
    assert_eq!(rig.everybody()[0].tags, Tags(2));
    let rank = Rank {
        client: id,
        standing: Standing::Free { debt: 0.0 },
        pays: false,
        tags: Tags(0),
        untag: Tags(2),
    };
    rig.tell(ToShard::Rank(rank));
    rig.settle();
    assert_eq!(rig.everybody()[0].tags, Tags(0));
    // What the account has paid is not owed again.
    rig.leave(conn);
    let gone = gone(&mut rig);
    assert!(gone[0].owes < 1.0, "{gone:?}");
    rig.finish();
}
