//! Something is done to one client: the call's answer, and the moment at which the client notices.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Stage;
use crate::Outcome;
use crate::report::Report;
use crate::witness::{Came, Download};

/// Longest wait for an effect.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one ping to the next of the client that is paused.
const PING: Duration = Duration::from_millis(1);
/// A pong that has not come after this does not come any more.
const NO_PONG: Duration = Duration::from_millis(500);
/// How long a client is paused.
const PAUSE_MS: u64 = 1_500;
/// How long a download goes on before it is throttled: so short that its capacity's buffer, 600 MB, does not hold it back yet.
const BEFORE: Duration = Duration::from_millis(250);
/// And after.
const AFTER: Duration = Duration::from_millis(700);
/// The rate it is throttled to, bytes per second.
const SLOW: u64 = 10_000;
/// Part of its rate before below which a download counts as throttled, over a trailing [`TRAIL`].
const SLOWED: f64 = 0.1;
const TRAIL: Duration = Duration::from_millis(20);

/// From the call to its answer, and to its effect.
#[derive(Clone, Copy)]
pub(super) struct Times {
    answer: Duration,
    effect: Duration,
}

/// Several of the same.
pub(super) struct Several(Vec<Times>);

/// Does the same several times.
pub(super) fn several(rounds: u32, mut one: impl FnMut() -> Outcome<Times>) -> Outcome<Several> {
    Ok(Several((0..rounds.max(1)).map(|_| one()).collect::<Outcome<_>>()?))
}

impl Several {
    /// Rows of the report: the slowest is held against the target, milliseconds.
    pub(super) fn report(&self, report: &mut Report, key: &str, text: &str, target: f64) {
        let ms = |of: fn(&Times) -> Duration| {
            let mut all: Vec<f64> = self.0.iter().map(|times| of(times).as_secs_f64() * 1e3).collect();
            all.sort_by(f64::total_cmp);
            (all.get(all.len() / 2).copied().unwrap_or(f64::NAN), all.last().copied().unwrap_or(f64::NAN))
        };
        let (answer, effect) = (ms(|times| times.answer), ms(|times| times.effect));
        report.number(&format!("{key}_answer_ms"), &format!("{text}: the answer, slowest"), answer.1, "ms");
        report.number(&format!("{key}_p50_ms"), "  the effect, median", effect.0, "ms");
        report.bound(&format!("{key}_ms"), "  the effect, slowest, ms", effect.1, target, false);
    }
}

/// A client is kicked, and sees its end.
pub(super) fn kick(stage: &Stage) -> Outcome<Times> {
    let (mut client, id) = stage.single()?;
    let start = Instant::now();
    let watch = std::thread::spawn(move || client.end(PATIENCE).map(|ended| (ended, Instant::now())));
    stage.relay.admin().act("kick", &id, json!({}))?;
    let answer = start.elapsed();
    match watch.join().map_err(|_| "a thread ended by a panic")?? {
        (true, at) => Ok(Times { answer, effect: at - start }),
        (false, _) => Err(format!("a client that was kicked is there after {PATIENCE:?}").into()),
    }
}

/// A client that pings is paused: its last ping that is answered.
pub(super) fn pause(stage: &Stage) -> Outcome<Times> {
    let (mut client, id) = stage.single()?;
    if !client.ping(1, PATIENCE)? {
        return Err("a single client's ping is not answered".into());
    }
    let watch = std::thread::spawn(move || -> Outcome<Instant> {
        let mut answered = Instant::now();
        for nonce in 2.. {
            let asked = Instant::now();
            if !client.ping(nonce, NO_PONG)? || answered.elapsed() > PATIENCE + NO_PONG {
                break;
            }
            answered = asked;
            std::thread::sleep(PING);
        }
        Ok(answered)
    });
    // The pings are under way.
    std::thread::sleep(Duration::from_millis(20));
    let start = Instant::now();
    stage.relay.admin().act("pause", &id, json!({ "milliseconds": PAUSE_MS }))?;
    let answer = start.elapsed();
    let last = watch.join().map_err(|_| "a thread ended by a panic")??;
    Ok(Times { answer, effect: last.saturating_duration_since(start) })
}

/// A client that downloads is throttled: the last moment at which it was not slow.
pub(super) fn throttle(stage: &Stage) -> Outcome<Times> {
    let (client, id) = stage.single()?;
    let download = stage.download(client)?;
    std::thread::sleep(BEFORE);
    let start = Instant::now();
    stage.relay.admin().act("throttle", &id, json!({ "down": SLOW }))?;
    let answer = start.elapsed();
    std::thread::sleep(AFTER);
    let before = download.rate(start - BEFORE / 2, start);
    let after = download.between(start - TRAIL, start + AFTER);
    let most = before * SLOWED * TRAIL.as_secs_f64();
    let mut effect = Duration::ZERO;
    for (n, (at, _)) in after.iter().enumerate() {
        let trail = after[..=n].iter().rev().take_while(|(then, _)| *at - *then < TRAIL);
        if trail.map(|(_, bytes)| f64::from(*bytes)).sum::<f64>() > most {
            effect = at.saturating_duration_since(start);
        }
    }
    if before == 0.0 {
        return Err("a client that downloads gets nothing".into());
    }
    Ok(Times { answer, effect })
}

impl Stage {
    /// A client begins to download the last blocks.
    pub(super) fn download(&self, mut client: crate::witness::Witness) -> Outcome<Download> {
        match client.headers()? {
            Came::Yes(hashes) => {
                let last = &hashes[hashes.len().saturating_sub(16)..];
                Download::start(client, last, self.block_bytes)
            }
            other => Err(format!("a single client got no headers: {other:?}").into()),
        }
    }
}
