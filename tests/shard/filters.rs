//! Filters: heard of when they are here, waited for, and nobody blamed for what changed under a request.

use std::sync::Arc;

use breakwater::base::End;
use breakwater::link::{Answer, Policy, ToHub, ToShard, Want};
use breakwater::stub::MAGIC;
use breakwater::wire::{Services, write};

use super::ping;
use super::rig::{HEIGHT, PLAIN, Rig};

#[test]
fn a_client_with_filters_hears_when_the_filter_is_here() {
    let mut rig = Rig::new();
    let light = rig.client(PLAIN);
    let mut ask = Vec::new();
    let tip = rig.chain.tip_hash();
    write::filter_request(&mut ask, MAGIC, "getcfheaders", 0, &tip);
    rig.send(light, &ask);
    assert_eq!(rig.commands(light), ["cfheaders"]);
    rig.mine_unfiltered();
    rig.settle();
    assert!(rig.messages(light).is_empty(), "its filter cannot be had yet");
    rig.tell(ToShard::FiltersTo(HEIGHT + 1));
    rig.settle();
    assert_eq!(rig.commands(light), ["inv"]);
    rig.finish();
}

#[test]
fn a_request_for_a_filter_waits_for_it() {
    let mut rig = Rig::new();
    let light = rig.client(PLAIN);
    let tip = rig.mine_unfiltered();
    rig.settle();
    rig.messages(light);
    let mut ask = Vec::new();
    write::filter_request(&mut ask, MAGIC, "getcfilters", HEIGHT + 1, &tip);
    rig.send(light, &ask);
    rig.advance(3);
    assert!(rig.heard.iter().all(|entry| !matches!(entry, ToHub::Want { .. })), "asked too early");
    rig.tell(ToShard::FiltersTo(HEIGHT + 1));
    rig.settle();
    let (to, want) = rig.want();
    assert_eq!(want, Want::Filters { start: HEIGHT + 1, stop: HEIGHT + 1 });
    let filter = rig.chain.tip().cfilter_message().clone();
    rig.answer(to, Answer::Bytes(filter));
    assert!(rig.commands(light).contains(&"cfilter".to_owned()));
    // One that never comes is given up without an answer, and the client is read again.
    let tip = rig.mine_unfiltered();
    rig.settle();
    rig.messages(light);
    let mut ask = Vec::new();
    write::filter_request(&mut ask, MAGIC, "getcfilters", HEIGHT + 2, &tip);
    ask.extend(ping(3));
    rig.send(light, &ask);
    rig.advance(10);
    assert!(rig.messages(light).is_empty());
    rig.advance(10);
    assert_eq!(rig.commands(light), ["pong"]);
    assert_eq!(rig.counters().wants_missing, 1);
    rig.finish();
}

#[test]
fn nobody_is_blamed_for_filters_that_a_reorganisation_took_away() {
    let mut rig = Rig::new();
    let (light, liar) = (rig.client(PLAIN), rig.client(PLAIN));
    let gone = rig.mine();
    rig.settle();
    rig.reorganise(1, 2);
    rig.messages(light);
    // What it heard of a moment ago is asked for; then it goes on as if nothing had been.
    for command in ["getcfilters", "getcfheaders", "getcfcheckpt"] {
        let mut ask = Vec::new();
        match command {
            "getcfcheckpt" => {
                let mut payload = vec![0];
                payload.extend_from_slice(&gone);
                write::raw(&mut ask, MAGIC, command, &payload);
            }
            _ => write::filter_request(&mut ask, MAGIC, command, HEIGHT, &gone),
        }
        ask.extend(ping(1));
        rig.send(light, &ask);
        assert_eq!(rig.commands(light), ["pong"], "{command}");
    }
    assert_eq!((rig.closed(light), rig.counters().wants_missing), (None, 3));
    // A block that was never announced is another matter (BIP157).
    let mut ask = Vec::new();
    write::filter_request(&mut ask, MAGIC, "getcfilters", HEIGHT, &[9; 32]);
    rig.send(liar, &ask);
    assert!(rig.closed(liar).is_some());
    assert_eq!(rig.ends(End::BadFilterRequest), 1);
    rig.finish();
}

#[test]
fn nobody_is_blamed_for_asking_what_was_promised() {
    let mut rig = Rig::new();
    let light = rig.client(PLAIN);
    let services = Services::NETWORK_LIMITED | Services::WITNESS;
    rig.tell(ToShard::Policy(Arc::new(Policy { services, fee_filter: 1_000, mempool: false })));
    rig.settle();
    let mut ask = Vec::new();
    let tip = rig.chain.tip_hash();
    write::filter_request(&mut ask, MAGIC, "getcfheaders", 0, &tip);
    rig.send(light, &ask);
    assert_eq!(rig.commands(light), ["cfheaders"]);
    assert_eq!(rig.ends(End::FiltersNotServed), 0);
    rig.finish();
}
