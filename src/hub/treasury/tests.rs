//! Tests of `treasury`, shards played by the test.

use super::*;
use crate::admission::{Limit, Report};
use crate::base::ClientId;
use crate::hub::command::{AccountChange, Command, Refusal, Reply};
use tokio::sync::oneshot;

const UNIX: UnixTime = 1_800_000_000;
const NETWORK: &str = "192.0.2.0/24";

fn config(maximum: u64) -> TreasuryConfig {
    let factors = Factors { time: 0.0, capacity: 1.0, request: 1.0 };
    let bias = Duration::from_secs(180);
    let (throttle_down, throttle_up) = (Limit::Keep, Limit::Keep);
    TreasuryConfig {
        minimum: 100,
        limits: CapacityLimits { maximum, recharge: maximum },
        rules: HouseRules { factors, bias, throttle_down, throttle_up },
    }
}

struct Rig {
    treasury: Treasury,
    now: Instant,
    unix: UnixTime,
    grants: [crate::admission::Grant; 2],
    used: [u64; 2],
    shed: [bool; 2],
}

impl Rig {
    fn new(maximum: u64) -> Rig {
        Rig::with(maximum, Ledger::new(1_000))
    }

    fn with(maximum: u64, ledger: Ledger) -> Rig {
        let now = Instant(1_000_000_000);
        let treasury = Treasury::new(config(maximum), ledger, 2, now, UNIX);
        let (grants, used, shed) = (Default::default(), [0; 2], [false; 2]);
        let mut rig = Rig { treasury, now, unix: UNIX, grants, used, shed };
        rig.ranks();
        rig
    }

    /// A second, at whose end both shards report.
    fn second(&mut self) -> Vec<(ClientRef, Standing)> {
        for n in 0..2 {
            let free = Report { obeys: self.grants[n].number, used: self.used[n], wanted: 0 };
            self.treasury.report(ShardId(n as u16), HouseReport { free, recharging: 0, frozen: 0 });
        }
        self.now = self.now + Duration::from_secs(1);
        self.unix += 1;
        self.treasury.tick(self.now, self.unix);
        self.ranks()
    }

    /// What the shards are told of clients; grants are obeyed.
    fn ranks(&mut self) -> Vec<(ClientRef, Standing)> {
        let mut ranks = Vec::new();
        while let Some((shard, entry)) = self.treasury.next_output() {
            match entry {
                ToShard::Rank(rank) => ranks.push((ClientRef { shard, id: rank.client }, rank.standing)),
                ToShard::House(order) => {
                    self.grants[usize::from(shard.0)] = order.grant;
                    self.shed[usize::from(shard.0)] = order.shed;
                }
                _ => {}
            }
        }
        ranks
    }

    fn came(&mut self, shard: u16, slot: u32, peer: &str, step: Step) -> Vec<(ClientRef, Standing)> {
        let client = ClientId { slot, generation: 0 };
        let peer = format!("{peer}:1000").parse().unwrap();
        let (service, transport) = (ServiceId(0), Kind::Plain);
        let came = Came { client, peer, certificate: None, service, transport, step };
        assert!(self.treasury.handle(self.unix, ShardId(shard), ToHub::Came([came].into())).is_none());
        self.ranks()
    }

    fn used(&mut self, shard: u16, slot: u32, cost: u32) {
        let client = ClientId { slot, generation: 0 };
        let used = ToHub::Used([Used { client, cost, recharging: true }].into());
        assert!(self.treasury.handle(self.unix, ShardId(shard), used).is_none());
    }

    fn gone(&mut self, shard: u16, slot: u32, peer: &str, class: Class, owes: f32) {
        let peer = format!("{peer}:1000").parse().unwrap();
        let client = ClientId { slot, generation: 0 };
        let gone = Gone { client, peer, class, tags: Tags(0), end: End::Closed, owes };
        assert!(self.treasury.handle(self.unix, ShardId(shard), ToHub::Gone([gone].into())).is_none());
    }

