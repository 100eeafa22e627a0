//! The conductor: observe (validate is part of it) → plan → apply → publish, once.
//!
//! Assumes a platform that reads live. Must not know: which platform it is.

use crate::crd::{KvCluster, KvClusterStatus};
use crate::desired::Desired;
use crate::observed::Observed;
use crate::plan::{Plan, Requeue, Step, plan};
use crate::planted::Bug;
use crate::status::{self, Inputs};
use crate::validate::{Invalid, to_delete};

/// What turns observation and steps into reads and effects. None of it branches on the spec.
#[expect(
    async_fn_in_trait,
    reason = "both platforms are ours and drive it from one task"
)]
pub trait Platform {
    /// Why a read, an effect or a write failed.
    type Error: std::error::Error;

    /// Reads everything, live, and has the spec validated against the record of the same read.
    /// `None`: the object does not exist (any more).
    async fn observe(&mut self) -> Result<Option<Observation>, Self::Error>;

    /// Applies one step. After an error the outcome may be unknown: the next pass reads the world
    /// again and assumes nothing.
    async fn apply(&mut self, observation: &Observation, step: &Step) -> Result<(), Self::Error>;

    /// Whether a step failed only because it came too early: a learner still catches up, another
    /// change is under way. That is progress and no failure; the step is planned again.
    fn is_patience(_error: &Self::Error) -> bool {
        false
    }

    /// Writes the status if it differs from what is stored, compare-and-set.
    async fn publish(&mut self, status: &KvClusterStatus) -> Result<(), Self::Error>;
}

/// What `observe` returns: what is asked for, and everything else for `plan`.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The resource with its spec and its stored status.
    pub resource: KvCluster,
    /// What it asks for, or all that is wrong with it: the verdict of the whole pass, for a
    /// platform renders nothing of a spec that the plan does not follow.
    pub asked: Result<Desired, Invalid>,
    /// The world.
    pub observed: Observed,
}

/// What a pass came to, for the caller's table and log.
#[derive(Debug)]
pub struct Pass<E> {
    /// What was decided; `None` when the spec was never valid.
    pub plan: Option<Plan>,
    /// The status as it was published.
    pub status: KvClusterStatus,
    /// Why the step failed, if it did.
    pub failure: Option<E>,
}

impl<E> Pass<E> {
    /// When to look again.
    pub fn requeue(&self) -> Requeue {
        let planned = self
            .plan
            .as_ref()
            .map_or(Requeue::Refused, |plan| plan.requeue);
        // What a member says of itself wakes nobody: while one is not ready, or has not taken its
        // new certificates, it is asked again soon.
        let unready = self.status.conditions.iter().any(|condition| {
            let (status, reason) = (condition.status.as_str(), condition.reason.as_str());
            match condition.type_.as_str() {
                "MembersReady" => status != "True",
                "TLSReady" => reason == "WaitingForMember",
                _ => false,
            }
        });
        let quiet = self.plan.as_ref().is_some_and(|plan| plan.notes.is_empty());
        if self.failure.is_some() || (planned == Requeue::Idle && quiet && unready) {
            Requeue::Soon
        } else {
            planned
        }
    }
}

/// One pass. `last_valid` is kept by the caller between passes: a cluster goes on with it while the
/// newest spec is not valid. `None`: the object is gone.
///
/// # Errors
/// What `observe` or `publish` failed with; a failed step is part of the pass.
pub async fn reconcile<P: Platform>(
    platform: &mut P,
    last_valid: &mut Option<Desired>,
) -> Result<Option<Pass<P::Error>>, P::Error> {
    let Some(observation) = platform.observe().await? else {
        return Ok(None);
    };
    let Observation {
        resource, observed, ..
    } = &observation;
    let invalid = settle(&observation, last_valid);
    let Some(desired) = last_valid.as_ref() else {
        let why = invalid.unwrap_or_default();
        let status = status::render_invalid(resource, observed, &why);
        platform.publish(&status).await?;
        return Ok(Some(Pass {
            plan: None,
            status,
            failure: None,
        }));
    };
    let plan = plan(desired, observed);
    let mut failure = None;
    let mut record = observed.record.clone();
    if let Some(step) = &plan.step {
        let written = observed.record.with(step);
        match platform.apply(&observation, step).await {
            Ok(()) => record = written.unwrap_or(record),
            // Whether the record was written is not known: publishing now could undo it.
            Err(error) if written.is_some() => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    let trouble = failure.as_ref().filter(|error| !P::is_patience(error));
    let failed = trouble.map(ToString::to_string);
    let (invalid, failed) = (invalid.as_deref(), failed.as_deref());
    let (record, plan_now) = (&record, &plan);
    let inputs = Inputs {
        resource,
        desired,
        observed,
        record,
        plan: plan_now,
        invalid,
        failure: failed,
    };
    let mut status = status::render(&inputs);
    if Bug::StatusOnSuccessOnly.lives() && observed.slots.known().is_none() {
        status.conditions = resource.status.clone().unwrap_or_default().conditions;
    }
    // Once the finalizer is off, the object may be gone and there is nothing to write to.
    if plan.step != Some(Step::DropFinalizer) {
        platform.publish(&status).await?;
    }
    Ok(Some(Pass {
        plan: Some(plan),
        status,
        failure,
    }))
}

/// Takes over what is asked for, or stays with what was in force; then it says why.
fn settle(observation: &Observation, last_valid: &mut Option<Desired>) -> Option<String> {
    let Observation {
        resource,
        asked,
        observed,
    } = observation;
    let unreadable = observed.object.unreadable.clone();
    match asked {
        Ok(_) if Bug::StoredSpec.lives() && last_valid.is_some() => unreadable,
        Ok(desired) => {
            *last_valid = Some(desired.clone());
            unreadable
        }
        // A spec that is wrong keeps nobody from getting rid of the cluster.
        Err(_) if observed.object.deleting && !Bug::InvalidIsForever.lives() => {
            *last_valid = last_valid.take().or_else(|| to_delete(resource));
            unreadable
        }
        Err(error) => Some(error.to_string()),
    }
}
