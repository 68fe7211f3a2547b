//! Can this kernel, here, now, do what a ring needs? If not: one sentence that says why and what to do.
//!
//! Linux 6.1 is the oldest kernel (DEFER_TASKRUN). io_uring may be missing for four reasons that look alike (EPERM or
//! ENOSYS): the sysctl, a seccomp filter (the default in Docker since 25.0 and containerd since 2.0), an
//! old kernel, a kernel built without. `classify` tells them apart from facts alone; shortage of memory or
//! descriptors is never taken for any of them.

#![allow(unsafe_code)]

use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::setup::build;

/// Oldest kernel: major, minor.
pub(super) const MINIMUM_KERNEL: (u32, u32) = (6, 1);

/// What the kernel can do beyond the minimum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelFeatures {
    /// Major and minor version.
    pub version: (u32, u32),
    /// SO_LINGER as a ring command (6.7): `Close` with reset sends RST. Without it the close is plain.
    pub reset_on_close: bool,
}

/// Why io_uring cannot be used. The text is one sentence with the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeError {
    /// Forbidden by the sysctl.
    #[error(
        "io_uring is disabled on this host (sysctl kernel.io_uring_disabled = {value}): set it to 0{}",
        if *value == 1 { ", or add the user to the group in kernel.io_uring_group" } else { "" }
    )]
    Sysctl {
        /// 1: only a group and administrators; 2: nobody.
        value: u8,
    },
    /// Forbidden by a seccomp filter.
    #[error(
        "io_uring is denied by a seccomp filter ({}), as container runtimes do by default: run with a profile that \
         allows io_uring_setup, io_uring_enter and io_uring_register",
        errno_name(*errno)
    )]
    Seccomp {
        /// EPERM, EACCES or ENOSYS.
        errno: i32,
    },
    /// The kernel lacks something.
    #[error(
        "Linux {}.{} is too old: {feature} is missing; Linux {}.{} or later is needed",
        version.0, version.1, MINIMUM_KERNEL.0, MINIMUM_KERNEL.1
    )]
    TooOld {
        /// The running kernel.
        version: (u32, u32),
        /// What is missing.
        feature: &'static str,
    },
    /// The kernel is new enough, but built without io_uring.
    #[error(
        "this kernel (Linux {}.{}) has no io_uring: use one built with CONFIG_IO_URING",
        version.0, version.1
    )]
    NotBuilt {
        /// The running kernel.
        version: (u32, u32),
    },
    /// Forbidden by something else, such as a security module.
    #[error(
        "io_uring is denied ({}), though neither the sysctl nor a seccomp filter does it: look for a security module \
         (SELinux, AppArmor)",
        errno_name(*errno)
    )]
    Denied {
        /// EPERM or EACCES.
        errno: i32,
    },
    /// Out of memory or descriptors: io_uring itself may well be there.
    #[error("not enough resources to set up io_uring ({}): {}", errno_name(*errno), remedy(*errno))]
    Resources {
        /// ENOMEM, EMFILE, ENFILE, EAGAIN...
        errno: i32,
    },
    /// Anything else.
    #[error("io_uring cannot be set up: {}", io::Error::from_raw_os_error(*errno))]
    Other {
        /// What the kernel said.
        errno: i32,
    },
}

/// Tries what a [`super::Ring`] needs, on the smallest scale.
///
/// # Errors
/// The reason and the remedy.
pub fn probe() -> Result<KernelFeatures, ProbeError> {
    let ring = build(8, 16).map_err(|error| of_error(&error))?;
    let version = kernel_version();
    check_operations(&ring, version)?;
    ring.submitter().register_files_sparse(1).map_err(|error| of_error(&error))?;
    super::buffers::Buffers::register(&ring, 1).map_err(|error| of_error(&error)).map(|buffers| {
        // The kernel must let go of the memory before it is freed.
        drop(ring);
        drop(buffers);
    })?;
    Ok(KernelFeatures { version, reset_on_close: version >= (6, 7) })
}

fn check_operations(ring: &IoUring, version: (u32, u32)) -> Result<(), ProbeError> {
    let missing = |feature| Err(ProbeError::TooOld { version, feature });
    if !ring.params().is_feature_ext_arg() {
        return missing("IORING_FEAT_EXT_ARG");
    }
    if !ring.params().is_feature_nodrop() {
        return missing("IORING_FEAT_NODROP");
    }
    if !ring.params().is_feature_skip_cqe_on_success() {
        return missing("IORING_FEAT_CQE_SKIP");
    }
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(|error| of_error(&error))?;
    let needed = [
        (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
        (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::PollRemove::CODE, "IORING_OP_POLL_REMOVE"),
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
    ];
    match needed.into_iter().find(|(code, _)| !supported.is_supported(*code)) {
        Some((_, feature)) => missing(feature),
        None => Ok(()),
    }
}

fn of_error(error: &io::Error) -> ProbeError {
    ProbeError::of_host(error.raw_os_error().unwrap_or(libc::EIO))
}

impl ProbeError {
    /// Explains an error number of io_uring_setup with the facts of this host.
    pub(super) fn of_host(errno: i32) -> ProbeError {
        classify(errno, sysctl(), kernel_version(), seccomp_mode())
    }
}

/// Decides from facts: the error number of io_uring_setup, kernel.io_uring_disabled (absent before 6.6), the version, and
/// the `Seccomp:` line of /proc/self/status.
fn classify(errno: i32, sysctl: Option<u8>, version: (u32, u32), seccomp: Option<u8>) -> ProbeError {
    let filtered = seccomp == Some(2);
    match errno {
        libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EAGAIN | libc::ENOBUFS | libc::ENOSPC => {
            ProbeError::Resources { errno }
        }
        libc::EPERM | libc::EACCES => match sysctl {
            Some(value @ 1..) => ProbeError::Sysctl { value },
            _ if filtered => ProbeError::Seccomp { errno },
            _ => ProbeError::Denied { errno },
        },
        libc::ENOSYS if version < (5, 1) => ProbeError::TooOld { version, feature: "io_uring" },
        libc::ENOSYS if filtered => ProbeError::Seccomp { errno },
        libc::ENOSYS => ProbeError::NotBuilt { version },
        libc::EINVAL if version < MINIMUM_KERNEL => {
            ProbeError::TooOld { version, feature: "IORING_SETUP_DEFER_TASKRUN" }
        }
        errno => ProbeError::Other { errno },
    }
}

fn sysctl() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn seccomp_mode() -> Option<u8> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?.trim().parse().ok()
}

