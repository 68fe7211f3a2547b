//! What the target uses, read from /proc when it runs on this host: CPU, resident memory, kernel memory of its sockets.
//!
//! The kernel does not say whose slab an object is. So the growth of the whole host's slab and socket buffers per connection is
//! taken, less what only the rig's side has (`OWN_RECEIVE`), and halved: both ends of a connection are the same kind of
//! socket. That holds on loopback, while nothing else on the host opens connections; elsewhere it says nothing.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::os;

/// Kernel memory of the rig's armed multishot receive, bytes, above the poll of the target: io_kiocb 256, async data 96 and 512
/// against an io_kiocb of 256 (measured, Linux 6.18: design/io_uring-facts).
const OWN_RECEIVE: u64 = 608;
/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";
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
    /// Now; `None` when it is gone.
    pub fn read(self) -> Option<Use> {
        let (_, rss) = os::resident(self.pid)?;
        Some(Use { cpu: cpu(self.pid)?, rss })
    }
}

/// All processes that are watched, each with what it was last seen to use.
#[derive(Debug)]
pub struct Processes {
    each: Vec<(Process, Cell<Use>)>,
}

impl Processes {
    /// These, each once.
    pub fn of(pids: impl IntoIterator<Item = u32>) -> Processes {
        let mut pids: Vec<u32> = pids.into_iter().collect();
        pids.sort_unstable();
        pids.dedup();
        Processes { each: pids.into_iter().map(|pid| (Process { pid }, Cell::default())).collect() }
    }

    /// The processes that listen on these addresses; `None` unless every address has one that may be seen on this host, since
    /// what only some of them use says nothing of all.
    pub fn listening(targets: &[SocketAddr]) -> Option<Processes> {
        let each: Vec<Vec<Process>> = targets.iter().map(|at| listening(*at)).collect();
        let complete = !each.is_empty() && each.iter().all(|found| !found.is_empty());
        complete.then(|| Processes::of(each.into_iter().flatten().map(|process| process.pid)))
    }

    /// Their ids, ascending.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.each.iter().map(|(process, _)| process.pid)
    }

    /// What they have used so far, together. One that is gone counts with what it was last seen to use, so that a target that
    /// dies does not take its use with it.
    pub fn read(&self) -> Use {
        let mut sum = Use::default();
        for (process, last) in &self.each {
            last.set(process.read().unwrap_or(last.get()));
            sum.cpu += last.get().cpu;
            sum.rss += last.get().rss;
        }
        sum
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

/// Connections of this host whose own port is this one, IPv4, and the bytes that wait in them: to be sent or acknowledged, and
/// to be read (proc_net_tcp). Payload: the kernel's memory for them is somewhat more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Queued {
    /// How many.
    pub(crate) sockets: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// What waits in the connections of a port now. Reads a line for each connection of the host.
pub(crate) fn queued(port: u16) -> Queued {
    let Ok(file) = fs::File::open("/proc/net/tcp") else { return Queued::default() };
    let lines = BufReader::with_capacity(1 << 16, file).lines().skip(1).map_while(Result::ok);
    lines
        .filter_map(|line| waiting(&line, port))
        .fold(Queued::default(), |sum, bytes| Queued { sockets: sum.sockets + 1, bytes: sum.bytes + bytes })
}

/// Bytes that wait in the connection of a line of /proc/net/tcp, when its own port is this one.
fn waiting(line: &str, port: u16) -> Option<u64> {
    let mut words = line.split_whitespace();
    let (_, own) = words.nth(1)?.rsplit_once(':')?;
    // A listener's numbers are connections.
    if u16::from_str_radix(own, 16) != Ok(port) || words.nth(1)? == LISTEN {
        return None;
    }
    let (to_send, to_read) = words.next()?.split_once(':')?;
    Some(u64::from_str_radix(to_send, 16).ok()? + u64::from_str_radix(to_read, 16).ok()?)
}

/// Pages of socket buffers, TCP over both families (`mem` of /proc/net/sockstat).
fn socket_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// The processes other than this one that listen on this address of this host.
fn listening(at: SocketAddr) -> Vec<Process> {
    if !is_here(at) {
        return Vec::new();
    }
    let inodes = listeners(at);
    let (own, entries) = (std::process::id(), fs::read_dir("/proc").into_iter().flatten());
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own && has_socket(*pid, &inodes)).map(|pid| Process { pid }).collect()
}

/// True exactly when the address is one of this host's: only then are its sockets ours to look for.
fn is_here(at: SocketAddr) -> bool {
    let mut any_port = at;
    any_port.set_port(0);
    at.ip().is_loopback() || UdpSocket::bind(any_port).is_ok()
}

/// How well a listening socket fits a target; of several the kernel gives a connection to the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// At any address of both families.
    Both,
    /// At any address of the target's family.
    Family,
    /// At the target's address.
    Exact,
}

/// Names of the sockets that fit best.
fn listeners(at: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let all = || tables.iter().flat_map(|text| text.lines().skip(1)).filter_map(|line| listener(line, at));
    let best = all().map(|(fit, _)| fit).max();
    all().filter(|(fit, _)| Some(*fit) == best).map(|(_, name)| name).collect()
}

