//! The planner: what was asked for and what was seen go in, at most one step comes out.
//!
//! The goal: if the spec stays as it is, the cluster eventually matches it and stays so.
//!
//! A pass walks an ordered ladder of rules and takes the first step that one of them yields. Every
//! pass starts from the world, finds the recorded operation and asks "already done?" row by row, so
//! the crash points of a protocol are the gaps between its rows and none needs code of its own.
//! One file per concern; `guard.rs` holds the gates that a change of the membership must pass.
//!
//! PURE. Assumes that `Observed` was read in this pass and that a membership came from a
//! linearizable read. Must not know: clients, clocks, randomness, files, pods, processes.

mod bootstrap;
mod certificates;
mod delete;
mod expand;
mod facts;
mod guard;
mod hibernate;
mod identity;
mod leftovers;
mod newcomer;
mod objects;
mod operation;
mod recover;
mod replace;
mod requests;
mod restart;
mod scale_down;
mod scale_up;
mod settings;
mod step;
mod update;
mod volumes;

pub use facts::{Facts, quorum};
pub use guard::Verdict;
pub use identity::{Conflict, conflict};
pub use recover::what_is_known;
pub use replace::{Evidence, evidence};
pub use step::{Latch, Outcome, Step};

use crate::desired::Desired;
use crate::observed::Observed;

/// What to do now, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The rule that decided, or else the first that had something to say, in the words of the
    /// planner's order.
    pub rule: &'static str,
    /// The one effect of this pass; `None` when there is nothing to do or something to wait for.
    pub step: Option<Step>,
    /// What is awaited or refused, most important first.
    pub notes: Vec<Note>,
    /// The guards that were asked, in order, with their answers.
    pub verdicts: Vec<Verdict>,
    /// When to look again.
    pub requeue: Requeue,
}

/// Something that is awaited or refused, for people and for conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The reason, as it appears in conditions.
    pub reason: Reason,
    /// A sentence: what, to which, and what to do.
    pub message: String,
}

/// Makes a note.
fn note(reason: Reason, message: impl Into<String>) -> Note {
    Note {
        reason,
        message: message.into(),
    }
}

/// Without a membership that can be trusted, nothing is decided.
fn unread(facts: &Facts) -> Note {
    note(Reason::Unreachable, facts.unread())
}

/// The reasons of notes. Their names are the reasons of conditions and labels of metrics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// The first member is on its way.
    Bootstrapping,
    /// A member is on its way in.
    ScalingUp,
    /// A member is on its way out.
    ScalingDown,
    /// A lost member is being replaced.
    Repairing,
    /// A slot that has ended will be started again.
    Restarting,
    /// Members begin anew with the newest template.
    Updating,
    /// A member that began anew does not serve; no other is stopped.
    UpdateStalled,
    /// The cluster is going to sleep or waking.
    Hibernating,
    /// Every slot is stopped, as asked for.
    Hibernated,
    /// The object is being deleted.
    Deleting,
    /// Nothing is done, as asked for.
    Paused,
    /// What a decision needs could not be read.
    Unreachable,
    /// Too few voters for any change.
    QuorumLost,
    /// The change asked for would leave too few voters.
    WouldLoseQuorum,
    /// A new member was given up; the next try comes later.
    LearnerStuck,
    /// A member or a volume is of another cluster.
    ClusterIdMismatch,
    /// A volume is not the one that belongs here.
    StaleVolume,
    /// It cannot be known whether the first member acknowledged writes.
    BootstrapLost,
    /// Volumes of this cluster exist and its records do not.
    AdoptionRequired,
    /// A member is lost and the policy is to report it.
    MemberLost,
    /// A process ends again and again.
    CrashLooping,
    /// Volumes grow.
    Resizing,
    /// The platform could not make a volume grow.
    ResizeFailed,
    /// Volumes are to grow, and their class does not let them.
    NotExpandable,
    /// Volumes are to grow, and whether their class lets them could not be read.
    ExpansionUnknown,
    /// The spec asks for less than the volumes have.
    ShrinkRefused,
    /// Certificates that somebody is to bring are not there or cannot be used.
    CertificatesMissing,
    /// Members have not taken the newest settings yet.
    SettingsPending,
    /// A member cannot use the newest settings.
    SettingsRefused,
    /// A lost quorum is being recovered.
    Recovering,
    /// A recovery was asked for that cannot be.
    RecoveryRefused,
}

