//! What a turn is counted as: applying under a stopwatch, and what the core has noted for the
//! metrics.
//!
//! Must not know: Raft's rules, who scrapes.

use super::shell::{Ended, Shell};
use crate::kv::OpKind;
use crate::metrics::ApplyOp;
use std::time::Duration;

/// A round of applying that takes longer counts as slow, as in etcd.
const SLOW_APPLY_NS: u64 = 100_000_000;

impl Shell {
    /// Applies what is committed, and times each command; returns whether more waits.
    pub(super) fn apply(&mut self) -> Result<bool, Ended> {
        if self.core.to_apply.is_empty() {
            return Ok(false);
        }
        let (clock, times) = (&self.shared.clock, &self.apply_times);
        let began_ns = clock.monotonic_ns();
        let failed = |fatal| Ended::Failed(format!("{fatal}"));
        let mut since_ns = began_ns;
        let mut watch = |kind, done| {
            let now_ns = clock.monotonic_ns();
            if let Some(op) = counted_as(kind) {
                times.observe(op, done, seconds(now_ns.saturating_sub(since_ns)));
            }
            since_ns = now_ns;
        };
        let more = self.core.apply(&mut watch).map_err(failed)?;
        if self.shared.clock.monotonic_ns() - began_ns > SLOW_APPLY_NS {
            self.metrics.replica.slow_apply.inc();
        }
        Ok(more)
    }

    /// What one turn has done, for the metrics.
    pub(super) fn count(&mut self, began_ns: u64) {
        let replica = &self.metrics.replica;
        let turn_ns = self.shared.clock.monotonic_ns().saturating_sub(began_ns);
        replica.turn_seconds.observe(seconds(turn_ns));
        replica
            .proposals_pending
            .set(as_gauge(self.core.proposals.len() as u64));
        let counts = std::mem::take(&mut self.core.counts);
        if counts.applied > 0 {
            replica.apply_batch.observe(counts.applied as f64);
        }
        if counts.proposed > 0 {
            replica.propose_batch.observe(counts.proposed as f64);
        }
        if counts.reads > 0 {
            replica.read_batch.observe(counts.reads as f64);
        }
        replica.proposals_failed.inc_by(counts.proposals_failed);
        replica.read_indexes_failed.inc_by(counts.reads_dropped);
        replica.slow_read_indexes.inc_by(counts.slow_reads);
        replica.learner_promote_successes.inc_by(counts.promoted);
        for why in counts.promotes_refused {
            let refused = &replica.learner_promote_failures;
            refused.with_label_values(&[why]).inc();
        }
        replica.campaigns.inc_by(counts.campaigns);
        replica.messages_sent.inc_by(counts.sent);
        replica.messages_received.inc_by(counts.received);
        replica.messages_dropped.inc_by(counts.dropped);
        let unsynced = self.core.store().log().tail_bytes();
        self.metrics
            .storage
            .history_unsynced_bytes
            .set(as_gauge(unsynced));
    }
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

/// What the time of a command is counted under, if it is one that somebody asked for.
const fn counted_as(kind: OpKind) -> Option<ApplyOp> {
    match kind {
        OpKind::Put => Some(ApplyOp::Put),
        OpKind::DeleteRange => Some(ApplyOp::DeleteRange),
        OpKind::Txn => Some(ApplyOp::Txn),
        OpKind::Compact => Some(ApplyOp::Compaction),
        OpKind::Member => Some(ApplyOp::Member),
        OpKind::Internal => None,
    }
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
