//! Room hub (being built).
