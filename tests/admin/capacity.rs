//! Capacity of a relay as an operator starts it: priority clients at a full house, balances, what a restart keeps.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::GetHeadersMessage;
use serde_json::json;

use crate::real::{Door, client};
use crate::support::client::Client;
use crate::support::relay::Relay;
use crate::support::stub_node::StubServer;
use crate::support::wait::{self, PATIENCE};
use crate::watch::Watcher;

const IDENTITY: &str = "127.9.9.0/24";
const PATH: &str = "/priority/127.9.9.0%2F24";

/// A relay with this configuration; the folder is that of the file.
fn start(node: &StubServer, shards: &str, config: &str) -> (Relay, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["--shards", shards, "--max-clients", "1000", "--config", file];
    let mut relay = Relay::prepare([node.address()], &arguments);
    relay.spawn();
    relay.wait_ready();
    (relay, dir)
}

fn ask_headers(client: &mut Client) -> usize {
    client.headers(vec![BlockHash::all_zeros()]).len()
}

/// A client that has a session.
fn session(relay: &Relay, source: [u8; 4]) -> Client {
    let mut client = client(relay, source);
    assert!(ask_headers(&mut client) > 0);
    client
}

#[test]
fn a_priority_client_gets_in_at_a_full_house_until_its_balance_is_used_up() {
    let node = StubServer::start(3);
    let (mut relay, _dir) = start(&node, "1", "free_capacity = 10000\nmax_capacity = 40000\n");
    let door = Door::of(&relay);
    let mut free: Vec<Client> = (1..=4).map(|n| session(&relay, [127, 1, 1, n])).collect();
    wait::for_("the sum", || door.get("/info")["capacity"]["connected"] == 40_000);
    let mut refused = client(&relay, [127, 1, 2, 1]);
    refused.send(NetworkMessage::MemPool);
    refused.expect_closed(PATIENCE);

    let mut watcher = Watcher::at(&door.0, "?kind=kick,client_capacity");
    let account =
        r#"{"capacity": 20000, "factors": {"time": 0, "capacity": 0, "request": 1}, "tags": ["paid"]}"#;
    assert_eq!(door.expect(200, "PUT", PATH, Some(account))["identity"], IDENTITY);
    let more = r#"{"amount": 1000000}"#;
    let added = door.expect(200, "POST", "/balances/127.9.9.0%2F24/add", Some(more));
    assert_eq!(added, json!({"old": 0, "new": 1_000_000}));
    let mut paid = session(&relay, [127, 9, 9, 1]);
    let shown = door.client(paid.local_address());
    assert_eq!(
        (&shown["class"], &shown["capacity"], &shown["tags"]),
        (&json!("priority"), &json!(20_000), &json!(["paid"]))
    );
    assert!(shown["balance"]["positive"].as_u64() <= Some(1_000_000), "{shown}");
    let kinds: Vec<String> = (0..3).map(|_| watcher.next().0).collect();
    assert_eq!(kinds, ["client_capacity", "kick", "kick"], "two free clients give way");
    wait::for_("the sum", || {
        let capacity = door.get("/info")["capacity"].clone();
        (&capacity["connected"], &capacity["priority_connected"]) == (&json!(40_000), &json!(20_000))
    });
    assert_eq!(door.clients("&class=free").len(), 2);

    // All is taken away again: it goes on as a free client.
    let less = r#"{"amount": -9000000}"#;
    let taken = door.expect(200, "POST", "/balances/127.9.9.0%2F24/add", Some(less));
    assert_eq!(taken["new"], 0);
    wait::for_("it to be free", || {
        let shown = door.client(paid.local_address());
        (&shown["class"], &shown["capacity"]) == (&json!("free"), &json!(10_000))
    });
    paid.ping();
    assert_eq!(watcher.next().0, "client_capacity");
    door.expect(200, "POST", "/balances/127.9.9.0%2F24/add", Some(more));
    let before = door.get(PATH);
    relay.kill();
    relay.restart();
    let after = door.get(PATH);
    for field in ["identity", "capacity", "factors", "tags"] {
        assert_eq!(before[field], after[field], "after kill -9");
    }
    assert_eq!(after["balance"]["positive"], 1_000_000);
    free.clear();
    assert!(relay.stop().success());
}

#[test]
fn what_a_free_client_has_had_is_owed_and_outlives_the_process() {
    let node = StubServer::start(50);
    let (mut relay, _dir) = start(&node, "2", "");
    let door = Door::of(&relay);
    let mut user = session(&relay, [127, 1, 1, 1]);
    for _ in 0..200 {
        ask_headers(&mut user);
    }
    let shown = door.client(user.local_address());
    let owed = shown["balance"]["negative"].as_u64().unwrap();
    assert!(owed > 1_000, "{shown}");
    drop(user);
    let path = "/balances/127.1.1.1";
    wait::for_("the debt of its address", || door.ask("GET", &format!("/api/v1{path}"), None).status == 200);
    let debt = door.get(path)["negative"].as_u64().unwrap();
    assert!(debt >= owed * 9 / 10, "{debt} of {owed}");
    assert!(relay.stop().success());
    relay.restart();
    let again = door.get(path)["negative"].as_u64().unwrap();
    assert!(again > 0 && again >= debt * 9 / 10, "{again} of {debt}");
    // The next client from there begins with it.
    let next = session(&relay, [127, 1, 1, 1]);
    wait::for_("its debt", || {
        let shown = door.client(next.local_address());
        shown["balance"]["negative"].as_u64() >= Some(again * 9 / 10)
    });
}

