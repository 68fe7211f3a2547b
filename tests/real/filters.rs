//! BIP157 through the relay equals BIP157 from the node.

use bitcoin::BlockHash;
use bitcoin::bip158::BlockFilter;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter, GetCFCheckpt, GetCFHeaders, GetCFilters};

use super::scene::{LONG, Scene};
use crate::support::chain;
use crate::support::client::Client;
use crate::support::node::Kind;
use crate::support::wait::PATIENCE;

/// Filters, filter headers and checkpoints of the whole chain, and the new block's as soon as it is announced.
pub fn served(kind: Kind) {
    let scene = Scene::new(kind, LONG);
    let mut client = scene.synced_client();
    let mut direct = Client::connect(scene.node.p2p());
    assert!(client.services().has(ServiceFlags::COMPACT_FILTERS), "{}", client.services());
    let tip = scene.node.tip();

    let checkpoints = checkpoints(&mut client, tip);
    assert_eq!(checkpoints.filter_headers.len(), 2);
    assert_eq!(checkpoints, self::checkpoints(&mut direct, tip));

    // The most that one request may ask for, from the beginning and up to the tip.
    for (first, last) in [(1, 2_000), (LONG - 1_999, LONG), (LONG, LONG), (0, 0)] {
        let stop = scene.node.hash_at(last);
        let got = headers(&mut client, first, stop);
        assert_eq!(got.filter_hashes.len() as u32, last - first + 1);
        assert_eq!(got, headers(&mut direct, first, stop), "filter headers {first}..={last}");
    }
    for (first, last) in [(1, 1_000), (LONG - 999, LONG), (0, 0)] {
        let stop = scene.node.hash_at(last);
        let count = (last - first + 1) as usize;
        let got = filters(&mut client, first, stop, count);
        assert_eq!(got, filters(&mut direct, first, stop, count), "filters {first}..={last}");
    }

    // A new block with a spend in it: whoever hears of it can have its filter.
    let coin = scene.node.coin(1);
    let spent = scene.node.block_at(1).txdata[0].output[0].script_pubkey.clone();
    scene.node.send_raw(&chain::spend(&coin));
    let hash = scene.node.mine(1)[0];
    client.recv_announcement(hash);
    let filter = filters(&mut client, LONG + 1, hash, 1).remove(0);
    assert_eq!(filter.block_hash, hash);
    let block = scene.node.block(hash);
    let expected = BlockFilter::new_script_filter(&block, |_| Ok(spent.clone())).expect("filter");
    assert_eq!(filter.filter, expected.content);
}

fn checkpoints(client: &mut Client, stop_hash: BlockHash) -> CFCheckpt {
    client.send(NetworkMessage::GetCFCheckpt(GetCFCheckpt { filter_type: 0, stop_hash }));
    client.recv_until("cfcheckpt", PATIENCE, |m| match m {
        NetworkMessage::CFCheckpt(answer) => Some(answer.clone()),
        _ => None,
    })
}

fn headers(client: &mut Client, start_height: u32, stop_hash: BlockHash) -> CFHeaders {
    client.send(NetworkMessage::GetCFHeaders(GetCFHeaders { filter_type: 0, start_height, stop_hash }));
    client.recv_until("cfheaders", PATIENCE, |m| match m {
        NetworkMessage::CFHeaders(answer) => Some(answer.clone()),
        _ => None,
    })
}

fn filters(client: &mut Client, start_height: u32, stop_hash: BlockHash, count: usize) -> Vec<CFilter> {
    client.send(NetworkMessage::GetCFilters(GetCFilters { filter_type: 0, start_height, stop_hash }));
    let next = |n| {
        client.recv_until(&format!("cfilter {n} of {count}"), PATIENCE, |m| match m {
            NetworkMessage::CFilter(answer) => Some(answer.clone()),
            _ => None,
        })
    };
    (1..=count).map(next).collect()
}
