//! What requests cost, in units of one microsecond of a core: so much for each, for each item, and for each KiB that is sent
//! or received. The maximum is known before a request is served, the truth after.
//!
//! The numbers are configured (`[costs]`), and measured by `breakwater calibrate`. They need only be right in proportion: capacity is in the
//! same unit.

use toml::{Table, Value};

use crate::base::limits::{MAX_MESSAGE, MAX_TX_WEIGHT};

/// Most of a price, units: a second of a core.
const MOST: f64 = 1_000_000.0;
/// Prices are kept in thousandths.
const MILLI: u64 = 1_000;
/// Bytes of the longest filter taken into account: a block of 4 MB has some 100,000 outputs of 21 bits (BIP158).
const MAX_FILTER: u64 = 300_000;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $key:literal, $group:ident, $bytes:expr,
        [$base:literal, $item:literal, $kib:literal];)+) => {
        /// A kind of request.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $name),+ }

        impl Kind {
            /// All, in the order of the table.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// Its key in the configuration.
            pub fn key(self) -> &'static str {
                match self { $(Kind::$name => $key),+ }
            }

            /// What it is reported under.
            pub fn group(self) -> Group {
                match self { $(Kind::$name => Group::$group),+ }
            }

            /// Most bytes of an item, sent or received.
            pub fn item_bytes(self) -> u64 {
                match self { $(Kind::$name => $bytes),+ }
            }

            fn default_price(self) -> Price {
                match self { $(Kind::$name => Price { base: $base, per_item: $item, per_kib: $kib }),+ }
            }
        }
    };
}

// Estimates of one core at some 3 GHz with encryption: a message 5, a look into a table 0.1, reading, sealing and sending a KiB
// 1.
kinds! {
    /// getheaders; items are headers.
    Headers = "headers", Headers, 81, [8_000, 20, 1_000];
    /// getdata of a block; items are blocks.
    Block = "block", Blocks, MAX_MESSAGE as u64, [10_000, 20_000, 1_000];
    /// getdata of a compact block; items are blocks.
    CompactBlock = "compact_block", Blocks, MAX_MESSAGE as u64, [10_000, 10_000, 1_000];
    /// getblocktxn; items are transactions.
    BlockTxn = "blocktxn", Blocks, MAX_TX_WEIGHT as u64, [10_000, 500, 1_000];
    /// getdata of a transaction; items are transactions.
    Tx = "tx", Transactions, MAX_TX_WEIGHT as u64, [3_000, 1_000, 1_000];
    /// getcfilters; items are filters.
    Filters = "cfilters", Filters, MAX_FILTER, [10_000, 3_000, 1_000];
    /// getcfheaders; items are filter hashes.
    FilterHeaders = "cfheaders", Filters, 32, [10_000, 20, 1_000];
    /// getcfcheckpt; items are filter headers.
    FilterCheckpoints = "cfcheckpt", Filters, 32, [10_000, 100, 1_000];
    /// inv; items are its entries.
    Inv = "inv", Transactions, 36, [3_000, 300, 1_000];
    /// A transaction submitted; items are transactions. The hub and the node work on it, too.
    Submit = "submit", Transactions, MAX_TX_WEIGHT as u64, [20_000, 100_000, 5_000];
    /// What a submitted transaction costs on top when the node refuses it.
    Refused = "refused", Transactions, 0, [0, 2_000_000, 0];
    /// mempool; items are transactions in the answer.
    Mempool = "mempool", Transactions, 36, [50_000, 200, 1_000];
    /// getaddr; items are addresses in the answer.
    Addresses = "getaddr", Other, 32, [20_000, 200, 1_000];
    /// ping.
    Ping = "ping", Other, 8, [3_000, 0, 1_000];
    /// Any other message; one item with the bytes that it has.
    Other = "other", Other, MAX_MESSAGE as u64, [3_000, 0, 1_000];
}

