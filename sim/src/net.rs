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

    /// Cuts links in one of several shapes; what it did, for the trace.
    pub fn partition(&mut self, members: &[MemberId], tape: &mut Tape) -> &'static str {
        self.cut.clear();
        if members.len() < 2 {
            return "nothing to cut";
        }
        match tape.below(4) {
            0 => {
                let alone = members[tape.below(members.len() as u64) as usize];
                for other in members.iter().filter(|other| **other != alone) {
                    self.cut.insert((alone, *other));
                    self.cut.insert((*other, alone));
                }
                "one member is cut off"
            }
            1 => {
                let side: BTreeSet<MemberId> = members
                    .iter()
                    .copied()
                    .filter(|_| tape.chance(500))
                    .collect();
                self.cut_between(members, |member| side.contains(&member));
                "two sides"
            }
            2 => {
                // One-way: somebody hears nothing but is heard.
                let deaf = members[tape.below(members.len() as u64) as usize];
                for other in members.iter().filter(|other| **other != deaf) {
                    self.cut.insert((*other, deaf));
                }
                "one member hears nothing"
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
