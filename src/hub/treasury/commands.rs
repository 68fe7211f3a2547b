//! What an operator asks of accounts, balances and defaults.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Treasury, shown};
use crate::admission::{Account, Balance, Host, LedgerError, Limit, MAX_BALANCE, Overflow, PriorityId};
use crate::base::{ClientRef, Tags, UnixTime};
use crate::hub::command::{
    self, AccountChange, AccountPage, Command, Defaults, DefaultsChange, Identity, Refusal, Reply,
};
use crate::hub::desk::MOST_CLIENTS;
use crate::link::{Action, Ask, AskId, Filter, Standing, ToShard, Who};
use crate::transport::Kind;

/// Questions whose answer nobody waits for.
const NOBODY: AskId = AskId(u32::MAX);

/// An answer that goes out when what it says is on the disk.
pub(super) struct Ack(Box<dyn FnOnce(Result<(), Refusal>) + Send>);

impl std::fmt::Debug for Ack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ack")
    }
}

impl Treasury {
    /// A command has come. Given back when it is about something else.
    pub fn command(&mut self, unix: UnixTime, command: Command) -> Option<Command> {
        match command {
            Command::Defaults(reply) => answer(reply, Ok(self.defaults())),
            Command::SetDefaults { change, reply } => {
                self.set_defaults(&change);
                answer(reply, Ok(self.defaults()));
            }
            Command::Accounts { after, limit, reply } => answer(reply, self.accounts(unix, after, limit)),
            Command::Account { identity, reply } => answer(reply, self.account(unix, identity)),
            Command::SetAccount { identity, change, reply } => {
                let result = self.set_account(unix, identity, &change);
                self.answer_saved(reply, result);
            }
            Command::RemoveAccount { identity, reply } => {
                let result = self.remove_account(identity);
                self.answer_saved(reply, result);
            }
            Command::Balance { identity, reply } => answer(reply, self.balance(unix, identity)),
            Command::AddBalance { identity, amount, reply } => {
                let result = self.add_balance(unix, identity, amount);
                self.answer_saved(reply, result);
            }
            other => return Some(other),
        }
        None
    }

    /// No account gives these tags any more.
    pub fn remove_tags(&mut self, tags: Tags) {
        let numbers: Vec<u32> = self.ledger.accounts().into_iter().map(|(number, _)| number).collect();
        for number in numbers {
            if let Some(account) = self.ledger.account_mut(number) {
                account.tags.0 &= !tags.0;
            }
        }
        self.unsaved.changed = true;
    }

    /// The accounts have been saved, or could not be: whoever waits is answered.
    pub fn saved(&mut self, result: &Result<(), String>) {
        for Ack(ack) in std::mem::take(&mut self.acks) {
            ack(result.clone().map_err(|error| {
                Refusal::Conflict(format!("done, but not saved, so that a restart may lose it: {error}"))
            }));
        }
    }

