//! Rule 14: volumes grow to the size in the spec, then the set is made anew (protocol 3.12).
//!
//! The size in a set's template cannot be changed, so the set is deleted with its pods left alone
//! and made again. Levels are compared, not events: a volume is due while it is smaller than the
//! spec, the set while it names another size. What cannot be done is said and holds nothing else
//! up: an operation that meets such a volume ends. Volumes never shrink; a wish that turned out to
//! be impossible may be lowered again, down to what the volume really has.

use super::guard::{STOP, pass};
use super::operation::end;
use super::{Decision, Facts, Note, Outcome, Reason, Step, Verdict, evidence, note};
use crate::ids::{Slot, UnixMs};
use crate::observed::{Growth, LifeState, LifeView, Seen, VolumeView};
use crate::planted::Bug;
use crate::quantity::show_bytes;
use crate::record::{ExpandVolumes, Operation, OperationKind};

/// How long the contents of a volume may take to grow while it is in use, before its user is
/// stopped for it. Most platforms manage without.
const GROWS_IN_USE_MS: i64 = 120_000;

/// A volume whose size can be spoken about, and both of its sizes.
struct Sized<'a> {
    slot: Slot,
    volume: &'a VolumeView,
    requested: u64,
    capacity: u64,
}

impl Sized<'_> {
    fn is_done(&self, wanted: u64) -> bool {
        self.requested >= wanted && self.capacity >= wanted
    }

    /// What the volume has, or was promised, whichever is less: below it, a wish is one to shrink.
    fn floor(&self) -> u64 {
        self.requested.min(self.capacity)
    }
}

/// Volumes of this cluster in slots of the set, the lowest first.
fn sized<'a>(facts: &Facts<'a>) -> Vec<Sized<'a>> {
    let (Seen::Known(volumes), Seen::Known(slots)) =
        (&facts.observed.volumes, &facts.observed.slots)
    else {
        return Vec::new();
    };
    let ours = |volume: &VolumeView| {
        let stamp = volume.stamp.as_ref();
        stamp.is_some_and(|stamp| Some(stamp.cluster_uuid) == facts.cluster()) && !volume.deleting
    };
    let found = volumes.range(..Slot(slots.count.unwrap_or(0)));
    let found = found.filter(|(_, volume)| ours(volume));
    found
        .filter_map(|(slot, volume)| {
            Some(Sized {
                slot: *slot,
                volume,
                requested: volume.requested_bytes?,
                capacity: volume.capacity_bytes?,
            })
        })
        .collect()
}

/// What stands in the way of the size wanted, if anything does.
fn obstacle(facts: &Facts, volumes: &[Sized]) -> Option<Note> {
    let wanted = facts.desired.storage_bytes;
    let size = show_bytes(wanted);
    let floor = volumes.iter().map(Sized::floor).min()?;
    if floor > wanted {
        let floor = show_bytes(floor);
        let message = format!(
            "spec.storage.size asks for {size} and every volume has {floor} or more. Volumes cannot \
             shrink: set it to {floor} or more. Nothing was changed."
        );
        return Some(note(Reason::ShrinkRefused, message));
    }
    volumes
        .iter()
        .filter(|volume| !volume.is_done(wanted))
        .find_map(|volume| stuck(facts, volume, wanted))
}

/// Why a volume that is not done will not be by waiting.
fn stuck(facts: &Facts, volume: &Sized, wanted: u64) -> Option<Note> {
    let (slot, size) = (volume.slot, show_bytes(wanted));
    let has = show_bytes(volume.capacity);
    match &volume.volume.growth {
        Growth::Refused(why) if volume.requested < wanted => Some(note(
            Reason::NotExpandable,
            format!(
                "The volume of slot {slot} is to grow from {has} to {size}, and {why}. Allow it in \
                 the class, or set spec.storage.size back to {has}."
            ),
        )),
        Growth::Unknown(why) if volume.requested < wanted => Some(note(
            Reason::ExpansionUnknown,
            format!(
                "Whether the volume of slot {slot} may grow to {size} could not be read: {why}. \
                 Nothing is changed until it can be."
            ),
        )),
        Growth::Failed(why) if volume.requested == wanted => Some(note(
            Reason::ResizeFailed,
            format!(
                "The volume of slot {slot} did not grow from {has} to {size}: {why}. Help it to, or \
                 set spec.storage.size to what can be had, {has} or more."
            ),
        )),
        Growth::Unmounted { since } if is_in_vain(facts, slot, *since) => Some(note(
            Reason::ResizeFailed,
            format!(
                "What is on the volume of slot {slot} did not grow to {size}, although its user began \
                 anew. The events of the claim say why; nobody is stopped for it again."
            ),
        )),
        _ => None,
    }
}

/// Whether what runs in the slot began after its volume had grown: it has mounted it then.
fn has_mounted(life: &LifeView, since: UnixMs) -> bool {
    life.began.is_some_and(|began| began > since)
}

/// It was mounted anew long enough ago, and what is on it is still as small.
fn is_in_vain(facts: &Facts, slot: Slot, since: UnixMs) -> bool {
    let mounted = facts.life(slot).filter(|life| has_mounted(life, since));
    let began = mounted.and_then(|life| life.began);
    began.is_some_and(|began| facts.observed.now >= began.plus(GROWS_IN_USE_MS))
}