    fn ask<T>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, mut answer) = oneshot::channel();
        assert!(self.treasury.command(self.unix, command(reply)).is_none());
        if self.treasury.is_awaited() {
            assert!(answer.try_recv().is_err(), "answered before it is on the disk");
            self.treasury.accounts_saved();
            self.treasury.saved(&Ok(()));
        }
        answer.try_recv().unwrap()
    }

    fn set_account(&mut self, identity: &str, capacity: u64) {
        let change = AccountChange { capacity: Some(capacity), ..AccountChange::default() };
        let identity = identity.parse().unwrap();
        self.ask(|reply| Command::SetAccount { identity, change, reply }).unwrap();
    }

    fn add(&mut self, identity: &str, amount: i64) -> Result<(u64, u64), Refusal> {
        let identity = identity.parse().unwrap();
        self.ask(|reply| Command::AddBalance { identity, amount, reply })
    }

    fn sum(&self) -> u64 {
        self.grants.iter().map(|grant| grant.amount).sum()
    }
}

fn who(shard: u16, slot: u32) -> ClientRef {
    ClientRef { shard: ShardId(shard), id: ClientId { slot, generation: 0 } }
}

fn priority(capacity: u32) -> Standing {
    Standing::Priority { capacity }
}

#[test]
fn a_priority_client_gets_in_at_a_full_house_and_the_free_ones_give_way() {
    let mut rig = Rig::new(10_000);
    rig.used = [5_000, 5_000];
    rig.second();
    rig.second();
    assert_eq!((rig.sum(), rig.shed), (10_000, [false; 2]));
    rig.set_account(NETWORK, 3_000);
    rig.add(NETWORK, 1_000_000).unwrap();
    assert_eq!(rig.came(0, 7, "192.0.2.9", Step::Knocks), [(who(0, 7), priority(3_000))], "at once");
    assert_eq!((rig.sum(), rig.shed), (7_000, [true; 2]), "in the same breath");
    assert_eq!(rig.treasury.capacities().priority_connected, 3_000);
    // It leaves, and the free ones have it all again.
    rig.used = [3_500, 3_500];
    rig.second();
    rig.gone(0, 7, "192.0.2.9", Class::Priority, 0.0);
    rig.second();
    rig.second();
    assert_eq!((rig.sum(), rig.treasury.capacities().priority_connected), (10_000, 0));
}

#[test]
fn a_balance_that_is_used_up_makes_it_free_and_more_of_it_priority_again() {
    let mut rig = Rig::new(10_000);
    rig.set_account(NETWORK, 1_000);
    assert_eq!(
        rig.came(1, 3, "192.0.2.1", Step::In),
        [(who(1, 3), Standing::Free { debt: 0.0 })],
        "no balance"
    );
    rig.add(NETWORK, 5_000).unwrap();
    assert_eq!(rig.ranks(), [(who(1, 3), priority(1_000))]);
    // A second of 1,000 units of capacity costs 1,000, and what it is served comes on top.
    rig.used(1, 3, 2_500);
    assert_eq!(rig.second(), []);
    let identity = NETWORK.parse().unwrap();
    let balance = rig.ask(|reply| Command::Balance { identity, reply }).unwrap();
    assert_eq!((balance.positive, balance.negative), (1_500, 0));
    assert_eq!(rig.second(), []);
    let [(client, Standing::Free { debt })] = rig.second()[..] else { panic!("it has nothing left") };
    assert!(client == who(1, 3) && (499.0..501.0).contains(&debt), "{debt}");
    assert_eq!(rig.treasury.priority_clients(), 0);
    assert_eq!(rig.add(NETWORK, 100).unwrap(), (0, 100));
    assert_eq!(rig.ranks(), [(who(1, 3), priority(1_000))]);
    // Taken away by hand.
    assert_eq!(rig.add(NETWORK, -1_000_000).unwrap(), (100, 0));
    assert!(matches!(rig.ranks()[..], [(_, Standing::Free { .. })]));
}

