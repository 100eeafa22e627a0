//! Real passes against the API server in this process: from nothing to a cluster and back, with
//! faults at every write.

use std::collections::BTreeMap;

use crate::settings::member_settings;
use quorate_operator::crd::{ConditionStatus, KvClusterStatus};
use quorate_operator::desired::Desired;
use quorate_operator::plan::{Requeue, plan};
use quorate_operator::platform::kubernetes::Kubernetes;
use quorate_operator::reconcile::{Platform as _, reconcile};
use serde_json::{Value, json};

use super::api::{FAULTS, Fault, collection};
use super::sets::{Around, CALL_FAULTS, CallFault, apply_cluster, edit};

/// An operator's process; it dies at every fault, and the next one begins with nothing.
pub(super) struct Operator<'a> {
    around: &'a Around,
    pub(super) platform: Kubernetes,
    last_valid: Option<Desired>,
}

impl<'a> Operator<'a> {
    pub(super) fn new(around: &'a Around) -> Operator<'a> {
        Operator {
            around,
            platform: Kubernetes::new(around.api.client(), "data", "orders", None, member_settings),
            last_valid: None,
        }
    }

    /// One pass; `None` when the object is gone.
    pub(super) async fn pass(&mut self) -> Option<Requeue> {
        self.around.settle();
        match reconcile(&mut self.platform, &mut self.last_valid).await {
            Ok(Some(pass)) if pass.failure.is_none() => Some(pass.requeue()),
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => {
                *self = Operator::new(self.around);
                Some(Requeue::Soon)
            }
        }
    }

    /// So many passes, whatever they come to.
    pub(super) async fn passes(&mut self, count: u32) {
        for _ in 0..count {
            self.pass().await;
        }
    }

    /// So many passes, which must write nothing (I11).
    pub(super) async fn rests(&mut self, count: u32) {
        let before = self.around.api.store().writes;
        self.passes(count).await;
        let after = self.around.api.store().writes;
        assert_eq!(after, before, "I11: a quiet cluster is written to");
    }

    /// Passes until nothing is to be done; what is awaited at the end otherwise.
    pub(super) async fn converge(&mut self) -> Result<(), String> {
        for _ in 0..400 {
            match self.pass().await {
                Some(Requeue::Idle) | None => return Ok(()),
                Some(Requeue::Now | Requeue::Soon | Requeue::Refused) => {}
            }
        }
        Err(format!(
            "not converged: {:#?}",
            status(self.around).conditions
        ))
    }

    pub(super) async fn converged(&mut self) {
        if let Err(why) = self.converge().await {
            panic!("{why}");
        }
    }
}

/// The operator of a cluster in the clear that has come to serve with so many members.
pub(super) async fn serving(around: &Around, replicas: u32) -> Operator<'_> {
    apply_cluster(around, replicas);
    let mut operator = Operator::new(around);
    operator.converged().await;
    operator
}

pub(super) fn status(around: &Around) -> KvClusterStatus {
    let objects = around.api.store().all("kvclusters");
    serde_json::from_value(objects["orders"]["status"].clone()).expect("a status")
}

/// The claims of these slots and their pods are deleted by somebody.
pub(super) fn lose(around: &Around, slots: &[u8]) {
    let mut store = around.api.store();
    for slot in slots {
        for (resource, name) in [
            ("persistentvolumeclaims", format!("data-orders-{slot}")),
            ("pods", format!("orders-{slot}")),
        ] {
            let path = format!("{}/{name}", collection(resource));
            let live = store.objects[&path].clone();
            store.mark_deleted(&path, &live);
        }
    }
}

pub(super) fn replicas(count: u32) -> Value {
    json!({"spec": {"replicas": count}})
}

pub(super) fn names(around: &Around, resource: &str) -> Vec<String> {
    around.api.store().all(resource).into_keys().collect()
}

fn row(around: &Around, type_: &str) -> ConditionStatus {
    let mut rows = status(around).conditions.into_iter();
    rows.find(|row| row.type_ == type_)
        .expect("the condition is there")
}

/// Status and reason of a condition.
pub(super) fn condition(around: &Around, type_: &str) -> (String, String) {
    let row = row(around, type_);
    (row.status, row.reason)
}