/// The set names another size for the volumes it makes.
fn template_is_due(facts: &Facts) -> bool {
    let slots = facts.observed.slots.known();
    let named = slots.and_then(|slots| slots.volume_bytes);
    named.is_some_and(|bytes| bytes != facts.desired.storage_bytes)
}

/// Rule 14: begins.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let free = facts.observed.record.is_bootstrapped() && facts.operation().is_none();
    let count = facts.observed.slots.known().and_then(|slots| slots.count);
    let (true, Some(count), Some(_)) = (free, count, facts.membership) else {
        return Decision::Pass;
    };
    let volumes = sized(facts);
    if let Some(note) = obstacle(facts, &volumes) {
        return Decision::Mention(note);
    }
    let wanted = facts.desired.storage_bytes;
    let due = volumes.iter().any(|volume| !volume.is_done(wanted));
    if !due && !template_is_due(facts) {
        return Decision::Pass;
    }
    Decision::Act(Step::WriteIntent(Operation {
        id: facts.fresh_operation_id(),
        started_at: facts.observed.now,
        kind: OperationKind::ExpandVolumes(ExpandVolumes {
            bytes: wanted,
            slots: count,
        }),
    }))
}

fn waiting(message: String) -> Decision {
    Decision::Wait(note(Reason::Resizing, message))
}

/// Rule 4: goes on.
pub(super) fn go_on(
    facts: &Facts,
    operation: &Operation,
    expand: ExpandVolumes,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    let slots = match &facts.observed.slots {
        Seen::Known(slots) => slots,
        Seen::Unknown(why) => return waiting(format!("The slots could not be read: {why}.")),
    };
    // Before everything else, and without asking anybody: nobody starts a pod that ends meanwhile.
    let Some(count) = slots.count else {
        let count = if Bug::SlotsFromSpec.lives() {
            facts.desired.replicas
        } else {
            expand.slots.max(facts.bound().unwrap_or(0))
        };
        return Decision::Act(Step::SetSlots { count, was: None });
    };
    let volumes = sized(facts);
    // The intent holds no state of the membership: what a member needs goes first, what cannot be
    // done holds nobody up, and the growth begins again by itself.
    let lost = evidence(facts);
    let repairable = |lost: &super::Evidence| lost.replace && lost.slot.0 < facts.desired.replicas;
    if lost.iter().any(repairable) || obstacle(facts, &volumes).is_some() {
        return end(operation, Outcome::Aborted);
    }
    let now = ExpandVolumes {
        bytes: facts.desired.storage_bytes,
        slots: count,
    };
    if now != expand {
        return Decision::Act(Step::WriteIntent(Operation {
            kind: OperationKind::ExpandVolumes(now),
            ..operation.clone()
        }));
    }
    let due = volumes.iter().find(|volume| !volume.is_done(now.bytes));
    if let Some(volume) = due {
        return grow(facts, volume, now.bytes, verdicts);
    }
    if template_is_due(facts) {
        return Decision::Act(Step::OrphanSlots);
    }
    let lives = slots.lives.range(..Slot(count));
    let mut orphans = lives.filter(|(_, life)| life.orphan);
    if let Some((_, life)) = orphans.next() {
        return waiting(format!(
            "{} is to be taken over by the new set.",
            life.label
        ));
    }
    end(operation, Outcome::Done)
}

/// The next step of one volume, or what it waits for.
fn grow(facts: &Facts, volume: &Sized, wanted: u64, verdicts: &mut Vec<Verdict>) -> Decision {
    let slot = volume.slot;
    if volume.requested != wanted {
        return Decision::Act(Step::ResizeVolume {
            slot,
            uid: volume.volume.uid.clone(),
            bytes: wanted,
        });
    }
    let size = show_bytes(wanted);
    match volume.volume.growth {
        Growth::Unmounted { since } => remount(facts, slot, since, verdicts),
        _ => waiting(format!("The volume of slot {slot} is growing to {size}.")),
    }
}

/// The volume has grown and what is on it has not: if that does not happen in use, its user begins
/// anew, behind the gate.
fn remount(facts: &Facts, slot: Slot, since: UnixMs, verdicts: &mut Vec<Verdict>) -> Decision {
    let hint = format!("What is on the volume of slot {slot} grows when it is next mounted.");
    let late = facts.observed.now >= since.plus(GROWS_IN_USE_MS);
    let life = facts
        .life(slot)
        .filter(|life| life.state == LifeState::Running);
    // Stopping one that has mounted it already would not help, and it might never come up.
    let older = life.filter(|life| !has_mounted(life, since));
    let (true, Some(life)) = (late, older) else {
        return waiting(hint);
    };
    let member = facts.member_in(slot).filter(|id| facts.voters.contains(id));
    if let Some(id) = member
        && let Err(refusal) = pass(STOP, facts, id, verdicts)
        && !Bug::RemountWithoutGate.lives()
    {
        return Decision::Wait(note(refusal.reason, format!("{hint} {}", refusal.message)));
    }
    // With one or two voters the node can only say no: the spec accepts the pause in service.
    let asking = member.filter(|_| facts.voters.len() > 2);
    Decision::Act(Step::StopSlot {
        slot,
        uid: life.uid.clone(),
        asking,
    })
}
