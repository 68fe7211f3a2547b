//! Between the hub and one shard: two lock-free SPSC queues and a doorbell each way.
//!
//! Entries are small values; what is large travels as `Bytes` or `Arc`. Both queues are bounded. When the queue to
//! a shard is full the hub keeps the entry in its own outbox for that shard (see `hub::outbox`); when the queue to
//! the hub is full the shard keeps the entry with the client, which is not read meanwhile (see `shard::hub_link`).

mod admin;
mod clock;
mod doorbell;
mod histogram;
mod house;
mod message;
mod pair;

pub use admin::{Action, Ask, AskId, ClientInfo, Filter, NewService, Rules, Told, Who};
pub use clock::monotonic;
pub use doorbell::Doorbell;
pub use histogram::{BOUNDS, Histogram};
pub use house::{Came, Changed, Gone, HouseOrder, HouseReport, HouseRules, Rank, Standing, Step, Used};
pub use message::{
    Answer, AskTx, Extent, Policy, ServiceReport, ShardReport, SlotGrants, ToHub, ToShard, Want, WantId,
};
pub use pair::{HubEnd, ShardEnd, pair};
