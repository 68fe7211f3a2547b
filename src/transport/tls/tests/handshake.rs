//! Handshakes: full, resumed, refused.

use super::support::*;
use crate::transport::tls::*;

#[test]
fn full_then_resumed_by_the_same_ticket_again_and_again() {
    let server = server(&plain_setup());
    let acceptor = Acceptor::new(&server);
    let client = any_client(2);
    let mut pair = connect(&acceptor, &client, true).unwrap();
    assert!(!pair.server.is_resumed() && !pair.client.is_resumed());
    carry(&mut pair.server, &mut pair.client, b"to the client");
    carry(&mut pair.client, &mut pair.server, &[7; 100_000]);
    assert_eq!(client.tickets(), 1);
    let other = Acceptor::new(&server);
    for _ in 0..5 {
        let mut pair = connect(&other, &client, true).unwrap();
        assert!(pair.server.is_resumed() && pair.client.is_resumed());
        carry(&mut pair.server, &mut pair.client, b"to the client");
        carry(&mut pair.client, &mut pair.server, b"to the server");
    }
    assert_eq!(client.tickets(), 2);
    assert!(!connect(&other, &client, false).unwrap().server.is_resumed());
}