/// What costs are reported under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Group {
    /// Headers.
    Headers,
    /// Blocks, whole, compact and in parts.
    Blocks,
    /// Compact filters, their headers and checkpoints.
    Filters,
    /// Transactions, both ways.
    Transactions,
    /// The rest.
    Other,
}

impl Group {
    /// All, in the order of the counters.
    pub const ALL: [Group; 5] =
        [Group::Headers, Group::Blocks, Group::Filters, Group::Transactions, Group::Other];

    /// The name in JSON and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Group::Headers => "headers",
            Group::Blocks => "blocks",
            Group::Filters => "filters",
            Group::Transactions => "transactions",
            Group::Other => "other",
        }
    }
}

/// The price of a kind, in thousandths of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Price {
    /// Of a request.
    pub base: u32,
    /// Of an item.
    pub per_item: u32,
    /// Of 1,024 bytes.
    pub per_kib: u32,
}

impl Price {
    /// Whole units, rounded up, and at least one if anything costs.
    fn of(self, items: u64, bytes: u64) -> u32 {
        let items = u64::from(self.per_item).saturating_mul(items);
        let bytes = u64::from(self.per_kib).saturating_mul(bytes).div_ceil(1_024);
        let sum = u64::from(self.base).saturating_add(items).saturating_add(bytes);
        u32::try_from(sum.div_ceil(MILLI)).unwrap_or(u32::MAX)
    }
}

/// A table that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("configuration key `{key}` is {value}, expected {expected}")]
pub struct CostError {
    /// The key, as in `costs.block.per_kib`.
    pub key: String,
    /// What stands there.
    pub value: String,
    /// What should.
    pub expected: String,
}

/// The price of every kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Costs([Price; Kind::ALL.len()]);

impl Default for Costs {
    fn default() -> Costs {
        let mut prices = [Price::default(); Kind::ALL.len()];
        for (price, kind) in prices.iter_mut().zip(Kind::ALL) {
            *price = kind.default_price();
        }
        Costs(prices)
    }
}

impl Costs {
    /// From the table `costs` of a configuration: `block = { base = 10, per_item = 20, per_kib = 1 }`, in units. What is not
    /// named keeps its default; what is not known is an error.
    pub fn from_toml(table: &Table) -> Result<Costs, CostError> {
        let mut costs = Costs::default();
        for (name, value) in table {
            let Some(kind) = Kind::ALL.iter().find(|kind| kind.key() == name) else {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.key()).collect();
                let expected = format!("one of {} after `costs.`", known.join(", "));
                return Err(CostError { key: format!("costs.{name}"), value: "unknown".into(), expected });
            };
            let Value::Table(fields) = value else {
                let expected = "a table as { base = 10, per_item = 20, per_kib = 1 }".into();
                return Err(CostError { key: format!("costs.{name}"), value: shown(value), expected });
            };
            let price = &mut costs.0[*kind as usize];
            for (field, value) in fields {
                let slot = match field.as_str() {
                    "base" => &mut price.base,
                    "per_item" => &mut price.per_item,
                    "per_kib" => &mut price.per_kib,
                    _ => {
                        let expected = "one of base, per_item, per_kib".into();
                        let key = format!("costs.{name}.{field}");
                        return Err(CostError { key, value: "unknown".into(), expected });
                    }
                };
                *slot = milli(value).ok_or_else(|| CostError {
                    key: format!("costs.{name}.{field}"),
                    value: shown(value),
                    expected: format!("a number of microseconds from 0 to {MOST}"),
                })?;
            }
        }
        Ok(costs)
    }

    /// The table as text, as [`Costs::from_toml`] reads it below `[costs]`.
    pub fn to_toml(&self) -> String {
        let units = |milli: u32| f64::from(milli) / MILLI as f64;
        let line = |(kind, price): (&Kind, &Price)| {
            let (base, item, kib) = (units(price.base), units(price.per_item), units(price.per_kib));
            format!("{} = {{ base = {base}, per_item = {item}, per_kib = {kib} }}\n", kind.key())
        };
        Kind::ALL.iter().zip(&self.0).map(line).collect()
    }

    /// The price of a kind.
    pub fn price(&self, kind: Kind) -> Price {
        self.0[kind as usize]
    }

    /// Sets the price of a kind, as measured.
    pub fn set(&mut self, kind: Kind, price: Price) {
        self.0[kind as usize] = price;
    }

    /// The most that a request for so many items can cost, in units.
    pub fn max_cost(&self, kind: Kind, items: u32) -> u32 {
        let items = u64::from(items);
        self.price(kind).of(items, items.saturating_mul(kind.item_bytes()))
    }

    /// What it has cost, with so many items and bytes, in units. At most [`Costs::max_cost`] of as many items, if none was
    /// longer than [`Kind::item_bytes`].
    pub fn real_cost(&self, kind: Kind, items: u32, bytes: u64) -> u32 {
        self.price(kind).of(u64::from(items), bytes)
    }
}

