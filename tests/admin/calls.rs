//! Every call as it is meant, and what the relay hears of it.

use serde_json::json;

use crate::relay::scopes;
use crate::server::{Server, Tcp};

#[test]
fn clients_are_paused_throttled_tagged_and_set() {
    let server = Server::start(Tcp::No);
    let post = |path: &str, body: &str| server.expect(200, "POST", path, Some(body))["clients"].clone();
    assert_eq!(post("/clients/pause", r#"{"filter": {"class": "free"}, "milliseconds": 2500}"#), 100);
    assert!(server.last().contains("class: Some(Free)") && server.last().contains("Pause(2.5s)"));
    assert_eq!(post("/clients/pause", r#"{"everybody": true, "milliseconds": 0}"#), 300);

    post("/clients/throttle", r#"{"ids": ["0-1-7"], "down": 1000000, "up": null}"#);
    assert!(server.last().ends_with("Throttle { down: Bytes(1000000), up: Unlimited }"), "{}", server.last());
    post("/clients/throttle", r#"{"filter": {"transport": "v2", "service": 0}, "up": 1}"#);
    assert!(server.last().ends_with("Throttle { down: Keep, up: Bytes(1) }"), "{}", server.last());

    post("/clients/tag", r#"{"ids": ["0-1-7"], "add": ["wallet", "paid"]}"#);
    assert!(server.last().ends_with("Tag { add: Tags(3), remove: Tags(0) }"), "{}", server.last());
    assert_eq!(server.expect(200, "GET", "/tags", None), json!({"tags": ["wallet", "paid"]}));
    assert_eq!(post("/clients/kick", r#"{"filter": {"tags": ["paid"]}}"#), 0);
    assert!(server.last().contains("tags: Tags(2)"), "{}", server.last());
    server.expect(200, "GET", "/clients?tag=wallet,paid", None);
    assert!(server.last().contains("tags: Tags(3)"), "{}", server.last());
    server.expect(200, "DELETE", "/tags/paid", None);
    assert!(server.last().ends_with("remove: Tags(2)"), "{}", server.last());
    assert_eq!(server.expect(200, "GET", "/tags", None), json!({"tags": ["wallet"]}));

    let set = r#"{"ids": ["0-1-7"], "capacity": 500, "factors": {"time": 1, "capacity": 0.5, "request": 2}}"#;
    post("/clients/set", set);
    assert!(server.last().starts_with("set ") && server.last().contains("capacity: Some(500)"));
    assert!(server.last().contains("Factors { time: 1.0, capacity: 0.5, request: 2.0 }"));
}

#[test]
fn nodes_come_and_go() {
    let server = Server::start(Tcp::No);
    server.expect(204, "POST", "/nodes", Some(r#"{"node": "v2:[2001:db8::1]:8333"}"#));
    let nodes = server.expect(200, "GET", "/nodes", None);
    assert_eq!(nodes["nodes"][1]["node"], "v2:[2001:db8::1]:8333");
    assert_eq!(nodes["nodes"][0]["transport"], "v2");
    let again = server.expect(409, "POST", "/nodes", Some(r#"{"node": "127.0.0.1:8335"}"#));
    assert_eq!(again["error"]["message"], "node: 127.0.0.1:8335 is there already");
    server.expect(204, "DELETE", "/nodes/127.0.0.1:8335", None);
    server.expect(404, "DELETE", "/nodes/127.0.0.1:8335", None);
    server.expect(409, "DELETE", "/nodes/v2:%5B2001:db8::1%5D:8333", None);
}

#[test]
fn priority_identities_and_their_balances() {
    let server = Server::start(Tcp::No);
    let key = format!("key:{}", "0a".repeat(32));
    let body = r#"{"capacity": 2000, "tags": ["gold"]}"#;
    let account = server.expect(200, "PUT", "/priority/192.0.2.0%2F24", Some(body));
    assert_eq!((&account["identity"], &account["tags"]), (&json!("192.0.2.0/24"), &json!(["gold"])));
    server.expect(200, "PUT", &format!("/priority/{key}"), Some(r#"{"capacity": 1}"#));
    let raised = server.expect(200, "PUT", "/priority/192.0.2.0%2F24", Some(r#"{"capacity": 3000}"#));
    assert_eq!((&raised["capacity"], &raised["tags"]), (&json!(3000), &json!(["gold"])));
    let new = server.expect(400, "PUT", "/priority/192.0.2.1", Some("{}"));
    assert_eq!(new["error"]["field"], "capacity");

    let page = server.expect(200, "GET", "/priority?limit=1", None);
    assert_eq!(
        (&page["priority"][0]["identity"], &page["next"]),
        (&json!("192.0.2.0/24"), &json!("192.0.2.0/24"))
    );
    let page = server.expect(200, "GET", "/priority?limit=1&after=192.0.2.0%2F24", None);
    assert_eq!((&page["priority"][0]["identity"], &page["next"]), (&json!(key), &json!(null)));
    assert_eq!(server.expect(200, "GET", &format!("/priority/{key}"), None)["capacity"], 1);

    let add = |amount: &str| {
        server.ask("POST", "/balances/192.0.2.0%2F24/add", Some(&format!("{{\"amount\": {amount}}}")))
    };
    assert_eq!(add("500").json(), json!({"old": 0, "new": 500}));
    assert_eq!(add("-700").json(), json!({"old": 500, "new": 0}));
    for _ in 0..2 {
        assert_eq!(add("9223372036854775807").status, 200);
    }
    let over = add("2");
    assert_eq!((over.status, &over.json()["error"]["field"]), (400, &json!("amount")));
    let balance = server.expect(200, "GET", "/balances/192.0.2.0%2F24", None);
    assert_eq!(balance, json!({"positive": u64::MAX - 1, "negative": 0}));

    server.expect(204, "DELETE", &format!("/priority/{key}"), None);
    for (method, path) in [("GET", "/priority/"), ("DELETE", "/priority/"), ("GET", "/balances/")] {
        let gone = server.expect(404, method, &format!("{path}{key}"), None);
        assert_eq!(gone["error"]["field"], "identity");
    }
}

#[test]
fn defaults_and_shared_throttles() {
    let server = Server::start(Tcp::No);
    assert_eq!(server.expect(200, "GET", "/defaults", None)["connected_bias"], 180);
    let body = r#"{"connected_bias": 60, "throttle_down": null, "throttle_up": 5}"#;
    assert_eq!(server.expect(200, "PATCH", "/defaults", Some(body))["connected_bias"], 60);
    assert!(server.last().contains("throttle_down: Unlimited, throttle_up: Bytes(5)"), "{}", server.last());

    let bodies =
        [r#""scope": "all""#, r#""scope": "class", "class": "free""#, r#""scope": "service", "service": 3"#];
    for (body, scope) in bodies.iter().zip(scopes()) {
        server.expect(204, "PUT", "/throttles", Some(&format!("{{{body}, \"down\": 1000}}")));
        assert_eq!(server.last(), format!("throttle {scope:?} Bytes(1000) Keep"));
    }
    let throttles = server.expect(200, "GET", "/throttles", None);
    assert_eq!(
        throttles["throttles"][2],
        json!({"scope": "service", "class": null, "service": 3, "down": 1000, "up": null})
    );
}

#[test]
fn services_are_added_changed_drained_and_removed() {
    let server = Server::start(Tcp::No);
    let body = r#"{"name": "light", "listen": ["127.0.0.1:8444", "[::1]:8444"], "tls": true, "bits": 64, "sessions": 50}"#;
    assert_eq!(server.expect(201, "POST", "/services", Some(body)), json!({"id": 1}));
    let service = server.expect(200, "GET", "/services/1", None);
    assert_eq!((&service["bits"], &service["max_probes"]), (&json!(64), &json!(500)));
    let change = r#"{"bits": null, "sessions": 60, "user_agent": null}"#;
    let changed = server.expect(200, "PATCH", "/services/1", Some(change));
    assert_eq!((&changed["bits"], &changed["max_sessions"]), (&json!(null), &json!(60)));
    assert!(
        server.last().contains("bits: Some(None), user_agent: Some(None), sessions: Some(60), probes: None")
    );
    assert_eq!(server.expect(200, "POST", "/services/0/drain", None)["clients"], 77);
    let services = server.expect(200, "GET", "/services", None);
    assert_eq!(
        (&services["services"][0]["draining"], &services["services"][1]["draining"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(server.expect(200, "DELETE", "/services/0", None)["clients"], 77);
    for (method, path) in [("GET", "/services/0"), ("DELETE", "/services/0"), ("POST", "/services/0/drain")] {
        assert_eq!(server.expect(404, method, path, None)["error"]["field"], "id");
    }
    assert_eq!(server.expect(404, "PATCH", "/services/0", Some("{}"))["error"]["field"], "id");
}

#[test]
fn the_process_is_asked_to_read_again_and_to_say_more() {
    let server = Server::start(Tcp::No);
    let reloaded = server.expect(200, "POST", "/reload", None);
    assert_eq!(reloaded, json!({"changed": ["keep"], "restart": ["shards"]}));
    assert_eq!(server.expect(200, "POST", "/certificates/reload", None), json!({"certificates": 2}));
    server.expect(204, "PUT", "/log-level", Some(r#"{"level": "debug"}"#));
    assert_eq!(*server.level.lock().unwrap(), Some(tracing::Level::DEBUG));
}

#[test]
fn health_readiness_and_metrics() {
    let server = Server::start(Tcp::No);
    assert_eq!(server.expect(200, "GET", "/healthz", None), json!({"ok": true}));
    assert_eq!(server.expect(200, "GET", "/readyz", None), json!({"ok": true}));
    *server.has_tip.lock().unwrap() = false;
    let not_yet = server.expect(503, "GET", "/readyz", None);
    assert_eq!(not_yet["error"]["message"], "no tip is known, and no node is connected");
    assert_eq!(server.expect(200, "GET", "/healthz", None), json!({"ok": true}));
    let metrics = server.ask("GET", "/metrics", None);
    assert_eq!((metrics.status, metrics.body.as_str()), (200, "breakwater_clients 300\n"));
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
}
