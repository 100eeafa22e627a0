//! A spec that the API server accepts and the operator must refuse, or has something to say about:
//! it is said; nothing of a refused one reaches the cluster.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::passes::{Operator, condition, delete, message, names, serving, status};
use super::sets::{Around, edit};

/// What the API server has of everything that the spec is rendered into.
fn rendered(around: &Around) -> Vec<Value> {
    let kinds = [
        "configmaps",
        "statefulsets",
        "services",
        "poddisruptionbudgets",
    ];
    let store = around.api.store();
    let objects = kinds.iter().flat_map(|kind| store.all(kind));
    objects.map(|(_, object)| object["spec"].clone()).collect()
}

fn settings(value: &str) -> Value {
    json!({"spec": {"config": {"heartbeat-interval": value}}})
}

#[tokio::test]
async fn h43_a_spec_that_is_refused_reaches_no_object() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let (before, pods) = (rendered(&around), around.api.store().all("pods"));

    edit(&around, &settings("refused"));
    edit(&around, &json!({"spec": {"storage": {"size": "10Gi"}}}));
    operator.passes(20).await;
    let storage = status(&around).storage.expect("it is there");
    assert_eq!(storage.requested.as_deref(), Some("8Gi"), "not in force");
    let said = condition(&around, "Degraded");
    assert_eq!(said, ("True".to_owned(), "InvalidSpec".to_owned()));
    assert_eq!(rendered(&around), before, "a refused spec was rendered");
    let uid = |pods: BTreeMap<String, Value>| -> Vec<Value> {
        let uids = pods.into_iter();
        uids.map(|(_, pod)| pod["metadata"]["uid"].clone())
            .collect()
    };
    assert_eq!(
        uid(around.api.store().all("pods")),
        uid(pods),
        "a pod began anew"
    );
    let maps = names(&around, "configmaps");
    assert_eq!(maps.len(), 2, "{maps:?}");

    // An operator that begins while the spec is refused knows no better one, and does nothing.
    let mut next = Operator::new(&around);
    next.passes(20).await;
    assert_eq!(rendered(&around), before, "the next operator rendered it");

    edit(&around, &json!({"spec": {"storage": {"size": "8Gi"}}}));
    edit(&around, &settings("50"));
    next.converged().await;
    assert_eq!(condition(&around, "Degraded").0, "False");
    let now = names(&around, "configmaps");
    assert!(
        now.len() == 2 && now != maps,
        "the corrected one is in force: {now:?}"
    );
}

#[tokio::test]
async fn h27_a_cluster_whose_spec_is_refused_can_be_deleted() {
    let around = Around::new().await;
    serving(&around, 3).await;
    let policy = json!({"spec": {"storage": {"whenDeleted": "Delete"}}});
    edit(&around, &policy);
    edit(&around, &settings("refused"));
    delete(&around);
    // This one has never seen a valid spec.
    let mut operator = Operator::new(&around);
    operator.passes(40).await;
    around.settle();
    let none = Vec::<String>::new();
    for kind in ["pods", "persistentvolumeclaims", "kvclusters"] {
        assert_eq!(names(&around, kind), none, "{kind} are left");
    }
}

#[tokio::test]
async fn what_is_worth_knowing_of_a_spec_is_said_once_and_follows_it() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let warned = || message(&around, "Degraded").contains("whenDeleted");
    assert!(!warned(), "there is nothing to warn of yet");
    let policy = |policy: &str| json!({"spec": {"storage": {"whenDeleted": policy}}});
    edit(&around, &policy("Delete"));
    operator.converged().await;
    assert_eq!(condition(&around, "Degraded").1, "FullTolerance");
    let said = message(&around, "Degraded");
    assert!(
        said.contains("Worth knowing: spec.storage.whenDeleted: Delete removes all data"),
        "{said}"
    );
    operator.rests(10).await;
    edit(&around, &policy("Retain"));
    operator.converged().await;
    assert!(!warned(), "it is said of a spec that is no more");
}
