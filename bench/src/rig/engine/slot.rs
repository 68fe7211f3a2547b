//! What is kept per client besides the client itself: 72 bytes in all while it is idle and plain;
//! a transport adds `Aside` and its session.

use super::aside::Aside;
use crate::rig::client::Client;

/// Where its connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum State {
    /// Not begun, or waiting for its next connection.
    #[default]
    Waiting,
    /// The chain of its connect is with the kernel.
    Connecting,
    /// Connected.
    Open,
    /// Being closed; waiting for what the kernel still has.
    Closing(After),
    /// It never connects again.
    Over,
}

/// What follows a connection that is being closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nothing more: the client is over.
    Over,
    /// It connects again when its time (`Slot::wake`) has come.
    Again,
}

/// A client and its connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) client: Client,
    /// The one entry of the timer queue that counts; `u64::MAX` for none. While connecting: the intended moment.
    pub(super) wake: u64,
    /// What is being sent and what waits behind it.
    pub(super) sending: Option<Box<Sending>>,
    /// The beginning of a message, and the transport unless it is plain.
    pub(super) aside: Option<Box<Aside>>,
    /// The part of the scenario it belongs to.
    pub(super) part: u8,
    /// Operations the kernel still has: a slot is used again when there are none.
    pub(super) with_kernel: u8,
    pub(super) state: State,
    /// Counts its connections, to tell one from the next.
    pub(super) visit: u8,
    /// True exactly when it has been ready once, or over, or (without a handshake) connected.
    pub(super) settled: bool,
    /// True exactly when a receive is with the kernel.
    pub(super) receiving: bool,
    /// True exactly while it is counted among the connections in flight.
    pub(super) in_flight: bool,
    /// True exactly when it is to be closed once everything is sent.
    pub(super) leaving: bool,
}

const _: () = assert!(size_of::<Slot>() <= 72);

impl Slot {
    pub(super) fn new(client: Client, part: u8) -> Slot {
        Slot {
            client,
            wake: u64::MAX,
            sending: None,
            aside: None,
            part,
            with_kernel: 0,
            state: State::Waiting,
            visit: 0,
            settled: false,
            receiving: false,
            in_flight: false,
            leaving: false,
        }
    }
}

impl Slot {
    /// True exactly when it has the beginning of something that goes on.
    pub(super) fn has_half(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.input.is_empty())
    }

    /// What it means that the target has closed the connection.
    pub(super) fn when_closed(&self) -> &'static str {
        self.aside.as_ref().map_or("closed by the target", |aside| aside.crypt.when_closed())
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// With the kernel; not touched before the completion.
    pub(super) now: Vec<u8>,
    /// Sent next.
    pub(super) next: Vec<u8>,
}
