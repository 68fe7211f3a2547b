//! Reads along on one client's connection and knows what must not happen there.
//!
//! It trusts neither the relay nor the stub client: it takes both byte streams apart itself. What it demands: no
//! transaction announced to who wants none, or before a node accepted it; no block announced that no node accepted, nor
//! to a filter client before its filter can be served; every request answered in the end.

use std::collections::BTreeMap;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use breakwater::stub::MAGIC;
use breakwater::wire::{self, Hash, Inv, Message, Step, sha256d};

use super::truth::{Truth, short};

/// A question and what would answer it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Question {
    Ping(u64),
    Headers,
    Data(Hash),
    BlockTxn(Hash),
    CFilters(Hash),
    CFHeaders(Hash),
    CFCheckpt(Hash),
}

/// The reader.
#[derive(Debug, Default)]
pub struct Witness {
    up: Vec<u8>,
    down: Vec<u8>,
    /// True exactly when the client's `version` asked for transactions.
    relay: bool,
    /// True exactly when the client has asked for filters.
    filters: bool,
    open: BTreeMap<Question, u32>,
    /// Transactions announced to the client.
    pub tx_invs: u64,
    /// Blocks announced to the client, in whatever form.
    pub block_news: u64,
    /// Messages from the relay.
    pub messages: u64,
}

impl Witness {
    /// The client sends.
    pub fn sent(&mut self, bytes: &[u8]) {
        let mut up = std::mem::take(&mut self.up);
        up.extend_from_slice(bytes);
        let _ = each(&mut up, |message| {
            self.question(&message);
            Ok(())
        });
        self.up = up;
    }

    fn question(&mut self, message: &Message<'_>) {
        match message {
            Message::Version(version) => self.relay = version.relay,
            Message::Ping(nonce) => self.ask(Question::Ping(*nonce)),
            Message::GetHeaders { .. } => self.ask(Question::Headers),
            Message::GetData(list) => list.iter().for_each(|inv| self.ask(Question::Data(inv.hash))),
            Message::GetBlockTxn { block, .. } => self.ask(Question::BlockTxn(*block)),
            Message::GetCFilters { stop, .. } => {
                self.filters = true;
                self.ask(Question::CFilters(*stop));
            }
            Message::GetCFHeaders { stop, .. } => {
                self.filters = true;
                self.ask(Question::CFHeaders(*stop));
            }
            Message::GetCFCheckpt { stop, .. } => {
                self.filters = true;
                self.ask(Question::CFCheckpt(*stop));
            }
            _ => {}
        }
    }

    /// The relay's bytes reach the client.
    pub fn got(&mut self, bytes: &[u8], truth: &Truth) -> Result<(), String> {
        let mut down = std::mem::take(&mut self.down);
        down.extend_from_slice(bytes);
        let result = each(&mut down, |message| self.answer(&message, truth));
        self.down = down;
        result
    }

    fn answer(&mut self, message: &Message<'_>, truth: &Truth) -> Result<(), String> {
        self.messages += 1;
        match message {
            Message::Pong(nonce) if !self.close(Question::Ping(*nonce)) => {
                return Err(format!("pong {nonce} answers no ping"));
            }
            Message::Headers(list) => {
                if !self.close(Question::Headers) {
                    for header in list.iter() {
                        self.block_announced(&sha256d(header), truth)?;
                    }
                }
            }
            Message::Inv(list) => {
                for inv in list.iter() {
                    self.announced(inv, truth)?;
                }
            }
            Message::NotFound(list) => {
                for inv in list.iter() {
                    if !self.close(Question::Data(inv.hash)) {
                        return Err(format!("notfound {} answers no getdata", short(&inv.hash)));
                    }
                }
            }
            Message::Block(payload) => {
                let hash = sha256d(&payload[..80]);
                if !self.close(Question::Data(hash)) && !self.close(Question::BlockTxn(hash)) {
                    return Err(format!("block {} that was not asked for", short(&hash)));
                }
            }
            Message::CmpctBlock(payload) => {
                let hash = sha256d(&payload[..80]);
                if !self.close(Question::Data(hash)) {
                    self.block_announced(&hash, truth)?;
                }
            }
            Message::BlockTxn(payload) => {
                let hash: Hash = payload[..32].try_into().unwrap();
                self.close(Question::BlockTxn(hash));
            }
            Message::Tx(payload) => self.transaction(payload)?,
            Message::CFilter { block, .. } => _ = self.close(Question::CFilters(*block)),
            Message::CFHeaders { stop, .. } => _ = self.close(Question::CFHeaders(*stop)),
            Message::CFCheckpt { stop, .. } => _ = self.close(Question::CFCheckpt(*stop)),
            _ => {}
        }
        Ok(())
    }

