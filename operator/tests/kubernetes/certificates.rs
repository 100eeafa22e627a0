//! Certificates on Kubernetes: given before the first pod, changed under way, confirmed by every
//! member, with faults at every write.
//!
//! Nodes of this world speak TLS with the files they have, and panic where one would refuse
//! another.

use std::collections::BTreeMap;

use quorate_api::tls::{Certificate, files};
use quorate_operator::certificates::{Authority, ClusterNames, Holder, Use};
use quorate_operator::plan::Requeue;
use serde_json::{Value, json};

use super::api::{FAULTS, Fault, Store, collection, make};
use super::passes::{Operator, condition, message, names, serving, status};
use super::sets::{Around, apply_cluster_with, edit, now_s};

fn managed() -> Value {
    json!({"peer": {"mode": "OperatorManaged"}, "client": {"mode": "OperatorManaged"}})
}

fn peers_only() -> Value {
    json!({"peer": {"mode": "OperatorManaged"}, "client": {"mode": "Disabled"}})
}

/// One entry of a Secret.
fn entry(store: &Store, secret: &str, key: &str) -> Vec<u8> {
    let secrets = store.all("secrets");
    let value = secrets[secret]["data"][key].clone();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(value).expect("base64");
    bytes.0
}

fn leaf(around: &Around, secret: &str) -> Certificate {
    let chain = files::certificates("tls.crt", &entry(&around.api.store(), secret, "tls.crt"));
    Certificate::parse(&chain.expect("a chain")[0]).expect("a leaf")
}

fn request(around: &Around, text: &str) {
    let key = "quorate.dev/rotate-certificates";
    edit(around, &json!({"metadata": {"annotations": {key: text}}}));
}

fn ready(around: &Around) -> (String, String) {
    condition(around, "TLSReady")
}

fn yes(reason: &str) -> (String, String) {
    ("True".to_owned(), reason.to_owned())
}

fn no(reason: &str) -> (String, String) {
    ("False".to_owned(), reason.to_owned())
}

/// The operator of a cluster that has come to serve with this encryption.
async fn serving_with<'a>(around: &'a Around, replicas: u32, tls: &Value) -> Operator<'a> {
    apply_cluster_with(around, replicas, tls);
    let mut operator = Operator::new(around);
    operator.converged().await;
    operator
}

/// Passes until the condition says so.
async fn until(operator: &mut Operator<'_>, around: &Around, wanted: (String, String)) {
    for _ in 0..100 {
        operator.pass().await;
        if ready(around) == wanted {
            return;
        }
    }
    panic!("{wanted:?} never came: {:#?}", status(around).conditions);
}

#[tokio::test]
async fn everything_is_encrypted_before_the_first_pod_begins() {
    let around = Around::new().await;
    apply_cluster_with(&around, 3, &managed());
    let mut operator = Operator::new(&around);
    while names(&around, "pods").is_empty() {
        operator.pass().await;
    }
    let secrets = names(&around, "secrets");
    assert_eq!(
        secrets,
        [
            "orders-client-ca",
            "orders-client-credentials",
            "orders-client-tls",
            "orders-peer-ca",
            "orders-peer-tls"
        ],
        "a pod began before its certificates"
    );
    operator.converged().await;
    assert_eq!(around.group().voters().len(), 3);
    until(&mut operator, &around, yes("Ready")).await;
    let seen = status(&around).certificates.expect("certificates");
    let (peer, client) = (seen.peer.expect("peer"), seen.client.expect("client"));
    assert_eq!(peer.serials, [leaf(&around, "orders-peer-tls").serial]);
    assert_eq!(client.serials, [leaf(&around, "orders-client-tls").serial]);
    assert!(peer.not_after < peer.ca_not_after);
    // The credentials of applications open the client port and nothing else.
    let theirs = leaf(&around, "orders-client-credentials");
    assert_eq!(theirs.issuer, leaf(&around, "orders-client-tls").issuer);
    assert_ne!(theirs.issuer, leaf(&around, "orders-peer-tls").issuer);
    // Nothing is written to a quiet cluster, and another operator finds it as it is.
    let mut next = Operator::new(&around);
    for _ in 0..10 {
        operator.rests(1).await;
        next.rests(1).await;
    }
}

#[tokio::test]
async fn keys_of_authorities_reach_no_pod() {
    let around = Around::new().await;
    serving_with(&around, 1, &managed()).await;
    let set = around.api.store().all("statefulsets")["orders"].to_string();
    assert!(
        set.contains("orders-peer-tls") && set.contains("orders-client-tls"),
        "{set}"
    );
    for secret in [
        "orders-peer-ca",
        "orders-client-ca",
        "orders-client-credentials",
    ] {
        assert!(!set.contains(secret), "{secret} is mounted");
    }
    assert!(
        !set.contains("subPath"),
        "a file mounted alone never changes"
    );
}

