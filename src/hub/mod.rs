//! Room hub (being built).

pub mod chain;
pub mod compact;
pub mod mempool;
pub mod submissions;
pub mod store;
