//! The hub: between the full nodes behind and the shards in front.
//!
//! - `brain`: the logic, one sans-IO state machine; the simulator runs it unchanged
//! - `session`: one link to a node, sans-IO
//! - `chain`, `mempool`, `compact`, `submissions`: its data structures
//! - `store`: its files
//! - `command`: what an operator asks of it
//! - `desk`: gathers the shards' answers to it
//! - `count`: how its counters are described
//! - `state`: small files beside the store: bans
//! - `outbox`: what waits for a slow shard
//! - `driver`: tokio-uring; sockets, clocks, doorbell

pub mod brain;
pub mod chain;
pub mod command;
pub mod compact;
mod count;
pub mod desk;
pub mod driver;
pub mod mempool;
pub mod outbox;
pub mod session;
pub mod state;
pub mod store;
pub mod submissions;
pub mod treasury;

pub use brain::{Hub, HubConfig, HubCounters, HubEvent, Input, LinkId, NodeAddr, Output, Speak};
