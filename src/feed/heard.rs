//! Which clients of a shard announced or sent a transaction before it was accepted: they have it and are not told of it.
//! Bounded twice: transactions in two generations, clients per transaction; what is forgotten costs one needless inv.

use std::collections::HashMap;

use crate::base::ClientId;
use crate::wire::Hash;

/// Clients remembered per transaction.
const PER_TX: usize = 6;

#[derive(Clone, Copy, Debug, Default)]
struct Clients {
    len: u8,
    ids: [Option<ClientId>; PER_TX],
}

/// Announcers by hash, in the form each announced.
#[derive(Debug)]
pub struct Heard {
    young: HashMap<Hash, Clients>,
    old: HashMap<Hash, Clients>,
    most: usize,
}

impl Heard {
    /// Remembers announcers of at least the last `most` transactions, about 120 bytes each.
    pub fn new(most: usize) -> Heard {
        Heard { young: HashMap::new(), old: HashMap::new(), most }
    }

    /// A client has this transaction. False when it had said so before.
    pub fn add(&mut self, hash: &Hash, client: ClientId) -> bool {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        let clients = self.young.entry(*hash).or_default();
        if clients.ids.contains(&Some(client)) {
            return false;
        }
        if let Some(place) = clients.ids.get_mut(usize::from(clients.len)) {
            *place = Some(client);
            clients.len += 1;
        }
        true
    }

    /// Takes out the clients that have this transaction.
    pub fn take(&mut self, hash: &Hash) -> impl Iterator<Item = ClientId> + use<> {
        let found = [self.young.remove(hash), self.old.remove(hash)];
        found.into_iter().flatten().flat_map(|clients| clients.ids.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> ClientId {
        ClientId { slot, generation: 1 }
    }

    #[test]
    fn announcers_are_remembered_once_and_within_bounds() {
        let mut heard = Heard::new(10);
        for slot in 0..100 {
            heard.add(&[1; 32], client(slot));
            heard.add(&[1; 32], client(slot));
        }
        assert_eq!(
            heard.take(&[1; 32]).collect::<Vec<_>>(),
            (0..PER_TX as u32).map(client).collect::<Vec<_>>()
        );
        assert_eq!(heard.take(&[1; 32]).count(), 0);
        for n in 0..100 {
            heard.add(&[n; 32], client(0));
        }
        assert!(heard.young.len() <= 10 && heard.old.len() <= 10);
    }
}
