//! What the target uses, read from /proc when it runs on this host: CPU, resident memory, kernel memory of its sockets.
//!
//! The kernel does not say whose slab an object is. So the growth of the whole host's slab and socket buffers per connection is
//! taken, less what only the rig's side has ([`OWN_RECEIVE`]), and halved: both ends of a connection are the same kind of
//! socket. That holds on loopback, while nothing else on the host opens connections; elsewhere it says nothing.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::os;

/// Kernel memory of the rig's armed multishot receive, bytes, above the poll of the target: io_kiocb 256, async data 96 and 512
/// against an io_kiocb of 256 (measured, Linux 6.18: design/io_uring-facts).
const OWN_RECEIVE: u64 = 608;
/// Descriptors of one process that are looked at.
const MOST_FILES: usize = 100_000;

/// A process that is watched.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// Its id.
    pub pid: u32,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Use {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// VmRSS, bytes.
    pub rss: u64,
}

impl Process {
    /// The process that listens on this address, when it is on this host and may be seen.
    pub fn listening(at: SocketAddr) -> Option<Process> {
        let inodes = listeners(at);
        let own = std::process::id();
        let pids =
            fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != own).find(|pid| has_socket(*pid, &inodes)).map(|pid| Process { pid })
    }

    /// Now; `None` when it is gone.
    pub fn read(self) -> Option<Use> {
        let (_, rss) = os::resident(self.pid)?;
        Some(Use { cpu: cpu(self.pid)?, rss })
    }
}

/// Kernel memory of the whole host that connections take: slab and socket buffers, bytes.
pub fn kernel_bytes() -> Option<u64> {
    Some(os::slab()? + socket_pages()? * 4_096)
}

/// One connection's kernel memory on the target's side, from the growth of [`kernel_bytes`] over `connections`.
pub fn kernel_per_connection(before: u64, after: u64, connections: u64) -> Option<u64> {
    let both = after.saturating_sub(before).checked_div(connections)?;
    Some(both.saturating_sub(OWN_RECEIVE) / 2)
}

/// Pages of socket buffers, TCP over both families (`mem` of /proc/net/sockstat).
fn socket_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// Inodes of the sockets that listen on this port, at this address or at any.
fn listeners(at: SocketAddr) -> Vec<String> {
    /// State of a listening socket.
    const LISTEN: &str = "0A";
    let port = format!("{:04X}", at.port());
    let of = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().skip(1).filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let local = words.get(1)?.rsplit_once(':')?.1;
            (local == port && words.get(3) == Some(&LISTEN))
                .then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
        });
        lines.collect::<Vec<_>>()
    };
    [of("/proc/net/tcp"), of("/proc/net/tcp6")].concat()
}

fn has_socket(pid: u32, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .take(MOST_FILES)
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| inodes.iter().any(|inode| inode == link)))
}

/// CPU time of all threads, in nanoseconds where the kernel tells (schedstat), with what ended threads used in ticks of 10 ms.
fn cpu(pid: u32) -> Option<Duration> {
    let ticks = os::process_cpu(pid)?;
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(ticks) };
    let of = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let exact = Duration::from_nanos(threads.filter_map(of).sum());
    Some(exact.max(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_use_can_be_read() {
        let us = Process { pid: std::process::id() };
        assert!(us.read().is_some_and(|used| used.rss > 0));
        assert!(kernel_bytes().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn kernel_memory_is_halved() {
        assert_eq!(kernel_per_connection(1_000, 1_000 + 9_608 * 10, 10), Some(4_500));
        assert_eq!(kernel_per_connection(5, 1, 0), None);
    }
}
