//! A total that shards use in parts (session slots, probe slots, capacity), handed out by demand. The hub's side.
//!
//! Every round each shard says what it uses and what it had to refuse; the next parts follow. Contract with a shard: it uses no
//! more than the last part it was told; when that is lowered below what it uses, it takes on nothing new until enough has gone.
//!
//! - **Over-use: none.** A part is raised only by what is certainly free: what was lowered counts as used until the shard has
//!   said that it obeys, and beyond that what it still uses. So the sum of what shards use is never above the total. Only when
//!   the total itself is lowered it is, until enough has gone; nothing is raised meanwhile.
//! - **Under-use: at most an eighth of the total, and one round.** Idle shards keep room for a burst, an eighth of the total
//!   together; what a shard was refused it has after two reports, one from those who give and one of its own.

use std::iter::repeat_n;

/// Idle shards together keep this part of the total free, so that a burst finds room.
const FLOOR_PART: u64 = 8;

/// A shard's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// Counts what this shard was told; said back in its reports.
    pub number: u32,
    /// It may use so much.
    pub amount: u64,
}

/// What a shard says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The number of the grant it obeys; 0 before the first.
    pub obeys: u32,
    /// What it uses.
    pub used: u64,
    /// What it was asked for beyond and had to refuse, since its last report.
    pub wanted: u64,
}

/// Of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    told: Grant,
    /// Not more than this can be in use there.
    held: u64,
    last: Report,
}

impl Part {
    /// True exactly when what it was told last is obeyed. Until then it is told nothing else.
    fn is_settled(&self) -> bool {
        self.last.obeys == self.told.number
    }
}

/// The total and its parts.
#[derive(Clone, Debug)]
pub struct Shares {
    total: u64,
    parts: Vec<Part>,
}

impl Shares {
    /// A total for so many shards. Nobody has a part before the first [`Shares::round`].
    pub fn new(total: u64, shards: usize) -> Shares {
        Shares { total, parts: vec![Part::default(); shards] }
    }

    /// The total.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Another total, from the next round on.
    pub fn set_total(&mut self, total: u64) {
        self.total = total;
    }

    /// What shards used when they reported last.
    pub fn used(&self) -> u64 {
        self.parts.iter().map(|part| part.last.used).sum()
    }

    /// What a shard was told last; none before the first round.
    pub fn told(&self, shard: usize) -> Option<Grant> {
        self.parts.get(shard).map(|part| part.told).filter(|told| told.number > 0)
    }

    /// The shards that use more than they were told, and have heard it.
    pub fn above(&self) -> Vec<usize> {
        let parts = self.parts.iter().enumerate();
        parts
            .filter(|(_, part)| part.is_settled() && part.last.used > part.told.amount)
            .map(|(n, _)| n)
            .collect()
    }

    /// A shard has reported. An unknown shard is passed over.
    pub fn report(&mut self, shard: usize, report: Report) {
        let Some(part) = self.parts.get_mut(shard) else { return };
        part.last = report;
        if part.is_settled() {
            part.held = part.told.amount.max(report.used);
        }
    }

    /// The next parts, of those shards for which something changes. When all shards have reported that they obey, the parts in
    /// force sum up to exactly the total.
    pub fn round(&mut self) -> Vec<(usize, Grant)> {
        let targets = self.targets();
        let held: u64 = self.parts.iter().map(|part| part.held).sum();
        let lacks: Vec<u64> = self
            .parts
            .iter()
            .zip(&targets)
            .map(|(part, target)| if part.is_settled() { target.saturating_sub(part.held) } else { 0 })
            .collect();
        let free = self.total.saturating_sub(held).min(lacks.iter().sum());
        let raises = apportion(free, &lacks);
        let mut told = Vec::new();
        for (shard, (part, (target, raise))) in
            self.parts.iter_mut().zip(targets.into_iter().zip(raises)).enumerate()
        {
            let amount = target.min(part.held + raise);
            if part.is_settled() && (amount != part.told.amount || part.told.number == 0) {
                part.told = Grant { number: part.told.number.wrapping_add(1).max(1), amount };
                part.held = part.held.max(amount);
                told.push((shard, part.told));
            }
        }
        told
    }

