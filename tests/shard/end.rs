//! The end of a shard: within its time, whatever clients and hub do.

use breakwater::base::End;
use breakwater::base::limits::TO_HUB_QUEUE;
use breakwater::link::ToShard;

use super::rig::{PLAIN, Rig, tx_news};
use super::{message, ping};

#[test]
fn a_drain_closes_everything_within_its_time() {
    let mut rig = Rig::new();
    let (idle, busy, deaf) = (rig.client(PLAIN), rig.client(PLAIN), rig.client(PLAIN));
    let handshake = rig.stranger();
    for conn in [busy, deaf] {
        rig.hold(conn, true);
        rig.send(conn, &ping(1));
    }
    rig.tell(ToShard::Drain);
    rig.settle();
    assert!(rig.kernel.0.borrow().listening.is_empty());
    assert!(rig.closed(idle).is_some() && rig.closed(handshake).is_some());
    assert_eq!((rig.closed(busy), rig.ended), (None, false), "what is being sent is finished");
    rig.hold(busy, false);
    rig.advance(1);
    assert_eq!(rig.commands(busy), ["pong"]);
    assert!(rig.closed(busy).is_some());
    rig.advance(3);
    assert_eq!(rig.closed(deaf), Some(true), "its time is up");
    assert_eq!(rig.ends(End::Shutdown), 4);
    rig.assert_over();
}

/// A hub that is stuck: its queue is full, and an entry waits at the shard.
#[test]
fn a_shard_ends_though_the_hub_takes_nothing() {
    let mut rig = Rig::new();
    let (client, last) = (rig.client(PLAIN), rig.client(PLAIN));
    rig.deaf = true;
    // Announcements may be dropped when the hub is behind; transactions may not, so they wait.
    for n in 0..TO_HUB_QUEUE as u64 + 10 {
        let mut payload = tx_news(1).message[24..].to_vec();
        payload[5..13].copy_from_slice(&n.to_le_bytes());
        rig.send(if n % 2 == 0 { client } else { last }, &message("tx", &payload));
    }
    rig.send(last, &ping(1));
    rig.tell(ToShard::Drain);
    rig.settle();
    rig.advance(3);
    assert!(rig.runs, "the hub has its time");
    rig.advance(1);
    assert!(!rig.runs, "the shard waits for a hub that takes nothing");
    assert_eq!(rig.shard.core().clients(), 0);
    assert!(rig.counters().untold > 0);
    // What it could say before is still there to be read.
    rig.deaf = false;
    rig.turn();
    assert!(!rig.heard.is_empty() && !rig.ended);
}
