//! Room shard (being built).
