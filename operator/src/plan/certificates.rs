//! The certificates that the operator keeps (protocol 3.13), and those that somebody brings.
//!
//! What is to be done with the former decides `certificates::next`; here its effects take their
//! turn. Waiting for a member is no reason for anything else to wait: it may be the very member
//! that is to be replaced. Without the certificates that were asked for no cluster begins (H47).

use super::{Decision, Facts, Reason, Step, Verdict, note};
use crate::certificates::{self, Encryption, next};
use crate::observed::Seen;
use crate::planted::Bug;

/// One write to a Secret, if one is due.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    if facts.cluster().is_none() {
        return Decision::Pass;
    }
    let uses = match &facts.observed.encryption {
        Encryption::NotOffered => return Decision::Pass,
        Encryption::Offered(Seen::Known(uses)) => uses,
        Encryption::Offered(Seen::Unknown(why)) => {
            return Decision::Wait(note(
                Reason::Unreachable,
                format!("The cluster's certificates could not be read: {why}."),
            ));
        }
    };
    let begun = facts.observed.record.is_bootstrapped();
    if Bug::BeginWithoutCertificates.lives() && !begun {
        return Decision::Pass;
    }
    for (of, view) in uses {
        match view.managed.as_ref().map(next) {
            None | Some(certificates::Step::Wait { .. } | certificates::Step::Rest { .. }) => {}
            Some(step) => return Decision::Act(Step::Certify { of: *of, step }),
        }
    }
    let problem = uses
        .values()
        .find_map(|view| view.brought.as_ref()?.problem.as_ref());
    match problem {
        Some(problem) if !begun && !Bug::BroughtUnseen.lives() => {
            Decision::Wait(note(Reason::CertificatesMissing, problem.text().to_owned()))
        }
        Some(_) | None => Decision::Pass,
    }
}
