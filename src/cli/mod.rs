//! Room cli (being built).
