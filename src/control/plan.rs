//! The memory plan: what a configuration costs, as arithmetic.

use std::fmt::Write as _;

use super::Config;
use crate::admission::RECENT;
use crate::base::limits::{
    HEARD_TX, MAX_HANDSHAKES, RECV_BUFFER, SEEN_TX, SQ_ENTRIES, TO_HUB_QUEUE, TO_SHARD_QUEUE, TX_LOG,
    TX_LOG_BYTES,
};
use crate::base::sizes::{cq_entries, recv_buffers};
use crate::link::{Gone, ToHub, ToShard};
use crate::ring::CONN_BYTES;
use crate::shard::client_sizes;
use crate::transport::{tls, v2};

/// Bytes the kernel keeps per idle TCP connection and its armed poll, measured on Linux 6.18
/// (tcp_sock, inode, file, dentry and the rest 3,670; io_kiocb of a poll 256).
pub const KERNEL_PER_CLIENT: u64 = 3_670 + 256;

/// When the memory of a line is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// With each client, idle as it may be.
    Client,
    /// From the start.
    Start,
    /// With use, up to the bound.
    Use,
}

/// A line of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What.
    pub what: String,
    /// When.
    pub when: When,
    /// How many of them.
    pub count: u64,
    /// Bytes each.
    pub each: u64,
}

impl Row {
    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.count * self.each
    }
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Bytes per idle client in our own memory.
    pub user_per_client: u64,
    /// What is taken at the most, with every bound reached at once.
    pub rows: Vec<Row>,
}

/// Bytes of a TLS handshake in progress: rustls's connection and our flight, measured.
pub const HANDSHAKE_BYTES: u64 = 4_096;

/// What a plan is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Clients in all.
    pub clients: u64,
    /// Shards.
    pub shards: u64,
    /// Bound of the mempool, bytes.
    pub mempool_bytes: u64,
    /// Buffers of a shard, bytes.
    pub buffer_bytes: u64,
    /// Keys of a client in the dearest transport it may use, bytes.
    pub session_bytes: u64,
    /// Transport handshakes in progress, all shards together.
    pub handshakes: u64,
}

impl Demand {
    /// For this many clients of a configuration.
    pub fn new(config: &Config, clients: u64) -> Demand {
        let session_bytes = match (config.tls.listen.is_empty(), config.v2) {
            (false, _) => size_of::<tls::Session>(),
            (true, true) => size_of::<v2::Session>(),
            (true, false) => 0,
        };
        let share = config.handshakes.share(config.shards as u32);
        Demand {
            clients,
            shards: config.shards as u64,
            mempool_bytes: config.mempool_bytes as u64,
            buffer_bytes: config.buffer_bytes as u64,
            session_bytes: session_bytes as u64,
            // TLS and BIP324 each.
            handshakes: 2 * u64::from(share.most) * config.shards as u64,
        }
    }
}

/// Bytes of our own memory for an idle plain client.
pub fn user_per_client() -> u64 {
    let sizes = client_sizes();
    let size = |name: &str| sizes.iter().find(|(n, _)| *n == name).map_or(0, |(_, size)| *size as u64);
    // A timer entry is in a vector that doubles, and a slot that was used keeps up to as much again.
    size("table slot") + 2 * size("timer entry") + CONN_BYTES as u64
}

/// Makes the plan.
pub fn plan(demand: Demand) -> Plan {
    let Demand { clients: max_clients, shards, mempool_bytes, buffer_bytes, .. } = demand;
    let user_per_client = user_per_client();
    let each = u32::try_from(max_clients.div_ceil(shards.max(1))).unwrap_or(u32::MAX);
    let receive = u64::from(recv_buffers(each)) * RECV_BUFFER as u64;
    let rings = u64::from(SQ_ENTRIES) * 64 + u64::from(cq_entries(each)) * 16;
    let queues = (TO_SHARD_QUEUE * size_of::<ToShard>() + TO_HUB_QUEUE * size_of::<ToHub>()) as u64;
    let row =
        |what: &str, when: When, count: u64, each: u64| Row { what: what.to_string(), when, count, each };
    let rows = vec![
        row("idle client, our memory", When::Client, max_clients, user_per_client),
        row("idle client, kernel socket and armed poll", When::Client, max_clients, KERNEL_PER_CLIENT),
        row("keys of a client, if all are encrypted", When::Client, max_clients, demand.session_bytes),
        row("place of a free session in the order of who goes", When::Use, max_clients, 2 * 20),
        row(
            "what the hub is told of clients that leave at once",
            When::Use,
            max_clients,
            size_of::<Gone>() as u64,
        ),
        row("what hosts owe, shared", When::Use, RECENT as u64, 150),
        row("transport handshakes in progress", When::Use, demand.handshakes, HANDSHAKE_BYTES),
        row("handshake order, per shard", When::Use, shards, (MAX_HANDSHAKES * 8) as u64),
        row("receive buffers, per shard", When::Start, shards, receive),
        row("rings, per shard", When::Start, shards, rings),
        row("queues from and to the hub, per shard", When::Start, shards, queues),
        row("buffers for replies, files and long messages, per shard", When::Use, shards, buffer_bytes),
        row("hashes of transactions seen, per shard", When::Use, shards, SEEN_TX as u64 * 2 * 20),
        row("who announced a transaction, per shard", When::Use, shards, HEARD_TX as u64 * 2 * 120),
        row("index of announced transactions, per shard", When::Use, shards, TX_LOG as u64 * 2 * 48),
        row("bytes of announced transactions, shared", When::Use, 1, TX_LOG_BYTES as u64),
        row(
            "mempool with its indexes (half as much again), shared",
            When::Use,
            1,
            mempool_bytes + mempool_bytes / 2,
        ),
        row("recent blocks, shared", When::Use, crate::base::limits::RECENT_BLOCKS as u64, 2 * 4_000_000),
        row("indexes of the chain (2,000,000 headers; records are mapped)", When::Use, 2_000_000, 8),
    ];
    Plan { user_per_client, rows }
}

impl Plan {
    /// Bytes in all, every bound reached.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(Row::total).sum()
    }

    /// Bytes taken at these times.
    pub fn taken(&self, when: &[When]) -> u64 {
        self.rows.iter().filter(|row| when.contains(&row.when)).map(Row::total).sum()
    }

    /// The plan as a table.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{:<62} {:>10} x {:>12} = {:>12}", "what", "count", "bytes each", "total");
        for row in &self.rows {
            let total = human(row.total());
            let _ = writeln!(out, "{:<62} {:>10} x {:>12} = {:>12}", row.what, row.count, row.each, total);
        }
        let _ =
            writeln!(out, "{:<62} {:>40}", "in all, with every bound reached at once", human(self.total()));
        let _ = writeln!(out, "{:<62} {:>40}", "our memory per idle client, bytes", self.user_per_client);
        out
    }
}

/// Bytes the way people read them.
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_idle_clients_fit_their_promise() {
        let plan = plan(Demand {
            clients: 1_000_000,
            shards: 2,
            mempool_bytes: 300_000_000,
            buffer_bytes: 64_000_000,
            session_bytes: 300,
            handshakes: 8_192,
        });
        assert!(plan.user_per_client <= 300, "{}", plan.user_per_client);
        assert!(plan.user_per_client + KERNEL_PER_CLIENT <= 4_600);
        assert!(plan.table().lines().count() == plan.rows.len() + 3);
    }
}
