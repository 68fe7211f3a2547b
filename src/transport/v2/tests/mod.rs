//! BIP324's test vectors, and our side against the crate `bip324`.

mod handshake;
mod meeting;
mod packets;
mod splits;
mod vectors;

use super::keys::derive;
use super::session::Session;
use crate::transport::Role;
use crate::wire::{Command, Framing, Magic, Step, write};

const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

/// Both ends of an open session.
fn pair() -> (Session, Session) {
    let end = |role| Session::new(derive(role, MAGIC, &[7; 32]).unwrap());
    (end(Role::Initiator), end(Role::Responder))
}

/// A v1 frame.
fn frame(name: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::raw(&mut out, MAGIC, name, payload);
    out
}

/// What stands in an opened stream.
fn messages(mut plain: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while !plain.is_empty() {
        match Framing::V2.split(plain) {
            Step::Message { command, payload, used } => {
                found.push((command.name().to_owned(), payload.to_vec()));
                plain = &plain[used..];
            }
            other => panic!("{other:?} in an opened stream"),
        }
    }
    found
}

/// The same of a stream of v1 frames.
fn frames(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Step::Message { command, payload, used } = Framing::V1(MAGIC).split(bytes) {
        let Command(_) = command;
        found.push((command.name().to_owned(), payload.to_vec()));
        bytes = &bytes[used..];
    }
    assert!(bytes.is_empty());
    found
}

/// Opens everything.
fn open_all(session: &mut Session, mut bytes: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let opened = session.open(&mut bytes).unwrap();
    assert_eq!(opened.used, bytes.len());
    messages(&bytes[..opened.plain])
}
