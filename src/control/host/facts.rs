//! What the host says about itself, read below a root so that a test can make up a host. Judges nothing.
//!
//! What cannot be read is `None` or empty, never an error: containers hide parts of /proc and /sys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::knobs::Knob;

/// CAP_SYS_ADMIN in the masks of /proc/self/status.
const CAP_SYS_ADMIN: u32 = 21;
/// State of a listening socket in /proc/net/tcp (TCP_LISTEN).
const LISTENING: &str = "0A";

/// The facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Major and minor version of the kernel.
    pub kernel: Option<(u32, u32)>,
    /// Why io_uring cannot be used, in one sentence with the remedy.
    pub io_uring: Option<String>,
    /// The `Seccomp:` line of /proc/self/status: 0 none, 2 a filter.
    pub seccomp: Option<u8>,
    /// True exactly when we hold CAP_SYS_ADMIN, which fs.file-max does not bound.
    pub sys_admin: bool,
    /// RLIMIT_NOFILE, hard: the relay raises its soft limit to it.
    pub open_files: Option<u64>,
    /// Files open on the whole host.
    pub files_in_use: u64,
    /// The table's settings, those that exist here.
    pub settings: BTreeMap<&'static str, Vec<u64>>,
    /// RAM in bytes.
    pub memory: Option<u64>,
    /// RAM that can be had without swapping, bytes.
    pub available: Option<u64>,
    /// The least memory limit of our control group and those above it, bytes.
    pub cgroup: Option<u64>,
    /// Connections tracked now; `None` without conntrack.
    pub tracked: Option<u64>,
    /// Buckets of the table of TCP connections, in a network namespace the host's.
    pub tcp_buckets: Option<u64>,
    /// Cores we may run on.
    pub cores: Option<u64>,
    /// NUMA nodes that have cores.
    pub nodes: u64,
    /// Network cards.
    pub cards: Vec<Card>,
    /// Ports somebody listens on.
    pub listening: Vec<u16>,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its interface.
    pub name: String,
    /// Its receive queues.
    pub queues: u64,
    /// True exactly when packets of at least one queue are handed to other cores (RPS).
    pub spread: bool,
}

impl Facts {
    /// Reads the host below `root`, with the settings of these knobs. Whether io_uring works is not in any file: the caller
    /// sets `io_uring` from [`crate::ring::probe`]; here it is what the files say.
    pub fn read(root: &Path, knobs: &[Knob]) -> Facts {
        let host = Host(root);
        let status = host.text("proc/self/status");
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let seccomp = line("Seccomp:").and_then(|text| text.parse().ok());
        let settings: BTreeMap<_, _> =
            knobs.iter().filter_map(|knob| Some((knob.name, host.numbers(&knob.path())?))).collect();
        let disabled = settings.get("kernel.io_uring_disabled").and_then(|numbers| numbers.first());
        let meminfo = host.text("proc/meminfo");
        Facts {
            kernel: version(&host.text("proc/sys/kernel/osrelease")),
            io_uring: disabled.filter(|value| **value > 0).map(|value| {
                format!("io_uring is disabled on this host (sysctl kernel.io_uring_disabled = {value}): set it to 0")
            }),
            seccomp,
            sys_admin: line("CapEff:")
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .is_some_and(|mask| mask >> CAP_SYS_ADMIN & 1 == 1),
            open_files: open_files(&host.text("proc/self/limits")),
            files_in_use: host.first("proc/sys/fs/file-nr").unwrap_or(0),
            settings,
            memory: kilobytes(&meminfo, "MemTotal:"),
            available: kilobytes(&meminfo, "MemAvailable:"),
            cgroup: host.cgroup(),
            tracked: host.first("proc/sys/net/netfilter/nf_conntrack_count"),
            // Negative in a network namespace that shares the host's table.
            tcp_buckets: host
                .text("proc/sys/net/ipv4/tcp_ehash_entries")
                .trim()
                .trim_start_matches('-')
                .parse()
                .ok(),
            cores: line("Cpus_allowed_list:").map(count),
            nodes: count(host.text("sys/devices/system/node/has_cpu").trim()).max(1),
            cards: host.cards(),
            listening: [host.listening("proc/net/tcp"), host.listening("proc/net/tcp6")].concat(),
        }
    }
}

/// A root to read below.
struct Host<'a>(&'a Path);

