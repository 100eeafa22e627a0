//! Rules 8 and 13: members begin anew with the newest template, the leader last (protocol 3.7).
//!
//! Levels are compared, not events: a slot is due while it runs an older template. What does not
//! serve is begun anew at once and without a gate, because nothing can be lost by it and a bad
//! template is mended that way (H44). What serves is stopped one at a time, each only while a
//! quorum is there without it, and only once all that began anew serve again.

use super::guard::{STOP, pass};
use super::newcomer::label;
use super::operation::end;
use super::{Decision, Facts, Outcome, Reason, Step, Verdict, evidence, note, unread};
use crate::ids::{MemberId, Slot};
use crate::observed::{LifeState, LifeView, Role};
use crate::planted::Bug;
use crate::record::{Operation, OperationKind, Restart, TransferAttempt, Update};

/// How long one attempt to move leadership may take.
const TRANSFER_MS: i64 = 5_000;
/// After so many attempts in vain the leader is stopped like anybody else; it hands over by itself.
const TRANSFERS_MAX: u32 = 3;

/// Rule 8: outdated lives that do not serve, the dead first.
pub(super) fn broken(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let Some(slots) = facts.observed.slots.known() else {
        return Decision::Pass;
    };
    if facts.desired.manual_update || Bug::BrokenMustBeWell.lives() {
        return Decision::Pass;
    }
    let count = slots.count.unwrap_or(0);
    let lives = slots.lives.range(..Slot(count));
    let due = lives.filter(|(slot, life)| life.outdated && !serves(facts, **slot, life));
    let ranked = due.filter_map(|(slot, life)| Some((rank(&life.state)?, *slot, life)));
    match ranked.min_by_key(|(rank, slot, _)| (*rank, *slot)) {
        Some((_, slot, life)) => Decision::Act(Step::StopSlot {
            slot,
            uid: life.uid.clone(),
            asking: None,
        }),
        None => Decision::Pass,
    }
}

/// The dead, then the starting, then the unready. `None`: it is on its way out, or the platform
/// begins it anew without us.
fn rank(state: &LifeState) -> Option<u8> {
    match state {
        LifeState::CrashLooping { .. } | LifeState::Pending(_) => Some(0),
        LifeState::Starting => Some(1),
        LifeState::Running => Some(2),
        LifeState::Stopping | LifeState::Dead(_) => None,
    }
}

/// The platform finds it ready, or the leader finds it healthy: either is enough not to touch it,
/// because the leader has heard of nobody right after an election.
fn serves(facts: &Facts, slot: Slot, life: &LifeView) -> bool {
    let healthy = facts
        .member_in(slot)
        .is_some_and(|id| facts.healthy.contains(&id));
    life.ready || healthy
}

/// Both find it so, and have for as long as the spec asks.
fn is_settled(facts: &Facts, id: MemberId, life: &LifeView) -> bool {
    let since = life.ready_since.unwrap_or(facts.observed.now);
    let long_enough =
        life.ready_since.is_none() || facts.observed.now >= since.plus(facts.desired.min_ready_ms);
    facts.healthy.contains(&id) && life.ready && long_enough
}

/// The voters, by slot, with what runs there.
fn voters<'a>(facts: &'a Facts) -> Vec<(Slot, MemberId, Option<&'a LifeView>)> {
    let members = facts
        .membership
        .into_iter()
        .flat_map(|membership| &membership.members);
    let voters = members.filter(|(_, member)| member.role == Role::Voter);
    let mut found: Vec<_> = voters
        .filter_map(|(id, member)| Some((member.slot?, *id, facts.life(member.slot?))))
        .collect();
    found.sort_by_key(|(slot, _, _)| *slot);
    found
}

fn revision<'a>(facts: &Facts<'a>) -> Option<&'a String> {
    facts.observed.slots.known()?.revision.as_ref()
}

/// Rule 13: begins.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let free = facts.observed.record.is_bootstrapped() && facts.operation().is_none();
    let (true, Some(revision)) = (free && !facts.desired.manual_update, revision(facts)) else {
        return Decision::Pass;
    };
    let due = |life: Option<&LifeView>| life.is_some_and(|life| life.outdated);
    if !voters(facts).iter().any(|(_, _, life)| due(*life)) {
        return Decision::Pass;
    }
    Decision::Act(Step::WriteIntent(Operation {
        id: facts.fresh_operation_id(),
        started_at: facts.observed.now,
        kind: OperationKind::Update(Update {
            revision: revision.clone(),
            at: None,
            transfer: None,
            transfers: 0,
        }),
    }))
}

fn rewritten(operation: &Operation, update: Update) -> Decision {
    Decision::Act(Step::WriteIntent(Operation {
        kind: OperationKind::Update(update),
        ..operation.clone()
    }))
}

