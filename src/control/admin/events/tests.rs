//! Whom events make slow.

use super::*;
use crate::base::{ClientId, ShardId};

fn wanted(kind: EventKind) -> Wanted {
    Wanted { tags: Tags::default(), kinds: vec![kind], underrun: false }
}

#[test]
fn a_crowd_that_leaves_at_once_makes_only_those_slow_who_want_to_hear_of_it() {
    let events = Events::new();
    let mut tips = events.watch(wanted(EventKind::Tip), TagNames::new()).unwrap();
    let mut gone = events.watch(wanted(EventKind::Disconnect), TagNames::new()).unwrap();
    for slot in 0..10_000 {
        let client = ClientRef { shard: ShardId(0), id: ClientId { slot, generation: 0 } };
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 4_000));
        events.happened(What::Disconnect { client, peer, reason: End::Closed }, Tags::default());
    }
    events.happened(What::Tip { height: 9, hash: String::new() }, Tags::default());
    assert_eq!(events.lagged(), 1);
    assert!(!tips.was_slow.load(Ordering::Acquire) && gone.was_slow.load(Ordering::Acquire));
    assert!(matches!(tips.events.try_recv().unwrap().what, What::Tip { height: 9, .. }));
    assert_eq!(tips.events.try_recv().unwrap_err(), mpsc::error::TryRecvError::Empty);
    let kept = std::iter::from_fn(|| gone.events.try_recv().ok()).count();
    assert_eq!(kept, WATCHER_QUEUE);
    assert_eq!(gone.events.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    drop(tips);
    assert!(!events.is_watched());
}
