//! No behaviour panics, whatever the target says and however it is cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use breakwater::base::Instant;
use breakwater::stub::{MAGIC, StubChain};
use breakwater::wire::write;
use breakwater_rig::rig::behaviour::shared::Shared;
use breakwater_rig::rig::behaviour::{KINDS, Options};
use breakwater_rig::rig::client::{Client, Context, Flow};
use breakwater_rig::rig::measure::Tally;
use breakwater_rig::rig::origin::{Known, Origins};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

const COMMANDS: [&str; 19] = [
    "version",
    "verack",
    "wtxidrelay",
    "ping",
    "pong",
    "getheaders",
    "headers",
    "inv",
    "getdata",
    "notfound",
    "tx",
    "block",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
    "cfheaders",
    "cfilter",
    "addr",
    "sendcmpct",
];

/// Something a target may say.
#[derive(Debug, Clone)]
enum Said {
    /// Bytes that are no message.
    Bytes(Vec<u8>),
    /// A framed payload of noise.
    Message(usize, Vec<u8>),
    /// A genuine message of the stub's chain, cut short and with a byte changed perhaps.
    Genuine { which: usize, height: u32, cut: Option<u16>, flip: Option<u16> },
    /// Time passes, seconds.
    Wait(u16),
}

fn said() -> impl Strategy<Value = Said> {
    let change = || proptest::option::weighted(0.2, any::<u16>());
    prop_oneof![
        1 => vec(any::<u8>(), 0..60).prop_map(Said::Bytes),
        4 => (0..COMMANDS.len(), vec(any::<u8>(), 0..200)).prop_map(|(at, bytes)| Said::Message(at, bytes)),
        8 => (0..9usize, 0..30u32, change(), change())
            .prop_map(|(which, height, cut, flip)| Said::Genuine { which, height, cut, flip }),
        1 => (0..100u16).prop_map(Said::Wait),
    ]
}

fn genuine(chain: &StubChain, which: usize, height: u32) -> (&'static str, Vec<u8>) {
    let block = chain.at(height).unwrap();
    let headers = |from: u32| {
        let mut out = Vec::new();
        let list: Vec<[u8; 80]> =
            (from..=chain.height()).filter_map(|at| Some(*chain.at(at)?.header())).collect();
        write::headers(&mut out, MAGIC, list.iter());
        out[24..].to_vec()
    };
    match which {
        0 => ("headers", headers(height)),
        1 => ("headers", headers(1)),
        2 => ("block", block.bytes().to_vec()),
        3 => ("cmpctblock", block.cmpct_message()[24..].to_vec()),
        4 => ("blocktxn", block.block_txn_message(&[0]).unwrap()[24..].to_vec()),
        5 => ("cfilter", block.cfilter_message()[24..].to_vec()),
        6 => {
            let hashes: Vec<_> = (0..=height).map(|at| *chain.at(at).unwrap().filter_hash()).collect();
            let mut out = Vec::new();
            write::cfheaders(&mut out, MAGIC, block.hash(), &[0; 32], hashes.iter());
            ("cfheaders", out[24..].to_vec())
        }
        7 => ("tx", bitcoin::consensus::serialize(&block.block().txdata[0])),
        _ => {
            let mut out = Vec::new();
            let inv = breakwater::wire::Inv { kind: breakwater::wire::InvKind::Block, hash: *block.hash() };
            write::inventory(&mut out, MAGIC, "inv", [inv].into_iter());
            ("inv", out[24..].to_vec())
        }
    }
}

/// The handshake of a target that offers everything.
fn greeting() -> Vec<u8> {
    let mut node = breakwater::stub::StubNode::new(StubChain::new(1, 1), 1, Default::default());
    let id = breakwater::stub::PeerId(1);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    node.connected(Instant(1), id, at);
    let mut hello = Vec::new();
    let version = breakwater::wire::Version {
        version: 70_016,
        services: breakwater::wire::Services::empty(),
        time: 0,
        receiver: at,
        nonce: 1,
        user_agent: b"",
        start_height: 0,
        relay: true,
    };
    write::version(&mut hello, MAGIC, &version);
    node.received(Instant(1), id, &hello);
    let mut out = Vec::new();
    while let Some(output) = node.next_output() {
        if let breakwater::stub::node::Output::Send(_, bytes) = output {
            out.extend_from_slice(&bytes);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_behaviour_panics(script in vec(said(), 1..40), cuts in vec(1..400usize, 1..20), greeted in any::<bool>()) {
        let mut chain = StubChain::new(1, 1_700_000_000);
        chain.grow(30, 1_700_000_100);
        let greeting = greeting();
        for kind in KINDS {
            let shared = Shared::new(1, MAGIC);
            let (origins, mut known) = (Origins::default(), Known::default());
            let (mut tally, mut rng) = (Tally::default(), SmallRng::seed_from_u64(1));
            let mut client = Client::new((kind.make)(&Options { nth: 3, ..Options::default() }));
            let mut now = Instant(1);
            let mut input = Vec::new();
            let mut out = Vec::new();
            let mut step = |client: &mut Client, now: Instant, input: &mut Vec<u8>, act: u8| {
                out.clear();
                let mut cx = Context {
                    now,
                    ping_every: std::time::Duration::ZERO,
                    unix_start: 1_700_000_000,
                    magic: MAGIC,
                    framing: breakwater::wire::Framing::V1(MAGIC),
                    target: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                    number: 1,
                    out: &mut out,
                    tally: &mut tally,
                    shared: &shared,
                    origins: &origins,
                    known: &mut known,
                    rng: &mut rng,
                };
                let flow = match act {
                    0 => client.start(&mut cx),
                    1 if client.next_wake() <= now => client.wake(&mut cx),
                    1 => Flow::Go,
                    _ => {
                        let (used, flow) = client.received(&mut cx, input);
                        input.drain(..used);
                        flow
                    }
                };
                assert!(out.len() < 4_000_000, "{}: {} bytes at once", kind.name, out.len());
                if flow != Flow::Go {
                    // A new connection, as the engine would make one.
                    client.ended(&mut Tally::default());
                    input.clear();
                }
                flow
            };
            let mut begin = true;
            for said in &script {
                let mut bytes = Vec::new();
                match said {
                    Said::Bytes(raw) => bytes.extend_from_slice(raw),
                    Said::Message(at, payload) => write::raw(&mut bytes, MAGIC, COMMANDS[*at], payload),
                    Said::Genuine { which, height, cut, flip } => {
                        let (command, mut payload) = genuine(&chain, *which, *height);
                        if let Some(cut) = cut {
                            payload.truncate(usize::from(*cut));
                        }
                        if let Some(flip) = flip {
                            let at = usize::from(*flip) % payload.len().max(1);
                            payload.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
                        }
                        write::raw(&mut bytes, MAGIC, command, &payload);
                    }
                    Said::Wait(secs) => now = now + Duration::from_secs(u64::from(*secs)),
                }
                if begin {
                    begin = step(&mut client, now, &mut input, 0) != Flow::Go;
                    if greeted && !begin {
                        input.extend_from_slice(&greeting);
                        begin = step(&mut client, now, &mut input, 2) != Flow::Go;
                    }
                }
                let mut cut = cuts.iter().cycle();
                let mut rest = &bytes[..];
                while !rest.is_empty() && !begin {
                    let (part, more) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                    rest = more;
                    input.extend_from_slice(part);
                    begin = step(&mut client, now, &mut input, 2) != Flow::Go;
                }
                if !begin {
                    begin = step(&mut client, now, &mut input, 1) != Flow::Go;
                }
            }
        }
    }
}
