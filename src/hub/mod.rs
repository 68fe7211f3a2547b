//! Room hub (being built).

pub mod store;
