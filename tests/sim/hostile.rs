//! Connections that break the rules of their transport, one attack each.
//!
//! Each one is a client like others until it attacks (the early attacks begin with the first byte). What it says afterwards are
//! pings that its witness does not know of: an answer to any of them means that the relay has taken what it must not
//! take, and is an error. What the relay counts for it must be what the attack stands for; before the attack, and while the
//! network has faults of its own, whatever can happen to an honest client may happen to it as well.

use std::collections::BTreeMap;
use std::rc::Rc;

use breakwater::base::{End, Instant};
use breakwater::io::ListenerId;
use breakwater::stub::MAGIC;
use breakwater::stub::client::{Client, Kind};
use breakwater::wire::write;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustls::AlertDescription;

use super::attack::{self, Attack, flipped};
use super::kernel::SharedNet;
use super::net::{News, To};
use super::pipe::TcpId;
use super::transport::{Over, Speaks, TlsClients, Transport};
use super::truth::Truth;
use super::witness::Witness;

/// Number of the first one's actor; the next has the next number.
pub const FIRST_HOSTILE: u64 = 1_500_000;
/// At the same time at most.
const MOST: usize = 8;
/// Key updates that are no flood, and that are one.
const FEW_UPDATES: u32 = 3;
const MANY_UPDATES: u32 = 40;

/// A hostile connection.
#[derive(Debug)]
struct Hostile {
    attack: Attack,
    speaks: Speaks,
    stub: Client,
    witness: Witness,
    transport: Transport,
    tcp: TcpId,
    /// True exactly when it has attacked.
    launched: bool,
    /// True exactly when nothing went out behind what is wrong: the relay has no reason to reset.
    clean: bool,
    /// What has to come of it.
    ends: &'static [End],
    alerts: &'static [AlertDescription],
    /// What was heard by one that speaks no transport.
    told: Vec<u8>,
    /// What was heard of the transport's end.
    over: Option<Over>,
    /// How the connection ended here.
    gone: Option<News>,
    /// What the relay counted.
    verdict: Option<End>,
}

/// All of them.
#[derive(Debug)]
pub struct Hostiles {
    net: SharedNet,
    rng: SmallRng,
    tls: Rc<TlsClients>,
    those: BTreeMap<u64, Hostile>,
    next: u64,
    /// Attacks that came to what they stand for, by number in `attack::ALL`.
    pub hits: BTreeMap<(Attack, &'static str), u64>,
}

impl Hostiles {
    /// None yet.
    pub fn new(net: SharedNet, seed: u64, tls: Rc<TlsClients>) -> Hostiles {
        let rng = SmallRng::seed_from_u64(seed ^ 0x686f_7374);
        Hostiles { net, rng, tls, those: BTreeMap::new(), next: FIRST_HOSTILE, hits: BTreeMap::new() }
    }

    /// One more, if there are not enough; its actor.
    pub fn come(&mut self) -> Option<u64> {
        if self.those.len() >= MOST {
            return None;
        }
        let (attack, speaks) = attack::ALL[self.rng.random_range(0..attack::ALL.len())];
        let listener = match attack {
            Attack::TlsToPlain => 0,
            Attack::PlainToTls => 1,
            _ => speaks.listener(),
        };
        let actor = self.next;
        self.next += 1;
        let peer = ([127, 0, 9, self.rng.random_range(1..250)], 9_000).into();
        let tcp = self.net.borrow_mut().connect(actor, To::Listener(ListenerId(listener)), peer);
        self.note(actor, format_args!("{attack:?} over {speaks:?} connects = net {tcp}"));
        let (ends, alerts) = attack.outcome(speaks);
        let hostile = Hostile {
            attack,
            speaks,
            stub: Client::new(Kind::Listener, self.rng.random(), MAGIC),
            witness: Witness::default(),
            transport: Transport::Plain,
            tcp,
            launched: false,
            clean: true,
            ends,
            alerts,
            told: Vec::new(),
            over: None,
            gone: None,
            verdict: None,
        };
        self.those.insert(actor, hostile);
        Some(actor)
    }

    fn note(&self, actor: u64, args: std::fmt::Arguments<'_>) {
        self.net.borrow_mut().note(format_args!("hostile {} {args}", actor - FIRST_HOSTILE));
    }

