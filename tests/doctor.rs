//! `breakwater doctor`, the refusal of `run`, and the scripts of kernel-tuning/: real programs on a made-up host below a temporary
//! folder, so that nothing of this machine is changed. One test sets real values, in a network namespace of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may panic; that is how it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use breakwater::control::host::Severity;
use breakwater::control::host::knobs::{Knob, knobs, words};
use serde_json::Value;
use tempfile::TempDir;

const MILLION: u64 = 1_000_000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

fn script(name: &str, arguments: &[&str]) -> Output {
    run(root().join("kernel-tuning").join(name), arguments)
}

fn breakwater(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_breakwater"), arguments)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// A host with every setting of the table at values that carry hardly anybody.
fn poor_host() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for knob in knobs().unwrap() {
        let poor: Vec<String> = match knob.name {
            "kernel.io_uring_disabled" => vec!["0".into()],
            "net.ipv4.ip_local_port_range" => vec!["32768".into(), "60999".into()],
            "net.ipv4.tcp_abort_on_overflow" | "net.ipv4.tcp_slow_start_after_idle" => vec!["1".into()],
            "net.ipv4.tcp_syncookies" | "net.ipv4.tcp_migrate_req" => vec!["0".into()],
            _ => (1..=knob.value.len()).map(|n| (100 * n).to_string()).collect(),
        };
        write(&dir, &knob.path(), &(poor.join("\t") + "\n"));
    }
    write(&dir, "proc/sys/kernel/osrelease", "6.12.3\n");
    write(&dir, "proc/self/limits", "Max open files   1024   20000   files\n");
    write(&dir, "proc/meminfo", "MemTotal: 64000000 kB\nMemAvailable: 60000000 kB\n");
    write(&dir, "proc/self/status", "CapEff:\t0000000000000000\nSeccomp:\t0\nCpus_allowed_list:\t0-3\n");
    dir
}

fn write(dir: &TempDir, path: &str, text: &str) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn contents(dir: &TempDir, knobs: &[Knob]) -> Vec<String> {
    knobs.iter().map(|knob| fs::read_to_string(dir.path().join(knob.path())).unwrap()).collect()
}

fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

// ---- doctor --------------------------------------------------------------------------------------------

#[test]
fn this_host_is_examined() {
    let output = breakwater(&["doctor", "--clients", "100", "--shards", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(output.stderr.is_empty());
    let said = text(&output.stdout);
    for what in ["limit of open files", "io_uring", "net.core.somaxconn", "memory for idle clients"] {
        assert!(said.contains(what), "{what} is not in {said}");
    }
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("this host carries ") && last.contains("(100 wanted), limited by: "), "{last}");
    // The number of the configuration file, when no flag gives one.
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "b.toml", "nodes = [\"127.0.0.1:9\"]\nmax_clients = 123\nshards = 1");
    let file = dir.path().join("b.toml");
    let output = breakwater(&["doctor", "--config", file.to_str().unwrap()]);
    assert!(text(&output.stdout).starts_with("for 123 clients on 1 shards\n"));
}

#[test]
fn the_json_is_one_object_and_the_status_says_the_same() {
    let host = poor_host();
    write(&host, "proc/sys/fs/file-max", "1000000\n");
    write(&host, "proc/sys/fs/nr_open", "1048576\n");
    for (clients, status, ok) in [("40000", 0, true), ("40001", 1, false)] {
        let output =
            breakwater(&["doctor", "--json", "--root", path(&host), "--shards", "2", "--clients", clients]);
        assert_eq!(output.status.code(), Some(status));
        assert!(output.stderr.is_empty());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], Value::Bool(ok));
        assert_eq!((report["carries"].as_u64(), report["shards"].as_u64()), (Some(40_000), Some(2)));
        assert_eq!(report["clients"].as_u64().unwrap().to_string(), clients);
        assert_eq!(report["limited_by"], "limit of open files");
        let findings = report["findings"].as_array().unwrap();
        assert!(findings.len() > knobs().unwrap().len());
        for finding in findings {
            for key in ["what", "value", "wanted", "why", "source"] {
                assert!(finding[key].is_string(), "{key} of {finding}");
            }
            assert!(["must", "should", "nice"].contains(&finding["severity"].as_str().unwrap()));
            assert_eq!(finding["fine"], finding["mend"].is_null(), "{finding}");
        }
    }
}

