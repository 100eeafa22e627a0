//! The planner: what was asked for and what was seen go in, at most one step comes out.
//!
//! PURE. Assumes that `Observed` was read in this pass. Must not know: clients, clocks, randomness,
//! files, pods, processes.

mod step;

pub use step::{Latch, Outcome, Step};

use crate::desired::Desired;
use crate::observed::Observed;

/// What to do now, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The rule that decided, in the words of the planner's order.
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

/// The reasons of notes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// Something that will come by itself is awaited.
    Waiting,
}

/// The answer of one guard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The guard's name.
    pub guard: &'static str,
    /// Whether it lets the step pass.
    pub passed: bool,
    /// The figures behind the answer.
    pub why: String,
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

/// Decides the next step.
#[must_use]
pub fn plan(_desired: &Desired, _observed: &Observed) -> Plan {
    Plan { rule: "idle", step: None, notes: Vec::new(), verdicts: Vec::new(), requeue: Requeue::Idle }
}
