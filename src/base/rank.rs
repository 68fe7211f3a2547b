//! How clients are told apart by those who run the relay: service, class, tags.

/// A service: a group of listeners with rules of their own. Its place in the list; not used again after its removal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ServiceId(pub u8);

/// What a client is to the relay now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Class {
    /// Connected, and has not asked for real work: it has a probe slot.
    #[default]
    Probe,
    /// It has a session slot, and the capacity everybody gets.
    Free,
    /// It has a session slot, and a capacity of its own.
    Priority,
}

impl Class {
    /// All, in the order of the counters.
    pub const ALL: [Class; 3] = [Class::Probe, Class::Free, Class::Priority];

    /// The name in JSON and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Class::Probe => "probe",
            Class::Free => "free",
            Class::Priority => "priority",
        }
    }
}

/// A set of tags, a bit each; the hub knows their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tags(pub u16);

impl Tags {
    /// Names that may be in use at a time.
    pub const MOST: usize = 16;

    /// True exactly when all of `other` are in it.
    pub fn has(self, other: Tags) -> bool {
        self.0 & other.0 == other.0
    }
}
