use super::*;
use crate::control::host::facts::Card;
use crate::control::host::knobs::knobs;

const GB: u64 = 1_000_000_000;

/// A host that carries a million clients on 16 shards.
fn good() -> Facts {
    let knobs = knobs().unwrap();
    Facts {
        kernel: Some((6, 12)),
        seccomp: Some(0),
        open_files: Some(1_048_576),
        files_in_use: 2_000,
        settings: knobs.iter().map(|knob| (knob.name, knob.numbers(2_000_000))).collect(),
        memory: Some(64 * GB),
        available: Some(60 * GB),
        tracked: Some(0),
        tcp_buckets: Some(524_288),
        cores: Some(16),
        nodes: 1,
        cards: vec![Card { name: "eth0".into(), queues: 16, spread: false }],
        ..Facts::default()
    }
}

fn wanted(clients: u64, shards: u64) -> Wanted {
    Wanted {
        clients,
        shards,
        client_bytes: 4_000,
        start_bytes: GB,
        use_bytes: 2 * GB,
        listen: vec!["0.0.0.0:8333".parse().unwrap()],
        untracked: false,
    }
}

fn verdict(facts: &Facts, wanted: &Wanted) -> Verdict {
    judge(facts, wanted, &knobs().unwrap())
}

fn short(verdict: &Verdict) -> Vec<&str> {
    verdict.findings.iter().filter(|finding| !finding.fine).map(|finding| finding.what.as_str()).collect()
}

#[test]
fn a_good_host_has_nothing_short() {
    let verdict = verdict(&good(), &wanted(1_000_000, 16));
    assert_eq!(short(&verdict), Vec::<&str>::new());
    assert_eq!(verdict.refusal(), None);
    assert_eq!(verdict.advice().count(), 0);
    assert!(verdict.suffices() && verdict.certain() >= 1_000_000);
    assert!(verdict.findings.iter().all(|finding| finding.mend.is_none() && !finding.source.is_empty()));
}

#[test]
fn each_limit_limits_to_its_number() {
    type Change = fn(&mut Facts);
    let cases: [(&str, u64, Change); 8] = [
        ("kernel", 0, |facts| facts.kernel = Some((5, 15))),
        ("io_uring", 0, |facts| facts.io_uring = Some("denied: allow it".into())),
        ("limit of open files", 320_000, |facts| facts.open_files = Some(20_000)),
        ("memory for idle clients", 750_000, |facts| facts.memory = Some(4 * GB)),
        ("memory limit of the control group", 500_000, |facts| facts.cgroup = Some(3 * GB)),
        ("fs.nr_open", 16_000, |facts| drop(facts.settings.insert("fs.nr_open", vec![1_000]))),
        ("fs.file-max", 398_000, |facts| drop(facts.settings.insert("fs.file-max", vec![400_000]))),
        ("kernel.io_uring_disabled", 0, |facts| {
            facts.settings.insert("kernel.io_uring_disabled", vec![2]);
            facts.io_uring = Some("disabled: set it to 0".into());
            // Named first, it would be the least.
            facts.kernel = Some((6, 1));
        }),
    ];
    for (what, number, change) in cases {
        let mut facts = good();
        change(&mut facts);
        let verdict = verdict(&facts, &wanted(1_000_000, 16));
        let finding = verdict.findings.iter().find(|finding| finding.what == what).unwrap();
        assert_eq!((finding.fine, finding.limits_to), (false, Some(number)), "{finding:?}");
        assert!(finding.mend.is_some() && finding.severity == Severity::Must, "{finding:?}");
        assert_eq!((verdict.suffices(), verdict.certain()), (false, number), "{what}");
        assert_eq!(verdict.least().unwrap().limits_to, Some(number));
        let refusal = verdict.refusal().unwrap();
        let said = match facts.io_uring {
            Some(sentence) => vec![sentence],
            None => vec!["`max_clients`".to_string(), "1000000".into(), number.to_string(), what.into()],
        };
        assert!(said.iter().all(|part| refusal.contains(part)), "{said:?} is not in {refusal}");
        assert!(!refusal.contains('\n') && !refusal.contains(". "), "one sentence: {refusal}");
    }
}

#[test]
fn the_least_limit_is_named() {
    let mut facts = good();
    facts.open_files = Some(20_000);
    facts.memory = Some(2 * GB);
    let verdict = verdict(&facts, &wanted(1_000_000, 16));
    assert_eq!(verdict.least().unwrap().what, "memory for idle clients");
    assert_eq!(verdict.certain(), 250_000);
}

