//! The names of clients (BIP14), each kept once: a million clients have a few hundred names.
//!
//! Bounded: at most [`MOST`] names of at most [`LONGEST`] bytes; whoever comes with another one is called "other". A name that nobody has any
//! more stays until the shard is empty of clients.

use std::collections::HashMap;
use std::sync::Arc;

/// Most names.
const MOST: usize = 4_096;
/// Bytes kept of a name.
const LONGEST: usize = 80;
/// Number of clients that have said no name.
const UNKNOWN: u16 = 0;
/// Number of those for whose name there is no room.
const OTHER: u16 = 1;

/// The names.
#[derive(Debug)]
pub(super) struct Agents {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Agents {
    pub(super) fn new() -> Agents {
        Agents { names: vec!["".into(), "other".into()], numbers: HashMap::new() }
    }

    /// The number of a name as it came in `version`.
    pub(super) fn number(&mut self, name: &[u8]) -> u16 {
        if name.is_empty() {
            return UNKNOWN;
        }
        let text = printable(name);
        if let Some(number) = self.numbers.get(text.as_str()) {
            return *number;
        }
        let Some(number) = u16::try_from(self.names.len()).ok().filter(|n| usize::from(*n) < MOST) else {
            return OTHER;
        };
        let text: Arc<str> = text.into();
        self.names.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// The name of a number.
    pub(super) fn name(&self, number: u16) -> Arc<str> {
        let other = || self.names.get(usize::from(OTHER)).cloned().unwrap_or_default();
        self.names.get(usize::from(number)).cloned().unwrap_or_else(other)
    }
}

/// What people may see of it: printable ASCII, everything else as `?`.
fn printable(name: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
    name.iter().take(LONGEST).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_once_and_bounded() {
        let mut agents = Agents::new();
        let a = agents.number(b"/Satoshi:30.0.0/");
        assert_eq!(agents.number(b"/Satoshi:30.0.0/"), a);
        assert_eq!(&*agents.name(a), "/Satoshi:30.0.0/");
        assert_eq!(&*agents.name(agents.numbers.len() as u16 + 7), "other");
        let bad = agents.number(b"a\x1b[2J\xff");
        assert_eq!(&*agents.name(bad), "a?[2J?");
        for n in 0..2 * MOST {
            agents.number(format!("/{n}/").as_bytes());
        }
        assert_eq!(agents.names.len(), MOST);
        assert_eq!(agents.number(b"/one more/"), OTHER);
        assert_eq!(&*agents.name(UNKNOWN), "");
    }
}
