//! Pods as lives of slots: what a live pod says, in the planner's words. Pure.
//!
//! The set starts pods again by itself, so that none of them is ever `Dead` here. Assumes pods and
//! claims of the same pass.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::names::{LABEL_EPOCH, LABEL_ROLE, PORT_CLIENT};
use crate::ids::{SlotUid, UnixMs, VolumeUid};
use crate::ledger::unix_ms;
use crate::observed::{LifeState, LifeView, Pending, Role};

/// The label by which a StatefulSet says what template a pod began with.
const REVISION: &str = "controller-revision-hash";
/// A process that ran this long before it ended does not loop.
const STAYED_UP_S: i64 = 600;
/// The most characters of a process' last words that are shown.
const LAST_WORDS_MAX: usize = 300;
/// How much later than its own grace period a pod may go before that is worth saying.
const STUCK_S: i64 = 30;

/// What the planner sees of a pod. `claim` is the claim of its slot as it is now, `revision` the
/// set's newest template, if the set has taken it in.
pub(super) fn view(
    pod: &Pod,
    claim: Option<&PersistentVolumeClaim>,
    revision: Option<&str>,
    now: UnixMs,
) -> LifeView {
    let labels = pod.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let (state, trouble) = state(pod, claim, now);
    let status = pod.status.as_ref();
    let ready = condition(pod, "Ready").filter(|(holds, _)| *holds && state == LifeState::Running);
    let ip = status.and_then(|status| status.pod_ip.as_ref());
    LifeView {
        uid: SlotUid(pod.metadata.uid.clone().unwrap_or_default()),
        began: pod.metadata.creation_timestamp.as_ref().map(unix_ms),
        ready: ready.is_some(),
        ready_since: ready.and_then(|(_, since)| since),
        outdated: revision.is_some_and(|newest| label(REVISION).is_some_and(|its| its != newest)),
        epoch: label(LABEL_EPOCH).and_then(|epoch| epoch.parse().ok()),
        volume: volume(pod, claim),
        label: pod.metadata.name.clone().unwrap_or_default(),
        endpoint: ip.map(|ip| format!("{ip}:{PORT_CLIENT}")),
        role_label: label(LABEL_ROLE).and_then(|role| match role.as_str() {
            "voter" => Some(Role::Voter),
            "learner" => Some(Role::Learner),
            _ => None,
        }),
        wants_role_label: true,
        trouble,
        host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        orphan: !is_owned(pod),
        state,
    }
}

/// A set owns the pod. One that is being deleted still does, until it has let go of its pods.
fn is_owned(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .any(|owner| owner.controller == Some(true))
}

/// A condition of the pod: whether it holds, and since when.
fn condition(pod: &Pod, type_: &str) -> Option<(bool, Option<UnixMs>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    let since = condition.last_transition_time.as_ref().map(unix_ms);
    Some((condition.status == "True", since))
}

fn condition_text(pod: &Pod, type_: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == type_)?;
    condition.message.clone()
}

/// The claim the pod runs on. The pod names it, and a claim in use cannot go; only one that was
/// forced away can have been followed by another of the same name, which the pod does not hold.
fn volume(pod: &Pod, claim: Option<&PersistentVolumeClaim>) -> Option<VolumeUid> {
    // Bound to a machine: from here on the claim is in use.
    let (scheduled, since) = condition(pod, "PodScheduled")?;
    if !scheduled {
        return None;
    }
    let claim = &claim?.metadata;
    let created = claim.creation_timestamp.as_ref().map(unix_ms);
    let uid = claim.uid.clone()?;
    let is_older = since.zip(created).is_some_and(|(since, made)| since < made);
    if is_older {
        return Some(VolumeUid(format!("the one before {uid}")));
    }
    Some(VolumeUid(uid))
}

fn state(
    pod: &Pod,
    claim: Option<&PersistentVolumeClaim>,
    now: UnixMs,
) -> (LifeState, Option<String>) {
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        return (LifeState::Stopping, stuck(pod, deleted, now));
    }
    let status = pod.status.as_ref();
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("");
    // Ended for good, as after an eviction by the kubelet: the set makes another pod.
    if matches!(phase, "Failed" | "Succeeded") {
        let message = status.and_then(|status| status.message.clone());
        return (LifeState::Stopping, message);
    }
    if !condition(pod, "PodScheduled").is_some_and(|(scheduled, _)| scheduled) {
        return unscheduled(pod, claim);
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let node = containers
        .into_iter()
        .flatten()
        .find(|container| container.name == "quorate");
    match node {
        Some(container) => of_container(container),
        None => (LifeState::Starting, None),
    }
}

