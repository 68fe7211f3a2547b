//! One client, sans-IO: what a message means for it, what it is told, when it is due.
//!
//! A message goes in with the instant; out come replies appended to a buffer and at most one [`Effect`]
//! for the shard, which knows the chain, the transactions and the hub. This room knows none of them.
//!
//! ```text
//!   accept --> AwaitVersion --version--> AwaitVerack --verack--> Ready --> (ended by the shard)
//!                   |  60 s                  |  60 s               | ping unanswered 20 min,
//!                   +--> HandshakeTimeout <--+                     | send or message too slow
//! ```

#![forbid(unsafe_code)]

mod account;
mod handshake;
mod message;
mod state;

pub use account::Account;
pub use handshake::Greeting;
pub use message::{Effect, handle};
pub use state::{Client, Due, Flags, PeerAddr};
