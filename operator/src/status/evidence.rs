//! What is known of each voter while no quorum answers: a lost quorum is a fact or an open
//! question.
//!
//! A voter counts as out only by positive evidence: its node says so itself, its volume is gone, or
//! the platform cannot keep its process running. Silence is no evidence (H8), and neither is a pod
//! that starts or stops. Assumes the voters as last published: nobody is left who could say
//! otherwise. Must not know: what anybody decides; nothing is ever done because of this.

use super::Inputs;
use crate::crd::ANNOTATION_RECOVER_QUORUM;
use crate::ids::{MemberId, Slot};
use crate::plan::{Facts, quorum, what_is_known};
use crate::record::OperationKind;

/// Most characters that are said of one voter.
const WORDS_MAX: usize = 220;

/// Why a quorum cannot be there, voter by voter; `None` when there is one, or when that is not
/// known.
pub(super) fn lost_quorum(facts: &Facts, inputs: &Inputs) -> Option<String> {
    let operation = inputs.record.operation.as_ref();
    let asleep = operation.is_some_and(|operation| {
        matches!(operation.kind, OperationKind::Hibernate(_)) && inputs.desired.hibernate
    });
    if facts.membership.is_some() || asleep || inputs.observed.object.deleting {
        return None;
    }
    let voters: Vec<(Slot, MemberId)> = inputs.record.last_voters().collect();
    let found: Vec<(bool, String)> = voters
        .iter()
        .map(|(slot, member)| what_is_known(facts, *slot, *member))
        .collect();
    let out = found.iter().filter(|(out, _)| *out).count();
    let (left, needed) = (voters.len() - out, quorum(voters.len()));
    if voters.is_empty() || left >= needed {
        return None;
    }
    // Short enough that what to do, at the end, is never cut off.
    let words: Vec<String> = found
        .into_iter()
        .map(|(_, words)| words.chars().take(WORDS_MAX).collect())
        .collect();
    Some(format!(
        "{left} of {} voters can take part and {needed} are needed. {}. Nothing is changed by \
         itself: bring the volumes or machines of the others back. If they are gone for good, let one \
         voter survive, and lose what it does not hold: {}",
        voters.len(),
        words.join("; "),
        remedy(inputs)
    ))
}

/// What to do when the others are gone for good, ready to be copied.
fn remedy(inputs: &Inputs) -> String {
    let epoch = inputs.record.epoch;
    let request = format!("{ANNOTATION_RECOVER_QUORUM}=from=auto,epoch={epoch}");
    let metadata = &inputs.resource.metadata;
    match (&metadata.namespace, &metadata.name) {
        (Some(namespace), Some(name)) => {
            format!("kubectl -n {namespace} annotate kvc {name} {request}")
        }
        _ => format!(
            "write into metadata.annotations of the manifest {ANNOTATION_RECOVER_QUORUM}: \"from=auto,epoch={epoch}\""
        ),
    }
}
