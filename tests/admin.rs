//! The admin interface: the real server on the hub's kind of runtime, over Unix sockets and TCP, with a relay behind it that is
//! none but checks what it is asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

#[path = "admin/calls.rs"]
mod calls;
#[path = "admin/capacity.rs"]
mod capacity;
#[path = "admin/ctl.rs"]
mod ctl;
#[path = "admin/described.rs"]
mod described;
#[path = "admin/doors.rs"]
mod doors;
#[path = "admin/http.rs"]
mod http;
#[path = "admin/live.rs"]
mod live;
#[path = "admin/real.rs"]
mod real;
#[path = "admin/refusals.rs"]
mod refusals;
#[path = "admin/relay.rs"]
mod relay;
#[path = "admin/server.rs"]
mod server;
mod support;
#[path = "admin/watch.rs"]
mod watch;

use serde_json::Value;
use server::{Server, Tcp};

#[test]
fn the_relay_and_its_clients_are_shown() {
    let server = Server::start(Tcp::No);
    let info = server.expect(200, "GET", "/info", None);
    assert_eq!(
        (&info["network"], &info["clients"], &info["height"]),
        (&"regtest".into(), &300.into(), &150.into())
    );
    assert_eq!(info["capacity"]["total"], 1_000_000);
    let shards = info["per_shard"].as_array().unwrap();
    assert_eq!((&shards[0]["clients"], &shards[0]["bytes_out"]), (&150.into(), &9_000.into()));
    let spent: f64 = shards[0]["regimes"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
    assert_eq!((spent, &shards[0]["regimes"]["idle"]), (36.0, &1.0.into()));
    let late = &info["announcements"];
    assert_eq!((&late["clients"], &late["p50"], &late["max"]), (&100.into(), &0.002.into(), &0.04.into()));
    assert_eq!(
        (&shards[1]["announcements"]["p99"], &shards[1]["regimes"]["idle"]),
        (&Value::Null, &0.0.into())
    );

    let first = server.expect(200, "GET", "/clients?limit=200", None);
    assert_eq!(first["clients"].as_array().unwrap().len(), 200);
    let next = first["next"].as_str().unwrap();
    let last = server.expect(200, "GET", &format!("/clients?limit=200&after={next}"), None);
    assert_eq!(last["clients"].as_array().unwrap().len(), 100);
    assert!(last["next"].is_null(), "{}", last["next"]);

    let filter = "/clients?network=10.0.1.0/24&transport=tls&class=priority&service=0&limit=3";
    let some = server.expect(200, "GET", filter, None);
    let client = &some["clients"][0];
    assert_eq!((&client["id"], &client["address"]), (&"1-2-7".into(), &"10.0.1.2:50000".into()));
    assert_eq!((&client["transport"], &client["class"]), (&"tls".into(), &"priority".into()));
    assert_eq!((&client["connected"], &client["round_trip"]), (&1.5.into(), &0.012345.into()));
    assert_eq!(client["costs"]["filters"], 3);
    assert_eq!(client["balance"]["negative"], 2);

    for id in ["0-0-7", "0-149-7", "1-0-7", "1-149-7"] {
        assert_eq!(server.expect(200, "GET", &format!("/clients/{id}"), None)["id"], id);
    }
    for id in ["0-0-8", "0-150-7", "1-150-7", "2-0-7", "9-9-9"] {
        let answer = server.expect(404, "GET", &format!("/clients/{id}"), None);
        assert_eq!((&answer["error"]["field"], &answer["error"]["value"]), (&"id".into(), &id.into()));
    }
}

#[test]
fn clients_are_kicked_and_networks_banned() {
    let server = Server::start(Tcp::No);
    let done = server.expect(200, "POST", "/clients/kick", Some(r#"{"ids": ["0-3-7", "1-4-7", "1-4-8"]}"#));
    assert_eq!(done["clients"], 2);
    assert!(server.last().ends_with("End(Kicked)") && server.last().contains("slot: 4"), "{}", server.last());
    let done = server.expect(200, "POST", "/clients/kick", Some(r#"{"filter": {"network": "10.0.0.0/30"}}"#));
    assert_eq!(done["clients"], 4);

    let ban = r#"{"network": "192.0.2.77/24", "seconds": 3600, "reason": "floods"}"#;
    assert_eq!(server.expect(200, "POST", "/bans", Some(ban))["clients"], 3);
    assert_eq!(server.last(), "ban 192.0.2.0/24 3600s \"floods\"");
    server.expect(200, "POST", "/bans", Some(r#"{"network": "2001:db8::1", "seconds": 1}"#));
    let bans = server.expect(200, "GET", "/bans", None);
    let until = relay::NOW + 3600;
    let expected = serde_json::json!({"network": "192.0.2.0/24", "since": relay::NOW, "until": until, "reason": "floods"});
    assert_eq!(bans["bans"][0], expected);
    assert_eq!(bans["bans"][1]["network"], "2001:db8::1/128");
    server.expect(204, "DELETE", "/bans/192.0.2.0%2F24", None);
    let gone = server.expect(404, "DELETE", "/bans/192.0.2.0%2F24", None);
    assert_eq!(gone["error"]["field"], "network");
}
