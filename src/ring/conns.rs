//! What the ring knows of each connection: who uses it and what is outstanding.
//!
//! Indexed by connection (direct descriptor). The generation counts the connections that have had the
//! number; a completion with an older one belongs to a connection already closed and is dropped, because
//! `Close` has answered for it.

use slotmap::DefaultKey;

use crate::base::limits::CROWD;
use crate::base::{ClientId, Conn};

/// Where an outstanding `Receive` stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Receive {
    /// None is outstanding.
    Idle,
    /// A poll is armed.
    Polling,
    /// A recv is queued or in the kernel (it never waits there).
    Receiving,
    /// There was no buffer; tried again when one is recycled.
    Parked,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) generation: u32,
    /// The client of the last operation.
    pub(super) client: ClientId,
    /// The outstanding send.
    pub(super) send: Option<DefaultKey>,
    pub(super) receive: Receive,
    /// True exactly when the connection is accepted and not closed.
    open: bool,
    /// True exactly when the last receive left bytes in the socket: the next one need not poll first.
    pub(super) more: bool,
    /// Most bytes of the outstanding receive, in sixteens; 0 for a whole buffer.
    pub(super) sixteens: u8,
}

/// Bytes the ring keeps for every client: part of the memory plan.
pub const CONN_BYTES: usize = size_of::<Entry>();
const _: () = assert!(CONN_BYTES == 24);

/// The table of connections. Grows to the highest number seen, which the file table bounds.
#[derive(Debug, Default)]
pub(super) struct Conns {
    entries: Vec<Entry>,
    open: u32,
    /// Generation entries begin with: above every one that was given before the table was emptied.
    first: u32,
    highest: u32,
    /// See [`Conns::is_emptied`].
    emptied: bool,
}

impl Conns {
    /// True exactly when a crowd has gone, none has been accepted since, and [`Conns::noted`] was not called. So no connection is
    /// open, and what a completion not yet seen may still bring belongs to a closed one: nobody will look at it.
    pub(super) fn is_emptied(&self) -> bool {
        self.emptied
    }

    /// See [`Conns::is_emptied`].
    pub(super) fn noted(&mut self) {
        self.emptied = false;
    }

    /// Connections accepted and not closed.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// A connection has been accepted under this number.
    pub(super) fn accepted(&mut self, conn: Conn) {
        let index = conn.0 as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry { generation: self.first, ..NEVER_USED });
        }
        let entry = &mut self.entries[index];
        if !entry.open {
            self.open += 1;
        }
        self.emptied = false;
        *entry = Entry { generation: entry.generation.wrapping_add(1), open: true, ..NEVER_USED };
        self.highest = self.highest.max(entry.generation);
    }

    /// The connection, when it is open.
    pub(super) fn get(&mut self, conn: Conn) -> Option<&mut Entry> {
        self.entries.get_mut(conn.0 as usize).filter(|entry| entry.open)
    }

    /// The connection, when it is open and still the one of this generation.
    pub(super) fn current(&mut self, conn: Conn, generation: u32) -> Option<&mut Entry> {
        self.get(conn).filter(|entry| entry.generation == generation)
    }

    /// Closes; gives the entry as it was, `None` when it was not open.
    pub(super) fn close(&mut self, conn: Conn) -> Option<Entry> {
        let entry = self.get(conn)?;
        let was = *entry;
        entry.open = false;
        self.open -= 1;
        if self.open == 0 && self.entries.len() > CROWD {
            // The crowd is gone: its memory goes, too.
            self.entries = Vec::new();
            self.first = self.highest;
            self.emptied = true;
        }
        Some(was)
    }
}

const NEVER_USED: Entry = Entry {
    generation: 0,
    client: ClientId { slot: 0, generation: 0 },
    send: None,
    receive: Receive::Idle,
    open: false,
    more: false,
    sixteens: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_is_another_connection() {
        let mut conns = Conns::default();
        conns.accepted(Conn(3));
        let first = conns.get(Conn(3)).unwrap().generation;
        assert!(conns.get(Conn(2)).is_none() && conns.get(Conn(99)).is_none());
        assert!(conns.close(Conn(3)).is_some());
        assert!(conns.close(Conn(3)).is_none(), "closing twice does nothing");
        assert!(conns.current(Conn(3), first).is_none());
        conns.accepted(Conn(3));
        assert!(conns.current(Conn(3), first).is_none(), "stale");
        assert_eq!(conns.open(), 1);
    }

    #[test]
    fn a_table_that_was_given_back_knows_no_old_connection() {
        let mut conns = Conns::default();
        let most = CROWD as u32;
        (0..=most).for_each(|number| conns.accepted(Conn(number)));
        let old = conns.get(Conn(7)).unwrap().generation;
        (0..=most).for_each(|number| assert!(conns.close(Conn(number)).is_some()));
        assert_eq!((conns.entries.capacity(), conns.open()), (0, 0));
        assert!(conns.is_emptied());
        conns.accepted(Conn(7));
        assert!(!conns.is_emptied(), "somebody is there");
        assert!(conns.current(Conn(7), old).is_none(), "stale");
        assert!(conns.close(Conn(7)).is_some());
        assert!(!conns.is_emptied(), "one is no crowd");
    }
}
