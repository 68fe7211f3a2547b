//! Messages to bytes: each function appends one whole v1 message to a buffer.

use std::net::{IpAddr, SocketAddr};

use super::{Command, Hash, Inv, Magic, Version, checksum};
use crate::base::limits::HEADER_LEN;

/// Appends a message whose payload `fill` writes.
pub fn message(out: &mut Vec<u8>, magic: Magic, command: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&magic);
    out.extend_from_slice(&Command::new(command).0);
    out.extend_from_slice(&[0; 8]);
    fill(out);
    let payload = &out[start + HEADER_LEN..];
    let (length, sum) = (payload.len() as u32, checksum(payload));
    out[start + 16..start + 20].copy_from_slice(&length.to_le_bytes());
    out[start + 20..start + 24].copy_from_slice(&sum);
}

/// Appends a message that has its payload already.
pub fn raw(out: &mut Vec<u8>, magic: Magic, command: &str, payload: &[u8]) {
    message(out, magic, command, |out| out.extend_from_slice(payload));
}

/// Appends a message without payload: verack, wtxidrelay, sendaddrv2, sendheaders, getaddr, mempool.
pub fn empty(out: &mut Vec<u8>, magic: Magic, command: &str) {
    message(out, magic, command, |_| {});
}

/// Appends a compact size in its shortest form.
pub fn compact(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0xfc => out.push(n as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(n as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
}

/// Appends the 26 bytes of an address without time: services, IPv6 or mapped IPv4, port.
pub fn address(out: &mut Vec<u8>, services: u64, at: SocketAddr) {
    out.extend_from_slice(&services.to_le_bytes());
    let ip = match at.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&at.port().to_be_bytes());
}

/// Appends services, network, address and port as in `addrv2`, without time (BIP155).
pub fn address_v2(out: &mut Vec<u8>, services: u64, at: SocketAddr) {
    compact(out, services);
    match at.ip() {
        IpAddr::V4(ip) => {
            out.extend_from_slice(&[1, 4]);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.extend_from_slice(&[2, 16]);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&at.port().to_be_bytes());
}

/// Appends `version`. The sender's own address is left empty, as Bitcoin Core does.
pub fn version(out: &mut Vec<u8>, magic: Magic, v: &Version<'_>) {
    message(out, magic, "version", |out| {
        out.extend_from_slice(&v.version.to_le_bytes());
        out.extend_from_slice(&v.services.bits().to_le_bytes());
        out.extend_from_slice(&v.time.to_le_bytes());
        address(out, 0, v.receiver);
        out.extend_from_slice(&v.services.bits().to_le_bytes());
        out.extend_from_slice(&[0; 18]);
        out.extend_from_slice(&v.nonce.to_le_bytes());
        compact(out, v.user_agent.len() as u64);
        out.extend_from_slice(v.user_agent);
        out.extend_from_slice(&v.start_height.to_le_bytes());
        out.push(u8::from(v.relay));
    });
}

/// Appends `ping`.
pub fn ping(out: &mut Vec<u8>, magic: Magic, nonce: u64) {
    raw(out, magic, "ping", &nonce.to_le_bytes());
}

/// Appends `pong`.
pub fn pong(out: &mut Vec<u8>, magic: Magic, nonce: u64) {
    raw(out, magic, "pong", &nonce.to_le_bytes());
}

/// Appends `feefilter`, satoshi per 1,000 virtual bytes.
pub fn fee_filter(out: &mut Vec<u8>, magic: Magic, rate: u64) {
    raw(out, magic, "feefilter", &rate.to_le_bytes());
}

/// Appends `sendcmpct`.
pub fn send_cmpct(out: &mut Vec<u8>, magic: Magic, announce: bool, version: u64) {
    message(out, magic, "sendcmpct", |out| {
        out.push(u8::from(announce));
        out.extend_from_slice(&version.to_le_bytes());
    });
}

/// Appends an inventory message: `inv`, `getdata` or `notfound`.
pub fn inventory<I>(out: &mut Vec<u8>, magic: Magic, command: &str, entries: I)
where
    I: ExactSizeIterator<Item = Inv>,
{
    message(out, magic, command, |out| {
        compact(out, entries.len() as u64);
        for entry in entries {
            out.extend_from_slice(&entry.kind.number().to_le_bytes());
            out.extend_from_slice(&entry.hash);
        }
    });
}

/// Appends `headers`.
pub fn headers<'h, I>(out: &mut Vec<u8>, magic: Magic, list: I)
where
    I: ExactSizeIterator<Item = &'h [u8; 80]>,
{
    message(out, magic, "headers", |out| {
        compact(out, list.len() as u64);
        for header in list {
            out.extend_from_slice(header);
            out.push(0);
        }
    });
}

/// Appends `getheaders` or `getblocks`.
pub fn locator<'h, I>(out: &mut Vec<u8>, magic: Magic, command: &str, hashes: I, stop: &Hash)
where
    I: ExactSizeIterator<Item = &'h Hash>,
{
    message(out, magic, command, |out| {
        out.extend_from_slice(&crate::base::limits::PROTOCOL_VERSION.to_le_bytes());
        compact(out, hashes.len() as u64);
        for hash in hashes {
            out.extend_from_slice(hash);
        }
        out.extend_from_slice(stop);
    });
}

/// Appends `getcfilters` or `getcfheaders` for basic filters.
pub fn filter_request(out: &mut Vec<u8>, magic: Magic, command: &str, start: u32, stop: &Hash) {
    message(out, magic, command, |out| {
        out.push(0);
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(stop);
    });
}

/// Appends `getblocktxn`; `indexes` ascend.
pub fn get_block_txn(out: &mut Vec<u8>, magic: Magic, block: &Hash, indexes: &[u32]) {
    message(out, magic, "getblocktxn", |out| {
        out.extend_from_slice(block);
        compact(out, indexes.len() as u64);
        let mut next = 0;
        for index in indexes {
            compact(out, u64::from(index.saturating_sub(next)));
            next = index + 1;
        }
    });
}

/// Appends `cfilter`.
pub fn cfilter(out: &mut Vec<u8>, magic: Magic, block: &Hash, filter: &[u8]) {
    message(out, magic, "cfilter", |out| {
        out.push(0);
        out.extend_from_slice(block);
        compact(out, filter.len() as u64);
        out.extend_from_slice(filter);
    });
}

/// Appends `cfheaders`.
pub fn cfheaders<'h, I>(out: &mut Vec<u8>, magic: Magic, stop: &Hash, previous: &Hash, hashes: I)
where
    I: ExactSizeIterator<Item = &'h Hash>,
{
    message(out, magic, "cfheaders", |out| {
        out.push(0);
        out.extend_from_slice(stop);
        out.extend_from_slice(previous);
        compact(out, hashes.len() as u64);
        for hash in hashes {
            out.extend_from_slice(hash);
        }
    });
}

/// Appends `cfcheckpt`.
pub fn cfcheckpt<'h, I>(out: &mut Vec<u8>, magic: Magic, stop: &Hash, headers: I)
where
    I: ExactSizeIterator<Item = &'h Hash>,
{
    message(out, magic, "cfcheckpt", |out| {
        out.push(0);
        out.extend_from_slice(stop);
        compact(out, headers.len() as u64);
        for header in headers {
            out.extend_from_slice(header);
        }
    });
}
