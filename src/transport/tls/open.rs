//! Opening records: in place, the contents joined at the front (RFC 8446, sections 4.6, 5 and 6).
//!
//! What is not application data is dealt with here and never seen outside: key updates, tickets, alerts. Every rule that the
//! peer breaks ends the session by the alert that the RFC names. What a peer can send for ever without application data
//! (empty records, key updates, warnings, tickets) is bounded.

use super::alert::{self, Violation};
use super::session::{ALERT, DATA, Extra, HANDSHAKE, HEADER, Inside, MAX_PLAIN, Session, TAG};
use crate::base::End;
use crate::transport::{Opened, Role};

/// Most bytes of a record behind its header: 2^14 + 256 (RFC 8446, section 5.2).
const MAX_SEALED: usize = MAX_PLAIN + 256;
/// Empty records (they are allowed, as padding), key updates, tickets and warnings in a row before it is enough.
const MAX_FRUITLESS: u8 = 32;

/// Handshake message types (RFC 8446, section 4).
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Longest NewSessionTicket: lifetime 4, age 4, nonce 256, ticket 65537, extensions 65536 (section 4.6.1).
const MAX_TICKET: u32 = 4 + 4 + 256 + 65_537 + 65_536;

impl Session {
    /// Opens the whole records at the front of `bytes`, in place. `reply` gets what has to be sent for it: the answer to a request for
    /// a key update, and after an error the alert. After an error nothing is given, not even what stood in good records before the bad one.
    pub fn open(&mut self, bytes: &mut [u8], reply: &mut Vec<u8>) -> Result<Opened, End> {
        if let Some(end) = self.ended {
            return Err(end);
        }
        let mut answer = false;
        let opened = match self.open_all(bytes, &mut answer) {
            Ok(opened) => opened,
            Err(violation) => return Err(self.end(violation, reply)),
        };
        if answer {
            // Once for all requests that came together (section 4.6.3 allows it), so that we never send more than came.
            self.update_tx(false, reply);
        }
        if self.rx.seq() >= self.suite.renew_after() && !self.asked {
            self.asked = true;
            self.update_tx(true, reply);
        }
        Ok(opened)
    }

    fn open_all(&mut self, bytes: &mut [u8], answer: &mut bool) -> Result<Opened, Violation> {
        let mut opened = Opened { plain: 0, used: 0, need: HEADER, closed: self.peer_closed };
        let mut cipher = None;
        while !opened.closed {
            let rest = &mut bytes[opened.used..];
            let Some((header, body)) = rest.split_first_chunk_mut::<HEADER>() else {
                opened.need = HEADER;
                return Ok(opened);
            };
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            if header[0] != DATA {
                return Err(Violation::UNEXPECTED);
            }
            if length > MAX_SEALED {
                return Err(Violation::OVERFLOW);
            }
            opened.need = HEADER + length;
            let Some(sealed) = body.get_mut(..length) else { return Ok(opened) };
            if self.rx.seq() >= self.suite.end_after() {
                return Err(Violation::LIMIT);
            }
            let key = match cipher.take() {
                Some(key) => key,
                None => self.rx.cipher(self.suite).map_err(|_| Violation::INTERNAL)?,
            };
            let inner = if length < TAG {
                return Err(Violation::MAC);
            } else {
                self.rx.open(&key, *header, sealed).map_err(|_| Violation::MAC)?
            };
            // The content type is the last byte that is not zero; padding stands behind it (section 5.4).
            if inner > MAX_PLAIN + 1 {
                return Err(Violation::OVERFLOW);
            }
            let Some(end) = sealed[..inner].iter().rposition(|byte| *byte != 0) else {
                return Err(Violation::UNEXPECTED);
            };
            let (content, plain) = (sealed[end], &sealed[..end]);
            let start = opened.used + HEADER;
            opened.used = start + length;
            cipher = match content {
                DATA => {
                    self.data(plain.len())?;
                    bytes.copy_within(start..start + end, opened.plain);
                    opened.plain += end;
                    Some(key)
                }
                HANDSHAKE => {
                    // The key may have been replaced.
                    self.handshake(plain, answer)?;
                    None
                }
                ALERT => {
                    self.alerted(plain)?;
                    opened.closed = self.peer_closed;
                    Some(key)
                }
                _ => return Err(Violation::UNEXPECTED),
            };
        }
        opened.need = bytes.len() + 1;
        Ok(opened)
    }

