//! The state machine of the simulated members: which requests were applied, and a running digest.
//!
//! Small on purpose: what it proves is that every member applies the same entries in the same
//! order, each once. Shares no code with the product.

use quorate_raft::{Entry, LogIndex, Payload};
use std::collections::BTreeMap;

/// State after a prefix of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The last entry applied.
    pub applied: LogIndex,
    /// Digest over all of them, in order.
    pub digest: u64,
    /// Where each request was applied.
    pub requests: BTreeMap<u64, LogIndex>,
}

impl Machine {
    /// Applies the next entry.
    ///
    /// # Errors
    /// A gap, a repetition, or a request that was applied before: `apply-once`.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        if entry.id.index != self.applied.next() {
            return Err(format!(
                "entry {} applied after entry {}",
                entry.id, self.applied
            ));
        }
        self.applied = entry.id.index;
        self.digest = mix(self.digest, fingerprint(entry));
        if let Payload::Command(bytes) = &entry.payload {
            let request = request_of(bytes);
            if let Some(first) = self.requests.insert(request, entry.id.index) {
                let second = entry.id.index;
                return Err(format!(
                    "request {request} applied at {first} and again at {second}"
                ));
            }
        }
        Ok(())
    }
}

/// The number inside a command.
#[must_use]
pub fn request_of(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(number)
}

/// A number that stands for everything in an entry.
#[must_use]
pub fn fingerprint(entry: &Entry) -> u64 {
    let start = mix(mix(1, entry.id.term.0), entry.id.index.0);
    match &entry.payload {
        Payload::Empty => mix(start, 2),
        Payload::Command(bytes) => mix(mix(start, 3), u64::from(crc32c::crc32c(bytes))),
        Payload::Membership {
            membership,
            context,
        } => {
            let sets = [
                &membership.voters,
                &membership.outgoing,
                &membership.learners,
                &membership.learners_next,
            ];
            let mut sum = mix(mix(start, 4), context.len() as u64);
            for set in sets {
                sum = set
                    .iter()
                    .fold(mix(sum, 5), |sum, member| mix(sum, member.0));
            }
            sum
        }
    }
}

/// Folds a number into a sum, order-dependent.
#[must_use]
pub fn mix(sum: u64, number: u64) -> u64 {
    let mixed = (sum ^ number)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(23);
    mixed ^ (mixed >> 31)
}
