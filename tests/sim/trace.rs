//! What happened, one dense line per event, hashed as it goes.
//!
//! Two runs of one seed are the same run exactly when their hashes are equal. Lines are kept only as far as asked
//! (the head for the snapshot) and printed only for a replay.

use std::fmt::{self, Write};

use breakwater::base::Instant;

/// Lines of the head kept for the snapshot.
const HEAD: usize = 60;

/// The trace of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: u64,
    head: Vec<String>,
    /// True exactly when every line goes to standard error at once.
    print: bool,
    buffer: String,
}

impl Trace {
    /// An empty trace; `print`: show each line at once.
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, print, ..Trace::default() }
    }

    /// Adds a line.
    pub fn line(&mut self, now: Instant, args: fmt::Arguments<'_>) {
        self.buffer.clear();
        let us = now.0 / 1_000;
        let _ = write!(self.buffer, "{:>5}.{:06} {args}", us / 1_000_000, us % 1_000_000);
        for byte in self.buffer.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.lines += 1;
        if self.head.len() < HEAD {
            self.head.push(self.buffer.clone());
        }
        if self.print {
            eprintln!("{}", self.buffer);
        }
    }

    /// FNV-1a of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of lines.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The first lines.
    pub fn head(&self) -> &[String] {
        &self.head
    }
}
