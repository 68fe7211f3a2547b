//! Room client (being built).
