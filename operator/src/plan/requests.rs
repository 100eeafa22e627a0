//! Requests for one thing each (protocol 3.8): carried out once, written down with what became of
//! them, then taken off the object. Repeating one word by word changes nothing, so that a
//! repository which is applied again and again repeats nothing.
//!
//! What is over is written down and taken off behind the operation in flight, which it never
//! disturbs. Replacements are carried out by the rule for lost members, aborts by the operation
//! itself. Leadership moves behind all other rules: a leader that refuses to hand over is asked
//! again and again, and nothing that keeps members alive may wait for it.

use super::{Decision, Facts, Step, Verdict};
use crate::desired::{Asks, Once, ReplaceRequest};
use crate::ids::{MemberId, Slot};
use crate::planted::Bug;

/// Requests that are over.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    for request in &facts.desired.once {
        if is_recorded(facts, request) {
            if facts.observed.object.requests_stay {
                continue;
            }
            return Decision::Act(Step::DropRequest {
                annotation: request.annotation,
                value: request.text.clone(),
            });
        }
        if let Some(result) = result(facts, request) {
            return Decision::Act(Step::NoteRequest {
                annotation: request.annotation,
                value: request.text.clone(),
                result,
                at: facts.observed.now,
            });
        }
    }
    Decision::Pass
}

/// Requests to move leadership that are not over.
pub(super) fn lead(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let open = |request: &&Once| !is_recorded(facts, request);
    let wanted = facts.desired.once.iter().filter(open).find_map(|request| {
        let Asks::Lead(slot) = request.asks else {
            return None;
        };
        let from = facts.membership?.leader?;
        let to = candidate(facts, slot).filter(|to| *to != from)?;
        Some(Step::TransferLeader { from, to })
    });
    wanted.map_or(Decision::Pass, Decision::Act)
}

/// The member in a slot, if it could lead.
fn candidate(facts: &Facts, slot: Slot) -> Option<MemberId> {
    let lives_there = |id: &&MemberId| facts.member(**id).is_some_and(|row| row.slot == Some(slot));
    facts.healthy.iter().find(lives_there).copied()
}

fn is_recorded(facts: &Facts, request: &Once) -> bool {
    let mut past = facts.observed.record.requests.iter();
    past.any(|past| past.request == request.annotation && past.token == request.text)
        && !Bug::RequestsRepeat.lives()
}

/// What became of a request, once it is over.
fn result(facts: &Facts, request: &Once) -> Option<String> {
    match request.asks {
        Asks::Abort => {
            let record = &facts.observed.record;
            let under_way = record.operation.as_ref().map(|operation| &operation.id);
            let recovering = record.recovery.as_ref().map(|recovery| &recovery.token);
            let is_open = [under_way, recovering].contains(&Some(&request.text));
            (!is_open).then(|| "It is not under way, or not any more.".to_owned())
        }
        Asks::Replace(ReplaceRequest { slot, member }) => {
            match facts.membership?.members.get(&member).map(|row| row.slot) {
                Some(Some(at)) if at == slot => None,
                Some(_) => Some(format!(
                    "Member {member} does not live in slot {slot}: nothing was done."
                )),
                None => Some(format!("Member {member} is no member any more.")),
            }
        }
        Asks::Lead(slot) => {
            let leader = facts.membership?.leader?;
            match candidate(facts, slot) {
                Some(to) if to == leader => Some(format!("Member {to} in slot {slot} leads.")),
                Some(_) => None,
                None => Some(format!(
                    "No healthy voter lives in slot {slot}: leadership stays with member {leader}."
                )),
            }
        }
    }
}
