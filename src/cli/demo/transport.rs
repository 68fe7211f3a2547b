//! How the demo's clients reach the relay: a third of them by each transport.

/// A client's transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// v1, not encrypted.
    Plain,
    /// BIP324, on the same port.
    V2,
    /// TLS 1.3, on a port of its own.
    Tls,
}

impl Transport {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Transport; 3] = [Transport::Plain, Transport::V2, Transport::Tls];

    /// The transport of a client, by its number: in turns, so that each has clients of every kind.
    pub(super) fn of(number: usize) -> Transport {
        Transport::ALL[number % Transport::ALL.len()]
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Transport::Plain => "plain",
            Transport::V2 => "v2",
            Transport::Tls => "TLS",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::clients::{kinds, name};
    use super::*;

    #[test]
    fn each_transport_has_clients_of_every_kind() {
        let kinds = kinds(300);
        for transport in Transport::ALL {
            let own = (0..300).filter(|number| Transport::of(*number) == transport);
            let of_kind: BTreeSet<&str> = own.clone().map(|number| name(kinds[number])).collect();
            assert_eq!((own.count(), of_kind.len()), (100, 6), "{transport:?}");
        }
    }
}
