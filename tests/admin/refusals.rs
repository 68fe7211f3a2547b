//! What cannot be is refused with the field, the value and what was expected, and the relay hears nothing of it.

use crate::http::request;
use crate::server::{Server, Tcp};

#[test]
fn bad_bodies_name_the_field() {
    let server = Server::start(Tcp::No);
    let post = |path: &str, body: &str, field: &str, expected: &str| {
        server.refused(400, ("POST", path, Some(body)), field, expected);
    };
    // Who is meant.
    post("/clients/kick", "{}", "ids", "ids or filter");
    post("/clients/kick", r#"{"ids": []}"#, "ids", "1 to 1000");
    post("/clients/kick", r#"{"ids": ["0-1"]}"#, "ids[0]", "SHARD-SLOT-GENERATION");
    post("/clients/kick", r#"{"ids": ["0-1-1", "0-1-99999999999"]}"#, "ids[1]", "SHARD-SLOT-GENERATION");
    post("/clients/kick", r#"{"ids": ["0-1-1"], "filter": {"class": "free"}}"#, "ids", "not both");
    post("/clients/kick", r#"{"ids": ["0-1-1"], "everybody": true}"#, "everybody", "without ids");
    post("/clients/kick", r#"{"filter": {}}"#, "filter", "\"everybody\": true");
    post("/clients/kick", r#"{"filter": {"class": "free"}, "everybody": true}"#, "everybody", "empty filter");
    post("/clients/kick", r#"{"filter": {"network": "10.0.0.0/40"}}"#, "network", "192.0.2.0/24");
    post("/clients/kick", r#"{"filter": {"class": "rich"}}"#, "class", "probe, free, priority");
    post("/clients/kick", r#"{"filter": {"transport": "ssh"}}"#, "transport", "plain, v2, tls");
    post("/clients/kick", r#"{"filter": {"service": 256}}"#, "filter.service", "u8");
    post("/clients/kick", r#"{"filter": {"servise": 1}}"#, "filter.servise", "`service`");
    post("/clients/kick", r#"{"who": "all"}"#, "who", "`ids`");
    post("/clients/kick", r#"{"ids": ["0-1-1"], "ids": ["0-1-1"]}"#, "ids", "once");
    post("/clients/kick", "[]", "body", "struct KickBody");
    let many = format!("{{\"ids\": [{}]}}", vec!["\"0-1-1\""; 1_001].join(","));
    post("/clients/kick", &many, "ids", "1 to 1000");
    // What is to be done.
    post("/clients/pause", r#"{"ids": ["0-1-1"]}"#, "milliseconds", "a value");
    post("/clients/pause", r#"{"ids": ["0-1-1"], "milliseconds": -1}"#, "milliseconds", "u64");
    post("/clients/pause", r#"{"ids": ["0-1-1"], "milliseconds": 1200001}"#, "milliseconds", "0 to 1200000");
    post("/clients/throttle", r#"{"ids": ["0-1-1"]}"#, "down", "or both");
    post("/clients/throttle", r#"{"ids": ["0-1-1"], "up": 0}"#, "up", "1 to");
    post("/clients/throttle", r#"{"ids": ["0-1-1"], "up": "fast"}"#, "up", "u64");
    post("/clients/throttle", r#"{"ids": ["0-1-1"], "up": 18446744073709551616}"#, "up", "u64");
    post("/clients/tag", r#"{"ids": ["0-1-1"]}"#, "add", "tags to add");
    post("/clients/tag", r#"{"ids": ["0-1-1"], "add": ["Not a name"]}"#, "add", "a-z");
    post("/clients/set", r#"{"ids": ["0-1-1"]}"#, "capacity", "or factors");
    post("/clients/set", r#"{"ids": ["0-1-1"], "capacity": 0}"#, "capacity", "1 to");
    let factors = r#"{"ids": ["0-1-1"], "factors": {"time": -1, "capacity": 0, "request": 0}}"#;
    post("/clients/set", factors, "factors.time", "0 to");
    post("/bans", r#"{"network": "here", "seconds": 1}"#, "network", "192.0.2.0/24");
    post("/bans", r#"{"network": "10.0.0.1", "seconds": 0}"#, "seconds", "1 to 1000000000");
    post("/bans", r#"{"network": "10.0.0.1", "seconds": 1.5}"#, "seconds", "u64");
    let reason =
        format!("{{\"network\": \"10.0.0.1\", \"seconds\": 1, \"reason\": \"{}\"}}", "x".repeat(201));
    post("/bans", &reason, "reason", "at most 200 bytes");
    post("/nodes", r#"{"node": "v3:host:1"}"#, "node", "v2:HOST:PORT");
    post("/nodes", r#"{"node": "host:0"}"#, "node", "HOST:PORT");
    post("/services", r#"{"name": "", "listen": ["127.0.0.1:1"], "sessions": 1}"#, "name", "1 to 32");
    post("/services", r#"{"name": "a", "listen": [], "sessions": 1}"#, "listen", "1 to 16");
    post("/services", r#"{"name": "a", "listen": ["nowhere"], "sessions": 1}"#, "listen[0]", "ADDRESS:PORT");
    post("/services", r#"{"name": "a", "listen": ["127.0.0.1:1"], "sessions": 0}"#, "sessions", "1 to");
    post("/balances/10.0.0.1/add", r#"{"amount": 9223372036854775808}"#, "amount", "i64");
    let put = |path: &str, body: &str, field: &str, expected: &str| {
        server.refused(400, ("PUT", path, Some(body)), field, expected);
    };
    put("/throttles", r#"{"scope": "some", "down": 1}"#, "scope", "all, class, service");
    put("/throttles", r#"{"scope": "class", "down": 1}"#, "class", "free");
    put("/throttles", r#"{"scope": "all", "service": 1, "down": 1}"#, "service", "scope service");
    put("/throttles", r#"{"scope": "service", "class": "free", "down": 1}"#, "class", "scope class");
    put("/throttles", r#"{"scope": "all"}"#, "down", "or both");
    put("/log-level", r#"{"level": "loud"}"#, "level", "error, warn, info, debug, trace");
    put("/priority/nobody", r#"{"capacity": 1}"#, "identity", "64 hexadecimal digits");
    assert_eq!(*server.level.lock().unwrap(), None);
    assert!(server.tags.all().is_empty(), "{:?}", server.tags.all());
}

#[test]
fn bad_queries_and_paths_name_the_field() {
    let server = Server::start(Tcp::No);
    let get =
        |path: &str, field: &str, expected: &str| server.refused(400, ("GET", path, None), field, expected);
    get("/clients?limit=0", "limit", "1 to 1000");
    get("/clients?limit=1001", "limit", "1 to 1000");
    get("/clients?limit=many", "limit", "");
    get("/clients?limit=99999999999999999999", "limit", "");
    get("/clients?page=2", "page", "`after`");
    get("/clients?after=1-2", "after", "SHARD-SLOT-GENERATION");
    get("/clients?network=x", "network", "192.0.2.0/24");
    get("/clients?class=x", "class", "probe, free, priority");
    get("/clients?limit=1&limit=2", "limit", "once");
    get("/clients/one", "id", "SHARD-SLOT-GENERATION");
    get("/services/256", "id", "0 to 255");
    get("/priority?after=x", "after", "64 hexadecimal digits");
    get("/events?kind=tip,news", "kind", "one of connect");
    get("/events?underrun=maybe", "underrun", "");
    server.refused(404, ("GET", "/events?tag=unknown", None), "tag", "");
    server.refused(404, ("GET", "/clients?tag=unknown", None), "tag", "");
    server.refused(404, ("DELETE", "/tags/unknown", None), "tag", "");
    server.refused(400, ("DELETE", "/bans/nowhere", None), "network", "192.0.2.0/24");
    // Names the page and what it goes behind, and the relay is asked: only it knows its shards.
    let beyond = server.expect(404, "GET", "/clients?after=7-0-0", None);
    assert_eq!(beyond["error"]["field"], "after");
}

#[test]
fn what_is_no_json_says_where() {
    let server = Server::start(Tcp::No);
    for (body, place) in [
        ("{\"ids\": [\"0-1-1\"],\n  nonsense}", "line 2 column 3"),
        ("{\"ids\": [", "line 1 column 9"),
        ("", "line 1 column 0"),
        ("{\"everybody\": true} more", "line 1 column 21"),
    ] {
        let answer = server.expect(400, "POST", "/clients/kick", Some(body));
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains("no JSON") && said.contains(place), "{body:?}: {said}");
    }
    let no_text = [request("POST", "/api/v1/clients/kick", Some("{\"ids\": [\"__\"]}"), "")].concat();
    let no_text: Vec<u8> = no_text.into_iter().map(|byte| if byte == b'_' { 0xff } else { byte }).collect();
    assert_eq!(server.raw(&no_text).status, 400);
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn bodies_of_another_kind_or_too_long_are_refused() {
    let server = Server::start(Tcp::No);
    let kick = "{\"everybody\": true}";
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let head = "POST /api/v1/clients/kick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let text = format!("{head}{kind}Content-Length: {}\r\n\r\n{kick}", kick.len());
        let answer = server.raw(text.as_bytes());
        assert_eq!(answer.status, 415, "{kind}: {}", answer.body);
    }
    let long = format!("{{\"everybody\": true{}}}", " ".repeat(70_000));
    let answer = server.expect(413, "POST", "/clients/kick", Some(&long));
    assert!(answer["error"]["message"].as_str().unwrap().contains("65536 bytes"));
    assert!(server.asked.lock().unwrap().is_empty());
    let mut kind = request("POST", "/api/v1/clients/kick", Some(kick), "");
    kind = String::from_utf8(kind)
        .unwrap()
        .replace("application/json", "application/json; charset=utf-8")
        .into();
    assert_eq!(server.raw(&kind).status, 200);
}

#[test]
fn unknown_paths_and_methods_are_said_in_json() {
    let server = Server::start(Tcp::No);
    let answer = server.expect(404, "GET", "/nothing", None);
    assert!(answer["error"]["message"].as_str().unwrap().contains("/api/v1/nothing"));
    let answer = server.ask("DELETE", "/clients/kick", None);
    assert_eq!(answer.status, 405, "{}", answer.body);
    assert_eq!(answer.header("allow").as_deref(), Some("post"));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("DELETE"));
    assert_eq!(server.ask("POST", "/info", None).status, 405);
}

#[test]
fn a_relay_that_is_busy_or_silent_or_gone_is_said_so() {
    // One command finds room and no answer, the other finds no room.
    let server = Server::with_queue(Tcp::No, 1, false);
    let mut answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let ask = || {
            let answer = server.ask("GET", "/info", None);
            (answer.status, answer.json()["error"]["message"].as_str().unwrap().to_owned())
        };
        let both = [scope.spawn(ask), scope.spawn(ask)];
        both.map(|one| one.join().unwrap()).into()
    });
    answers.sort();
    assert_eq!(answers[0], (503, "too many commands are under way".to_owned()));
    assert_eq!(answers[1], (504, "a shard did not answer in time".to_owned()));
}
