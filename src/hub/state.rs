//! Small files of the hub besides the store: what the operator has decided and the process must not forget (bans, balances).
//!
//! A file is replaced whole: written under another name, synced, renamed. So after kill -9 it is the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// The folder they are in.
#[derive(Clone, Debug)]
pub struct StateFolder(pub PathBuf);

impl StateFolder {
    /// The text of a file; none when there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or is no UTF-8.
    pub fn load(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_to_string(self.0.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn save(&self, name: &str, text: &str) -> io::Result<()> {
        let fresh = self.0.join(format!("{name}.new"));
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, self.0.join(name))?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder(folder.path().to_path_buf());
        assert_eq!(state.load("bans.json").unwrap(), None);
        state.save("bans.json", "one").unwrap();
        state.save("bans.json", "two").unwrap();
        assert_eq!(state.load("bans.json").unwrap().as_deref(), Some("two"));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["bans.json"]);
        let nowhere = StateFolder(folder.path().join("gone"));
        assert!(nowhere.save("bans.json", "three").is_err());
    }
}
