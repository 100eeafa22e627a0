//! What must always hold, judged from outside: memory of every member, durable image of every
//! disk, every message, the history so far. Shares no code with the core.
//!
//! One file per property. A violation names the property as `docs/simulation.md` does.

mod commits;
mod configuration;
mod elections;
mod logs;
mod messages;
mod requests;

use crate::host::Host;
use quorate_raft::{EntryId, LogIndex, MemberId, Term};
use std::collections::BTreeMap;
use std::fmt;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the property.
    pub property: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// Every member of the simulation.
pub type Hosts = BTreeMap<MemberId, Host>;

/// What the checkers remember.
#[derive(Default)]
pub struct Checks {
    /// Who led each term.
    leaders: BTreeMap<Term, MemberId>,
    /// Whom each member voted for, in any of its lives.
    votes: BTreeMap<(MemberId, Term), MemberId>,
    /// Where the log of each candidate ends, by what it said when it asked for votes.
    campaigns: BTreeMap<(MemberId, Term), EntryId>,
    /// Every entry that was ever appended: its content and the term before it.
    entries: BTreeMap<EntryId, (u64, Option<Term>)>,
    /// What was committed at each index.
    pub committed: BTreeMap<LogIndex, (Term, u64)>,
    /// When each heartbeat round of a leader began to leave, as a sequence number of the world.
    rounds: BTreeMap<(MemberId, Term, u64), u64>,
    /// The newest round of a leader that each member's answer has reached it for.
    answers: BTreeMap<(MemberId, Term), BTreeMap<MemberId, u64>>,
    /// Digest of the machine after each index.
    digests: BTreeMap<LogIndex, u64>,
    /// Where each acknowledged request stands.
    pub acknowledged: BTreeMap<u64, LogIndex>,
    /// Highest index at which a request was acknowledged so far.
    pub floor: LogIndex,
}

/// Builds a violation unless a condition holds.
pub(crate) fn ensure(
    holds: bool,
    property: &'static str,
    what: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            property,
            what: what(),
        })
    }
}
