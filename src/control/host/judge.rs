//! From facts to findings: what is fine, what is short, to how many clients it limits, and the line that mends it. Pure.
//!
//! Invariants:
//! - Only findings of severity `must` bound what the host carries; each of them names its number.
//! - What refuses is certain: conntrack bounds, but a rule we cannot see may exempt the port, so it is advice to `run`.
//! - The bound of memory counts what idle clients cost whether or not anything happens. That every bound is reached at once is advice,
//!   never a reason to refuse.

use std::net::SocketAddr;

use super::facts::Facts;
use super::knobs::{Kind, Knob, Severity, words};
use crate::base::limits::{MAX_SHARDS, RING_FILES};
use crate::control::Config;
use crate::control::plan::{self, Demand, KERNEL_PER_CLIENT, When, human};

/// The limit that a rule of the firewall (notrack) can lift without our seeing it: it never refuses.
const CONNTRACK: &str = "net.netfilter.nf_conntrack_max";
/// The finding that says whether io_uring is allowed.
const IO_URING: &str = "io_uring";
/// Oldest kernel, as `ring::probe` has it.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Clients per bucket of the kernel's table of connections above which looking one up gets noticeable.
const CLIENTS_PER_BUCKET: u64 = 4;

/// What is wanted of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Clients in all.
    pub clients: u64,
    /// Threads that serve them, a ring each.
    pub shards: u64,
    /// Bytes an idle client costs, ours and the kernel's.
    pub client_bytes: u64,
    /// Bytes taken without a client.
    pub start_bytes: u64,
    /// Bytes taken with use, every bound reached.
    pub use_bytes: u64,
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// True exactly when the operator says that conntrack does not track the port.
    pub untracked: bool,
}

impl Wanted {
    /// What a configuration wants; `max_clients` must have been chosen.
    pub fn of(config: &Config) -> Wanted {
        let (clients, shards) = (u64::from(config.max_clients), config.shards as u64);
        let demand = Demand::new(config, clients);
        let plan = plan::plan(demand);
        Wanted {
            clients,
            shards,
            client_bytes: plan.user_per_client + demand.session_bytes + KERNEL_PER_CLIENT,
            start_bytes: plan.taken(&[When::Start]),
            use_bytes: plan.taken(&[When::Use]),
            listen: config.listen.iter().chain(&config.tls.listen).copied().collect(),
            untracked: false,
        }
    }

    /// Clients of one shard, rounded up.
    fn each(&self) -> u64 {
        self.clients.div_ceil(self.shards.max(1))
    }
}

/// One thing about the host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is.
    pub value: String,
    /// How it should be.
    pub wanted: String,
    /// True exactly when it suffices for the clients wanted.
    pub fine: bool,
    /// How much it matters.
    pub severity: Severity,
    /// Clients it suffices for, where that can be said.
    pub limits_to: Option<u64>,
    /// What happens otherwise.
    pub why: String,
    /// The line that mends it, when it is short.
    pub mend: Option<String>,
    /// Where that is said.
    pub source: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Clients wanted.
    pub clients: u64,
    /// Shards they are for.
    pub shards: u64,
    /// The findings, in the order they are printed.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// What bounds the clients most.
    pub fn least(&self) -> Option<&Finding> {
        self.bounding().min_by_key(|finding| finding.limits_to)
    }

    /// True exactly when nothing bounds the clients below what is wanted.
    pub fn suffices(&self) -> bool {
        self.bounding().all(|finding| finding.fine)
    }

    /// Clients that are certainly carried as far as `run` can know; any number when nothing bounds them.
    pub fn certain(&self) -> u64 {
        self.refusing().and_then(|finding| finding.limits_to).unwrap_or(u64::MAX)
    }

    /// What is short and matters, but refuses nobody.
    pub fn advice(&self) -> impl Iterator<Item = &Finding> {
        let soft = |finding: &&Finding| finding.severity == Severity::Should || finding.what == CONNTRACK;
        self.findings.iter().filter(|finding| !finding.fine && finding.severity > Severity::Nice).filter(soft)
    }

    fn bounding(&self) -> impl Iterator<Item = &Finding> {
        let must = self.findings.iter().filter(|finding| finding.severity == Severity::Must);
        must.filter(|finding| finding.limits_to.is_some())
    }

    /// What bounds the clients most among what may refuse.
    fn refusing(&self) -> Option<&Finding> {
        self.bounding().filter(|finding| finding.what != CONNTRACK).min_by_key(|finding| finding.limits_to)
    }

    /// Why `run` must not start, in one sentence.
    pub fn refusal(&self) -> Option<String> {
        // Without io_uring the number of clients is beside the point; the probe's sentence has the remedy.
        let denied = self.findings.iter().find(|finding| finding.what == IO_URING && !finding.fine);
        if let Some(sentence) = denied.and_then(|finding| finding.mend.clone()) {
            return Some(sentence);
        }
        let least = self.refusing().filter(|finding| !finding.fine)?;
        let mend = least.mend.as_ref().map_or(String::new(), |mend| format!("; {mend}"));
        Some(format!(
            "configuration key `max_clients` is {}, but this host carries {} with {} shards: {} {}, wanted {}{mend}",
            self.clients,
            self.certain(),
            self.shards,
            least.what,
            least.value,
            least.wanted,
        ))
    }
}