/// Rule 4: goes on.
pub(super) fn go_on(
    facts: &Facts,
    operation: &Operation,
    update: &Update,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    let Some(membership) = facts.membership else {
        return Decision::Wait(unread(facts));
    };
    // The intent holds no state of the membership: what a member needs goes first, and the update
    // begins again by itself.
    let repairable = evidence(facts)
        .iter()
        .any(|lost| lost.replace && lost.slot.0 < facts.desired.replicas);
    if facts.desired.manual_update || repairable {
        return end(operation, Outcome::Aborted);
    }
    let Some(revision) = revision(facts) else {
        let message = "The platform has not taken the new template in yet.";
        return Decision::Wait(note(Reason::Updating, message));
    };
    if *revision != update.revision {
        let revision = revision.clone();
        return rewritten(
            operation,
            Update {
                revision,
                at: None,
                transfer: None,
                transfers: 0,
            },
        );
    }
    let voters = voters(facts);
    let due = |life: &Option<&LifeView>| life.is_some_and(|life| life.outdated);
    for (slot, id, life) in &voters {
        // Without its label a pod counts neither for clients nor for the disruption budget.
        let begun = life.is_some_and(|life| !life.outdated && life.state == LifeState::Running);
        if begun && let Some(decision) = label(facts, *slot, Role::Voter) {
            return decision;
        }
        let leaving = life.is_some_and(|life| life.state == LifeState::Stopping);
        let settled = due(life) || life.is_some_and(|life| is_settled(facts, *id, life));
        if leaving || !settled {
            return Decision::Wait(waiting_for(facts, update, *slot, *life));
        }
    }
    let due = voters.iter().filter(|(_, _, life)| due(life));
    // Followers from the top, the leader last.
    let next = due.max_by_key(|(slot, id, _)| {
        let follows = membership.leader != Some(*id) || Bug::LeaderLikeAnybody.lives();
        (follows, *slot)
    });
    let Some((slot, id, Some(life))) = next else {
        return end(operation, Outcome::Done);
    };
    if membership.leader == Some(*id)
        && !Bug::LeaderLikeAnybody.lives()
        && let Some(decision) = transfer(facts, operation, update, *id)
    {
        return decision;
    }
    stop(facts, (operation, update), (*slot, *id, life), verdicts)
}

/// The gate, then the record of what is stopped, then the stop.
fn stop(
    facts: &Facts,
    (operation, update): (&Operation, &Update),
    (slot, id, life): (Slot, MemberId, &LifeView),
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    if let Err(note) = pass(STOP, facts, id, verdicts) {
        return Decision::Wait(note);
    }
    let recorded = update
        .at
        .as_ref()
        .is_some_and(|at| at.slot == slot && at.life == life.uid);
    if !recorded {
        let at = Some(Restart {
            slot,
            life: life.uid.clone(),
            deadline: facts.observed.now.plus(facts.desired.progress_deadline_ms),
        });
        return rewritten(
            operation,
            Update {
                at,
                ..update.clone()
            },
        );
    }
    // With one or two voters the node can only say no: the spec accepts the pause in service.
    let asks = facts.voters.len() > 2 && !Bug::StopWithoutAsking.lives();
    let asking = asks.then_some(id);
    Decision::Act(Step::StopSlot {
        slot,
        uid: life.uid.clone(),
        asking,
    })
}

/// Moves leadership to a member that is up to date; `None` when there is none, or it was tried
/// often enough. The attempt is written down before it is made.
fn transfer(
    facts: &Facts,
    operation: &Operation,
    update: &Update,
    leader: MemberId,
) -> Option<Decision> {
    let up_to_date = |id: &&MemberId| {
        let slot = facts.member(**id).and_then(|member| member.slot);
        let life = slot.and_then(|slot| facts.life(slot));
        **id != leader && life.is_some_and(|life| !life.outdated)
    };
    let to = *facts.healthy.iter().find(up_to_date)?;
    let term = facts.membership?.term;
    let now = facts.observed.now;
    let attempt = update.transfer.filter(|attempt| attempt.term == term);
    match attempt {
        Some(attempt) if now < attempt.at.plus(TRANSFER_MS) => {
            Some(Decision::Act(Step::TransferLeader { from: leader, to }))
        }
        _ if update.transfers >= TRANSFERS_MAX => None,
        _ => Some(rewritten(
            operation,
            Update {
                transfer: Some(TransferAttempt { term, at: now }),
                transfers: update.transfers + 1,
                ..update.clone()
            },
        )),
    }
}

/// Nothing else is stopped while one that began anew does not serve.
fn waiting_for(facts: &Facts, update: &Update, slot: Slot, life: Option<&LifeView>) -> super::Note {
    let what = life.map_or_else(|| format!("slot {slot}"), |life| life.label.clone());
    let trouble = life.and_then(|life| life.trouble.as_ref());
    let trouble = trouble.map_or_else(String::new, |trouble| format!(" ({trouble})"));
    let late = update
        .at
        .as_ref()
        .is_some_and(|at| facts.observed.now >= at.deadline);
    if late {
        let message = format!(
            "{what} began anew and does not serve{trouble}. No other member is stopped. Look at its \
             log and correct the spec; the update then goes on by itself."
        );
        return note(Reason::UpdateStalled, message);
    }
    note(
        Reason::Updating,
        format!("{what} is to serve again before the next is stopped{trouble}."),
    )
}
