//! What is announced, and how far each client has heard it.
//!
//! - `chain_view`: an immutable picture of the best chain, replaced at each tip
//! - `news`: what one announcement carries
//! - `log`: bounded logs of announcements; a client is a cursor into them, not a queue
//! - `seen`: hashes heard lately

#![forbid(unsafe_code)]

pub mod chain_view;
pub mod news;

pub use chain_view::{ChainView, Frozen, Record};
pub use news::{BadIndex, BlockNews, TxNews};