    fn answer_saved<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Refusal>) {
        match result {
            Ok(value) => {
                self.unsaved.changed = true;
                self.acks.push(Ack(Box::new(|saved| answer(reply, saved.map(|()| value)))));
            }
            refused => answer(reply, refused),
        }
    }

    fn defaults(&self) -> Defaults {
        let bytes = |limit| match limit {
            Limit::Bytes(bytes) => Some(bytes),
            Limit::Keep | Limit::Unlimited => None,
        };
        Defaults {
            factors: self.rules.factors,
            connected_bias: self.rules.bias.as_secs(),
            throttle_down: bytes(self.rules.throttle_down),
            throttle_up: bytes(self.rules.throttle_up),
        }
    }

    fn set_defaults(&mut self, change: &DefaultsChange) {
        let keep = |new: Limit, old: Limit| match new {
            Limit::Keep => old,
            Limit::Unlimited => Limit::Keep,
            bytes @ Limit::Bytes(_) => bytes,
        };
        let rules = &mut self.rules;
        rules.factors = change.factors.unwrap_or(rules.factors);
        rules.bias = change.connected_bias.map_or(rules.bias, std::time::Duration::from_secs);
        rules.throttle_down = keep(change.throttle_down, rules.throttle_down);
        rules.throttle_up = keep(change.throttle_up, rules.throttle_up);
        self.house.set_defaults(self.minimum, rules.bias);
        let rules = Arc::new(*rules);
        self.tell_all(&ToShard::HouseRules(rules));
    }

    fn accounts(&self, unix: UnixTime, after: Option<Identity>, limit: u32) -> Result<AccountPage, Refusal> {
        if limit == 0 || limit > MOST_CLIENTS {
            let expected = format!("1 to {MOST_CLIENTS}");
            return Err(Refusal::Value { field: "limit", value: limit.to_string(), expected });
        }
        let after = after.map(PriorityId::canonical);
        let all = self.ledger.accounts();
        let behind: Vec<_> =
            all.into_iter().filter(|(_, account)| after.is_none_or(|after| account.id > after)).collect();
        let mut clients: HashMap<u32, u64> = HashMap::new();
        self.payers.values().for_each(|payer| *clients.entry(payer.account).or_default() += 1);
        let shown = |(number, account): &(u32, &Account)| {
            shown_account(unix, account, clients.get(number).copied().unwrap_or_default())
        };
        let page: Vec<_> = behind.iter().take(limit as usize).map(shown).collect();
        let more = behind.len() > page.len();
        let next = page.last().filter(|_| more).map(|last| last.identity);
        Ok(AccountPage { accounts: page, next })
    }

    fn account(&self, unix: UnixTime, identity: Identity) -> Result<command::Account, Refusal> {
        let number = self.number(identity)?;
        let account = self.ledger.account(number).ok_or_else(|| unknown(identity))?;
        let clients = self.payers.values().filter(|payer| payer.account == number).count();
        Ok(shown_account(unix, account, clients as u64))
    }

    fn number(&self, identity: Identity) -> Result<u32, Refusal> {
        self.ledger.number(identity.canonical()).ok_or_else(|| unknown(identity))
    }

    fn set_account(
        &mut self,
        unix: UnixTime,
        identity: Identity,
        change: &AccountChange,
    ) -> Result<command::Account, Refusal> {
        let number = self.ledger.number(identity.canonical());
        let before = number.and_then(|number| self.ledger.account(number)).copied();
        let capacity = match change.capacity.map(|capacity| (capacity, u32::try_from(capacity))) {
            Some((_, Ok(capacity))) if capacity > 0 && capacity < u32::MAX => Some(capacity),
            Some((value, _)) => {
                let expected = format!("1 to {}", u32::MAX - 1);
                return Err(Refusal::Value { field: "capacity", value: value.to_string(), expected });
            }
            None => None,
        };
        let fresh = Account {
            id: identity.canonical(),
            capacity: 0,
            tags: Default::default(),
            factors: self.rules.factors,
            balance: Balance::new(unix),
        };
        let mut account = before.unwrap_or(fresh);
        if before.is_none() && capacity.is_none() {
            let expected = "a capacity, because the identity is new".to_string();
            return Err(Refusal::Value { field: "capacity", value: "none".to_string(), expected });
        }
        account.capacity = capacity.unwrap_or(account.capacity);
        account.factors = change.factors.unwrap_or(account.factors);
        account.tags = change.tags.unwrap_or(account.tags);
        let number = self.ledger.put(account).map_err(|error| match error {
            LedgerError::Full => Refusal::Conflict(error.to_string()),
            LedgerError::Factors(..) => Refusal::Value {
                field: "factors",
                value: error.to_string(),
                expected: "finite numbers that are not negative".to_string(),
            },
        })?;
        if before.is_none() {
            self.tell_known();
            self.look_again(account.id);
        } else {
            self.rank_all(unix, number);
        }
        self.account(unix, identity)
    }

    /// Those who are connected already may be its clients.
    fn look_again(&mut self, id: PriorityId) {
        let filter = match id {
            PriorityId::Network(network) => Filter { network: Some(network), ..Filter::default() },
            PriorityId::Certificate(_) => Filter { transport: Some(Kind::Tls), ..Filter::default() },
        };
        let ask = Ask::Act { who: Who::Matching(filter), action: Action::Rank };
        self.tell_all(&ToShard::Ask(NOBODY, Arc::new(ask)));
    }

    /// What an account's clients are, anew.
    fn rank_all(&mut self, unix: UnixTime, number: u32) {
        for client in self.clients_of(number) {
            let had = self.payers.get(&client).is_some_and(|payer| payer.seat.is_some());
            match self.stand(unix, client) {
                Standing::Free { .. } if had => {
                    let standing = self.as_it_is(client);
                    self.rank(client, standing);
                }
                // It is that already.
                Standing::Free { .. } => {}
                standing => self.rank(client, standing),
            }
        }
    }

    fn clients_of(&self, number: u32) -> Vec<ClientRef> {
        self.payers.iter().filter(|(_, payer)| payer.account == number).map(|(client, _)| *client).collect()
    }

    fn remove_account(&mut self, identity: Identity) -> Result<(), Refusal> {
        let number = self.number(identity)?;
        self.ledger.remove(identity.canonical());
        for client in self.clients_of(number) {
            let untag = self.payers.get(&client).map(|payer| payer.given).unwrap_or_default();
            self.leave(client);
            self.rank_untagged(client, Standing::Free { debt: 0.0 }, untag);
        }
        self.tell_known();
        // A wider network's account may pay for them now.
        self.look_again(identity.canonical());
        Ok(())
    }

    fn balance(&self, unix: UnixTime, identity: Identity) -> Result<command::Balance, Refusal> {
        if let Some(account) = self.number(identity).ok().and_then(|number| self.ledger.account(number)) {
            return Ok(shown(&account.balance, unix));
        }
        let host = match identity.canonical() {
            PriorityId::Network(network) => match network.network() {
                address @ IpAddr::V4(_) if network.prefix_len() == 32 => Host::of(address),
                address @ IpAddr::V6(_) if network.prefix_len() >= 64 => Host::of(address),
                _ => return Err(unknown(identity)),
            },
            PriorityId::Certificate(_) => return Err(unknown(identity)),
        };
        match self.ledger.knows(host) {
            true => Ok(shown(&self.ledger.host(host, unix), unix)),
            false => Err(unknown(identity)),
        }
    }

    fn add_balance(
        &mut self,
        unix: UnixTime,
        identity: Identity,
        amount: i64,
    ) -> Result<(u64, u64), Refusal> {
        let number = self.number(identity)?;
        let balance = self.ledger.balance(number).ok_or_else(|| unknown(identity))?;
        let [old, new] = balance.add(amount).map_err(|Overflow { balance, .. }| Refusal::Value {
            field: "amount",
            value: amount.to_string(),
            expected: format!("at most {}, for a balance of {MAX_BALANCE} at most", MAX_BALANCE - balance),
        })?;
        if (old == 0) != (new == 0) {
            self.tell_known();
        }
        if new == 0 {
            for client in self.clients_of(number) {
                if self.payers.get(&client).is_some_and(|payer| payer.seat.is_some()) {
                    self.unseat(unix, client);
                }
            }
        } else if old == 0 {
            self.rank_all(unix, number);
        }
        Ok((old, new))
    }
}

fn shown_account(unix: UnixTime, account: &Account, clients: u64) -> command::Account {
    command::Account {
        identity: account.id,
        capacity: u64::from(account.capacity),
        factors: account.factors,
        tags: account.tags,
        balance: shown(&account.balance, unix),
        clients,
    }
}

fn unknown(identity: Identity) -> Refusal {
    Refusal::Unknown { field: "identity", value: identity.to_string() }
}

/// Whoever asked may have gone.
fn answer<T>(reply: Reply<T>, result: Result<T, Refusal>) {
    let _ = reply.send(result);
}
