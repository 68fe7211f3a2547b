//! Who holds how much of the room for transactions, so that when it is full the one with the most gives way.
//!
//! Invariant: `counts` and `bytes` rank each client of `clients` once, by what its entries add up to; a client without any
//! has no entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::base::ClientRef;
use crate::wire::Hash;

#[derive(Debug, Default)]
struct Share {
    /// By order of coming.
    held: BTreeMap<u64, Hash>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    clients: HashMap<ClientRef, Share>,
    counts: BTreeSet<(usize, ClientRef)>,
    bytes: BTreeSet<(usize, ClientRef)>,
}

impl Shares {
    pub(super) fn add(&mut self, client: ClientRef, seq: u64, hash: Hash, bytes: usize) {
        self.change(client, |share| {
            share.held.insert(seq, hash);
            share.bytes += bytes;
        });
    }

    pub(super) fn remove(&mut self, client: ClientRef, seq: u64, bytes: usize) {
        self.change(client, |share| {
            if share.held.remove(&seq).is_some() {
                share.bytes -= bytes;
            }
        });
    }

    fn change(&mut self, client: ClientRef, change: impl FnOnce(&mut Share)) {
        let share = self.clients.entry(client).or_default();
        self.counts.remove(&(share.held.len(), client));
        self.bytes.remove(&(share.bytes, client));
        change(share);
        if share.held.is_empty() {
            self.clients.remove(&client);
        } else {
            self.counts.insert((share.held.len(), client));
            self.bytes.insert((share.bytes, client));
        }
    }

    /// Entries and bytes of a client.
    pub(super) fn of(&self, client: ClientRef) -> (usize, usize) {
        self.clients.get(&client).map_or((0, 0), |share| (share.held.len(), share.bytes))
    }

    /// Who has the most entries, if that is more than one beyond what `client` has.
    pub(super) fn more_entries_than(&self, client: ClientRef) -> Option<ClientRef> {
        let (most, holder) = self.counts.last()?;
        (*most > self.of(client).0 + 1).then_some(*holder)
    }

    /// Who has the most bytes, if `client` would have no more with `len` in addition. Its entries are at least that long
    /// together, so that they make room for it.
    pub(super) fn more_bytes_than(&self, client: ClientRef, len: usize) -> Option<ClientRef> {
        let (most, holder) = self.bytes.last()?;
        (*holder != client && *most >= self.of(client).1 + len).then_some(*holder)
    }

    /// The entry of a client that came last.
    pub(super) fn newest(&self, client: ClientRef) -> Option<Hash> {
        self.clients.get(&client)?.held.last_key_value().map(|(_, hash)| *hash)
    }

    #[cfg(test)]
    pub(super) fn check(&self, held: impl Iterator<Item = (ClientRef, u64, Hash, usize)>) {
        let mut fresh = Shares::default();
        held.for_each(|(client, seq, hash, bytes)| fresh.add(client, seq, hash, bytes));
        assert_eq!((&fresh.counts, &fresh.bytes), (&self.counts, &self.bytes));
        assert_eq!(fresh.clients.len(), self.clients.len());
        for (client, share) in &self.clients {
            assert_eq!(
                (&fresh.clients[client].held, fresh.clients[client].bytes),
                (&share.held, share.bytes)
            );
        }
    }
}
