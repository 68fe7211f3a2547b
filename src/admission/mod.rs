//! Who gets in, how much it may use, and what it pays for it. Semantics: `../shared/design/capacity.md`.
//!
//! Pure logic: time and seeds are arguments, decisions are values. Nothing here knows of shards, sockets or files; what shards
//! share is handed out by the hub in parts, so nothing is locked.
//!
//! ```text
//!   at accept        bans, per_address, probes, slots        on the shard
//!   a request        cost, flow, throttle (bucket)           on the shard
//!   calibration      fit                                     by `breakwater calibrate`
//!   free clients     free_house (heap, worth), protect (top) on the shard
//!   parts of it all  share, rates                            on the hub
//!   priority clients capacity, house (heap, worth)           on the hub
//!   who has paid     ledger, balance                         on the hub
//!   whose turn       fair                                    on the hub
//!   who is known     identity (networks), json               on both
//! ```

#![forbid(unsafe_code)]

mod balance;
mod bans;
mod bucket;
mod capacity;
mod cost;
mod fair;
mod fit;
mod flow;
mod free_house;
mod heap;
mod house;
mod identity;
mod json;
mod ledger;
mod networks;
mod per_address;
mod probes;
mod protect;
mod rates;
mod share;
mod slots;
mod throttle;
mod top;
mod worth;

pub use balance::{Balance, DECAY, Factors, MAX_BALANCE, Overflow, Priority, Usage};
pub use bans::{Ban, BanError, Bans, MAX_BANS, MAX_REASON};
pub use bucket::Bucket;
pub use capacity::{CapacityLimits, Change, NOTICE, Outcome, TotalCapacity};
pub use cost::{CostError, Costs, Group, Kind, Price};
pub use fair::Fair;
pub use fit::{Fit, Known, Sample, fit};
pub use flow::{Admit, BUFFER_MS, Flow};
pub use free_house::FreeHouse;
pub use house::{CONNECTED_BIAS, House, HouseFull, Newcomer, Seat, Sitter};
pub use identity::{Host, Keying, Keys, PRIORITY_ID, PriorityId, PrioritySet};
pub use json::JsonError;
pub use ledger::{Account, Ledger, LedgerError, MAX_ACCOUNTS, RECENT};
pub use networks::Networks;
pub use per_address::Admission;
pub use probes::{ProbeLimits, Probes, TooOften};
pub use protect::Protected;
pub use rates::{Demand, parts};
pub use share::{Grant, Report, Shares};
pub use slots::{NoSlot, Slots};
pub use throttle::{Limit, Scope, Shared, Throttle};
pub use worth::Worth;
