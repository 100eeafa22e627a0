//! A lost quorum, recovered by hand from one survivor; the others and their data come back.

use super::cluster::TestCluster;
use super::*;
use crate::env::real::{RealDisk, SystemRng};
use crate::storage::DataDir;
use std::sync::Arc;

const CLUSTER: [u8; 16] = [7; 16];

fn recover(cluster: &TestCluster, slot: usize, epoch: u64) -> Result<(), AdminError> {
    let recover = Recover {
        cluster_uuid: CLUSTER,
        epoch,
    };
    cluster.block_on(cluster.handle(slot).recover(recover))
}

/// Three voters with some acknowledged keys.
fn three() -> TestCluster {
    let mut cluster = TestCluster::bootstrapped();
    cluster.grow(1);
    cluster.grow(2);
    for key in 0..20 {
        cluster.put(0, &format!("key-{key}"), "x");
    }
    cluster
}

/// Every member is killed; slot `survivor` is started again in epoch 2, and stays out.
fn survive(cluster: &mut TestCluster, survivor: usize) {
    for slot in 0..3 {
        cluster.kill(slot);
        cluster.tell_epoch(slot, 2);
    }
    cluster.start(survivor);
    cluster.await_phase(survivor, Phase::Fenced);
}

#[test]
fn p39_what_the_survivor_of_three_holds_is_there_in_the_new_epoch_and_the_cluster_grows_again() {
    let mut cluster = three();
    let leader = cluster.await_leader();
    for slot in (0..3).filter(|slot| *slot != leader) {
        cluster.kill(slot);
    }
    // Nobody can acknowledge it, and the leader's log has it.
    let before = cluster.handle(leader).status().last;
    cluster.put_and_forget(leader, "unacknowledged");
    cluster.wait_for("the entry to be durable", || {
        cluster.handle(leader).status().durable > before
    });
    survive(&mut cluster, leader);
    for slot in (0..3).filter(|slot| *slot != leader) {
        cluster.wipe(slot);
    }
    let fenced = RequestError::Fenced { epoch: 1, told: 2 };
    let refused = cluster.block_on(cluster.handle(leader).read_barrier());
    assert_eq!(refused, Err(fenced));
    assert!(cluster.handle(leader).reader().is_none(), "no reads at all");

    recover(&cluster, leader, 2).unwrap();
    assert_eq!(cluster.await_leader(), leader);
    recover(&cluster, leader, 2).expect("the same call again succeeds");
    assert_eq!(cluster.handle(leader).status().epoch, 2);
    assert_eq!(cluster.membership(leader).members.len(), 1);
    for key in 0..20 {
        let key = format!("key-{key}");
        assert_eq!(cluster.get(leader, &key).as_deref(), Some("x"), "{key}");
    }
    assert_eq!(cluster.get(leader, "unacknowledged").as_deref(), Some("?"));

    for (slot, id) in (0..3).filter(|slot| *slot != leader).zip([201, 202]) {
        cluster.start(slot);
        cluster.grow_as(slot, id);
        assert_eq!(cluster.handle(slot).status().epoch, 2);
        assert_eq!(cluster.get(slot, "key-19").as_deref(), Some("x"));
    }
    for slot in 0..3 {
        cluster.kill(slot);
    }
    for slot in 0..3 {
        cluster.start(slot);
    }
    cluster.await_leader();
    assert_eq!(cluster.get(leader, "unacknowledged").as_deref(), Some("?"));
}

#[test]
fn p39_the_old_majority_that_comes_back_serves_nobody() {
    let mut cluster = three();
    survive(&mut cluster, 0);
    recover(&cluster, 0, 2).unwrap();
    cluster.await_leader();
    cluster.put(0, "new", "y");
    for slot in [1, 2] {
        cluster.start(slot);
        cluster.await_phase(slot, Phase::Fenced);
    }
    let term = cluster.handle(0).status().term;
    cluster.put(0, "newer", "y");
    for slot in [1, 2] {
        let status = cluster.handle(slot).status();
        assert_eq!(
            (status.phase, status.leader, status.term),
            (Phase::Fenced, 0, 0)
        );
        assert!(cluster.handle(slot).reader().is_none());
        assert!(!cluster.try_put(slot, "old", "z"));
    }
    // One that was not told of the new epoch takes part in the old one, and everybody in the new
    // one is a stranger to it.
    cluster.kill(1);
    cluster.tell_epoch(1, 0);
    cluster.start(1);
    cluster.wait_for("it to campaign in vain", || {
        let status = cluster.handle(1).status();
        status.role == Role::Candidate && status.leader == 0
    });
    cluster.put(0, "newest", "y");
    let status = cluster.handle(0).status();
    assert_eq!(
        (status.term, status.role),
        (term, Role::Leader),
        "undisturbed"
    );
    assert_eq!(cluster.handle(1).status().epoch, 1);
    assert!(!status.peers.iter().any(|peer| peer.connected));
}

