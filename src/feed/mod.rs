//! What is announced, and how far each client has heard it.
//!
//! - `chain_view`: an immutable picture of the best chain, replaced at each tip
//! - `news`: what one announcement carries
//! - `blocks`, `txs`: bounded logs of announcements; a client is a cursor into them, not a queue
//! - `seen`: hashes heard lately; `heard`: from which clients

#![forbid(unsafe_code)]

pub mod blocks;
pub mod chain_view;
pub mod heard;
pub mod news;
pub mod seen;
pub mod txs;

pub use blocks::{Announcement, BlockLog, Form};
pub use chain_view::{ChainView, FilterRecord, Frozen, Record};
pub use heard::Heard;
pub use news::{BadIndex, BlockNews, TxNews};
pub use seen::Seen;
pub use txs::{TxAnnouncement, TxLog};
