//! What shards ask of Linux besides their rings, for the process and for the thread.

#![allow(unsafe_code)]

use std::io;

/// Raises the soft limit of open files to the hard one and returns it: a ring's file table may not be larger.
///
/// # Errors
/// getrlimit(2) or setrlimit(2) failed.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a limit of ours.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// No transparent huge pages in this process: a shard's heap is many small pieces in pages of its own, and a touched
/// byte would cost 2 MiB instead of 4 KiB. Measured with 51 empty shards: 945 MB resident with them, 138 MB without.
/// The allocator does not ask for them either (its feature `no_thp`); this is for hosts that give them unasked.
pub fn refuse_huge_pages() {
    // SAFETY: prctl(2) with numbers only. A kernel without the option refuses, and nothing changes.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "transparent huge pages cannot be refused");
    }
}

/// Returns memory this thread has freed to the host at once. The allocator does so by itself only while it is asked for
/// more, which a shard whose clients are gone does not do. Costs milliseconds: for rare moments.
pub fn give_memory_back() {
    // SAFETY: mi_collect takes no pointer and only touches memory the allocator owns.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Slice asked for by a shard that shares its core: about a turn of 64 sends. The kernel allows 0.1 to 100 ms.
const SLICE_NS: u64 = 500_000;

/// What sched_getattr(2) and sched_setattr(2) take, the part every kernel knows (SCHED_ATTR_SIZE_VER0).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for short time slices for this thread, which shares its core with other shards. Needs no privilege: it gets no more
/// time, only sooner and in smaller pieces. EEVDF hears of it from Linux 6.12 on; before that nothing changes.
pub fn ask_for_short_slices() {
    let size = size_of::<SchedAttr>() as u32;
    let mut attr = SchedAttr { size, ..SchedAttr::default() };
    // SAFETY: sched_getattr writes at most `size` bytes to `attr`; 0 names this thread.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    let mut result = known;
    // Whoever gave the thread another policy (SCHED_FIFO by chrt) knows what he does.
    if known == 0 && attr.policy == libc::SCHED_OTHER as u32 {
        attr.size = size;
        attr.runtime = SLICE_NS;
        // SAFETY: `attr` is readable and says its size.
        result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    }
    if result != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "no short time slices for a shard");
    }
}

/// Lets other threads of the core run. Without it the scheduler looks at its next tick only, 1 to 4 ms away.
pub(super) fn give_way() {
    // SAFETY: sched_yield(2) takes no argument and does not fail.
    unsafe { libc::sched_yield() };
}
