//! Payloads as borrowed views.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::read::{Reader, WireError};
use super::{Command, Hash};
use crate::base::limits::{MAX_ADDR, MAX_HEADERS, MAX_INV, MAX_LOCATOR, MAX_USER_AGENT};

bitflags::bitflags! {
    /// Service bits of `version` and addresses.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Services: u64 {
        /// Every block of the chain can be had.
        const NETWORK = 1;
        /// BIP37 bloom filters.
        const BLOOM = 1 << 2;
        /// Witness data (BIP144).
        const WITNESS = 1 << 3;
        /// Compact filters of the whole chain (BIP157).
        const COMPACT_FILTERS = 1 << 6;
        /// The last 288 blocks (BIP159).
        const NETWORK_LIMITED = 1 << 10;
        /// Encrypted transport (BIP324).
        const P2P_V2 = 1 << 11;
        const _ = !0;
    }
}

/// What an inventory entry names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvKind {
    /// A transaction by txid, to be given without witness.
    Tx,
    /// A transaction by txid, with witness.
    WitnessTx,
    /// A transaction by wtxid (BIP339).
    Wtx,
    /// A block without witness.
    Block,
    /// A block with witness.
    WitnessBlock,
    /// A compact block (BIP152).
    CompactBlock,
    /// A filtered block (BIP37), which is not served.
    FilteredBlock,
    /// Anything else.
    Other(u32),
}

impl InvKind {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            InvKind::Tx => 1,
            InvKind::Block => 2,
            InvKind::FilteredBlock => 3,
            InvKind::CompactBlock => 4,
            InvKind::Wtx => 5,
            InvKind::WitnessTx => 0x4000_0001,
            InvKind::WitnessBlock => 0x4000_0002,
            InvKind::Other(n) => n,
        }
    }

    /// The kind of a number.
    pub fn of(number: u32) -> InvKind {
        match number {
            1 => InvKind::Tx,
            2 => InvKind::Block,
            3 => InvKind::FilteredBlock,
            4 => InvKind::CompactBlock,
            5 => InvKind::Wtx,
            0x4000_0001 => InvKind::WitnessTx,
            0x4000_0002 => InvKind::WitnessBlock,
            n => InvKind::Other(n),
        }
    }

    /// True exactly when it names a transaction.
    pub fn is_tx(self) -> bool {
        matches!(self, InvKind::Tx | InvKind::WitnessTx | InvKind::Wtx)
    }
}

/// An inventory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inv {
    /// What it names.
    pub kind: InvKind,
    /// By which hash.
    pub hash: Hash,
}

/// The entries of inv, getdata or notfound.
#[derive(Clone, Copy, Debug)]
pub struct InvList<'a>(&'a [u8]);

impl<'a> InvList<'a> {
    /// Bytes of one entry.
    pub const ENTRY: usize = 36;

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len() / Self::ENTRY
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Inv> + use<'a> {
        self.0.as_chunks::<36>().0.iter().map(|entry| {
            let mut hash = [0u8; 32];
            hash.copy_from_slice(&entry[4..]);
            Inv { kind: InvKind::of(u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]])), hash }
        })
    }

    /// The entries as bytes, [`InvList::ENTRY`] each.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whole entries kept from an earlier message; a torn last one is dropped.
    pub fn from_bytes(entries: &'a [u8]) -> InvList<'a> {
        InvList(&entries[..entries.len() - entries.len() % Self::ENTRY])
    }

    fn read(r: &mut Reader<'a>) -> Result<InvList<'a>, WireError> {
        let count = r.count(MAX_INV)?;
        Ok(InvList(r.bytes(count * Self::ENTRY)?))
    }
}

/// Hashes in a row.
#[derive(Clone, Copy, Debug)]
pub struct HashList<'a>(&'a [u8]);

impl<'a> HashList<'a> {
    /// Number of hashes.
    pub fn len(&self) -> usize {
        self.0.len() / 32
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hashes in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a Hash> + use<'a> {
        self.0.as_chunks::<32>().0.iter()
    }

    fn read(r: &mut Reader<'a>, most: usize) -> Result<HashList<'a>, WireError> {
        let count = r.count(most)?;
        Ok(HashList(r.bytes(count * 32)?))
    }
}

/// The headers of a `headers` message.
#[derive(Clone, Copy, Debug)]
pub struct HeaderList<'a>(&'a [u8]);