/// Judges a host.
pub fn judge(facts: &Facts, wanted: &Wanted, knobs: &[Knob]) -> Verdict {
    let mut findings = vec![kernel(facts), io_uring(facts), open_files(facts, wanted)];
    findings.extend(memory(facts, wanted));
    findings.extend(knobs.iter().map(|knob| setting(facts, wanted, knob)));
    findings.extend(buckets(facts, wanted));
    findings.extend(cores(facts, wanted));
    findings.extend(cards(facts, wanted));
    findings.extend(ports(facts, wanted));
    Verdict { clients: wanted.clients, shards: wanted.shards, findings }
}

/// A finding with the number of clients it suffices for.
fn bound(what: &str, value: String, wanted: String, limits_to: u64, clients: u64) -> Finding {
    Finding {
        what: what.into(),
        value,
        wanted,
        fine: limits_to >= clients,
        severity: Severity::Must,
        limits_to: Some(limits_to),
        why: String::new(),
        mend: None,
        source: String::new(),
    }
}

/// A finding that bounds nothing.
fn remark(what: &str, value: String, wanted: String, fine: bool, severity: Severity) -> Finding {
    Finding { fine, severity, limits_to: None, ..bound(what, value, wanted, 0, 0) }
}

impl Finding {
    /// Adds the texts; the remedy is dropped where nothing is short.
    fn because(self, why: &str, source: &str, mend: Option<String>) -> Finding {
        let mend = mend.filter(|_| !self.fine);
        Finding { why: why.into(), source: source.into(), mend, ..self }
    }
}

