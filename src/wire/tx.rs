//! A transaction's shape without decoding it: both hashes, and the bytes without witness, from one walk that allocates
//! nothing. Whether it is valid is the node's to say.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};

use super::{Hash, Reader, WireError};
use crate::base::limits::MAX_MESSAGE;

/// Where the parts of a transaction lie in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxShape {
    /// Bytes of the whole transaction.
    pub len: usize,
    /// Where inputs begin: 4, or 6 with witness marker and flag.
    body: usize,
    /// Where outputs end; the witness, if any, follows up to the lock time.
    body_end: usize,
}

impl TxShape {
    /// Walks the transaction at the front of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<TxShape, WireError> {
        let r = &mut Reader::new(bytes);
        let at = |r: &Reader<'_>| bytes.len() - r.rest().len();
        r.u32()?;
        // Marker 0 and flag 1 stand where a count of inputs would be (BIP144).
        let witness = r.rest().first() == Some(&0);
        if witness {
            r.u8()?;
            if r.u8()? != 1 {
                return Err(WireError::NonCanonical);
            }
        }
        let body = at(r);
        let inputs = r.count(MAX_MESSAGE / 41)?;
        if inputs == 0 {
            return Err(WireError::Short);
        }
        for _ in 0..inputs {
            r.bytes(36)?;
            skip_script(r)?;
            r.u32()?;
        }
        for _ in 0..r.count(MAX_MESSAGE / 9)? {
            r.u64()?;
            skip_script(r)?;
        }
        let body_end = at(r);
        if witness {
            let mut items = 0;
            for _ in 0..inputs {
                let stack = r.count(MAX_MESSAGE)?;
                items += stack;
                for _ in 0..stack {
                    skip_script(r)?;
                }
            }
            // A witness without any item must not be encoded at all.
            if items == 0 {
                return Err(WireError::NonCanonical);
            }
        }
        r.u32()?;
        Ok(TxShape { len: at(r), body, body_end })
    }

    /// True exactly when it carries witness data.
    pub fn has_witness(&self) -> bool {
        self.body == 6
    }

    /// Hash without witness.
    pub fn txid(&self, bytes: &[u8]) -> Hash {
        let mut engine = sha256d::Hash::engine();
        for part in self.parts(bytes) {
            engine.input(part);
        }
        sha256d::Hash::from_engine(engine).to_byte_array()
    }

    /// Hash with witness.
    pub fn wtxid(&self, bytes: &[u8]) -> Hash {
        super::sha256d(bytes.get(..self.len).unwrap_or(bytes))
    }

    /// The pieces that make up the transaction without witness.
    pub fn parts<'a>(&self, bytes: &'a [u8]) -> [&'a [u8]; 3] {
        let piece = |from: usize, to: usize| bytes.get(from..to).unwrap_or(&[]);
        [piece(0, 4), piece(self.body, self.body_end), piece(self.len - 4, self.len)]
    }
}

fn skip_script(r: &mut Reader<'_>) -> Result<(), WireError> {
    let length = r.count(MAX_MESSAGE)?;
    r.bytes(length).map(|_| ())
}

/// The previous outputs a transaction spends, 36 bytes each.
pub fn spends(bytes: &[u8]) -> Result<Vec<[u8; 36]>, WireError> {
    let shape = TxShape::read(bytes)?;
    let r = &mut Reader::new(bytes.get(shape.body..).unwrap_or(&[]));
    let inputs = r.count(MAX_MESSAGE / 41)?;
    let mut out = Vec::with_capacity(inputs.min(64));
    for _ in 0..inputs {
        out.push(r.array()?);
        skip_script(r)?;
        r.u32()?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
    use proptest::prelude::*;

    fn transaction(inputs: usize, outputs: usize, witness: bool, size: usize) -> Transaction {
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: (0..inputs)
                .map(|n| TxIn {
                    previous_output: OutPoint { txid: bitcoin::Txid::all_zeros(), vout: n as u32 },
                    script_sig: ScriptBuf::from(vec![n as u8; size]),
                    sequence: Sequence::MAX,
                    witness: if witness {
                        Witness::from_slice(&[vec![1u8; size], vec![]])
                    } else {
                        Witness::new()
                    },
                })
                .collect(),
            output: (0..outputs)
                .map(|n| TxOut {
                    value: Amount::from_sat(n as u64),
                    script_pubkey: ScriptBuf::from(vec![0x51; size]),
                })
                .collect(),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_rust_bitcoin(inputs in 1usize..5, outputs in 0usize..5, witness: bool, size in 0usize..300) {
            let tx = transaction(inputs, outputs, witness, size);
            let mut bytes = serialize(&tx);
            let len = bytes.len();
            bytes.extend_from_slice(b"next");
            let shape = TxShape::read(&bytes).unwrap();
            prop_assert_eq!(shape.len, len);
            prop_assert_eq!(shape.txid(&bytes), tx.compute_txid().to_byte_array());
            prop_assert_eq!(shape.wtxid(&bytes), tx.compute_wtxid().to_byte_array());
            prop_assert_eq!(spends(&bytes).unwrap().len(), inputs);
            let stripped: Transaction = deserialize(&shape.parts(&bytes).concat()).unwrap();
            prop_assert_eq!(stripped.compute_wtxid().to_byte_array(), shape.txid(&bytes));
        }

        #[test]
        fn accepts_only_what_rust_bitcoin_accepts(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200, flip: u8) {
            let mut valid = serialize(&transaction(2, 2, true, 20));
            if let Some(byte) = valid.get_mut(at) { *byte ^= flip; }
            for input in [&mut bytes, &mut valid] {
                if let Ok(shape) = TxShape::read(input) {
                    prop_assert!(deserialize::<Transaction>(&input[..shape.len]).is_ok());
                }
            }
        }
    }
}