#[tokio::test]
async fn a_leaf_asked_for_by_hand_is_made_once_and_taken_by_all() {
    let around = Around::new().await;
    let mut operator = serving_with(&around, 3, &managed()).await;
    let before = leaf(&around, "orders-peer-tls");
    let pods = names(&around, "pods");
    let uids = |around: &Around| -> Vec<String> {
        let pods = around.api.store().all("pods").into_values();
        pods.map(|pod| pod["metadata"]["uid"].to_string()).collect()
    };
    let lives = uids(&around);
    request(&around, "leaf,token=1");
    operator.pass().await;
    until(&mut operator, &around, yes("Ready")).await;
    let after = leaf(&around, "orders-peer-tls");
    assert_ne!(after.serial, before.serial);
    assert_eq!(after.issuer, before.issuer);
    let serials = status(&around).certificates.and_then(|seen| seen.peer);
    let serials = serials.expect("peer").serials;
    assert_eq!(serials.concat(), after.serial);
    operator.passes(10).await;
    assert_eq!(
        leaf(&around, "orders-peer-tls"),
        after,
        "one token makes one leaf"
    );
    assert_eq!(
        (names(&around, "pods"), uids(&around)),
        (pods, lives),
        "a pod was restarted"
    );
}

#[tokio::test]
async fn a_request_that_is_mistyped_is_told_where_people_look() {
    let around = Around::new().await;
    let mut operator = serving_with(&around, 1, &peers_only()).await;
    let before = leaf(&around, "orders-peer-tls");
    request(&around, "leaves");
    operator.pass().await;
    assert_eq!(ready(&around), yes("Ready"));
    let message = message(&around, "TLSReady");
    assert!(
        message.contains("`leaves` is ignored; write leaf,token=<any>"),
        "{message}"
    );
    assert_eq!(leaf(&around, "orders-peer-tls"), before);
}

/// A change of both authorities, to the end; the panics of the world say the rest.
async fn change_authorities(operator: &mut Operator<'_>, around: &Around, token: u32) {
    let old = leaf(around, "orders-peer-tls").issuer;
    request(around, &format!("ca,token={token},grace=0s"));
    let done = |around: &Around| {
        let phase = status(around).certificates.and_then(|seen| seen.phase);
        phase.as_deref() == Some("Stable") && leaf(around, "orders-peer-tls").issuer != old
    };
    for _ in 0..150 {
        operator.pass().await;
        if done(around) && ready(around) == yes("Ready") {
            return;
        }
    }
    panic!("the authorities were not changed: {:#?}", status(around));
}

#[tokio::test]
async fn the_authorities_change_in_three_phases_that_every_member_confirms() {
    let around = Around::new().await;
    let mut operator = serving_with(&around, 3, &managed()).await;
    let clients = leaf(&around, "orders-client-tls").issuer;
    change_authorities(&mut operator, &around, 1).await;
    // The authority of clients follows by itself.
    until(&mut operator, &around, yes("Ready")).await;
    let (port, theirs) = (
        leaf(&around, "orders-client-tls"),
        leaf(&around, "orders-client-credentials"),
    );
    assert_ne!(port.issuer, clients);
    assert_eq!(theirs.issuer, port.issuer);
    for secret in [
        "orders-peer-tls",
        "orders-client-tls",
        "orders-client-credentials",
    ] {
        let bundle = entry(&around.api.store(), secret, "ca.crt");
        let trusted = files::certificates("ca.crt", &bundle).expect("PEM");
        assert_eq!(trusted.len(), 1, "{secret} still trusts the old authority");
    }
    assert_eq!(around.group().voters().len(), 3);
}

#[tokio::test]
async fn a_member_that_takes_no_files_holds_the_phase_and_is_named() {
    let around = Around::new().await;
    let mut operator = serving_with(&around, 3, &peers_only()).await;
    around.group().stale.insert(1);
    request(&around, "ca,token=1");
    operator.passes(30).await;
    let next = operator.pass().await;
    assert_eq!(next, Some(Requeue::Soon), "nobody tells when it has them");
    assert_eq!(ready(&around), yes("WaitingForMember"));
    let seen = status(&around);
    assert_eq!(
        seen.certificates.and_then(|seen| seen.phase).as_deref(),
        Some("TrustBoth")
    );
    let message = message(&around, "TLSReady");
    assert!(
        message.contains("orders-1") && message.contains("TrustBoth"),
        "{message}"
    );
    around.group().stale.clear();
    until(&mut operator, &around, yes("Ready")).await;
}

