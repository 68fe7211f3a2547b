//! What is counted: records under a key, and what brings nothing.

use super::super::alert::*;
use super::super::session::{ALERT, DATA, MAX_PLAIN};
use super::records::*;
use super::support::*;
use crate::base::End;
use crate::transport::tls::*;

#[test]
fn what_brings_nothing_is_bounded() {
    type Send = fn(&mut Session, &mut Vec<u8>);
    let kinds: [(&str, Send); 4] = [
        ("empty records", |from, out| forge(from, DATA, b"", out)),
        ("key updates", |from, out| from.refresh(out)),
        ("requests for key updates", |from, out| from.refresh_both(out)),
        ("warnings", |from, out| forge(from, ALERT, &[1, USER_CANCELED], out)),
    ];
    for (what, send) in kinds {
        println!("{what}");
        let (mut pair, mut wire) = (pair(), Vec::new());
        for _ in 0..32 {
            send(&mut pair.client, &mut wire);
        }
        pair.client.seal(b"data", &mut wire);
        for _ in 0..32 {
            send(&mut pair.client, &mut wire);
        }
        let (opened, mut reply) = open(&mut pair, &mut wire);
        assert_eq!(opened.unwrap().plain, 4);
        // However many requests came together, one answer.
        assert_eq!(reply.len(), if what == "requests for key updates" { 27 } else { 0 });
        pair.client.open(&mut reply, &mut Vec::new()).unwrap();
        let mut wire = Vec::new();
        send(&mut pair.client, &mut wire);
        refuses(&mut pair, &mut wire, End::TlsLimit, UNEXPECTED_MESSAGE);
    }
}

/// Puts both ends of a direction at this number.
fn jump(from: &mut Session, to: &mut Session, seq: u64) {
    from.tx.jump(seq);
    to.rx.jump(seq);
}

#[test]
fn our_key_is_replaced_before_its_limit() {
    for suite in [Suite::Aes128, Suite::Aes256] {
        let Pair { mut server, mut client } = paired(suite);
        let limit = suite.renew_after();
        jump(&mut server, &mut client, limit - 3);
        let (mut wire, mut reply) = (Vec::new(), Vec::new());
        // Five records; the third would be number 2^24 - 1, so it comes as the first of the next key.
        server.seal(&[5; MAX_PLAIN * 5], &mut wire);
        assert!(wire.len() <= Session::sealed_len(MAX_PLAIN * 5));
        assert_eq!(server.tx.seq(), 3);
        let opened = client.open(&mut wire, &mut reply).unwrap();
        assert_eq!(&wire[..opened.plain], [5; MAX_PLAIN * 5]);
        assert!(reply.is_empty(), "the other direction stays as it is");
        assert_eq!(client.rx.seq(), 3);
    }
}

#[test]
fn the_peers_key_has_to_be_replaced_before_its_limit() {
    let Pair { mut server, mut client } = paired(Suite::Aes128);
    let limit = Suite::Aes128.renew_after();
    jump(&mut client, &mut server, limit - 1);
    let (mut wire, mut asked) = (Vec::new(), Vec::new());
    forge(&mut client, DATA, b"the last one under this key", &mut wire);
    server.open(&mut wire, &mut asked).unwrap();
    assert_eq!(asked.len(), 27, "a request, once");
    for _ in 0..3 {
        let (mut wire, mut again) = (Vec::new(), Vec::new());
        forge(&mut client, DATA, b"on its way", &mut wire);
        server.open(&mut wire, &mut again).unwrap();
        assert!(again.is_empty());
    }
    let mut answer = Vec::new();
    client.open(&mut asked, &mut answer).unwrap();
    server.open(&mut answer, &mut Vec::new()).unwrap();
    assert_eq!(server.rx.seq(), 0);
    carry(&mut client, &mut server, b"under the next key");
    carry(&mut server, &mut client, b"and back");
    // A peer that does not do as it is asked.
    let mut pair = Pair { server, client };
    jump(&mut pair.client, &mut pair.server, Suite::Aes128.end_after() - 1);
    let (mut wire, mut ignored) = (Vec::new(), Vec::new());
    forge(&mut pair.client, DATA, b"one more", &mut wire);
    pair.server.open(&mut wire, &mut ignored).unwrap();
    pair.client.open(&mut ignored, &mut Vec::new()).unwrap();
    pair.server.rx.jump(Suite::Aes128.end_after());
    let mut wire = Vec::new();
    forge(&mut pair.client, DATA, b"too many", &mut wire);
    refuses(&mut pair, &mut wire, End::TlsLimit, UNEXPECTED_MESSAGE);
}

#[test]
fn numbers_never_wrap() {
    let Pair { mut server, mut client } = paired(Suite::ChaCha);
    server.tx.jump(u64::MAX);
    let mut wire = Vec::new();
    forge_fails(&mut server, &mut wire);
    client.rx.jump(u64::MAX);
    let mut reply = Vec::new();
    let mut sealed = vec![DATA, 3, 3, 0, 20];
    sealed.resize(25, 0);
    assert_eq!(client.open(&mut sealed, &mut reply), Err(End::TlsLimit));
}

fn forge_fails(from: &mut Session, out: &mut Vec<u8>) {
    let cipher = from.tx.cipher(from.suite).unwrap();
    assert!(session::record(&mut from.tx, &cipher, DATA, b"x", out).is_err());
}
