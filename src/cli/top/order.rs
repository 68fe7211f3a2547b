//! The order of the clients of a page.

use std::cmp::Ordering;

use super::data::Client;

/// By which column.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Column {
    /// Shard and slot, as the relay gives them.
    #[default]
    Id,
    Address,
    Class,
    Age,
    Out,
    In,
    Ping,
    Capacity,
}

impl Column {
    const ALL: [Column; 8] = [
        Column::Id,
        Column::Address,
        Column::Class,
        Column::Age,
        Column::Out,
        Column::In,
        Column::Ping,
        Column::Capacity,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Column::Id => "id",
            Column::Address => "address",
            Column::Class => "class",
            Column::Age => "age",
            Column::Out => "out",
            Column::In => "in",
            Column::Ping => "ping",
            Column::Capacity => "capacity",
        }
    }

    fn compare(self, a: &Client, b: &Client) -> Ordering {
        match self {
            Column::Id => Ordering::Equal,
            Column::Address => a.address.cmp(&b.address),
            Column::Class => a.class.cmp(&b.class),
            Column::Age => b.connected.total_cmp(&a.connected),
            Column::Out => b.bytes_out.cmp(&a.bytes_out),
            Column::In => b.bytes_in.cmp(&a.bytes_in),
            Column::Ping => b.round_trip.unwrap_or(-1.0).total_cmp(&a.round_trip.unwrap_or(-1.0)),
            Column::Capacity => b.capacity.cmp(&a.capacity),
        }
    }
}

/// A column, numbers from the largest; and whether it is turned round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) column: Column,
    pub(super) reversed: bool,
}

impl Order {
    pub(super) fn next(&mut self) {
        let at = Column::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        self.column = Column::ALL.get(at + 1).copied().unwrap_or_default();
        self.reversed = false;
    }

    pub(super) fn reverse(&mut self) {
        self.reversed = !self.reversed;
    }

    /// Equal ones stay as the relay gave them.
    pub(super) fn sort(self, rows: &mut [&Client]) {
        rows.sort_by(|a, b| self.column.compare(a, b));
        if self.reversed {
            rows.reverse();
        }
    }
}
