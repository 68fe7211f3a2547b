//! Events: filters, and those who do not keep up.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;

use breakwater::base::{ClientId, ClientRef, End, ShardId, Tags};
use breakwater::control::admin::{Event, What};
use breakwater::transport::Kind;
use serde_json::{Value, json};

use crate::http::{Stream, request, unix};
use crate::relay::NOW;
use crate::server::{Server, Tcp};
use crate::support::wait;

fn event(what: What, tags: Tags, connected_capacity: u64) -> Event {
    let (total_capacity, priority_connected_capacity) = (1_000, 10);
    Event { time: NOW, what, tags, total_capacity, connected_capacity, priority_connected_capacity }
}

fn client() -> ClientRef {
    ClientRef { shard: ShardId(1), id: ClientId { slot: 2, generation: 3 } }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4_000))
}

fn tip(height: u32) -> Event {
    event(What::Tip { height, hash: "00".repeat(32) }, Tags::default(), 100)
}

/// A watcher that has seen the head of its answer.
pub struct Watcher(BufReader<Box<dyn Stream>>);

impl Watcher {
    fn start(server: &Server, query: &str) -> Watcher {
        Watcher::at(&server.socket, query)
    }

    pub fn at(socket: &Path, query: &str) -> Watcher {
        let mut stream = unix(socket);
        stream.write_all(&request("GET", &format!("/api/v1/events{query}"), None, "")).unwrap();
        let mut watcher = Watcher(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(watcher.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        watcher
    }

    /// The next event's name and data.
    pub fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(text) = line.strip_prefix("event: ") {
                name = text.trim().to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(text).unwrap_or(Value::Null));
            }
        }
    }
}

#[test]
fn what_happens_is_told_with_all_that_belongs_to_it() {
    let server = Server::start(Tcp::No);
    assert!(!server.events.is_watched());
    let mut watcher = Watcher::start(&server, "");
    assert!(server.events.is_watched());
    let tags = server.tags.make("", &["gold".to_owned()]).unwrap();
    let (client, peer) = (client(), peer());
    let told = [
        (
            What::Connect { client, peer, service: 4, transport: Kind::V2 },
            "connect",
            json!({"client": "1-2-3", "peer": "192.0.2.1:4000", "service": 4, "transport": "v2"}),
        ),
        (What::Disconnect { client, peer, reason: End::Closed }, "disconnect", json!({"reason": "closed"})),
        (What::Kick { client, peer, reason: End::Kicked }, "kick", json!({"reason": "kicked"})),
        (What::Price { client, positive: 5, negative: 6 }, "price", json!({"positive": 5, "negative": 6})),
        (What::ClientCapacity { client, capacity: 9 }, "client_capacity", json!({"capacity": 9})),
        (
            What::TotalCapacity { capacity: 8, after: 1_000 },
            "total_capacity",
            json!({"capacity": 8, "after": 1000}),
        ),
        (
            What::Ban { network: "10.0.0.0/8".parse().unwrap(), until: 7, reason: "r".into() },
            "ban",
            json!({"network": "10.0.0.0/8", "until": 7, "reason": "r"}),
        ),
        (What::Unban { network: "10.0.0.0/8".parse().unwrap() }, "unban", json!({"network": "10.0.0.0/8"})),
        (
            What::NodeLink { node: "n:1".into(), link: "main", up: false, reason: None },
            "node_link",
            json!({"node": "n:1", "link": "main", "up": false}),
        ),
        (What::Tip { height: 3, hash: "ab".into() }, "tip", json!({"height": 3, "hash": "ab"})),
    ];
    for (what, kind, fields) in told {
        server.events.tell(event(what, tags, 100));
        let (name, data) = watcher.next();
        assert_eq!((name.as_str(), &data["kind"]), (kind, &json!(kind)));
        let always = json!({"time": NOW, "tags": ["gold"], "total_capacity": 1000, "connected_capacity": 100, "priority_connected_capacity": 10});
        for (field, value) in fields.as_object().unwrap().iter().chain(always.as_object().unwrap()) {
            assert_eq!(&data[field], value, "{kind}: {field}");
        }
    }
}

#[test]
fn a_watcher_hears_of_what_it_wants_alone() {
    let server = Server::start(Tcp::No);
    let gold = server.tags.make("", &["gold".to_owned(), "old".to_owned()]).unwrap();
    let mut kinds = Watcher::start(&server, "?kind=kick,tip");
    let mut tagged = Watcher::start(&server, "?tag=gold,old");
    let mut underrun = Watcher::start(&server, "?underrun=true");
    let (client, peer) = (client(), peer());
    server.events.tell(event(
        What::Connect { client, peer, service: 0, transport: Kind::Tls },
        Tags(gold.0 & 1),
        1_000,
    ));
    server.events.tell(event(What::Kick { client, peer, reason: End::Kicked }, gold, 1_000));
    server.events.tell(event(What::Price { client, positive: 0, negative: 0 }, Tags::default(), 1_001));
    server.events.tell(tip(9));
    assert_eq!((kinds.next().0, kinds.next().0), ("kick".to_owned(), "tip".to_owned()));
    assert_eq!(tagged.next().0, "kick");
    assert_eq!(underrun.next().0, "price");
}

#[test]
fn who_is_slow_is_dropped_and_counted_and_the_others_hear_on() {
    let server = Server::start(Tcp::No);
    let mut slow = Watcher::start(&server, "");
    let mut fast = Watcher::start(&server, "");
    let mut height = 0;
    // What the kernel and the queues hold is some thousand events; the fast one reads each before the next is told.
    while server.events.lagged() == 0 {
        assert!(height < 1_000_000, "never dropped");
        server.events.tell(tip(height));
        assert_eq!(fast.next().1["height"], height);
        height += 1;
    }
    let mut rest = String::new();
    slow.0.read_to_string(&mut rest).unwrap();
    let last = rest.rsplit("event: ").next().unwrap();
    assert!(last.starts_with("lagged"), "{last}");
    assert!(rest.contains("\"height\":7,"), "what was there before is not lost");
    server.events.tell(tip(height));
    assert_eq!(fast.next().1["height"], height);
    assert_eq!(server.expect(200, "GET", "/info", None)["events_lagged"], 1);
}

#[test]
fn watchers_leave_room_for_others_and_give_their_places_back() {
    let server = Server::start(Tcp::No);
    let all: Vec<Watcher> = (0..32).map(|_| Watcher::start(&server, "")).collect();
    let one_more = server.expect(503, "GET", "/events", None);
    assert!(one_more["error"]["message"].as_str().unwrap().contains("32 watch"));
    server.expect(200, "GET", "/info", None);
    drop(all);
    wait::for_("a place", || server.ask("HEAD", "/events", None).status == 200);
}

#[test]
fn the_end_of_the_relay_is_the_end_of_the_stream() {
    let mut server = Server::start(Tcp::No);
    let mut watcher = Watcher::start(&server, "");
    server.stop();
    let mut rest = String::new();
    watcher.0.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the body is whole: {rest:?}");
}
