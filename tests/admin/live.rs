//! Services that come and go, configuration and certificates read again, while a real relay runs.

use std::net::SocketAddr;
use std::path::Path;

use bitcoin::p2p::ServiceFlags;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::real::{Door, client, is_let_in, start};
use crate::support::client::{Client, Options};
use crate::support::ports;
use crate::support::stub_node::StubServer;
use crate::support::wait::{self, PATIENCE};

fn greeted(at: SocketAddr) -> Option<Client> {
    let mut client = Client::open(at, None).ok()?;
    client.handshake(&Options::default()).ok()?;
    Some(client)
}

fn names(door: &Door) -> Vec<String> {
    let services = door.get("/services")["services"].clone();
    services.as_array().unwrap().iter().map(|service| service["name"].as_str().unwrap().to_string()).collect()
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

#[test]
fn a_service_is_added_used_removed_and_added_again_on_the_same_port() {
    let node = StubServer::start(3);
    let relay = start(&node, &[]);
    let door = Door::of(&relay);
    let mut first = client(&relay, [127, 1, 1, 1]);
    let port = ports::free();
    for round in 1..=3 {
        let body = format!(
            r#"{{"name": "extra", "listen": ["{port}"], "user_agent": "/extra:{round}/", "bits": 1, "sessions": 20, "probes": 20}}"#
        );
        let id = door.expect(201, "POST", "/services", Some(&body))["id"].clone();
        assert_eq!(id, round, "a number of its own");
        // It listens when that is answered, on every shard.
        let mut clients: Vec<Client> = (0..8).map(|_| greeted(port).unwrap()).collect();
        assert!(clients.iter().all(|c| c.version.as_ref().unwrap().user_agent == format!("/extra:{round}/")));
        let filters = ServiceFlags::COMPACT_FILTERS;
        assert_eq!((first.services().has(filters), clients[0].services().has(filters)), (true, false));
        assert_eq!(door.clients(&format!("&service={id}")).len(), 8);
        let shown = door.get(&format!("/services/{id}"));
        assert_eq!((&shown["listen"], &shown["draining"]), (&json!([port.to_string()]), &json!(false)));
        // Neither its name nor its address is there twice, and nothing is left of those who tried.
        assert_eq!(door.expect(409, "POST", "/services", Some(&body))["error"]["field"], Value::Null);
        let other = body.replace("extra\"", "other\"");
        assert_eq!(door.expect(400, "POST", "/services", Some(&other))["error"]["field"], "listen");
        assert_eq!(names(&door), ["default", "extra"]);

        assert_eq!(door.expect(200, "DELETE", &format!("/services/{id}"), None)["clients"], 8);
        clients.iter_mut().for_each(|client| client.expect_closed(PATIENCE));
        // The port is free at once, for whoever comes.
        drop(std::net::TcpListener::bind(port).unwrap());
        assert!(Client::open(port, None).is_err());
        first.ping();
    }
    assert_eq!(names(&door), ["default"]);
    let named = json!({"name": "any", "listen": ["127.0.0.1:0", "[::1]:0"], "tls": false, "sessions": 5});
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let id = door.expect(201, "POST", "/services", Some(&named.to_string()))["id"].clone();
        let listen = door.get(&format!("/services/{id}"))["listen"].clone();
        for at in listen.as_array().unwrap() {
            greeted(at.as_str().unwrap().parse().unwrap()).unwrap().ping();
        }
    }
}

#[test]
fn a_port_in_use_is_refused_by_name_and_nothing_is_left_half_open() {
    let node = StubServer::start(1);
    let relay = start(&node, &[]);
    let door = Door::of(&relay);
    let (foreign, good) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), ports::free());
    let taken = foreign.local_addr().unwrap();
    for body in [
        json!({"name": "extra", "listen": [good.to_string(), taken.to_string()], "tls": false, "sessions": 5}),
        json!({"name": "extra", "listen": [good.to_string(), "192.0.2.1:8333"], "tls": false, "sessions": 5}),
        json!({"name": "extra", "listen": [good.to_string(), relay.listen().to_string()], "tls": false, "sessions": 5}),
        json!({"name": "extra", "listen": [good.to_string(), good.to_string()], "tls": false, "sessions": 5}),
    ] {
        let refused = door.expect(400, "POST", "/services", Some(&body.to_string()));
        assert_eq!(refused["error"]["field"], "listen", "{refused}");
        assert_eq!(names(&door), ["default"]);
        drop(std::net::TcpListener::bind(good).unwrap());
    }
    let tls = json!({"name": "extra", "listen": [good.to_string()], "tls": true, "sessions": 5});
    assert_eq!(door.expect(400, "POST", "/services", Some(&tls.to_string()))["error"]["field"], "tls");
    drop(std::net::TcpListener::bind(good).unwrap());
    assert!(is_let_in(&relay, [127, 1, 1, 1]));
}

