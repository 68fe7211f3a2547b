//! Names of tags. Clients carry bits; what they are called is known here alone.
//!
//! Invariants: a name keeps its bit until it is removed; two names never share one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Refusal;
use crate::base::Tags;

/// Longest name, bytes.
const MOST_BYTES: usize = 32;

/// The names in use; copies share them.
#[derive(Clone, Debug, Default)]
pub struct TagNames(Arc<Mutex<[Option<String>; Tags::MOST]>>);

impl TagNames {
    /// None in use.
    pub fn new() -> TagNames {
        TagNames::default()
    }

    /// As they were written down by [`TagNames::to_json`].
    ///
    /// # Errors
    /// It is no list of at most [`Tags::MOST`] different names and nulls.
    pub fn from_json(text: &str) -> Result<TagNames, String> {
        let expected =
            format!("expected a list of at most {} different names, null for a free place", Tags::MOST);
        let list: Vec<Option<String>> =
            serde_json::from_str(text).map_err(|error| format!("{error}: {expected}"))?;
        let mut names: [Option<String>; Tags::MOST] = Default::default();
        if list.len() > names.len() {
            return Err(expected);
        }
        for (bit, name) in list.into_iter().enumerate() {
            if name.as_ref().is_some_and(|name| !is_name(name) || at(&names, name).is_some()) {
                return Err(format!("{name:?}: {expected}"));
            }
            names[bit] = name;
        }
        Ok(TagNames(Arc::new(Mutex::new(names))))
    }

    /// For the disk: the names in the order of their bits.
    pub fn to_json(&self) -> String {
        // Strings can always be written.
        serde_json::to_string(&self.names()[..]).unwrap_or_default()
    }

    /// Bits of names that are in use.
    ///
    /// # Errors
    /// One is not; `field` says of what.
    pub fn find(&self, field: &'static str, names: &[String]) -> Result<Tags, Refusal> {
        let known = self.names();
        names.iter().try_fold(Tags::default(), |tags, name| match at(&known[..], name) {
            Some(bit) => Ok(Tags(tags.0 | 1 << bit)),
            None => Err(Refusal::Unknown { field, value: name.clone() }),
        })
    }

    /// Bits of names; those that are not in use get one. On an error none has got one.
    ///
    /// # Errors
    /// A name that is none, or more than [`Tags::MOST`].
    pub fn make(&self, field: &'static str, names: &[String]) -> Result<Tags, Refusal> {
        let mut known = self.names();
        let (mut next, mut tags) = (known.clone(), Tags::default());
        for name in names {
            if !is_name(name) {
                let expected = format!("1 to {MOST_BYTES} of a-z, 0-9, - and _");
                return Err(Refusal::Value { field, value: name.clone(), expected });
            }
            let Some(bit) = at(&next, name).or_else(|| next.iter().position(Option::is_none)) else {
                let text = format!("{field}: {name} would be one more than {} tags in use", Tags::MOST);
                return Err(Refusal::Conflict(text));
            };
            next[bit] = Some(name.clone());
            tags.0 |= 1 << bit;
        }
        *known = next;
        Ok(tags)
    }

    /// Frees a name. Whoever has its bit must have lost it before.
    pub fn remove(&self, name: &str) {
        let mut known = self.names();
        if let Some(bit) = at(&known[..], name) {
            known[bit] = None;
        }
    }

    /// Names of these bits.
    pub fn of(&self, tags: Tags) -> Vec<String> {
        let known = self.names();
        let set = known.iter().enumerate().filter(|(bit, _)| tags.0 & 1 << bit != 0);
        set.filter_map(|(_, name)| name.clone()).collect()
    }

    /// Every name in use.
    pub fn all(&self) -> Vec<String> {
        self.of(Tags(u16::MAX))
    }

    fn names(&self) -> MutexGuard<'_, [Option<String>; Tags::MOST]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(known: &[Option<String>], name: &str) -> Option<usize> {
    known.iter().position(|known| known.as_deref() == Some(name))
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=MOST_BYTES).contains(&name.len()) && name.bytes().all(is_part)
}

const _: () = assert!(Tags::MOST == u16::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_keeps_its_bit_until_it_is_removed() {
        let tags = TagNames::new();
        assert_eq!(tags.make("add", &names(&["a", "b", "a"])), Ok(Tags(0b11)));
        assert_eq!(tags.find("tag", &names(&["b"])), Ok(Tags(0b10)));
        tags.remove("a");
        assert!(matches!(tags.find("tag", &names(&["a"])), Err(Refusal::Unknown { field: "tag", .. })));
        assert_eq!(tags.make("add", &names(&["c", "b"])), Ok(Tags(0b11)));
        assert_eq!(tags.of(Tags(0b101)), names(&["c"]));
        assert_eq!(tags.all(), names(&["c", "b"]));
        let again = TagNames::from_json(&tags.to_json()).unwrap();
        assert_eq!(again.find("tag", &names(&["b"])), Ok(Tags(0b10)));
        for bad in ["", "{}", "[1]", r#"["a", "a"]"#, r#"["A"]"#, &format!("[{}1]", "null,".repeat(16))] {
            assert!(TagNames::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_leaves_the_names_as_they_were() {
        let tags = TagNames::new();
        for bad in ["", "A", "ä", "a b", &"x".repeat(MOST_BYTES + 1)] {
            assert!(matches!(tags.make("add", &names(&["ok", bad])), Err(Refusal::Value { .. })), "{bad}");
        }
        assert!(tags.all().is_empty());
        let many: Vec<String> = (0..=Tags::MOST).map(|n| format!("t{n}")).collect();
        assert!(matches!(tags.make("add", &many), Err(Refusal::Conflict(_))));
        assert!(tags.all().is_empty());
        assert_eq!(tags.make("add", &many[1..]), Ok(Tags(u16::MAX)));
    }
}
