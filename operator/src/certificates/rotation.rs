//! When certificates change, and in which order: facts in, the next step out.
//!
//! | Phase | Members trust | Leaves are signed by | Leaves it when |
//! |---|---|---|---|
//! | `Stable` | the old authority | the old one | it is at two thirds of its life, or on request |
//! | `TrustBoth` | old and new | the old one | every member reports both |
//! | `NewLeaves` | old and new | the new one | every member reports the new leaf |
//! | `TrustNew` | the new authority | the new one | every member reports the new one alone |
//!
//! The invariant behind the order: at any time every leaf in use verifies against every bundle in
//! use, also while some members have seen a change and others have not. So nobody shows a new
//! signature before all know the new authority, and nobody forgets the old authority while somebody
//! still shows its signature. A member that is down holds the phase: it starts with the files of
//! the present one.
//!
//! Once the old authority has expired nobody can be asked and nothing is left to protect: then
//! `TrustBoth` does not wait, so that a cluster in which everything has expired comes back.
//!
//! Whoever cannot be asked, as applications cannot, is given time instead: `Facts::held_until_s`.
//!
//! A crash anywhere is harmless: the phase, the digests and the serials say what is done.
//! Must not know: keys, Secrets, the clock.

use crate::planted::Bug;

/// How far a change of the authority has come; kept as an annotation beside the authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// One authority.
    #[default]
    Stable,
    /// A second one exists, and all are told to trust both.
    TrustBoth,
    /// Leaves of the second one are handed out.
    NewLeaves,
    /// All are told to trust the second one alone.
    TrustNew,
}

impl Phase {
    /// As the annotation has it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stable => "Stable",
            Self::TrustBoth => "TrustBoth",
            Self::NewLeaves => "NewLeaves",
            Self::TrustNew => "TrustNew",
        }
    }

    /// The phase of an annotation; `None` for a text that names none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Stable,
            Self::TrustBoth,
            Self::NewLeaves,
            Self::TrustNew,
        ]
        .into_iter()
        .find(|phase| phase.label() == text)
    }
}

/// Which authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The one there was.
    Current,
    /// The one that replaces it.
    Next,
}

/// Whom members are told to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authority there was.
    Current,
    /// Both.
    Both,
    /// The one that replaces it.
    Next,
}

/// What an annotation on the object asks for, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new leaf from the same authority.
    Leaf,
    /// A new authority.
    Authority,
}

/// An authority, as its Secret has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// Its subject: the issuer of its leaves.
    pub subject: String,
    /// Validity, s since 1970.
    pub not_before_s: i64,
    /// Validity, s since 1970.
    pub not_after_s: i64,
}

/// The leaf that members are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// What members report when they use it.
    pub serial: String,
    /// The subject of its authority.
    pub issuer: String,
    /// Validity, s since 1970.
    pub not_before_s: i64,
    /// Validity, s since 1970.
    pub not_after_s: i64,
    /// Whether it names everything it should.
    pub names_fit: bool,
}

/// A member that should have the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFacts {
    /// For messages.
    pub name: String,
    /// Serial and bundle digest that it reports; `None` while it cannot be asked.
    pub report: Option<(String, String)>,
}

/// Everything that decides, of one use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The present, s since 1970.
    pub now_s: i64,
    /// How far a change of the authority has come.
    pub phase: Phase,
    /// The authority; `None`: none was made yet.
    pub current: Option<AuthorityFacts>,
    /// The one that replaces it; `None` in phase `Stable`.
    pub next: Option<AuthorityFacts>,
    /// Digests of the three bundles: current alone, both, next alone. Empty where there is none.
    pub hashes: [String; 3],
    /// The leaf in the Secret of the members.
    pub leaf: Option<LeafFacts>,
    /// Digest of the bundle in that Secret; empty without one.
    pub bundle: String,
    /// Every member of the cluster.
    pub members: Vec<MemberFacts>,
    /// A phase of a change of the authority is not left before, s since 1970: for those who take
    /// the files and report to nobody.
    pub held_until_s: i64,
    /// What is asked for by hand.
    pub request: Option<Request>,
}

/// What to do next. Every step is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the first authority, in phase `Stable`.
    CreateAuthority,
    /// Make the next authority beside the one there is.
    CreateNext,
    /// Write this bundle to the Secret of the members.
    WriteBundle(Trust),
    /// Issue a leaf and write it to the Secret of the members, key and certificate at once.
    IssueLeaf(Signer),
    /// Write the phase.
    Enter(Phase),
    /// Make the next authority the current one, forget the other, and write phase `Stable`: one
    /// write.
    Finish,
    /// Members have not taken the files yet, or others are given time (then nobody is named);
    /// nothing to do but look again.
    Wait {
        /// Who, by name.
        members: Vec<String>,
        /// What for: `leaf`, `bundle` or `time`.
        what: &'static str,
    },
    /// Nothing until then, s since 1970.
    Rest {
        /// When the next change is due.
        until_s: i64,
    },
}