#[tokio::test]
async fn applications_are_given_time_before_they_could_be_cut_off() {
    let around = Around::new().await;
    let mut operator = serving_with(&around, 1, &managed()).await;
    let before = leaf(&around, "orders-client-credentials").issuer;
    request(&around, "ca,token=1");
    operator.passes(60).await;
    // Both are trusted, and nothing of the new one is shown yet.
    let bundle = entry(&around.api.store(), "orders-client-credentials", "ca.crt");
    assert_eq!(
        files::certificates("ca.crt", &bundle).expect("PEM").len(),
        2
    );
    assert_eq!(leaf(&around, "orders-client-tls").issuer, before);
    assert_eq!(ready(&around), yes("WaitingForClients"));
    assert_eq!(operator.pass().await, Some(Requeue::Idle), "a day is long");
    // A day later.
    let path = format!("{}/orders-client-ca", collection("secrets"));
    for _ in 0..2 {
        {
            let mut store = around.api.store();
            let mut secret = store.objects[&path].clone();
            let since = json!((now_s() - 90_000).to_string());
            secret["metadata"]["annotations"]["quorate.dev/ca-phase-since"] = since;
            store.put(&path, secret);
        }
        operator.passes(20).await;
    }
    until(&mut operator, &around, yes("Ready")).await;
    assert_ne!(leaf(&around, "orders-client-credentials").issuer, before);
}

#[tokio::test]
async fn secrets_of_another_cluster_are_neither_used_nor_touched() {
    let around = Around::new().await;
    apply_cluster_with(&around, 1, &peers_only());
    let foreign = json!({"metadata": {"name": "orders-peer-ca"}, "data": {"ca.crt": "eA=="}});
    make(&mut around.api.store(), "secrets", foreign);
    let mut operator = Operator::new(&around);
    operator.passes(20).await;
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    let secret = around.api.store().all("secrets")["orders-peer-ca"].clone();
    assert_eq!(secret["data"], json!({"ca.crt": "eA=="}));
    assert_eq!(ready(&around).0, "Unknown");
}

#[tokio::test]
async fn encryption_between_members_cannot_be_switched() {
    for (before, after) in [
        ("Disabled", "OperatorManaged"),
        ("OperatorManaged", "Disabled"),
    ] {
        let around = Around::new().await;
        let tls = |mode: &str| json!({"peer": {"mode": mode}, "client": {"mode": "Disabled"}});
        let mut operator = serving_with(&around, 1, &tls(before)).await;
        let set = around.api.store().all("statefulsets")["orders"].clone();
        edit(&around, &json!({"spec": {"tls": tls(after)}}));
        operator.passes(10).await;
        assert_eq!(
            around.api.store().all("statefulsets")["orders"],
            set,
            "{after}"
        );
        assert_eq!(
            condition(&around, "Degraded"),
            yes("InvalidSpec"),
            "{after}"
        );
        // Also a new operator, which knows no last valid spec, leaves everything as it is.
        let mut next = Operator::new(&around);
        next.passes(10).await;
        assert_eq!(
            around.api.store().all("statefulsets")["orders"],
            set,
            "{after}"
        );
        edit(&around, &json!({"spec": {"tls": tls(before)}}));
        next.converged().await;
        assert_eq!(condition(&around, "Degraded").0, "False", "{after}");
    }
}