pub(super) fn message(around: &Around, type_: &str) -> String {
    row(around, type_).message
}

#[tokio::test]
async fn from_nothing_to_three_voters_and_then_quiet() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let seen = status(&around);
    assert_eq!(around.group().voters().len(), 3);
    assert_eq!(seen.ready.as_deref(), Some("3/3"));
    assert_eq!(seen.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&around, "Available").0, "True");
    assert_eq!(names(&around, "pods"), ["orders-0", "orders-1", "orders-2"]);
    for (name, pod) in around.api.store().all("pods") {
        assert_eq!(
            pod["metadata"]["labels"]["quorate.dev/role"], "voter",
            "{name}"
        );
    }
    // The member ID is not the slot, and every claim says whose it is.
    for (name, claim) in around.api.store().all("persistentvolumeclaims") {
        let stamp = &claim["metadata"]["annotations"]["quorate.dev/member-id"];
        assert!(
            stamp.as_str().is_some_and(|id| id.len() == 16),
            "{name}: {stamp}"
        );
    }
    operator.rests(20).await;
    assert_eq!(operator.pass().await, Some(Requeue::Idle));
    // Another operator finds nothing to write either.
    let mut next = Operator::new(&around);
    next.rests(2).await;
    assert_eq!(next.pass().await, Some(Requeue::Idle));
}

#[tokio::test]
async fn it_grows_and_shrinks_to_any_size() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    for size in [5, 3, 1, 2, 4] {
        edit(&around, &replicas(size));
        operator.converged().await;
        let count = usize::try_from(size).expect("small");
        assert_eq!(around.group().voters().len(), count);
        assert_eq!(names(&around, "pods").len(), count);
        assert_eq!(
            names(&around, "persistentvolumeclaims").len(),
            count,
            "claims left behind"
        );
        let budget = around.api.store().all("poddisruptionbudgets")["orders"].clone();
        assert_eq!(budget["spec"]["minAvailable"], size / 2 + 1);
    }
}

/// The calls the operator may make: the table of its role.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kvclusters", &["get", "list", "watch", "patch"]),
    ("kvclusters/status", &["get", "update", "patch"]),
    (
        "statefulsets",
        &["get", "list", "create", "patch", "delete"],
    ),
    ("pods", &["get", "list", "patch", "delete"]),
    (
        "persistentvolumeclaims",
        &["get", "list", "create", "patch", "delete"],
    ),
    ("services", &["get", "list", "create", "patch", "delete"]),
    ("configmaps", &["get", "list", "create", "patch", "delete"]),
    (
        "serviceaccounts",
        &["get", "list", "create", "patch", "delete"],
    ),
    (
        "poddisruptionbudgets",
        &["get", "list", "create", "patch", "delete"],
    ),
    (
        "networkpolicies",
        &["get", "list", "create", "patch", "delete"],
    ),
    ("storageclasses", &["get"]),
    ("secrets", &["get", "create", "patch", "delete"]),
    ("certificates", &["get", "create", "patch", "delete"]),
    ("persistentvolumes", &["get"]),
    ("nodes", &["get"]),
];

#[tokio::test]
async fn it_needs_no_right_that_its_role_has_not() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    edit(&around, &replicas(1));
    operator.converged().await;
    for (verb, resource) in &around.api.store().calls {
        let row = ALLOWED.iter().find(|(name, _)| name == resource);
        let allowed = row.is_some_and(|(_, verbs)| verbs.contains(&verb.as_str()));
        assert!(allowed, "{verb} {resource} is not in the role");
    }
}

