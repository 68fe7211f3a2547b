//! Room hub (being built).

pub mod chain;