#[test]
fn the_default_number_of_clients_fits_a_small_host() {
    let host = poor_host();
    write(&host, "proc/sys/fs/file-max", "1000000\n");
    write(&host, "proc/sys/fs/nr_open", "1048576\n");
    write(&host, "proc/meminfo", "MemTotal: 100000 kB\nMemAvailable: 90000 kB\n");
    let output = breakwater(&["doctor", "--json", "--root", path(&host), "--shards", "2"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), report["limited_by"].as_str()),
        (Some(0), Some("memory for idle clients"))
    );
    // The plan for fewer clients takes a little less: the default is on the safe side.
    let (clients, carries) = (report["clients"].as_u64().unwrap(), report["carries"].as_u64().unwrap());
    assert!((carries * 95 / 100..=carries).contains(&clients), "{clients} of {carries}");
    assert!((10_000..40_000).contains(&report["clients"].as_u64().unwrap()), "{report}");
}

#[test]
fn a_host_without_io_uring_carries_nobody() {
    let host = poor_host();
    write(&host, "proc/sys/kernel/io_uring_disabled", "2\n");
    let output = breakwater(&["doctor", "--root", path(&host), "--clients", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("MUST    io_uring") && said.contains("this host carries 0 of 1 clients"), "{said}");
}

#[test]
fn conntrack_counts_until_the_operator_says_otherwise() {
    let host = poor_host();
    write(&host, "proc/sys/fs/file-max", "1000000\n");
    write(&host, "proc/sys/fs/nr_open", "1048576\n");
    write(&host, "proc/sys/net/netfilter/nf_conntrack_count", "40\n");
    let ask = |more: &[&str]| {
        let arguments = ["doctor", "--root", path(&host), "--shards", "1", "--clients", "61"];
        let output = breakwater(&[&arguments[..], more].concat());
        (output.status.code(), text(&output.stdout).lines().last().unwrap().to_owned())
    };
    let said = ask(&[]);
    assert_eq!(said.0, Some(1), "{said:?}");
    assert!(said.1.contains("60 of 61 clients, limited by: net.netfilter.nf_conntrack_max"), "{said:?}");
    assert_eq!(ask(&["--untracked"]).0, Some(0));
}

#[test]
fn bad_usage_is_status_2_and_one_sentence() {
    for arguments in
        [&["doctor", "--clients", "many"][..], &["doctor", "--clients", "0"], &["doctor", "stray"]]
    {
        let output = breakwater(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
}

// ---- run -----------------------------------------------------------------------------------------------

#[test]
fn run_refuses_what_the_host_cannot_carry_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = breakwater(&[
        "run",
        "--network",
        "regtest",
        "--node",
        "127.0.0.1:9",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
        "--max-clients",
        "8000000",
        "--shards",
        "1",
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty());
    for part in ["breakwater: ", "`max_clients` is 8000000", "carries ", "limit of open files", "--shards "] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!data.exists(), "nothing was opened");
}

// ---- the table and what is made of it ------------------------------------------------------------------

/// Commented: what only helps in some cases, and what systemd sets higher at boot, so that a plain line would lower it.
fn drop_in(knob: &Knob) -> String {
    let mark = if knob.severity == Severity::Nice || knob.name.starts_with("fs.") { "#" } else { "" };
    format!("{mark}{} = {}", knob.name, words(&knob.numbers(MILLION)))
}

#[test]
fn the_drop_in_is_what_the_table_says_for_a_million() {
    let file = fs::read_to_string(root().join("kernel-tuning/90-breakwater.conf")).unwrap();
    let lines: Vec<&str> =
        file.lines().filter(|line| !line.is_empty() && *line != "#" && !line.starts_with("# ")).collect();
    let expected: Vec<String> = knobs().unwrap().iter().map(drop_in).collect();
    assert_eq!(lines, expected);
}

#[test]
fn the_readme_has_a_row_for_each_setting() {
    let file = fs::read_to_string(root().join("kernel-tuning/README.md")).unwrap();
    let rows: Vec<&str> = file
        .lines()
        .filter(|line| {
            line.starts_with("| `")
                && line.split('`').nth(1).is_some_and(|name| name.contains('.') && !name.contains(".conf"))
                && line.matches(" | ").count() == 4
        })
        .collect();
    for knob in knobs().unwrap() {
        let numbers = words(&knob.numbers(MILLION));
        let start = format!("| `{}` | {numbers} | {} | {} | ", knob.name, knob.severity.name(), knob.why);
        let row = rows.iter().find(|row| row.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row of kernel-tuning/README.md begins with {start}"));
        let bought = row[start.len()..].trim_end_matches(" |");
        assert!(bought.len() > 10, "what it bought, or \"not measured yet\": {row}");
    }
    assert_eq!(rows.len(), knobs().unwrap().len(), "a row whose setting is not in the table");
}

// ---- apply and undo ------------------------------------------------------------------------------------

#[test]
fn apply_and_undo_on_a_made_up_host() {
    let (host, memory, knobs) = (poor_host(), tempfile::tempdir().unwrap(), knobs().unwrap());
    let state = memory.path().join("state");
    let place = ["--root", path(&host), "--state", state.to_str().unwrap()];
    let apply = |clients: &str, more: &[&str]| {
        let output = script("apply", &[&["--clients", clients], &place[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let numbers = |content: &String| -> Vec<u64> {
        content.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    let before = contents(&host, &knobs);

    let dry = apply("1000000", &["--dry-run", "--all"]);
    assert_eq!(contents(&host, &knobs), before, "a dry run changes nothing");
    assert!(!state.exists());

    // Bash and Rust compute the same: for many client counts the printed values are the table's.
    for clients in [1, 7, 1_001, 123_457, 8_388_608] {
        let said = apply(&clients.to_string(), &["--dry-run", "--all"]);
        for (knob, have) in knobs.iter().zip(&before) {
            let (have, target) = (numbers(have), knob.target(clients, &numbers(have)));
            let line = said.lines().find(|line| line.ends_with(&knob.path()));
            let expected = (target != have).then(|| {
                let value = words(&target);
                if target.len() > 1 { format!("'{value}'") } else { value }
            });
            assert_eq!(
                line.map(|line| line.split(" > ").next().unwrap().trim_start_matches("echo ").to_owned()),
                expected,
                "{} for {clients}",
                knob.name
            );
        }
    }

    // Without --all the rows that are nice stay.
    let said = apply("1000000", &[]);
    for (knob, (old, new)) in knobs.iter().zip(before.iter().zip(contents(&host, &knobs))) {
        let expected = match knob.severity {
            Severity::Nice => numbers(old),
            _ => knob.target(MILLION, &numbers(old)),
        };
        assert_eq!(numbers(&new), expected, "{}", knob.name);
    }
    assert!(said.lines().filter(|line| line.starts_with("echo ")).all(|line| dry.contains(line)));
    // What is printed is what was done: a shell that runs the printed lines gets the same host.
    let copy = poor_host();
    let lines = said.replace(path(&host), path(&copy));
    assert!(Command::new("bash").args(["-c", &lines]).status().unwrap().success());
    assert_eq!(contents(&copy, &knobs), contents(&host, &knobs));

    // Again: nothing left to do. For more clients, with the rest: the first old values stay.
    assert!(!apply("1000000", &[]).contains("echo "));
    apply("2000000", &["--all"]);
    assert_ne!(contents(&host, &knobs), before);

    let output = script("undo", &[&["--dry-run"], &place[..]].concat());
    assert!(output.status.success() && text(&output.stdout).contains("echo "));
    assert_ne!(contents(&host, &knobs), before);
    let output = script("undo", &place);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(contents(&host, &knobs), before, "byte for byte");
    assert!(!state.exists(), "nothing is left of the memory");
    let output = script("undo", &place);
    assert!(output.status.success() && text(&output.stdout).contains("nothing to undo"));
}

#[test]
fn what_the_host_lacks_is_said_and_bad_usage_refused() {
    let (host, memory) = (poor_host(), tempfile::tempdir().unwrap());
    fs::remove_dir_all(host.path().join("proc/sys/net/netfilter")).unwrap();
    let place = ["--root", path(&host), "--state", path(&memory)];
    let output = script("apply", &[&["--clients", "1000"], &place[..]].concat());
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("# net.netfilter.nf_conntrack_max: not on this host"));
    for arguments in [
        &[][..],
        &["--clients"],
        &["--clients", "0"],
        &["--clients", "9999999"],
        &["--clients", "1e3"],
        &["x"],
    ] {
        let output = script("apply", &[arguments, &place[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{arguments:?}");
    }
    // A memory that cannot be written: no change without a way back.
    let left: Vec<Knob> =
        knobs().unwrap().into_iter().filter(|knob| !knob.name.contains("netfilter")).collect();
    let before = contents(&host, &left);
    write(&memory, "file", "");
    let file = memory.path().join("file");
    let output =
        script("apply", &["--clients", "2000000", "--root", path(&host), "--state", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing was changed"));
    assert_eq!(contents(&host, &left), before);
}

/// Without its value, `--root` must not become the real host. Each script is asked to print only, in case it does.
#[test]
fn an_option_without_its_value_changes_nothing() {
    let memory = tempfile::tempdir().unwrap();
    let state = memory.path().join("state");
    let scripts: [(&str, &[&str], &[&str]); 4] = [
        ("apply", &["--dry-run", "--clients", "1000"], &["--clients", "--state", "--root"]),
        ("undo", &["--dry-run"], &["--state", "--root"]),
        ("network-queues", &[], &["--card", "--state", "--root"]),
        ("huge-pages", &[], &["--state", "--root"]),
    ];
    for (name, begin, options) in scripts {
        for option in options {
            for value in [&[][..], &[""], &["--all"], &["--dry-run"], &["--apply"]] {
                // Below a root and a memory of the test where those are not what is asked.
                let place = [("--root", path(&memory)), ("--state", state.to_str().unwrap())];
                let place = place.iter().filter(|(other, _)| other != option);
                let mut arguments = begin.to_vec();
                place.for_each(|(other, at)| arguments.extend([*other, *at]));
                arguments.push(option);
                arguments.extend(value);
                let output = script(name, &arguments);
                assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
                assert_eq!(text(&output.stdout), "", "{name} {arguments:?}");
                let said = format!("{name}: {option} needs a value (try --help)\n");
                assert_eq!(text(&output.stderr), said, "{name} {arguments:?}");
                assert!(!state.exists(), "{name} {arguments:?}");
            }
        }
    }
}

#[test]
fn queues_and_huge_pages_are_printed_first_and_undone() {
    let (host, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = memory.path().join("state");
    let place = ["--root", path(&host), "--state", state.to_str().unwrap()];
    let card = "sys/class/net/eth0";
    let mut files = vec![
        ("sys/devices/system/cpu/online".to_owned(), "0-35\n"),
        (format!("{card}/device/msi_irqs/40"), "msi\n"),
        (format!("{card}/device/msi_irqs/41"), "msi\n"),
        ("proc/irq/40/smp_affinity_list".into(), "0-35\n"),
        ("proc/irq/41/smp_affinity_list".into(), "1\n"),
        (format!("{card}/queues/rx-0/rps_cpus"), "0,00000000\n"),
        (format!("{card}/queues/tx-0/xps_cpus"), "0,00000000\n"),
        (format!("{card}/queues/tx-1/xps_cpus"), "0,00000000\n"),
        ("sys/class/net/lo/queues/rx-0/rps_cpus".into(), "0\n"),
    ];
    let thp = "sys/kernel/mm/transparent_hugepage/enabled";
    files.push((thp.into(), "[always] madvise never\n"));
    for (path, content) in &files {
        write(&host, path, content);
    }
    let read = |path: &str| fs::read_to_string(host.path().join(path)).unwrap();
    for name in ["network-queues", "huge-pages"] {
        let output = script(name, &place);
        assert!(
            output.status.success() && text(&output.stdout).contains("echo "),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(files.iter().all(|(path, content)| read(path) == *content), "a dry run is the default");
    for name in ["network-queues", "huge-pages"] {
        let output = script(name, &[&["--apply"], &place[..]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    for (path, expected) in [
        ("proc/irq/40/smp_affinity_list", "0\n"),
        ("proc/irq/41/smp_affinity_list", "1\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "f,ffffffff\n"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "5,55555555\n"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "a,aaaaaaaa\n"),
        ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
        (thp, "madvise\n"),
    ] {
        assert_eq!(read(path), expected, "{path}");
    }
    assert!(script("undo", &place).status.success());
    // A real kernel prints the choice in brackets; what is written back is the word.
    assert_eq!(read(thp), "always\n");
    assert!(files.iter().all(|(path, content)| path == thp || read(path) == *content));
}

/// Real files of /proc/sys in a network namespace that ends with the test. Needs the right to make one.
#[test]
fn apply_and_undo_for_real_in_a_network_namespace() {
    let memory = tempfile::tempdir().unwrap();
    let state = memory.path().join("state");
    let scripts = root().join("kernel-tuning");
    // The settings of the namespace only: the rest of the table belongs to the machine. The probe is what the kernel holds.
    let commands = format!(
        "set -eu\n\
         mkdir -p {memory}/proc/sys/net\n\
         for name in core/somaxconn ipv4/tcp_migrate_req ipv4/ip_local_port_range ipv4/tcp_slow_start_after_idle; do\n\
           mkdir -p {memory}/proc/sys/net/${{name%/*}}\n\
           ln -s /proc/sys/net/$name {memory}/proc/sys/net/$name\n\
         done\n\
         echo 100 > /proc/sys/net/core/somaxconn\n\
         cat {memory}/proc/sys/net/*/* > {memory}/before\n\
         {scripts}/apply --all --clients 1000 --root {memory} --state {state}\n\
         cat {memory}/proc/sys/net/*/* > {memory}/after\n\
         {scripts}/undo --root {memory} --state {state}\n\
         cat {memory}/proc/sys/net/*/* > {memory}/undone\n",
        memory = path(&memory),
        scripts = scripts.display(),
        state = state.display(),
    );
    let allowed = Command::new("unshare").args(["--net", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("NOT TESTED: a network namespace cannot be made here");
        return;
    }
    let output = Command::new("unshare").args(["--net", "bash", "-c", &commands]).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let read = |name: &str| fs::read_to_string(memory.path().join(name)).unwrap();
    assert!(read("before").starts_with("100\n"));
    assert_eq!(read("after"), "4096\n10000\t65535\n1\n0\n");
    assert_eq!(read("undone"), read("before"));
    assert!(!state.exists());
}

#[test]
fn the_scripts_pass_shellcheck() {
    let mut command = Command::new("shellcheck");
    command.current_dir(root()).args(["-x", "-S", "style"]);
    let names = ["apply", "undo", "network-queues", "huge-pages", "lib.sh"];
    command.args(names.map(|name| format!("kernel-tuning/{name}")));
    let Ok(output) = command.output() else {
        eprintln!("NOT TESTED: shellcheck is not installed");
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stdout));
}
