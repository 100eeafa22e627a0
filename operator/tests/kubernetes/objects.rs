//! The objects of a cluster, byte for byte: an accidental change of a template rolls every cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use quorate_operator::crd::KvCluster;
use quorate_operator::ids::ObjectUid;
use quorate_operator::platform::kubernetes::Names;
use quorate_operator::platform::kubernetes::objects::{Inputs, render, set};
use serde_json::{Value, json};

fn names() -> Names {
    Names {
        namespace: "data".to_owned(),
        cluster: "orders".to_owned(),
        uid: ObjectUid::from("11111111-2222-3333-4444-555555555555"),
        domain: None,
    }
}

fn cluster(spec: &serde_json::Value) -> KvCluster {
    let body = json!({
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "KvCluster",
        "metadata": {"name": "orders", "namespace": "data"},
        "spec": spec,
    });
    serde_json::from_value(body).expect("a KvCluster")
}

fn yaml(cluster: &KvCluster, voters: u32) -> String {
    let names = names();
    let inputs = Inputs {
        names: &names,
        spec: &cluster.spec,
        epoch: 1,
        voters,
        restarted_at: None,
    };
    let mut text = String::new();
    for object in render(&inputs).expect("rendered") {
        let _ = writeln!(text, "# {}", object.id);
        match object.body {
            Some(body) => {
                let shown = serde_saphyr::to_string(&body).expect("YAML");
                let _ = writeln!(text, "{shown}---");
            }
            None => text.push_str("must not exist\n---\n"),
        }
    }
    let set = set(&inputs).expect("rendered");
    let shown = serde_saphyr::to_string(&set.body).expect("YAML");
    let _ = write!(text, "# the set\n{shown}");
    text
}

/// Compares with the file, or writes it when `UPDATE_GOLDENFILES` is set.
fn check(name: &str, found: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/golden");
    let path = Path::new(folder).join(name);
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, found).expect("the golden file is written");
        return;
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file");
    assert!(
        expected == found,
        "{name} differs from what is rendered. If that is meant, run the tests with \
         UPDATE_GOLDENFILES=1: every cluster will be rolled. Rendered:\n{found}"
    );
}

#[test]
fn a_cluster_of_defaults_renders_as_it_did() {
    check("defaults.yaml", &yaml(&cluster(&json!({})), 3));
}

#[test]
fn a_cluster_with_everything_set_renders_as_it_did() {
    let spec = json!({
        "replicas": 5,
        "version": "0.3.1",
        "image": {"repository": "registry:5000/quorate", "digest": "sha256:abc",
                  "pullSecrets": [{"name": "pull"}]},
        "storage": {"size": "20Gi", "storageClassName": "fast", "accessMode": "ReadWriteOncePod"},
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}},
        "scheduling": {"nodeSelector": {"disk": "ssd"}, "priorityClassName": "database",
            "tolerations": [{"key": "db", "operator": "Exists"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule"}]},
        "podMetadata": {"labels": {"team": "a"}, "annotations": {"team.example.com/owner": "b"}},
        "containerSecurityContext": {"readOnlyRootFilesystem": false},
        "env": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"volume": {"name": "tmp", "emptyDir": {}}, "mountPath": "/tmp"}],
        "terminationGracePeriodSeconds": 90,
        "config": {"heartbeat-interval": "100", "election-timeout": "1000"},
        "quotaBackendBytes": 8_589_934_592_i64,
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"},
            "externalTrafficPolicy": "Local"},
        "podDisruptionBudget": {"enabled": false},
        "networkPolicy": {"enabled": true, "clientFrom": [{"podSelector": {}}]},
        "clusterDomain": "example.org",
        "serviceAccountName": "own",
    });
    check("everything.yaml", &yaml(&cluster(&spec), 3));
}

#[test]
fn what_does_not_concern_pods_leaves_the_template_as_it_is() {
    let names = names();
    let template = |spec: &serde_json::Value, voters| {
        let cluster = cluster(spec);
        let inputs = Inputs {
            names: &names,
            spec: &cluster.spec,
            epoch: 1,
            voters,
            restarted_at: None,
        };
        let set = set(&inputs).expect("rendered");
        (set.digest, set.inputs)
    };
    let before = template(&json!({}), 1);
    for same in [
        json!({"replicas": 7}),
        json!({"paused": true}),
        json!({"storage": {"size": "9Gi"}}),
        json!({"podDisruptionBudget": {"enabled": false}}),
        json!({"quotaBackendBytes": 1_000_000_000}),
        json!({"autoCompaction": {"mode": "Revision", "retention": "1000"}}),
        json!({"config": {"log-level": "debug"}}),
    ] {
        assert_eq!(template(&same, 7), before, "{same} rolls the cluster");
    }
    for other in [
        json!({"config": {"election-timeout": "2000"}}),
        json!({"image": {"tag": "next"}}),
        json!({"resources": {"limits": {"memory": "3Gi"}}}),
    ] {
        assert_ne!(template(&other, 1), before, "{other} reaches no pod");
    }
}

