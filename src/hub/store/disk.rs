//! The real disk: one folder of the file system, locked against a second process.
//!
//! Does no buffering and knows nothing of what the files mean. The only unsafe code of the store is the memory map.
//!
//! Invariants: while a `FolderDisk` or one of its clones lives no other process that asks for the lock gets it; a
//! mapped range is never changed (the store's rule: what is mapped is replaced by a new file, never written).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::io::{Disk, File, FileRef};

/// Name of the lock file.
const LOCK: &str = "lock";

/// A folder of the file system. Clones share the lock.
#[derive(Clone, Debug)]
pub struct FolderDisk {
    root: Arc<Path>,
    /// Held open for the lock alone (flock(2)); the kernel gives it back when the process dies, however it dies.
    _lock: Arc<fs::File>,
}

impl FolderDisk {
    /// Creates the folder when missing and locks it.
    ///
    /// # Errors
    /// `ResourceBusy` when another process holds the lock; else what the file system says. Each names the path.
    pub fn open(root: &Path) -> io::Result<FolderDisk> {
        let named = |what: &str, error: io::Error| {
            io::Error::new(error.kind(), format!("{what} {}: {error}", root.display()))
        };
        fs::create_dir_all(root).map_err(|e| named("create data directory", e))?;
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join(LOCK))
            .map_err(|e| named("open the lock file in", e))?;
        match lock.try_lock() {
            Ok(()) => Ok(FolderDisk { root: root.into(), _lock: Arc::new(lock) }),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "data directory {} is in use by another process: stop it or choose another",
                    root.display()
                ),
            )),
            Err(fs::TryLockError::Error(error)) => Err(named("lock data directory", error)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Disk for FolderDisk {
    fn open(&self, name: &str) -> io::Result<FileRef> {
        let path = self.path(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            fs::create_dir_all(folder)?;
            // The new folder's own name must survive a crash, or what is synced inside it does not.
            for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root)) {
                fs::File::open(above)?.sync_all()?;
            }
        }
        let file = fs::File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry?;
            let about = entry.metadata()?;
            // A name that is not UTF-8 is none of ours.
            if let (true, Ok(name)) = (about.is_file(), entry.file_name().into_string()) {
                out.push((name, about.len()));
            }
        }
        out.sort();
        Ok(out)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        fs::File::open(self.path(folder))?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    #[allow(unsafe_code)]
    fn map(&self, len: u64) -> io::Result<Bytes> {
        let have = self.len()?;
        if have < len {
            // Touching a page beyond the end of the file would be a SIGBUS later.
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("map {len} bytes of a file of {have}"),
            ));
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the range lies inside the file (checked above) and stays unchanged while the map lives: the store
        // replaces a mapped part by a new file instead of writing or cutting it, and the lock keeps other relays out.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&self.0)? };
        Ok(Bytes::from_owner(map))
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_the_lock_ends_with_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderDisk::open(folder.path()).unwrap();
        let refused = FolderDisk::open(folder.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(refused.to_string().contains("in use by another process"), "{refused}");
        drop(first);
        FolderDisk::open(folder.path()).unwrap();
    }

    #[test]
    fn files_are_written_listed_mapped_renamed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FolderDisk::open(folder.path()).unwrap();
        assert_eq!(disk.list("blocks").unwrap(), []);
        let file = disk.open("blocks/a").unwrap();
        file.write_at(3, b"hello").unwrap();
        file.sync().unwrap();
        disk.sync_folder("blocks").unwrap();
        assert_eq!(disk.list("blocks").unwrap(), [("a".to_owned(), 8)]);
        let map = file.map(8).unwrap();
        assert_eq!(&map[..], b"\0\0\0hello");
        assert!(file.map(9).is_err());
        assert!(file.map(0).unwrap().is_empty());
        let mut buffer = [0; 10];
        assert_eq!(file.read_at(5, &mut buffer).unwrap(), 3);
        disk.rename("blocks/a", "blocks/b").unwrap();
        disk.remove("blocks/b").unwrap();
        assert_eq!(disk.list("blocks").unwrap(), []);
        assert_eq!(&map[3..], b"hello", "a removed file stays readable");
        assert!(file.raw_fd().is_some());
    }
}
