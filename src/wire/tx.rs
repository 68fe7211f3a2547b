//! Transactions without decoding them: where one ends in a row of bytes, what its parts are, its two hashes.
//!
//! A block holds thousands of transactions and the relay needs hashes, spent outputs and lengths only; nothing is
//! allocated here. What scripts mean is the node's business.
//!
//! Format: BIP144. A transaction with the witness flag but without any witness is refused, as Bitcoin Core does.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};

use super::read::{Reader, WireError};
use super::{Hash, write};
use crate::base::limits::{HEADER_LEN, MAX_MESSAGE};

/// Fewest bytes of a transaction: version, one input, one output, no scripts, lock time.
pub const MIN_TX: usize = 60;
/// Fewest bytes of an input: outpoint, empty script, sequence.
const MIN_INPUT: usize = 41;
/// Fewest bytes of an output: amount, empty script.
const MIN_OUTPUT: usize = 9;

/// An output named by transaction and position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OutPoint {
    /// The transaction, by txid.
    pub txid: Hash,
    /// Which of its outputs.
    pub output: u32,
}

impl OutPoint {
    /// What a coinbase spends.
    pub const NULL: OutPoint = OutPoint { txid: [0; 32], output: u32::MAX };
}

/// A transaction's parts, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tx<'a> {
    /// All of it, with witness.
    pub bytes: &'a [u8],
    /// Inputs and outputs with their counts: what follows the version (and witness flag).
    body: &'a [u8],
    /// Bytes of `body` that are the inputs with their count.
    inputs_len: usize,
    /// The witness stacks; empty when there is no witness.
    witness: &'a [u8],
}

impl<'a> Tx<'a> {
    /// Reads one transaction from the front; the reader stands behind it afterwards.
    pub fn read(r: &mut Reader<'a>) -> Result<Tx<'a>, WireError> {
        let start = r.rest();
        r.bytes(4)?;
        let flagged = r.rest().starts_with(&[0, 1]);
        if flagged {
            r.bytes(2)?;
        }
        let body_start = r.rest();
        let inputs = r.count(MAX_MESSAGE / MIN_INPUT)?;
        // No input at all without the flag is what Bitcoin Core reads as an unknown flag.
        if inputs == 0 {
            return Err(WireError::Short);
        }
        for _ in 0..inputs {
            r.bytes(36)?;
            skip_string(r)?;
            r.bytes(4)?;
        }
        let inputs_len = body_start.len() - r.rest().len();
        let outputs = r.count(MAX_MESSAGE / MIN_OUTPUT)?;
        for _ in 0..outputs {
            r.bytes(8)?;
            skip_string(r)?;
        }
        let body = &body_start[..body_start.len() - r.rest().len()];
        let witness_start = r.rest();
        let mut any = false;
        if flagged {
            for _ in 0..inputs {
                let items = r.count(MAX_MESSAGE)?;
                any |= items > 0;
                for _ in 0..items {
                    skip_string(r)?;
                }
            }
        }
        let witness = &witness_start[..witness_start.len() - r.rest().len()];
        if flagged && !any {
            return Err(WireError::NonCanonical);
        }
        r.bytes(4)?;
        let bytes = &start[..start.len() - r.rest().len()];
        Ok(Tx { bytes, body, inputs_len, witness })
    }

    /// Reads a payload that is one transaction; bytes behind it are an error.
    pub fn parse(payload: &'a [u8]) -> Result<Tx<'a>, WireError> {
        let r = &mut Reader::new(payload);
        let tx = Tx::read(r)?;
        match r.rest().len() {
            0 => Ok(tx),
            more => Err(WireError::TooMany(more as u64)),
        }
    }

    /// True exactly when it carries witness data.
    pub fn has_witness(&self) -> bool {
        !self.witness.is_empty()
    }

    /// Hash without witness.
    pub fn txid(&self) -> Hash {
        let mut engine = sha256d::Hash::engine();
        self.stripped_parts().iter().for_each(|part| engine.input(part));
        sha256d::Hash::from_engine(engine).to_byte_array()
    }

    /// Hash with witness; the txid when there is none.
    pub fn wtxid(&self) -> Hash {
        super::sha256d(self.bytes)
    }

    /// Weight units: three times the length without witness and once the whole (BIP141).
    pub fn weight(&self) -> usize {
        let stripped: usize = self.stripped_parts().iter().map(|part| part.len()).sum();
        3 * stripped + self.bytes.len()
    }

    /// Appends it without witness.
    pub fn strip_into(&self, out: &mut Vec<u8>) {
        self.stripped_parts().iter().for_each(|part| out.extend_from_slice(part));
    }

    fn stripped_parts(&self) -> [&'a [u8]; 3] {
        [&self.bytes[..4], self.body, &self.bytes[self.bytes.len() - 4..]]
    }

    /// What its inputs spend.
    pub fn spends(&self) -> impl Iterator<Item = OutPoint> + use<'a> {
        let mut r = Reader::new(&self.body[..self.inputs_len]);
        let count = r.compact().unwrap_or(0);
        (0..count).map_while(move |_| {
            let (txid, output) = (r.array().ok()?, r.u32().ok()?);
            skip_string(&mut r).ok()?;
            r.bytes(4).ok()?;
            Some(OutPoint { txid, output })
        })
    }

    /// Number of its outputs.
    pub fn output_count(&self) -> u32 {
        Reader::new(&self.body[self.inputs_len..]).compact().map_or(0, |count| count as u32)
    }

    /// The scripts of its outputs.
    pub fn output_scripts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut r = Reader::new(&self.body[self.inputs_len..]);
        let count = r.compact().unwrap_or(0);
        (0..count).map_while(move |_| {
            r.bytes(8).ok()?;
            string(&mut r).ok()
        })
    }

