//! Hazards that show only on Kubernetes, each provoked by its own fault: see the fault matrix.

use std::collections::BTreeMap;

use crate::settings::member_settings;
use quorate_operator::plan::{Plan, plan};
use quorate_operator::platform::kubernetes::{Error, Kubernetes};
use quorate_operator::reconcile::{Observation, Platform as _};
use serde_json::{Value, json};

use super::api::collection;
use super::passes::{Operator, condition, delete, names, replicas, serving, status};
use super::sets::{Around, apply_cluster, edit};

fn late(around: &Around) -> Kubernetes {
    Kubernetes::new(around.api.client(), "data", "orders", None, member_settings)
}

async fn decide(platform: &mut Kubernetes) -> (Observation, Plan) {
    let seen = platform.observe().await.expect("read").expect("there");
    let desired = seen.asked.as_ref().expect("valid");
    let plan = plan(desired, &seen.observed);
    (seen, plan)
}

/// Passes until the next step has that name, which another operator has then decided on.
async fn until(around: &Around, step: &str) -> (Kubernetes, Observation, Plan) {
    let mut operator = Operator::new(around);
    for _ in 0..200 {
        around.settle();
        let mut other = late(around);
        let (seen, decided) = decide(&mut other).await;
        if decided
            .step
            .as_ref()
            .is_some_and(|next| next.name() == step)
        {
            return (other, seen, decided);
        }
        operator.pass().await;
    }
    panic!("no step {step} within 200 passes");
}

fn uids(around: &Around, resource: &str) -> BTreeMap<String, Value> {
    let objects = around.api.store().all(resource).into_iter();
    objects
        .map(|(name, object)| (name, object["metadata"]["uid"].clone()))
        .collect()
}

fn change(around: &Around, resource: &str, name: &str, change: &Value) {
    let mut store = around.api.store();
    let path = format!("{}/{name}", collection(resource));
    let mut object = store.objects[&path].clone();
    super::api::merge(&mut object, change);
    store.put(&path, object);
}

fn has_reason(around: &Around, reason: &str) -> bool {
    let conditions = status(around).conditions;
    conditions
        .iter()
        .any(|condition| condition.reason == reason)
}

async fn grown(size: u32) -> Around {
    let around = Around::new().await;
    serving(&around, size).await;
    around
}

#[tokio::test]
async fn a_status_that_is_lost_founds_no_second_cluster() {
    let mut stopped = 0;
    for passes in (0..24).step_by(2) {
        let around = Around::new().await;
        apply_cluster(&around, 2);
        let mut operator = Operator::new(&around);
        for _ in 0..passes {
            operator.pass().await;
        }
        let stamped = !names(&around, "persistentvolumeclaims").is_empty();
        let before = around.group().config_index;
        change(&around, "kvclusters", "orders", &json!({"status": null}));
        let mut operator = Operator::new(&around);
        operator.passes(80).await;
        if stamped {
            stopped += 1;
            let why = format!("after pass {passes}: {:#?}", status(&around).conditions);
            assert!(has_reason(&around, "AdoptionRequired"), "{why}");
            assert_eq!(status(&around).cluster_uuid, None, "{why}");
            assert_eq!(around.group().config_index, before, "{why}");
        } else {
            assert_eq!(around.group().voters().len(), 2, "after pass {passes}");
        }
    }
    assert!((3..12).contains(&stopped), "{stopped} of 12 had a claim");
}

#[tokio::test]
async fn a_change_that_was_made_already_is_a_success() {
    for (from, to, step) in [
        (1, 1, "bootstrap"),
        (1, 2, "member-add"),
        (1, 2, "join"),
        (1, 2, "promote"),
        (2, 1, "member-remove"),
    ] {
        let around = match step {
            "bootstrap" => {
                let around = Around::new().await;
                apply_cluster(&around, from);
                around
            }
            _ => grown(from).await,
        };
        edit(&around, &replicas(to));
        let (mut other, seen, decided) = until(&around, step).await;
        let step = decided.step.expect("a step");
        for time in ["first", "second"] {
            let outcome = other.apply(&seen, &step).await;
            assert!(
                outcome.is_ok(),
                "{} the {time} time: {outcome:?}",
                step.name()
            );
        }
        Operator::new(&around).converged().await;
        let voters = u32::try_from(around.group().voters().len()).expect("small");
        assert_eq!(voters, to, "after {}", step.name());
    }
}

#[tokio::test]
async fn what_was_decided_before_another_operator_went_on_is_refused() {
    for (to, step) in [(1, "latch"), (3, "write-intent"), (3, "set-slots")] {
        let around = match step {
            "latch" => {
                let around = Around::new().await;
                apply_cluster(&around, 1);
                around
            }
            _ => grown(1).await,
        };
        edit(&around, &replicas(to));
        let (mut late, seen, decided) = until(&around, step).await;
        Operator::new(&around).converged().await;
        let before = around.api.store().objects.clone();
        let outcome = late.apply(&seen, &decided.step.expect("a step")).await;
        let after = around.api.store().objects.clone();
        assert_eq!(after, before, "H51: a late {step} changed something");
        assert!(outcome.is_err(), "H51: a late {step} was taken for done");
    }
}

