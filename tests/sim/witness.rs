//! Reads along on one client's connection and knows what must not happen there.
//!
//! It trusts neither the relay nor the stub client: it takes both byte streams apart itself. What it demands: no
//! transaction announced to who wants none, or before a node accepted it; no block announced that no node accepted, nor
//! to a filter client before its filter can be served; every request answered in the end.

use std::collections::BTreeMap;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use breakwater::base::limits::MAX_HEADERS_ANNOUNCE;
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
    /// True exactly when the client has been given filters or their headers, so that the relay knows what it is.
    filters: bool,
    open: BTreeMap<Question, u32>,
    /// `headers` messages taken for an answer that may have been announcements, so that the answer is still to come.
    doubtful: u32,
    /// Names of the messages since [`Witness::take_log`], for the trace.
    log: String,
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
        self.jot(message);
        match message {
            Message::Version(version) => self.relay = version.relay,
            Message::Ping(nonce) => self.ask(Question::Ping(*nonce)),
            Message::GetHeaders { .. } => self.ask(Question::Headers),
            Message::GetData(list) => list.iter().for_each(|inv| self.ask(Question::Data(inv.hash))),
            Message::GetBlockTxn { block, .. } => self.ask(Question::BlockTxn(*block)),
            Message::GetCFilters { stop, .. } => self.ask(Question::CFilters(*stop)),
            Message::GetCFHeaders { stop, .. } => self.ask(Question::CFHeaders(*stop)),
            Message::GetCFCheckpt { stop, .. } => self.ask(Question::CFCheckpt(*stop)),
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
        self.jot(message);
        match message {
            Message::Pong(nonce) if !self.close(Question::Ping(*nonce)) => {
                return Err(format!("pong {nonce} answers no ping"));
            }
            Message::Headers(list) => {
                let like_news = (1..=MAX_HEADERS_ANNOUNCE).contains(&list.len());
                if self.close(Question::Headers) {
                    self.doubtful += u32::from(like_news);
                } else if self.doubtful > 0 {
                    self.doubtful -= u32::from(!like_news);
                } else {
                    for header in list.iter() {
                        self.block_announced("headers", &sha256d(header), truth)?;
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
                    self.block_announced("cmpctblock", &hash, truth)?;
                }
            }
            Message::BlockTxn(payload) => {
                let hash: Hash = payload[..32].try_into().unwrap();
                self.close(Question::BlockTxn(hash));
            }
            Message::Tx(payload) => self.transaction(payload)?,
            Message::CFilter { .. } => self.filters_given(|q| matches!(q, Question::CFilters(_))),
            Message::CFHeaders { .. } => self.filters_given(|q| matches!(q, Question::CFHeaders(_))),
            Message::CFCheckpt { .. } => self.filters_given(|q| matches!(q, Question::CFCheckpt(_))),
            _ => {}
        }
        Ok(())
    }

    fn jot(&mut self, message: &Message<'_>) {
        let text = match message {
            Message::Headers(list) => {
                let last =
                    list.iter().last().map_or_else(|| "none".to_owned(), |header| short(&sha256d(header)));
                format!("headers {} to {last} ", list.len())
            }
            Message::Inv(list) => {
                let last = list.iter().last().map_or_else(|| "none".to_owned(), |inv| short(&inv.hash));
                format!("inv {} to {last} ", list.len())
            }
            Message::GetData(list) => {
                let first = list.iter().next().map_or_else(|| "none".to_owned(), |inv| short(&inv.hash));
                format!("getdata {} from {first} ", list.len())
            }
            Message::NotFound(list) => format!("notfound {} ", list.len()),
            Message::GetCFHeaders { start, stop, .. } => format!("getcfheaders {start} {} ", short(stop)),
            Message::GetCFilters { start, stop, .. } => format!("getcfilters {start} {} ", short(stop)),
            Message::Block(payload) => format!("block {} ", short(&sha256d(&payload[..80]))),
            Message::CFilter { .. } => ". ".to_owned(),
            other => format!("{other:?}").split(['(', ' ', '{']).next().unwrap_or("").to_lowercase() + " ",
        };
        self.log.push_str(&text);
    }

    /// The messages since the last call, by name.
    pub fn take_log(&mut self) -> String {
        std::mem::take(&mut self.log)
    }

    /// While a filter is late the relay gives no answer (and counts it); the client asks again, perhaps for more. Whether
    /// it has all filters in the end is checked with the client itself.
    fn filters_given(&mut self, same: impl Fn(&Question) -> bool) {
        self.filters = true;
        self.open.retain(|question, _| !same(question));
    }

    fn transaction(&mut self, payload: &[u8]) -> Result<(), String> {
        let tx: bitcoin::Transaction =
            deserialize(payload).map_err(|e| format!("a tx that does not decode: {e}"))?;
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        if !self.close(Question::Data(txid)) && !self.close(Question::Data(wtxid)) {
            return Err(format!("transaction {} that was not asked for", short(&txid)));
        }
        Ok(())
    }

    fn announced(&mut self, inv: Inv, truth: &Truth) -> Result<(), String> {
        if !inv.kind.is_tx() {
            return self.block_announced("inv", &inv.hash, truth);
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

    fn block_announced(&mut self, form: &str, hash: &Hash, truth: &Truth) -> Result<(), String> {
        self.block_news += 1;
        let Some(height) = truth.height(hash) else {
            return Err(format!("block {} announced by {form} before a node accepted it", short(hash)));
        };
        if self.filters && !truth.is_served(hash) {
            return Err(format!(
                "block {} at {height} announced by {form} to a filter client before its filter",
                short(hash)
            ));
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

    /// Questions without an answer so far. Filters and single transactions of a block that has left the best chain are
    /// not given.
    pub fn unanswered(&self, truth: &Truth) -> Vec<String> {
        let due = |question: &Question| match question {
            Question::CFilters(block)
            | Question::CFHeaders(block)
            | Question::CFCheckpt(block)
            | Question::BlockTxn(block) => truth.is_best(block),
            _ => true,
        };
        self.open
            .iter()
            .filter(|(question, _)| due(question))
            .map(|(question, count)| format!("{count} x {}", name(question)))
            .collect()
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
                let parsed =
                    wire::parse(&command, payload).map_err(|e| format!("bad {}: {e}", command.name()));
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
