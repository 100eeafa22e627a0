//! Manifests: what is accepted, and what people are told about the rest.

use crate::settings::member_settings;
use quorate_operator::crd::KvCluster;
use quorate_operator::manifest::{MANIFEST_BYTES_MAX, parse};
use quorate_operator::record::Record;
use quorate_operator::validate::validate;

const HEAD: &str = "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\nmetadata: {name: a}\n";

/// Parses and validates; every error as one text.
fn check(text: &str) -> Result<KvCluster, String> {
    let cluster = parse("a.yaml", text).map_err(|error| error.to_string())?;
    validate(&cluster, &Record::default(), member_settings).map_err(|error| error.to_string())?;
    Ok(cluster)
}

#[test]
fn the_example_is_valid_and_wants_three_members() {
    let text = include_str!("../../deploy/examples/kvcluster.yaml");
    assert_eq!(check(text).expect("valid").spec.replicas, 3);
}

#[test]
fn every_example_of_the_repository_is_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let shown = path.display().to_string();
        let cluster = parse(&shown, &text).unwrap_or_else(|error| panic!("{error}"));
        validate(&cluster, &Record::default(), member_settings)
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        names.push(path.file_name().map(std::ffi::OsStr::to_owned));
    }
    assert!(names.len() >= 2, "only {names:?}");
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let spec = check(&format!("{HEAD}spec: {{}}\n")).expect("valid").spec;
    assert_eq!((spec.replicas, spec.storage.size.as_str()), (3, "8Gi"));
    assert_eq!(spec.repair.learner_deadline, "15m");
    assert_eq!(spec.termination_grace_period_seconds, 60);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, a row per mistake")]
fn mistakes_are_named_with_place_and_remedy() {
    for (body, expected) in [
        (
            "spec: {replica: 3}",
            "a.yaml:4:8: spec.replica: is not a field; did you mean `replicas`?",
        ),
        (
            "spec:\n  replicas: 8",
            "spec.replicas: 8 is out of range; use 1 to 7",
        ),
        (
            "spec:\n  replicas: three",
            "a.yaml:5:13: spec.replicas: `three` is text; a whole number",
        ),
        (
            "spec:\n  version: 0.3",
            "spec.version: 0.3 is a number; put it in quotes",
        ),
        (
            "spec: {version: latest}",
            "spec.version: `latest` is no version; write it as in `0.1.0`",
        ),
        (
            "spec: {storage: {size: 1Mi}}",
            "spec.storage.size: 1Mi is too small; at least 64Mi",
        ),
        (
            "spec: {storage: {size: big}}",
            "spec.storage.size: `big` is no size",
        ),
        (
            "spec: {storage: {whenScaled: Keep}}",
            "`Keep` is not known; write one of Retain, Delete",
        ),
        (
            "spec: {repair: {learnerDeadline: soon}}",
            "spec.repair.learnerDeadline: `soon` is no",
        ),
        (
            "spec: {config: {data-dir: /x}}",
            "spec.config.data-dir: is set by the operator",
        ),
        (
            "spec: {config: {experimental-data-dir: /x}}",
            "spec.config.experimental-data-dir: is set by the operator",
        ),
        (
            "spec: {config: {auto-compaction-retention: 1h}}",
            "has a field of its own; use spec.autoCompaction.retention",
        ),
        (
            "spec: {config: {quota-backend-bytes: '1'}}",
            "spec.config.quota-backend-bytes: has a field of its own; use spec.quotaBackendBytes",
        ),
        (
            "spec: {env: [{name: A, value: b}, {name: ETCD_DATA_DIR, value: /x}]}",
            "spec.env[1].name: `ETCD_DATA_DIR` is set by the operator; leave it out",
        ),
        (
            "spec: {env: [{name: ETCD_LOG_FORMAT, value: text}]}",
            "spec.env[0].name: `ETCD_LOG_FORMAT` is set by the operator; leave it out",
        ),
        (
            "spec: {env: [{name: ETCD_AUTO_COMPACTION_RETENTION, value: '24'}]}",
            "spec.env[0].name: `ETCD_AUTO_COMPACTION_RETENTION` has a field of its own; use \
             spec.autoCompaction.retention",
        ),
        (
            "spec: {config: {a: '1', max-wals: refused}}",
            "spec.config.max-wals: --max-wals=refused is not allowed",
        ),
        (
            "spec: {autoCompaction: {retention: refused}}",
            "spec.autoCompaction.retention: --auto-compaction-retention=refused is not allowed",
        ),
        (
            "spec: {autoCompaction: {mode: periodic}}",
            "`periodic` is not known; write one of Periodic, Revision",
        ),
        (
            "spec: {quotaBackendBytes: -1}",
            "spec.quotaBackendBytes: -1 is out of range",
        ),
        (
            "spec: {auth: {enabled: true}}",
            "spec.auth.rootSecretName: is needed",
        ),
        (
            "spec: {tls: {peer: {mode: Secret}}}",
            "spec.tls.peer.secretName: is needed",
        ),
        (
            "spec: {backup: {schedule: daily}}",
            "spec.backup.destination: is needed",
        ),
        (
            "spec: {bootstrap: {}}",
            "spec.bootstrap: exactly one of new, restore, adopt",
        ),
        ("spec: {replicas: 1, replicas: 2}", "replicas"),
        (
            "status: {}\nspec: {}",
            "status: is written by the operator; remove it",
        ),
        ("spec: [1]", "spec: this is a list; fields are wanted here"),
        ("spec: {", "a.yaml:"),
        ("", "spec: is missing"),
    ] {
        let error = check(&format!("{HEAD}{body}\n")).expect_err(body);
        assert!(
            error.contains(expected),
            "{body:?} was told\n  {error}\nnot\n  {expected}"
        );
    }
}

#[test]
fn one_cluster_in_a_file_no_more_and_no_less() {
    let one = format!("{HEAD}spec: {{}}\n");
    let secret = "apiVersion: v1\nkind: Secret\n";
    assert!(check(&format!("{secret}---\n{one}")).is_ok());
    for (text, expected) in [
        (
            format!("{one}---\n{one}"),
            "is the second KvCluster; the first is at line 1",
        ),
        (secret.to_owned(), "contains Secret; one KvCluster"),
        (String::new(), "is empty; one KvCluster"),
        (
            one.replace("v1alpha1", "v2"),
            "apiVersion: `quorate.dev/v2` is not known",
        ),
        ("#".repeat(MANIFEST_BYTES_MAX + 1), "a manifest may have"),
    ] {
        let error = check(&text).expect_err(expected);
        assert!(
            error.contains(expected),
            "told\n  {error}\nnot\n  {expected}"
        );
    }
}
