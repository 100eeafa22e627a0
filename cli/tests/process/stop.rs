//! Members that are told to stop: leadership is handed over, nobody waits for somebody who has
//! left.

use super::harness::{Cluster, http, json, rounds, wait_for};

/// What a member has logged since it was last told to stop.
fn since_told(cluster: &Cluster, slot: usize) -> String {
    let log = cluster.log(slot);
    let (_, since) = log
        .rsplit_once("stopping: SIGTERM")
        .expect("it was told to stop");
    since.to_owned()
}

/// How it looks when a leader has waited for an election timeout: for a successor that does not
/// come, or until it notices that it has lost its quorum.
fn assert_waited_for_nobody(log: &str) {
    let count = |what| log.matches(what).count();
    assert_eq!(count("QuorumLost"), 0, "{log}");
    let (given_up, gone) = (
        "leadership transfer given up",
        "the successor has gone away",
    );
    assert!(count(given_up) <= count(gone), "{log}");
}

fn leader(cluster: &Cluster, slots: &[usize]) -> Option<usize> {
    slots.iter().copied().find(|slot| {
        let status = json(cluster.port(*slot), "GET", "/status", "");
        status.is_ok_and(|(_, status)| status["role"] == "leader")
    })
}

fn wait_leader(cluster: &Cluster, slots: &[usize]) -> usize {
    let mut found = None;
    wait_for("somebody to lead", || {
        found = leader(cluster, slots);
        found.is_some()
    });
    found.expect("waited for")
}

#[test]
fn members_that_stop_together_wait_for_nobody_and_keep_everything() {
    let mut cluster = Cluster::start();
    for round in 0..rounds() + 1 {
        wait_leader(&cluster, &[0, 1, 2]);
        let path = format!("/key/round{round}");
        let written = http(cluster.port(round % 3), "PUT", &path, r#"{"value":"1"}"#);
        assert_eq!(written.expect("the member answers").0, 200);
        for slot in 0..3 {
            cluster.terminate(slot);
        }
        for slot in 0..3 {
            assert_eq!(cluster.wait_exit(slot), Some(0));
            assert_waited_for_nobody(&since_told(&cluster, slot));
        }
        for slot in 0..3 {
            cluster.spawn(slot);
        }
        cluster.wait_ready(&[0, 1, 2]);
        let (status, _) = http(cluster.port(0), "GET", &path, "").expect("the member answers");
        assert_eq!(status, 200, "what was acknowledged is there");
    }
}

#[test]
fn a_leader_whose_followers_have_left_stops_without_a_successor() {
    let mut cluster = Cluster::start();
    let leader = wait_leader(&cluster, &[0, 1, 2]);
    let followers = [0, 1, 2].into_iter().filter(|slot| *slot != leader);
    for slot in followers {
        cluster.terminate(slot);
        assert_eq!(cluster.wait_exit(slot), Some(0));
    }
    cluster.terminate(leader);
    assert_eq!(cluster.wait_exit(leader), Some(0));
    assert_waited_for_nobody(&since_told(&cluster, leader));
}

#[test]
fn a_leader_that_stops_alone_is_followed_by_another_at_once() {
    let mut cluster = Cluster::start();
    let old = wait_leader(&cluster, &[0, 1, 2]);
    cluster.terminate(old);
    assert_eq!(cluster.wait_exit(old), Some(0));
    assert_waited_for_nobody(&since_told(&cluster, old));
    let others: Vec<usize> = (0..3).filter(|slot| *slot != old).collect();
    let new = wait_leader(&cluster, &others);
    let log = cluster.log(new);
    assert!(
        log.contains("CampaignRequested"),
        "told to campaign:\n{log}"
    );
}
