//! Tests of `ledger`.

use proptest::prelude::*;

use super::*;

fn account(id: &str, capacity: u32) -> Account {
    Account {
        id: id.parse().unwrap(),
        capacity,
        tags: Tags(5),
        factors: Factors::default(),
        balance: Balance::restore(1_000, 2.5, 77).unwrap(),
    }
}

fn owes(negative: f64) -> Balance {
    Balance::restore(0, negative, 100).unwrap()
}

#[test]
fn the_host_not_seen_for_longest_is_forgotten() {
    let mut ledger = Ledger::new(3);
    for n in 1..=3 {
        ledger.remember(Host::V4(n), owes(f64::from(n)));
    }
    ledger.remember(Host::V4(1), owes(10.0));
    ledger.remember(Host::V6(1), owes(4.0));
    let debts: Vec<f64> = [Host::V4(1), Host::V4(2), Host::V4(3), Host::V6(1)]
        .into_iter()
        .map(|host| ledger.host(host, 100).negative(100))
        .collect();
    assert_eq!((debts, ledger.hosts(), ledger.by_time.len()), (vec![10.0, 0.0, 3.0, 4.0], 3, 3));
}

#[test]
fn accounts_keep_their_numbers_and_are_never_forgotten() {
    let mut ledger = Ledger::new(2);
    assert_eq!(ledger.put(account("192.0.2.0/24", 10)), Ok(0));
    assert_eq!(ledger.put(account("::ffff:198.51.100.7", 20)), Ok(1));
    assert_eq!(ledger.put(account("192.0.2.9/24", 30)), Ok(0), "the same network");
    (0..100).for_each(|n| ledger.remember(Host::V4(n), owes(1.0)));
    assert_eq!(ledger.find("192.0.2.77".parse().unwrap(), None), Some(0));
    assert_eq!(ledger.account(0).unwrap().capacity, 30);
    assert_eq!(ledger.balance(1).unwrap().add(-400), Ok([1_000, 600]));
    assert!(ledger.remove("192.0.2.0/24".parse().unwrap()).is_some());
    assert!(ledger.account(0).is_none() && ledger.find("192.0.2.77".parse().unwrap(), None).is_none());
    assert_eq!(ledger.put(account("203.0.113.0/24", 1)), Ok(0));
    let ids: Vec<String> = ledger.accounts().iter().map(|(_, account)| account.id.to_string()).collect();
    assert_eq!(ids, ["198.51.100.7/32", "203.0.113.0/24"]);
}

#[test]
fn there_is_a_most_and_bad_prices_are_refused() {
    let mut ledger = Ledger::new(1);
    let bad = Account { factors: Factors { time: -1.0, ..Factors::default() }, ..account("::1", 1) };
    assert_eq!(
        ledger.put(bad).unwrap_err().to_string(),
        "price factors are -1, 0.1 and 1, expected numbers that are finite and not negative"
    );
    for n in 0..MAX_ACCOUNTS as u64 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&n.to_le_bytes());
        ledger.put(Account { id: PriorityId::Certificate(hash), ..account("::1", 1) }).unwrap();
    }
    assert_eq!(ledger.put(account("::1", 1)), Err(LedgerError::Full));
    assert!(ledger.put(Account { id: PriorityId::Certificate([0; 32]), ..account("::1", 2) }).is_ok());
}

#[test]
fn errors_name_the_field_the_value_and_what_was_expected() {
    let mut ledger = Ledger::new(10);
    ledger.put(account("192.0.2.0/24", 10)).unwrap();
    ledger.remember(Host::V4(1), owes(1.5));
    let text = ledger.to_json(true, true);
    let cases = [
        (r#""version":1"#, r#""version":9"#, "field `version` is 9, expected 1"),
        (
            r#""id":"192.0.2.0/24""#,
            r#""id":"all""#,
            "field `accounts[0].id` is \"all\", expected an address, a network such as 192.0.2.0/24, or key: and 64 hexadecimal digits",
        ),
        (
            r#""capacity":10"#,
            r#""capacity":4294967296"#,
            "field `accounts[0].capacity` is 4294967296, expected a whole number of units per second, at most 4294967295",
        ),
        (
            r#""negative":1.5"#,
            r#""negative":-1.5"#,
            "field `hosts[0].negative` is -1.5, expected a number that is not negative",
        ),
        (r#""tags":5"#, r#""tags":65536"#, "field `accounts[0].tags` is 65536, expected a set of 16 bits"),
        (
            r#""tags":5"#,
            r#""tags":5,"note":1"#,
            "field `accounts[0].note` is unknown (its value is 1); known here: id, capacity, tags, time_factor, \
             capacity_factor, request_factor, positive, last, negative. Correct or remove it",
        ),
    ];
    for (right, wrong, error) in cases {
        assert!(text.contains(right), "{text}");
        let found = Ledger::from_json(&text.replacen(right, wrong, 1), 10).unwrap_err().to_string();
        assert_eq!(found, error);
    }
}

proptest! {
    #[test]
    fn text_and_back(
        hosts in prop::collection::vec((any::<bool>(), any::<u64>(), any::<u32>(), 0_u64..=MAX_BALANCE), 0..40),
        accounts in prop::collection::vec((any::<[u8; 32]>(), any::<u32>(), any::<u16>(), any::<u32>()), 0..10),
    ) {
        let mut ledger = Ledger::new(30);
        for (v6, bits, negative, positive) in hosts {
            let host = if v6 { Host::V6(bits) } else { Host::V4(bits as u32) };
            ledger.remember(host, Balance::restore(positive, f64::from(negative) / 4.0, 1_700_000_000).unwrap());
        }
        for (hash, capacity, tags, factor) in accounts {
            let factor = f64::from(factor) / 8.0;
            let factors = Factors { time: factor, capacity: factor / 4.0, request: 0.0 };
            let id = PriorityId::Certificate(hash);
            ledger.put(Account { id, capacity, tags: Tags(tags), factors, ..account("::1", 1) }).unwrap();
        }
        let text = ledger.to_json(true, true);
        let again = Ledger::from_json(&text, 30).unwrap();
        prop_assert_eq!(again.to_json(true, true), text);
        prop_assert!(again.hosts() <= 30 && again.by_time.len() == again.hosts());
    }
}
