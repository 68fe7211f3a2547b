//! The relay in front of a real full node, bcoin (npm, 1.0.2), on regtest. The scenarios are in tests/real/.

mod real;
mod support;

use support::node::Kind::Bcoin;

#[test]
fn client_syncs_headers_and_blocks() {
    real::blocks::sync(Bcoin);
}

#[test]
fn new_blocks_are_announced_in_each_form() {
    real::blocks::new_block(Bcoin);
}

#[test]
fn clients_follow_a_reorganisation_of_one_block() {
    real::blocks::reorganisation(Bcoin, 1);
}

#[test]
fn clients_follow_a_reorganisation_of_twelve_blocks() {
    real::blocks::reorganisation(Bcoin, 12);
}

#[test]
fn transaction_of_a_client_reaches_node_and_others() {
    real::transactions::client_to_node(Bcoin);
}

#[test]
fn parent_and_child_reach_the_node() {
    real::transactions::parent_and_child(Bcoin);
}

#[test]
fn second_announcer_is_asked_when_the_first_is_silent() {
    real::transactions::silent_announcer(Bcoin);
}

#[test]
fn refused_transaction_is_not_announced() {
    real::transactions::refused(Bcoin);
}

#[test]
fn transaction_of_the_node_reaches_all_but_relay_0() {
    real::transactions::node_to_clients(Bcoin);
}

#[test]
fn filters_equal_those_of_the_node() {
    real::filters::served(Bcoin);
}

#[test]
fn node_is_killed_and_restarted() {
    real::outages::node_restarts(Bcoin);
}

#[test]
fn relay_is_killed_and_restarted() {
    real::outages::relay_restarts(Bcoin);
}

#[test]
fn one_of_two_nodes_dies() {
    real::outages::one_of_two_dies(Bcoin);
}

#[test]
fn one_of_two_nodes_hangs() {
    real::outages::one_of_two_hangs(Bcoin);
}

#[test]
fn signals_end_the_relay_in_time() {
    real::outages::stops(Bcoin);
}

#[test]
fn a_node_without_v2_is_met_in_v1() {
    real::encrypted::fallback(Bcoin);
}
