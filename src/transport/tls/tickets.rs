//! Session tickets: one sequence of keys for all shards, all reloads and, with a secret from a file, all relays of a fleet.
//!
//! A key serves one period of 6 hours and is derived from the number of the period, so there is nothing to hand from shard to shard:
//! each computes the same keys and keeps its own. A ticket is sealed by the current key and opened by the current, the
//! previous and the next one (another relay's clock may be ahead), so it is good for 6 to 12 hours.
//!
//! - Without a file the secret is random and moves on with each period by a one-way function: once the previous key has
//!   gone, no ticket of it can be opened, whatever of this process is seen later.
//! - With a file the keys follow from the file for ever: keep it as secret as the certificate's key, and replace it now and then
//!   (a changed file costs every client one full handshake).
//!
//! A ticket is bound to the client authentication in force when it was issued: the hash of mode and CA is authenticated with it.
//! rustls puts the client's certificates into the ticket but does not look, when it is taken, whether certificates
//! are required by now; a session from before the requirement must not pass. After such a change clients make a full handshake.
//!
//! ```text
//!   ticket = key name 16 | nonce 12 | AES-256-GCM(session), tag 16
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use zeroize::{Zeroize, Zeroizing};

use super::suite::Length;

/// Seconds for which a key seals tickets. A ticket is promised for as long: the key opens for one more period.
pub const PERIOD: u64 = 6 * 60 * 60;
/// Bytes of a key's name.
const NAME: usize = 16;
/// Longest ticket that is looked at; ours carry at most a client's certificates.
const MAX_TICKET: usize = 1 << 16;
/// Periods that a random secret is moved on at once; beyond (250 days asleep) it is made anew.
const MAX_STEPS: u64 = 1000;

/// Where the keys come from; shared by all shards.
#[derive(Clone)]
pub struct Tickets {
    source: Source,
    clock: Arc<dyn TimeProvider>,
}

#[derive(Clone)]
enum Source {
    /// The same on every relay that has the file.
    Fixed(Arc<Zeroizing<Vec<u8>>>),
    /// The lock is taken once per shard and period.
    Moving(Arc<Mutex<Moving>>),
}

/// A random secret, of the oldest period that is still of use.
struct Moving {
    period: u64,
    secret: Zeroizing<[u8; 32]>,
}

impl Tickets {
    /// Random keys.
    pub fn random(clock: Arc<dyn TimeProvider>) -> Result<Tickets, Unspecified> {
        let oldest = period(&*clock).ok_or(Unspecified)?.saturating_sub(1);
        let moving = Moving { period: oldest, secret: fresh()? };
        Ok(Tickets { source: Source::Moving(Arc::new(Mutex::new(moving))), clock })
    }

    /// Keys that follow from a secret.
    pub fn from_secret(secret: &[u8], clock: Arc<dyn TimeProvider>) -> Tickets {
        Tickets { source: Source::Fixed(Arc::new(Zeroizing::new(secret.to_vec()))), clock }
    }

    /// True exactly when the keys follow from this secret.
    pub fn is_from(&self, secret: Option<&[u8]>) -> bool {
        match &self.source {
            Source::Fixed(own) => secret == Some(own.as_slice()),
            Source::Moving(_) => secret.is_none(),
        }
    }

    /// One shard's ticketer.
    pub fn ticketer(&self, client_auth: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer { tickets: self.clone(), client_auth, keys: Mutex::new(None) })
    }

    /// The keys of the period before, this one and the next.
    fn keys(&self, now: u64) -> Result<[Key; 3], Unspecified> {
        match &self.source {
            Source::Fixed(secret) => {
                let key = |period: u64| {
                    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"breakwater ticket").extract(secret);
                    Key::derive(&prk, &period.to_be_bytes())
                };
                Ok([key(now.saturating_sub(1))?, key(now)?, key(now + 1)?])
            }
            Source::Moving(moving) => {
                let mut secret = moving.lock().unwrap_or_else(PoisonError::into_inner).oldest(now)?;
                let mut key = || {
                    let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &*secret);
                    let key = Key::derive(&prk, &[]);
                    secret = next(&secret)?;
                    key
                };
                Ok([key()?, key()?, key()?])
            }
        }
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Moving {
    /// The secret of the period before `now`. A clock that went back changes nothing: what is gone is gone.
    fn oldest(&mut self, now: u64) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
        let wanted = now.saturating_sub(1);
        if wanted > self.period.saturating_add(MAX_STEPS) {
            *self = Moving { period: wanted, secret: fresh()? };
        }
        while self.period < wanted {
            self.secret = next(&self.secret)?;
            self.period += 1;
        }
        Ok(self.secret.clone())
    }
}

fn fresh() -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(&mut *secret)?;
    Ok(secret)
}

/// The secret of the next period: there is no way back.
fn next(secret: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut out = Zeroizing::new([0; 32]);
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret).expand(&[b"next"], Length(32))?.fill(&mut *out)?;
    Ok(out)
}

fn period(clock: &dyn TimeProvider) -> Option<u64> {
    clock.current_time().map(|now| now.as_secs() / PERIOD)
}

/// The key of one period.
struct Key {
    name: [u8; NAME],
    cipher: LessSafeKey,
}

impl Key {
    fn derive(prk: &hkdf::Prk, period: &[u8]) -> Result<Key, Unspecified> {
        let mut key = [0; 32];
        let mut name = [0; NAME];
        prk.expand(&[b"key", period], Length(32))?.fill(&mut key)?;
        prk.expand(&[b"name", period], Length(NAME))?.fill(&mut name)?;
        let cipher = UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new);
        key.zeroize();
        Ok(Key { name, cipher: cipher? })
    }
}

/// One shard's ticketer. Its lock is the shard's own: rustls asks for shared access, nobody else is there.
struct Ticketer {
    tickets: Tickets,
    client_auth: [u8; 32],
    keys: Mutex<Option<(u64, [Key; 3])>>,
}

impl Ticketer {
    /// Runs `work` with the keys of now.
    fn with_keys<T>(&self, work: impl FnOnce(&[Key; 3]) -> Option<T>) -> Option<T> {
        let now = period(&*self.tickets.clock)?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.as_ref().is_none_or(|(period, _)| *period != now) {
            *keys = Some((now, self.tickets.keys(now).ok()?));
        }
        keys.as_ref().and_then(|(_, keys)| work(keys))
    }

    fn aad(&self, name: &[u8]) -> Aad<Vec<u8>> {
        Aad::from([name, &self.client_auth].concat())
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        self.with_keys(|[_, key, _]| {
            let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
            ticket.extend_from_slice(&key.name);
            ticket.extend_from_slice(&nonce);
            ticket.extend_from_slice(plain);
            let sealed = &mut ticket[NAME + NONCE_LEN..];
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.cipher.seal_in_place_separate_tag(nonce, self.aad(&key.name), sealed).ok()?;
            ticket.extend_from_slice(tag.as_ref());
            Some(ticket)
        })
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.with_keys(|keys| {
            let key = keys.iter().find(|key| key.name == *name)?;
            let mut plain = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.cipher.open_in_place(nonce, self.aad(name), &mut plain).ok()?.len();
            plain.truncate(length);
            Some(plain)
        })
    }
}

impl std::fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticketer")
    }
}
