//! Conformance of record layer and alerts.

/// x
pub fn tlslite() {}

/// x
pub fn tlsfuzzer() {}