    /// Everybody leaves.
    pub fn leave(&mut self) {
        for (actor, hostile) in std::mem::take(&mut self.those) {
            self.net.borrow_mut().close(hostile.tcp, actor, true);
        }
    }

    /// Whether the relay may end this connection for this reason; `None`: it is none of these.
    pub fn may_end(&self, tcp: TcpId, end: End) -> Option<bool> {
        let hostile = self.those.values().find(|hostile| hostile.tcp == tcp)?;
        Some(hostile.launched && hostile.ends.contains(&end))
    }

    /// The relay has ended a connection.
    pub fn ended(&mut self, tcp: TcpId, end: End) {
        let Some((actor, hostile)) = self.those.iter_mut().find(|(_, hostile)| hostile.tcp == tcp) else {
            return;
        };
        hostile.verdict = Some(end);
        if hostile.launched && hostile.ends.contains(&end) {
            let kind = if matches!(hostile.speaks, Speaks::Tls { .. }) { "tls" } else { "v2" };
            *self.hits.entry((hostile.attack, kind)).or_default() += 1;
        }
        let actor = *actor;
        self.note(actor, format_args!("was ended: {end}"));
        self.forget(actor);
    }

    /// Those whose end is known on both sides go. In the calm somebody looks at them before.
    fn forget(&mut self, actor: u64) {
        let net = self.net.borrow();
        self.those.retain(|a, h| *a != actor || !net.faults.on || h.verdict.is_none() || h.gone.is_none());
    }

    /// News of a connection.
    pub fn hear(&mut self, actor: u64, tcp: TcpId, news: News, truth: &Truth) -> Result<(), String> {
        let now = self.net.borrow().now();
        let Some(hostile) = self.those.get_mut(&actor) else { return Ok(()) };
        let complain = |why: String| {
            format!(
                "hostile {} {:?} {:?} on net {tcp}: {why}",
                actor - FIRST_HOSTILE,
                hostile.attack,
                hostile.speaks
            )
        };
        match news {
            News::Connected => self.begin(actor, now),
            News::Bytes(mut bytes) => {
                if hostile.attack == Attack::Corrupted && hostile.launched && hostile.over.is_none() {
                    bytes.iter_mut().for_each(|byte| *byte ^= 0x80);
                }
                let (mut plain, mut reply) = (Vec::new(), Vec::new());
                if hostile.attack == Attack::PlainToTls {
                    hostile.told.extend(bytes);
                    hostile.over = plain_alert(&hostile.told).map(Over::Alert);
                } else if hostile.over.is_none()
                    && let Err(over) = hostile.transport.open(bytes, &mut plain, &mut reply)
                {
                    hostile.over = Some(over);
                }
                if hostile.attack == Attack::FlipSecond && !hostile.launched && !reply.is_empty() {
                    hostile.launched = true;
                    flip_any(&mut self.rng, &mut reply);
                }
                hostile.witness.got(&plain, truth).map_err(complain)?;
                let mut out = Vec::new();
                if hostile.stub.received(now, &plain, &mut out).is_ok() && !hostile.launched {
                    hostile.witness.sent(&out);
                    hostile.transport.seal(&out, &mut reply);
                }
                // Who holds says nothing more.
                if !hostile.is_mute() {
                    self.net.borrow_mut().send(tcp, actor, &reply);
                }
                self.go_on(actor);
            }
            News::Fin | News::Reset | News::Refused => {
                self.note(actor, format_args!("loses its connection: {news:?}"));
                let refused = news == News::Refused;
                self.those.get_mut(&actor).expect("one of ours").gone = Some(news);
                self.net.borrow_mut().close(tcp, actor, false);
                self.forget(actor);
                if refused {
                    self.those.remove(&actor);
                }
            }
            News::Incoming => {}
        }
        Ok(())
    }

