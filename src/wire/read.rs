//! A cursor over a payload.

use crate::base::{End, Fault};

/// Why a payload cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireError {
    /// Shorter than its fields.
    Short,
    /// A compact size not in its shortest form.
    NonCanonical,
    /// More entries than the protocol allows; the count is given.
    TooMany(u64),
}

impl WireError {
    /// What it means for the client: dropped messages are forgiven, excess is not.
    pub fn outcome(self) -> Result<Fault, End> {
        match self {
            WireError::Short => Ok(Fault::Short),
            WireError::NonCanonical => Ok(Fault::NonCanonical),
            WireError::TooMany(_) => Err(End::TooManyEntries),
        }
    }
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::Short => f.write_str("payload shorter than its fields"),
            WireError::NonCanonical => f.write_str("count not in its shortest form"),
            WireError::TooMany(count) => write!(f, "{count} entries, more than the protocol allows"),
        }
    }
}

impl std::error::Error for WireError {}

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the front.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(WireError::Short)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A compact size in its shortest form.
    pub fn compact(&mut self) -> Result<u64, WireError> {
        let (value, least) = match self.u8()? {
            0xfd => (u64::from(self.u16()?), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
            small => return Ok(u64::from(small)),
        };
        if value < least { Err(WireError::NonCanonical) } else { Ok(value) }
    }

    /// A compact size that counts entries, at most `most`.
    pub fn count(&mut self, most: usize) -> Result<usize, WireError> {
        let count = self.compact()?;
        match usize::try_from(count) {
            Ok(n) if n <= most => Ok(n),
            _ => Err(WireError::TooMany(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_sizes_must_be_shortest() {
        for (bytes, want) in [
            (&[0xfc][..], Ok(0xfc)),
            (&[0xfd, 0xfd, 0][..], Ok(0xfd)),
            (&[0xfd, 0xfc, 0][..], Err(WireError::NonCanonical)),
            (&[0xfe, 0xff, 0xff, 0, 0][..], Err(WireError::NonCanonical)),
            (&[0xfe, 0, 0, 1, 0][..], Ok(0x1_0000)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], Err(WireError::NonCanonical)),
            (&[0xfd, 0xfd][..], Err(WireError::Short)),
        ] {
            assert_eq!(Reader::new(bytes).compact(), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_count_beyond_the_limit_is_named() {
        assert_eq!(Reader::new(&[3]).count(2), Err(WireError::TooMany(3)));
        assert_eq!(Reader::new(&[2]).count(2), Ok(2));
    }
}
