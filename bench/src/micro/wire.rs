//! Bytes to messages and back.

use std::hint::black_box;
use std::net::SocketAddr;

use breakwater::base::limits::PROTOCOL_VERSION;
use breakwater::wire::{Inv, InvKind, Message, Services, Step, Version, checksum, parse, split, write};

use super::{Round, Subject};
use crate::{MAGIC, Outcome};

pub(super) const ALL: &[Subject] = &[
    one("wire/read ping", || reading(ping())),
    one("wire/read ping, floor: checksum", || summing(ping())),
    one("wire/read ping, floor: copy", || copying(ping())),
    one("wire/read inv of 1", || reading(inv(1))),
    one("wire/read inv of 1, floor: checksum", || summing(inv(1))),
    one("wire/read inv of 1, floor: copy", || copying(inv(1))),
    one("wire/read inv of 1000", || reading(inv(1_000))),
    one("wire/read inv of 1000, floor: checksum", || summing(inv(1_000))),
    one("wire/read inv of 1000, floor: copy", || copying(inv(1_000))),
    one("wire/read headers of 2000", || reading(headers(2_000))),
    one("wire/read headers of 2000, floor: checksum", || summing(headers(2_000))),
    one("wire/read headers of 2000, floor: copy", || copying(headers(2_000))),
    one("wire/read version", || reading(version())),
    one("wire/read version, floor: checksum", || summing(version())),
    one("wire/read version, floor: copy", || copying(version())),
    one("wire/write inv of 1000", || writing(|out| write_inv(out, 1_000))),
    one("wire/write headers of 2000", || writing(|out| write_headers(out, 2_000))),
];

const fn one(name: &'static str, make: fn() -> Outcome<Round>) -> Subject {
    Subject { name, items: 1, make }
}

/// From the stream to the last field or element.
fn reading(bytes: Vec<u8>) -> Outcome<Round> {
    Ok(Box::new(move || {
        let Step::Message { command, payload, used } = split(MAGIC, black_box(&bytes)) else { return };
        black_box(used);
        match parse(&command, payload) {
            Ok(Message::Inv(list)) => list.iter().for_each(|inv| {
                black_box(inv);
            }),
            Ok(Message::Headers(list)) => list.iter().for_each(|header| {
                black_box(header);
            }),
            other => {
                let _ = black_box(other);
            }
        }
    }))
}

/// The payload's checksum, which every reader has to compute.
fn summing(bytes: Vec<u8>) -> Outcome<Round> {
    Ok(Box::new(move || {
        black_box(checksum(black_box(bytes.get(24..).unwrap_or_default())));
    }))
}

/// As many bytes copied.
fn copying(bytes: Vec<u8>) -> Outcome<Round> {
    let mut out = Vec::with_capacity(bytes.len());
    Ok(Box::new(move || {
        out.clear();
        out.extend_from_slice(black_box(&bytes));
        black_box(&out);
    }))
}

fn writing(fill: fn(&mut Vec<u8>)) -> Outcome<Round> {
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        fill(black_box(&mut out));
        black_box(&out);
    }))
}

fn made(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

fn ping() -> Vec<u8> {
    made(|out| write::ping(out, MAGIC, 7))
}

fn write_inv(out: &mut Vec<u8>, count: u32) {
    let entries = (0..count).map(|n| Inv { kind: InvKind::Wtx, hash: [n as u8; 32] });
    write::inventory(out, MAGIC, "inv", entries);
}

fn inv(count: u32) -> Vec<u8> {
    made(|out| write_inv(out, count))
}

fn write_headers(out: &mut Vec<u8>, count: usize) {
    static HEADER: [u8; 80] = [9; 80];
    write::headers(out, MAGIC, std::iter::repeat_n(&HEADER, count));
}

fn headers(count: usize) -> Vec<u8> {
    made(|out| write_headers(out, count))
}

/// As a wallet says it; `blank` says it, too.
pub(super) fn version() -> Vec<u8> {
    let version = Version {
        version: PROTOCOL_VERSION,
        services: Services::empty(),
        time: 1_700_000_000,
        receiver: SocketAddr::from(([127, 0, 0, 1], 8333)),
        nonce: 77,
        user_agent: b"/breakwater-micro:0.1/",
        start_height: 0,
        relay: true,
    };
    made(|out| write::version(out, MAGIC, &version))
}
