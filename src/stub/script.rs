//! The two scripts of this room, both spendable by anybody and both valid by consensus.
//!
//! `True` is P2WSH of `OP_TRUE`. `Stuffed` is P2WSH of 200 `OP_2DROP` and `OP_TRUE`: its witness carries 400 items
//! of up to 520 bytes that are thrown away, which fills blocks with witness bytes (weight 1) inside the limits on
//! operations (201), stack items (1,000) and item size (520).

use std::sync::LazyLock;

use bitcoin::blockdata::opcodes::all::{OP_2DROP, OP_PUSHNUM_1};
use bitcoin::blockdata::script::Builder;
use bitcoin::{Script, ScriptBuf, Witness};

/// Items under the script in the witness that spends a stuffed output.
const STUFFING_ITEMS: usize = 400;
/// Largest item of a witness stack (MAX_SCRIPT_ELEMENT_SIZE).
const MAX_ITEM: usize = 520;
/// Most bytes of stuffing one input can carry.
pub const MAX_STUFFING: usize = STUFFING_ITEMS * MAX_ITEM;

static TRUE: LazyLock<(ScriptBuf, ScriptBuf)> = LazyLock::new(|| {
    let script = Builder::new().push_opcode(OP_PUSHNUM_1).into_script();
    (script.to_p2wsh(), script)
});
static STUFFED: LazyLock<(ScriptBuf, ScriptBuf)> = LazyLock::new(|| {
    let drops = (0..STUFFING_ITEMS / 2).fold(Builder::new(), |builder, _| builder.push_opcode(OP_2DROP));
    let script = drops.push_opcode(OP_PUSHNUM_1).into_script();
    (script.to_p2wsh(), script)
});

/// What locks an output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lock {
    /// `OP_TRUE`.
    True,
    /// `OP_TRUE` under 400 items of stuffing.
    Stuffed,
}

/// An output that can be spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coin {
    /// Satoshi.
    pub value: u64,
    /// What locks it.
    pub lock: Lock,
    /// Height of its block; that of the next block for an unconfirmed one.
    pub height: u32,
    /// True exactly when a coinbase made it: it matures after 100 blocks.
    pub coinbase: bool,
}

/// Blocks after which a coinbase output can be spent (COINBASE_MATURITY).
pub const COINBASE_MATURITY: u32 = 100;

impl Coin {
    /// True exactly when a block at `height` may spend it.
    pub fn is_mature(&self, height: u32) -> bool {
        !self.coinbase || height >= self.height.saturating_add(COINBASE_MATURITY)
    }
}

impl Lock {
    fn scripts(self) -> &'static (ScriptBuf, ScriptBuf) {
        match self {
            Lock::True => &TRUE,
            Lock::Stuffed => &STUFFED,
        }
    }

    /// The script of the output (P2WSH).
    pub fn output_script(self) -> &'static Script {
        &self.scripts().0
    }

    /// The lock of an output script, `None` when nobody here can spend it.
    pub fn of(script: &Script) -> Option<Lock> {
        [Lock::True, Lock::Stuffed].into_iter().find(|lock| lock.output_script() == script)
    }

    /// A witness that opens it. `stuffing`: about how many bytes it shall carry, at most [`MAX_STUFFING`]; `True`
    /// carries none.
    pub fn witness(self, stuffing: usize, fill: u8) -> Witness {
        let item = vec![fill; (stuffing / STUFFING_ITEMS).clamp(1, MAX_ITEM)];
        let items = if self == Lock::Stuffed { STUFFING_ITEMS } else { 0 };
        let script = self.scripts().1.as_bytes();
        // All at once: pushing one by one moves what is there each time.
        let all: Vec<&[u8]> = std::iter::repeat_n(&item[..], items).chain([script]).collect();
        Witness::from_slice(&all)
    }

    /// True exactly when the witness opens it.
    pub fn opens(self, witness: &Witness) -> bool {
        let stuffing = match self {
            Lock::True => 0,
            Lock::Stuffed => STUFFING_ITEMS,
        };
        witness.len() == stuffing + 1
            && witness.last() == Some(self.scripts().1.as_bytes())
            && witness.iter().take(stuffing).all(|item| item.len() <= MAX_ITEM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_is_recognised_and_opened_by_its_own_witness_only() {
        for lock in [Lock::True, Lock::Stuffed] {
            assert_eq!(Lock::of(lock.output_script()), Some(lock));
            for other in [Lock::True, Lock::Stuffed] {
                assert_eq!(lock.opens(&other.witness(1_000_000, 7)), lock == other);
            }
        }
        assert_eq!(Lock::of(Script::new()), None);
        assert!(!Lock::True.opens(&Witness::new()));
    }

    #[test]
    fn a_coinbase_matures_after_a_hundred_blocks() {
        let coin = Coin { value: 1, lock: Lock::True, height: 7, coinbase: true };
        assert!(!coin.is_mature(106));
        assert!(coin.is_mature(107));
    }
}