    /// The connection stands.
    fn begin(&mut self, actor: u64, now: Instant) {
        let hostile = self.those.get_mut(&actor).expect("one of ours");
        let rng = &mut self.rng;
        let mut out = Vec::new();
        match hostile.attack {
            Attack::Silent => {}
            Attack::PlainToTls => out.extend_from_slice(&MAGIC),
            attack => {
                hostile.transport = Transport::new(hostile.speaks, &self.tls, rng, &mut out);
                match attack {
                    Attack::HalfHello => out.truncate(rng.random_range(1..out.len())),
                    Attack::Probe => out.truncate(rng.random_range(64..=out.len())),
                    Attack::Garbage => out.extend((0..5_000).map(|_| rng.random::<u8>())),
                    Attack::FlipFirst => flip_any(rng, &mut out),
                    _ => {}
                }
            }
        }
        if hostile.attack == Attack::PlainToTls {
            out.extend_from_slice(b"v");
            hostile.clean = false;
        }
        hostile.launched = hostile.attack.is_early() && hostile.attack != Attack::FlipSecond;
        self.net.borrow_mut().send(hostile.tcp, actor, &out);
        if !hostile.is_mute() {
            let (mut frames, mut sealed) = (Vec::new(), Vec::new());
            hostile.stub.start(now, &mut frames);
            if !hostile.launched {
                hostile.witness.sent(&frames);
            }
            hostile.transport.seal(&frames, &mut sealed);
            self.net.borrow_mut().send(hostile.tcp, actor, &sealed);
        }
    }

    /// It attacks as soon as it is served. A flip that changed nothing is given up.
    fn go_on(&mut self, actor: u64) {
        let hostile = self.those.get_mut(&actor).expect("one of ours");
        if !hostile.stub.is_ready() || hostile.gone.is_some() {
            return;
        }
        if !hostile.launched {
            hostile.launched = true;
            self.launch(actor);
        } else if hostile.attack == Attack::Updates && hostile.over.is_none() {
            if hostile.witness.unanswered(&Truth::default()).is_empty() {
                let mut out = Vec::new();
                hostile.transport.close(&mut out);
                let tcp = hostile.tcp;
                self.net.borrow_mut().send(tcp, actor, &out);
            }
        } else if hostile.attack.is_early() {
            let tcp = hostile.tcp;
            self.net.borrow_mut().half_close(tcp, actor);
        }
    }

    /// The attack.
    fn launch(&mut self, actor: u64) {
        let hostile = self.those.get_mut(&actor).expect("one of ours");
        let rng = &mut self.rng;
        let mut out = Vec::new();
        for _ in 0..rng.random_range(0..3) {
            out.extend(hostile.ping(rng, true));
        }
        let mut fin = false;
        match hostile.attack {
            Attack::Flip => {
                let mut unit = hostile.ping(rng, false);
                let (at, bit) = (rng.random_range(0..unit.len()), rng.random_range(0..8));
                (hostile.ends, hostile.alerts) = flipped(hostile.speaks, &unit, at, bit);
                unit[at] ^= 1 << bit;
                out.extend(unit);
                // What follows cannot make it good, but completes what was made longer.
                if hostile.ends != [End::SlowMessage] && rng.random_bool(0.3) {
                    out.extend(hostile.ping(rng, false));
                    hostile.clean = false;
                }
                // The relay sees it at the header, while the rest is on its way.
                hostile.clean &= !matches!(hostile.ends, [End::TlsUnexpected | End::TlsOverflow]);
                hostile.clean &= !(at == 4 || at == 3);
            }
            Attack::Replay => {
                let unit = hostile.ping(rng, true);
                out.extend_from_slice(&unit);
                out.extend(unit);
            }
            Attack::Swap => {
                let first = hostile.ping(rng, false);
                out.extend(hostile.ping(rng, false));
                out.extend(first);
                hostile.clean = false;
            }
            Attack::Cut | Attack::Hold => {
                let unit = hostile.ping(rng, false);
                out.extend_from_slice(&unit[..rng.random_range(1..unit.len())]);
                fin = hostile.attack == Attack::Cut;
            }
            Attack::End => fin = true,
            Attack::Notify => hostile.transport.close(&mut out),
            Attack::Updates => {
                for _ in 0..rng.random_range(1..=FEW_UPDATES) {
                    hostile.transport.update_keys(&mut out);
                    out.extend(hostile.ping(rng, true));
                }
            }
            Attack::Flood => {
                for _ in 0..MANY_UPDATES {
                    hostile.transport.update_keys(&mut out);
                }
                hostile.clean = false;
            }
            Attack::Long => out.extend([23, 3, 3, 0x41, 1]),
            Attack::Clear => {
                let kind = rng.random_range(20..=22);
                out.extend([kind, 3, 3, 0, 2, 1, 0]);
                hostile.clean = false;
            }
            Attack::Corrupted => {
                for _ in 0..20 {
                    out.extend(hostile.ping(rng, true));
                }
            }
            Attack::V1InV2 => {
                write::ping(&mut out, MAGIC, rng.random());
            }
            _ => {}
        }
        let tcp = hostile.tcp;
        self.note(actor, format_args!("attacks"));
        self.net.borrow_mut().send(tcp, actor, &out);
        if fin {
            self.net.borrow_mut().half_close(tcp, actor);
        }
    }