#[test]
fn open_files_are_mended_by_the_limit_or_by_shards() {
    let mut facts = good();
    facts.open_files = Some(20_000);
    let mend = |clients, shards| {
        let verdict = verdict(&facts, &wanted(clients, shards));
        verdict
            .findings
            .iter()
            .find(|finding| finding.what == "limit of open files")
            .unwrap()
            .mend
            .clone()
            .unwrap()
    };
    let text = mend(1_000_000, 2);
    assert!(text.contains("LimitNOFILE=500000") && text.contains("--shards 50"), "{text}");
    // One ring takes no more than 2^20 files, whatever the limit.
    let text = mend(8_000_000, 1);
    assert!(!text.contains("LimitNOFILE") && text.contains("--shards 400"), "{text}");
    facts.open_files = Some(4_000_000);
    assert_eq!(verdict(&facts, &wanted(8_000_000, 1)).certain(), 1_048_576);
}

#[test]
fn what_does_not_bind_here_bounds_nothing() {
    let mut facts = good();
    // Conntrack is loaded and tracks nothing; CAP_SYS_ADMIN is not bounded by fs.file-max; the group is larger than the RAM.
    facts.settings.insert("net.netfilter.nf_conntrack_max", vec![1_000]);
    facts.settings.insert("fs.file-max", vec![1_000]);
    facts.sys_admin = true;
    facts.cgroup = Some(u64::MAX / 2);
    let verdict = verdict(&facts, &wanted(1_000_000, 16));
    assert_eq!(verdict.refusal(), None);
    assert_eq!(short(&verdict), ["net.netfilter.nf_conntrack_max"]);
    assert_eq!(verdict.advice().count(), 0);
}

#[test]
fn conntrack_bounds_and_warns_but_never_refuses() {
    let mut facts = good();
    facts.tracked = Some(144);
    facts.settings.insert(CONNTRACK, vec![262_144]);
    let verdict = verdict(&facts, &wanted(1_000_000, 16));
    let least = verdict.least().unwrap();
    assert_eq!((least.what.as_str(), least.limits_to, verdict.suffices()), (CONNTRACK, Some(262_000), false));
    assert!(verdict.refusal().is_none() && verdict.certain() >= 1_000_000);
    assert_eq!(verdict.advice().map(|finding| finding.what.as_str()).collect::<Vec<_>>(), [CONNTRACK]);
    // The operator has a notrack rule.
    let exempt = Wanted { untracked: true, ..wanted(1_000_000, 16) };
    let verdict = self::verdict(&facts, &exempt);
    assert!(verdict.suffices());
    assert_eq!(verdict.advice().count(), 0);
}

#[test]
fn a_group_that_is_allowed_io_uring_is_fine() {
    let mut facts = good();
    facts.settings.insert("kernel.io_uring_disabled", vec![1]);
    assert_eq!(short(&verdict(&facts, &wanted(1_000, 1))), Vec::<&str>::new());
    // Refused by something else, the sysctl is not to blame.
    facts.settings.insert("kernel.io_uring_disabled", vec![0]);
    facts.io_uring = Some("denied by a seccomp filter".into());
    assert_eq!(short(&verdict(&facts, &wanted(1_000, 1))), ["io_uring"]);
}

#[test]
fn soft_settings_are_advice_with_the_line_that_mends_them() {
    let mut facts = good();
    facts.settings.insert("net.core.somaxconn", vec![128]);
    facts.settings.insert("net.ipv4.tcp_mem", vec![10, 20, 30]);
    facts.available = Some(GB);
    let verdict = verdict(&facts, &wanted(1_000, 1));
    assert_eq!(verdict.refusal(), None);
    let advice: Vec<&Finding> = verdict.advice().collect();
    let named: Vec<&str> = advice.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(named, ["memory free now", "net.core.somaxconn", "net.ipv4.tcp_mem"]);
    assert_eq!(advice[1].mend.as_deref(), Some("sysctl -w net.core.somaxconn=\"4096\""));
    assert_eq!(advice[2].limits_to, Some(30));
    assert!(verdict.certain() >= 1_000);
}

#[test]
fn what_is_not_on_the_host_is_fine() {
    let facts = Facts { nodes: 1, ..Facts::default() };
    let verdict = verdict(&facts, &wanted(1_000, 1));
    assert_eq!(short(&verdict), Vec::<&str>::new());
    assert_eq!(verdict.refusal(), None);
}

#[test]
fn cores_nodes_cards_and_ports_are_remarks() {
    let mut facts = good();
    facts.cores = Some(4);
    facts.nodes = 2;
    facts.cards[0].queues = 1;
    facts.listening = vec![22, 8_333];
    facts.tcp_buckets = Some(65_536);
    let verdict = verdict(&facts, &wanted(1_000_000, 16));
    assert_eq!(
        short(&verdict),
        ["table of TCP connections", "cores", "NUMA nodes", "receive queues of eth0", "port 8333"]
    );
    assert_eq!((verdict.refusal(), verdict.advice().count()), (None, 0));
    let table = verdict.findings.iter().find(|finding| finding.what == "table of TCP connections").unwrap();
    assert_eq!(table.mend.as_deref(), Some("thash_entries=262144 on the kernel's command line"));
    facts.cards[0].spread = true;
    assert!(!short(&self::verdict(&facts, &wanted(1_000, 4))).contains(&"receive queues of eth0"));
}
