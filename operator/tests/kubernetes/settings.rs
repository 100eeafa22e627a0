//! Settings that members take while they run: pushed by file, confirmed by each, no pod ends.

use std::collections::BTreeMap;

use serde_json::json;

use super::api::collection;
use super::passes::{condition, serving};
use super::sets::{Around, edit};

/// The pods, and the template they would begin anew with.
fn pods(around: &Around) -> BTreeMap<String, String> {
    let store = around.api.store();
    let mut seen: BTreeMap<String, String> = store
        .all("pods")
        .into_iter()
        .map(|(name, pod)| (name, pod["metadata"]["uid"].to_string()))
        .collect();
    let set = &store.all("statefulsets")["orders"];
    seen.insert("template".to_owned(), set["spec"]["template"].to_string());
    seen
}

fn in_force(around: &Around) -> Vec<String> {
    around.group().settings.values().cloned().collect()
}

#[tokio::test]
async fn p38_settings_reach_every_member_and_no_pod_ends_for_them() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let before = pods(&around);
    around.group().stale.insert(1);
    edit(
        &around,
        &json!({"spec": {
            "quotaBackendBytes": 1_000_000_000,
            "autoCompaction": {"mode": "Revision", "retention": "1000"},
            "config": {"log-level": "debug"},
        }}),
    );
    operator.passes(20).await;
    let (status, reason) = condition(&around, "Progressing");
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("True", "SettingsPending")
    );
    around.group().stale.clear();
    operator.converged().await;
    assert_eq!(condition(&around, "Progressing").0, "False");
    assert_eq!(pods(&around), before, "a pod ended, or will");
    let wanted = "auto-compaction-mode=revision\nauto-compaction-retention=1000\n\
                  log-level=debug\nquota-backend-bytes=1000000000\n";
    for text in in_force(&around) {
        assert!(text.ends_with(wanted), "{text}");
    }
    assert_eq!(in_force(&around).len(), 3);
}

#[tokio::test]
async fn p38_a_newcomer_begins_with_the_newest_settings() {
    let around = Around::new().await;
    let mut operator = serving(&around, 1).await;
    edit(
        &around,
        &json!({"spec": {"replicas": 3, "config": {"log-level": "warn"}}}),
    );
    operator.converged().await;
    let all = in_force(&around);
    assert_eq!(all.len(), 3);
    assert!(
        all.iter().all(|text| text.contains("log-level=warn\n")),
        "{all:?}"
    );
}

#[tokio::test]
async fn p38_whoever_edits_the_file_by_hand_is_overruled() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let wanted = in_force(&around);
    {
        let mut store = around.api.store();
        let path = format!("{}/orders-settings", collection("configmaps"));
        let mut map = store.objects[&path].clone();
        map["data"]["settings"] = json!("quota-backend-bytes=1\n");
        store.put(&path, map);
    }
    operator.converged().await;
    assert_eq!(in_force(&around), wanted);
}