impl Host<'_> {
    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).unwrap_or_default()
    }

    fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        let text = self.text(path);
        let numbers: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        numbers.filter(|numbers| !numbers.is_empty())
    }

    fn first(&self, path: &str) -> Option<u64> {
        self.text(path).split_whitespace().next()?.parse().ok()
    }

    fn folder(&self, path: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join(path)).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths
    }

    /// The least limit on the way from our control group to the top; both versions of control groups.
    fn cgroup(&self) -> Option<u64> {
        let text = self.text("proc/self/cgroup");
        let limits = text.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let (top, file) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max"),
                list if list.split(',').any(|name| name == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return None,
            };
            // "max" is no number: no limit.
            let above = Path::new(path.trim_start_matches('/')).ancestors();
            above.filter_map(|group| self.first(Path::new(top).join(group).join(file).to_str()?)).min()
        });
        limits.min()
    }

    /// Interfaces with a device behind them; loopback and bridges have none.
    fn cards(&self) -> Vec<Card> {
        let cards = self.folder("sys/class/net").into_iter().filter(|path| path.join("device").exists());
        let card = |path: PathBuf| {
            let queues: Vec<PathBuf> = std::fs::read_dir(path.join("queues"))
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|queue| queue.file_name().is_some_and(|n| n.to_string_lossy().starts_with("rx-")))
                .collect();
            let spread = |queue: &PathBuf| {
                let mask = std::fs::read_to_string(queue.join("rps_cpus")).unwrap_or_default();
                mask.contains(|c: char| c.is_ascii_hexdigit() && c != '0')
            };
            Card {
                name: path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned()),
                queues: queues.len() as u64,
                spread: queues.iter().any(spread),
            }
        };
        cards.map(card).collect()
    }

    fn listening(&self, path: &str) -> Vec<u16> {
        let text = self.text(path);
        let port = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _, state) = (words.next()?, words.next()?, words.next()?);
            let (_, port) = local.rsplit_once(':')?;
            (state == LISTENING).then(|| u16::from_str_radix(port, 16).ok())?
        };
        text.lines().skip(1).filter_map(port).collect()
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn open_files(limits: &str) -> Option<u64> {
    let hard =
        limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().nth(1)?;
    match hard {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1_024)
}

/// Members of a list such as `0-3,8`.
fn count(list: &str) -> u64 {
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if last >= first => last - first + 1,
            _ => 0,
        },
        None => u64::from(part.parse::<u64>().is_ok()),
    };
    list.split(',').map(|text| part(text.trim())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::host::knobs;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_made_up_host_is_read() {
        let dir = tree(&[
            ("proc/sys/kernel/osrelease", "6.1.0-32-amd64\n"),
            ("proc/sys/kernel/io_uring_disabled", "2\n"),
            ("proc/sys/net/ipv4/tcp_mem", "10\t20\t30\n"),
            ("proc/sys/net/ipv4/tcp_ehash_entries", "-65536\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
            ("proc/sys/fs/file-nr", "1024\t0\t500000\n"),
            (
                "proc/self/status",
                "Name:\tx\nCapEff:\t0000000000200000\nSeccomp:\t2\nCpus_allowed_list:\t0-2,7\n",
            ),
            (
                "proc/self/limits",
                "Limit  Soft  Hard  Units\nMax open files            1024   524288   files\n",
            ),
            ("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   600 kB\n"),
            ("proc/self/cgroup", "0::/system.slice/breakwater.service\n"),
            ("sys/fs/cgroup/system.slice/breakwater.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "700000\n"),
            ("sys/class/net/eth0/device/vendor", ""),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00,00000000\n"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00,00000002\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
            ("sys/devices/system/node/has_cpu", "0-1\n"),
            (
                "proc/net/tcp",
                "  sl  local_address rem_address   st\n 0: 0100007F:208D 00000000:0000 0A 0\n 1: 0100007F:0016 0200007F:1000 01 0\n",
            ),
        ]);
        let facts = Facts::read(dir.path(), &knobs::knobs().unwrap());
        assert!(facts.io_uring.as_ref().is_some_and(|text| text.contains("io_uring_disabled = 2")));
        let settings =
            BTreeMap::from([("kernel.io_uring_disabled", vec![2]), ("net.ipv4.tcp_mem", vec![10, 20, 30])]);
        let expected = Facts {
            kernel: Some((6, 1)),
            io_uring: facts.io_uring.clone(),
            seccomp: Some(2),
            sys_admin: true,
            open_files: Some(524_288),
            files_in_use: 1_024,
            settings,
            memory: Some(1_024_000),
            available: Some(614_400),
            cgroup: Some(700_000),
            tracked: Some(12),
            tcp_buckets: Some(65_536),
            cores: Some(4),
            nodes: 2,
            cards: vec![Card { name: "eth0".into(), queues: 2, spread: true }],
            listening: vec![8_333],
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn the_first_version_of_control_groups_too() {
        let dir = tree(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(Facts::read(dir.path(), &[]).cgroup, Some(5_000));
    }

    #[test]
    fn a_host_that_says_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let facts = Facts::read(dir.path(), &knobs::knobs().unwrap());
        assert_eq!(facts, Facts { nodes: 1, ..Facts::default() });
    }

    #[test]
    fn a_version_that_makes_no_sense_is_unknown() {
        assert_eq!(version("6.12-rc1\n"), Some((6, 12)));
        for release in ["", "\n", "6", "6.", "Linux 6.1", "99999999999.1"] {
            assert_eq!(version(release), None, "{release:?}");
        }
    }

    #[test]
    fn this_host_is_read() {
        let facts = Facts::read(Path::new("/"), &knobs::knobs().unwrap());
        assert!(facts.kernel >= Some((6, 1)) && facts.memory > Some(0) && facts.cores > Some(0), "{facts:?}");
        assert!(facts.open_files > Some(0) && facts.settings.contains_key("net.core.somaxconn"), "{facts:?}");
    }
}
