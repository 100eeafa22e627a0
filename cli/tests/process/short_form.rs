//! Three lines, one per terminal, in any order: a cluster.

use super::harness::{free_ports, http, json, spawn_node, wait_for};
use std::process::{Child, Command, Stdio};

struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.0 {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn start(dir: &std::path::Path, base: u16, node: u16) -> Child {
    let peers: Vec<String> = (1..=3)
        .filter(|other| *other != node)
        .map(|other| format!("localhost:{}", base + other))
        .collect();
    let args = [
        "--id".to_owned(),
        format!("node{node}"),
        "--port".to_owned(),
        (base + node).to_string(),
        "--peers".to_owned(),
        peers.join(","),
        format!("--data-dir={}", dir.join(format!("node{node}")).display()),
    ];
    spawn_node(&args, &dir.join(format!("node{node}.log")))
}

#[test]
fn three_short_lines_form_one_cluster_and_resume_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = free_ports();
    for (life, order) in [[3, 1, 2], [2, 3, 1]].into_iter().enumerate() {
        let mut nodes = Nodes(Vec::new());
        nodes.0.push(start(dir.path(), base, order[0]));
        wait_for("the first to listen, alone", || {
            http(base + order[0], "GET", "/livez", "").is_ok_and(|(status, _)| status == 200)
        });
        let ready =
            |node| http(base + node, "GET", "/health", "").is_ok_and(|(code, _)| code == 200);
        assert!(
            !ready(order[0]),
            "one of three must not call itself healthy"
        );
        nodes.0.push(start(dir.path(), base, order[1]));
        nodes.0.push(start(dir.path(), base, order[2]));
        for node in 1..=3 {
            wait_for(&format!("node{node} to be healthy"), || ready(node));
        }
        if life == 0 {
            let (status, _) = http(base + 1, "PUT", "/key/greeting", "{\"value\":\"hello\"}")
                .expect("a put is answered");
            assert_eq!(status, 200);
        }
        for node in 1..=3 {
            let (status, reply) = json(base + node, "GET", "/key/greeting", "").expect("an answer");
            assert_eq!(
                (status, reply["value"].as_str()),
                (200, Some("hello")),
                "node{node}"
            );
        }
    }
}

/// Tools that start an etcd can start Quorate: a link of that name takes etcd's flags.
#[test]
fn called_as_etcd_with_etcds_flags_three_members_form_a_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let etcd = dir.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quorate"), &etcd).expect("a link");
    let base = free_ports();
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let initial: Vec<String> = (0..3)
        .map(|n| format!("infra{n}={}", url(base + 10 * n + 1)))
        .collect();
    let mut nodes = Nodes(Vec::new());
    for n in 0..3 {
        let (client, peer) = (url(base + 10 * n), url(base + 10 * n + 1));
        let log = std::fs::File::create(dir.path().join(format!("infra{n}.log"))).expect("a log");
        let child = Command::new(&etcd)
            .args(["--name", &format!("infra{n}")])
            .arg("--data-dir")
            .arg(dir.path().join(format!("infra{n}.etcd")))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &initial.join(","),
                "--initial-cluster-state",
                "new",
            ])
            .args(["--initial-cluster-token", "tkn", "--heartbeat-interval=100"])
            .args(["--election-timeout=1000", "--snapshot-count=10000"])
            .args([
                "--quota-backend-bytes=8589934592",
                "--logger=zap",
                "--log-level=info",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the link starts");
        nodes.0.push(child);
    }
    for n in 0..3 {
        wait_for(&format!("infra{n} to be healthy"), || {
            http(base + 10 * n, "GET", "/health", "").is_ok_and(|(code, _)| code == 200)
        });
    }
    let (status, _) =
        http(base, "PUT", "/key/greeting", "{\"value\":\"hello\"}").expect("an answer");
    assert_eq!(status, 200);
    let (status, reply) = json(base + 20, "GET", "/key/greeting", "").expect("an answer");
    assert_eq!((status, reply["value"].as_str()), (200, Some("hello")));
}
