//! The machine and the commit, for the record: a number without them cannot be compared.

use std::fs;

use crate::os;

/// Where a run took place.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Machine {
    /// Model of the processor (proc_cpuinfo(5)).
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Memory of the host, bytes.
    pub memory_bytes: u64,
    /// Load average of the last minute when this was read, before the run: a busy host makes noise.
    pub load_before: f64,
}

impl Machine {
    /// This one, now.
    pub fn read() -> Machine {
        Machine {
            cpu: cpu_model(),
            cores: os::cores(),
            kernel: kernel(),
            memory_bytes: os::memory().unwrap_or(0),
            load_before: os::load(),
        }
    }
}

/// `git describe` of the sources this program was built from; "unknown" when it was built outside a repository.
pub fn commit() -> &'static str {
    env!("BREAKWATER_COMMIT")
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map(|(_, name)| name.to_string()).unwrap_or_default()
}

fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string()
}
