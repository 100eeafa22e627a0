//! Rule 4: the recorded operation goes on, or is undone.

use super::{
    Decision, Facts, Outcome, Step, Verdict, expand, hibernate, replace, scale_down, scale_up,
    update,
};
use crate::planted::Bug;
use crate::record::{Operation, OperationKind};

pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let Some(operation) = facts.operation() else {
        return Decision::Pass;
    };
    let decision = match &operation.kind {
        OperationKind::ScaleUp(up) => scale_up::go_on(facts, operation, up, verdicts),
        OperationKind::ScaleDown(down) => scale_down::go_on(facts, operation, down, verdicts),
        OperationKind::Replace(replace) => replace::go_on(facts, operation, replace, verdicts),
        OperationKind::Update(update) => update::go_on(facts, operation, update, verdicts),
        OperationKind::ExpandVolumes(growth) => expand::go_on(facts, operation, *growth, verdicts),
        OperationKind::Hibernate(hibernate) => hibernate::go_on(facts, operation, hibernate),
    };
    match decision {
        Decision::Wait(_) if Bug::TwoAtOnce.lives() => Decision::Pass,
        other => other,
    }
}

/// The operation is over, and nothing has to be waited for before the next.
pub(super) fn end(operation: &Operation, outcome: Outcome) -> Decision {
    Decision::Act(Step::ClearIntent {
        id: operation.id.clone(),
        outcome,
        backoff: None,
    })
}