fn kernel(facts: &Facts) -> Finding {
    // An unknown one refuses nobody: the probe of io_uring says what the kernel cannot do.
    let limit = if facts.kernel.is_none_or(|version| version >= OLDEST_KERNEL) { u64::MAX } else { 0 };
    let value = facts.kernel.map_or("unknown".into(), |(major, minor)| format!("Linux {major}.{minor}"));
    let wanted = format!("{}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
    Finding { limits_to: Some(limit).filter(|limit| *limit == 0), ..bound("kernel", value, wanted, limit, 1) }
        .because(
            "DEFER_TASKRUN; from 6.7 a client can also be reset without a system call of its own",
            "io_uring_setup(2)",
            Some("install a newer kernel".into()),
        )
}

fn io_uring(facts: &Facts) -> Finding {
    let filter = match facts.seccomp {
        Some(2) => ", under a seccomp filter",
        _ => "",
    };
    let value = if facts.io_uring.is_none() { "allowed" } else { "refused" };
    let limit = if facts.io_uring.is_none() { u64::MAX } else { 0 };
    Finding {
        limits_to: Some(limit).filter(|limit| *limit == 0),
        ..bound(IO_URING, format!("{value}{filter}"), "allowed".into(), limit, 1)
    }
    .because(
        "nothing works without; container runtimes refuse it by default",
        "io_uring_setup(2); kernel-tuning/README.md, Containers",
        facts.io_uring.clone(),
    )
}

fn open_files(facts: &Facts, wanted: &Wanted) -> Finding {
    let limit = facts.open_files.unwrap_or(u64::MAX).min(RING_FILES);
    let each = wanted.each();
    let shards = wanted.clients.div_ceil(limit.max(1));
    let mut ways = Vec::new();
    if each <= RING_FILES {
        ways.push(format!("raise it with LimitNOFILE={each} in the unit (in a shell ulimit -Hn {each})"));
    }
    if shards <= MAX_SHARDS as u64 {
        ways.push(format!("use --shards {shards}"));
    }
    if ways.is_empty() {
        ways.push(format!("raise it with LimitNOFILE={RING_FILES} and use --shards {MAX_SHARDS}"));
    }
    let value = format!("{limit} a shard");
    bound(
        "limit of open files",
        value,
        format!("{each}"),
        limit.saturating_mul(wanted.shards),
        wanted.clients,
    )
    .because(
        "RLIMIT_NOFILE (hard) bounds the file table of each shard's ring, which bounds it at 1048576 itself",
        "io_uring_register_files(3); io_uring/rsrc.c",
        Some(ways.join(", or ")),
    )
}

/// RAM and the control group's limit: for idle clients, and with everything in use.
fn memory(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let fits = |bytes: u64, fixed: u64| bytes.saturating_sub(fixed) / wanted.client_bytes.max(1);
    let idle = wanted.start_bytes + wanted.clients.saturating_mul(wanted.client_bytes);
    let of = |what: &str, bytes: u64, mend: &str| {
        bound(what, human(bytes), human(idle), fits(bytes, wanted.start_bytes), wanted.clients).because(
            "an idle client costs its place in our table and the kernel's socket",
            "breakwater plan",
            Some(mend.into()),
        )
    };
    let mut findings = Vec::new();
    findings.extend(facts.memory.map(|bytes| of("memory for idle clients", bytes, "add memory")));
    // A limit above the RAM is none.
    let group = facts.cgroup.filter(|limit| facts.memory.is_none_or(|memory| *limit < memory));
    findings.extend(group.map(|bytes| {
        of(
            "memory limit of the control group",
            bytes,
            &format!("raise MemoryMax= to {}", idle + wanted.use_bytes),
        )
    }));
    let room = facts.available.map(|available| available.min(group.unwrap_or(u64::MAX)));
    findings.extend(room.map(|room| {
        let fixed = wanted.start_bytes + wanted.use_bytes;
        let limit = fits(room, fixed);
        Finding {
            severity: Severity::Should,
            ..bound("memory free now", human(room), human(idle + wanted.use_bytes), limit, wanted.clients)
        }
        .because(
            "what the plan takes with every bound reached at once: mempool, buffers, recent blocks",
            "breakwater plan",
            Some("free memory, or lower mempool_mb and buffer_mb".into()),
        )
    }));
    findings
}

/// A row of the table against the host.
fn setting(facts: &Facts, wanted: &Wanted, knob: &Knob) -> Finding {
    let numbers = knob.numbers(wanted.clients);
    let aim = match knob.kind {
        Kind::Min => format!("at least {}", words(&numbers)),
        Kind::Exact => words(&numbers),
        Kind::Range => format!("{} or wider", words(&numbers)),
    };
    let Some(have) = facts.settings.get(knob.name) else {
        let absent = remark(knob.name, "not on this host".into(), aim, true, knob.severity);
        return absent.because(knob.why, knob.source, None);
    };
    let target = knob.target(wanted.clients, have);
    let limits_to = limit_of(knob.name, have, facts, wanted);
    // What bounds is short when it bounds; what bounds nothing is short when it is below the table.
    let (fine, severity) = match (knob.name, limits_to) {
        // What cannot bind here is only good to know.
        (name, None) if knob.severity == Severity::Must && name != "kernel.io_uring_disabled" => {
            (target == *have || idle_rule(name, facts), Severity::Nice)
        }
        // 1 admits a group: the probe knows whether it is ours.
        ("kernel.io_uring_disabled", limit) => (limit.is_none(), knob.severity),
        (_, Some(limit)) if knob.severity == Severity::Must => (limit >= wanted.clients, knob.severity),
        _ => (target == *have, knob.severity),
    };
    Finding { limits_to, ..remark(knob.name, words(have), aim, fine, severity) }.because(
        knob.why,
        knob.source,
        Some(format!("sysctl -w {}=\"{}\"", knob.name, words(&target))),
    )
}

/// True exactly when a bounding setting does not bind on this host.
fn idle_rule(name: &str, facts: &Facts) -> bool {
    name == "fs.file-max" && facts.sys_admin
}

/// Clients a setting allows, for those that allow a number.
fn limit_of(name: &str, have: &[u64], facts: &Facts, wanted: &Wanted) -> Option<u64> {
    let first = have.first().copied()?;
    match name {
        "kernel.io_uring_disabled" => (first > 0 && facts.io_uring.is_some()).then_some(0),
        "fs.nr_open" => Some(first.min(RING_FILES).saturating_mul(wanted.shards)),
        "fs.file-max" => (!facts.sys_admin).then(|| first.saturating_sub(facts.files_in_use)),
        // Loaded, but no rule tracks anything here: it bounds nothing yet.
        CONNTRACK if !wanted.untracked => {
            facts.tracked.filter(|tracked| *tracked > 0).map(|tracked| first.saturating_sub(tracked))
        }
        "net.ipv4.tcp_mem" => have.get(2).copied(),
        _ => None,
    }
}

fn buckets(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    let buckets = facts.tcp_buckets.filter(|buckets| *buckets > 0)?;
    let aim = wanted.clients.div_ceil(CLIENTS_PER_BUCKET);
    let finding = remark(
        "table of TCP connections",
        format!("{buckets} buckets"),
        format!("at least {aim}"),
        buckets >= aim,
        Severity::Nice,
    );
    Some(finding.because(
        "each packet walks a chain of the connections in its bucket; the size is chosen at boot from the RAM",
        "https://docs.kernel.org/networking/ip-sysctl.html (tcp_ehash_entries)",
        Some(format!("thash_entries={} on the kernel's command line", aim.next_power_of_two())),
    ))
}

fn cores(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(facts.cores.map(|cores| {
        let value = format!("{cores}, for {} shards", wanted.shards);
        remark("cores", value, "one a shard".into(), cores >= wanted.shards, Severity::Nice).because(
            "shards that share a core wait for each other's time slices (README, Numbers)",
            "bench/results/ping.jsonl",
            Some(format!("use --shards {cores}, when the limit of open files allows it")),
        )
    }));
    let one = remark("NUMA nodes", facts.nodes.to_string(), "1".into(), facts.nodes <= 1, Severity::Nice);
    findings.push(one.because(
        "a shard whose memory or network card is at another node waits for it",
        "https://docs.kernel.org/admin-guide/mm/numa_memory_policy.html",
        Some("CPUAffinity= and NUMAMask= of one node in the unit, the one of the network card; or a relay per node".into()),
    ));
    findings
}

fn cards(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let needed = facts.cores.unwrap_or(1).min(wanted.shards);
    let each = facts.cards.iter().map(|card| {
        let spread = if card.spread { ", spread by RPS" } else { "" };
        remark(
            &format!("receive queues of {}", card.name),
            format!("{}{spread}", card.queues),
            format!("{needed}, or RPS"),
            card.queues >= needed || card.spread,
            Severity::Nice,
        )
        .because(
            "one queue means that one core does the network's work for all shards",
            "https://docs.kernel.org/networking/scaling.html",
            Some("kernel-tuning/network-queues".into()),
        )
    });
    each.collect()
}

fn ports(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let taken = |at: &&SocketAddr| at.port() > 0 && facts.listening.contains(&at.port());
    let each = wanted.listen.iter().filter(taken).map(|at| {
        remark(
            &format!("port {}", at.port()),
            "somebody listens".into(),
            "free".into(),
            false,
            Severity::Nice,
        )
        .because(
            "a relay that runs already, or another program; `run` refuses a port in use",
            "bind(2)",
            Some(format!("ss -ltnp 'sport = :{}'", at.port())),
        )
    });
    each.collect()
}

#[cfg(test)]
mod tests;
