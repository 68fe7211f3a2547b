//! What the benchmarks ask of Linux: clocks, pinning, memory of processes.

#![allow(unsafe_code)]

use std::fs;
use std::time::Duration;

use crate::Outcome;

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable. For an unknown clock it stays zero.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of this thread, user and system. Softirqs that run inside its system calls count as its own.
pub(crate) fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of a process to the nanosecond, with its threads that have ended; `None` when it is gone.
pub(crate) fn process_clock(pid: u32) -> Option<Duration> {
    let (pid, mut id) = (i32::try_from(pid).ok()?, 0);
    // SAFETY: `id` is writable.
    (unsafe { libc::clock_getcpuclockid(pid, &raw mut id) } == 0).then(|| clock(id))
}

/// Time that the threads of a process have waited for a core although they could run (second field of schedstat); those that
/// have ended are not in it. Large when others take the cores: then latencies say less about the process.
pub(crate) fn process_waited(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of).sum())
}

/// Pins this thread to a core; a host with fewer cores leaves it where it is.
pub(crate) fn pin(core: usize) {
    // SAFETY: a zeroed set is an empty one; the pointer is valid for the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Lets this thread run before all ordinary ones (SCHED_FIFO); false where that is not allowed.
pub(crate) fn urgent() -> bool {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters are readable; 0 names this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

/// Runs `start` so that the threads it starts give way to all others (nice 10).
///
/// # Errors
/// What `start` gave.
pub(crate) fn yielding<T: Send>(start: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            // SAFETY: it points to nothing; 0 names this thread, and new threads inherit the value.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
            start()
        });
        run.join().unwrap_or_else(|_| Err("a thread ended by a panic".into()))
    })
}

/// Resident memory of a process in bytes: anonymous pages (RssAnon of /proc/PID/status), and all of it (VmRSS).
pub(crate) fn resident(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some((kilobytes(&status, "RssAnon:")? * 1024, kilobytes(&status, "VmRSS:")? * 1024))
}

/// Resident memory of a process in bytes without pages of files, which the kernel takes and gives as it likes: RssAnon and
/// RssShmem.
pub(crate) fn resident_own(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some((kilobytes(&status, "RssAnon:")? + kilobytes(&status, "RssShmem:")?) * 1024)
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Kernel slab in use, bytes, of the whole host.
pub(crate) fn slab() -> Option<u64> {
    Some(kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")? * 1024)
}

/// Memory of the host, bytes.
pub(crate) fn memory() -> Option<u64> {
    Some(kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? * 1024)
}

/// Number of cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Load average of the last minute, for the record: a busy host makes noise.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// An eventfd that wakes a ring's thread.
#[derive(Debug)]
pub(crate) struct Wake(std::os::fd::OwnedFd);

impl Wake {
    pub(crate) fn new() -> std::io::Result<Wake> {
        use std::os::fd::FromRawFd as _;
        // SAFETY: eventfd takes no pointer; a non-negative result is a descriptor nobody else owns.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(Wake(std::os::fd::OwnedFd::from_raw_fd(fd)))
        }
    }

    pub(crate) fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are readable at `one`.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    /// Takes back what was rung; call only when it was: it waits otherwise.
    pub(crate) fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are writable at `count`.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> i32 {
        use std::os::fd::AsRawFd as _;
        self.0.as_raw_fd()
    }
}

/// CPU time of a process, user and system, with its threads that have ended (utime and stime of /proc/PID/stat).
pub(crate) fn process_cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted behind it, the state being the first.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every architecture the kernel still serves.
    Some(Duration::from_millis(ticks * 10))
}
