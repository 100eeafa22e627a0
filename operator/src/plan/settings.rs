//! Settings that members take while they run (protocol 3.8): their object is pushed like any other,
//! no pod ends for them, and what a member says of itself tells when it has taken them.

use super::{Decision, Facts, Note, Reason, Verdict, note};
use crate::observed::NodeView;
use crate::planted::Bug;

/// Says whose settings are not those of the spec yet. Nothing waits for it.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    if !facts.observed.record.is_bootstrapped() || Bug::SettingsUnconfirmed.lives() {
        return Decision::Pass;
    }
    let answers = facts.observed.nodes.iter();
    let mut late = answers.filter_map(|(slot, seen)| {
        let label = &facts.life(*slot)?.label;
        awaited(label, seen.known()?, &facts.desired.settings)
    });
    match late.next() {
        Some(first) => {
            Decision::Mention(late.find(|note| note.reason.is_refusal()).unwrap_or(first))
        }
        None => Decision::Pass,
    }
}

fn awaited(label: &str, node: &NodeView, wanted: &str) -> Option<Note> {
    let settings = &node.settings;
    if settings.digest.as_deref() == Some(wanted) {
        return None;
    }
    if let Some(problem) = &settings.problem {
        let text = format!(
            "{label} goes on with its former settings, because it cannot use the new ones: \
             {problem}. Correct the field of the spec that they come from."
        );
        return Some(note(Reason::SettingsRefused, text));
    }
    let text = match settings.digest {
        Some(_) => format!(
            "{label} has not taken the newest settings yet, which takes up to two minutes and no \
             restart."
        ),
        None => format!("{label} began without a settings file; it gets one when it begins anew."),
    };
    Some(note(Reason::SettingsPending, text))
}
