//! Room ring (being built).