    /// The witness of its first input, when that has exactly one item: what a coinbase commits with (BIP141).
    pub fn only_witness_item(&self) -> Option<&'a [u8]> {
        let mut r = Reader::new(self.witness);
        match r.compact() {
            Ok(1) => string(&mut r).ok(),
            _ => None,
        }
    }
}

fn string<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let length = r.count(MAX_MESSAGE)?;
    r.bytes(length)
}

fn skip_string(r: &mut Reader<'_>) -> Result<(), WireError> {
    string(r).map(|_| ())
}

/// A block's header and the reader that stands at its first transaction, with their number.
#[derive(Clone, Debug)]
pub struct BlockParts<'a> {
    /// The header.
    pub header: &'a [u8; 80],
    /// Number of transactions, at least one.
    pub count: usize,
    /// The rest.
    pub rest: Reader<'a>,
}

impl<'a> BlockParts<'a> {
    /// Reads the front of a `block` payload.
    pub fn parse(payload: &'a [u8]) -> Result<BlockParts<'a>, WireError> {
        let (header, rest) = payload.split_first_chunk::<80>().ok_or(WireError::Short)?;
        let mut rest = Reader::new(rest);
        let count = rest.count(MAX_MESSAGE / MIN_TX)?;
        if count == 0 {
            return Err(WireError::Short);
        }
        Ok(BlockParts { header, count, rest })
    }

    /// Calls `each` for every transaction; bytes behind the last are an error.
    pub fn for_each(mut self, mut each: impl FnMut(Tx<'a>)) -> Result<(), WireError> {
        for _ in 0..self.count {
            each(Tx::read(&mut self.rest)?);
        }
        match self.rest.rest().len() {
            0 => Ok(()),
            more => Err(WireError::TooMany(more as u64)),
        }
    }
}

/// The payload of a whole v1 message, and its magic.
pub fn unframe(message: &[u8]) -> Result<(super::Magic, &[u8]), WireError> {
    let payload = message.get(HEADER_LEN..).ok_or(WireError::Short)?;
    let magic = message.first_chunk::<4>().ok_or(WireError::Short)?;
    Ok((*magic, payload))
}

/// Appends a `tx` message without witness, made from one with or without it (v1 frames both).
pub fn strip_tx(out: &mut Vec<u8>, message: &[u8]) -> Result<(), WireError> {
    let (magic, payload) = unframe(message)?;
    let tx = Tx::parse(payload)?;
    write::message(out, magic, "tx", |out| tx.strip_into(out));
    Ok(())
}

/// Appends a `block` message without witness data, made from one with it (v1 frames both).
pub fn strip_block(out: &mut Vec<u8>, message: &[u8]) -> Result<(), WireError> {
    let (magic, payload) = unframe(message)?;
    let parts = BlockParts::parse(payload)?;
    // Read once before anything is written, so that an error leaves `out` as it was.
    parts.clone().for_each(|_| {})?;
    write::message(out, magic, "block", |out| {
        out.extend_from_slice(parts.header);
        write::compact(out, parts.count as u64);
        let _ = parts.for_each(|tx| tx.strip_into(out));
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::{deserialize, serialize};
    use proptest::prelude::*;

    fn any_tx() -> impl Strategy<Value = bitcoin::Transaction> {
        let input = (any::<[u8; 32]>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40), stack());
        let output = (0u64..21_000_000, prop::collection::vec(any::<u8>(), 0..40));
        let (inputs, outputs) = (prop::collection::vec(input, 1..4), prop::collection::vec(output, 0..4));
        (inputs, outputs, any::<u32>()).prop_map(|(inputs, outputs, lock)| bitcoin::Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::from_consensus(lock),
            input: inputs
                .into_iter()
                .map(|(txid, vout, script, witness)| bitcoin::TxIn {
                    previous_output: bitcoin::OutPoint { txid: bitcoin::Txid::from_byte_array(txid), vout },
                    script_sig: script.into(),
                    sequence: bitcoin::Sequence::MAX,
                    witness: bitcoin::Witness::from_slice(&witness),
                })
                .collect(),
            output: outputs
                .into_iter()
                .map(|(sat, script)| bitcoin::TxOut {
                    value: bitcoin::Amount::from_sat(sat),
                    script_pubkey: script.into(),
                })
                .collect(),
        })
    }

    fn stack() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3)
    }

