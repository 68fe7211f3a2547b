//! What the demo shows: a live view that redraws in place on a terminal, a line every two seconds elsewhere, and the
//! summary.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::board::{Numbers, Over};
use super::clients::name;
use super::relay::Addresses;
use super::transport::Transport;
use crate::base::limits::TX_INTERVAL;
use crate::cli::live::{Live, Room};
use crate::control::plan::{self, KERNEL_PER_CLIENT, human};
use crate::transport::{tls, v2};

/// From one redraw to the next.
const LIVE_EVERY: Duration = Duration::from_millis(500);
/// From one line to the next.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where it is shown.
#[derive(Debug)]
pub(super) struct View {
    begun: std::time::Instant,
    /// What stands on the terminal; `None` where lines are written.
    live: Option<Live>,
}

impl View {
    /// Lines when asked for, and where standard output is no terminal.
    pub(super) fn new(plain: bool) -> View {
        let live = !plain && std::io::stdout().is_terminal();
        View { live: live.then(Live::new), begun: std::time::Instant::now() }
    }

    /// From one `show` to the next.
    pub(super) fn pause(&self) -> Duration {
        if self.live.is_some() { LIVE_EVERY } else { LINE_EVERY }
    }

    /// Says what runs where.
    pub(super) fn begin(&mut self, relay: Addresses, node: SocketAddr, clients: usize, span: Duration) {
        self.begun = std::time::Instant::now();
        let head = format!(
            "breakwater demo: relay at {}, with TLS at {}, regtest stub node at {node}, {clients} clients, {} s (Ctrl-C ends earlier)",
            relay.open,
            relay.tls,
            span.as_secs()
        );
        put(std::slice::from_ref(&head));
    }

    /// Says how the relay can be asked while it runs.
    pub(super) fn admin(&self, socket: &std::path::Path) {
        put(&[format!("see into it: breakwater ctl --socket {} clients", socket.display())]);
    }

    /// Shows how it stands.
    pub(super) fn show(&mut self, numbers: &Numbers) {
        let seconds = self.begun.elapsed().as_secs();
        match &mut self.live {
            None => put(&[line(seconds, numbers)]),
            Some(live) => put_raw(&live.redraw(&table(seconds, numbers), Room::of(&std::io::stdout()))),
        }
    }

    /// The summary. `followed`: when all had settled; `last`: after the relay's end, with its last report.
    pub(super) fn end(&mut self, followed: &Numbers, last: &Numbers, stopped: bool) {
        put(&summary(self.begun.elapsed(), followed, last, stopped));
    }
}

/// A reader that has gone away is no reason to end with an error.
fn put(lines: &[String]) {
    put_raw(&(lines.join("\n") + "\n"));
}

