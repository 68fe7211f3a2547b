//! A real light client, the crate bip157, with the relay as its only peer and bcoin behind it.

mod real;
mod support;

#[test]
fn light_client_lives_behind_the_relay() {
    real::light_client::whole_life(support::node::Kind::Bcoin);
}

#[test]
fn light_client_lives_behind_the_relay_in_v2() {
    real::encrypted::light_client(support::node::Kind::Bcoin);
}