#[test]
fn the_budget_is_the_quorum_of_the_larger_of_what_is_and_what_is_wanted() {
    let names = names();
    // Voters, wanted, what must stay available (section 6.5 of the reference).
    let table = [
        (1, 1, 1),
        (3, 3, 2),
        (5, 5, 3),
        (7, 7, 4),
        (3, 5, 3),
        (5, 3, 3),
        (0, 3, 2),
        (2, 2, 2),
    ];
    for (voters, wanted, needed) in table {
        let cluster = cluster(&json!({"replicas": wanted}));
        let inputs = Inputs {
            names: &names,
            spec: &cluster.spec,
            epoch: 1,
            voters,
            restarted_at: None,
        };
        let objects = render(&inputs).expect("rendered");
        let budget = objects
            .iter()
            .find(|object| object.id == "poddisruptionbudget/orders");
        let body = budget
            .and_then(|budget| budget.body.as_ref())
            .expect("a budget");
        assert_eq!(
            body["spec"]["minAvailable"], needed,
            "{voters} voters, {wanted} wanted"
        );
        assert_eq!(
            body["spec"]["selector"]["matchLabels"]["quorate.dev/role"],
            "voter"
        );
    }
}

#[test]
fn the_pod_keeps_to_the_restricted_profile() {
    let cluster = cluster(&json!({}));
    let names = names();
    let inputs = Inputs {
        names: &names,
        spec: &cluster.spec,
        epoch: 1,
        voters: 0,
        restarted_at: None,
    };
    let set = set(&inputs).expect("rendered").body;
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    let context = &pod["containers"][0]["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(set["spec"]["updateStrategy"]["type"], "OnDelete");
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(
        set["spec"].get("replicas"),
        None,
        "a template carries no size"
    );
    let text = set.to_string();
    assert!(
        !text.contains("initial-cluster"),
        "H6: a list of members in the template"
    );
}

/// The set and the objects around it, by id.
fn rendered(spec: &serde_json::Value, names: &Names) -> (Value, BTreeMap<String, Value>) {
    let cluster = cluster(spec);
    let inputs = Inputs {
        names,
        spec: &cluster.spec,
        epoch: 1,
        voters: 3,
        restarted_at: None,
    };
    let objects = render(&inputs).expect("rendered").into_iter();
    let objects = objects.filter_map(|object| Some((object.id, object.body?)));
    (set(&inputs).expect("rendered").body, objects.collect())
}

#[test]
fn a_lost_quorum_restarts_nobody_and_all_start_at_once() {
    let (set, objects) = rendered(&json!({}), &names());
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let path = |probe: &str| container[probe]["httpGet"]["path"].clone();
    // `/readyz` is a linearizable read; `/livez` answers while the process runs (H40).
    assert_eq!(path("livenessProbe"), "/livez");
    assert_eq!(path("startupProbe"), "/livez");
    assert_eq!(path("readinessProbe"), "/readyz");
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel", "H41");
    let peers = &objects["service/orders-peers"]["spec"];
    assert_eq!(peers["publishNotReadyAddresses"], true, "H46");
    // A pod that stops sleeps and hands over; it calls nobody (H31).
    let hook = &container["lifecycle"]["preStop"];
    assert_eq!(hook, &json!({"sleep": {"seconds": 2}}));
}

#[test]
fn what_may_be_evicted_follows_from_voters_size_and_health() {
    // Size, voters that are ready, evictions of ready pods that are allowed (section 6.5).
    let table = [
        (1, 1, 0),
        (2, 2, 0),
        (3, 3, 1),
        (3, 2, 0),
        (4, 4, 1),
        (5, 5, 2),
        (5, 4, 1),
        (5, 3, 0),
        (7, 7, 3),
    ];
    for (size, ready, allowed) in table {
        let (_, objects) = rendered(&json!({"replicas": size}), &names());
        let budget = &objects["poddisruptionbudget/orders"]["spec"];
        // `rendered` has three voters: never more than the budget was raised for.
        let needed = i64::max(size, 3) / 2 + 1;
        assert_eq!(budget["minAvailable"], needed, "{size}");
        if size >= 3 {
            assert_eq!(i64::max(ready - needed, 0), allowed, "{ready} of {size}");
        }
        // A broken pod may go while the others meet the budget, a ready one then may not (H39).
        assert_eq!(budget["unhealthyPodEvictionPolicy"], "IfHealthyBudget");
        assert_eq!(
            budget["selector"]["matchLabels"]["quorate.dev/role"], "voter",
            "H38"
        );
    }
}

#[test]
fn every_name_of_a_member_ends_in_the_domain_that_was_asked_for() {
    for (domain, end) in [
        (None, ".data.svc"),
        (Some("cluster.local"), ".data.svc.cluster.local"),
        (Some("k8s.example.org"), ".data.svc.k8s.example.org"),
    ] {
        let names = Names {
            domain: domain.map(str::to_owned),
            ..names()
        };
        assert!(
            names.peer_domain().ends_with(end),
            "{domain:?}: {}",
            names.peer_domain()
        );
        let (set, _) = rendered(&json!({}), &names);
        let arguments = set["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        let me = format!("$(POD_NAME).{}:2380", names.peer_domain());
        assert!(arguments.contains(&me), "{domain:?}: {arguments}");
    }
}

#[test]
fn an_image_is_taken_as_it_is() {
    let image = |image: Value| {
        let (set, _) = rendered(&json!({"version": "1.2.3", "image": image}), &names());
        set["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    for (spec, wanted) in [
        (json!({"repository": "host:5000/x"}), "host:5000/x:1.2.3"),
        (
            json!({"repository": "host:5000/x", "tag": "t"}),
            "host:5000/x:t",
        ),
        (
            json!({"repository": "x", "digest": "sha256:ab"}),
            "x@sha256:ab",
        ),
        (
            json!({"repository": "host:5000/x", "tag": "t", "digest": "sha256:ab"}),
            "host:5000/x@sha256:ab",
        ),
    ] {
        assert_eq!(image(spec.clone()), wanted, "{spec}");
    }
}
