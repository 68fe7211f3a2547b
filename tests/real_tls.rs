//! Real TLS clients that we did not write, in front of the relay's TLS listener, and conformance suites. The scenarios are
//! in tests/tls_peers/. Needs openssl, python3, gnutls-cli and tlslite-ng, which ci/install-peers installs; tlsfuzzer with
//! TLSFUZZER=/path/to/checkout, without which its test says that it tested nothing.

mod support;
mod tls_peers;

use tls_peers::{gnutls, native, openssl, operator, python, suites};

#[test]
fn openssl_full_handshake() {
    openssl::full();
}

#[test]
fn openssl_resumes() {
    openssl::resumed();
}

#[test]
fn openssl_updates_keys() {
    openssl::key_updates();
}

#[test]
fn openssl_with_old_versions_is_refused() {
    openssl::old_versions_are_refused();
}

#[test]
fn openssl_with_each_suite() {
    openssl::suites();
}

#[test]
fn openssl_with_padded_and_small_records() {
    openssl::records();
}

#[test]
fn openssl_with_each_group() {
    openssl::groups();
}

#[test]
fn openssl_with_alpn() {
    openssl::alpn();
}

#[test]
fn openssl_asks_for_names() {
    openssl::names();
}

#[test]
fn openssl_sees_close_notify() {
    openssl::close_notify_of_a_relay_that_ends();
}

#[test]
fn openssl_with_client_certificates() {
    openssl::client_certificates();
}

#[test]
fn gnutls_full_handshake() {
    gnutls::full();
}

#[test]
fn gnutls_resumes() {
    gnutls::resumed();
}

#[test]
fn gnutls_with_each_suite() {
    gnutls::suites();
}

#[test]
fn gnutls_with_small_records() {
    gnutls::small_records();
}

#[test]
fn gnutls_with_an_old_version_is_refused() {
    gnutls::old_version_is_refused();
}

#[test]
fn python_lives_and_reuses_sessions() {
    python::lives_and_reuses_sessions();
}

#[test]
fn rustls_lives_resumes_and_updates_keys() {
    native::lives();
}

#[test]
fn tickets_are_good_on_every_shard() {
    native::resumes_across_shards();
}

#[test]
fn tickets_outlive_a_restart_with_a_key_file() {
    operator::tickets_outlive_a_restart();
}

#[test]
fn a_restart_without_a_key_file_forgets_tickets() {
    operator::without_the_file_a_restart_forgets();
}

#[test]
fn a_fleet_shares_tickets() {
    operator::a_fleet_shares_tickets();
}

#[test]
fn reload_shows_the_new_certificate_and_keeps_everybody() {
    operator::reload();
}

#[test]
fn broken_reload_is_named_and_changes_nothing() {
    operator::broken_reload();
}

#[test]
fn tickets_do_not_go_around_client_certificates() {
    operator::tickets_do_not_go_around_client_certificates();
}

#[test]
fn conformance_on_tlslite() {
    suites::tlslite();
}

#[test]
fn conformance_by_tlsfuzzer() {
    suites::tlsfuzzer();
}
