//! How the demo's clients reach the relay: a third of them by each transport.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::relay::{Addresses, NAME};
use crate::base::End;
use crate::cli::Failure;
use crate::stub::MAGIC;
use crate::transport::Pipe;
use crate::transport::tls::{self, Pem};

/// Session tickets kept for all clients together, each used as often as there are clients.
const TICKETS: usize = 4;

/// Longest wait for the first ticket.
const TICKET_WAIT: Duration = Duration::from_secs(2);
/// How often is looked for it.
const TICKET_PAUSE: Duration = Duration::from_millis(5);

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

/// What a client needs to connect.
#[derive(Debug)]
pub(super) struct Ways {
    addresses: Addresses,
    tls: tls::Client,
    /// True exactly when a client over TLS has begun.
    begun: AtomicBool,
}

impl Ways {
    /// To a relay that shows this certificate.
    pub(super) fn new(addresses: Addresses, certificate: Pem) -> Result<Ways, Failure> {
        let setup = tls::ClientSetup {
            name: NAME.to_owned(),
            trust: tls::Trust::Roots(certificate),
            alpn: false,
            certificate: None,
            tickets: TICKETS,
        };
        let tls = tls::Client::new(&setup)
            .map_err(|error| Failure::Other(format!("the demo's clients cannot speak TLS: {error}")))?;
        Ok(Ways { addresses, tls, begun: AtomicBool::new(false) })
    }

    /// Waits until a client has a ticket to offer: over TLS all but the first resume. Not for long, since a full handshake does
    /// as well.
    pub(super) async fn ticket(&self, transport: Transport) {
        if transport != Transport::Tls || !self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        let until = Instant::now() + TICKET_WAIT;
        while self.tls.tickets() == 0 && Instant::now() < until {
            tokio::time::sleep(TICKET_PAUSE).await;
        }
    }

    /// Where clients of a transport connect.
    pub(super) fn address(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Plain | Transport::V2 => self.addresses.open,
            Transport::Tls => self.addresses.tls,
        }
    }

    /// The transport of a connection that stands now; what it says first is appended to `out`.
    pub(super) fn begin(&self, transport: Transport, out: &mut Vec<u8>) -> Result<Pipe, End> {
        match transport {
            Transport::Plain => Ok(Pipe::plain(MAGIC)),
            Transport::V2 => Ok(Pipe::v2(MAGIC, &mut rand::rng(), out)),
            Transport::Tls => Ok(Pipe::tls(MAGIC, self.tls.begin(true, out)?)),
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
