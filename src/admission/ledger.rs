//! The accounts: what recently seen hosts owe, and what clients of the operator's own have paid. The hub's side.
//!
//! Hosts are remembered in a bounded list; the one not seen for longest is forgotten, and its debt with it, which has mostly
//! decayed by then. Priority accounts are never forgotten. Both outlive the process: here is the text, writing it to disk so
//! that it is either the old or the new one is the caller's.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::balance::{Balance, Factors, MAX_BALANCE};
use super::identity::{Host, PRIORITY_ID, PriorityId, PrioritySet};
use super::json::{Fields, JsonError};
use crate::base::{Tags, UnixTime};

/// Hosts remembered by default: about 150 bytes each, 15 MB.
pub const RECENT: usize = 100_000;
/// Most priority accounts.
pub const MAX_ACCOUNTS: usize = 10_000;
/// Most hosts read from a text, whatever this ledger remembers.
const MAX_READ: usize = 10_000_000;
/// The layout of the text.
const VERSION: u64 = 1;

/// A priority account.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Account {
    /// Whose.
    pub id: PriorityId,
    /// Its capacity, units per second; 0 for none of its own.
    pub capacity: u32,
    /// Its tags.
    pub tags: Tags,
    /// Its prices.
    pub factors: Factors,
    /// Its balances.
    pub balance: Balance,
}

/// An account that is not taken. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum LedgerError {
    /// No room.
    #[error("there are {MAX_ACCOUNTS} priority accounts, which is the most: remove some")]
    Full,
    /// Prices that make no sense.
    #[error("price factors are {0}, {1} and {2}, expected numbers that are finite and not negative")]
    Factors(f64, f64, f64),
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    balance: Balance,
    /// Its place in `by_time`.
    seen: u64,
}

/// All accounts.
#[derive(Clone, Debug)]
pub struct Ledger {
    hosts: HashMap<Host, Recent>,
    /// Hosts by when they were seen last.
    by_time: BTreeMap<u64, Host>,
    seen: u64,
    most: usize,
    /// By number; none for a removed one.
    accounts: Vec<Option<Account>>,
    set: PrioritySet,
}

impl Ledger {
    /// Remembers so many hosts ([`RECENT`]).
    pub fn new(most: usize) -> Ledger {
        Ledger {
            hosts: HashMap::new(),
            by_time: BTreeMap::new(),
            seen: 0,
            most: most.max(1),
            accounts: Vec::new(),
            set: PrioritySet::default(),
        }
    }

    /// What a host owes; nothing for one that is not remembered.
    pub fn host(&self, host: Host, now: UnixTime) -> Balance {
        self.hosts.get(&host).map_or(Balance::new(now), |recent| recent.balance)
    }

    /// True exactly when a host is remembered.
    pub fn knows(&self, host: Host) -> bool {
        self.hosts.contains_key(&host)
    }

    /// Remembers what a host owes, as the one seen last.
    pub fn remember(&mut self, host: Host, balance: Balance) {
        self.seen += 1;
        let recent = Recent { balance, seen: self.seen };
        if let Some(before) = self.hosts.insert(host, recent) {
            self.by_time.remove(&before.seen);
        }
        self.by_time.insert(self.seen, host);
        while self.hosts.len() > self.most {
            let Some((_, oldest)) = self.by_time.pop_first() else { break };
            self.hosts.remove(&oldest);
        }
    }

    /// Hosts remembered.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// The number of the account of a client, by its certificate or its network.
    pub fn find(&self, address: IpAddr, certificate: Option<&[u8; 32]>) -> Option<u32> {
        self.set.find(address, certificate)
    }

    /// The number of exactly this account.
    pub fn number(&self, id: PriorityId) -> Option<u32> {
        self.set.get(id)
    }

    /// An account by number.
    pub fn account(&self, number: u32) -> Option<&Account> {
        self.accounts.get(number as usize)?.as_ref()
    }

    /// The balance of an account, to be changed.
    pub fn balance(&mut self, number: u32) -> Option<&mut Balance> {
        self.accounts.get_mut(number as usize)?.as_mut().map(|account| &mut account.balance)
    }

    /// Adds an account, or puts it in the place of the one with its id; says its number.
    pub fn put(&mut self, mut account: Account) -> Result<u32, LedgerError> {
        account.id = account.id.canonical();
        let Factors { time, capacity, request } = account.factors;
        if !account.factors.is_valid() {
            return Err(LedgerError::Factors(time, capacity, request));
        }
        let vacant = || self.accounts.iter().position(Option::is_none).unwrap_or(self.accounts.len());
        let number = match self.set.get(account.id) {
            Some(number) => number,
            None if self.set.len() >= MAX_ACCOUNTS => return Err(LedgerError::Full),
            None => vacant() as u32,
        };
        self.set.insert(account.id, number);
        match self.accounts.get_mut(number as usize) {
            Some(place) => *place = Some(account),
            None => self.accounts.push(Some(account)),
        }
        Ok(number)
    }

    /// Removes an account.
    pub fn remove(&mut self, id: PriorityId) -> Option<Account> {
        let number = self.set.remove(id)?;
        self.accounts.get_mut(number as usize)?.take()
    }

    /// All accounts with their numbers, by id.
    pub fn accounts(&self) -> Vec<(u32, &Account)> {
        let numbered = self.accounts.iter().enumerate();
        let mut list: Vec<_> =
            numbered.filter_map(|(n, account)| Some((n as u32, account.as_ref()?))).collect();
        list.sort_by_key(|(_, account)| account.id);
        list
    }

