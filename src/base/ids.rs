//! Identities. Every handle that outlives a call carries a generation, so that a completion or an
//! answer for a client that has left can be recognised and dropped.

/// Number of a shard, 0 to `limits::MAX_SHARDS` - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

/// A connection as the kernel names it: the index of the direct descriptor in the shard's ring.
/// Reused by the kernel after the close, so it never travels without a [`ClientId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conn(pub u32);

/// A client of one shard: slot in the shard's table and the generation of that slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId {
    /// Slot in the table, below [`ClientId::MAX_SLOTS`].
    pub slot: u32,
    /// Generation of the slot; counts the clients that have had it.
    pub generation: u32,
}

impl ClientId {
    /// Slots are 24 bits, so that kind, slot and generation fit the 64 bits of a completion's user data.
    pub const MAX_SLOTS: u32 = 1 << 24;
}

/// A client anywhere in the process, as the hub names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientRef {
    /// The shard that owns the client.
    pub shard: ShardId,
    /// The client in that shard.
    pub id: ClientId,
}

impl std::fmt::Display for ClientRef {
    /// `shard-slot-generation`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.shard.0, self.id.slot, self.id.generation)
    }
}

impl std::str::FromStr for ClientRef {
    type Err = ();

    fn from_str(text: &str) -> Result<ClientRef, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let (shard, slot, generation) = (next()?, next()?, next()?);
        let id =
            ClientId { slot: slot.parse().map_err(drop)?, generation: generation.parse().map_err(drop)? };
        let end = parts.next().is_none();
        end.then_some(ClientRef { shard: ShardId(shard.parse().map_err(drop)?), id }).ok_or(())
    }
}

/// Nonces of `version` messages: the upper 48 bits are the process's own, so that a shard recognises a connection of
/// this process to itself without a list. Another peer hits them once in 2^48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces(u64);

impl Nonces {
    /// From a random seed of the process.
    pub fn new(seed: u64) -> Nonces {
        Nonces(seed & !0xffff)
    }

    /// A nonce of ours.
    pub fn make(self, salt: u64) -> u64 {
        self.0 | (salt & 0xffff)
    }

    /// True exactly when this process could have made it.
    pub fn is_ours(self, nonce: u64) -> bool {
        nonce & !0xffff == self.0
    }
}
