//! Which connection ended for which reason.
//!
//! A shard counts reasons and does not say whose they were. In most turns one connection ends, and that is that; where there are
//! several, there must be a way to give each of them a reason that it can have had.

use breakwater::base::End;

use super::pipe::TcpId;

/// What ended in one turn of one shard.
#[derive(Debug)]
pub struct Endings {
    /// The connections that were closed.
    pub closed: Vec<TcpId>,
    /// The reasons that were counted.
    pub ends: Vec<End>,
}

impl Endings {
    /// Gives each connection a reason that is `possible` for it.
    pub fn judge(&self, possible: impl Fn(TcpId, End) -> bool) -> Result<Vec<(TcpId, End)>, String> {
        let Endings { closed, ends } = self;
        if closed.len() != ends.len() {
            return Err(format!("connections {closed:?} were closed, but {ends:?} were counted"));
        }
        // Kuhn's matching: `taken[e]` is the connection that reason `e` is given to.
        let mut taken = vec![None; ends.len()];
        for at in 0..closed.len() {
            let mut tried = vec![false; ends.len()];
            if !self.place(at, &possible, &mut taken, &mut tried) {
                return Err(format!("connections {closed:?} ended for {ends:?}, which cannot be"));
            }
        }
        Ok(taken.iter().zip(ends).filter_map(|(at, end)| at.map(|at: usize| (closed[at], *end))).collect())
    }

    fn place(
        &self,
        at: usize,
        possible: &impl Fn(TcpId, End) -> bool,
        taken: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        for (e, end) in self.ends.iter().enumerate() {
            if tried[e] || !possible(self.closed[at], *end) {
                continue;
            }
            tried[e] = true;
            if taken[e].is_none_or(|other| self.place(other, possible, taken, tried)) {
                taken[e] = Some(at);
                return true;
            }
        }
        false
    }
}
