//! What a shard takes of a limit, by the clients it has and the shards it shares a core with: with many shards in a
//! process each is small, and what every shard has must be small, too.

use super::limits::{
    CLIENTS_PER_RECV_BUFFER, CQ_ENTRIES, CQ_ENTRIES_LEAST, DONES_PER_TURN, RECV_BUFFER, RECV_BUFFERS,
    RECV_BUFFERS_LEAST, SWEEP_LEAST, SWEEP_PER_TURN,
};

/// Receive buffers of a shard for so many clients: the power of two below their share, within the two bounds.
pub const fn recv_buffers(clients: u32) -> u16 {
    let share = clients / CLIENTS_PER_RECV_BUFFER;
    if share <= RECV_BUFFERS_LEAST as u32 {
        RECV_BUFFERS_LEAST
    } else if share >= RECV_BUFFERS as u32 {
        RECV_BUFFERS
    } else {
        1 << share.ilog2()
    }
}

/// Completion queue entries of a ring for so many clients: each may have a poll and a send complete at the same time.
pub const fn cq_entries(clients: u32) -> u32 {
    if clients >= CQ_ENTRIES / 2 {
        CQ_ENTRIES
    } else {
        let wanted = 2 * clients;
        if wanted <= CQ_ENTRIES_LEAST { CQ_ENTRIES_LEAST } else { wanted.next_power_of_two() }
    }
}

/// Clients swept per turn by a shard that shares its core: the others of the core have a turn each before its next.
pub const fn sweep_per_turn(shards_on_core: usize) -> usize {
    let share = SWEEP_PER_TURN / if shards_on_core == 0 { 1 } else { shards_on_core };
    if share < SWEEP_LEAST { SWEEP_LEAST } else { share }
}

const _: () = assert!(RECV_BUFFERS as usize >= DONES_PER_TURN);
const _: () = assert!(recv_buffers(0) == RECV_BUFFERS_LEAST && recv_buffers(u32::MAX) == RECV_BUFFERS);
// 51 shards of 19,700 hold a million with RLIMIT_NOFILE 20,000: their receive buffers are within 64 bytes a client.
const _: () = assert!(recv_buffers(19_700) as usize * RECV_BUFFER <= 64 * 19_700);
const _: () = assert!(cq_entries(0) == CQ_ENTRIES_LEAST && cq_entries(u32::MAX) == CQ_ENTRIES);
const _: () = assert!(cq_entries(5_000).is_power_of_two() && CQ_ENTRIES_LEAST <= CQ_ENTRIES);
const _: () = assert!(sweep_per_turn(1) == SWEEP_PER_TURN && sweep_per_turn(26) == SWEEP_LEAST);
