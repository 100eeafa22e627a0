//! One cluster between passes: a pass, and what is said about it in logs, metrics and events.
//!
//! Must not know: the queue, other clusters, the planner's rules.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource as _};
use tokio::time::{Instant, timeout};

use super::http::{Board, on};
use super::queue::{Ended, Key};
use crate::desired::Desired;
use crate::ledger::time;
use crate::plan::Step;
use crate::platform::doors::now;
use crate::platform::kubernetes::events::{self, Said};
use crate::platform::kubernetes::{Error, Kubernetes};
use crate::reconcile::{Pass, reconcile};
use crate::validate::SettingsCheck;

/// The longest a pass may take. What it was doing has an unknown outcome then, as after a crash.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest an event may take.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest note of an event, in bytes: the API allows no more, and refuses the event otherwise.
const NOTE_BYTES_MAX: usize = 1_024;

/// What the workers of a process share.
#[derive(Clone)]
pub(super) struct Tools {
    pub client: Client,
    pub recorder: Recorder,
    pub board: Board,
    pub domain: Option<String>,
    pub settings: SettingsCheck,
}

/// One cluster.
pub(super) struct Worker {
    key: Key,
    platform: Kubernetes,
    last_valid: Option<Desired>,
    /// What was logged last as awaited, so that it is logged once.
    awaited: String,
}

impl Worker {
    pub fn new(key: Key, tools: &Tools) -> Worker {
        let (client, domain) = (tools.client.clone(), tools.domain.clone());
        Worker {
            platform: Kubernetes::new(client, &key.namespace, &key.name, domain, tools.settings),
            key,
            last_valid: None,
            awaited: String::new(),
        }
    }

    /// One pass.
    pub async fn pass(&mut self, tools: &Tools) -> Ended {
        let began = Instant::now();
        let pass = reconcile(&mut self.platform, &mut self.last_valid);
        let outcome = timeout(PASS_TIMEOUT, pass).await.unwrap_or_else(|_| {
            Err(Error::Unanswered(format!(
                "the pass took longer than {PASS_TIMEOUT:?}"
            )))
        });
        let took = began.elapsed();
        let (result, ended) = match &outcome {
            Ok(Some(pass)) if pass.failure.is_some() => {
                ("step-failed", Ended::Again(pass.requeue()))
            }
            Ok(Some(pass)) => ("ok", Ended::Again(pass.requeue())),
            Ok(None) => ("gone", Ended::Gone),
            // Somebody else has written: look again at once, not as after a failure.
            Err(Error::Conflict(_)) => ("conflict", Ended::Again(crate::plan::Requeue::Soon)),
            Err(_) => ("failed", Ended::Failed),
        };
        on(&tools.board, |shared| shared.metrics.pass(result, took));
        match outcome {
            Ok(Some(pass)) => self.tell(tools, &pass).await,
            Ok(None) => {
                on(&tools.board, |shared| shared.metrics.forget(&self.key));
                tracing::info!(cluster = %self.key, "the cluster is gone");
            }
            Err(error) => self.trouble(tools, &error).await,
        }
        ended
    }

    async fn trouble(&mut self, tools: &Tools, error: &Error) {
        on(&tools.board, |shared| {
            shared.metrics.error(error.category())
        });
        let (cluster, category) = (&self.key, error.category());
        match error {
            Error::Conflict(_) => tracing::info!(%cluster, %error, "the pass begins again"),
            _ => tracing::warn!(%cluster, category, %error, "the pass failed"),
        }
        if let Error::Unreadable(why) = error {
            let now = time(now()).0.to_string();
            if let Err(error) = self.platform.report_unreadable(why, &now).await {
                tracing::warn!(%cluster, %error, "that cannot be reported on the object");
            }
        }
    }