fn kernel_version() -> (u32, u32) {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or((0, 0), |release| parse_version(&release))
}

/// Major and minor of a release such as `6.18.44-generic`; zero for what is not a number.
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// RLIMIT_NOFILE (soft), which also bounds a file table; unlimited when it cannot be read.
pub(super) fn open_files_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => u64::MAX,
    }
}

fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENOSYS => "ENOSYS",
        libc::ENOMEM => "ENOMEM",
        libc::EMFILE => "EMFILE",
        libc::ENFILE => "ENFILE",
        libc::EAGAIN => "EAGAIN",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOSPC => "ENOSPC",
        _ => "another error",
    }
}

fn remedy(errno: i32) -> &'static str {
    match errno {
        libc::EMFILE => "raise the limit of open files (ulimit -n, LimitNOFILE=)",
        libc::ENFILE => "raise the sysctl fs.file-max",
        _ => "free memory, or raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        use ProbeError::*;
        const NEW: (u32, u32) = (6, 18);
        let table = [
            (libc::EPERM, Some(2), NEW, Some(0), Sysctl { value: 2 }),
            (libc::EPERM, Some(1), NEW, Some(2), Sysctl { value: 1 }),
            (libc::EPERM, Some(0), NEW, Some(2), Seccomp { errno: libc::EPERM }),
            (libc::EPERM, None, (6, 1), Some(2), Seccomp { errno: libc::EPERM }),
            (libc::ENOSYS, Some(0), NEW, Some(2), Seccomp { errno: libc::ENOSYS }),
            (libc::EPERM, Some(0), NEW, Some(0), Denied { errno: libc::EPERM }),
            (libc::EACCES, None, NEW, None, Denied { errno: libc::EACCES }),
            (libc::ENOSYS, None, NEW, Some(0), NotBuilt { version: NEW }),
            (libc::ENOSYS, None, (4, 19), Some(2), TooOld { version: (4, 19), feature: "io_uring" }),
            (
                libc::EINVAL,
                None,
                (5, 15),
                Some(0),
                TooOld { version: (5, 15), feature: "IORING_SETUP_DEFER_TASKRUN" },
            ),
            (libc::EINVAL, Some(0), NEW, Some(0), Other { errno: libc::EINVAL }),
        ];
        for (errno, sysctl, version, seccomp, expected) in table {
            assert_eq!(classify(errno, sysctl, version, seccomp), expected);
        }
    }

    #[test]
    fn want_of_resources_never_looks_like_want_of_support() {
        for errno in [libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EAGAIN] {
            for sysctl in [None, Some(0), Some(1), Some(2)] {
                for seccomp in [None, Some(0), Some(2)] {
                    for version in [(4, 4), (5, 15), (6, 18)] {
                        let error = classify(errno, sysctl, version, seccomp);
                        assert_eq!(error, ProbeError::Resources { errno });
                    }
                }
            }
        }
    }

    #[test]
    fn each_reason_is_one_sentence_with_a_remedy() {
        insta::assert_snapshot!(
            [
                ProbeError::Sysctl { value: 1 },
                ProbeError::Sysctl { value: 2 },
                ProbeError::Seccomp { errno: libc::EPERM },
                ProbeError::TooOld { version: (5, 15), feature: "IORING_SETUP_DEFER_TASKRUN" },
                ProbeError::NotBuilt { version: (6, 12) },
                ProbeError::Denied { errno: libc::EACCES },
                ProbeError::Resources { errno: libc::EMFILE },
                ProbeError::Resources { errno: libc::ENOMEM },
            ]
            .map(|error| error.to_string())
            .join("\n"),
            @"
            io_uring is disabled on this host (sysctl kernel.io_uring_disabled = 1): set it to 0, or add the user to the group in kernel.io_uring_group
            io_uring is disabled on this host (sysctl kernel.io_uring_disabled = 2): set it to 0
            io_uring is denied by a seccomp filter (EPERM), as container runtimes do by default: run with a profile that allows io_uring_setup, io_uring_enter and io_uring_register
            Linux 5.15 is too old: IORING_SETUP_DEFER_TASKRUN is missing; Linux 6.1 or later is needed
            this kernel (Linux 6.12) has no io_uring: use one built with CONFIG_IO_URING
            io_uring is denied (EACCES), though neither the sysctl nor a seccomp filter does it: look for a security module (SELinux, AppArmor)
            not enough resources to set up io_uring (EMFILE): raise the limit of open files (ulimit -n, LimitNOFILE=)
            not enough resources to set up io_uring (ENOMEM): free memory, or raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)
            "
        );
    }

    #[test]
    fn versions_are_read_from_any_release() {
        assert_eq!(parse_version("6.18.44-fc-v669\n"), (6, 18));
        assert_eq!(parse_version("7.0-rc1"), (7, 0));
        assert_eq!(parse_version("nonsense"), (0, 0));
    }

    #[test]
    fn this_host_can() {
        assert!(probe().unwrap().version >= MINIMUM_KERNEL);
    }
}