#[tokio::test]
async fn a_member_is_added_and_never_asked_to_vote_while_its_pod_finds_no_place() {
    let around = grown(1).await;
    around.group().unscheduled.extend([1, 2]);
    edit(&around, &replicas(3));
    let mut operator = Operator::new(&around);
    for _ in 0..60 {
        operator.pass().await;
        let group = around.group();
        assert_eq!(group.voters().len(), 1, "H9");
        assert!(group.has_quorum(), "H9: writes stop");
    }
    assert_eq!(around.group().hasty, 0, "a promotion was asked for");
    around.group().unscheduled.clear();
    operator.converged().await;
    assert_eq!(around.group().voters().len(), 3);
}

#[tokio::test]
async fn a_spec_that_changes_its_mind_at_any_moment_ends_where_it_would_have_anyway() {
    for (from, other) in [(1, 3), (3, 2)] {
        for passes in (1..20).step_by(2) {
            let around = grown(from).await;
            let mut operator = Operator::new(&around);
            edit(&around, &replicas(other));
            for _ in 0..passes {
                operator.pass().await;
            }
            edit(&around, &replicas(from));
            operator.converged().await;
            let size = usize::try_from(from).expect("small");
            let what = format!("{from}, {other} for {passes} passes, {from}");
            assert_eq!(around.group().voters().len(), size, "{what}");
            assert_eq!(names(&around, "pods").len(), size, "{what}");
            assert_eq!(
                names(&around, "persistentvolumeclaims").len(),
                size,
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn a_claim_outlives_its_pod_when_the_cluster_shrinks() {
    let around = grown(3).await;
    around.group().linger = 4;
    edit(&around, &replicas(1));
    let mut operator = Operator::new(&around);
    for _ in 0..120 {
        operator.pass().await;
        let store = around.api.store();
        let pods = store.all("pods");
        for (name, claim) in store.all("persistentvolumeclaims") {
            let pod = name.strip_prefix("data-").expect("a claim of ours");
            let goes = !claim["metadata"]["deletionTimestamp"].is_null();
            assert!(
                !goes || !pods.contains_key(pod),
                "H30: {pod} still runs on {name}"
            );
        }
    }
    assert_eq!(names(&around, "persistentvolumeclaims"), ["data-orders-0"]);
}

#[tokio::test]
async fn pods_that_are_deleted_one_after_the_other_leave_the_membership_as_it_is() {
    let around = grown(3).await;
    let before = (
        around.group().config_index,
        uids(&around, "persistentvolumeclaims"),
    );
    let mut operator = Operator::new(&around);
    for pod in ["orders-0", "orders-1", "orders-2"] {
        {
            let mut store = around.api.store();
            let path = format!("{}/{pod}", collection("pods"));
            // Gone at once, as after a drain: a pass sees the slot without a pod.
            store.objects.remove(&path);
        }
        let (_, decided) = decide(&mut late(&around)).await;
        assert_eq!(
            decided.step, None,
            "H31: {pod} is gone and something is done"
        );
        operator.converged().await;
    }
    let after = (
        around.group().config_index,
        uids(&around, "persistentvolumeclaims"),
    );
    assert_eq!(after, before, "H31: the membership followed the pods");
}

#[tokio::test]
async fn a_deletion_that_comes_late_does_not_touch_the_next_cluster_of_that_name() {
    for step in ["delete-slots", "delete-volume"] {
        let around = grown(1).await;
        edit(
            &around,
            &json!({"spec": {"storage": {"whenDeleted": "Delete"}}}),
        );
        Operator::new(&around).converged().await;
        delete(&around);
        let (mut other, seen, decided) = until(&around, step).await;
        Operator::new(&around).converged().await;
        around.settle();
        assert_eq!(names(&around, "kvclusters"), Vec::<String>::new());
        apply_cluster(&around, 1);
        // Another cluster: the world around it begins anew as well.
        around.forget_group();
        Operator::new(&around).converged().await;
        let before = around.api.store().objects.clone();
        let outcome = other.apply(&seen, &decided.step.expect("a step")).await;
        assert!(outcome.is_ok(), "{step}: {outcome:?}");
        assert_eq!(
            around.api.store().objects,
            before,
            "H32: {step} hit a successor"
        );
    }
}

#[tokio::test]
async fn another_operator_version_rolls_no_cluster() {
    let around = grown(3).await;
    let older = json!({
        "metadata": {"annotations": {"quorate.dev/rendered": "an older operator"}},
        "spec": {"template": {"metadata": {"labels": {"older": "yes"}}}},
    });
    change(&around, "statefulsets", "orders", &older);
    // Its pods were begun with that template.
    let pods = format!("{}/", collection("pods"));
    around
        .api
        .store()
        .objects
        .retain(|path, _| !path.starts_with(&pods));
    (0..3).for_each(|_| around.settle());
    let before = uids(&around, "pods");
    let mut operator = Operator::new(&around);
    operator.converged().await;
    assert_eq!(uids(&around, "pods"), before, "H42: pods began anew");
    let set = around.api.store().all("statefulsets")["orders"].clone();
    assert_eq!(
        set["spec"]["template"]["metadata"]["labels"]["older"],
        "yes"
    );
    edit(
        &around,
        &json!({"spec": {"update": {"adoptOperatorChanges": true}}}),
    );
    operator.converged().await;
    assert_ne!(uids(&around, "pods"), before, "asked for, and not adopted");
}

#[tokio::test]
async fn a_read_that_fails_is_neither_an_absence_nor_a_success() {
    for resource in [
        "statefulsets",
        "pods",
        "persistentvolumeclaims",
        "services",
        "configmaps",
        "poddisruptionbudgets",
    ] {
        let around = grown(3).await;
        let world = |around: &Around| {
            let mut objects = around.api.store().objects.clone();
            objects.retain(|path, _| !path.contains("/kvclusters/"));
            (objects, around.group().config_index)
        };
        let before = world(&around);
        around.api.store().blind = Some(resource);
        let mut operator = Operator::new(&around);
        operator.passes(10).await;
        assert_eq!(world(&around), before, "H50: {resource} could not be read");
        // Nothing stays true that these reads were the evidence for.
        let rests: &[&str] = match resource {
            "persistentvolumeclaims" => &["StorageReady"],
            "statefulsets" | "pods" => &["QuorumHealthy", "MembersReady", "Available"],
            _ => &[],
        };
        for type_ in rests {
            let (value, reason) = condition(&around, type_);
            assert_ne!(value, "True", "H56: {type_} without {resource}: {reason}");
        }
        around.api.store().blind = None;
        operator.converged().await;
        assert_eq!(
            condition(&around, "Available").0,
            "True",
            "after {resource}"
        );
    }
}

#[tokio::test]
async fn nodes_that_never_answer_cost_a_pass_little_and_nobody_a_place() {
    let around = grown(3).await;
    let before = around.group().config_index;
    around.group().deaf.extend([0, 1, 2]);
    let mut operator = Operator::new(&around);
    for _ in 0..3 {
        // Slower than the operator waits for an identity, faster than a pass may take.
        let pass = tokio::time::timeout(std::time::Duration::from_secs(10), operator.pass());
        assert!(pass.await.is_ok(), "H54: a pass of more than 10 s");
    }
    assert_ne!(condition(&around, "QuorumHealthy").0, "False");
    assert_ne!(condition(&around, "MembersReady").0, "True");
    around.group().deaf.clear();
    operator.converged().await;
    assert_eq!(
        around.group().config_index,
        before,
        "H8: silence was taken for absence"
    );
}

#[tokio::test]
async fn an_object_that_cannot_be_read_says_so_and_hides_no_other() {
    let around = Around::new().await;
    apply_cluster(&around, 1);
    let broken = json!({"apiVersion": "quorate.dev/v1alpha1", "kind": "KvCluster",
        "metadata": {"name": "broken", "namespace": "data"}, "spec": {"replicas": "many"}});
    super::api::make(&mut around.api.store(), "kvclusters", broken);
    // Its pass fails, and it is told why where people look.
    let mut platform =
        Kubernetes::new(around.api.client(), "data", "broken", None, member_settings);
    let Err(Error::Unreadable(why)) = platform.observe().await else {
        panic!("it was read");
    };
    let reported = platform
        .report_unreadable(&why, "2026-01-01T00:00:00Z")
        .await;
    assert!(reported.is_ok(), "{reported:?}");
    let object = around.api.store().all("kvclusters")["broken"].clone();
    assert_eq!(object["status"]["conditions"][0]["type"], "Degraded");
    assert_eq!(object["status"]["conditions"][0]["reason"], "InvalidSpec");
    Operator::new(&around).converged().await;
    assert_eq!(around.group().voters().len(), 1);
}

#[tokio::test]
async fn the_order_of_members_in_an_answer_changes_nothing() {
    let around = grown(3).await;
    let mut operator = Operator::new(&around);
    let seen = |around: &Around| {
        let rows = status(around).members.into_iter();
        let rows: Vec<_> = rows
            .map(|row| (row.ordinal, row.member_id, row.role))
            .collect();
        (rows, around.api.store().writes, around.group().config_index)
    };
    let before = seen(&around);
    let in_slots = {
        let group = around.group();
        let mut slots: Vec<_> = group
            .members
            .iter()
            .map(|(id, (slot, _))| (*slot, *id))
            .collect();
        slots.sort_unstable();
        slots
    };
    let shown: Vec<_> = before.0.iter().filter_map(|row| row.1.clone()).collect();
    let wanted: Vec<_> = in_slots
        .iter()
        .map(|(_, id)| format!("{id:016x}"))
        .collect();
    assert_eq!(shown, wanted, "H57: rows of other members");
    around.group().reversed = true;
    operator.passes(5).await;
    assert_eq!(seen(&around), before, "H57: the order of a list decides");
}