    /// What is wrong with how an attack came out that nothing disturbed; `Ok(false)`: it is not over.
    pub fn check(&self, actor: u64) -> Result<bool, String> {
        let Some(hostile) = self.those.get(&actor) else { return Ok(true) };
        let (Some(verdict), Some(gone)) = (hostile.verdict, &hostile.gone) else { return Ok(false) };
        let who = format!("hostile {} {:?} {:?}", actor - FIRST_HOSTILE, hostile.attack, hostile.speaks);
        if !hostile.launched || !hostile.ends.contains(&verdict) {
            return Err(format!("{who} was ended for {verdict} instead of {:?}", hostile.ends));
        }
        // A reset may have overtaken the alert; an end has not, and where nothing was on its way there is no reason for a reset.
        let must_hear = *gone == News::Fin;
        match &hostile.over {
            Some(Over::Alert(alert)) if !hostile.alerts.contains(alert) && !hostile.attack.is_early() => {
                return Err(format!("{who} was told {alert:?} instead of {:?}", hostile.alerts));
            }
            Some(Over::Alert(_)) => {}
            other if must_hear && !hostile.alerts.is_empty() => {
                return Err(format!("{who} was told {other:?} instead of the alert {:?}", hostile.alerts));
            }
            Some(Over::Closed) => {}
            other if must_hear && matches!(hostile.attack, Attack::Notify | Attack::Updates) => {
                return Err(format!("{who} was told {other:?} instead of close_notify"));
            }
            _ => {}
        }
        let tells = !hostile.alerts.is_empty() || matches!(hostile.attack, Attack::Notify | Attack::Updates);
        if hostile.clean && tells && *gone != News::Fin {
            return Err(format!("{who} heard {gone:?}"));
        }
        if hostile.attack == Attack::Updates && !hostile.witness.unanswered(&Truth::default()).is_empty() {
            return Err(format!("{who}: not all pings were answered"));
        }
        Ok(true)
    }

    /// Forgets one that was looked at.
    pub fn dismiss(&mut self, actor: u64) {
        if let Some(hostile) = self.those.remove(&actor) {
            self.net.borrow_mut().close(hostile.tcp, actor, true);
        }
    }
}

impl Hostile {
    /// True exactly when it says nothing after its first bytes.
    fn is_mute(&self) -> bool {
        use Attack::{Garbage, HalfHello, PlainToTls, Probe, Silent, TlsToPlain};
        matches!(self.attack, Silent | PlainToTls | HalfHello | Probe | Garbage | TlsToPlain)
    }

    /// A sealed ping; `known`: the witness hears of it, so that it may be answered.
    fn ping(&mut self, rng: &mut SmallRng, known: bool) -> Vec<u8> {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        write::ping(&mut frame, MAGIC, rng.random());
        if known {
            self.witness.sent(&frame);
        }
        self.transport.seal(&frame, &mut sealed);
        sealed
    }
}

fn flip_any(rng: &mut SmallRng, bytes: &mut [u8]) {
    let at = rng.random_range(0..bytes.len());
    bytes[at] ^= 1 << rng.random_range(0..8);
}

/// An alert that is not encrypted.
fn plain_alert(bytes: &[u8]) -> Option<AlertDescription> {
    match bytes {
        [21, 3, 3, 0, 2, 2, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}