#[test]
fn what_an_operator_does_wrong_changes_nothing() {
    let mut rig = Rig::new(10_000);
    let identity = NETWORK.parse().unwrap();
    let refused = rig.ask(|reply| Command::SetAccount { identity, change: AccountChange::default(), reply });
    assert!(matches!(refused, Err(Refusal::Value { field: "capacity", .. })), "{refused:?}");
    assert!(matches!(rig.add(NETWORK, 1), Err(Refusal::Unknown { field: "identity", .. })));
    rig.set_account(NETWORK, 10);
    rig.add(NETWORK, 7).unwrap();
    let refused = rig.add(NETWORK, i64::MAX);
    assert!(matches!(refused, Err(Refusal::Value { field: "amount", .. })), "{refused:?}");
    let change = AccountChange { capacity: Some(u64::from(u32::MAX)), ..AccountChange::default() };
    let refused = rig.ask(|reply| Command::SetAccount { identity, change, reply });
    assert!(matches!(refused, Err(Refusal::Value { field: "capacity", .. })), "{refused:?}");
    let account = rig.ask(|reply| Command::Account { identity, reply }).unwrap();
    assert_eq!((account.capacity, account.balance.positive), (10, 7));
}

#[test]
fn of_priority_clients_the_lowest_gives_way_and_nobody_to_an_equal() {
    let mut rig = Rig::new(5_000);
    for (network, balance) in [("192.0.2.0/24", 1_000_000), ("198.51.100.0/24", 9_000_000)] {
        rig.set_account(network, 3_000);
        rig.add(network, balance).unwrap();
    }
    assert_eq!(rig.came(0, 1, "192.0.2.1", Step::Knocks), [(who(0, 1), priority(3_000))]);
    let ranks = rig.came(0, 2, "198.51.100.1", Step::Knocks);
    assert_eq!(ranks, [(who(0, 1), Standing::Out), (who(0, 2), priority(3_000))]);
    let ranks = rig.came(1, 1, "192.0.2.2", Step::Knocks);
    assert!(matches!(ranks[..], [(_, Standing::Free { .. })]), "{ranks:?}");
    // More than there is room for is not given, and what it had stays.
    let changed = Changed { client: who(0, 2).id, capacity: 6_000, factors: None };
    rig.treasury.handle(rig.unix, ShardId(0), ToHub::Changed(changed));
    assert_eq!(rig.ranks(), [(who(0, 2), priority(3_000))]);
    let changed = Changed { client: who(0, 2).id, capacity: 4_000, factors: None };
    rig.treasury.handle(rig.unix, ShardId(0), ToHub::Changed(changed));
    assert_eq!(rig.ranks(), [(who(0, 2), priority(4_000))]);
    assert_eq!(rig.treasury.capacities().priority_connected, 4_000);
}

#[test]
fn what_a_host_owes_is_remembered_also_by_the_next_process() {
    let mut rig = Rig::new(10_000);
    assert_eq!(rig.came(0, 1, "203.0.113.5", Step::In), [], "a stranger owes nothing: not a word");
    rig.gone(0, 1, "203.0.113.5", Class::Free, 5_000.0);
    rig.gone(0, 2, "203.0.113.5", Class::Probe, 0.0);
    assert_eq!(rig.came(1, 1, "203.0.113.5", Step::In), [(who(1, 1), Standing::Free { debt: 5_000.0 })]);
    assert_eq!(rig.came(1, 1, "203.0.113.5", Step::Again), [], "it is counted already");
    rig.set_account(NETWORK, 50);
    rig.add(NETWORK, 70).unwrap();
    let ledger = rig.treasury.ledger();
    let mut again = Ledger::from_json(&ledger.accounts_json(), 1_000).unwrap();
    again.merge(&Ledger::from_json(&ledger.hosts_json(), 1_000).unwrap());
    let mut rig = Rig::with(10_000, again);
    let ranks = rig.came(0, 1, "203.0.113.5", Step::Knocks);
    assert_eq!(ranks, [(who(0, 1), Standing::Free { debt: 5_000.0 })]);
    let identity = NETWORK.parse().unwrap();
    let account = rig.ask(|reply| Command::Account { identity, reply }).unwrap();
    assert_eq!((account.capacity, account.balance.positive), (50, 70));
}

