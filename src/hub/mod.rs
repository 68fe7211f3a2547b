//! Room hub (being built).

pub mod chain;
pub mod mempool;
