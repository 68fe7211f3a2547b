//! What the first bytes of a connection say, before anything is spent on it.

/// Which of the two rates a handshake counts for. A client may claim a ticket that it does not have: what became of
/// it says `is_resumed`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// A ClientHello without a ticket.
    Full,
    /// A ClientHello that offers a ticket.
    Resuming,
    /// No ClientHello: to be given to the handshake all the same, which answers with the right alert.
    Other,
}

/// Content type handshake, and the message type of a ClientHello (RFC 8446, sections 5.1 and 4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension that offers tickets; it is always the last one (RFC 8446, section 4.2.11).
const PRE_SHARED_KEY: usize = 41;
/// The extension that says which versions (section 4.2.1), and TLS 1.3's number.
const SUPPORTED_VERSIONS: usize = 43;
const TLS_1_3: usize = 0x0304;
/// Longest record of plaintext.
const MAX_RECORD: usize = 1 << 14;

/// What a ClientHello says that matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// The version that it has in front, for old servers.
    legacy: u16,
    /// True exactly when it offers TLS 1.3.
    offers_1_3: bool,
    /// True exactly when it offers a ticket.
    offers_ticket: bool,
}

impl Seen {
    /// True exactly when RFC 8446 wants protocol_version for it: no TLS 1.3 (section 4.2.1), or SSL 3.0 and older in front (D.5). rustls looks
    /// at other things first, or not at all.
    pub fn is_too_old(&self) -> bool {
        !self.offers_1_3 || self.legacy <= 0x0300
    }
}

/// Looks at the first bytes of a connection: no allocation, work bounded by the number of extensions and records.
pub fn peek(bytes: &[u8]) -> Hello {
    match look(bytes) {
        Ok(seen) if seen.offers_ticket => Hello::Resuming,
        Ok(_) => Hello::Full,
        Err(Stop::More) => Hello::Incomplete,
        Err(Stop::Wrong) => Hello::Other,
    }
}

/// As [`peek`], with all that was seen.
pub(super) fn look(bytes: &[u8]) -> Result<Seen, Stop> {
    let reader = &mut Reader { bytes, left: 0 };
    if reader.number(1)? != usize::from(CLIENT_HELLO) {
        return Err(Stop::Wrong);
    }
    let mut left = reader.number(3)?;
    if left > super::handshake::MAX_BYTES {
        return Err(Stop::Wrong);
    }
    let legacy = reader.number(take(&mut left, 2)?)? as u16;
    let mut seen = Seen { legacy, offers_1_3: false, offers_ticket: false };
    // The random, then session id, cipher suites, compression methods: each behind its length.
    reader.skip(take(&mut left, 32)?)?;
    for length in [1, 2, 1] {
        let field = reader.number(take(&mut left, length)?)?;
        reader.skip(take(&mut left, field)?)?;
    }
    if left == 0 {
        return Ok(seen);
    }
    reader.number(take(&mut left, 2)?)?;
    while left > 0 {
        let kind = reader.number(take(&mut left, 2)?)?;
        let length = reader.number(take(&mut left, 2)?)?;
        let mut inside = take(&mut left, length)?;
        match kind {
            PRE_SHARED_KEY => seen.offers_ticket = true,
            SUPPORTED_VERSIONS => {
                let list = reader.number(take(&mut inside, 1)?)?;
                for _ in 0..take(&mut inside, list)? / 2 {
                    seen.offers_1_3 |= reader.number(2)? == TLS_1_3;
                }
                inside += list % 2;
            }
            _ => {}
        }
        reader.skip(inside)?;
    }
    Ok(seen)
}

/// Takes so many bytes of what a message has left.
fn take(left: &mut usize, length: usize) -> Result<usize, Stop> {
    *left = left.checked_sub(length).ok_or(Stop::Wrong)?;
    Ok(length)
}

/// Why there is nothing to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// More bytes are needed.
    More,
    /// It is no ClientHello.
    Wrong,
}

/// Reads the contents of handshake records as one stream.
struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes of the current record that are not read yet.
    left: usize,
}

impl Reader<'_> {
    /// A number of 1 to 3 bytes, big-endian.
    fn number(&mut self, length: usize) -> Result<usize, Stop> {
        let mut number = 0;
        for _ in 0..length {
            self.enter_record()?;
            let (first, rest) = self.bytes.split_first().ok_or(Stop::More)?;
            number = number << 8 | usize::from(*first);
            self.bytes = rest;
            self.left -= 1;
        }
        Ok(number)
    }

    fn skip(&mut self, mut length: usize) -> Result<(), Stop> {
        while length > 0 {
            self.enter_record()?;
            let step = length.min(self.left);
            self.bytes = self.bytes.get(step..).ok_or(Stop::More)?;
            self.left -= step;
            length -= step;
        }
        Ok(())
    }

    /// Goes behind the next record's header, when the last record is used up.
    fn enter_record(&mut self) -> Result<(), Stop> {
        if self.left > 0 {
            return Ok(());
        }
        // Said at the first wrong byte: who speaks another protocol may wait for our answer.
        let wrong = |at: usize, value: u8| self.bytes.get(at).is_some_and(|byte| *byte != value);
        if wrong(0, HANDSHAKE) || wrong(1, 3) {
            return Err(Stop::Wrong);
        }
        let (header, rest) = self.bytes.split_first_chunk::<5>().ok_or(Stop::More)?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > MAX_RECORD {
            return Err(Stop::Wrong);
        }
        (self.bytes, self.left) = (rest, length);
        Ok(())
    }
}
