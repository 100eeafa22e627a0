//! Dashboards and alerts read series by name: a running member must report every one of them.

use std::collections::BTreeSet;
use std::fs;

use super::harness::{Cluster, http, wait_for};

/// The names of `deploy/metrics.txt` that a member reports.
fn wanted() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/metrics.txt");
    let list = fs::read_to_string(path).expect("a list made by `cargo xtask fix`");
    let names = list.lines().filter_map(|line| line.strip_prefix("member "));
    names.map(str::to_owned).collect()
}

/// The names of the series that the members report together: some are the leader's alone.
fn reported(cluster: &Cluster) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for slot in 0..3 {
        let answer = http(cluster.port(slot), "GET", "/metrics", "");
        let (status, text) = answer.expect("a member that serves");
        assert_eq!(status, 200, "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#'));
        names.extend(series.filter_map(|line| {
            let end = line.find(['{', ' '])?;
            Some(line[..end].to_owned())
        }));
    }
    names
}

#[test]
fn a_probe_waits_for_yes_and_says_why_it_did_not_come() {
    let cluster = Cluster::start();
    let probe = |path: &str| {
        let page = format!("http://127.0.0.1:{}{path}", cluster.port(0));
        let args = ["probe".to_owned(), page, "--timeout=20s".to_owned()];
        crate::guard::run(&args, b"", cluster.dir.path())
    };
    assert_eq!(probe("/readyz").status.code(), Some(0));
    let nobody = ["probe", "http://127.0.0.1:1/readyz", "--timeout=1s"].map(str::to_owned);
    let refused = crate::guard::run(&nobody, b"", cluster.dir.path());
    assert_eq!(refused.status.code(), Some(1));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("127.0.0.1:1 cannot be reached"), "{words}");
}

#[test]
fn a_running_cluster_reports_every_metric_that_dashboards_and_alerts_read() {
    let cluster = Cluster::start();
    let wanted = wanted();
    assert!(wanted.len() > 30, "the list is short: {wanted:?}");
    wait_for("a write", || {
        let answer = http(cluster.port(0), "PUT", "/key/a", r#"{"value":"1"}"#);
        answer.is_ok_and(|(status, _)| status == 200)
    });
    let mut missing = BTreeSet::new();
    wait_for("the leader to hear from its peers", || {
        let reported = reported(&cluster);
        missing = wanted.difference(&reported).cloned().collect();
        reported.contains("quorate_raft_peer_matched_index")
    });
    assert!(missing.is_empty(), "no member reports {missing:?}");
}
