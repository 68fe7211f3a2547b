//! The room against rustls as the other side, and against itself.

mod auth;
mod handshake;
mod limits;
mod peers;
mod records;
mod support;
mod tickets;

/// A shard's thread gets its acceptor, and a rig's its clients, from another thread.
#[test]
fn everything_can_be_handed_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<super::Acceptor>();
    is_send::<super::Handshake>();
    is_send::<super::Session>();
    is_send::<super::Client>();
    is_send::<std::sync::Arc<super::Server>>();
}
