//! Who holds how much of the room for transactions, so that when it is full the one with the most gives way.
//!
//! Invariant: `counts` and `bytes` rank each host of `hosts` once, by what its entries add up to; a host without any
//! has no entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::admission::Host;
use crate::wire::Hash;

#[derive(Debug, Default)]
struct Share {
    /// By order of coming.
    held: BTreeMap<u64, Hash>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    hosts: HashMap<Host, Share>,
    counts: BTreeSet<(usize, Host)>,
    bytes: BTreeSet<(usize, Host)>,
}

impl Shares {
    pub(super) fn add(&mut self, host: Host, seq: u64, hash: Hash, bytes: usize) {
        self.change(host, |share| {
            share.held.insert(seq, hash);
            share.bytes += bytes;
        });
    }

    pub(super) fn remove(&mut self, host: Host, seq: u64, bytes: usize) {
        self.change(host, |share| {
            if share.held.remove(&seq).is_some() {
                share.bytes -= bytes;
            }
        });
    }

    fn change(&mut self, host: Host, change: impl FnOnce(&mut Share)) {
        let share = self.hosts.entry(host).or_default();
        self.counts.remove(&(share.held.len(), host));
        self.bytes.remove(&(share.bytes, host));
        change(share);
        if share.held.is_empty() {
            self.hosts.remove(&host);
        } else {
            self.counts.insert((share.held.len(), host));
            self.bytes.insert((share.bytes, host));
        }
    }

    /// Entries and bytes of a host.
    pub(super) fn of(&self, host: Host) -> (usize, usize) {
        self.hosts.get(&host).map_or((0, 0), |share| (share.held.len(), share.bytes))
    }

    /// Who has the most entries, if that is more than one beyond what `host` has.
    pub(super) fn more_entries_than(&self, host: Host) -> Option<Host> {
        let (most, holder) = self.counts.last()?;
        (*most > self.of(host).0 + 1).then_some(*holder)
    }

    /// Who has the most bytes, if `host` would have no more with `len` in addition. Its entries are at least that long
    /// together, so that they make room for it.
    pub(super) fn more_bytes_than(&self, host: Host, len: usize) -> Option<Host> {
        let (most, holder) = self.bytes.last()?;
        (*holder != host && *most >= self.of(host).1 + len).then_some(*holder)
    }

    /// The entry of a host that came last.
    pub(super) fn newest(&self, host: Host) -> Option<Hash> {
        self.hosts.get(&host)?.held.last_key_value().map(|(_, hash)| *hash)
    }

    #[cfg(test)]
    pub(super) fn check(&self, held: impl Iterator<Item = (Host, u64, Hash, usize)>) {
        let mut fresh = Shares::default();
        held.for_each(|(host, seq, hash, bytes)| fresh.add(host, seq, hash, bytes));
        assert_eq!((&fresh.counts, &fresh.bytes), (&self.counts, &self.bytes));
        assert_eq!(fresh.hosts.len(), self.hosts.len());
        for (host, share) in &self.hosts {
            assert_eq!((&fresh.hosts[host].held, fresh.hosts[host].bytes), (&share.held, share.bytes));
        }
    }
}
