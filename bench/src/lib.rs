//! Benchmarks of breakwater: each prints a ratio against a floor measured beside it in the same run.