/// A Secret as somebody brings it, signed by an authority of theirs.
fn brought(name: &str, cluster: &str, life_s: i64, with_authority: bool) -> Value {
    let names = ClusterNames {
        cluster: cluster.to_owned(),
        namespace: "data".to_owned(),
        domain: None,
        peer_service: format!("{cluster}-peers"),
        client_services: vec![format!("{cluster}-client")],
    };
    let began_s = now_s() - 1000;
    let authority = Authority::create(&names, Use::Peer, began_s, 100_000).expect("an authority");
    let leaf = authority
        .issue(&names, Holder::Member, began_s, life_s)
        .expect("a leaf");
    let text = |text: &str| json!(k8s_openapi::ByteString(text.as_bytes().to_vec()));
    let mut data = BTreeMap::from([
        ("tls.crt", text(&leaf.certificate_pem)),
        ("tls.key", text(&leaf.key_pem)),
    ]);
    if with_authority {
        data.insert("ca.crt", text(&authority.kept().certificate_pem));
    }
    json!({"metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn what_somebody_brings_is_checked_before_members_meet_it() {
    let around = Around::new().await;
    let tls = json!({"peer": {"mode": "Secret", "secretName": "mine"},
        "client": {"mode": "Disabled"}});
    apply_cluster_with(&around, 1, &tls);
    let mut operator = Operator::new(&around);
    let day = 86_400;
    let cases = [
        (None, "WaitingForIssuer", "Secret mine does not exist"),
        (
            Some(brought("mine", "orders", day, false)),
            "PeerCANotShared",
            "no ca.crt",
        ),
        (
            Some(brought("mine", "other", day, true)),
            "NotInForce",
            "orders-0.orders-peers.data.svc",
        ),
        (
            Some(brought("mine", "orders", 500, true)),
            "NotInForce",
            "expired",
        ),
        (
            Some(json!({"metadata": {"name": "mine"}, "data": {"tls.crt": "eA=="}})),
            "NotInForce",
            "tls.crt",
        ),
    ];
    let path = format!("{}/mine", collection("secrets"));
    for (secret, reason, text) in cases {
        around.api.store().objects.remove(&path);
        if let Some(secret) = secret {
            make(&mut around.api.store(), "secrets", secret);
        }
        operator.passes(15).await;
        assert_eq!(ready(&around), no(reason), "{text}");
        let message = message(&around, "TLSReady");
        assert!(message.contains(text), "{text}: {message}");
        assert_eq!(names(&around, "pods"), Vec::<String>::new(), "{text}");
    }
    around.api.store().objects.remove(&path);
    make(
        &mut around.api.store(),
        "secrets",
        brought("mine", "orders", day, true),
    );
    operator.converged().await;
    until(&mut operator, &around, yes("Ready")).await;
    // The admin port does not depend on it: its certificates are the operator's own.
    let set = around.api.store().all("statefulsets")["orders"].to_string();
    assert!(
        set.contains("--admin-cert-allowed-cn=orders.data.operator"),
        "{set}"
    );
    // What becomes unusable later is told, and nothing is stopped for it.
    around.api.store().objects.remove(&path);
    operator.pass().await;
    assert_eq!(ready(&around), no("WaitingForIssuer"));
    assert_eq!(names(&around, "pods"), ["orders-0"]);
}

#[tokio::test]
async fn cert_manager_is_asked_and_what_it_gives_is_checked() {
    let around = Around::new().await;
    let issuer = json!({"name": "corporate", "kind": "ClusterIssuer", "group": "cert-manager.io"});
    let tls = json!({"peer": {"mode": "CertManager", "issuerRef": issuer},
        "client": {"mode": "Disabled"}});
    apply_cluster_with(&around, 1, &tls);
    let mut operator = Operator::new(&around);
    operator.passes(25).await;
    let certificate = around.api.store().all("certificates")["orders-peer"].clone();
    assert_eq!(certificate["spec"]["issuerRef"], issuer);
    let names_wanted = certificate["spec"]["dnsNames"].as_array().expect("names");
    assert!(
        names_wanted.contains(&json!("*.orders-peers.data.svc")),
        "{names_wanted:?}"
    );
    assert_eq!(ready(&around), no("WaitingForIssuer"));
    assert_eq!(names(&around, "pods"), Vec::<String>::new());
    // What cert-manager does.
    let secret = certificate["spec"]["secretName"]
        .as_str()
        .expect("a Secret")
        .to_owned();
    make(
        &mut around.api.store(),
        "secrets",
        brought(&secret, "orders", 86_400, true),
    );
    operator.converged().await;
    until(&mut operator, &around, yes("Ready")).await;
}

/// A cluster's life with encryption: founded, and its authority changed, with one fault.
async fn life(fault: Option<(usize, Fault)>) -> usize {
    let around = Around::new().await;
    apply_cluster_with(&around, 1, &managed());
    around.api.store().fault = fault;
    let mut operator = Operator::new(&around);
    if let Err(why) = operator.converge().await {
        panic!("{fault:?}: {why}");
    }
    change_authorities(&mut operator, &around, 1).await;
    assert_eq!(names(&around, "secrets").len(), 5, "{fault:?}");
    assert_eq!(around.group().voters().len(), 1, "{fault:?}");
    around.api.store().writes
}

#[tokio::test]
async fn a_fault_at_any_write_of_certificates_changes_nothing_about_the_end() {
    let writes = life(None).await;
    assert!(
        writes > 40,
        "only {writes} writes: the faults below reach nothing"
    );
    for number in 0..writes {
        life(Some((number, FAULTS[number % FAULTS.len()]))).await;
    }
}

#[tokio::test]
async fn a_cluster_in_the_clear_has_no_secrets() {
    let around = Around::new().await;
    serving(&around, 1).await;
    assert_eq!(names(&around, "secrets"), Vec::<String>::new());
    assert_eq!(ready(&around), yes("Disabled"));
}