    fn transaction(&mut self, payload: &[u8]) -> Result<(), String> {
        let tx: bitcoin::Transaction = deserialize(payload).map_err(|e| format!("a tx that does not decode: {e}"))?;
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        if !self.close(Question::Data(txid)) && !self.close(Question::Data(wtxid)) {
            return Err(format!("transaction {} that was not asked for", short(&txid)));
        }
        Ok(())
    }

    fn announced(&mut self, inv: Inv, truth: &Truth) -> Result<(), String> {
        if !inv.kind.is_tx() {
            return self.block_announced(&inv.hash, truth);
        }
        self.tx_invs += 1;
        if !self.relay {
            return Err(format!("transaction {} announced to a relay=0 client", short(&inv.hash)));
        }
        if !truth.is_accepted(&inv.hash) {
            return Err(format!("transaction {} announced before a node accepted it", short(&inv.hash)));
        }
        Ok(())
    }

    fn block_announced(&mut self, hash: &Hash, truth: &Truth) -> Result<(), String> {
        self.block_news += 1;
        let Some(height) = truth.height(hash) else {
            return Err(format!("block {} announced before a node accepted it", short(hash)));
        };
        if self.filters && !truth.is_served(hash) {
            return Err(format!("block {} at {height} announced to a filter client before its filter", short(hash)));
        }
        Ok(())
    }

    fn ask(&mut self, question: Question) {
        *self.open.entry(question).or_default() += 1;
    }

    /// True exactly when the question was open.
    fn close(&mut self, question: Question) -> bool {
        let Some(count) = self.open.get_mut(&question) else { return false };
        *count -= 1;
        if *count == 0 {
            self.open.remove(&question);
        }
        true
    }

    /// Questions without an answer so far.
    pub fn unanswered(&self) -> Vec<String> {
        self.open.iter().map(|(question, count)| format!("{count} x {}", name(question))).collect()
    }
}

fn name(question: &Question) -> String {
    match question {
        Question::Ping(nonce) => format!("ping {nonce}"),
        Question::Headers => "getheaders".into(),
        Question::Data(hash) => format!("getdata {}", short(hash)),
        Question::BlockTxn(hash) => format!("getblocktxn {}", short(hash)),
        Question::CFilters(hash) => format!("getcfilters to {}", short(hash)),
        Question::CFHeaders(hash) => format!("getcfheaders to {}", short(hash)),
        Question::CFCheckpt(hash) => format!("getcfcheckpt to {}", short(hash)),
    }
}

/// Takes whole messages off the front of a stream.
pub fn each(
    stream: &mut Vec<u8>,
    mut handle: impl FnMut(Message<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = 0;
    let result = loop {
        match wire::split(MAGIC, &stream[at..]) {
            Step::Need(_) => break Ok(()),
            Step::Message { command, payload, used } => {
                at += used;
                let parsed = wire::parse(&command, payload).map_err(|e| format!("bad {}: {e}", command.name()));
                if let Err(error) = parsed.and_then(&mut handle) {
                    break Err(error);
                }
            }
            other => break Err(format!("a stream that is not whole messages: {other:?}")),
        }
    };
    stream.drain(..at);
    result
}
