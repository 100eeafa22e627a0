//! Requests for one thing each (protocol 3.8): carried out once, written down with what became of
//! them, then taken off the object. Repeating one word by word changes nothing, so that a
//! repository which is applied again and again repeats nothing.
//!
//! Stands behind the operation in flight, which it never disturbs. Replacements are carried out by
//! the rule for lost members, aborts by the operation itself: here they are over.

use super::{Decision, Facts, Step, Verdict};
use crate::desired::{Asks, Once, ReplaceRequest};
use crate::ids::{MemberId, Slot};
use crate::observed::MembershipView;
use crate::planted::Bug;

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
        if let Some(step) = next(facts, request) {
            return Decision::Act(step);
        }
    }
    Decision::Pass
}

fn is_recorded(facts: &Facts, request: &Once) -> bool {
    let past = &facts.observed.record.requests;
    let same = |past: &&crate::record::PastRequest| {
        past.request == request.annotation && past.token == request.text
    };
    past.iter().find(same).is_some() && !Bug::RequestsRepeat.lives()
}

/// The next step for a request: the thing itself, or the note that it is over.
fn next(facts: &Facts, request: &Once) -> Option<Step> {
    let over = |result: String| {
        Some(Step::NoteRequest {
            annotation: request.annotation,
            value: request.text.clone(),
            result,
            at: facts.observed.now,
        })
    };
    match request.asks {
        Asks::Abort => {
            let record = &facts.observed.record;
            let under_way = record.operation.as_ref().map(|operation| &operation.id);
            let recovering = record.recovery.as_ref().map(|recovery| &recovery.token);
            match [under_way, recovering].contains(&Some(&request.text)) {
                true => None,
                false => over("It is not under way, or not any more.".to_owned()),
            }
        }
        Asks::Replace(ReplaceRequest { slot, member }) => {
            let found = facts.membership?.members.get(&member);
            match found.map(|row| row.slot) {
                Some(Some(at)) if at == slot => None,
                Some(_) => over(format!(
                    "Member {member} does not live in slot {slot}: nothing was done."
                )),
                None => over(format!("Member {member} is no member any more.")),
            }
        }
        Asks::Lead(slot) => lead(facts.membership?, facts, slot, over),
    }
}

/// Leadership moves to the member in a slot, if it could lead.
fn lead(
    membership: &MembershipView,
    facts: &Facts,
    slot: Slot,
    over: impl Fn(String) -> Option<Step>,
) -> Option<Step> {
    let from = membership.leader?;
    let lives_there = |id: &&MemberId| facts.member(**id).is_some_and(|row| row.slot == Some(slot));
    match facts.healthy.iter().find(lives_there) {
        Some(to) if *to == from => over(format!("Member {to} in slot {slot} leads.")),
        Some(to) => Some(Step::TransferLeader { from, to: *to }),
        None => over(format!(
            "No healthy voter lives in slot {slot}: leadership stays with member {from}."
        )),
    }
}