impl<'a> HeaderList<'a> {
    /// Number of headers.
    pub fn len(&self) -> usize {
        self.0.len() / 81
    }

    /// True exactly when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers in order, 80 bytes each.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8; 80]> + use<'a> {
        self.0.as_chunks::<81>().0.iter().filter_map(|entry| entry.first_chunk::<80>())
    }

    fn read(r: &mut Reader<'a>) -> Result<HeaderList<'a>, WireError> {
        let count = r.count(MAX_HEADERS)?;
        Ok(HeaderList(r.bytes(count * 81)?))
    }
}

/// A `version` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Protocol version.
    pub version: u32,
    /// What the sender serves.
    pub services: Services,
    /// Unix time of the sender, seconds.
    pub time: i64,
    /// The address the sender sees us at, with the services it believes we have.
    pub receiver: SocketAddr,
    /// Random number to detect a connection to oneself.
    pub nonce: u64,
    /// Name of the sender's software (BIP14).
    pub user_agent: &'a [u8],
    /// The sender's best height.
    pub start_height: i32,
    /// Whether the sender wants transactions announced (BIP37); true when absent.
    pub relay: bool,
}

/// A message as a client or a node sends it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Message<'a> {
    Version(Version<'a>),
    Verack,
    WtxidRelay,
    SendAddrV2,
    /// BIP434; ignored.
    Feature,
    SendHeaders,
    SendCmpct {
        announce: bool,
        version: u64,
    },
    /// In satoshi per 1,000 virtual bytes.
    FeeFilter(u64),
    Ping(u64),
    Pong(u64),
    GetHeaders {
        locator: HashList<'a>,
        stop: Hash,
    },
    GetBlocks {
        locator: HashList<'a>,
        stop: Hash,
    },
    Headers(HeaderList<'a>),
    Inv(InvList<'a>),
    GetData(InvList<'a>),
    NotFound(InvList<'a>),
    Tx(&'a [u8]),
    Block(&'a [u8]),
    CmpctBlock(&'a [u8]),
    /// The payload; see [`block_txn_indexes`].
    GetBlockTxn {
        block: Hash,
        indexes: &'a [u8],
    },
    BlockTxn(&'a [u8]),
    GetCFilters {
        filter_type: u8,
        start: u32,
        stop: Hash,
    },
    CFilter {
        filter_type: u8,
        block: Hash,
        filter: &'a [u8],
    },
    GetCFHeaders {
        filter_type: u8,
        start: u32,
        stop: Hash,
    },
    CFHeaders {
        filter_type: u8,
        stop: Hash,
        previous: Hash,
        hashes: HashList<'a>,
    },
    GetCFCheckpt {
        filter_type: u8,
        stop: Hash,
    },
    CFCheckpt {
        filter_type: u8,
        stop: Hash,
        headers: HashList<'a>,
    },
    GetAddr,
    /// The payload and the number of its addresses.
    Addr(&'a [u8], usize),
    /// The payload and the number of its addresses.
    AddrV2(&'a [u8], usize),
    Mempool,
    /// filterload, filteradd, filterclear (BIP37).
    Bloom,
    Unknown(Command),
}

/// Reads a payload. Bytes behind the last field are ignored, as Bitcoin Core does.
pub fn parse<'a>(command: &Command, payload: &'a [u8]) -> Result<Message<'a>, WireError> {
    let r = &mut Reader::new(payload);
    Ok(match command.name() {
        "version" => Message::Version(read_version(r)?),
        "verack" => Message::Verack,
        "wtxidrelay" => Message::WtxidRelay,
        "sendaddrv2" => Message::SendAddrV2,
        "feature" => Message::Feature,
        "sendheaders" => Message::SendHeaders,
        "sendcmpct" => Message::SendCmpct { announce: r.u8()? != 0, version: r.u64()? },
        "feefilter" => Message::FeeFilter(r.u64()?),
        "ping" => Message::Ping(r.u64()?),
        "pong" => Message::Pong(r.u64()?),
        "getheaders" => {
            r.u32()?;
            Message::GetHeaders { locator: HashList::read(r, MAX_LOCATOR)?, stop: r.array()? }
        }
        "getblocks" => {
            r.u32()?;
            Message::GetBlocks { locator: HashList::read(r, MAX_LOCATOR)?, stop: r.array()? }
        }
        "headers" => Message::Headers(HeaderList::read(r)?),
        "inv" => Message::Inv(InvList::read(r)?),
        "getdata" => Message::GetData(InvList::read(r)?),
        "notfound" => Message::NotFound(InvList::read(r)?),
        "tx" => Message::Tx(payload),
        "block" => Message::Block(payload),
        "cmpctblock" => Message::CmpctBlock(payload),
        "getblocktxn" => Message::GetBlockTxn { block: r.array()?, indexes: r.rest() },
        "blocktxn" => Message::BlockTxn(payload),
        "getcfilters" => Message::GetCFilters { filter_type: r.u8()?, start: r.u32()?, stop: r.array()? },
        "cfilter" => {
            let (filter_type, block) = (r.u8()?, r.array()?);
            let length = r.count(crate::base::limits::MAX_MESSAGE)?;
            Message::CFilter { filter_type, block, filter: r.bytes(length)? }
        }
        "getcfheaders" => Message::GetCFHeaders { filter_type: r.u8()?, start: r.u32()?, stop: r.array()? },
        "cfheaders" => Message::CFHeaders {
            filter_type: r.u8()?,
            stop: r.array()?,
            previous: r.array()?,
            hashes: HashList::read(r, crate::base::limits::MAX_CFHEADERS as usize)?,
        },
        "getcfcheckpt" => Message::GetCFCheckpt { filter_type: r.u8()?, stop: r.array()? },
        "cfcheckpt" => Message::CFCheckpt {
            filter_type: r.u8()?,
            stop: r.array()?,
            headers: HashList::read(r, crate::base::limits::MAX_MESSAGE / 32)?,
        },
        "getaddr" => Message::GetAddr,
        "addr" => Message::Addr(payload, r.count(MAX_ADDR)?),
        "addrv2" => Message::AddrV2(payload, r.count(MAX_ADDR)?),
        "mempool" => Message::Mempool,
        "filterload" | "filteradd" | "filterclear" => Message::Bloom,
        _ => Message::Unknown(*command),
    })
}

fn read_version<'a>(r: &mut Reader<'a>) -> Result<Version<'a>, WireError> {
    let version = r.u32()?;
    let services = Services::from_bits_retain(r.u64()?);
    let time = i64::from_le_bytes(r.array()?);
    r.u64()?;
    let ip = Ipv6Addr::from(r.array::<16>()?);
    let port = u16::from_be_bytes(r.array()?);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    let receiver = SocketAddr::new(ip, port);
    // Very old peers end here; Bitcoin Core reads the rest only when it is there.
    let mut out = Version {
        version,
        services,
        time,
        receiver,
        nonce: 0,
        user_agent: b"",
        start_height: 0,
        relay: true,
    };
    if r.rest().is_empty() {
        return Ok(out);
    }
    r.bytes(26)?;
    out.nonce = r.u64()?;
    if !r.rest().is_empty() {
        let length = r.count(MAX_USER_AGENT).map_err(|_| WireError::Short)?;
        out.user_agent = r.bytes(length)?;
    }
    if !r.rest().is_empty() {
        out.start_height = i32::from_le_bytes(r.array()?);
    }
    if !r.rest().is_empty() {
        out.relay = r.u8()? != 0;
    }
    Ok(out)
}

/// The transaction indexes of a getblocktxn, turned from differences into positions (BIP152).
/// At most as many as a block can hold transactions; an overflow reads as [`WireError::TooMany`].
pub fn block_txn_indexes(indexes: &[u8]) -> Result<Vec<u32>, WireError> {
    let r = &mut Reader::new(indexes);
    let count = r.count(crate::base::limits::MAX_MESSAGE / 60)?;
    if count > r.rest().len() {
        return Err(WireError::Short);
    }
    let mut out = Vec::with_capacity(count);
    let mut next = 0u64;
    for _ in 0..count {
        let position = next.saturating_add(r.compact()?);
        out.push(u32::try_from(position).map_err(|_| WireError::TooMany(position))?);
        next = position + 1;
    }
    Ok(out)
}