#[test]
fn the_total_is_kept_by_the_shards_together() {
    let node = StubServer::start(3);
    let (relay, _dir) = start(&node, "2", "free_capacity = 1000\nmax_capacity = 20000\n");
    let door = Door::of(&relay);
    let (mut held, mut refused) = (Vec::new(), 0);
    // Chance spreads them unevenly: the parts follow within reports.
    wait::for_("a full house", || {
        for n in 0..10 {
            let mut client = client(&relay, [127, 2, (held.len() % 200) as u8, n + 1]);
            client.send(NetworkMessage::GetHeaders(GetHeadersMessage {
                version: 70_016,
                locator_hashes: vec![BlockHash::all_zeros()],
                stop_hash: BlockHash::all_zeros(),
            }));
            let answered = client.recv_until_closed("headers", PATIENCE);
            if answered { held.push(client) } else { refused += 1 }
        }
        held.len() == 20
    });
    assert!(refused > 0, "nobody beyond the total");
    wait::for_("the sum", || door.get("/info")["capacity"]["connected"] == 20_000);
    held.iter_mut().for_each(Client::ping);
}

#[test]
fn defaults_and_accounts_are_changed_and_refused() {
    let node = StubServer::start(1);
    let (relay, _dir) = start(&node, "2", "");
    let door = Door::of(&relay);
    let defaults = door.get("/defaults");
    assert_eq!((&defaults["connected_bias"], &defaults["throttle_down"]), (&json!(180), &json!(null)));
    let change = r#"{"connected_bias": 60, "throttle_down": 50000, "factors": {"time": 1, "capacity": 2, "request": 3}}"#;
    let changed = door.expect(200, "PATCH", "/defaults", Some(change));
    assert_eq!((&changed["connected_bias"], &changed["factors"]["request"]), (&json!(60), &json!(3.0)));
    let later = session(&relay, [127, 1, 1, 1]);
    assert_eq!(door.client(later.local_address())["throttle_down"], 50_000);

    assert_eq!(door.expect(400, "PUT", PATH, Some("{}"))["error"]["field"], "capacity");
    assert_eq!(door.expect(404, "GET", PATH, None)["error"]["field"], "identity");
    let none = door.expect(404, "POST", "/balances/127.9.9.0%2F24/add", Some(r#"{"amount": 5}"#));
    assert_eq!(none["error"]["field"], "identity");
    door.expect(200, "PUT", PATH, Some(r#"{"capacity": 5}"#));
    let most = format!("{{\"amount\": {}}}", i64::MAX);
    let over = door.expect(400, "POST", "/balances/127.9.9.0%2F24/add", Some(&most));
    assert_eq!(over["error"]["field"], "amount");
    assert_eq!(door.get(PATH)["balance"]["positive"], 0);
    door.expect(204, "DELETE", PATH, None);
    door.expect(404, "GET", PATH, None);
    let set = format!(
        "{{\"ids\": [\"{}\"], \"capacity\": 77}}",
        door.client(later.local_address())["id"].as_str().unwrap()
    );
    assert_eq!(door.expect(200, "POST", "/clients/set", Some(&set))["clients"], 1);
    assert_eq!(door.client(later.local_address())["capacity"], 77);
}

#[test]
fn the_slots_of_a_service_are_kept_by_the_shards_together_and_follow_the_demand() {
    let node = StubServer::start(3);
    let (relay, _dir) = start(&node, "2", "session_slots = 20\n");
    let door = Door::of(&relay);
    let (mut held, mut refused) = (Vec::new(), 0);
    let mut fill = |wanted: usize, held: &mut Vec<Client>| {
        wait::for_("the slots to be full", || {
            for n in 0..5 {
                let mut client = client(&relay, [127, 3, (refused % 200) as u8, n + 1]);
                client.send(NetworkMessage::GetHeaders(GetHeadersMessage {
                    version: 70_016,
                    locator_hashes: vec![BlockHash::all_zeros()],
                    stop_hash: BlockHash::all_zeros(),
                }));
                match client.recv_until_closed("headers", PATIENCE) {
                    true => held.push(client),
                    false => refused += 1,
                }
            }
            held.len() >= wanted
        });
        refused
    };
    fill(20, &mut held);
    // Another round finds nothing, on whichever shard.
    assert!(fill(0, &mut held) >= 5 && held.len() == 20, "every slot, and not one more: {}", held.len());
    // More of them, live.
    door.expect(200, "PATCH", "/services/0", Some(r#"{"sessions": 30}"#));
    fill(30, &mut held);
    assert_eq!(held.len(), 30);
    wait::for_("the sum", || door.get("/info")["sessions"] == 30);
    held.iter_mut().for_each(Client::ping);
}
