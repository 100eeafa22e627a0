//! Slots whose process has ended are started again, on their own volume only.
//!
//! Never waits for anything else, because an operation may wait for the voter that is dead. A slot
//! whose volume is missing, unstamped or somebody else's is not started: that is for `replace`.

use super::{Decision, Facts, Reason, Step, Verdict, note};
use crate::ids::Slot;
use crate::observed::{Death, LifeState, LifeView, Seen};
use crate::planted::Bug;

/// The pause before a slot that failed twice in a row is started again; doubles with each failure.
const PAUSE_MS: i64 = 1_000;
/// The longest pause, and the one after a refused data directory.
const PAUSE_MS_MAX: i64 = 30_000;

pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let Seen::Known(slots) = &facts.observed.slots else {
        return Decision::Pass;
    };
    let count = slots.count.unwrap_or(0);
    let mut waiting = None;
    for (slot, life) in slots.lives.range(..Slot(count)) {
        let LifeState::Dead(death) = &life.state else {
            continue;
        };
        if !runs_on_its_own(facts, *slot) {
            continue;
        }
        if facts.observed.now >= death.since.plus(pause_ms(death)) {
            return Decision::Act(Step::RestartSlot {
                slot: *slot,
                uid: life.uid.clone(),
            });
        }
        waiting.get_or_insert_with(|| ended(*slot, life, death));
    }
    waiting.unwrap_or(Decision::Pass)
}

fn ended(slot: Slot, life: &LifeView, death: &Death) -> Decision {
    let times = death.failures;
    Decision::Wait(note(
        Reason::CrashLooping,
        format!(
            "Slot {slot} ({}) ended with {}, {times} times in a row. Read its log; it is started again \
             after a pause.",
            life.label, death.exit
        ),
    ))
}

/// A first end is followed at once.
fn pause_ms(death: &Death) -> i64 {
    match death.failures {
        _ if death.data_refused => PAUSE_MS_MAX,
        0 | 1 => 0,
        failures => PAUSE_MS
            .saturating_mul(1 << (failures - 2).min(10))
            .min(PAUSE_MS_MAX),
    }
}

/// The slot's volume was made for this slot of this cluster, and its member is or is to be one.
///
/// A volume without a stamp is started on only for a newcomer: its node alone can tell whether it
/// is empty, and a node with data of others changes nothing by running.
fn runs_on_its_own(facts: &Facts, slot: Slot) -> bool {
    let Ok(Some(volume)) = facts.volume(slot) else {
        return false;
    };
    let newcomer = facts.operation().and_then(|operation| operation.newcomer());
    let Some(stamp) = &volume.stamp else {
        return !volume.deleting && newcomer.is_some_and(|newcomer| newcomer.slot == slot);
    };
    let ours = Some(stamp.cluster_uuid) == facts.cluster() && stamp.slot == slot;
    let arrives = newcomer.is_some_and(|newcomer| newcomer.member == stamp.member);
    let belongs = facts.membership.is_none() || facts.member(stamp.member).is_some() || arrives;
    ours && (belongs || Bug::RemovedComesBack.lives()) && !volume.deleting
}