#[tokio::test]
async fn a_changed_template_begins_every_pod_anew_leader_last() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let leader_slot = {
        let group = around.group();
        group.members[&group.leader].0
    };
    let uids = |around: &Around| -> BTreeMap<String, String> {
        let pods = around.api.store().all("pods").into_iter();
        pods.map(|(name, pod)| (name, pod["metadata"]["uid"].to_string()))
            .collect()
    };
    let before = uids(&around);
    edit(
        &around,
        &json!({"spec": {"config": {"election-timeout": "2000"}}}),
    );
    let (mut order, mut maps) = (Vec::new(), 1);
    for _ in 0..400 {
        let idle = operator.pass().await == Some(Requeue::Idle);
        maps = maps.max(names(&around, "configmaps").len());
        let now = uids(&around);
        for (name, uid) in &before {
            let anew = now.get(name).is_some_and(|new| new != uid);
            if anew && !order.contains(name) {
                order.push(name.clone());
            }
        }
        assert!(
            around.group().has_quorum(),
            "the quorum was lost by an update"
        );
        if idle {
            break;
        }
    }
    assert_eq!(order.len(), 3, "not every pod began anew: {order:?}");
    assert_eq!(
        order.last(),
        Some(&format!("orders-{leader_slot}")),
        "{order:?}"
    );
    assert_eq!(condition(&around, "VersionUpToDate").0, "True");
    assert_eq!(maps, 3, "the old settings stay for running pods");
    assert_eq!(names(&around, "configmaps").len(), 2, "and go with them");
}

#[tokio::test]
async fn a_claim_that_is_deleted_with_its_pod_costs_one_member_and_is_made_good() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let before = around.group().voters();
    lose(&around, &[1]);
    operator.converged().await;
    let after = around.group().voters();
    assert_eq!(after.len(), 3);
    let kept = after.iter().filter(|id| before.contains(id)).count();
    assert_eq!(kept, 2, "a lost disk is a new member: {before:?} {after:?}");
    assert_eq!(status(&around).ready.as_deref(), Some("3/3"));
}

#[tokio::test]
async fn h03_two_disks_of_three_gone_is_a_lost_quorum_with_evidence_and_nothing_is_done() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let members = || {
        let group = around.group();
        (group.config_index, group.voters())
    };
    let before = members();
    lose(&around, &[1, 2]);
    operator.passes(10).await;
    let lost = ("False".to_owned(), "QuorumLost".to_owned());
    assert_eq!(condition(&around, "QuorumHealthy"), lost);
    let none = ("False".to_owned(), "NoQuorum".to_owned());
    assert_eq!(condition(&around, "Available"), none);
    let seen = status(&around);
    assert_eq!(
        seen.quorum.map(|quorum| quorum.state).as_deref(),
        Some("False")
    );
    let message = message(&around, "QuorumHealthy");
    for evidence in [
        "1 of 3 voters can take part and 2 are needed",
        "in slot 0: it runs and has its data",
        "in slot 1: its data directory is empty",
        "in slot 2: its data directory is empty",
    ] {
        assert!(message.contains(evidence), "no `{evidence}` in: {message}");
    }
    // Another operator sees the same, and nobody does anything.
    let writes = around.api.store().writes;
    let mut operator = Operator::new(&around);
    operator.passes(20).await;
    assert_eq!(
        around.api.store().writes,
        writes,
        "something was done about it"
    );
    assert_eq!(members(), before);
}

#[tokio::test]
async fn a_quorum_that_only_keeps_silent_is_not_called_lost() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    around.group().mute.extend([0, 1, 2]);
    operator.passes(10).await;
    let unknown = ("Unknown".to_owned(), "Unreachable".to_owned());
    assert_eq!(condition(&around, "QuorumHealthy"), unknown);
}

#[tokio::test]
async fn settings_that_no_pod_reads_any_more_go_and_those_in_use_stay() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    // Those for the beginning of a pod; those for its whole life are one and stay.
    let maps = || {
        let mut maps = names(&around, "configmaps");
        maps.retain(|name| name != "orders-settings");
        maps
    };
    let first = maps();
    assert_eq!(first.len(), 1);
    // Pods are stopped by a human: until then they read the settings they began with.
    edit(
        &around,
        &json!({"spec": {"update": {"strategy": "Manual"}, "config": {"election-timeout": "2000"}}}),
    );
    operator.passes(30).await;
    assert_eq!(maps().len(), 2, "{:?}", maps());
    // What only looks like one of ours is nobody's to delete.
    let foreign = json!({"metadata": {"name": "orders-config-mine", "namespace": "data",
        "labels": {"app.kubernetes.io/name": "quorate", "app.kubernetes.io/instance": "orders",
                   "app.kubernetes.io/component": "node"}}});
    super::api::make(&mut around.api.store(), "configmaps", foreign);
    edit(
        &around,
        &json!({"spec": {"update": {"strategy": "RollingLeaderLast"}}}),
    );
    operator.converged().await;
    let left = maps();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&first[0]), "{left:?}");
    assert!(left.contains(&"orders-config-mine".to_owned()), "{left:?}");
}

