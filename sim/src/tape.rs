//! The decision tape: every choice of a simulation, drawn from its seed.
//!
//! A sequence of its own (SplitMix64), so that no library update changes what a seed means.

use quorate_node::env::Rng;

/// Seeded choices.
#[derive(Clone, Debug)]
pub struct Tape {
    state: u64,
}

impl Tape {
    /// The tape of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not give neighbouring tapes.
        let mut tape = Self {
            state: seed ^ 0x9e37_79b9_7f4a_7c15,
        };
        tape.next_u64();
        tape
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "a choice among nothing");
        self.next_u64() % limit
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `items`; `None` of an empty slice.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            None
        } else {
            Some(&items[self.below(items.len() as u64) as usize])
        }
    }
}

impl Rng for Tape {
    fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::Tape;
    use quorate_node::env::Rng;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut tape = Tape::new(1);
        assert_eq!(tape.next_u64(), 0x382f_f84c_b272_81e9);
        assert_ne!(Tape::new(2).next_u64(), Tape::new(1).next_u64());
    }
}
