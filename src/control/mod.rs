//! Room control (being built).
