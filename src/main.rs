//! The binary: parse, one match, call.

fn main() {}