fn unscheduled(pod: &Pod, claim: Option<&PersistentVolumeClaim>) -> (LifeState, Option<String>) {
    let Some(why) = condition_text(pod, "PodScheduled") else {
        return (LifeState::Starting, None);
    };
    let (pending, trouble) = match claim {
        None => (Pending::VolumeMissing, why),
        // A class may wait for the pod to find a machine: then the claim is not what is in the way.
        Some(claim) if !is_bound(claim) && is_about_volumes(&why) => {
            (Pending::VolumeUnbound, unbound(claim, &why))
        }
        Some(_) => {
            let advice = "Free some room, add machines, or ask for less in spec.resources and \
                          spec.scheduling.";
            let trouble = format!(
                "no machine takes it: {}. {advice}",
                why.trim_end_matches('.')
            );
            (Pending::Unschedulable, trouble)
        }
    };
    (LifeState::Pending(pending), Some(trouble))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Bound")
}

/// The scheduler speaks of the claim, its class or its volume.
fn is_about_volumes(why: &str) -> bool {
    let why = why.to_lowercase();
    ["persistentvolume", "persistent volume", "storageclass"]
        .iter()
        .any(|word| why.contains(word))
}

fn unbound(claim: &PersistentVolumeClaim, why: &str) -> String {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let class = claim.spec.as_ref();
    let class = class.and_then(|spec| spec.storage_class_name.clone());
    let class = match class.filter(|class| !class.is_empty()) {
        Some(class) => format!("of StorageClass {class}"),
        None => "without a StorageClass (is there a default one?)".to_owned(),
    };
    format!(
        "its claim {name} {class} gets no volume: {}. `kubectl describe pvc {name}` says why; most \
         often the class does not exist or has no room.",
        why.trim_end_matches('.')
    )
}

/// What the kubelet says of an image, without the words that come and go while it tries again.
fn image(container: &ContainerStatus, text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    let quoted = format!("Back-off pulling image \"{}\": ", container.image);
    let text = text.strip_prefix(&quoted).unwrap_or(&text);
    let text = text.strip_prefix("ErrImagePull: ").unwrap_or(text);
    let why = match text.is_empty() || text.starts_with("Back-off") {
        true => String::new(),
        false => format!(": {}", text.trim_end_matches('.')),
    };
    format!(
        "its image {} cannot be fetched{why}. Correct spec.image or spec.version, or give the \
         registry's credentials in spec.image.pullSecrets; the pod is then made anew.",
        container.image
    )
}

fn stuck(pod: &Pod, deleted: &Time, now: UnixMs) -> Option<String> {
    // The timestamp is when the grace period ends.
    let late = now >= unix_ms(deleted).plus(STUCK_S * 1_000);
    let host = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    late.then(|| {
        format!(
            "it should have ended by now. If machine {} is gone for good, delete its Node or taint \
             it node.kubernetes.io/out-of-service.",
            host.unwrap_or_default()
        )
    })
}

fn of_container(container: &ContainerStatus) -> (LifeState, Option<String>) {
    let ContainerState {
        running,
        waiting,
        terminated,
    } = container.state.clone().unwrap_or_default();
    if running.is_some() {
        return (LifeState::Running, None);
    }
    let last = terminated.or_else(|| container.last_state.clone()?.terminated);
    let reason = waiting
        .as_ref()
        .and_then(|waiting| waiting.reason.clone())
        .unwrap_or_default();
    let text = waiting.and_then(|waiting| waiting.message);
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            let trouble = Some(image(container, text));
            (LifeState::Pending(Pending::Image), trouble)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let text = text.unwrap_or_default();
            let trouble = Some(format!("{reason}: {text}"));
            (LifeState::Pending(Pending::Other), trouble)
        }
        _ => {
            let Some(last) = last else {
                return (LifeState::Starting, None);
            };
            let ran_s = last
                .started_at
                .as_ref()
                .zip(last.finished_at.as_ref())
                .map_or(0, |(from, to)| {
                    unix_ms(to).0.saturating_sub(unix_ms(from).0) / 1_000
                });
            let restarts = match ran_s >= STAYED_UP_S {
                true => 0,
                false => u32::try_from(container.restart_count).unwrap_or(0),
            };
            let out_of_memory = last.reason.as_deref() == Some("OOMKilled");
            let mut exit = match out_of_memory {
                true => "too little memory (OOMKilled)".to_owned(),
                false => format!("exit code {}", last.exit_code),
            };
            if let Some(message) = last.message.filter(|message| !message.is_empty()) {
                exit.push_str(": ");
                exit.push_str(&last_words(&message));
            }
            let trouble = format!("its process ended with {exit}");
            let state = LifeState::CrashLooping {
                restarts,
                exit,
                out_of_memory,
            };
            (state, Some(trouble))
        }
    }
}