    /// The accounts as text, for the disk.
    pub fn accounts_json(&self) -> String {
        self.to_json(true, false)
    }

    /// The hosts as text, in the order they were seen. About 70 bytes a host, and 50 ms for 100,000; a clone (6 ms) can be written by
    /// another thread.
    pub fn hosts_json(&self) -> String {
        self.to_json(false, true)
    }

    /// Takes over what another one knows.
    pub fn merge(&mut self, other: &Ledger) {
        for account in other.accounts.iter().flatten() {
            // It was taken there already.
            let _ = self.put(*account);
        }
        for host in other.by_time.values() {
            if let Some(recent) = other.hosts.get(host) {
                self.remember(*host, recent.balance);
            }
        }
    }

    /// Those whom the operator knows, with the numbers of their accounts.
    pub fn known(&self) -> &PrioritySet {
        &self.set
    }

    /// Every account, to be charged, with its number.
    pub fn account_mut(&mut self, number: u32) -> Option<&mut Account> {
        self.accounts.get_mut(number as usize)?.as_mut()
    }

    fn to_json(&self, accounts: bool, hosts: bool) -> String {
        let host = |host: &Host| {
            let balance = BalanceText::from(&self.hosts.get(host)?.balance);
            Some(HostText { host: host.to_string(), balance })
        };
        let account = |(_, account): (u32, &Account)| AccountText {
            id: account.id.to_string(),
            capacity: account.capacity,
            tags: account.tags.0,
            time_factor: account.factors.time,
            capacity_factor: account.factors.capacity,
            request_factor: account.factors.request,
            balance: BalanceText::from(&account.balance),
        };
        let text = LedgerText {
            version: VERSION,
            accounts: self.accounts().into_iter().filter(|_| accounts).map(account).collect(),
            hosts: self.by_time.values().filter(|_| hosts).filter_map(host).collect(),
        };
        // Strings and finite numbers can always be written.
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// From text. Anything unknown or wrong is an error. Of more hosts than it remembers the last ones are kept.
    pub fn from_json(text: &str, most: usize) -> Result<Ledger, JsonError> {
        let mut ledger = Ledger::new(most);
        let mut fields = Fields::document(text)?;
        fields.read("version", "1", |value| (value.as_u64() == Some(VERSION)).then_some(()))?;
        let (accounts, hosts) =
            (fields.objects("accounts", MAX_ACCOUNTS)?, fields.objects("hosts", MAX_READ)?);
        fields.finish()?;
        for mut fields in accounts {
            let account = read_account(&mut fields)?;
            fields.finish()?;
            // The number of accounts and the factors have been looked at.
            let _ = ledger.put(account);
        }
        for mut fields in hosts {
            let expected = "an IPv4 address, or an IPv6 network with /64";
            let host = fields.read("host", expected, |value| value.as_str()?.parse().ok())?;
            let balance = read_balance(&mut fields)?;
            fields.finish()?;
            ledger.remember(host, balance);
        }
        Ok(ledger)
    }
}

#[derive(Serialize)]
struct LedgerText {
    version: u64,
    accounts: Vec<AccountText>,
    hosts: Vec<HostText>,
}

#[derive(Serialize)]
struct AccountText {
    id: String,
    capacity: u32,
    tags: u16,
    time_factor: f64,
    capacity_factor: f64,
    request_factor: f64,
    #[serde(flatten)]
    balance: BalanceText,
}

#[derive(Serialize)]
struct HostText {
    host: String,
    #[serde(flatten)]
    balance: BalanceText,
}

#[derive(Serialize)]
struct BalanceText {
    positive: u64,
    negative: f64,
    last: UnixTime,
}

impl From<&Balance> for BalanceText {
    fn from(balance: &Balance) -> BalanceText {
        let (last, negative) = balance.last();
        BalanceText { positive: balance.positive(), negative, last }
    }
}

fn read_account(fields: &mut Fields) -> Result<Account, JsonError> {
    let id = fields.read("id", PRIORITY_ID, |value| value.as_str()?.parse().ok())?;
    let expected = format!("a whole number of units per second, at most {}", u32::MAX);
    let capacity = fields.read("capacity", &expected, |value| value.as_u64()?.try_into().ok())?;
    let tags = fields.read("tags", "a set of 16 bits", |value| value.as_u64()?.try_into().ok())?;
    let mut factor = |name| {
        let sane = |value: &Value| value.as_f64().filter(|f| f.is_finite() && *f >= 0.0);
        fields.read(name, "a number that is not negative", sane)
    };
    let factors = Factors {
        time: factor("time_factor")?,
        capacity: factor("capacity_factor")?,
        request: factor("request_factor")?,
    };
    Ok(Account { id, capacity, tags: Tags(tags), factors, balance: read_balance(fields)? })
}

fn read_balance(fields: &mut Fields) -> Result<Balance, JsonError> {
    let expected = format!("a whole number, at most {MAX_BALANCE}");
    let fits = |value: &Value| value.as_u64().filter(|n| *n <= MAX_BALANCE);
    let positive = fields.read("positive", &expected, fits)?;
    let last = fields.read("last", "seconds since 1970, a whole number", Value::as_u64)?;
    let whole = |value: &Value| Balance::restore(positive, value.as_f64()?, last);
    fields.read("negative", "a number that is not negative", whole)
}

#[cfg(test)]
mod tests;
