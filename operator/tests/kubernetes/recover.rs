//! A lost quorum on Kubernetes, recovered on a human's word: with faults at every write and call.

use serde_json::{Value, json};

use super::api::{FAULTS, Fault};
use super::passes::{Operator, condition, lose, message, names, serving, status};
use super::sets::{Around, CALL_FAULTS, CallFault, edit};

const ANNOTATION: &str = "quorate.dev/recover-quorum";

fn ask(around: &Around, words: &str) {
    edit(
        around,
        &json!({"metadata": {"annotations": {ANNOTATION: words}}}),
    );
}

/// The quorum has been missing for a while.
fn wait(around: &Around) {
    edit(
        around,
        &json!({"status": {"quorum": {"since": "2020-01-01T00:00:00Z"}}}),
    );
}

fn annotation(around: &Around) -> Value {
    let object = around.api.store().all("kvclusters")["orders"].clone();
    object["metadata"]["annotations"][ANNOTATION].clone()
}

/// Three voters of which two have lost their claims, and an operator that has seen it.
async fn lost() -> Around {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    lose(&around, &[0, 2]);
    operator.passes(10).await;
    wait(&around);
    around
}

/// The whole recovery with one fault; the writes and calls it took.
async fn recovered(
    fault: Option<(usize, Fault)>,
    call: Option<(usize, CallFault)>,
) -> (usize, usize) {
    let around = lost().await;
    let (writes, calls) = (around.api.store().writes, around.group().calls);
    let survivor = *around
        .group()
        .members
        .iter()
        .find(|(_, (slot, _))| *slot == 1)
        .expect("a member in slot 1")
        .0;
    let claim = || around.api.store().all("persistentvolumeclaims")["data-orders-1"].clone();
    let before = claim()["metadata"]["uid"].clone();
    ask(&around, "from=auto,epoch=1");
    around.api.store().fault = fault.map(|(number, fault)| (writes + number, fault));
    around.group().call_fault = call.map(|(number, fault)| (calls + number, fault));
    let mut operator = Operator::new(&around);
    if let Err(why) = operator.converge().await {
        panic!("{fault:?} {call:?}: {why}");
    }
    {
        let group = around.group();
        assert_eq!(
            (group.recoveries, group.epoch),
            (1, 2),
            "{fault:?} {call:?}"
        );
        assert_eq!(group.voters().len(), 3, "{fault:?} {call:?}");
        assert!(group.voters().contains(&survivor), "{fault:?} {call:?}");
    }
    let seen = status(&around);
    assert_eq!(
        (seen.epoch, seen.recovery),
        (Some(2), None),
        "{fault:?} {call:?}"
    );
    let past = seen
        .last_requests
        .first()
        .map(|past| (&*past.request, &*past.token));
    assert_eq!(
        past,
        Some((ANNOTATION, "from=auto,epoch=1")),
        "{fault:?} {call:?}"
    );
    assert_eq!(seen.last_requests.len(), 1, "{fault:?} {call:?}");
    assert_eq!(annotation(&around), Value::Null, "{fault:?} {call:?}");
    assert_eq!(
        claim()["metadata"]["uid"],
        before,
        "the survivor's claim is its own"
    );
    let services = around.api.store().all("services");
    assert_eq!(
        services["orders-client"]["spec"]["selector"]["quorate.dev/epoch"],
        "2"
    );
    for (name, pod) in around.api.store().all("pods") {
        assert_eq!(
            pod["metadata"]["labels"]["quorate.dev/epoch"], "2",
            "{name}"
        );
    }
    let calls = around.group().calls - calls;
    (around.api.store().writes - writes, calls)
}

#[tokio::test]
async fn p39_the_survivor_of_three_becomes_a_cluster_of_three_again() {
    let around = lost().await;
    let lost = ("False".to_owned(), "QuorumLost".to_owned());
    assert_eq!(condition(&around, "QuorumHealthy"), lost);
    let said = message(&around, "QuorumHealthy");
    let command =
        "kubectl -n data annotate kvc orders quorate.dev/recover-quorum=from=auto,epoch=1";
    assert!(said.ends_with(command), "{said}");
    assert!(
        said.contains("in slot 1: it runs and has its data, up to entry 101"),
        "{said}"
    );
    // The wrong epoch, a slot without data, and nonsense change nothing.
    let members = || around.group().members.clone();
    let before = members();
    for (words, reason) in [
        ("from=1,epoch=2", "the cluster is in epoch 1"),
        ("from=0,epoch=1", "its data directory is empty"),
        ("please", "is not understood"),
    ] {
        ask(&around, words);
        let mut operator = Operator::new(&around);
        operator.passes(3).await;
        let said = message(&around, "Degraded");
        assert!(said.contains(reason), "{words}: {said}");
        assert_eq!(
            (members(), around.group().recoveries),
            (before.clone(), 0),
            "{words}"
        );
        assert_eq!(status(&around).recovery, None, "{words}");
    }
    let (writes, calls) = recovered(None, None).await;
    assert!(writes > 20 && calls > 5, "{writes} writes, {calls} calls");
}

#[tokio::test]
async fn p39_a_fault_at_any_write_of_a_recovery_changes_nothing_about_the_end() {
    let (writes, _) = recovered(None, None).await;
    let all = std::env::var_os("QUORATE_ALL_FAULTS").is_some();
    for number in 0..writes {
        for (kind, fault) in FAULTS.into_iter().enumerate() {
            if all || kind == number % FAULTS.len() {
                recovered(Some((number, fault)), None).await;
            }
        }
    }
}

#[tokio::test]
async fn p39_a_fault_at_any_call_of_a_recovery_changes_nothing_about_the_end() {
    let (_, calls) = recovered(None, None).await;
    for number in 0..calls {
        for fault in CALL_FAULTS {
            recovered(None, Some((number, fault))).await;
        }
    }
}

#[tokio::test]
async fn p39_a_quorum_that_comes_back_calls_the_recovery_off() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let before = around.group().members.clone();
    // Two machines are away, and their pods do not end.
    around.group().unscheduled.extend([0, 2]);
    around.group().mute.extend([0, 2]);
    around.group().parted.extend([0, 2]);
    around.group().linger = 1_000;
    operator.passes(3).await;
    ask(&around, "from=1,epoch=1");
    operator.passes(3).await;
    assert_eq!(status(&around).recovery, None, "the outage is too short");
    wait(&around);
    operator.passes(20).await;
    assert!(
        status(&around).recovery.is_some(),
        "it waits for the pods that may still serve"
    );
    assert_eq!(around.group().recoveries, 0);
    // The machines are heard of again before their pods have ended.
    around.group().mute.clear();
    around.group().parted.clear();
    operator.pass().await;
    operator.pass().await;
    assert_eq!(status(&around).recovery, None, "it is called off");
    around.group().end_lingering();
    around.group().unscheduled.clear();
    operator.converged().await;
    assert_eq!(around.group().recoveries, 0);
    assert_eq!(around.group().members, before);
    let seen = status(&around);
    assert_eq!((seen.epoch, seen.recovery), (Some(1), None));
    assert_eq!(names(&around, "pods").len(), 3);
}