#[tokio::test]
async fn what_somebody_edits_is_put_back() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let path = format!("{}/orders", collection("statefulsets"));
    let template = around.api.store().objects[&path]["spec"]["template"].clone();
    around.api.store().edited = true;
    for change in [
        json!({"spec": {"replicas": 0}}),
        json!({"spec": {"replicas": 1}}),
        json!({"spec": {"template": {"metadata": {"labels": {"foreign": "yes"}},
            "spec": {"terminationGracePeriodSeconds": 1}}}}),
    ] {
        {
            let mut store = around.api.store();
            let mut set = store.objects[&path].clone();
            super::api::merge(&mut set, &change);
            store.put(&path, set);
        }
        operator.converged().await;
        let set = around.api.store().objects[&path].clone();
        assert_eq!(set["spec"]["replicas"], 3, "{change}");
        assert_eq!(set["spec"]["template"], template, "{change}");
        assert_eq!(around.group().voters().len(), 3);
    }
}

#[tokio::test]
async fn it_sleeps_and_wakes_with_the_same_members() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let before = around.group().voters();
    edit(&around, &json!({"spec": {"hibernate": true}}));
    operator.passes(100).await;
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    assert_eq!(names(&around, "persistentvolumeclaims").len(), 3);
    assert_eq!(
        condition(&around, "Available"),
        ("False".into(), "Hibernated".into())
    );
    edit(&around, &json!({"spec": {"hibernate": false}}));
    operator.converged().await;
    assert_eq!(around.group().voters(), before);
    assert_eq!(status(&around).ready.as_deref(), Some("3/3"));
}

fn size(of: &str) -> Value {
    json!({"spec": {"storage": {"size": of}}})
}

/// Uids of pods, the set's uid, and the sizes of all claims and of the set's template.
fn grown(around: &Around) -> (Vec<Value>, Value, Vec<String>) {
    let store = around.api.store();
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    let text = |object: &Value| object.as_str().unwrap_or_default().to_owned();
    let set = store.all("statefulsets")["orders"].clone();
    let claims = store.all("persistentvolumeclaims");
    let claims = claims
        .values()
        .map(|claim| &claim["status"]["capacity"]["storage"]);
    let mut sizes: Vec<String> = claims.map(text).collect();
    let template = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"];
    sizes.push(text(&template["storage"]));
    (
        store.all("pods").values().map(uid).collect(),
        uid(&set),
        sizes,
    )
}

#[tokio::test]
async fn h35_volumes_grow_and_the_set_is_made_anew_around_its_pods() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let (pods, set, sizes) = grown(&around);
    assert_eq!(sizes, ["8Gi"; 4]);
    edit(&around, &size("10Gi"));
    operator.converged().await;
    let (after, anew, sizes) = grown(&around);
    assert_eq!(sizes, ["10Gi"; 4]);
    assert_eq!(
        after, pods,
        "a pod was begun anew for a volume that grows in use"
    );
    assert_ne!(
        anew, set,
        "the set names another size only if it is another set"
    );
    assert_eq!(condition(&around, "StorageReady").0, "True");
    operator.rests(3).await;
}

#[tokio::test]
async fn volumes_that_cannot_grow_are_said_and_hold_nothing_up() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    around.api.store().full = true;
    edit(&around, &size("10Gi"));
    operator.passes(30).await;
    let failed = ("False".to_owned(), "ResizeFailed".to_owned());
    assert_eq!(condition(&around, "StorageReady"), failed);
    assert_eq!(condition(&around, "Available").0, "True");
    // Other work goes on, and a wish that was too large can be taken back.
    edit(&around, &replicas(2));
    operator.passes(60).await;
    assert_eq!(around.group().voters().len(), 2);
    edit(&around, &size("8Gi"));
    operator.converged().await;
    assert_eq!(condition(&around, "StorageReady").0, "True");
    // A class that does not let them grow is asked before anything is written.
    around.api.store().full = false;
    let class = "/apis/storage.k8s.io/v1/storageclasses/standard";
    around.api.store().objects.remove(class);
    edit(&around, &size("20Gi"));
    operator.passes(10).await;
    let refused = ("False".to_owned(), "NotExpandable".to_owned());
    assert_eq!(condition(&around, "StorageReady"), refused);
    edit(&around, &size("4Gi"));
    operator.passes(10).await;
    let refused = ("False".to_owned(), "ShrinkRefused".to_owned());
    assert_eq!(condition(&around, "StorageReady"), refused);
}

