//! The condition `Degraded`: what may not happen now, and what is worth knowing of the spec.
//!
//! The first that applies is said, the worst first: a spec that is refused, a change that is
//! blocked, members that are not ours, members that are down, settings that a member cannot use, a
//! size that tolerates little.
//! Must not know: the other conditions.

use super::conditions::{Finding, finding, noted, quorum_words};
use super::{Inputs, evidence};
use crate::plan::{Facts, Reason};

/// `True` while fewer failures are tolerated than were asked for, or a refusal stands.
pub(super) fn degraded(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "Degraded";
    if let Some(invalid) = inputs.invalid {
        let message = format!("{invalid}\nThe cluster goes on with the last valid spec.");
        return finding(type_, "True", "InvalidSpec", message);
    }
    let blocked = [
        Reason::WouldLoseQuorum,
        Reason::LearnerStuck,
        Reason::MemberLost,
        Reason::RecoveryRefused,
    ];
    if let Some(note) = noted(inputs, &blocked) {
        return finding(type_, "True", note.reason.name(), note.message.clone());
    }
    let foreign = facts.membership.and_then(|membership| {
        membership
            .members
            .iter()
            .find(|(_, member)| member.slot.is_none())
    });
    if let Some((id, _)) = foreign {
        let message = format!(
            "Member {id} has an address that is none of this cluster's slots; somebody else added it. \
             Remove it with `quorate member remove {id}`."
        );
        return finding(type_, "True", "ForeignChange", message);
    }
    if let Some(lost) = evidence::lost_quorum(facts, inputs) {
        return finding(type_, "True", "MemberDown", lost);
    }
    if facts.membership.is_none() {
        return finding(type_, "Unknown", "Unreachable", facts.unread());
    }
    let (alive, voters) = (facts.healthy.len(), facts.voters.len());
    if alive < voters {
        return finding(type_, "True", "MemberDown", quorum_words(facts));
    }
    if let Some(note) = noted(inputs, &[Reason::SettingsRefused]) {
        return finding(type_, "True", note.reason.name(), note.message.clone());
    }
    let (status, reason, words) = tolerance(voters, inputs.desired.replicas);
    // What is wrong comes before what is merely worth knowing; here nothing is.
    let message = words + &advice(&inputs.desired.warnings);
    finding(type_, status, reason, message)
}

/// What so many voters are good for, all of them healthy: status, reason, a sentence.
fn tolerance(voters: usize, wanted: u32) -> (&'static str, &'static str, String) {
    if voters < usize::try_from(wanted).unwrap_or(usize::MAX) {
        let words = format!("{voters} voters of {wanted} wanted.");
        return ("True", "ReducedTolerance", words);
    }
    if voters == 1 {
        let words = "The only voter is healthy. It tolerates no failure, as asked for.";
        return ("False", "FullTolerance", words.to_owned());
    }
    if voters == 2 {
        let words = "Two voters tolerate no failure. Use 1 or 3 members.";
        return ("True", "NoRedundancy", words.to_owned());
    }
    if voters.is_multiple_of(2) {
        let less = voters - 1;
        let words = format!("{voters} voters tolerate no more failures than {less}.");
        return ("True", "ReducedTolerance", words);
    }
    let words = format!("All {voters} voters are healthy.");
    ("False", "FullTolerance", words)
}

/// Warnings that a message has room for; settings alone can raise dozens.
const WARNINGS_SHOWN_MAX: usize = 6;
/// How much of a warning is shown, in characters: users' words may be in it.
const WARNING_SHOWN_MAX: usize = 200;

/// What validation warns of in the spec that is in force, in the order in which it was found: only
/// `quorate operator check` would say it otherwise. It stands as long as the spec does: no event.
fn advice(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let shown = warnings.iter().take(WARNINGS_SHOWN_MAX).map(|warning| {
        let words = warning.trim_end_matches('.').chars();
        words.take(WARNING_SHOWN_MAX).collect::<String>()
    });
    let mut text = format!(" Worth knowing: {}", shown.collect::<Vec<_>>().join("; "));
    let more = warnings.len().saturating_sub(WARNINGS_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("; and {more} more: see `quorate operator check`"));
    }
    text + "."
}