fn service(name: &str, at: SocketAddr, rest: &str) -> String {
    format!("{{ name = \"{name}\", listen = [\"{at}\"], session_slots = 50, probe_slots = 50{rest} }}")
}

#[test]
fn the_configuration_is_read_again() {
    let (node, second) = (StubServer::start(3), StubServer::start(3));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let (one, two, three) = (ports::free(), ports::free(), ports::free());
    let light = |rest: &str| service("light", one, rest);
    write(&file, &format!("services = [{}, {}]\n", light(""), service("going", two, "")));
    let mut relay = start(&node, &["--config", file.to_str().unwrap()]);
    let door = Door::of(&relay);
    assert_eq!(door.expect(200, "POST", "/reload", None), json!({"changed": [], "restart": []}));
    let mut stays = greeted(one).unwrap();
    let mut goes = greeted(two).unwrap();

    // What is wrong changes nothing, not even what stands before it.
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = service("taken", foreign.local_addr().unwrap(), "");
    for (text, status, field) in [
        ("log_level = \"loud\"".to_string(), 400, json!("log_level")),
        ("log_levle = \"debug\"".to_string(), 400, json!("configuration")),
        ("log_level =".to_string(), 409, Value::Null),
        (format!("services = [{}]\ncache_mb = \"two\"", light("")), 400, json!("cache_mb")),
        (format!("services = [{taken}]\nlog_level = \"debug\""), 400, json!("services")),
    ] {
        write(&file, &text);
        let error = door.expect(status, "POST", "/reload", None);
        assert_eq!(error["error"]["field"], field, "{error}");
    }
    assert_eq!(names(&door), ["default", "light", "going"]);

    let services =
        [light(", user_agent = \"/light:2/\", without = [\"compact_filters\"]"), service("new", three, "")];
    let text = format!(
        "services = [{}]\nlog_level = \"debug\"\nsession_slots = 77\ncache_mb = 99\n",
        services.join(",")
    );
    write(&file, &text);
    let done = door.expect(200, "POST", "/reload", None);
    let changed = json!(["log_level", "services.going", "services.light", "services.new", "session_slots"]);
    assert_eq!(done, json!({"changed": changed, "restart": ["cache_mb"]}));
    assert_eq!(names(&door), ["default", "light", "new"]);
    goes.expect_closed(PATIENCE);
    stays.ping();
    assert_eq!(greeted(one).unwrap().version.as_ref().unwrap().user_agent, "/light:2/");
    greeted(three).unwrap().ping();
    drop(std::net::TcpListener::bind(two).unwrap());
    assert_eq!(door.get("/services/0")["max_sessions"], 77);
    // What waits for a restart is named again, the rest is done.
    let again = door.expect(200, "POST", "/reload", None);
    assert_eq!(again, json!({"changed": [], "restart": ["cache_mb"]}));

    // The node is a flag, which goes before the file; so is a signal before nothing.
    write(&file, &format!("services = [{}]\nnodes = [\"{}\"]\n", services[0], second.address()));
    relay.process().hang_up();
    wait::for_("the other service to go", || names(&door) == ["default", "light"]);
    wait::for_("the log to say so", || relay.log().contains("configuration read again"));
    // Another name on the same port.
    write(&file, &format!("services = [{}]\n", service("renamed", one, "")));
    let changed = json!(["services.light", "services.renamed"]);
    assert_eq!(door.expect(200, "POST", "/reload", None)["changed"], changed);
    greeted(one).unwrap().ping();
    write(&file, "mempool_mb = \"many\"\n");
    relay.process().hang_up();
    wait::for_("the log to say what is wrong", || relay.log().contains("mempool_mb"));
    assert_eq!(names(&door), ["default", "renamed"]);
    assert!(relay.stop().success());
}