/// The growth of a cluster's volumes, with one fault at the writing call of that number.
async fn growth(fault: Option<(usize, Fault)>) -> usize {
    let around = Around::new().await;
    let mut operator = serving(&around, 1).await;
    let (pods, _, _) = grown(&around);
    let begun = around.api.store().writes;
    around.api.store().fault = fault.map(|(number, fault)| (begun + number, fault));
    edit(&around, &size("10Gi"));
    if let Err(why) = operator.converge().await {
        panic!("{fault:?}: {why}");
    }
    let (after, _, sizes) = grown(&around);
    assert_eq!(sizes, ["10Gi"; 2], "{fault:?}");
    assert_eq!(after, pods, "{fault:?}");
    around.api.store().writes - begun
}

#[tokio::test]
async fn h35_a_fault_at_any_write_of_a_growth_changes_nothing_about_the_end() {
    let writes = growth(None).await;
    assert!(
        writes >= 6,
        "only {writes} writes: the faults below reach nothing"
    );
    for number in 0..writes {
        for fault in FAULTS {
            growth(Some((number, fault))).await;
        }
    }
}

#[tokio::test]
async fn h35_deleted_between_two_sets_nothing_runs_on() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    edit(&around, &size("10Gi"));
    while !names(&around, "statefulsets").is_empty() {
        operator.pass().await;
        around.settle();
    }
    assert_eq!(names(&around, "pods").len(), 3);
    delete(&around);
    operator.converged().await;
    around.settle();
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    assert_eq!(names(&around, "kvclusters"), Vec::<String>::new());
}

pub(super) fn delete(around: &Around) {
    let mut store = around.api.store();
    let path = format!("{}/orders", collection("kvclusters"));
    let live = store.objects[&path].clone();
    store.mark_deleted(&path, &live);
}

#[tokio::test]
async fn deleted_with_retain_it_keeps_claims_that_the_next_of_its_name_does_not_touch() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    delete(&around);
    operator.converged().await;
    around.settle();
    around.settle();
    assert_eq!(names(&around, "kvclusters"), Vec::<String>::new());
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    assert_eq!(names(&around, "services"), Vec::<String>::new());
    let claims = around.api.store().all("persistentvolumeclaims");
    assert_eq!(claims.len(), 3);
    for claim in claims.values() {
        let mark = &claim["metadata"]["annotations"]["quorate.dev/retained-from"];
        assert!(mark.is_string(), "{claim}");
    }
    apply_cluster(&around, 3);
    let mut operator = Operator::new(&around);
    operator.passes(30).await;
    let after = around.api.store().all("persistentvolumeclaims");
    assert_eq!(after, claims, "the claims of another cluster were touched");
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    assert_eq!(condition(&around, "Bootstrapped").0, "False");
    let stale = ("False".to_owned(), "StaleVolume".to_owned());
    assert_eq!(condition(&around, "StorageReady"), stale);
}

#[tokio::test]
async fn members_that_are_slow_to_answer_are_neither_replaced_nor_called_a_lost_quorum() {
    let around = Around::new().await;
    let mut operator = serving(&around, 3).await;
    let before = (around.group().config_index, names(&around, "pods"));
    // One alone, while the others are a quorum that could replace it; then two.
    for slot in [1, 2] {
        around.group().mute.insert(slot);
        operator.passes(10).await;
        let after = (around.group().config_index, names(&around, "pods"));
        assert_eq!(after, before, "H8: silence was taken for absence");
    }
    assert_eq!(condition(&around, "QuorumHealthy").0, "True");
    assert_eq!(condition(&around, "MembersReady").0, "False");
    let after = (around.group().config_index, names(&around, "pods"));
    assert_eq!(after, before, "H8: silence was taken for absence");
    around.group().mute.clear();
    operator.converged().await;
    assert_eq!(condition(&around, "MembersReady").0, "True");
}

