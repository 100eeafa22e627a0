//! Makes a failing history simpler: without a kind of fault, with fewer voters, shorter.
//!
//! Each step runs the seed again and is kept when the same property is violated; anything else that
//! might fail then is another matter. The result is a command line, not a script.

use crate::checkers::Violation;
use crate::options::{KINDS, Options};
use crate::trace::Trace;
use crate::verdict::verdict;
use std::fmt;

/// Shortest fault phase that is worth a try, in ticks.
const TICKS_MIN: u64 = 5;

/// How a history differs from what its seed stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simpler {
    /// Kinds of fault or demand taken away, by name.
    pub without: Vec<String>,
    /// First voters, instead of the seed's.
    pub voters: Option<u64>,
    /// Ticks of the fault phase, instead of the seed's.
    pub ticks: Option<u64>,
}

impl Simpler {
    /// The mixture that is left of a seed's.
    ///
    /// # Errors
    /// A kind has a name that does not exist.
    pub fn of(&self, options: Options) -> Result<Options, String> {
        let mut options = options;
        for name in &self.without {
            options = options.without(name)?;
        }
        options.voters = self.voters.unwrap_or(options.voters).max(1);
        options.ticks = self.ticks.unwrap_or(options.ticks).max(1);
        Ok(options)
    }
}

/// As arguments of the command line, with a space ahead of each.
impl fmt::Display for Simpler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            write!(f, " --without {}", self.without.join(","))?;
        }
        if let Some(voters) = self.voters {
            write!(f, " --voters {voters}")?;
        }
        if let Some(ticks) = self.ticks {
            write!(f, " --ticks {ticks}")?;
        }
        Ok(())
    }
}

/// The simplest history found that still violates the same property.
#[must_use]
pub fn shrink(options: &Options, found: &Violation) -> Simpler {
    let fails = |candidate: &Simpler| {
        let Ok(options) = candidate.of(options.clone()) else {
            return false;
        };
        let result = verdict(&options, &mut Trace::Off);
        result.is_err_and(|violation| violation.property == found.property)
    };
    let mut best = Simpler::default();
    for kind in KINDS.iter().filter(|kind| kind.is_in(options)) {
        let mut candidate = best.clone();
        candidate.without.push(kind.name.to_owned());
        if fails(&candidate) {
            best = candidate;
        }
    }
    for voters in 1..options.voters {
        let candidate = Simpler {
            voters: Some(voters),
            ..best.clone()
        };
        if fails(&candidate) {
            best = candidate;
            break;
        }
    }
    let mut ticks = options.ticks;
    while ticks > TICKS_MIN {
        // By half, or else by a tenth.
        let shorter = [ticks / 2, ticks - ticks.div_ceil(10)];
        let candidates = shorter.map(|ticks| Simpler {
            ticks: Some(ticks),
            ..best.clone()
        });
        let Some(candidate) = candidates.into_iter().find(|candidate| fails(candidate)) else {
            break;
        };
        ticks = candidate.ticks.unwrap_or(ticks);
        best = candidate;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::Simpler;
    use crate::options::Options;

    #[test]
    fn what_is_simpler_reads_as_the_arguments_that_make_it_so() {
        let simpler = Simpler {
            without: vec!["loss".to_owned(), "crashes".to_owned()],
            voters: Some(2),
            ticks: Some(40),
        };
        let printed = simpler.to_string();
        assert_eq!(printed, " --without loss,crashes --voters 2 --ticks 40");
        let options = simpler.of(Options::draw(1, 0)).expect("the kinds exist");
        assert_eq!(
            (options.loss, options.crash, options.voters, options.ticks),
            (0, 0, 2, 40)
        );
        assert_eq!(Simpler::default().to_string(), "");
    }
}
