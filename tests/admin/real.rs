//! The admin interface of a relay as an operator starts it, in front of a stub node.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::{Answer, exchange, request, tcp, unix};
use bitcoin::p2p::ServiceFlags;

use crate::support::client::{Client, Options};
use crate::support::ports;
use crate::support::relay::Relay;
use crate::support::stub_node::StubServer;
use crate::support::wait::{self, PATIENCE};
use crate::watch::Watcher;

pub fn start(node: &StubServer, extra: &[&str]) -> Relay {
    let arguments = [&["--shards", "2", "--max-clients", "1000"], extra].concat();
    let mut relay = Relay::prepare([node.address()], &arguments);
    relay.spawn();
    relay.wait_ready();
    relay
}

/// A relay's admin interface.
pub struct Door(pub PathBuf);

impl Door {
    pub fn of(relay: &Relay) -> Door {
        Door(relay.data_dir().join("regtest/admin.sock"))
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        exchange(unix(&self.0), &request(method, path, body, ""))
    }

    #[track_caller]
    pub fn expect(&self, status: u16, method: &str, path: &str, body: Option<&str>) -> Value {
        let answer = self.ask(method, &format!("/api/v1{path}"), body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    pub fn get(&self, path: &str) -> Value {
        self.expect(200, "GET", path, None)
    }

    /// Every client, read a page of one at a time.
    pub fn clients(&self, filter: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/clients?limit=1{after}{filter}"));
            all.extend(page["clients"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return all,
            }
        }
    }

    /// The one client that comes from there.
    #[track_caller]
    pub fn client(&self, local: SocketAddr) -> Value {
        let all = self.clients("");
        let found: Vec<&Value> = all.iter().filter(|client| client["address"] == local.to_string()).collect();
        assert_eq!(found.len(), 1, "{local}: {all:?}");
        found[0].clone()
    }

    /// What `breakwater ctl` prints, and its status.
    pub fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
        command.arg("ctl").arg("--socket").arg(&self.0).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
}

/// A client that is ready, from this address of the loopback network.
#[track_caller]
pub fn client(relay: &Relay, source: [u8; 4]) -> Client {
    let mut client = Client::open(relay.listen(), Some(IpAddr::from(source))).unwrap();
    client.handshake(&Options::default()).unwrap();
    client.ping();
    client
}

/// True exactly when the relay shakes hands with who comes from there.
pub fn is_let_in(relay: &Relay, source: [u8; 4]) -> bool {
    let opened = Client::open(relay.listen(), Some(IpAddr::from(source)));
    opened.is_ok_and(|mut client| client.handshake(&Options::default()).is_ok())
}

#[test]
fn clients_are_seen_throttled_tagged_and_kicked() {
    let node = StubServer::start(3);
    let relay = start(&node, &[]);
    let door = Door::of(&relay);
    let info = door.get("/info");
    assert_eq!(
        (&info["network"], &info["height"], &info["shards"]),
        (&json!("regtest"), &json!(3), &json!(2))
    );
    let mut all: Vec<Client> =
        [[127, 1, 1, 1], [127, 1, 1, 2], [127, 2, 2, 2]].map(|at| client(&relay, at)).into();
    wait::for_("three clients in the sum", || door.get("/info")["ready"] == 3);
    assert_eq!(door.clients("").len(), 3);
    assert_eq!(door.clients("&network=127.1.1.0/24").len(), 2);
    assert_eq!(door.clients("&transport=tls").len(), 0);

    let seen = door.client(all[2].local_address());
    let id = seen["id"].as_str().unwrap();
    assert_eq!((&seen["ready"], &seen["transport"]), (&json!(true), &json!("plain")));
    assert!(seen["bytes_in"].as_u64() > Some(100) && seen["bytes_out"].as_u64() > Some(100), "{seen}");
    assert_eq!(door.get(&format!("/clients/{id}"))["address"], seen["address"]);

    let one = |rest: &str| format!("{{\"ids\": [\"{id}\"], {rest}}}");
    let done = door.expect(200, "POST", "/clients/throttle", Some(&one("\"down\": 100000, \"up\": null")));
    assert_eq!(done["clients"], 1);
    let throttled = door.get(&format!("/clients/{id}"));
    assert_eq!((&throttled["throttle_down"], &throttled["throttle_up"]), (&json!(100_000), &json!(null)));
    door.expect(204, "PUT", "/throttles", Some(r#"{"scope": "all", "down": 1000000000}"#));
    all[2].ping();

    door.expect(200, "POST", "/clients/tag", Some(&one("\"add\": [\"gold\"]")));
    assert_eq!(door.clients("&tag=gold").len(), 1);
    assert_eq!(door.get(&format!("/clients/{id}"))["tags"], json!(["gold"]));
    assert_eq!(door.expect(200, "DELETE", "/tags/gold", None)["clients"], 1);
    assert_eq!(door.get(&format!("/clients/{id}"))["tags"], json!([]));

    assert_eq!(
        door.expect(200, "POST", "/clients/kick", Some(&format!("{{\"ids\": [\"{id}\"]}}")))["clients"],
        1
    );
    all.pop().unwrap().expect_closed(PATIENCE);
    assert_eq!(door.expect(404, "GET", &format!("/clients/{id}"), None)["error"]["field"], "id");
    let again = door.expect(404, "POST", "/clients/kick", Some(&format!("{{\"ids\": [\"{id}\"]}}")));
    assert_eq!(again["error"]["field"], "ids");
    all.iter_mut().for_each(Client::ping);

    let (status, text) = door.ctl(&["clients"]);
    assert_eq!((status, text.lines().count()), (Some(0), 3), "{text}");
    let (status, text) = door.ctl(&["kick", "--network", "127.1.1.2"]);
    assert_eq!((status, text.as_str()), (Some(0), "1 client\n"));
    all.pop().unwrap().expect_closed(PATIENCE);
    all.iter_mut().for_each(Client::ping);
    let (status, text) = door.ctl(&["kick", id]);
    assert_eq!((status, text), (Some(1), format!("breakwater: ids: {id} is unknown\n")));
    let metrics = door.ask("GET", "/metrics", None).body;
    assert!(metrics.contains("breakwater_clients{shard=\"0\"}"), "{metrics}");
    wait::for_("the kicks counted", || {
        let metrics = door.ask("GET", "/metrics", None).body;
        let kicks = metrics
            .lines()
            .filter(|line| line.contains("breakwater_ends_total") && line.contains("\"kicked\""));
        kicks.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() == 2
    });
}

#[test]
fn a_ban_closes_refuses_and_outlives_the_process() {
    let node = StubServer::start(1);
    let mut relay = start(&node, &[]);
    let door = Door::of(&relay);
    let mut banned = client(&relay, [127, 1, 1, 1]);
    let mut other = client(&relay, [127, 1, 2, 1]);
    let mut watcher = Watcher::at(&door.0, "?kind=ban,unban");
    let ban = r#"{"network": "127.1.1.0/24", "seconds": 3600, "reason": "floods"}"#;
    assert_eq!(door.expect(200, "POST", "/bans", Some(ban))["clients"], 1);
    banned.expect_closed(PATIENCE);
    assert!(!is_let_in(&relay, [127, 1, 1, 9]));
    other.ping();
    let (name, told) = watcher.next();
    assert_eq!(
        (name.as_str(), &told["network"], &told["reason"]),
        ("ban", &json!("127.1.1.0/24"), &json!("floods"))
    );

    let bans = door.get("/bans");
    assert_eq!(bans["bans"][0]["network"], "127.1.1.0/24");
    // Saved once a second.
    let file = relay.data_dir().join("regtest/bans.json");
    wait::for_("the ban on disk", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("127.1.1.0/24"))
    });
    relay.kill();
    relay.restart();
    assert_eq!(door.get("/bans"), bans, "the same after kill -9");
    assert!(!is_let_in(&relay, [127, 1, 1, 1]));
    assert_eq!(door.ctl(&["unban", "127.1.1.0/24"]), (Some(0), String::new()));
    client(&relay, [127, 1, 1, 1]);
    assert_eq!(door.expect(404, "DELETE", "/bans/127.1.1.0%2F24", None)["error"]["field"], "network");
    assert!(relay.stop().success());
    assert!(!door.0.exists(), "the socket goes with the relay");
}

#[test]
fn nodes_and_blocks_are_followed() {
    let (node, second) = (StubServer::start(1), StubServer::start(1));
    let mut relay = start(&node, &[]);
    let door = Door::of(&relay);
    let mut watcher = Watcher::at(&door.0, "?kind=tip,node_link");
    node.mine();
    let (name, told) = watcher.next();
    assert_eq!((name.as_str(), &told["height"]), ("tip", &json!(2)));
    assert_eq!(door.get("/info")["height"], 2);

    let name = second.address().to_string();
    door.expect(204, "POST", "/nodes", Some(&format!("{{\"node\": \"{name}\"}}")));
    assert_eq!(
        door.expect(409, "POST", "/nodes", Some(&format!("{{\"node\": \"{name}\"}}")))["error"]["field"],
        Value::Null
    );
    wait::for_("the second node", || door.get("/nodes")["nodes"][1]["up"] == true);
    let (event, told) = watcher.next();
    assert_eq!((event.as_str(), &told["node"], &told["up"]), ("node_link", &json!(name), &json!(true)));
    door.expect(204, "DELETE", &format!("/nodes/{name}"), None);
    assert_eq!(door.get("/nodes")["nodes"].as_array().unwrap().len(), 1);
    door.expect(409, "DELETE", &format!("/nodes/{}", node.address()), None);

    assert_eq!(door.ask("GET", "/readyz", None).status, 200);
    door.expect(204, "PUT", "/log-level", Some(r#"{"level": "trace"}"#));
    wait::for_("the log", || relay.log().contains("event=log_level"));
}

#[test]
fn it_is_alive_before_it_is_ready() {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut relay = Relay::prepare([nobody], &["--shards", "1", "--max-clients", "100"]);
    relay.spawn();
    let door = Door::of(&relay);
    wait::for_("the socket", || door.0.exists());
    wait::for_("it to be alive", || door.ask("GET", "/healthz", None).status == 200);
    let not_yet = door.ask("GET", "/readyz", None);
    assert_eq!(not_yet.status, 503, "{}", not_yet.body);
    assert!(not_yet.body.contains("no tip is known, and no node is connected"), "{}", not_yet.body);
    assert_eq!(door.ctl(&["ready"]).0, Some(1));
    assert!(relay.stop().success());
}

#[test]
fn over_tcp_and_without_a_socket() {
    let node = StubServer::start(1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let file = file.to_str().unwrap();
    let extra = ["--admin", "127.0.0.1:0", "--admin-token-file", file, "--admin-socket", "off"];
    let mut relay = start(&node, &extra);
    assert!(!Door::of(&relay).0.exists());
    let log = relay.log();
    let named = log.split("admin=http://").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address: SocketAddr = named.unwrap_or_else(|| panic!("no address in {log}")).parse().unwrap();
    let ask = |more: &str| exchange(tcp(address), &request("GET", "/api/v1/info", None, more)).status;
    assert_eq!((ask(""), ask("Authorization: Bearer 0123456789abcdef0123\r\n")), (401, 200));
    let mut command = Command::new(env!("CARGO_BIN_EXE_breakwater"));
    command.args(["ctl", "--url", &format!("http://{address}"), "--token-file", file, "info"]);
    assert!(command.output().unwrap().status.success());
}

#[test]
fn two_services_at_once_and_one_goes_without_touching_the_other() {
    let node = StubServer::start(3);
    let dir = tempfile::tempdir().unwrap();
    let second = ports::free();
    let file = dir.path().join("relay.toml");
    let service = format!(
        "services = [{{ name = \"light\", listen = [\"{second}\"], without = [\"compact_filters\"], \
         user_agent = \"/light/\", session_slots = 50, probe_slots = 50 }}]\n"
    );
    std::fs::write(&file, service).unwrap();
    let relay = start(&node, &["--config", file.to_str().unwrap()]);
    let door = Door::of(&relay);
    let at_second = || Client::open(second, None);
    let greeted = |mut client: Client| client.handshake(&Options::default()).map(|()| client);
    let (mut first, mut light) = (client(&relay, [127, 1, 1, 1]), greeted(at_second().unwrap()).unwrap());
    light.ping();
    let filters = ServiceFlags::COMPACT_FILTERS;
    assert_eq!((first.services().has(filters), light.services().has(filters)), (true, false));
    assert_eq!(light.version.as_ref().unwrap().user_agent, "/light/");

    let shown = door.get("/services")["services"].clone();
    let names: Vec<_> = shown.as_array().unwrap().iter().map(|service| service["name"].clone()).collect();
    assert_eq!(names, ["default", "light"]);
    assert_eq!(shown[1]["listen"], json!([second.to_string()]));
    assert_eq!(door.clients("&service=1").len(), 1);
    door.expect(200, "PATCH", "/services/1", Some(r#"{"user_agent": "/lighter/"}"#));
    let renamed = wait::until("the other name", PATIENCE, || {
        let client = greeted(at_second().unwrap()).ok()?;
        (client.version.as_ref().unwrap().user_agent == "/lighter/").then_some(client)
    });
    drop(renamed);

    door.expect(200, "POST", "/services/1/drain", None);
    wait::for_("nobody to be let in", || at_second().and_then(greeted).is_err());
    light.ping();
    first.ping();
    assert!(is_let_in(&relay, [127, 1, 1, 2]));
    assert_eq!(door.expect(200, "DELETE", "/services/1", None)["clients"], 1);
    light.expect_closed(PATIENCE);
    first.ping();
    assert!(is_let_in(&relay, [127, 1, 1, 3]));
    assert_eq!(door.get("/services")["services"].as_array().unwrap().len(), 1);
    assert_eq!(door.expect(404, "DELETE", "/services/1", None)["error"]["field"], "service");
    door.expect(409, "DELETE", "/services/0", None);
}
