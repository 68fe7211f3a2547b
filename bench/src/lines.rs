//! Lines of another process, read on a thread of their own, so that waiting for one has an end.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::Outcome;

/// Lines read ahead of who takes them.
const AHEAD: usize = 64;

/// What a process says. When this is dropped the rest is read and thrown away: nobody blocks because nobody listens.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(from: impl Read + Send + 'static) -> Lines {
        let (told, lines) = mpsc::sync_channel(AHEAD);
        std::thread::spawn(move || {
            let (mut from, mut line) = (BufReader::new(from), String::new());
            // A reading that fails is an end, too.
            while from.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                if told.send(std::mem::take(&mut line)).is_err() {
                    let _ = io::copy(&mut from, &mut io::sink());
                    return;
                }
            }
        });
        Lines(lines)
    }

    /// The next line; `None` when there will be none.
    ///
    /// # Errors
    /// None came within `limit`.
    pub(crate) fn next(&self, limit: Duration) -> Outcome<Option<String>> {
        match self.0.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(format!("nothing was said within {limit:?}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may panic; that is how it fails.

    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn waiting_for_a_line_has_an_end() {
        let (from, mut to) = UnixStream::pair().unwrap();
        let lines = Lines::of(from);
        to.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.next(Duration::from_secs(60)).unwrap().unwrap(), "one\n");
        assert!(lines.next(Duration::from_millis(20)).is_err(), "half a line is none");
        drop(to);
        assert_eq!(lines.next(Duration::from_secs(60)).unwrap().unwrap(), "tw");
        assert_eq!(lines.next(Duration::from_secs(60)).unwrap(), None);
    }

    #[test]
    fn nobody_blocks_because_nobody_listens() {
        let (from, mut to) = UnixStream::pair().unwrap();
        drop(Lines::of(from));
        to.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        to.write_all(&b"a line of a log\n".repeat(100_000)).unwrap();
    }
}