#[test]
fn an_account_made_or_removed_concerns_those_who_are_connected() {
    let mut rig = Rig::new(10_000);
    rig.came(0, 4, "192.0.2.4", Step::In);
    let change = AccountChange { capacity: Some(500), ..AccountChange::default() };
    let identity = NETWORK.parse().unwrap();
    rig.ask(|reply| Command::SetAccount { identity, change, reply }).unwrap();
    let mut known = 0;
    let mut asked = 0;
    while let Some((_, entry)) = rig.treasury.next_output() {
        match entry {
            ToShard::Known(set) => known += set.len(),
            ToShard::Ask(_, ask) => {
                assert!(matches!(&*ask, crate::link::Ask::Act { action: crate::link::Action::Rank, .. }));
                asked += 1;
            }
            _ => {}
        }
    }
    assert_eq!((known, asked), (0, 2), "each shard looks whom of its clients that concerns");
    rig.add(NETWORK, 1_000_000).unwrap();
    assert_eq!(rig.came(0, 4, "192.0.2.4", Step::Again), [(who(0, 4), priority(500))]);
    rig.ask(|reply| Command::RemoveAccount { identity, reply }).unwrap();
    assert_eq!(rig.ranks(), [(who(0, 4), Standing::Free { debt: 0.0 })]);
    assert_eq!((rig.treasury.priority_clients(), rig.treasury.capacities().priority_connected), (0, 0));
}

#[test]
fn nothing_stays_of_a_client_that_knocked_and_went() {
    let mut rig = Rig::new(10_000);
    rig.set_account(NETWORK, 3_000);
    rig.add(NETWORK, 1_000_000).unwrap();
    for slot in 0..9 {
        rig.came(0, slot, "192.0.2.9", Step::Knocks);
        rig.gone(0, slot, "192.0.2.9", Class::Probe, 0.0);
    }
    assert_eq!((rig.treasury.priority_clients(), rig.treasury.capacities().priority_connected), (0, 0));
    let identity = NETWORK.parse().unwrap();
    assert_eq!(rig.ask(|reply| Command::Account { identity, reply }).unwrap().clients, 0);
}

#[test]
fn who_found_no_room_is_seated_when_there_is_some_and_again_changes_nothing() {
    let mut rig = Rig::new(3_000);
    rig.set_account(NETWORK, 3_000);
    rig.add(NETWORK, 1 << 40).unwrap();
    assert_eq!(rig.came(0, 1, "192.0.2.1", Step::Knocks), [(who(0, 1), priority(3_000))]);
    let ranks = rig.came(1, 2, "192.0.2.2", Step::Knocks);
    assert!(matches!(ranks[..], [(_, Standing::Free { .. })]), "{ranks:?}");
    assert_eq!(rig.came(0, 1, "192.0.2.1", Step::Again), [], "it keeps its seat");
    assert_eq!(rig.second(), []);
    rig.gone(0, 1, "192.0.2.1", Class::Priority, 0.0);
    assert_eq!(rig.second(), [(who(1, 2), priority(3_000))]);
}

#[test]
fn priority_clients_have_what_their_accounts_say_where_the_others_have_no_limit() {
    let now = Instant(1_000_000_000);
    let config = TreasuryConfig { minimum: u32::MAX, ..config(10_000) };
    let mut rig = Rig::new(10_000);
    rig.treasury = Treasury::new(config, Ledger::new(9), 2, now, UNIX);
    rig.set_account(NETWORK, 3_000);
    rig.add(NETWORK, 1_000_000).unwrap();
    assert_eq!(rig.came(0, 1, "192.0.2.1", Step::In), [(who(0, 1), priority(3_000))]);
    assert_eq!(rig.treasury.capacities().free_client, 0);
}
