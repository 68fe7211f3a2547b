//! The stub node and its clients against one another, in memory. The chain has its own tests in src/stub.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use bitcoin::OutPoint;
use bitcoin::hashes::Hash as _;
use breakwater::base::Instant;
use breakwater::stub::client::{Broken, Event, Kind};
use breakwater::stub::node::{Dropped, Form, Options, Output, Refuse};
use breakwater::stub::{Client, MAGIC, PeerId, StubChain, StubNode};
use breakwater::wire::{Inv, InvKind, write};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const START: u64 = 1_700_000_000;

const KINDS: [Kind; 6] = [
    Kind::Listener,
    Kind::InvListener,
    Kind::CompactNode,
    Kind::Light { every: 7 },
    Kind::Wallet,
    Kind::Pinger { every: Duration::from_secs(2) },
];

/// A node and its clients, joined by bytes in flight that arrive in random pieces.
struct Net {
    now: Instant,
    rng: SmallRng,
    node: StubNode,
    clients: Vec<Client>,
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
    seen: Vec<Vec<Event>>,
    dropped: Vec<Dropped>,
}

impl Net {
    fn new(seed: u64, blocks: u32, options: Options) -> Net {
        let mut chain = StubChain::new(seed, START);
        chain.grow(blocks, START + u64::from(blocks) * 2);
        Net {
            now: Instant(1_000_000_000),
            rng: SmallRng::seed_from_u64(seed),
            node: StubNode::new(chain, seed, options),
            clients: Vec::new(),
            up: Vec::new(),
            down: Vec::new(),
            seen: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn join(&mut self, mut client: Client) -> usize {
        let at = self.clients.len();
        let mut up = Vec::new();
        client.start(self.now, &mut up);
        self.node.connected(self.now, PeerId(at as u64), "127.0.0.1:9".parse().unwrap());
        self.clients.push(client);
        self.up.push(up);
        self.down.push(Vec::new());
        self.seen.push(Vec::new());
        at
    }

    fn all_kinds(seed: u64, blocks: u32, options: Options) -> Net {
        let mut net = Net::new(seed, blocks, options);
        for (i, kind) in KINDS.into_iter().enumerate() {
            net.join(Client::new(kind, seed + i as u64, MAGIC));
        }
        net
    }

    /// Lets bytes flow until nothing is in flight; the time stands still.
    fn settle(&mut self) -> Result<(), Broken> {
        loop {
            self.node.tick(self.now);
            while let Some(output) = self.node.next_output() {
                match output {
                    Output::Send(peer, bytes) => self.down[peer.0 as usize].extend_from_slice(&bytes),
                    Output::Disconnect(_, why) => self.dropped.push(why),
                }
            }
            let mut moved = false;
            for i in 0..self.clients.len() {
                let up = piece(&mut self.rng, &mut self.up[i]);
                self.node.received(self.now, PeerId(i as u64), &up);
                let down = piece(&mut self.rng, &mut self.down[i]);
                self.clients[i].received(self.now, &down, &mut self.up[i])?;
                self.clients[i].tick(self.now, &mut self.up[i]);
                self.seen[i].extend(self.clients[i].events());
                moved |= !up.is_empty() || !down.is_empty();
            }
            if !moved && self.up.iter().chain(&self.down).all(Vec::is_empty) {
                return Ok(());
            }
        }
    }

    /// Jumps from one wake-up to the next until `span` has passed.
    fn pass(&mut self, span: Duration) -> Result<(), Broken> {
        let end = self.now + span;
        while self.now < end {
            let wake = self.clients.iter().map(Client::next_wake).min().unwrap_or(Instant::FAR);
            self.now = wake.min(self.node.next_wake()).max(self.now + Duration::from_millis(1)).min(end);
            self.settle()?;
        }
        Ok(())
    }

    fn mine(&mut self) -> breakwater::wire::Hash {
        let unix = START + 10_000 + u64::from(self.now.secs());
        self.node.chain_mut().mine(unix)
    }

    /// Every client has the node's tip, and light clients its filters.
    fn assert_at_tip(&self) {
        let (height, hash) = (self.node.chain().height(), self.node.chain().tip_hash());
        for client in &self.clients {
            assert!(client.is_ready(), "{:?}", client.kind());
            assert_eq!(client.tip(), (height, hash), "{:?}", client.kind());
            if matches!(client.kind(), Kind::Light { .. }) {
                assert_eq!(client.filters_to(), Some(height));
            }
        }
    }

    fn heard_block(&self, client: usize, block: &breakwater::wire::Hash) -> bool {
        self.seen[client].iter().any(|event| matches!(event, Event::Block { hash, .. } if hash == block))
    }
}

/// Takes a random piece off the front.
fn piece(rng: &mut SmallRng, from: &mut Vec<u8>) -> Vec<u8> {
    let most = if rng.random_bool(0.3) { from.len().min(40) } else { from.len() };
    let rest = from.split_off(rng.random_range(0..=most));
    std::mem::replace(from, rest)
}

#[test]
fn all_kinds_reach_the_tip_and_hear_of_blocks_and_reorganisations() {
    for seed in 0..20 {
        let mut net = Net::all_kinds(seed, 130, Options { feature: seed % 2 == 0, ..Options::default() });
        net.settle().unwrap();
        net.assert_at_tip();
        for _ in 0..3 {
            let hash = net.mine();
            net.settle().unwrap();
            net.assert_at_tip();
            (0..KINDS.len()).for_each(|i| assert!(net.heard_block(i, &hash), "{:?}", KINDS[i]));
        }
        for depth in [1, 2, 9, 60] {
            let height = net.node.chain().height();
            let fork = *net.node.chain().at(height - depth).unwrap().hash();
            let made = net.node.chain_mut().mine_on(&fork, depth + 1, START + 20_000).unwrap();
            net.settle().unwrap();
            net.assert_at_tip();
            for hash in &made {
                (0..KINDS.len()).for_each(|i| assert!(net.heard_block(i, hash), "{:?}", KINDS[i]));
            }
        }
        assert_eq!(net.dropped, []);
        let fetched = net.seen[3].iter().filter(|event| matches!(event, Event::Fetched { .. })).count();
        assert!(fetched >= 20, "{fetched}");
        net.pass(Duration::from_secs(9)).unwrap();
        let pongs = net.seen[5].iter().filter(|event| matches!(event, Event::Pong { .. })).count();
        assert!((4..=6).contains(&pongs), "{pongs}");
    }
}

#[test]
fn a_long_chain_is_synchronised_and_shared() {
    let mut net = Net::all_kinds(1, 4_321, Options::default());
    net.settle().unwrap();
    net.assert_at_tip();
    let shared = net.clients[0].share_headers();
    for kind in KINDS {
        net.join(Client::with_headers(kind, 7, MAGIC, shared.clone()));
    }
    net.settle().unwrap();
    net.assert_at_tip();
    let fork = *net.node.chain().at(4_300).unwrap().hash();
    net.node.chain_mut().mine_on(&fork, 30, START + 20_000).unwrap();
    net.settle().unwrap();
    net.assert_at_tip();
}

#[test]
fn transactions_go_round_but_not_back() {
    for seed in 0..10 {
        let options = Options { tx_delay: Duration::from_millis(100), ..Options::default() };
        let mut net = Net::all_kinds(seed, 130, options);
        net.settle().unwrap();
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut wtxids = Vec::new();
        for size in [300, 5_000, 50_000] {
            let tx = net.node.chain_mut().make_tx(&mut rng, size).unwrap();
            wtxids.push((tx.compute_wtxid().to_byte_array(), tx.compute_txid().to_byte_array()));
            let (clients, up) = (&mut net.clients, &mut net.up);
            assert!(clients[4].submit(&tx, &mut up[4]));
            assert!(!clients[0].submit(&tx, &mut up[0]));
        }
        net.settle().unwrap();
        assert_eq!(net.node.counters().txs_accepted, 3);
        assert_eq!(net.node.counters().txs_received, 3);
        assert!(!net.seen[2].iter().any(|event| matches!(event, Event::Tx { .. })), "before its time");
        net.pass(Duration::from_millis(200)).unwrap();
        for (wtxid, txid) in &wtxids {
            let heard = |i: usize, want| {
                net.seen[i].iter().any(|event| matches!(event, Event::Tx { hash, .. } if hash == want))
            };
            assert!(heard(1, txid) && heard(2, wtxid));
            assert!(!heard(4, wtxid), "announced back");
            assert!(
                net.seen[4].iter().any(|e| matches!(e, Event::Given { wtxid: given, .. } if given == wtxid))
            );
        }
        // The compact-block node has them all and needs nothing more.
        let hash = net.mine();
        net.settle().unwrap();
        assert!(net.heard_block(2, &hash));
        assert_eq!(net.node.chain().tip().block().txdata.len(), 4);
        // Of one it does not have it asks the rest.
        let tx = net.node.chain_mut().make_tx(&mut rng, 300).unwrap();
        net.node.chain_mut().accept_tx(&tx).unwrap();
        net.node.chain_mut().set_block_bytes(300_000);
        let hash = net.mine();
        net.settle().unwrap();
        assert!(net.heard_block(2, &hash));
        net.assert_at_tip();
        let fetched = net.seen[3].iter().filter(|event| matches!(event, Event::Fetched { .. })).count();
        assert_eq!(
            net.node.counters().blocks_served,
            fetched as u64,
            "only the light client wants whole blocks"
        );
    }
}

#[test]
fn a_child_before_its_parent_waits_for_it() {
    let mut net = Net::new(3, 130, Options::default());
    let wallet = net.join(Client::new(Kind::Wallet, 1, MAGIC));
    net.settle().unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    let parent = net.node.chain_mut().make_tx(&mut rng, 300).unwrap();
    let mut child = parent.clone();
    child.input[0].previous_output = OutPoint::new(parent.compute_txid(), 1);
    child.output.truncate(1);
    for tx in [&child, &parent] {
        assert!(net.clients[wallet].submit(tx, &mut net.up[wallet]));
        net.settle().unwrap();
    }
    assert_eq!(net.node.counters().txs_accepted, 2);
    assert_eq!(net.node.chain().mempool().len(), 2);
}

#[test]
fn a_node_refuses_hangs_lags_and_announces_by_inv() {
    let options = Options {
        refuse: Some(Refuse(Arc::new(|tx| tx.total_size() > 1_000))),
        filter_delay: Duration::from_secs(3),
        form: Form::InvOnly,
        ..Options::default()
    };
    let mut net = Net::all_kinds(5, 130, options);
    net.settle().unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    for size in [300, 2_000] {
        let tx = net.node.chain_mut().make_tx(&mut rng, size).unwrap();
        net.clients[4].submit(&tx, &mut net.up[4]);
    }
    net.settle().unwrap();
    assert_eq!((net.node.counters().txs_accepted, net.node.counters().txs_refused), (1, 1));

    let hash = net.mine();
    net.settle().unwrap();
    assert!(net.heard_block(3, &hash), "announced before the filter is there");
    assert_eq!(net.clients[3].filters_to(), Some(130));
    net.pass(Duration::from_secs(6)).unwrap();
    net.assert_at_tip();

    net.node.set_silent(true);
    let hash = net.mine();
    net.pass(Duration::from_secs(3)).unwrap();
    assert!((0..KINDS.len()).all(|i| !net.heard_block(i, &hash)));
    net.node.set_silent(false);
    net.settle().unwrap();
    net.pass(Duration::from_secs(10)).unwrap();
    net.assert_at_tip();
    assert!((0..KINDS.len()).all(|i| net.heard_block(i, &hash)));
}

#[test]
fn light_clients_refuse_a_node_without_filters() {
    let mut net = Net::new(5, 10, Options { filters: false, ..Options::default() });
    net.join(Client::new(Kind::Light { every: 1 }, 1, MAGIC));
    assert!(matches!(net.settle(), Err(Broken::Services(_))));
}

#[test]
fn the_node_drops_peers_as_bitcoin_core_does() {
    let mut empty = Vec::new();
    write::empty(&mut empty, MAGIC, "wtxidrelay");
    let mut filters = Vec::new();
    write::filter_request(&mut filters, MAGIC, "getcfilters", 0, &[9; 32]);
    let mut mempool = Vec::new();
    write::empty(&mut mempool, MAGIC, "mempool");
    for (bytes, why) in [
        (empty, Dropped::LateFeature),
        (filters, Dropped::FilterRequest),
        (mempool, Dropped::Service),
        (b"GET / HTTP/1.1\r\n".to_vec(), Dropped::Framing),
    ] {
        let mut net = Net::new(5, 10, Options { mempool: false, ..Options::default() });
        net.join(Client::new(Kind::Listener, 1, MAGIC));
        net.settle().unwrap();
        net.up[0].extend(bytes);
        net.settle().unwrap();
        assert_eq!(net.dropped, [why]);
        assert_eq!(net.node.peers(), 0);
    }
}

#[test]
fn a_peer_that_takes_nothing_has_its_requests_wait() {
    let mut net = Net::new(5, 120, Options { window: 20_000, ..Options::default() });
    net.join(Client::new(Kind::InvListener, 1, MAGIC));
    net.settle().unwrap();
    let (peer, now) = (PeerId(0), net.now);
    // The driver of these tests does not report what it sends.
    net.node.sent(peer, 1_000, 1_000_000);
    let tip = net.node.chain().tip_hash();
    let mut request = Vec::new();
    let inv = Inv { kind: InvKind::WitnessBlock, hash: tip };
    (0..500).for_each(|_| write::inventory(&mut request, MAGIC, "getdata", [inv].into_iter()));
    net.node.received(now, peer, &request);
    let mut served = 0;
    for round in 0.. {
        let waiting: Vec<Output> = std::iter::from_fn(|| net.node.next_output()).collect();
        let bytes: usize =
            waiting.iter().map(|out| if let Output::Send(_, b) = out { b.len() } else { 0 }).sum();
        assert!(bytes <= 20_000 + net.node.chain().tip().message().len(), "round {round}: {bytes}");
        served += waiting.len();
        if served >= 500 {
            break;
        }
        assert!(net.node.is_full(peer) && !waiting.is_empty(), "round {round}: {served}");
        if round == 0 {
            let tx = net.node.chain_mut().make_tx(&mut net.rng, 300).unwrap();
            net.node.chain_mut().accept_tx(&tx).unwrap();
            net.node.tick(now);
            assert_eq!(net.node.next_output(), None, "transactions wait, too");
            assert!(net.node.next_wake() > now, "and nothing is due");
        }
        net.node.sent(peer, waiting.len(), bytes);
        net.node.tick(now);
    }
    // The last is the transaction's announcement.
    net.node.tick(now);
    assert_eq!(served + std::iter::from_fn(|| net.node.next_output()).count(), 501);
    assert_eq!(net.node.counters().blocks_served, 500);
}

#[test]
fn clients_notice_lies() {
    // A header with another nonce has no proof of work, or links to nothing that follows.
    let mut chain = StubChain::new(1, START);
    chain.grow(5, START + 100);
    let mut lie = *chain.at(1).unwrap().header();
    lie[40] ^= 1;
    let mut lies = 0;
    for second in [lie, *chain.at(3).unwrap().header()] {
        let mut net = Net::new(1, 0, Options::default());
        net.join(Client::new(Kind::Listener, 1, MAGIC));
        net.settle().unwrap();
        let list = [*chain.at(1).unwrap().header(), second];
        write::headers(&mut net.down[0], MAGIC, list.iter());
        lies += u32::from(matches!(net.settle(), Err(Broken::Header(_))));
    }
    assert_eq!(lies, 2);
    // A transaction for one who wants none.
    let mut net = Net::new(1, 0, Options::default());
    net.join(Client::new(Kind::Light { every: 0 }, 1, MAGIC));
    net.settle().unwrap();
    let inv = breakwater::wire::Inv { kind: breakwater::wire::InvKind::Wtx, hash: [3; 32] };
    write::inventory(&mut net.down[0], MAGIC, "inv", [inv].into_iter());
    assert_eq!(net.settle(), Err(Broken::UnwantedTx([3; 32])));
}

#[test]
fn a_light_client_notices_filters_that_are_not_those_of_the_chain() {
    let mut chain = StubChain::new(1, START);
    chain.grow(3, START + 100);
    let at = |height| chain.at(height).unwrap();
    // Alone with a client: what the node says is made here.
    let talk = |lie: bool| {
        let mut client = Client::new(Kind::Light { every: 1 }, 1, MAGIC);
        let (mut up, mut down, now) = (Vec::new(), Vec::new(), Instant(5));
        client.start(now, &mut up);
        let mut node = StubNode::new(chain.clone(), 1, Options::default());
        node.connected(now, PeerId(0), "127.0.0.1:9".parse().unwrap());
        node.received(now, PeerId(0), &up);
        while let Some(Output::Send(_, bytes)) = node.next_output() {
            down.extend_from_slice(&bytes);
        }
        write::headers(&mut down, MAGIC, (1..=3).map(|h| at(h).header()).collect::<Vec<_>>().into_iter());
        let hashes: Vec<_> = (0..=3).map(|h| at(h).filter_hash()).collect();
        write::cfheaders(&mut down, MAGIC, at(3).hash(), &[0; 32], hashes.into_iter());
        for height in 0..=3 {
            match lie && height == 2 {
                true => write::cfilter(&mut down, MAGIC, at(2).hash(), &[1, 2, 3]),
                false => down.extend_from_slice(at(height).cfilter_message()),
            }
        }
        down.extend_from_slice(at(3).message());
        client.received(now, &down, &mut up).map(|()| client.events())
    };
    assert_eq!(talk(true), Err(Broken::Filter(2)));
    let events = talk(false).unwrap();
    assert!(events.contains(&Event::FiltersTo(3)));
    assert!(events.contains(&Event::Fetched { hash: *at(3).hash(), at: Instant(5) }));
}

#[test]
fn a_client_that_lost_its_connection_begins_anew_with_what_it_knows() {
    let mut net = Net::all_kinds(8, 130, Options::default());
    net.settle().unwrap();
    for i in 0..KINDS.len() {
        net.node.disconnected(net.now, PeerId(i as u64));
        net.mine();
        net.up[i].clear();
        net.down[i].clear();
        net.node.connected(net.now, PeerId(i as u64), "127.0.0.1:9".parse().unwrap());
        net.clients[i].start(net.now, &mut net.up[i]);
        net.settle().unwrap();
    }
    net.assert_at_tip();
}

#[test]
fn nothing_that_a_peer_says_makes_node_or_client_panic() {
    const COMMANDS: &str = "version verack wtxidrelay sendaddrv2 feature sendheaders sendcmpct feefilter ping pong \
        getheaders getblocks headers inv getdata notfound tx block cmpctblock getblocktxn blocktxn getcfilters \
        cfilter getcfheaders cfheaders getcfcheckpt cfcheckpt getaddr addr addrv2 mempool filterload nonsense";
    for seed in 0..60 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut net = Net::all_kinds(seed, 12, Options::default());
        net.settle().unwrap();
        let known = net.node.chain().at(5).unwrap().clone();
        let real = [
            known.bytes().to_vec(),
            known.header().to_vec(),
            known.hash().to_vec(),
            known.cmpct_message()[24..].to_vec(),
        ];
        for _ in 0..200 {
            let command = COMMANDS.split_whitespace().nth(rng.random_range(0..33)).unwrap();
            let mut payload: Vec<u8> =
                (0..rng.random_range(0..90)).map(|_| rng.random_range(0..4u8)).collect();
            if rng.random_bool(0.7) {
                payload = real[rng.random_range(0..real.len())].clone();
                let at = rng.random_range(0..payload.len());
                payload[at] ^= rng.random::<u8>();
                let front = rng.random_range(0..6);
                payload.splice(0..0, (0..front).map(|_| rng.random_range(0..3u8)));
            }
            let mut bytes = Vec::new();
            write::raw(&mut bytes, MAGIC, command, &payload);
            let i = rng.random_range(0..KINDS.len());
            net.node.received(net.now, PeerId(i as u64), &bytes);
            let _ = net.clients[i].received(net.now, &bytes, &mut Vec::new());
            while net.node.next_output().is_some() {}
            net.now = net.now + Duration::from_millis(500);
            net.node.tick(net.now);
            net.clients[i].tick(net.now, &mut Vec::new());
        }
    }
}
