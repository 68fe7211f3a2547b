//! Room admission (being built).
