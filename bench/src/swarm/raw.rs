//! Subscribers of other servers, for comparison: a greeting, and how to tell one message of the server from the next.

use super::peer::Heard;

/// A foreign protocol, as far as a subscriber needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Raw {
    /// The first thing said.
    pub greeting: &'static [u8],
    /// What the server may say; the first that fits counts.
    pub words: &'static [Word],
}

/// One kind of message.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// Its first bytes.
    pub begins: &'static [u8],
    /// Where it ends.
    pub length: Length,
    /// What it means.
    pub meaning: Meaning,
}

/// The length of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// This many bytes.
    Bytes(usize),
    /// To the next line feed.
    Line,
}

/// What a message means to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The subscription stands.
    Ready,
    /// What was subscribed to; counted as the announcement of a block.
    Delivery,
    /// To be answered by this, or the server ends the connection.
    Answer(&'static [u8]),
    /// To be skipped.
    Nothing,
}

impl Raw {
    /// Reads whole messages off the front of `bytes`; replies go to `out`. Returns the bytes used.
    ///
    /// # Errors
    /// The server says what is not expected.
    pub(super) fn read(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut heard: impl FnMut(Heard),
    ) -> Result<usize, ()> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let Some(word) = self.words.iter().find(|word| rest.starts_with(word.begins)) else {
                let is_begun = self.words.iter().any(|word| word.begins.starts_with(rest));
                return if is_begun { Ok(used) } else { Err(()) };
            };
            let length = match word.length {
                Length::Bytes(length) => Some(length),
                Length::Line => rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
            };
            let Some(length) = length.filter(|length| *length <= rest.len()) else { return Ok(used) };
            used += length;
            match word.meaning {
                Meaning::Ready => heard(Heard::Ready),
                Meaning::Delivery => heard(Heard::Block),
                Meaning::Answer(answer) => out.extend_from_slice(answer),
                Meaning::Nothing => {}
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Raw = Raw {
        greeting: b"",
        words: &[
            Word { begins: b"MSG ", length: Length::Bytes(8), meaning: Meaning::Delivery },
            Word { begins: b"PONG", length: Length::Line, meaning: Meaning::Ready },
            Word { begins: b"PING", length: Length::Line, meaning: Meaning::Answer(b"PONG\r\n") },
        ],
    };

    /// Bytes used, what was heard, what was answered.
    fn read(bytes: &[u8]) -> (Result<usize, ()>, Vec<Heard>, Vec<u8>) {
        let (mut heard, mut out) = (Vec::new(), Vec::new());
        let used = LINES.read(bytes, &mut out, |what| heard.push(what));
        (used, heard, out)
    }

    #[test]
    fn whole_messages_are_taken_and_parts_wait() {
        let (used, heard, out) = read(b"PONG\r\nMSG abcdPING\r\nMSG ab");
        assert_eq!(used, Ok(20));
        assert_eq!(heard, [Heard::Ready, Heard::Block]);
        assert_eq!(out, b"PONG\r\n");
        assert_eq!(read(b"PI").0, Ok(0));
        assert_eq!(read(b"PING").0, Ok(0));
    }

    #[test]
    fn an_unknown_message_ends_the_connection() {
        assert_eq!(read(b"-ERR 'Stale Connection'\r\n").0, Err(()));
        assert_eq!(read(b"PONG\r\n?").0, Err(()));
    }
}