    fn data(&mut self, length: usize) -> Result<(), Violation> {
        if self.inside != Inside::Nothing {
            return Err(Violation::UNEXPECTED);
        }
        if length == 0 {
            return self.fruitless();
        }
        self.fruitless = 0;
        Ok(())
    }

    fn alerted(&mut self, plain: &[u8]) -> Result<(), Violation> {
        // Not interleaved with a handshake message (section 5.1), not empty (5.1), neither split nor joined.
        if self.inside != Inside::Nothing || plain.is_empty() {
            return Err(Violation::UNEXPECTED);
        }
        let [_level, description] = plain else { return Err(Violation::DECODE) };
        match *description {
            alert::CLOSE_NOTIFY => {
                self.peer_closed = true;
                Ok(())
            }
            alert::USER_CANCELED => self.fruitless(),
            _ => Err(Violation::ALERTED),
        }
    }

    /// Handshake messages after the handshake: they may be joined in a record and cut by its end (section 5.1).
    fn handshake(&mut self, mut plain: &[u8], answer: &mut bool) -> Result<(), Violation> {
        if plain.is_empty() {
            return Err(Violation::UNEXPECTED);
        }
        while !plain.is_empty() {
            plain = match self.inside {
                Inside::Nothing => self.head([0; 4], 0, plain, answer)?,
                Inside::Head { bytes, len } => self.head(bytes, usize::from(len), plain, answer)?,
                Inside::Ticket(left) => self.ticket(left as usize, plain),
            };
        }
        Ok(())
    }

    /// The first four bytes of a message, of which `have` came before, and what follows from them. Gives what is left.
    fn head<'a>(
        &mut self,
        mut head: [u8; 4],
        have: usize,
        plain: &'a [u8],
        answer: &mut bool,
    ) -> Result<&'a [u8], Violation> {
        let (part, behind) = plain.split_at(plain.len().min(4 - have));
        let have = have + part.len();
        head[have - part.len()..have].copy_from_slice(part);
        let [kind, length @ ..] = head;
        if !(kind == KEY_UPDATE || kind == NEW_SESSION_TICKET && self.role == Role::Initiator) {
            return Err(Violation::UNEXPECTED);
        }
        self.inside = Inside::Head { bytes: head, len: have as u8 };
        if have < head.len() {
            return Ok(behind);
        }
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]);
        match (kind, behind) {
            (KEY_UPDATE, _) if length != 1 => Err(Violation::DECODE),
            (KEY_UPDATE, []) => Ok(behind),
            (KEY_UPDATE, [value]) => {
                self.inside = Inside::Nothing;
                *answer |= self.key_update(*value)?;
                Ok(&[])
            }
            // What stands behind would have been sealed with the next key (section 5.1).
            (KEY_UPDATE, _) => Err(Violation::UNEXPECTED),
            _ if length == 0 || length > MAX_TICKET => Err(Violation::DECODE),
            _ => {
                self.fruitless()?;
                self.inside = Inside::Ticket(length);
                if let Some(Extra::Collector(collector)) = self.extra.as_deref_mut() {
                    collector.begin();
                }
                Ok(behind)
            }
        }
    }

    /// The peer's next key. True exactly when it wants ours replaced as well.
    fn key_update(&mut self, value: u8) -> Result<bool, Violation> {
        if value > 1 {
            return Err(Violation::ILLEGAL);
        }
        self.fruitless()?;
        self.rx.update(self.suite).map_err(|_| Violation::INTERNAL)?;
        self.asked = false;
        Ok(value == 1)
    }

    /// The part of a NewSessionTicket that is there; gives what stands behind it.
    fn ticket<'a>(&mut self, left: usize, plain: &'a [u8]) -> &'a [u8] {
        let (part, behind) = plain.split_at(plain.len().min(left));
        let left = left - part.len();
        self.inside = if left == 0 { Inside::Nothing } else { Inside::Ticket(left as u32) };
        if let Some(Extra::Collector(collector)) = self.extra.as_deref_mut() {
            collector.add(part);
            if left == 0 {
                collector.finish();
                self.extra = None;
            }
        }
        behind
    }

    fn fruitless(&mut self) -> Result<(), Violation> {
        self.fruitless += 1;
        if self.fruitless > MAX_FRUITLESS { Err(Violation::LIMIT) } else { Ok(()) }
    }
}