#[tokio::test]
async fn deleted_with_delete_it_leaves_nothing_behind() {
    let around = Around::new().await;
    apply_cluster(&around, 3);
    edit(
        &around,
        &json!({"spec": {"storage": {"whenDeleted": "Delete"}}}),
    );
    let mut operator = Operator::new(&around);
    operator.converged().await;
    delete(&around);
    operator.converged().await;
    around.settle();
    around.settle();
    let in_namespace = |path: &&String| path.contains("/namespaces/data/");
    let left: Vec<String> = around
        .api
        .store()
        .objects
        .keys()
        .filter(in_namespace)
        .cloned()
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// A whole life with one fault: 1 voter, 2, and 1 again.
async fn life(fault: Option<(usize, Fault)>, call: Option<(usize, CallFault)>) -> (usize, usize) {
    let around = Around::new().await;
    apply_cluster(&around, 2);
    around.api.store().fault = fault;
    around.group().call_fault = call;
    let mut operator = Operator::new(&around);
    for size in [2, 1] {
        edit(&around, &replicas(size));
        if let Err(why) = operator.converge().await {
            panic!("{fault:?} {call:?}: {why}");
        }
        let voters = u32::try_from(around.group().voters().len()).expect("small");
        assert_eq!(voters, size, "{fault:?} {call:?}");
    }
    assert_eq!(
        names(&around, "persistentvolumeclaims"),
        ["data-orders-0"],
        "{fault:?} {call:?}"
    );
    let calls = around.group().calls;
    (around.api.store().writes, calls)
}

#[tokio::test]
async fn a_fault_at_any_write_changes_nothing_about_the_end() {
    let (writes, _) = life(None, None).await;
    assert!(
        writes > 30,
        "only {writes} writes: the faults below reach nothing"
    );
    // A short run gives each write one kind of fault, every kind to every fifth write; a long one
    // (`cargo xtask nightly`) gives every kind to every write.
    let all = std::env::var_os("QUORATE_ALL_FAULTS").is_some();
    for number in 0..writes {
        for (kind, fault) in FAULTS.into_iter().enumerate() {
            if all || kind == number % FAULTS.len() {
                life(Some((number, fault)), None).await;
            }
        }
    }
}

#[tokio::test]
async fn a_fault_at_any_call_to_a_member_changes_nothing_about_the_end() {
    let (_, calls) = life(None, None).await;
    assert!(
        calls >= 5,
        "only {calls} calls: the faults below reach nothing"
    );
    for number in 0..calls {
        for fault in CALL_FAULTS {
            life(None, Some((number, fault))).await;
        }
    }
}

#[tokio::test]
async fn reads_that_lag_behind_lead_to_the_same_end() {
    for lag in [1, 2, 5] {
        let around = Around::new().await;
        apply_cluster(&around, 3);
        let mut operator = Operator::new(&around);
        around.api.store().lag = lag;
        operator.passes(60).await;
        around.api.store().lag = 0;
        operator.converged().await;
        assert_eq!(around.group().voters().len(), 3, "lag {lag}");
        assert_eq!(
            names(&around, "persistentvolumeclaims").len(),
            3,
            "lag {lag}"
        );
    }
}

#[tokio::test]
async fn two_operators_at_once_found_one_cluster() {
    let around = Around::new().await;
    apply_cluster(&around, 3);
    let mut other = Operator::new(&around);
    for _ in 0..60 {
        // One decides and sleeps before its effect; meanwhile the other goes on.
        let mut late =
            Kubernetes::new(around.api.client(), "data", "orders", None, member_settings);
        around.settle();
        let seen = late.observe().await.expect("read").expect("there");
        other.passes(3).await;
        let desired = seen.asked.as_ref().expect("valid");
        if let Some(step) = plan(desired, &seen.observed).step {
            // Whether it is refused or does no harm: the group asserts the rest.
            let _ = late.apply(&seen, &step).await;
        }
    }
    other.converged().await;
    assert_eq!(around.group().voters().len(), 3);
    assert_eq!(names(&around, "pods").len(), 3);
}
