//! The table of kernel settings. Parses it and computes values for a client count; reads and changes no host.
//!
//! `kernel-tuning/apply` does the same arithmetic in bash: a change of the format changes both, and `tests/doctor.rs` compares them.

/// The table, as the scripts read it.
pub const TABLE: &str = include_str!("../../../kernel-tuning/knobs.tsv");

/// How much a setting matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Helps in the case its text names.
    Nice,
    /// Costs clients time or connections.
    Should,
    /// Bounds how many clients fit.
    Must,
}

impl Severity {
    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Nice => "nice",
            Severity::Should => "should",
            Severity::Must => "must",
        }
    }
}

/// When a setting suffices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Each number at least.
    Min,
    /// Each number equal.
    Exact,
    /// The first number at most, the second at least.
    Range,
}

/// `base + clients * times / per`, rounded up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Formula {
    base: u64,
    times: u64,
    per: u64,
}

/// A row of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knob {
    /// The sysctl's name.
    pub name: &'static str,
    /// When it suffices.
    pub kind: Kind,
    /// One per number of the setting.
    pub value: Vec<Formula>,
    /// How much it matters.
    pub severity: Severity,
    /// What happens otherwise.
    pub why: &'static str,
    /// Where that is said.
    pub source: &'static str,
}

/// A row that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("kernel-tuning/knobs.tsv line {line}: {what}")]
pub struct TableError {
    line: usize,
    what: &'static str,
}

/// The table's rows.
///
/// # Errors
/// A row that is not as the table's header says.
pub fn knobs() -> Result<Vec<Knob>, TableError> {
    parse(TABLE)
}

fn parse(table: &'static str) -> Result<Vec<Knob>, TableError> {
    let rows = table.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    rows.map(|(n, line)| row(line).map_err(|what| TableError { line: n + 1, what })).collect()
}

fn row(line: &'static str) -> Result<Knob, &'static str> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, kind, value, severity, why, source] = fields[..] else {
        return Err("expected six fields separated by tabs");
    };
    let kind = match kind {
        "min" => Kind::Min,
        "exact" => Kind::Exact,
        "range" => Kind::Range,
        _ => return Err("the kind is none of min, exact, range"),
    };
    let severity = match severity {
        "must" => Severity::Must,
        "should" => Severity::Should,
        "nice" => Severity::Nice,
        _ => return Err("the severity is none of must, should, nice"),
    };
    let value: Option<Vec<Formula>> = value.split(' ').map(Formula::parse).collect();
    let value = value.ok_or("a value is neither BASE nor BASE+M/K")?;
    if kind == Kind::Range && value.len() != 2 {
        return Err("a range has two numbers");
    }
    if [name, why, source].contains(&"") {
        return Err("a field is empty");
    }
    Ok(Knob { name, kind, value, severity, why, source })
}

impl Formula {
    fn parse(text: &str) -> Option<Formula> {
        let Some((base, share)) = text.split_once('+') else {
            return Some(Formula { base: text.parse().ok()?, times: 0, per: 1 });
        };
        let (times, per) = share.split_once('/')?;
        let per = per.parse().ok().filter(|per| *per > 0)?;
        Some(Formula { base: base.parse().ok()?, times: times.parse().ok()?, per })
    }

    /// The number for a client count.
    pub fn number(self, clients: u64) -> u64 {
        self.base.saturating_add(clients.saturating_mul(self.times).div_ceil(self.per))
    }
}

impl Knob {
    /// Its file, from the root.
    pub fn path(&self) -> String {
        format!("proc/sys/{}", self.name.replace('.', "/"))
    }

    /// The numbers for a client count.
    pub fn numbers(&self, clients: u64) -> Vec<u64> {
        self.value.iter().map(|formula| formula.number(clients)).collect()
    }

    /// What the setting must become where it holds `have`; `have` itself when that suffices.
    pub fn target(&self, clients: u64, have: &[u64]) -> Vec<u64> {
        let each = |(n, wanted): (usize, u64)| match (self.kind, have.get(n)) {
            (Kind::Min, Some(have)) => wanted.max(*have),
            (Kind::Range, Some(have)) if n == 0 => wanted.min(*have),
            (Kind::Range, Some(have)) => wanted.max(*have),
            _ => wanted,
        };
        self.numbers(clients).into_iter().enumerate().map(each).collect()
    }
}

/// Numbers with a space between, as sysctl(8) takes them.
pub fn words(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_once() {
        let knobs = knobs().unwrap();
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(knobs.len(), rows);
        let names: std::collections::BTreeSet<&str> = knobs.iter().map(|knob| knob.name).collect();
        assert_eq!(names.len(), rows, "a setting stands twice");
        for knob in &knobs {
            assert!(knob.why.len() > 20 && knob.source.len() > 5, "{}", knob.name);
        }
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        for (table, what) in [
            ("# x\na\tmin\t1\tmust\twhy", "line 2: expected six fields"),
            ("a\tmost\t1\tmust\twhy\tsource", "line 1: the kind"),
            ("a\tmin\t1\twould\twhy\tsource", "line 1: the severity"),
            ("a\tmin\t1+1\tmust\twhy\tsource", "line 1: a value"),
            ("a\tmin\t1+1/0\tmust\twhy\tsource", "line 1: a value"),
            ("a\trange\t1\tmust\twhy\tsource", "line 1: a range"),
            ("a\tmin\t1\tmust\t\tsource", "line 1: a field"),
        ] {
            let said = parse(table).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
        }
    }

    #[test]
    fn values_are_base_and_a_share_of_the_clients_rounded_up() {
        let number = |text: &str, clients| Formula::parse(text).unwrap().number(clients);
        assert_eq!(number("4096", 1_000_000), 4_096);
        assert_eq!(number("65536+1/1", 1_000_000), 1_065_536);
        assert_eq!((number("10+3/4", 1), number("10+3/4", 4), number("10+3/4", 5)), (11, 13, 14));
    }

    #[test]
    fn what_suffices_stays() {
        let knob = |kind, value: &str| Knob {
            name: "a.b",
            kind,
            value: value.split(' ').map(|text| Formula::parse(text).unwrap()).collect(),
            severity: Severity::Must,
            why: "",
            source: "",
        };
        assert_eq!(knob(Kind::Min, "10 20+1/1").target(5, &[12, 3]), [12, 25]);
        assert_eq!(knob(Kind::Exact, "0").target(5, &[1]), [0]);
        assert_eq!(knob(Kind::Range, "10000 65535").target(5, &[32768, 60999]), [10000, 65535]);
        assert_eq!(knob(Kind::Range, "10000 60000").target(5, &[1024, 65535]), [1024, 65535]);
        assert_eq!(knob(Kind::Min, "1").path(), "proc/sys/a/b");
    }
}
