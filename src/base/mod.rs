//! What every room shares: limits, identities, time, and the reasons a connection ends.
//!
//! Imports nothing of the crate. Holds no logic beyond arithmetic.

pub mod end;
pub mod fault;
pub mod ids;
pub mod limits;
pub mod rank;
pub mod sizes;
pub mod time;

pub use end::End;
pub use fault::Fault;
pub use ids::{ClientId, ClientRef, Conn, Nonces, ShardId};
pub use rank::{Class, ServiceId, Tags};
pub use time::{Instant, Millis, UnixTime};