#[test]
fn p39_recover_is_refused_with_the_reason_and_changes_nothing() {
    let mut cluster = three();
    let healthy = recover(&cluster, 1, 2).unwrap_err().to_string();
    assert!(healthy.contains("takes part in epoch 1"), "{healthy}");
    survive(&mut cluster, 1);
    let other = recover(&cluster, 1, 3).unwrap_err().to_string();
    assert!(
        other.contains("--epoch=2") && other.contains("--epoch=3"),
        "{other}"
    );
    let stranger = Recover {
        cluster_uuid: [8; 16],
        epoch: 2,
    };
    let stranger = cluster
        .block_on(cluster.handle(1).recover(stranger))
        .unwrap_err();
    assert!(
        matches!(stranger, AdminError::AlreadyJoined { .. }),
        "{stranger}"
    );
    assert_eq!(cluster.handle(1).status().phase, Phase::Fenced);
    // Everybody in the old epoch again: it is as if nobody had asked.
    cluster.kill(1);
    for slot in 0..3 {
        cluster.tell_epoch(slot, 0);
        cluster.start(slot);
    }
    cluster.await_leader();
    assert_eq!(cluster.membership(1).members.len(), 3);
    assert_eq!(cluster.get(2, "key-3").as_deref(), Some("x"));
}

#[test]
fn p39_a_learner_does_not_survive_alone() {
    let mut cluster = TestCluster::bootstrapped();
    cluster.put(0, "a", "1");
    let view = cluster.membership(0);
    let add = MemberAdd {
        id: Some(55),
        peer_urls: cluster.peer_urls(1),
        learner: true,
        expected: Some(view.index),
    };
    cluster.block_on(cluster.handle(0).member_add(add)).unwrap();
    let join = Join {
        cluster_uuid: CLUSTER,
        member_id: 55,
        seeds: cluster.peer_urls(0),
        displaces: None,
    };
    cluster.block_on(cluster.handle(1).join(join)).unwrap();
    cluster.wait_for("the learner to have the log", || {
        cluster.handle(1).status().applied > view.index
    });
    survive(&mut cluster, 1);
    let refused = recover(&cluster, 1, 2).unwrap_err().to_string();
    assert!(refused.contains("does not vote"), "{refused}");
    assert_eq!(cluster.handle(1).status().phase, Phase::Fenced);
}

#[test]
fn p39_g07_a_crash_between_identity_and_log_is_completed_by_the_next_start() {
    let mut cluster = three();
    for slot in 0..3 {
        cluster.kill(slot);
        cluster.tell_epoch(slot, 2);
    }
    {
        let disk = Arc::new(RealDisk::new(cluster.path(2)));
        let mut rng = SystemRng::open().unwrap();
        let (mut dir, _) = DataDir::open(disk, &mut rng, 4242).unwrap();
        dir.begin_recovery(2).unwrap();
    }
    // Even a start that was told of the old epoch goes on, alone: there is no way back.
    cluster.tell_epoch(2, 1);
    cluster.start(2);
    assert_eq!(cluster.await_leader(), 2);
    assert_eq!(cluster.membership(2).members.len(), 1);
    assert_eq!(cluster.get(2, "key-0").as_deref(), Some("x"));
    cluster.kill(2);
    cluster.start(2);
    assert_eq!(cluster.await_leader(), 2);
    assert_eq!(cluster.handle(2).status().epoch, 2);
}

#[test]
fn p39_a_kept_directory_of_the_old_epoch_is_moved_aside_for_a_new_member() {
    let mut cluster = three();
    let old = cluster.id(1);
    survive(&mut cluster, 0);
    recover(&cluster, 0, 2).unwrap();
    cluster.await_leader();
    cluster.start(1);
    cluster.await_phase(1, Phase::Fenced);
    let view = cluster.membership(0);
    let add = MemberAdd {
        id: Some(301),
        peer_urls: cluster.peer_urls(1),
        learner: true,
        expected: Some(view.index),
    };
    cluster.block_on(cluster.handle(0).member_add(add)).unwrap();
    let join = |displaces| {
        let join = Join {
            cluster_uuid: CLUSTER,
            member_id: 301,
            seeds: cluster.peer_urls(0),
            displaces,
        };
        cluster.block_on(cluster.handle(1).join(join))
    };
    let unnamed = join(Some(old + 1)).unwrap_err();
    assert!(
        matches!(unnamed, AdminError::AlreadyJoined { .. }),
        "{unnamed}"
    );
    join(Some(old)).unwrap();
    cluster.wait_for("the new member to have the data", || {
        let status = cluster.handle(1).status();
        status.member_id == 301 && status.leader != 0 && status.epoch == 2
    });
    let kept = cluster.path(1).join(format!("displaced-{old:016x}"));
    assert!(kept.join("wal").exists(), "the old data is kept");
}