impl Reason {
    /// The reason's name, as conditions show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Bootstrapping => "Bootstrapping",
            Reason::ScalingUp => "ScalingUp",
            Reason::ScalingDown => "ScalingDown",
            Reason::Repairing => "Repairing",
            Reason::Restarting => "Restarting",
            Reason::Updating => "Updating",
            Reason::UpdateStalled => "UpdateStalled",
            Reason::Hibernating => "Hibernating",
            Reason::Hibernated => "Hibernated",
            Reason::Deleting => "Deleting",
            Reason::Paused => "PausedBySpec",
            Reason::Unreachable => "Unreachable",
            Reason::QuorumLost => "QuorumLost",
            Reason::WouldLoseQuorum => "WouldLoseQuorum",
            Reason::LearnerStuck => "LearnerStuck",
            Reason::ClusterIdMismatch => "Mismatch",
            Reason::StaleVolume => "StaleVolume",
            Reason::BootstrapLost => "BootstrapLost",
            Reason::AdoptionRequired => "AdoptionRequired",
            Reason::MemberLost => "MemberLost",
            Reason::CrashLooping => "CrashLooping",
            Reason::Resizing => "Resizing",
            Reason::ResizeFailed => "ResizeFailed",
            Reason::NotExpandable => "NotExpandable",
            Reason::ExpansionUnknown => "ExpansionUnknown",
            Reason::ShrinkRefused => "ShrinkRefused",
            Reason::CertificatesMissing => "CertificatesMissing",
            Reason::SettingsPending => "SettingsPending",
            Reason::SettingsRefused => "SettingsRefused",
            Reason::Recovering => "Recovering",
            Reason::RecoveryRefused => "RecoveryRefused",
        }
    }

    /// A refusal stands until somebody or something changes; otherwise it is a matter of time.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Reason::QuorumLost
                | Reason::WouldLoseQuorum
                | Reason::LearnerStuck
                | Reason::ClusterIdMismatch
                | Reason::StaleVolume
                | Reason::BootstrapLost
                | Reason::AdoptionRequired
                | Reason::MemberLost
                | Reason::CrashLooping
                | Reason::CertificatesMissing
                | Reason::UpdateStalled
                | Reason::ResizeFailed
                | Reason::NotExpandable
                | Reason::ExpansionUnknown
                | Reason::ShrinkRefused
                | Reason::SettingsRefused
                | Reason::RecoveryRefused
        )
    }
}

/// When to look again. A platform maps each to a time of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Requeue {
    /// A step was taken: at once.
    Now,
    /// Something is awaited (Kubernetes 2-5 s, local 100 ms).
    Soon,
    /// A refusal stands (Kubernetes 15 s, local 1 s).
    Refused,
    /// Nothing to do (Kubernetes 60 s, local 1 s).
    Idle,
}

/// What one rule says.
enum Decision {
    /// This rule has nothing to say.
    Pass,
    /// Take this step.
    Act(Step),
    /// Something is worth saying, and keeps no other rule from acting.
    Mention(Note),
    /// Something is awaited or refused: only rules that never wait for this one may still act.
    Wait(Note),
    /// No rule below may act.
    Halt(Note),
    /// No rule below may act, except that slots whose volume is their own are kept running.
    Conflict(Note),
}

/// Below which outcomes of earlier rules a rule is still asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// Only when nothing is awaited.
    WhenIdle,
    /// Also while something is awaited.
    WhileWaiting,
    /// Also when identities conflict.
    DespiteConflict,
}

/// One rung of the ladder.
struct Rule {
    name: &'static str,
    asked: Asked,
    decide: fn(&Facts, &mut Vec<Verdict>) -> Decision,
}

