//! Room stub (being built).
