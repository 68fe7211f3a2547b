//! What a benchmark says: a table for people, one JSON line for `bench/results/<name>.jsonl`.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::command::Common;
use crate::machine::{self, Machine};

/// The benchmark ran, and did not reach every target: not the same as one that could not run.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {missed} of its targets missed")]
pub struct Missed {
    name: &'static str,
    missed: u32,
}

/// The result of one run.
#[derive(Debug)]
pub struct Report {
    name: &'static str,
    workload: Value,
    machine: Machine,
    rows: Vec<(String, String)>,
    numbers: Map<String, Value>,
    ratio: Option<f64>,
    notes: Map<String, Value>,
    /// Targets that were not reached.
    missed: u32,
}

impl Report {
    /// An empty report; the machine and its load before the run are noted now.
    pub fn new(name: &'static str, workload: Value) -> Report {
        Report {
            name,
            workload,
            machine: Machine::read(),
            rows: Vec::new(),
            numbers: Map::new(),
            ratio: None,
            notes: Map::new(),
            missed: 0,
        }
    }

    /// A row of the table and its number, rounded to three decimals.
    pub fn number(&mut self, key: &str, text: &str, value: f64, unit: &str) {
        let value = (value * 1_000.0).round() / 1_000.0;
        self.rows.push((text.to_string(), format!("{} {unit}", shown(value))));
        self.numbers.insert(key.to_string(), json!(value));
    }

    /// As [`Report::number`], beside its ratios to the same number of others: `(whose, theirs)`. A ratio is recorded as
    /// `<key>_to_<whose>`.
    pub fn compared(&mut self, key: &str, text: &str, value: f64, unit: &str, others: &[(&str, f64)]) {
        self.number(key, text, value, unit);
        for (whose, theirs) in others.iter().filter(|(_, theirs)| *theirs > 0.0) {
            let ratio = (value / theirs * 100.0).round() / 100.0;
            if let Some((_, shown)) = self.rows.last_mut() {
                shown.push_str(&format!("  = {ratio} x {whose}"));
            }
            self.numbers.insert(format!("{key}_to_{whose}"), json!(ratio));
        }
    }

    /// A footnote: printed below the table, and in the line under `notes`.
    pub fn note(&mut self, key: &str, text: &str) {
        self.notes.insert(key.to_string(), json!(text));
    }

    /// The number that is held against the target; for a benchmark without floor, the measured value by its target.
    pub fn ratio(&mut self, text: &str, ratio: f64, target: f64) {
        let ratio = (ratio * 1_000.0).round() / 1_000.0;
        let verdict = self.verdict(ratio <= target);
        self.rows.push((text.to_string(), format!("{ratio} (at most {target}: {verdict})")));
        self.numbers.insert("target".to_string(), json!(target));
        self.ratio = Some(ratio);
    }

    /// As [`Report::ratio`], where more is better.
    pub fn at_least(&mut self, text: &str, ratio: f64, target: f64) {
        let ratio = (ratio * 1_000.0).round() / 1_000.0;
        let verdict = self.verdict(ratio >= target);
        self.rows.push((text.to_string(), format!("{ratio} (at least {target}: {verdict})")));
        self.numbers.insert("target".to_string(), json!(target));
        self.ratio = Some(ratio);
    }

    /// A further number with a target of its own.
    pub fn bound(&mut self, key: &str, text: &str, value: f64, target: f64, at_least: bool) {
        let value = (value * 1_000.0).round() / 1_000.0;
        let met = if at_least { value >= target } else { value <= target };
        let (word, verdict) = (if at_least { "least" } else { "most" }, self.verdict(met));
        self.rows.push((text.to_string(), format!("{} (at {word} {target}: {verdict})", shown(value))));
        self.numbers.insert(key.to_string(), json!(value));
    }

    fn verdict(&mut self, met: bool) -> &'static str {
        self.missed += u32::from(!met);
        if met { "met" } else { "MISSED" }
    }

    /// Prints the table; with `--record` appends the line.
    ///
    /// # Errors
    /// The results file cannot be written; [`Missed`] when a target was missed, except with `--tiny`, which measures nothing.
    pub(crate) fn finish(self, common: Common) -> Outcome {
        self.print();
        if common.record {
            self.record()?;
        }
        match self.missed {
            0 => Ok(()),
            _ if common.tiny => Ok(()),
            missed => Err(Missed { name: self.name, missed }.into()),
        }
    }

    /// The table alone, of a run that came to no end.
    pub(crate) fn print(&self) {
        let width = self.rows.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
        println!("{} {}", self.name, self.workload);
        for (text, value) in &self.rows {
            println!("  {text:width$}  {value}");
        }
        for (key, note) in &self.notes {
            println!("  {key}: {}", note.as_str().unwrap_or_default());
        }
    }

    fn record(&self) -> Outcome {
        let mut line = json!({
            "date": date(),
            "commit": machine::commit(),
            "machine": self.machine,
            "workload": self.workload,
            "numbers": self.numbers,
            "ratio": self.ratio,
        });
        if !self.notes.is_empty() {
            line["notes"] = Value::Object(self.notes.clone());
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.jsonl", self.name));
        writeln!(OpenOptions::new().create(true).append(true).open(&path)?, "{line}")?;
        println!("  recorded in {}", path.display());
        Ok(())
    }
}

/// A number for people; NaN stands for what the run did not get to.
fn shown(value: f64) -> String {
    if value.is_nan() { "not measured".to_string() } else { value.to_string() }
}

/// Today, UTC.
fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    civil(seconds / 86_400)
}

/// A Unix time for people, UTC.
pub(crate) fn utc(seconds: u64) -> String {
    let of_day = seconds % 86_400;
    let (hours, minutes) = (of_day / 3_600, of_day / 60 % 60);
    format!("{} {hours:02}:{minutes:02}:{:02} UTC", civil(seconds / 86_400), of_day % 60)
}

/// The date of a number of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_777, "2026-11-20")];
        for (days, date) in dates {
            assert_eq!(super::civil(days), date);
        }
    }
}