/// The socket of a line of /proc/net/tcp or tcp6, when it listens where this target is.
fn listener(line: &str, at: SocketAddr) -> Option<(Fit, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, port) = words.get(1)?.rsplit_once(':')?;
    if u16::from_str_radix(port, 16) != Ok(at.port()) || words.get(3).copied() != Some(LISTEN) {
        return None;
    }
    // Who connects to no address connects to the loopback.
    let wanted = match at.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let have = address(local)?;
    let fit = match have {
        have if have.to_canonical() == wanted => Fit::Exact,
        have if have.is_unspecified() && have.is_ipv4() == wanted.is_ipv4() => Fit::Family,
        have if have.is_unspecified() && have.is_ipv6() => Fit::Both,
        _ => return None,
    };
    Some((fit, format!("socket:[{}]", words.get(9)?)))
}

/// An address as /proc/net/tcp prints it: words of 32 bits of it, each as a number of this machine.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (n, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * n)?);
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
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
    use std::net::TcpListener;
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn our_own_use_can_be_read() {
        let us = Process { pid: std::process::id() };
        assert!(us.read().is_some_and(|used| used.rss > 0));
        assert!(kernel_bytes().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_listener_is_told_by_its_address() {
        let fit = |local: &str, state: &str, at: &str| {
            let line = format!("0: {local} 00000000:0000 {state} 0:0 0:0 0 0 0 77 1");
            listener(&line, at.parse().unwrap()).map(|(fit, name)| {
                assert_eq!(name, "socket:[77]");
                fit
            })
        };
        let (any, any6) = ("00000000:208D", "00000000000000000000000000000000:208D");
        let (own, own6) = ("0100007F:208D", "00000000000000000000000001000000:208D");
        let mapped = "0000000000000000FFFF00000100007F:208D";
        for (local, at, expected) in [
            (own, "127.0.0.1:8333", Some(Fit::Exact)),
            (own, "127.0.0.2:8333", None),
            (own, "127.0.0.1:8334", None),
            (own, "0.0.0.0:8333", Some(Fit::Exact)),
            (own, "[::1]:8333", None),
            (any, "127.0.0.2:8333", Some(Fit::Family)),
            (any, "[::1]:8333", None),
            (own6, "[::1]:8333", Some(Fit::Exact)),
            (own6, "127.0.0.1:8333", None),
            (any6, "[::1]:8333", Some(Fit::Family)),
            (any6, "127.0.0.1:8333", Some(Fit::Both)),
            (mapped, "127.0.0.1:8333", Some(Fit::Exact)),
        ] {
            assert_eq!(fit(local, "0A", at), expected, "{local} for {at}");
        }
        assert_eq!(fit(own, "01", "127.0.0.1:8333"), None, "a connection");
    }

    #[test]
    fn real_sockets_are_found_by_address_and_only_on_this_host() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = here.local_addr().unwrap();
        let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), at.port());
        let us = std::process::id();
        assert!(has_socket(us, &listeners(at)) && listeners(elsewhere).is_empty());
        let other = TcpListener::bind(elsewhere).unwrap();
        assert_eq!((listeners(at).len(), listeners(elsewhere).len()), (1, 1));
        assert_ne!(listeners(at), listeners(elsewhere));
        drop(other);
        // Ours is never the target; and 192.0.2.0/24 is nobody's (RFC 5737).
        assert!(listening(at).is_empty() && Processes::listening(&[at]).is_none());
        assert!(is_here(at) && !is_here("192.0.2.1:8333".parse().unwrap()));
        assert!(Processes::listening(&[]).is_none());
    }

    #[test]
    fn a_process_that_is_gone_keeps_what_it_used() {
        let child = || Command::new("sleep").arg("60").spawn().unwrap();
        let (mut first, mut second) = (child(), child());
        let both = Processes::of([first.id(), second.id(), first.id()]);
        assert_eq!(both.pids().count(), 2);
        let rss = |child: &Child| Process { pid: child.id() }.read().map_or(0, |used| used.rss);
        let before = both.read();
        assert!(before.rss > rss(&second) && rss(&second) > 0);
        first.kill().unwrap();
        first.wait().unwrap();
        assert_eq!(rss(&first), 0);
        let after = both.read();
        second.kill().unwrap();
        second.wait().unwrap();
        assert!(after.rss > before.rss / 2 && after.cpu >= before.cpu, "{before:?} {after:?}");
        assert_eq!(both.read().rss, after.rss);
    }

    #[test]
    fn what_waits_is_read_of_the_connections_of_one_port() {
        let line = |state: &str, queues: &str| {
            format!("0: 0100007F:208D 0100007F:C0DE {state} {queues} 0:0 0 0 0 77 1")
        };
        assert_eq!(waiting(&line("01", "00000010:00000002"), 0x208d), Some(18));
        assert_eq!(waiting(&line("01", "00000010:00000002"), 0xc0de), None, "the other end");
        assert_eq!(waiting(&line("0A", "00000000:00000002"), 0x208d), None, "connections to be accepted");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let mut one = std::net::TcpStream::connect(at).unwrap();
        let _other = listener.accept().unwrap();
        std::io::Write::write_all(&mut one, b"seven b").unwrap();
        assert_eq!(queued(at.port()), Queued { sockets: 1, bytes: 7 });
    }

    #[test]
    fn kernel_memory_is_halved() {
        assert_eq!(kernel_per_connection(1_000, 1_000 + 9_608 * 10, 10), Some(4_500));
        assert_eq!(kernel_per_connection(5, 1, 0), None);
    }
}