#[test]
fn a_reload_that_stops_in_the_middle_is_finished_by_the_next() {
    let node = StubServer::start(3);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("relay.toml");
    let (one, two, three) = (ports::free(), ports::free(), ports::free());
    write(&file, &format!("services = [{}, {}]\n", service("light", one, ""), service("going", two, "")));
    let relay = start(&node, &["--config", file.to_str().unwrap()]);
    let door = Door::of(&relay);
    // The address of a service that goes with this reload is not tried before; here it went earlier, and somebody else has it.
    door.expect(200, "DELETE", "/services/1", None);
    let foreign = std::net::TcpListener::bind(one).unwrap();
    let services = [service("new", three, ""), service("renamed", one, "")].join(",");
    write(&file, &format!("services = [{services}]\nlog_level = \"debug\"\nsession_slots = 77\n"));
    let error = door.expect(409, "POST", "/reload", None);
    assert!(error["error"]["message"].as_str().unwrap().contains("service renamed is added"), "{error}");
    assert_eq!(names(&door), ["default", "new"]);

    drop(foreign);
    let done = door.expect(200, "POST", "/reload", None);
    assert_eq!(done, json!({"changed": ["services.renamed"], "restart": []}), "the rest was done");
    assert_eq!(names(&door), ["default", "new", "renamed"]);
    greeted(one).unwrap().ping();
}

/// A certificate and its key as files.
fn papers(dir: &Path) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(&dir.join("chain.pem"), &cert.pem());
    write(&dir.join("key.pem"), &signing_key.serialize_pem());
}

#[test]
fn certificates_are_read_again_or_the_old_ones_stay() {
    let node = StubServer::start(1);
    let dir = tempfile::tempdir().unwrap();
    papers(dir.path());
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    let tls = ports::free().to_string();
    let mut extra = vec!["--tls-listen", &tls];
    extra.extend(["--tls-certificate", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let relay = start(&node, &extra);
    let door = Door::of(&relay);
    papers(dir.path());
    assert_eq!(door.expect(200, "POST", "/certificates/reload", None), json!({"certificates": 1}));
    write(&chain, "no certificate");
    let error = door.expect(409, "POST", "/certificates/reload", None);
    assert!(error["error"]["message"].as_str().unwrap().contains("chain.pem"), "{error}");
    let error = door.expect(409, "POST", "/reload", None);
    assert!(error["error"]["message"].as_str().unwrap().contains("chain.pem"), "{error}");
    std::net::TcpStream::connect(&tls).unwrap();
    // With certificates there, a service may speak TLS.
    let port = ports::free();
    let body = json!({"name": "sealed", "listen": [port.to_string()], "tls": true, "sessions": 5});
    let id = door.expect(201, "POST", "/services", Some(&body.to_string()))["id"].clone();
    assert_eq!(door.get(&format!("/services/{id}"))["tls"], true);
    std::net::TcpStream::connect(port).unwrap();
    let plain = start(&node, &[]);
    door_of_none(&Door::of(&plain));
}

#[test]
fn certificates_that_are_gone_from_the_file_stay_until_a_restart() {
    let node = StubServer::start(1);
    let dir = tempfile::tempdir().unwrap();
    papers(dir.path());
    let file = dir.path().join("relay.toml");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let tls = ports::free();
    let certificate = format!("{{ chain = \"{}\", key = \"{}\" }}", at("chain.pem"), at("key.pem"));
    write(&file, &format!("tls_listen = [\"{tls}\"]\ntls_certificates = [{certificate}]\n"));
    let relay = start(&node, &["--config", file.to_str().unwrap()]);
    let door = Door::of(&relay);
    write(&file, "");
    for _ in 0..2 {
        let done = door.expect(200, "POST", "/reload", None);
        assert_eq!(done, json!({"changed": [], "restart": ["tls_certificates", "tls_listen"]}));
        let done = door.expect(200, "POST", "/certificates/reload", None);
        assert_eq!(done, json!({"certificates": 1}), "the old ones are in use");
    }
}

fn door_of_none(door: &Door) {
    door.expect(409, "POST", "/certificates/reload", None);
    assert_eq!(door.expect(200, "POST", "/reload", None), json!({"changed": [], "restart": []}));
}
