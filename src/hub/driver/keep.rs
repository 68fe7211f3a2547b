//! What the hub's thread keeps on the disk besides the store: bans, accounts, what hosts owe, names of tags.
//!
//! What an operator has changed is written before it is answered; what follows from use, from time to time.

use super::{ACCOUNTS, BANS, Driver, HOSTS, TAGS};

/// Accounts that were used are saved so often, in seconds; what an operator changes is at once.
const SAVE_USED: u32 = 10;
/// And hosts.
const SAVE_HOSTS: u32 = 60;

impl Driver<'_> {
    /// Saves what the operator has decided since the last time.
    pub(super) fn save(&mut self) {
        let Some(bans) = self.desk.unsaved_bans() else { return };
        if let Err(error) = self.state.save(BANS, &bans.to_json()) {
            tracing::error!("{BANS} in {} is not saved: {error}", self.state.0.display());
        }
    }

    /// Tells whoever watches.
    pub(super) fn tell_happened(&mut self) {
        let Some(first) = self.treasury.next_happened() else { return };
        self.observer.capacities(&self.treasury.capacities());
        self.observer.happened(first);
        while let Some(next) = self.treasury.next_happened() {
            self.observer.happened(next);
        }
    }

    /// Saves the accounts, and answers whoever waits for that.
    pub(super) fn save_accounts(&mut self) {
        self.treasury.accounts_saved();
        // First what the other one's bits are called.
        let tags = self.state.save(TAGS, &self.tags.to_json());
        let result = tags.and_then(|()| self.state.save(ACCOUNTS, &self.treasury.ledger().accounts_json()));
        let result = result.map_err(|error| format!("in {}: {error}", self.state.0.display()));
        if let Err(error) = &result {
            tracing::error!("accounts are not saved: {error}");
            self.treasury.accounts_lost();
        }
        self.treasury.saved(&result);
    }

    /// From time to time, what was used since the last time.
    pub(super) fn save_used(&mut self) {
        let unsaved = self.treasury.unsaved();
        if unsaved.used && self.seconds.is_multiple_of(SAVE_USED) {
            self.save_accounts();
        }
        if unsaved.hosts && self.seconds.is_multiple_of(SAVE_HOSTS) {
            self.save_hosts();
        }
    }

    /// Hosts are many: another thread writes a copy, one at a time.
    pub(super) fn save_hosts(&mut self) {
        if self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) || !self.treasury.unsaved().hosts
        {
            return;
        }
        let (ledger, state) = (self.treasury.ledger().clone(), self.state.clone());
        let write = move || {
            if let Err(error) = state.save(HOSTS, &ledger.hosts_json()) {
                tracing::error!("{HOSTS} in {} is not saved: {error}", state.0.display());
            }
        };
        self.treasury.hosts_saved();
        match std::thread::Builder::new().name("hosts".into()).spawn(write) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => tracing::error!("{HOSTS} is not saved, no thread: {error}"),
        }
    }
}