    /// What each shard should have; exactly the total together.
    fn targets(&self) -> Vec<u64> {
        let used: Vec<u64> = self.parts.iter().map(|part| part.last.used).collect();
        let in_use: u64 = used.iter().sum();
        if in_use >= self.total {
            return apportion(self.total, &used);
        }
        let shards = self.parts.len();
        let floor = self.total / (FLOOR_PART * shards.max(1) as u64);
        let mut left = self.total - in_use;
        let mut targets = used;
        // Room for a burst everywhere, then what was refused, then the rest for whoever comes.
        let wanted = self.parts.iter().map(|part| part.last.wanted.min(self.total)).collect();
        for wish in [repeat_n(floor, shards).collect::<Vec<u64>>(), wanted] {
            let given = left.min(wish.iter().sum());
            left -= given;
            add(&mut targets, &apportion(given, &wish));
        }
        add(&mut targets, &apportion(left, &vec![1; shards]));
        targets
    }
}

fn add(to: &mut [u64], more: &[u64]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

/// `amount` in the proportions of `weights`, exactly. None gets more than its weight if `amount` is not above their sum.
/// Nothing if all weights are 0.
fn apportion(amount: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut seen, mut given) = (0_u128, 0_u64);
    let part = |weight: &u64| {
        seen += u128::from(*weight);
        // At most `amount`, as `seen` is at most `sum`.
        let until = (u128::from(amount) * seen).checked_div(sum).unwrap_or(0) as u64;
        let part = until - given;
        given = until;
        part
    };
    weights.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A shard that obeys, with messages that take a while both ways.
    #[derive(Clone, Default)]
    struct Shard {
        grant: Grant,
        used: u64,
        wanted: u64,
        to: VecDeque<Grant>,
        from: VecDeque<Report>,
    }

    impl Shard {
        fn demand(&mut self, come: u64, go: u64) {
            self.used -= go.min(self.used);
            let room = self.grant.amount.saturating_sub(self.used);
            self.used += come.min(room);
            self.wanted += come - come.min(room);
        }

        fn report(&mut self) -> Report {
            let wanted = std::mem::take(&mut self.wanted);
            Report { obeys: self.grant.number, used: self.used, wanted }
        }

        fn obey(&mut self) {
            self.grant = self.to.pop_front().unwrap_or(self.grant);
        }
    }

    /// A round in which everything arrives.
    fn prompt_round(shares: &mut Shares, shards: &mut [Shard]) {
        for (n, shard) in shards.iter_mut().enumerate() {
            shares.report(n, shard.report());
        }
        for (n, grant) in shares.round() {
            shards[n].grant = grant;
        }
    }

    fn in_force(shards: &[Shard]) -> u64 {
        shards.iter().map(|shard| shard.grant.amount).sum()
    }

    #[test]
    fn the_parts_sum_up_exactly_and_follow_demand() {
        let mut shares = Shares::new(1_000, 3);
        let mut shards = vec![Shard::default(); 3];
        prompt_round(&mut shares, &mut shards);
        assert_eq!(in_force(&shards), 1_000);
        // All comes to one shard.
        let mut rounds = 0;
        while shards[1].used < 850 {
            let come = 900 - shards[1].used;
            shards[1].demand(come, 0);
            prompt_round(&mut shares, &mut shards);
            rounds += 1;
            assert!(rounds < 10, "{}", shards[1].used);
        }
        prompt_round(&mut shares, &mut shards);
        prompt_round(&mut shares, &mut shards);
        assert_eq!(in_force(&shards), 1_000);
        assert!(
            shards[0].grant.amount >= 30,
            "an idle shard keeps room for a burst: {}",
            shards[0].grant.amount
        );
    }

    #[test]
    fn a_lower_total_raises_nobody_and_is_kept_once_enough_has_gone() {
        let mut shares = Shares::new(100, 2);
        let mut shards = vec![Shard::default(); 2];
        prompt_round(&mut shares, &mut shards);
        shards.iter_mut().for_each(|shard| shard.demand(50, 0));
        shares.set_total(60);
        for _ in 0..3 {
            shards.iter_mut().for_each(|shard| shard.demand(10, 0));
            prompt_round(&mut shares, &mut shards);
        }
        assert_eq!((in_force(&shards), shares.used()), (60, 100), "nobody has to go");
        shards.iter_mut().for_each(|shard| shard.demand(10, 30));
        assert_eq!(shards.iter().map(|shard| shard.used).sum::<u64>(), 60);
    }

    #[test]
    fn a_silent_shard_keeps_what_it_had() {
        let mut shares = Shares::new(100, 2);
        let mut shards = vec![Shard::default(); 2];
        prompt_round(&mut shares, &mut shards);
        for _ in 0..10 {
            shares.report(1, Report { obeys: shards[1].grant.number, used: 50, wanted: 50 });
            for (n, grant) in shares.round() {
                // The first is told and does not answer.
                if n == 1 {
                    shards[1].grant = grant;
                }
            }
        }
        assert_eq!(shards[1].grant.amount, 50);
        shares.report(9, Report::default());
    }

    #[test]
    fn what_a_shard_still_uses_above_its_part_is_not_given_to_others() {
        let mut shares = Shares::new(100, 3);
        let mut shards = vec![Shard::default(); 3];
        prompt_round(&mut shares, &mut shards);
        // The first grows to 60 and the third to 38; then the total is lowered, and the first obeys.
        while shards[0].used < 60 || shards[2].used < 38 {
            for (n, wish) in [(0, 60), (2, 38)] {
                let come = wish - shards[n].used;
                shards[n].demand(come, 0);
            }
            prompt_round(&mut shares, &mut shards);
        }
        shares.set_total(30);
        let silent = shards[2].grant;
        for (n, grant) in shares.round() {
            shards[n].grant = grant;
        }
        for (n, shard) in shards.iter_mut().enumerate().take(2) {
            shares.report(n, shard.report());
        }
        // The third is empty, but has not seen its part, and may use what it had.
        shares.report(2, Report { obeys: silent.number, used: 0, wanted: 0 });
        shares.set_total(100);
        for (n, grant) in shares.round() {
            shards[n].grant = grant;
        }
        let most = shards[0].used.max(shards[0].grant.amount) + shards[1].grant.amount + silent.amount;
        assert!(most <= 100, "{most}");
    }

    proptest! {
        #[test]
        fn what_is_used_is_never_above_the_total(
            total in 0_u64..2_000,
            count in 1_usize..9,
            steps in prop::collection::vec((0_usize..9, 0_u8..6, 0_u64..500, 0_u64..300), 1..400),
            lower in prop::option::of(0_u64..400),
        ) {
            let mut shares = Shares::new(total, count);
            let mut shards = vec![Shard::default(); count];
            let mut in_force_now = total;
            for (step, (n, what, come, go)) in steps.into_iter().enumerate() {
                // Lowered and raised again now and then: nobody has to go, and what is still used is not given to others.
                if let (Some(lower), 0) = (lower, step % 20) {
                    in_force_now = if step % 40 == 20 { lower.min(total) } else { total };
                    shares.set_total(in_force_now);
                }
                let n = n % count;
                let shard = &mut shards[n];
                match what {
                    0 | 1 => shard.demand(come, go),
                    2 => shard.obey(),
                    3 => {
                        let report = shard.report();
                        shard.from.push_back(report);
                    }
                    4 => {
                        if let Some(report) = shard.from.pop_front() {
                            shares.report(n, report);
                        }
                    }
                    _ => {
                        prop_assert_eq!(shares.targets().iter().sum::<u64>(), in_force_now);
                        for (n, grant) in shares.round() {
                            shards[n].to.push_back(grant);
                        }
                    }
                }
                let used: u64 = shards.iter().map(|shard| shard.used).sum();
                prop_assert!(used <= total, "{} of {}", used, total);
            }
            // Then all is delivered, and the parts are the total.
            shares.set_total(total);
            for _ in 0..4 {
                for (n, shard) in shards.iter_mut().enumerate() {
                    while !shard.to.is_empty() {
                        shard.obey();
                    }
                    shard.from.clear();
                    shares.report(n, shard.report());
                }
                for (n, grant) in shares.round() {
                    shards[n].to.push_back(grant);
                }
            }
            shards.iter_mut().for_each(Shard::obey);
            prop_assert_eq!(in_force(&shards), total);
        }

        #[test]
        fn proportions_are_exact(amount in 0_u64..10_000, weights in prop::collection::vec(0_u64..500, 1..20)) {
            let parts = apportion(amount, &weights);
            let sum: u64 = weights.iter().sum();
            prop_assert_eq!(parts.iter().sum::<u64>(), if sum == 0 { 0 } else { amount });
            if amount <= sum {
                prop_assert!(parts.iter().zip(&weights).all(|(part, weight)| part <= weight));
            }
        }
    }
}