    async fn tell(&mut self, tools: &Tools, pass: &Pass<Error>) {
        let cluster = &self.key;
        let desired = self
            .platform
            .object()
            .map_or(0, |object| object.spec.replicas);
        on(&tools.board, |shared| {
            shared
                .metrics
                .cluster(cluster, desired, &pass.status, now());
            if let Some(plan) = &pass.plan {
                shared.metrics.plan(plan, pass.failure.is_some());
            }
            if let Some(error) = &pass.failure {
                shared.metrics.error(error.category());
            }
        });
        let mut said = Vec::new();
        if let Some(plan) = &pass.plan {
            let why = plan.notes.first().map_or("", |note| note.message.as_str());
            match (&plan.step, &pass.failure) {
                (Some(step), None) => {
                    let (step_name, rule) = (step.name(), plan.rule);
                    tracing::info!(%cluster, step = step_name, rule, detail = brief(step), why, "done");
                    said.extend(events::of_step(step, self.platform.status_before()));
                }
                (Some(step), Some(error @ Error::NotYet(_))) => {
                    let step_name = step.name();
                    tracing::info!(%cluster, step = step_name, why = %error, "not yet");
                }
                (Some(step), Some(error)) => {
                    let (step_name, rule, category) = (step.name(), plan.rule, error.category());
                    tracing::warn!(%cluster, step = step_name, rule, category, %error, "the step failed");
                }
                (None, _) if why != self.awaited => {
                    let reason = plan.notes.first().map_or("Idle", |note| note.reason.name());
                    tracing::info!(%cluster, rule = plan.rule, reason, why, "nothing to do now");
                }
                (None, _) => {}
            }
            if plan.step.is_none() {
                why.clone_into(&mut self.awaited);
            }
        }
        said.extend(events::of_conditions(
            self.platform.status_before(),
            &pass.status,
        ));
        for said in said {
            self.say(tools, said).await;
        }
    }

    /// An event that cannot be written is logged: it is for people, and nothing depends on it.
    async fn say(&self, tools: &Tools, said: Said) {
        let Some(object) = self.platform.object() else {
            return;
        };
        let secondary = said.slot.map(|slot| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(format!("{}-{slot}", self.key.name)),
            namespace: Some(self.key.namespace.clone()),
            ..ObjectReference::default()
        });
        let event = Event {
            type_: match said.warning {
                true => EventType::Warning,
                false => EventType::Normal,
            },
            reason: said.reason.to_owned(),
            note: Some(noted(said.note)),
            action: said.action.to_owned(),
            secondary,
        };
        let regarding = object.object_ref(&());
        let publish = tools.recorder.publish(&event, &regarding);
        match timeout(EVENT_TIMEOUT, publish).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(cluster = %self.key, reason = said.reason, %error, "no event");
            }
            Err(_) => tracing::warn!(cluster = %self.key, reason = said.reason, "no event in time"),
        }
    }
}

/// A note as the API takes it. It may quote a user's words, in any alphabet.
fn noted(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(NOTE_BYTES_MAX));
    text
}

/// A step as a log line shows it; an intent in one word.
fn brief(step: &Step) -> String {
    match step {
        Step::WriteIntent(operation) => {
            let slot = operation
                .slot()
                .map_or_else(String::new, |slot| format!(" slot {slot}"));
            format!("{}{slot}", operation.kind.name())
        }
        Step::Latch(latch) => match latch {
            crate::plan::Latch::Identity { cluster_uuid, .. } => format!("identity {cluster_uuid}"),
            crate::plan::Latch::Issued(_) => "issued".to_owned(),
            crate::plan::Latch::Done { .. } => "done".to_owned(),
            crate::plan::Latch::Recovered { epoch, .. } => format!("recovered, epoch {epoch}"),
        },
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_keeps_to_the_bytes_that_the_api_allows_in_any_alphabet() {
        for letter in ["x", "ß", "数", "𝄞"] {
            let note = noted(letter.repeat(2_000));
            assert!(
                note.len() <= NOTE_BYTES_MAX,
                "{letter}: {} bytes",
                note.len()
            );
            assert!(note.len() > NOTE_BYTES_MAX - 4 && note.ends_with(letter));
        }
        assert_eq!(noted("short".to_owned()), "short");
    }
}
