//! The loop around the passes: how often, until when, and what a watcher is told.
//!
//! Must not know: the planner's rules, the terminal.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::crd::KvClusterStatus;
use crate::desired::Desired;
use crate::plan::{Note, Plan, Reason, Requeue};
use crate::reconcile::{Pass, reconcile};

use super::{Error, Local};

/// Between passes while something is awaited: members elect and join within tens of milliseconds.
const SOON: Duration = Duration::from_millis(30);

/// Between passes when nothing is to be done.
const IDLE: Duration = Duration::from_secs(1);

/// After a pass that failed as a whole.
const FAILED: Duration = Duration::from_millis(500);

/// Between looks at the manifest and the processes.
const LOOK: Duration = Duration::from_millis(100);

/// Between looks while processes stop.
const STOPPING: Duration = Duration::from_millis(20);

/// When to leave off.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// Leave off once the cluster is as the manifest wants it.
    pub converged: bool,
    /// Leave off after this time.
    pub limit: Option<Duration>,
}

/// How a run ended. In every case the members have been stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The cluster was as the manifest wants it.
    Converged,
    /// It was asked to stop.
    Stopped,
    /// The time was over before the cluster was as the manifest wants it.
    TimedOut {
        /// What was awaited last.
        waiting_for: String,
    },
}

/// What one pass found and did.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The cluster's name.
    pub name: &'a str,
    /// Its state.
    pub status: &'a KvClusterStatus,
    /// What is being done or awaited now, and why; empty when there is nothing to do.
    pub doing: String,
    /// What went wrong in this pass.
    pub error: Option<String>,
    /// Why the manifest as it is now is not in force.
    pub manifest_error: Option<&'a str>,
    /// The cluster is as the manifest in force wants it.
    pub converged: bool,
}

/// Who is told about each pass.
pub trait Report {
    /// A pass is over.
    fn progress(&mut self, progress: &Progress<'_>);

    /// A pass could not be made; it is tried again.
    fn trouble(&mut self, why: &str);

    /// The members are being stopped.
    fn stopping(&mut self);
}

/// Runs the cluster until it is told to stop or `until` says so, then stops the members in order.
///
/// # Errors
/// Only what makes further passes pointless: the state cannot be written. Everything else is
/// reported and tried again.
pub async fn run(
    local: &mut Local,
    until: Until,
    report: &mut impl Report,
    stop: impl Future<Output = ()>,
) -> Result<Ended, Error> {
    tokio::pin!(stop);
    let ended = tokio::select! {
        ended = passes(local, until, report) => ended?,
        () = &mut stop => Ended::Stopped,
    };
    report.stopping();
    while !local.stop()? {
        sleep(STOPPING).await;
    }
    Ok(ended)
}

async fn passes(local: &mut Local, until: Until, report: &mut impl Report) -> Result<Ended, Error> {
    let deadline = until.limit.map(|limit| Instant::now() + limit);
    let mut last_valid: Option<Desired> = None;
    loop {
        let (pause, waiting_for) = match reconcile(local, &mut last_valid).await {
            Ok(Some(pass)) => {
                let progress = progress(local, &pass);
                report.progress(&progress);
                if until.converged && progress.converged {
                    return Ok(Ended::Converged);
                }
                let pause = match pass.requeue() {
                    Requeue::Now => Duration::ZERO,
                    Requeue::Soon => SOON,
                    Requeue::Refused | Requeue::Idle => IDLE,
                };
                (pause, progress.error.unwrap_or(progress.doing))
            }
            Ok(None) => (IDLE, "the cluster's object is gone".to_owned()),
            Err(error) => {
                report.trouble(&error.to_string());
                (FAILED, error.to_string())
            }
        };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Ended::TimedOut { waiting_for });
        }
        rest(local, pause).await?;
    }
}

/// Waits for the next pass, or until something stirs.
async fn rest(local: &mut Local, pause: Duration) -> Result<(), Error> {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || local.stirred()? {
            return Ok(());
        }
        sleep(left.min(LOOK)).await;
    }
}

fn progress<'a>(local: &'a Local, pass: &'a Pass<Error>) -> Progress<'a> {
    let doing = match pass.plan.as_ref().map(|plan| (&plan.step, foremost(plan))) {
        None => "the spec has never been valid".to_owned(),
        Some((Some(step), Some(note))) => format!("{}: {}", step.name(), note.message),
        Some((Some(step), None)) => step.name().to_owned(),
        Some((None, Some(note))) => note.message.clone(),
        Some((None, None)) => String::new(),
    };
    let (doing, error) = told(doing, pass.failure.as_ref());
    Progress {
        name: local.name(),
        status: &pass.status,
        doing,
        error,
        manifest_error: local.unreadable(),
        converged: converged(pass) && local.unreadable().is_none(),
    }
}

/// What is being done, and what went wrong. A step that came too early is no problem: it is what is
/// being waited for.
fn told(doing: String, failure: Option<&Error>) -> (String, Option<String>) {
    match failure {
        Some(Error::NotYet(why)) => (format!("{doing} ({why})"), None),
        failure => (doing, failure.map(ToString::to_string)),
    }
}

/// The note to show: why a process keeps ending says more than that another step waits for it.
fn foremost(plan: &Plan) -> Option<&Note> {
    let ending = |note: &&Note| note.reason == Reason::CrashLooping;
    plan.notes.iter().find(ending).or(plan.notes.first())
}

/// Whether nothing is left to do: the plan is empty, and members and size are as they should be. A
/// cluster that is paused or asleep as asked is where it should be as well.
fn converged(pass: &Pass<Error>) -> bool {
    let Some(plan) = pass.plan.as_ref().filter(|plan| plan.step.is_none()) else {
        return false;
    };
    let asked_to_rest = |reason| matches!(reason, Reason::Paused | Reason::Hibernated);
    if !plan.notes.is_empty() {
        return plan.notes.iter().all(|note| asked_to_rest(note.reason));
    }
    [
        "Bootstrapped",
        "QuorumHealthy",
        "MembersReady",
        "ScaleOperationComplete",
    ]
    .iter()
    .all(|type_| {
        let condition = pass
            .status
            .conditions
            .iter()
            .find(|condition| condition.type_ == *type_);
        condition.is_some_and(|condition| condition.status == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_catches_up_is_progress_and_a_refusal_is_a_problem() {
        let early = Error::NotYet("wait until it has caught up".to_owned());
        let (doing, error) = told("Promote: slot 3".to_owned(), Some(&early));
        assert_eq!(doing, "Promote: slot 3 (wait until it has caught up)");
        assert_eq!(error, None);
        let refused = Error::Refused("no such member".to_owned());
        let (doing, error) = told("Promote: slot 3".to_owned(), Some(&refused));
        assert_eq!(doing, "Promote: slot 3");
        assert_eq!(error.as_deref(), Some("no such member"));
    }
}
