//! Slots of a service on a shard: many cheap ones for probes, fewer for sessions, and neither takes the other's.
//!
//! The numbers are this shard's part of the service's; `share` hands them out. Who has to go when no session slot is free
//! is decided by `free_house`.

use crate::base::Class;

/// What there was none of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoSlot {
    /// No probe slot: refused at accept, before anything is answered.
    Probe,
    /// No session slot: it stays a probe until somebody gives way, or is told where else to go.
    Session,
}

/// The slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// Session slots taken.
    pub sessions: u32,
    /// Probe slots taken.
    pub probes: u32,
    /// Most sessions.
    pub max_sessions: u32,
    /// Most probes.
    pub max_probes: u32,
    /// Sessions refused since the last [`Slots::take_refused`].
    refused_sessions: u32,
    /// Probes refused since then.
    refused_probes: u32,
}

const _: () = assert!(size_of::<Slots>() == 24);

impl Slots {
    /// So many, none taken.
    pub fn new(max_sessions: u32, max_probes: u32) -> Slots {
        Slots { max_sessions, max_probes, ..Slots::default() }
    }

    /// A connection takes a probe slot.
    pub fn enter(&mut self) -> Result<(), NoSlot> {
        if self.probes >= self.max_probes {
            self.refused_probes = self.refused_probes.saturating_add(1);
            return Err(NoSlot::Probe);
        }
        self.probes += 1;
        Ok(())
    }

    /// A connection takes a probe slot whether one is free or not: of whom the operator knows.
    pub fn force_probe(&mut self) {
        self.probes = self.probes.saturating_add(1);
    }

    /// A probe takes a session slot, and its probe slot is free.
    pub fn promote(&mut self) -> Result<(), NoSlot> {
        if self.sessions >= self.max_sessions {
            self.refused_sessions = self.refused_sessions.saturating_add(1);
            return Err(NoSlot::Session);
        }
        self.probes = self.probes.saturating_sub(1);
        self.sessions += 1;
        Ok(())
    }

    /// A probe takes a session slot whether one is free or not: a priority client's.
    pub fn force(&mut self) {
        self.probes = self.probes.saturating_sub(1);
        self.sessions = self.sessions.saturating_add(1);
    }

    /// A client of this class is gone.
    pub fn leave(&mut self, class: Class) {
        let taken = match class {
            Class::Probe => &mut self.probes,
            Class::Free | Class::Priority => &mut self.sessions,
        };
        debug_assert!(*taken > 0, "a {} leaves that never came", class.label());
        *taken = taken.saturating_sub(1);
    }

    /// Other numbers from now on. Nobody has to go: while more are taken than there are, nobody new gets one.
    pub fn set(&mut self, max_sessions: u32, max_probes: u32) {
        (self.max_sessions, self.max_probes) = (max_sessions, max_probes);
    }

    /// How many sessions and probes are above the numbers.
    pub fn excess(&self) -> (u32, u32) {
        (self.sessions.saturating_sub(self.max_sessions), self.probes.saturating_sub(self.max_probes))
    }

    /// Sessions and probes refused since this was asked last: what this shard could have used, for `share`.
    pub fn take_refused(&mut self) -> (u32, u32) {
        (std::mem::take(&mut self.refused_sessions), std::mem::take(&mut self.refused_probes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probes_never_take_session_slots_and_sessions_never_wait_behind_probes() {
        let mut slots = Slots::new(2, 3);
        assert_eq!([slots.enter(), slots.enter(), slots.enter()], [Ok(()); 3]);
        assert_eq!(slots.enter(), Err(NoSlot::Probe));
        assert_eq!([slots.promote(), slots.promote()], [Ok(()); 2], "however many probes there are");
        assert_eq!(slots.promote(), Err(NoSlot::Session));
        assert_eq!((slots.sessions, slots.probes), (2, 1));
        assert_eq!([slots.enter(), slots.enter()], [Ok(()); 2], "promotion has freed two");
        slots.leave(Class::Priority);
        assert_eq!(slots.promote(), Ok(()));
        assert_eq!((slots.take_refused(), slots.take_refused()), ((1, 1), (0, 0)));
    }

    #[test]
    fn lowering_refuses_and_kills_nobody() {
        let mut slots = Slots::new(4, 5);
        for _ in 0..4 {
            assert_eq!([slots.enter(), slots.promote(), slots.enter()], [Ok(()); 3]);
        }
        slots.set(1, 2);
        assert_eq!(slots.excess(), (3, 2));
        assert_eq!((slots.enter(), slots.promote()), (Err(NoSlot::Probe), Err(NoSlot::Session)));
        (0..4).for_each(|_| slots.leave(Class::Free));
        assert_eq!((slots.excess(), slots.promote()), ((0, 2), Ok(())));
    }

    proptest! {
        #[test]
        fn nothing_is_given_that_is_not_there(
            steps in prop::collection::vec((0_u8..5, 0_u32..20, 0_u32..20), 0..300),
        ) {
            let mut slots = Slots::new(5, 10);
            for (step, sessions, probes) in steps {
                let before = slots;
                match step {
                    0 => prop_assert_eq!(slots.enter().is_ok(), before.probes < before.max_probes),
                    1 if slots.probes > 0 => {
                        prop_assert_eq!(slots.promote().is_ok(), before.sessions < before.max_sessions);
                    }
                    2 if slots.probes > 0 => slots.leave(Class::Probe),
                    3 if slots.sessions > 0 => slots.leave(Class::Free),
                    4 => slots.set(sessions, probes),
                    _ => {}
                }
                prop_assert!(slots.sessions <= before.sessions.max(before.max_sessions));
                prop_assert!(slots.probes <= before.probes.max(before.max_probes));
            }
        }
    }
}
