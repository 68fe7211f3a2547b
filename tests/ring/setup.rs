//! Set-up, its errors, and the probe.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use breakwater::ring::{ProbeError, Ring, RingConfig, RingError, probe};

use super::rig::*;

#[test]
fn a_file_table_above_the_limit_is_named_with_its_remedy() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if limit.rlim_cur >= 1 << 24 {
        return;
    }
    let max_clients = limit.rlim_cur as u32 + 1;
    let error = Ring::new(RingConfig { max_clients, ..RingConfig::default() }).err().unwrap();
    assert!(matches!(error, RingError::FileLimit { .. }), "{error}");
    let text = error.to_string();
    for part in [&max_clients.to_string(), &limit.rlim_cur.to_string(), "more shards"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let foreign = TcpListener::bind(any_port()).unwrap();
    let addr = foreign.local_addr().unwrap();
    let error = Ring::new(RingConfig { listeners: vec![addr], ..RingConfig::default() }).err().unwrap();
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn a_wrong_number_is_named() {
    for config in [
        RingConfig { buffers: 3, ..RingConfig::default() },
        RingConfig { max_clients: 0, ..RingConfig::default() },
        RingConfig { cq_entries: 5, ..RingConfig::default() },
    ] {
        assert!(matches!(Ring::new(config), Err(RingError::Config { .. })));
    }
}

const CHILD: &str = "BREAKWATER_TEST_SECCOMP_CHILD";

#[test]
fn a_seccomp_refusal_is_called_by_its_name() {
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(probe(), Err(ProbeError::Seccomp { errno: libc::EPERM }));
        let error = Ring::new(RingConfig::default()).err().unwrap();
        assert!(error.to_string().contains("seccomp"), "{error}");
        return;
    }
    if fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0") {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "setup::a_seccomp_refusal_is_called_by_its_name"]).env(CHILD, "1");
    // SAFETY: between fork and exec only two prctl(2) calls are made.
    unsafe { child.pre_exec(deny_io_uring_setup) };
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A filter that answers io_uring_setup (425 on every architecture) with EPERM and allows the rest.
fn deny_io_uring_setup() -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        op(LOAD, 0, 0, 0),
        op(EQUAL, 0, 1, 425),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid for the length given; the kernel copies it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
