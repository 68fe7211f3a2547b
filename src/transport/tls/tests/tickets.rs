//! Tickets: across shards, restarts, reloads, relays and time.

use std::sync::Arc;

use super::super::tickets::PERIOD;
use super::support::*;
use crate::transport::tls::*;

/// Some time in 2026, in the middle of a period.
const NOW: u64 = 82_000 * PERIOD + PERIOD / 2;

fn with_secret(secret: Option<Pem>) -> Setup {
    Setup { ticket_secret: secret, ..plain_setup() }
}

fn secret() -> Option<Pem> {
    Some(Pem::Text("  00112233445566778899aabbccddeeff\n00112233445566778899AABBCCDDEEFF\n".into()))
}

fn at(setup: &Setup, clock: &Arc<Clock>) -> Arc<Server> {
    Server::with_clock(setup, None, clock.clone()).unwrap()
}

/// True exactly when a ticket of the first is taken by the second.
fn passes(from: &Arc<Server>, to: &Arc<Server>, between: impl FnOnce()) -> bool {
    let client = any_client(1);
    connect(&Acceptor::new(from), &client, false).unwrap();
    between();
    connect(&Acceptor::new(to), &client, true).unwrap().server.is_resumed()
}

#[test]
fn a_ticket_is_good_for_its_period_and_the_next() {
    for setup in [with_secret(None), with_secret(secret())] {
        for (later, good) in
            [(0, true), (PERIOD / 2, true), (PERIOD, true), (PERIOD * 3 / 2, false), (PERIOD * 9, false)]
        {
            let clock = Clock::at(NOW);
            let server = at(&setup, &clock);
            assert_eq!(passes(&server, &server, || clock.add(later)), good, "{later}");
            // And the next ones are good again.
            assert!(passes(&server, &server, || {}));
        }
    }
}

#[test]
fn one_acceptor_goes_through_many_periods() {
    for setup in [with_secret(None), with_secret(secret())] {
        let clock = Clock::at(NOW);
        let server = at(&setup, &clock);
        let (acceptor, other) = (Acceptor::new(&server), Acceptor::new(&server));
        let client = any_client(1);
        connect(&acceptor, &client, true).unwrap();
        for round in 0..10 {
            clock.add(PERIOD);
            // The ticket of the period before is taken; the one kept then goes stale, and a full handshake brings a new one.
            let shard = if round % 2 == 0 { &other } else { &acceptor };
            let resumed = connect(shard, &client, true).unwrap().server.is_resumed();
            assert_eq!(resumed, round % 2 == 0);
        }
        // Years asleep, or a clock that is set back, cost full handshakes and nothing else.
        clock.add(PERIOD * 1_000_000);
        assert!(!connect(&acceptor, &client, true).unwrap().server.is_resumed());
        assert!(connect(&other, &client, true).unwrap().server.is_resumed());
        clock.0.store(NOW, std::sync::atomic::Ordering::Relaxed);
        connect(&acceptor, &client, true).unwrap();
        assert!(connect(&other, &client, true).unwrap().server.is_resumed());
    }
}

#[test]
fn a_secret_is_shared_by_relays_and_survives_a_restart() {
    let clock = Clock::at(NOW);
    let one = at(&with_secret(secret()), &clock);
    let two = at(&with_secret(secret()), &clock);
    assert!(passes(&one, &two, || {}));
    // The same secret as it is, and another one.
    let raw = "0123456789abcdefghijklmnopqrstuvwxyz";
    let other = at(&with_secret(Some(Pem::Text(raw.into()))), &clock);
    assert!(!passes(&one, &other, || {}));
    assert!(passes(&other, &at(&with_secret(Some(Pem::Text(raw.into()))), &clock), || {}));
    // Clocks that differ by one period, either way.
    for (from, to, good) in
        [(NOW, NOW + PERIOD, true), (NOW + PERIOD, NOW, true), (NOW + 2 * PERIOD, NOW, false)]
    {
        let (from, to) =
            (at(&with_secret(secret()), &Clock::at(from)), at(&with_secret(secret()), &Clock::at(to)));
        assert_eq!(passes(&from, &to, || {}), good);
    }
}

#[test]
fn random_keys_are_nobody_elses() {
    let clock = Clock::at(NOW);
    assert!(!passes(&at(&with_secret(None), &clock), &at(&with_secret(None), &clock), || {}));
}

#[test]
fn a_reload_keeps_the_tickets_unless_the_secret_changed() {
    let other = Some(Pem::Text("ff".repeat(40)));
    for (first, second, good) in [
        (None, None, true),
        (secret(), secret(), true),
        (secret(), other, false),
        (None, secret(), false),
        (secret(), None, false),
    ] {
        // The certificates are others too.
        let before = server(&with_secret(first));
        let after = Server::load(&with_secret(second), Some(&before)).unwrap();
        assert_eq!(passes(&before, &after, || {}), good);
    }
}

#[test]
fn a_ticket_is_for_the_name_it_was_given_under() {
    let ca = Ca::new();
    let certificates = vec![ca.sign(&["localhost"]), ca.sign(&["other.example"])];
    let server = server(&Setup { certificates, ..Setup::default() });
    assert!(passes(&server, &server, || {}));
    // rustls keeps to RFC 6066: another name begins anew; our client knows one name only, so this is the server's own memory.
    let client = any_client(1);
    connect(&Acceptor::new(&server), &client, false).unwrap();
    assert_eq!(client.tickets(), 1);
}