fn put_raw(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(seconds: u64, n: &Numbers) -> String {
    format!(
        "{seconds:>4} s  clients {}/{} ready {}  {}  blocks {} mined {} heard, {}  transactions {} + {} submitted, {} accepted, {}  \
         idle client {}, RSS {}  relay in {} out {}  errors {}",
        n.connected,
        n.followers.len(),
        n.ready(),
        transports(n),
        n.mined,
        n.block_delay.len(),
        delays(&n.block_delay),
        n.node_txs,
        n.wallet_txs,
        n.node.txs_accepted,
        delays(&n.node_tx_delay),
        bytes_each(),
        human(rss()),
        human(n.counter("bytes_in")),
        human(n.counter("bytes_out")),
        n.broken.values().sum::<u64>(),
    )
}

fn table(seconds: u64, n: &Numbers) -> Vec<String> {
    let row = |what: &str, value: String| format!("  {what:<24} {value}");
    vec![
        row("time", format!("{seconds} s")),
        row("clients", format!("{} connected, {} ready of {}", n.connected, n.ready(), n.followers.len())),
        row("  at the relay, over", transports(n)),
        row("at the node's tip", format!("{} clients at height {}", n.following(), n.height)),
        row("blocks", format!("{} mined, heard {} times", n.mined, n.block_delay.len())),
        row("  mined to heard", delays(&n.block_delay)),
        row(
            "transactions",
            format!(
                "{} by the node; {} submitted by wallets, {} of them accepted",
                n.node_txs, n.wallet_txs, n.node.txs_accepted
            ),
        ),
        row("  accepted to heard", delays(&n.node_tx_delay)),
        row("  submitted to heard", delays(&n.wallet_tx_delay)),
        row("filters", format!("{} verified, {} blocks fetched", filters(n), n.fetched)),
        row("ping to pong", delays(&n.pong_delay)),
        row(
            "idle client, planned",
            format!("{} of the relay, {KERNEL_PER_CLIENT} B of the kernel", bytes_each()),
        ),
        row("memory", format!("{} RSS of this process (relay, node and clients)", human(rss()))),
        row(
            "relay",
            format!(
                "{} shards, in {}, out {}, {} transactions in its mempool",
                n.shards(),
                human(n.counter("bytes_in")),
                human(n.counter("bytes_out")),
                n.relay.mempool
            ),
        ),
        row("node", format!("{} links from the relay", n.node_peers)),
        row("errors", n.broken.values().sum::<u64>().to_string()),
    ]
}

fn summary(span: Duration, n: &Numbers, last: &Numbers, stopped: bool) -> Vec<String> {
    let all = n.followers.len();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    n.followers.iter().for_each(|follower| *kinds.entry(name(follower.kind)).or_default() += 1);
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} of kind {kind}")).collect();
    let by_transport = Transport::ALL.map(|transport| {
        let (name, Over { clients, at_tip, heard }) = (transport.name(), n.over(transport));
        format!("{clients} clients over {name} heard of blocks {heard} times, {at_tip} of them of every one")
    });
    let yes = |good: bool| if good { "yes" } else { "no" };
    let mut lines = vec![
        String::new(),
        format!(
            "Summary after {:.1} s{}: {} of {all} clients became ready ({}).",
            span.as_secs_f64(),
            if stopped { ", ended by a signal" } else { "" },
            n.ready(),
            kinds.join(", ")
        ),
        format!(
            "The node mined {} blocks up to height {}; clients heard of them {} times, {}. Every client heard every block: {}.",
            n.mined,
            n.height,
            n.block_delay.len(),
            delays(&n.block_delay),
            yes(n.ready() == all && n.following() == all)
        ),
        format!("By transport: {}. TLS sessions: {}.", by_transport.join("; "), handshakes(last)),
        format!(
            "The node made {} transactions; clients heard of them {} times, {} after it had accepted them (the relay gathers them for {} ms).",
            n.node_txs,
            n.node_tx_delay.len(),
            delays(&n.node_tx_delay),
            TX_INTERVAL.as_millis()
        ),
        format!(
            "Wallets submitted {} transactions through the relay and the node accepted {}; other clients heard of them {} times, {}.",
            n.wallet_txs,
            n.node.txs_accepted,
            n.wallet_tx_delay.len(),
            delays(&n.wallet_tx_delay)
        ),
        format!(
            "Light clients verified {} filters and fetched {} blocks; pings came back {} times, {}.",
            filters(n),
            n.fetched,
            n.pong_delay.len(),
            delays(&n.pong_delay)
        ),
        format!(
            "The node sent {} whole and {} compact blocks and {} filters over {} links, whatever the number of clients.",
            n.node.blocks_served, n.node.compact_served, n.node.filters_served, n.node_peers
        ),
        format!(
            "The relay received {} and sent {} with {} shards, and dropped {} messages of clients; {} links to the node were lost.",
            human(last.counter("bytes_in")),
            human(last.counter("bytes_out")),
            last.shards(),
            last.faults(),
            n.relay.links_lost
        ),
        format!(
            "An idle client is planned with {} of the relay and {KERNEL_PER_CLIENT} B of the kernel; this process, with node and clients in it, has {} resident.",
            bytes_each(),
            human(rss())
        ),
    ];
    match n.complaint() {
        None => lines.push("Nothing broke.".to_owned()),
        Some(complaint) => lines.push(format!("Failed: {complaint}.")),
    }
    lines.extend(n.broken.iter().map(|(reason, count)| format!("  {count} times: {reason}")));
    lines
}

fn filters(n: &Numbers) -> u64 {
    n.followers.iter().map(|follower| u64::from(follower.filters_verified)).sum()
}

fn delays(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "p50 - p99 - max -".to_owned();
    }
    let ms = |micros: u64| format!("{:.2} ms", micros as f64 / 1e3);
    let (half, most) = (histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99));
    format!("p50 {} p99 {} max {}", ms(half), ms(most), ms(histogram.max()))
}

/// Clients connected by transport, and how the TLS sessions came to be; all as the relay counts.
fn transports(n: &Numbers) -> String {
    let counts = Transport::ALL.map(|transport| format!("{} {}", transport.name(), n.accepted(transport)));
    format!("{} ({})", counts.join(" "), handshakes(n))
}

fn handshakes(n: &Numbers) -> String {
    format!("{} full {} resumed", n.counter("tls_full"), n.counter("tls_resumed"))
}

/// Bytes the relay keeps per idle client, by transport.
fn bytes_each() -> String {
    let plain = plan::user_per_client();
    let each =
        Transport::ALL.map(|transport| format!("{} {} B", transport.name(), plain + session(transport)));
    each.join(" ")
}

/// Bytes of a session.
fn session(transport: Transport) -> u64 {
    let bytes = match transport {
        Transport::Plain => 0,
        Transport::V2 => size_of::<v2::Session>(),
        Transport::Tls => size_of::<tls::Session>(),
    };
    bytes as u64
}

/// Resident memory of the process, bytes; 0 where the kernel does not say (proc_pid_status(5), VmRSS).
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}
