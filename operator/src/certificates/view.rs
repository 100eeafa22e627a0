//! What one pass saw of a cluster's certificates, and what people are told of it. Pure.
//!
//! Assumes that everything was read in this pass. Must not know: Secrets, keys, connections.

use std::collections::BTreeMap;

use super::names::Use;
use super::rotation::{Facts, MemberFacts, Phase, Step, next};
use crate::observed::Seen;

/// A certificate that expires within this is told to people, s; of a short life, a sixth of it.
const EXPIRES_SOON_S: i64 = 7 * 86_400;

/// The encryption of a cluster as a pass saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Encryption {
    /// The platform has none to give.
    NotOffered,
    /// By use; what the spec disables is missing.
    Offered(Seen<BTreeMap<Use, UseView>>),
}

/// The certificates of one use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UseView {
    /// Of those that the operator keeps: what decides the next step. Where peers bring their own,
    /// this is about the admin port alone.
    pub managed: Option<Facts>,
    /// Of those that somebody else keeps.
    pub brought: Option<Brought>,
    /// Members that answered and have a port in the clear that should be encrypted, by name.
    pub plaintext: Vec<String>,
    /// Members that answered.
    pub answered: usize,
}

/// Certificates that somebody else keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Brought {
    /// Where they are, for people: `Secret orders-tls`.
    pub source: String,
    /// Why they cannot be used.
    pub problem: Option<Problem>,
    /// The leaf, once it can be read.
    pub leaf: Option<BroughtLeaf>,
    /// Every member, as of this use.
    pub members: Vec<MemberFacts>,
}

/// A leaf that was brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BroughtLeaf {
    /// What members report when they use it.
    pub serial: String,
    /// Digest of the bundle beside it.
    pub bundle: String,
    /// Validity, s since 1970.
    pub not_before_s: i64,
    /// Validity, s since 1970.
    pub not_after_s: i64,
    /// When the first authority of the bundle expires, s since 1970.
    pub authority_not_after_s: i64,
}

/// Why certificates that somebody brought cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// Nothing is there yet.
    Absent(String),
    /// Members would not trust each other.
    NotShared(String),
    /// They expired, are made out for others, or make no sense.
    Unusable(String),
}

impl Problem {
    /// In a sentence.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Problem::Absent(text) | Problem::NotShared(text) | Problem::Unusable(text) => text,
        }
    }
}

/// When something of a use expires, s since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expiry {
    /// The leaf.
    pub leaf_s: Option<i64>,
    /// Its authority.
    pub authority_s: Option<i64>,
}

/// What `TLSReady` says: its status, its reason, and a sentence.
pub type Verdict = (&'static str, &'static str, String);