    proptest! {
        #[test]
        fn agrees_with_rust_bitcoin(tx in any_tx()) {
            let bytes = serialize(&tx);
            let seen = Tx::parse(&bytes).unwrap();
            prop_assert_eq!(seen.txid(), tx.compute_txid().to_byte_array());
            prop_assert_eq!(seen.wtxid(), tx.compute_wtxid().to_byte_array());
            prop_assert_eq!(seen.output_count() as usize, tx.output.len());
            let spends: Vec<_> = tx.input.iter().map(|i| OutPoint {
                txid: i.previous_output.txid.to_byte_array(), output: i.previous_output.vout,
            }).collect();
            prop_assert_eq!(seen.spends().collect::<Vec<_>>(), spends);
            let scripts: Vec<&[u8]> = tx.output.iter().map(|o| o.script_pubkey.as_bytes()).collect();
            prop_assert_eq!(seen.output_scripts().collect::<Vec<_>>(), scripts);
            let mut stripped = Vec::new();
            seen.strip_into(&mut stripped);
            let mut bare = tx.clone();
            bare.input.iter_mut().for_each(|i| i.witness.clear());
            prop_assert_eq!(&stripped, &serialize(&bare));
            prop_assert_eq!(seen.weight() as u64, tx.weight().to_wu());
            for cut in 0..bytes.len() {
                prop_assert!(Tx::parse(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn never_panics_and_takes_nothing_rust_bitcoin_refuses(
            tx in any_tx(), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let mut bytes = serialize(&tx);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(seen) = Tx::parse(&bytes) {
                let theirs: bitcoin::Transaction = deserialize(&bytes).unwrap();
                prop_assert_eq!(seen.txid(), theirs.compute_txid().to_byte_array());
            }
            let _ = BlockParts::parse(&bytes).and_then(|parts| parts.for_each(|_| {}));
            let _ = strip_block(&mut Vec::new(), &bytes);
        }
    }
}
