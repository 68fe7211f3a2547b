//! Can this host carry so many clients? `breakwater doctor` prints the answer, `breakwater run` refuses by it.
//!
//! Three steps, each a value: `knobs` is the table of kernel settings (kernel-tuning/knobs.tsv, which the script
//! `kernel-tuning/apply` reads as well), `facts` is what /proc and /sys say, `judge` makes findings of both. Nothing here changes the
//! host, and nothing but `facts` reads it.

pub mod facts;
pub mod judge;
pub mod knobs;

pub use facts::Facts;
pub use judge::{Finding, Verdict, Wanted, judge};
pub use knobs::{Knob, Severity};
