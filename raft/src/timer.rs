//! The election timer: ticks since the last sign of a leader, against a jittered limit.
//!
//! The jitter is a pure function (`jitter`), so that a run can be repeated from its seed. Must not
//! know: what a tick is worth, or why the timer was restarted.

use crate::config::Config;
use crate::types::{MemberId, Term};

/// Ticks until a member without a leader campaigns.
#[derive(Clone, Debug)]
pub(crate) struct Timer {
    elapsed: u32,
    /// In `election_ticks..2 * election_ticks`.
    limit: u32,
    /// Campaigns begun in this term.
    attempt: u32,
}

impl Timer {
    pub fn new(config: &Config, term: Term) -> Self {
        Self {
            elapsed: 0,
            limit: limit(config, term, 0),
            attempt: 0,
        }
    }

    /// A sign of a leader, or a vote given: begin to wait anew.
    pub fn restart(&mut self) {
        self.elapsed = 0;
    }

    /// A new term: another limit. What has been waited counts on, so that a candidate whose log is
    /// behind cannot hold up the others by raising the term.
    pub fn new_term(&mut self, config: &Config, term: Term) {
        self.attempt = 0;
        self.limit = limit(config, term, 0);
    }

    /// A campaign begins: wait anew, with another limit, so that two candidates that collided
    /// will not do so for ever.
    pub fn new_attempt(&mut self, config: &Config, term: Term) {
        self.elapsed = 0;
        self.attempt = self.attempt.saturating_add(1);
        self.limit = limit(config, term, self.attempt);
    }

    /// One tick passes. Returns whether the limit is reached.
    pub fn tick(&mut self) -> bool {
        self.elapsed = self.elapsed.saturating_add(1);
        self.elapsed >= self.limit
    }

    /// Whether a known leader has been heard within the shortest election timeout: as long, no vote
    /// is given to anybody (thesis §6.4.1).
    pub fn is_fresh(&self, config: &Config) -> bool {
        self.elapsed < config.election_ticks
    }
}

fn limit(config: &Config, term: Term, attempt: u32) -> u32 {
    let base = config.election_ticks;
    base + jitter(config.seed, config.id, term, attempt, base)
}

/// A number below `range`, the same for the same arguments.
fn jitter(seed: u64, id: MemberId, term: Term, attempt: u32, range: u32) -> u32 {
    assert!(range > 0, "the election timeout is 0 ticks");
    let mut hash = seed;
    for word in [id.0, term.0, u64::from(attempt)] {
        hash = mix(hash ^ word);
    }
    u32::try_from(hash % u64::from(range)).expect("a remainder is below its u32 divisor")
}

/// A bijection in which each input bit sways every output bit: two multiply-and-shift rounds. The
/// multipliers are odd, hence invertible, and otherwise arbitrary.
const fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 31)).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 29)).wrapping_mul(0xaef1_7502_108e_f2d9);
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jitter_is_repeatable_and_spread_over_the_whole_range() {
        let draw = |id: u64, attempt| jitter(7, MemberId(id), Term(3), attempt, 10);
        assert_eq!(draw(1, 0), draw(1, 0));
        let mut hits = [0u32; 10];
        for id in 1..=100 {
            for attempt in 0..100 {
                hits[usize::try_from(draw(id, attempt)).unwrap()] += 1;
            }
        }
        assert!(
            hits.iter().all(|hits| (850..1150).contains(hits)),
            "uneven: {hits:?}"
        );
    }
}
