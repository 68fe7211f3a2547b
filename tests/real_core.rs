//! The relay in front of Bitcoin Core, and Bitcoin Core as the relay's client, on regtest. The scenarios are in
//! tests/real/. Needs BITCOIND=/path/to/bitcoind; without it every test says that it tested nothing.

mod real;
mod support;

use support::node::Kind;

fn with_core(scenario: impl FnOnce(Kind)) {
    match support::core::bitcoind() {
        Some(_) => scenario(Kind::Core),
        None => println!("NOT TESTED: Bitcoin Core (set BITCOIND=/path/to/bitcoind)"),
    }
}

#[test]
fn client_syncs_headers_and_blocks() {
    with_core(real::blocks::sync);
}

#[test]
fn new_blocks_are_announced_in_each_form() {
    with_core(real::blocks::new_block);
}

#[test]
fn clients_follow_a_reorganisation_of_one_block() {
    with_core(|kind| real::blocks::reorganisation(kind, 1));
}

#[test]
fn clients_follow_a_reorganisation_of_twelve_blocks() {
    with_core(|kind| real::blocks::reorganisation(kind, 12));
}

#[test]
fn transaction_of_a_client_reaches_node_and_others() {
    with_core(real::transactions::client_to_node);
}

#[test]
fn parent_and_child_reach_the_node() {
    with_core(real::transactions::parent_and_child);
}

#[test]
fn second_announcer_is_asked_when_the_first_is_silent() {
    with_core(real::transactions::silent_announcer);
}

#[test]
fn refused_transaction_is_not_announced() {
    with_core(real::transactions::refused);
}

#[test]
fn transaction_of_the_node_reaches_all_but_relay_0() {
    with_core(real::transactions::node_to_clients);
}

#[test]
fn filters_equal_those_of_the_node() {
    with_core(real::filters::served);
}

#[test]
fn node_is_killed_and_restarted() {
    with_core(real::outages::node_restarts);
}

#[test]
fn relay_is_killed_and_restarted() {
    with_core(real::outages::relay_restarts);
}

#[test]
fn one_of_two_nodes_dies() {
    with_core(real::outages::one_of_two_dies);
}

#[test]
fn one_of_two_nodes_hangs() {
    with_core(real::outages::one_of_two_hangs);
}

#[test]
fn signals_end_the_relay_in_time() {
    with_core(real::outages::stops);
}

#[test]
fn light_client_lives_behind_the_relay() {
    with_core(real::light_client::whole_life);
}

#[test]
fn bitcoin_core_syncs_through_the_relay() {
    with_core(|_| real::full_client::initial_block_download());
}

#[test]
fn link_to_bitcoin_core_is_encrypted() {
    with_core(|_| real::encrypted::node_link());
}

#[test]
fn link_to_bitcoin_core_is_plain_when_forced() {
    with_core(|_| real::encrypted::forced_v1());
}

#[test]
fn bitcoin_core_speaks_v2_with_the_relay() {
    with_core(|_| real::encrypted::core_as_client());
}

#[test]
fn light_client_lives_behind_the_relay_in_v2() {
    with_core(real::encrypted::light_client);
}
