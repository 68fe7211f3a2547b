//! What can go wrong in the store: whose fault, in which file, during what.

use std::io;

/// A failed operation of the store. After any of them the store is still usable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full (ENOSPC, EDQUOT). Later writes succeed when there is space again.
    #[error("{operation} {file}: no space left on the disk; free some, nothing stored is lost")]
    Full {
        /// The file, below the data directory.
        file: String,
        /// What was being done to it.
        operation: &'static str,
    },
    /// Any other error of the disk.
    #[error("{operation} {file}: {source}")]
    Io {
        /// The file, below the data directory.
        file: String,
        /// What was being done to it.
        operation: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// The directory belongs to another network.
    #[error(
        "{file} begins with genesis block {found}, but this network's is {expected}: the data directory belongs to \
         another network; choose another directory or network"
    )]
    OtherNetwork {
        /// The header file.
        file: String,
        /// Hash of its first record.
        found: String,
        /// Hash of the configured genesis block.
        expected: String,
    },
    /// Records that would leave a gap.
    #[error("{what}: asked for height {height}, but only heights below {have} may be given")]
    Gap {
        /// Which kind of record.
        what: &'static str,
        /// The height given.
        height: u32,
        /// One more than the largest height possible.
        have: u32,
    },
    /// A record that does not follow from the one before it; nothing was written.
    #[error("{what}: the record of height {height} does not follow from the one before it")]
    Unlinked {
        /// Which kind of record.
        what: &'static str,
        /// Its height.
        height: u32,
    },
    /// A message that is not what it is said to be; nothing was written.
    #[error("{what} message of {len} bytes for block {hash}: {why}")]
    Malformed {
        /// `block` or `cfilter`.
        what: &'static str,
        /// Its length, frame included.
        len: usize,
        /// The block's hash as people write it.
        hash: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Gives an error of the disk its file and operation.
pub(super) trait Named<T> {
    /// `operation` reads well before a file name: "write", "sync", "open".
    fn named(self, operation: &'static str, file: &str) -> Result<T, StoreError>;
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, operation: &'static str, file: &str) -> Result<T, StoreError> {
        self.map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { file: file.to_owned(), operation }
            }
            _ => StoreError::Io { file: file.to_owned(), operation, source },
        })
    }
}