/// What a process said last: the text of a log line, bounded.
fn last_words(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let last = lines
        .rev()
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = serde_json::from_str::<BTreeMap<String, Value>>(last).unwrap_or_default();
    let field = |name: &str| line.get(name).and_then(Value::as_str);
    let words = match (field("msg"), field("error")) {
        (Some(what), Some(why)) => format!("{what}: {why}"),
        (Some(what), None) => what.to_owned(),
        (None, _) => last.to_owned(),
    };
    words.chars().take(LAST_WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn pod(status: &Value) -> Pod {
        let meta = json!({"name": "orders-1", "uid": "p1",
            "creationTimestamp": "2026-01-01T00:00:20Z", "labels": {"quorate.dev/role": "voter", "controller-revision-hash": "r1"}});
        let body = json!({"metadata": meta, "spec": {"containers": []}, "status": status});
        serde_json::from_value(body).unwrap()
    }

    fn claim(created: &str) -> PersistentVolumeClaim {
        let meta = json!({"name": "data-orders-1", "uid": "c1", "creationTimestamp": created});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn container(state: &Value, restarts: i32, last: &Value) -> Value {
        json!({
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [
                {"type": "PodScheduled", "status": "True",
                 "lastTransitionTime": "2026-01-01T00:00:10Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:20Z"},
            ],
            "containerStatuses": [{
                "name": "quorate", "image": "i", "imageID": "", "ready": true,
                "restartCount": restarts, "state": state, "lastState": last,
            }],
        })
    }

    #[test]
    fn what_a_process_said_last_is_quoted_without_the_log_around_it() {
        let json = "{\"level\":\"info\",\"msg\":\"begin\"}\n\
                    {\"level\":\"fatal\",\"msg\":\"cannot open\",\"error\":\"no room\"}\n\n";
        assert_eq!(last_words(json), "cannot open: no room");
        assert_eq!(last_words("{\"msg\":\"bye\"}"), "bye");
        assert_eq!(
            last_words("first\nquorate node: no such flag\n"),
            "quorate node: no such flag"
        );
        assert_eq!(last_words(""), "");
        assert_eq!(last_words(&"x".repeat(4096)).len(), LAST_WORDS_MAX);
    }

    fn of(status: &Value) -> LifeView {
        view(
            &pod(status),
            Some(&claim("2026-01-01T00:00:10Z")),
            Some("r1"),
            NOW,
        )
    }

    #[test]
    fn a_running_pod_is_ready_on_its_claim_at_its_revision() {
        let running = json!({"running": {}});
        let seen = of(&container(&running, 0, &json!({})));
        assert_eq!(
            (seen.state, seen.ready, seen.outdated),
            (LifeState::Running, true, false)
        );
        assert_eq!(seen.volume, Some(VolumeUid::from("c1")));
        // The pod, and not its container: only a new pod mounts its volume anew.
        assert_eq!(seen.began, Some(UnixMs(1_767_225_620_000)));
        assert_eq!(seen.role_label, Some(Role::Voter));
        assert_eq!(seen.endpoint.as_deref(), Some("10.0.0.7:2379"));
        let status = container(&running, 0, &json!({}));
        let outdated = view(&pod(&status), None, Some("r2"), NOW);
        assert!(outdated.outdated);
        assert!(!view(&pod(&status), None, None, NOW).outdated);
    }

    #[test]
    fn a_pod_that_ran_before_its_claim_was_made_holds_another() {
        let status = container(&json!({"running": {}}), 0, &json!({}));
        let seen = view(
            &pod(&status),
            Some(&claim("2026-01-01T00:00:11Z")),
            None,
            NOW,
        );
        assert_ne!(seen.volume, Some(VolumeUid::from("c1")));
        assert!(seen.volume.is_some());
    }

    #[test]
    fn what_keeps_a_pod_from_running_is_told_apart() {
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
            "status": "False", "message": "0/1 nodes are available"}]});
        let seen = of(&unscheduled);
        assert_eq!(seen.state, LifeState::Pending(Pending::Unschedulable));
        let trouble = seen.trouble.unwrap();
        assert!(trouble.starts_with("no machine takes it: 0/1 nodes are available. Free"));
        assert_eq!(seen.volume, None);
        let without = view(&pod(&unscheduled), None, None, NOW);
        assert_eq!(without.state, LifeState::Pending(Pending::VolumeMissing));
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "why"}});
        let image = of(&container(&waiting("ImagePullBackOff"), 0, &json!({})));
        assert_eq!(image.state, LifeState::Pending(Pending::Image));
        let trouble = image.trouble.unwrap();
        assert!(
            trouble.starts_with("its image i cannot be fetched: why. Correct"),
            "{trouble}"
        );
        let creating = of(&container(&waiting("ContainerCreating"), 0, &json!({})));
        assert_eq!(creating.state, LifeState::Starting);
        assert!(!creating.ready, "a Ready condition is left over");
    }

    #[test]
    fn a_claim_without_a_volume_is_told_from_a_pod_without_a_machine() {
        let unscheduled = |message: &str| {
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
                "status": "False", "message": message}]})
        };
        let about = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        let mut pending = claim("2026-01-01T00:00:10Z");
        let seen = |claim: &PersistentVolumeClaim, message: &str| {
            let seen = view(&pod(&unscheduled(message)), Some(claim), None, NOW);
            (seen.state, seen.trouble.unwrap())
        };
        let (state, trouble) = seen(&pending, about);
        assert_eq!(state, LifeState::Pending(Pending::VolumeUnbound));
        assert!(
            trouble.contains("without a StorageClass (is there a default one?)"),
            "{trouble}"
        );
        pending.spec = serde_json::from_value(json!({"storageClassName": "fast"})).unwrap();
        assert!(
            seen(&pending, about)
                .1
                .contains("data-orders-1 of StorageClass fast gets no")
        );
        let unschedulable = LifeState::Pending(Pending::Unschedulable);
        assert_eq!(
            seen(&pending, "too little cpu").0,
            unschedulable,
            "the class waits for it"
        );
        pending.status = serde_json::from_value(json!({"phase": "Bound"})).unwrap();
        assert_eq!(seen(&pending, about).0, unschedulable);
    }

    #[test]
    fn the_words_about_an_image_are_the_same_at_every_try() {
        let said = |reason: &str, message: &str| {
            let waiting = json!({"waiting": {"reason": reason, "message": message}});
            of(&container(&waiting, 0, &json!({}))).trouble.unwrap()
        };
        let first = said("ErrImagePull", "failed to resolve i: not found");
        let later = "Back-off pulling image \"i\": ErrImagePull: failed to resolve i: not found";
        assert_eq!(said("ImagePullBackOff", later), first);
    }

    #[test]
    fn ends_in_a_row_count_and_one_after_a_long_life_does_not() {
        let ended = |from: &str, to: &str| {
            json!({"terminated": {"exitCode": 4, "reason": "Error", "startedAt": from,
                "finishedAt": to}})
        };
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let restarts = |last: &Value| match of(&container(&waiting, 7, last)).state {
            LifeState::CrashLooping { restarts, .. } => restarts,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            restarts(&ended("2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z")),
            7
        );
        assert_eq!(
            restarts(&ended("2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z")),
            0
        );
        let memory = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let seen = of(&container(&waiting, 7, &memory)).state;
        assert!(matches!(
            seen,
            LifeState::CrashLooping {
                out_of_memory: true,
                ..
            }
        ));
    }

    #[test]
    fn a_pod_on_its_way_out_is_stopping_and_said_to_be_stuck_when_late() {
        let status = container(&json!({"running": {}}), 0, &json!({}));
        let mut leaving = pod(&status);
        let at = |seconds: i64| crate::ledger::time(NOW.plus(seconds * 1_000));
        leaving.metadata.deletion_timestamp = Some(at(0));
        let seen = view(&leaving, None, None, NOW);
        assert_eq!((seen.state, seen.trouble), (LifeState::Stopping, None));
        leaving.metadata.deletion_timestamp = Some(at(-STUCK_S));
        assert!(view(&leaving, None, None, NOW).trouble.is_some());
        let failed = of(&json!({"phase": "Failed", "message": "evicted"}));
        assert_eq!(failed.state, LifeState::Stopping);
    }
}
