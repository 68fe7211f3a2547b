//! What a client takes of the rig's memory while it is idle, said before the run: structs, without the allocator's rounding,
//! the rings' buffers, and the kernel's part.

use breakwater::transport::{tls, v2};

use super::aside::Aside;
use super::slot::Slot;
use crate::rig::scenario::{Scenario, Transport};

/// A part's clients of one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The behaviour.
    pub name: &'static str,
    /// What they speak.
    pub transport: Transport,
    /// Bytes of each.
    pub bytes: usize,
}

/// Every part, each transport it speaks.
pub fn plan(scenario: &Scenario) -> Vec<Share> {
    let of = |(part, routes): (&crate::rig::scenario::Part, &Vec<crate::rig::scenario::Route>)| {
        let behaviour = (part.kind.make)(&part.options);
        let own = size_of::<Slot>() + size_of_val(&*behaviour);
        let speaks = |t: &Transport| routes.iter().any(|route| route.transport == *t);
        let shares = Transport::ALL.into_iter().filter(speaks).map(move |transport| Share {
            name: part.kind.name,
            transport,
            bytes: own + secured(transport),
        });
        shares.collect::<Vec<_>>()
    };
    scenario.parts.iter().zip(&scenario.routes).flat_map(of).collect()
}

/// What a transport adds.
const fn secured(transport: Transport) -> usize {
    match transport {
        Transport::Plain => 0,
        Transport::V2 => size_of::<Aside>() + size_of::<v2::Session>(),
        Transport::Tls => size_of::<Aside>() + size_of::<tls::Session>(),
    }
}

/// The bar of a TLS client, with the most a behaviour that listens needs besides.
const _: () = assert!(size_of::<Slot>() + secured(Transport::Tls) <= 600);