impl UseView {
    /// When what members are given expires.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        if let Some(brought) = &self.brought {
            return Expiry {
                leaf_s: brought.leaf.as_ref().map(|leaf| leaf.not_after_s),
                authority_s: brought.leaf.as_ref().map(|leaf| leaf.authority_not_after_s),
            };
        }
        let managed = self.managed.as_ref();
        let leaf = managed.and_then(|facts| facts.leaf.as_ref());
        let authority = managed.and_then(|facts| facts.current.as_ref());
        Expiry {
            leaf_s: leaf.map(|leaf| leaf.not_after_s),
            authority_s: authority.map(|authority| authority.not_after_s),
        }
    }

    /// Serial numbers that members use, in order, without repetition.
    #[must_use]
    pub fn serials(&self) -> Vec<String> {
        let reports = self
            .members()
            .iter()
            .filter_map(|member| member.report.as_ref());
        let mut serials: Vec<String> = reports.map(|(serial, _)| serial.clone()).collect();
        serials.retain(|serial| !serial.is_empty());
        serials.sort();
        serials.dedup();
        serials
    }

    fn members(&self) -> &[MemberFacts] {
        match (&self.brought, &self.managed) {
            (Some(brought), _) => &brought.members,
            (None, Some(managed)) => &managed.members,
            (None, None) => &[],
        }
    }

    /// What is to be said of this use; `None` when all is well.
    #[must_use]
    pub fn verdict(&self, of: Use, now_s: i64) -> Option<Verdict> {
        let label = of.label();
        if let Some(member) = self.plaintext.first() {
            let text = format!(
                "{member} serves its {label} port in the clear, although spec.tls.{label} asks for \
                 encryption. Delete its pod to have it begin anew."
            );
            return Some(("False", "NotInForce", text));
        }
        let brought = self
            .brought
            .as_ref()
            .and_then(|brought| brought.verdict(of));
        brought
            .or_else(|| self.expiring(of, now_s))
            .or_else(|| self.managed.as_ref().and_then(|facts| rotation(of, facts)))
    }

    fn expiring(&self, of: Use, now_s: i64) -> Option<Verdict> {
        let label = of.label();
        let brought = self
            .brought
            .as_ref()
            .and_then(|brought| brought.leaf.as_ref());
        let managed = self.managed.as_ref().and_then(|facts| facts.leaf.as_ref());
        let (from_s, until_s) = match (brought, managed) {
            (Some(leaf), _) => (leaf.not_before_s, leaf.not_after_s),
            (None, Some(leaf)) => (leaf.not_before_s, leaf.not_after_s),
            (None, None) => return None,
        };
        let soon_s = EXPIRES_SOON_S.min((until_s - from_s) / 6);
        let until = quorate_api::tls::certificate::utc(until_s);
        let remedy = match &self.brought {
            Some(brought) => format!(
                "Put a new one into {}; no restart is needed.",
                brought.source
            ),
            None => {
                "It is renewed once the operator can write Secrets and is not paused.".to_owned()
            }
        };
        if now_s >= until_s {
            let text = format!("The {label} certificate expired at {until}. {remedy}");
            return Some(("False", "Expiring", text));
        }
        if now_s + soon_s >= until_s {
            let text = format!("The {label} certificate expires at {until}. {remedy}");
            return Some(("False", "Expiring", text));
        }
        None
    }
}

impl Brought {
    fn verdict(&self, of: Use) -> Option<Verdict> {
        if let Some(problem) = &self.problem {
            let reason = match problem {
                Problem::Absent(_) => "WaitingForIssuer",
                Problem::NotShared(_) => "PeerCANotShared",
                Problem::Unusable(_) => "NotInForce",
            };
            return Some(("False", reason, problem.text().to_owned()));
        }
        let leaf = self.leaf.as_ref()?;
        let behind = self.members.iter().find(|member| {
            let report = member.report.as_ref();
            report.is_some_and(|(serial, bundle)| *serial != leaf.serial || *bundle != leaf.bundle)
        })?;
        let text = format!(
            "{} has not taken the {} files of {} yet, which takes a minute or two.",
            behind.name,
            of.label(),
            self.source
        );
        Some(("True", "WaitingForMember", text))
    }
}

/// What is under way with certificates that the operator keeps.
fn rotation(of: Use, facts: &Facts) -> Option<Verdict> {
    let (label, phase) = (of.label(), facts.phase);
    match next(facts) {
        Step::Rest { .. } => None,
        Step::Wait { members, what } => {
            let silent = |name: &String| {
                let mut all = facts.members.iter();
                all.any(|member| member.name == *name && member.report.is_none())
            };
            // In ordinary times a member that is down holds up nothing.
            if phase == Phase::Stable && members.iter().all(silent) {
                return None;
            }
            let (reason, whom) = match what {
                "time" => (
                    "WaitingForClients",
                    "for applications to take the new files".to_owned(),
                ),
                what => (
                    "WaitingForMember",
                    format!("until {} has taken the new {what}", members.join(", ")),
                ),
            };
            let text = match phase {
                Phase::Stable => format!("The {label} certificates: waiting {whom}."),
                phase => format!(
                    "The {label} authority is being replaced, phase {}: waiting {whom}.",
                    phase.label()
                ),
            };
            Some(("True", reason, text))
        }
        _ if facts.leaf.is_none() => {
            let text = format!("The {label} certificates are being issued.");
            Some(("False", "WaitingForIssuer", text))
        }
        step => {
            let text = format!(
                "The {label} certificates are being replaced: {}.",
                step.name()
            );
            Some(("True", "WaitingForMember", text))
        }
    }
}