const fn rule(
    name: &'static str,
    asked: Asked,
    decide: fn(&Facts, &mut Vec<Verdict>) -> Decision,
) -> Rule {
    Rule {
        name,
        asked,
        decide,
    }
}

/// The planner's order. The first rule that yields a step wins.
///
/// An operation comes before everything that could begin another. What keeps members alive
/// (`slots`, `restart`) never waits for an operation: an operation that waits for a dead voter
/// would otherwise wait for ever.
const RULES: &[Rule] = &[
    rule("deletion", Asked::WhenIdle, delete::decide),
    rule("identity", Asked::WhenIdle, identity::decide),
    rule("paused", Asked::WhenIdle, paused),
    rule("recover", Asked::WhenIdle, recover::decide),
    rule("operation", Asked::WhenIdle, operation::decide),
    rule("requests", Asked::WhenIdle, requests::decide),
    rule("certificates", Asked::WhileWaiting, certificates::decide),
    rule("objects", Asked::WhileWaiting, objects::decide),
    rule("bootstrap", Asked::WhenIdle, bootstrap::decide),
    rule("slots", Asked::WhileWaiting, objects::raise_slots),
    rule("leftovers", Asked::WhileWaiting, leftovers::decide),
    rule("outdated", Asked::WhileWaiting, update::broken),
    rule("restart", Asked::DespiteConflict, restart::decide),
    rule("replace", Asked::WhenIdle, replace::decide),
    rule("promote", Asked::WhenIdle, scale_up::promote),
    rule("hibernate", Asked::WhenIdle, hibernate::decide),
    rule("scale-down", Asked::WhenIdle, scale_down::decide),
    rule("scale-up", Asked::WhenIdle, scale_up::decide),
    rule(
        "scale-down",
        Asked::WhenIdle,
        scale_down::decide_out_of_range,
    ),
    rule("update", Asked::WhenIdle, update::decide),
    rule("volumes", Asked::WhenIdle, expand::decide),
    rule("settings", Asked::WhenIdle, settings::decide),
    rule("transfer-leader", Asked::WhenIdle, requests::lead),
];

/// Decides the next step.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let facts = Facts::new(desired, observed);
    let mut verdicts = Vec::new();
    let mut notes: Vec<Note> = Vec::new();
    let mut asking = Asked::WhenIdle;
    let mut decided = "idle";
    for rule in RULES {
        if rule.asked < asking {
            continue;
        }
        let decision = (rule.decide)(&facts, &mut verdicts);
        match decision {
            Decision::Pass => continue,
            Decision::Act(step) => {
                let requeue = Requeue::Now;
                return Plan {
                    rule: rule.name,
                    step: Some(step),
                    notes,
                    verdicts,
                    requeue,
                };
            }
            Decision::Mention(note) => notes.push(note),
            Decision::Wait(note) => {
                notes.push(note);
                asking = asking.max(Asked::WhileWaiting);
            }
            Decision::Conflict(note) => {
                notes.push(note);
                asking = Asked::DespiteConflict;
            }
            Decision::Halt(note) => {
                notes.push(note);
                let requeue = requeue(&notes);
                return Plan {
                    rule: rule.name,
                    step: None,
                    notes,
                    verdicts,
                    requeue,
                };
            }
        }
        if decided == "idle" {
            decided = rule.name;
        }
    }
    let requeue = requeue(&notes);
    Plan {
        rule: decided,
        step: None,
        notes,
        verdicts,
        requeue,
    }
}

fn requeue(notes: &[Note]) -> Requeue {
    let rests = |note: &Note| matches!(note.reason, Reason::Paused | Reason::Hibernated);
    if notes.iter().all(rests) {
        Requeue::Idle
    } else if notes.iter().all(|note| note.reason.is_refusal()) {
        Requeue::Refused
    } else {
        Requeue::Soon
    }
}

/// `spec.paused`: a recorded operation stays and is resumed from live facts afterwards.
fn paused(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    if !facts.desired.paused {
        return Decision::Pass;
    }
    Decision::Halt(note(
        Reason::Paused,
        "Nothing is done while spec.paused is true. Set it to false to go on.",
    ))
}