fn milli(value: &Value) -> Option<u32> {
    let units = value.as_float().or_else(|| value.as_integer().map(|n| n as f64))?;
    (0.0..=MOST).contains(&units).then_some((units * MILLI as f64).round() as u32)
}

/// A value in one short line.
fn shown(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Costs, CostError> {
        Costs::from_toml(&text.parse().unwrap())
    }

    #[test]
    fn a_request_costs_its_base_its_items_and_its_bytes() {
        let costs = parse("block = { base = 10, per_item = 2.5, per_kib = 0.001 }").unwrap();
        assert_eq!(costs.real_cost(Kind::Block, 2, 1_024_000), 16);
        assert_eq!(costs.real_cost(Kind::Block, 0, 1), 11, "rounded up");
        assert_eq!(costs.max_cost(Kind::Block, 1), 10 + 3 + 4);
        let others = |costs: &Costs| Kind::ALL[2..].iter().map(|kind| costs.price(*kind)).collect::<Vec<_>>();
        assert_eq!(others(&costs), others(&Costs::default()));
        let huge = parse("block = { base = 1_000_000, per_item = 1_000_000, per_kib = 1_000_000 }").unwrap();
        assert_eq!(huge.max_cost(Kind::Block, u32::MAX), u32::MAX);
    }

    #[test]
    fn errors_name_the_key() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(
            error("blocks = {}")
                .starts_with("configuration key `costs.blocks` is unknown, expected one of headers")
        );
        assert_eq!(
            error("block = 3"),
            "configuration key `costs.block` is 3, expected a table as { base = 10, per_item = 20, per_kib = 1 }"
        );
        assert_eq!(
            error("ping = { per_byte = 1 }"),
            "configuration key `costs.ping.per_byte` is unknown, expected one of base, per_item, per_kib"
        );
        for bad in ["-1", "1_000_001", "nan", "inf", "\"x\"", "true"] {
            let error = error(&format!("ping = {{ base = {bad} }}"));
            assert!(error.starts_with("configuration key `costs.ping.base` is "), "{error}");
            assert!(error.ends_with("expected a number of microseconds from 0 to 1000000"), "{error}");
        }
    }

    #[test]
    fn every_kind_has_a_place_and_a_price() {
        let costs = Costs::default();
        for (n, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, n);
            assert!(costs.max_cost(*kind, 1) > 0, "{}", kind.key());
        }
        for (n, group) in Group::ALL.iter().enumerate() {
            assert_eq!(*group as usize, n);
            assert!(Kind::ALL.iter().any(|kind| kind.group() == *group));
        }
        assert_eq!(parse(&costs.to_toml()), Ok(costs));
    }

    proptest! {
        #[test]
        fn the_truth_is_never_above_the_maximum(
            kind in prop::sample::select(Kind::ALL),
            items in 0_u32..50_000,
            fewer in 0_u32..50_000,
            fill in 0_u64..=100,
        ) {
            let costs = Costs::default();
            let fewer = fewer.min(items);
            let bytes = u64::from(fewer) * kind.item_bytes() * fill / 100;
            prop_assert!(costs.real_cost(kind, fewer, bytes) <= costs.max_cost(kind, items));
        }
    }
}