impl Step {
    /// The step's name, for logs and events: bounded values.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateAuthority => "create-authority",
            Self::CreateNext => "create-next",
            Self::WriteBundle(_) => "write-bundle",
            Self::IssueLeaf(_) => "issue-leaf",
            Self::Enter(_) => "enter-phase",
            Self::Finish => "finish",
            Self::Wait { .. } => "wait",
            Self::Rest { .. } => "rest",
        }
    }
}

/// When something with this validity is to be replaced: after two thirds of its life.
#[must_use]
pub const fn renew_at_s(not_before_s: i64, not_after_s: i64) -> i64 {
    not_before_s + (not_after_s - not_before_s) / 3 * 2
}

/// The next step.
#[must_use]
pub fn next(facts: &Facts) -> Step {
    let Some(current) = &facts.current else {
        return Step::CreateAuthority;
    };
    match (facts.phase, &facts.next) {
        (Phase::Stable, None) => stable(facts, current),
        // Made, and the phase not written: go on. Nobody trusts it yet.
        (Phase::Stable, Some(_)) => Step::Enter(Phase::TrustBoth),
        // A phase without its authority: somebody removed it. Leaves of the current one are in use,
        // or of one that is gone; starting afresh mends both.
        (Phase::TrustBoth | Phase::NewLeaves | Phase::TrustNew, None) => Step::Enter(Phase::Stable),
        (Phase::TrustBoth, Some(_)) => settle(
            facts,
            (Trust::Both, Signer::Current, current),
            if facts.now_s > current.not_after_s || Bug::LeafBeforeTrust.lives() {
                Awaited::Nothing
            } else {
                Awaited::Bundle
            },
            Step::Enter(Phase::NewLeaves),
        ),
        (Phase::NewLeaves, Some(next)) => settle(
            facts,
            (Trust::Both, Signer::Next, next),
            Awaited::Leaf,
            Step::Enter(Phase::TrustNew),
        ),
        (Phase::TrustNew, Some(next)) => settle(
            facts,
            (Trust::Next, Signer::Next, next),
            Awaited::Bundle,
            Step::Finish,
        ),
    }
}

fn stable(facts: &Facts, current: &AuthorityFacts) -> Step {
    let due_s = renew_at_s(current.not_before_s, current.not_after_s);
    let requested = facts.request == Some(Request::Authority);
    // The very first leaf is not held up by a request.
    if facts.leaf.is_some() && (facts.now_s >= due_s || requested) {
        return Step::CreateNext;
    }
    let leaf_due_s = facts.leaf.as_ref().map_or(due_s, |leaf| {
        renew_at_s(leaf.not_before_s, leaf.not_after_s)
    });
    settle(
        facts,
        (Trust::Current, Signer::Current, current),
        Awaited::Both,
        Step::Rest {
            until_s: leaf_due_s.min(due_s),
        },
    )
}

/// What every member must report before the phase is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Bundle,
    Leaf,
    Both,
}

/// Brings the Secret to what the phase wants, waits for the members, then goes on.
///
/// The bundle goes first: a leaf that is handed out must be one that everybody is told to trust.
fn settle(
    facts: &Facts,
    (trust, signer, authority): (Trust, Signer, &AuthorityFacts),
    awaited: Awaited,
    then: Step,
) -> Step {
    let [current, both, next] = &facts.hashes;
    let wanted = match trust {
        Trust::Current => current,
        Trust::Both => both,
        Trust::Next => next,
    };
    if facts.bundle != *wanted {
        return Step::WriteBundle(trust);
    }
    if awaited == Awaited::Nothing {
        return then;
    }
    let Some(leaf) = facts
        .leaf
        .as_ref()
        .filter(|leaf| !is_due(facts, leaf, authority))
    else {
        return Step::IssueLeaf(signer);
    };
    let behind = |fits: &dyn Fn(&(String, String)) -> bool| -> Vec<String> {
        let waiting = facts
            .members
            .iter()
            .filter(|member| !member.report.as_ref().is_some_and(fits));
        waiting.map(|member| member.name.clone()).collect()
    };
    if matches!(awaited, Awaited::Bundle | Awaited::Both) {
        let members = behind(&|(_, bundle)| bundle == wanted);
        if !members.is_empty() {
            let what = "bundle";
            return Step::Wait { members, what };
        }
    }
    if matches!(awaited, Awaited::Leaf | Awaited::Both) {
        let members = behind(&|(serial, _)| *serial == leaf.serial);
        if !members.is_empty() {
            let what = "leaf";
            return Step::Wait { members, what };
        }
    }
    let leaves_a_phase = matches!(facts.phase, Phase::TrustBoth | Phase::NewLeaves);
    if leaves_a_phase && facts.now_s < facts.held_until_s {
        let members = Vec::new();
        let what = "time";
        return Step::Wait { members, what };
    }
    then
}

/// Whether the leaf in the Secret must be replaced.
fn is_due(facts: &Facts, leaf: &LeafFacts, authority: &AuthorityFacts) -> bool {
    leaf.issuer != authority.subject
        || !leaf.names_fit
        || facts.now_s >= renew_at_s(leaf.not_before_s, leaf.not_after_s)
        || (facts.request == Some(Request::Leaf) && facts.phase == Phase::Stable)
}
