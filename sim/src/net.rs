//! The simulated network: delay, loss, duplicates, very old messages, partitions of every shape.

use crate::options::{ELECTION_TICKS, Options, TICK_US};
use crate::tape::Tape;
use quorate_raft::MemberId;
use std::collections::BTreeSet;

/// Which links are cut.
#[derive(Clone, Debug, Default)]
pub struct Net {
    cut: BTreeSet<(MemberId, MemberId)>,
}

impl Net {
    /// Heals everything.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether a message from one member reaches the other now.
    #[must_use]
    pub fn connected(&self, from: MemberId, to: MemberId) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Delays after which copies of a message arrive; none when it is lost.
    pub fn copies(&self, options: &Options, faults: bool, tape: &mut Tape) -> Vec<u64> {
        let usual = tape.between(100, options.delay_us.max(100));
        if !faults {
            return vec![usual];
        }
        if tape.chance(options.loss) {
            return Vec::new();
        }
        let mut copies = vec![usual];
        if tape.chance(options.duplicate) {
            copies.push(tape.between(100, 3 * options.delay_us.max(100)));
        }
        if tape.chance(options.stale) {
            copies.push(tape.between(1, 6) * u64::from(ELECTION_TICKS) * TICK_US);
        }
        copies
    }

    /// Cuts links in one of several shapes, around `aim` where one member stands out; what it did,
    /// for the trace. Links that were cut before work again.
    pub fn partition(
        &mut self,
        members: &[MemberId],
        aim: MemberId,
        tape: &mut Tape,
    ) -> &'static str {
        self.cut.clear();
        if members.len() < 2 {
            return "nothing to cut";
        }
        let others = members.iter().copied().filter(|other| *other != aim);
        match tape.below(8) {
            0..3 => {
                self.cut_between(members, |member| member == aim);
                "one member is cut off"
            }
            3 => {
                let others: Vec<MemberId> = others.collect();
                let companion = tape.pick(&others).copied();
                self.cut_between(members, |member| member == aim || Some(member) == companion);
                "two members are cut off"
            }
            4 => {
                let side: BTreeSet<MemberId> = members
                    .iter()
                    .copied()
                    .filter(|_| tape.chance(500))
                    .collect();
                self.cut_between(members, |member| side.contains(&member));
                "two sides"
            }
            5 => {
                self.cut.extend(others.map(|other| (other, aim)));
                "one member hears nothing"
            }
            6 => {
                self.cut.extend(others.map(|other| (aim, other)));
                "one member is not heard"
            }
            _ => {
                for from in members {
                    for to in members {
                        if from != to && tape.chance(250) {
                            self.cut.insert((*from, *to));
                        }
                    }
                }
                "links at random, one-way"
            }
        }
    }

    fn cut_between(&mut self, members: &[MemberId], side: impl Fn(MemberId) -> bool) {
        for from in members {
            for to in members {
                if side(*from) != side(*to) {
                    self.cut.insert((*from, *to));
                }
            }
        }
    }
}
