//! Whole members in one process: real threads, real sockets on loopback, real files.

mod auto_compaction;
mod cluster;
mod core;
mod gate;
mod install;
mod lone;
mod recover;
mod repair;

use super::*;
use crate::kv::{Interval, Op, Put, RangeRequest, Response};
use cluster::TestCluster;

#[test]
fn a_single_member_serves_what_it_was_given_also_after_a_crash() {
    let mut cluster = TestCluster::bootstrapped();
    let put = cluster.put(0, "a", "1");
    assert_eq!(put.revision.0, 2);
    assert_eq!(
        put.result,
        Ok(Response::Put(kv::PutResult { prev_kv: None }))
    );
    assert_eq!(cluster.get(0, "a").as_deref(), Some("1"));
    cluster.kill(0);
    cluster.start(0);
    cluster.await_leader();
    assert_eq!(cluster.get(0, "a").as_deref(), Some("1"));
    assert_eq!(cluster.put(0, "a", "2").revision.0, 3);
}

#[test]
fn what_is_written_applied_and_forgotten_is_counted() {
    let cluster = TestCluster::bootstrapped();
    for _ in 0..20 {
        cluster.put(0, "a", "1");
    }
    let compact = Op::Compact(kv::Compact {
        revision: kv::Revision(15),
        physical: false,
    });
    for done in [true, false] {
        let answer = cluster.block_on(cluster.handle(0).propose(compact.clone()));
        assert_eq!(answer.unwrap().result.is_ok(), done);
    }
    let applied = |op: &str, success: bool| {
        let labels = format!("{{op=\"{op}\",success=\"{success}\",version=\"v3\"}}");
        format!("etcd_server_apply_duration_seconds_count{labels}")
    };
    for (name, least) in [
        (applied("Put", true), 20.0),
        (applied("Compaction", true), 1.0),
        (applied("Compaction", false), 1.0),
        ("etcd_disk_wal_write_bytes_total".to_owned(), 20.0 * 17.0),
        (
            "etcd_disk_backend_commit_duration_seconds_count".to_owned(),
            1.0,
        ),
        (
            "etcd_debugging_mvcc_db_compaction_keys_total".to_owned(),
            13.0,
        ),
        ("etcd_debugging_mvcc_db_compaction_last".to_owned(), 1.7e9),
    ] {
        cluster.wait_for(&format!("{name} of {least}"), || {
            cluster.series(0, &name) >= least
        });
    }
}

#[test]
fn an_unjoined_node_serves_nothing_and_bootstraps_once() {
    let mut cluster = TestCluster::managed(1);
    let handle = cluster.handle(0);
    assert_eq!(handle.status().phase, Phase::Unjoined);
    assert!(handle.reader().is_none());
    let error = cluster.block_on(handle.read_barrier());
    assert_eq!(error, Err(RequestError::Unjoined));
    let bootstrap = |member_id| Bootstrap {
        cluster_uuid: [7; 16],
        member_id,
        peer_urls: Vec::new(),
    };
    cluster.block_on(handle.bootstrap(bootstrap(1))).unwrap();
    cluster.await_leader();
    cluster
        .block_on(handle.bootstrap(bootstrap(1)))
        .expect("the same call again succeeds");
    let other = cluster.block_on(handle.bootstrap(bootstrap(2)));
    assert!(
        matches!(other, Err(AdminError::AlreadyJoined { member_id: 1, .. })),
        "{other:?}"
    );
    cluster.kill(0);
    cluster.start(0);
    let other = cluster.block_on(cluster.handle(0).bootstrap(bootstrap(2)));
    assert!(
        matches!(other, Err(AdminError::AlreadyJoined { .. })),
        "after a restart: {other:?}"
    );
}

#[test]
fn three_static_members_form_one_cluster_and_every_member_takes_writes() {
    let mut cluster = TestCluster::of_static(3);
    for member in 0..3 {
        let key = format!("from-{member}");
        cluster.put(member, &key, "x");
    }
    for member in 0..3 {
        for key in ["from-0", "from-1", "from-2"] {
            assert_eq!(
                cluster.get(member, key).as_deref(),
                Some("x"),
                "{key} on {member}"
            );
        }
    }
    let ids: Vec<u64> = (0..3)
        .map(|member| cluster.handle(member).status().cluster_id)
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0] && *id != 0), "{ids:?}");
    for member in 0..3 {
        cluster.kill(member);
    }
    for member in 0..3 {
        cluster.start(member);
    }
    cluster.await_leader();
    for member in 0..3 {
        assert_eq!(cluster.get(member, "from-1").as_deref(), Some("x"));
    }
}

#[test]
fn a_killed_leader_is_succeeded_and_comes_back() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    let leader = cluster.await_leader();
    cluster.kill(leader);
    let next = cluster.await_leader();
    assert_ne!(leader, next);
    cluster.put(next, "a", "2");
    cluster.start(leader);
    assert_eq!(cluster.get(leader, "a").as_deref(), Some("2"));
}

#[test]
fn names_and_client_urls_are_published_by_every_member() {
    let cluster = TestCluster::of_static(3);
    for member in 0..3 {
        cluster.wait_for("published names", || {
            let status = cluster.handle(member).status();
            let named = |member: &Member| !member.name.is_empty() && !member.client_urls.is_empty();
            status.members.len() == 3 && status.members.iter().all(named)
        });
    }
}

#[test]
fn a_learner_joins_is_promoted_and_a_removed_member_stays_out() {
    let mut cluster = TestCluster::bootstrapped();
    for key in 0..50 {
        cluster.put(0, &format!("key-{key}"), "x");
    }
    cluster.grow(1);
    assert_eq!(cluster.get(1, "key-49").as_deref(), Some("x"));
    cluster.grow(2);
    cluster.put(2, "late", "y");
    let leader = cluster.await_leader();
    let promoted = cluster.series(leader, "etcd_server_learner_promote_successes");
    assert!(promoted >= 2.0, "{promoted} promotions counted");
    let nobody = cluster.block_on(cluster.handle(leader).member_promote(77, None));
    assert!(nobody.is_err(), "{nobody:?}");
    let refused = "etcd_server_learner_promote_failures{Reason=\"MemberNotFound\"}";
    cluster.wait_for("the refusal to be counted", || {
        cluster.series(leader, refused) >= 1.0
    });
    let (victim, id) = (2, cluster.id(2));
    let view = cluster.membership(leader);
    let after = cluster
        .block_on(cluster.handle(leader).member_remove(id, Some(view.index)))
        .unwrap();
    assert!(after.member(id).is_none());
    cluster.wait_for("the removed member to know", || {
        cluster.handle(victim).status().phase == Phase::Removed
    });
    let refused = cluster.block_on(cluster.handle(victim).read_barrier());
    assert!(matches!(refused, Err(RequestError::Removed)), "{refused:?}");
    cluster.kill(victim);
    cluster.start(victim);
    assert_eq!(
        cluster.handle(victim).status().phase,
        Phase::Removed,
        "after a restart"
    );
    let survivor = cluster.await_leader();
    cluster.put(survivor, "after", "z");
}

#[test]
fn membership_changes_are_compare_and_set_and_idempotent() {
    let cluster = TestCluster::bootstrapped();
    let handle = cluster.handle(0);
    let view = cluster.membership(0);
    let urls = cluster.peer_urls(1);
    let add = MemberAdd {
        id: Some(9),
        peer_urls: urls.clone(),
        learner: true,
        expected: Some(view.index),
    };
    let (id, after) = cluster.block_on(handle.member_add(add.clone())).unwrap();
    assert_eq!(id, 9);
    assert!(after.index > view.index);
    cluster
        .block_on(handle.member_add(add.clone()))
        .expect("the same call again succeeds");
    let stale = MemberAdd {
        id: Some(10),
        peer_urls: vec!["http://h:1".to_owned()],
        ..add
    };
    let error = cluster
        .block_on(handle.member_add(stale.clone()))
        .unwrap_err();
    assert!(
        matches!(error, AdminError::ConfigChanged { .. }),
        "{error:?}"
    );
    let second = MemberAdd {
        expected: Some(after.index),
        ..stale
    };
    let error = cluster.block_on(handle.member_add(second)).unwrap_err();
    assert_eq!(error, AdminError::TooManyLearners);
    let error = cluster
        .block_on(handle.member_promote(9, Some(after.index)))
        .unwrap_err();
    assert!(
        matches!(error, AdminError::LearnerNotReady | AdminError::Unhealthy),
        "a learner that never started: {error:?}"
    );
    let removed = cluster
        .block_on(handle.member_remove(9, Some(after.index)))
        .unwrap();
    cluster
        .block_on(handle.member_remove(9, Some(removed.index)))
        .expect("done already");
    let again = MemberAdd {
        id: Some(9),
        peer_urls: urls,
        learner: true,
        expected: Some(removed.index),
    };
    let error = cluster.block_on(handle.member_add(again)).unwrap_err();
    assert_eq!(
        error,
        AdminError::MemberIdRemoved,
        "c12: an ID is never used twice"
    );
    let unknown = cluster
        .block_on(handle.member_remove(77, None))
        .unwrap_err();
    assert_eq!(unknown, AdminError::MemberNotFound);
}

#[test]
fn leadership_moves_on_request_and_writes_go_on() {
    let cluster = TestCluster::of_static(3);
    let leader = cluster.await_leader();
    let target = (leader + 1) % 3;
    let id = cluster.id(target);
    let follower = cluster.block_on(cluster.handle(target).transfer_leader(Some(id)));
    assert_eq!(follower, Err(AdminError::NotLeader));
    // A transfer lasts at most one election timeout, which a busy machine may well exceed.
    cluster.wait_for("the transfer", || {
        let leader = cluster.await_leader();
        let moved = cluster.block_on(cluster.handle(leader).transfer_leader(Some(id)));
        match moved {
            Ok(to) => to == id,
            Err(
                AdminError::TransferTimeout | AdminError::ChangePending | AdminError::NotLeader,
            ) => false,
            Err(other) => panic!("{other}"),
        }
    });
    assert_eq!(cluster.await_leader(), target);
    cluster.put(leader, "after", "x");
    assert_eq!(cluster.get(target, "after").as_deref(), Some("x"));
    let unknown = cluster.block_on(cluster.handle(target).transfer_leader(Some(12345)));
    assert_eq!(unknown, Err(AdminError::BadTransferee));
}

#[test]
fn a_graceful_stop_hands_leadership_over() {
    let mut cluster = TestCluster::of_static(3);
    let leader = cluster.await_leader();
    let term = cluster.handle(leader).status().term;
    cluster.stop(leader);
    let next = cluster.await_leader();
    let status = cluster.handle(next).status();
    assert_eq!(status.term, term + 1, "one election, by transfer");
    cluster.put(next, "a", "1");
}

#[test]
fn c12_a_wiped_directory_under_an_old_identity_never_takes_part_again() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    let leader = cluster.await_leader();
    let victim = (leader + 1) % 3;
    cluster.kill(victim);
    cluster.wipe(victim);
    cluster.start(victim);
    // It derives its old ID from the flags, and the others refuse that directory.
    for _ in 0..5 {
        cluster.put(leader, "b", "2");
    }
    cluster.await_phase(victim, Phase::Stale);
    assert_eq!(cluster.handle(victim).status().leader, 0);
    cluster.kill(victim);
    cluster.start(victim);
    cluster.await_phase(victim, Phase::Stale);
}

#[test]
fn c12_a_rolled_back_directory_is_refused_by_its_peers() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    let leader = cluster.await_leader();
    let victim = (leader + 1) % 3;
    cluster.kill(victim);
    let copy = cluster.copy_of(victim);
    cluster.start(victim);
    assert_eq!(cluster.get(victim, "a").as_deref(), Some("1"));
    cluster.put(victim, "b", "2");
    cluster.kill(victim);
    cluster.restore(victim, &copy);
    cluster.start(victim);
    for _ in 0..5 {
        cluster.put(leader, "c", "3");
    }
    // However often it starts, its incarnation does not catch up with what its peers have seen.
    for _ in 0..3 {
        cluster.await_phase(victim, Phase::Stale);
        assert_eq!(cluster.handle(victim).status().leader, 0);
        cluster.kill(victim);
        cluster.start(victim);
    }
}

#[test]
fn exchanged_directories_are_refused_at_start() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    for member in 0..3 {
        cluster.get(member, "a");
    }
    for member in 0..3 {
        cluster.stop(member);
    }
    cluster.swap(0, 1);
    let error = cluster.start_and_fail(0);
    assert!(error.is_refusal(), "{error}");
    assert!(error.to_string().contains("exchanged"), "{error}");
}

#[test]
fn a_second_process_on_the_directory_is_refused_and_told_the_holder() {
    let cluster = TestCluster::bootstrapped();
    let error = cluster.open_again(0);
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
}

#[test]
fn a_request_too_large_is_refused_before_it_is_proposed() {
    let cluster = TestCluster::bootstrapped();
    let put = Put {
        key: "k".into(),
        value: vec![0; 2 << 20].into(),
        ..Put::default()
    };
    let error = cluster
        .block_on(cluster.handle(0).propose(Op::Put(put)))
        .unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { .. }), "{error:?}");
    assert!(!error.outcome_unknown());
}

#[test]
fn a_minority_answers_no_linearizable_read_and_no_write() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    let leader = cluster.await_leader();
    for member in 0..3 {
        if member != leader {
            cluster.kill(member);
        }
    }
    let read = cluster.block_on(cluster.handle(leader).read_barrier());
    assert!(read.is_err());
    let range = RangeRequest::new(Interval::Key("a".into()));
    let stale = cluster
        .handle(leader)
        .reader()
        .unwrap()
        .range(&range)
        .unwrap();
    assert_eq!(stale.kvs.len(), 1, "serializable reads go on");
}

#[test]
fn d10_a_follower_behind_the_trimmed_log_catches_up_by_a_snapshot() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "before", "x");
    let leader = cluster.await_leader();
    let lagging = (leader + 1) % 3;
    cluster.kill(lagging);
    cluster.put_many(leader, 1200);
    cluster.start(lagging);
    assert_eq!(cluster.get(lagging, "many-1199").as_deref(), Some("x"));
    assert_eq!(cluster.get(lagging, "before").as_deref(), Some("x"));
    // The sender hears of it a moment after the receiver serves.
    cluster.wait_long_for("the metrics of both ends", || {
        // Leadership may have moved meanwhile.
        let sent = "etcd_network_snapshot_send_total_duration_seconds_count";
        let sent: f64 = (0..3).map(|slot| cluster.series(slot, sent)).sum();
        let got = "etcd_network_snapshot_receive_total_duration_seconds_count";
        sent >= 1.0 && cluster.series(lagging, got) >= 1.0
    });
    let installing = "etcd_server_snapshot_apply_in_progress_total";
    assert!(cluster.series(lagging, installing).abs() < 1.0);
    cluster.put(lagging, "after", "y");
    cluster.kill(lagging);
    cluster.start(lagging);
    assert_eq!(
        cluster.get(lagging, "many-0").as_deref(),
        Some("x"),
        "after a restart"
    );
    assert_eq!(cluster.get(lagging, "after").as_deref(), Some("y"));
}

#[test]
fn n1_acknowledged_writes_survive_the_death_of_every_member_in_turn_and_of_all_at_once() {
    let mut cluster = TestCluster::of_static(3);
    let mut acknowledged: Vec<(String, i64)> = Vec::new();
    for round in 0..4 {
        let writers: Vec<_> = (0..3)
            .map(|slot| cluster.write_until_stopped(slot, round))
            .collect();
        let victims: Vec<usize> = if round == 3 {
            vec![0, 1, 2]
        } else {
            vec![round]
        };
        cluster.wait_for("some writes", || {
            writers.iter().all(|writer| writer.count() > 20)
        });
        for &victim in &victims {
            cluster.kill(victim);
        }
        if round < 3 {
            let at = writers[(round + 1) % 3].count();
            cluster.wait_for("writes without the victim", || {
                writers[(round + 1) % 3].count() > at + 20
            });
        }
        for writer in writers {
            acknowledged.extend(cluster.stop_writer(writer));
        }
        for &victim in &victims {
            cluster.start(victim);
        }
        cluster.await_leader();
    }
    let mut revisions: Vec<i64> = acknowledged.iter().map(|(_, revision)| *revision).collect();
    revisions.sort_unstable();
    let writes = revisions.len();
    revisions.dedup();
    assert_eq!(revisions.len(), writes, "n2: a revision was given twice");
    for slot in 0..3 {
        cluster
            .block_on(cluster.handle(slot).read_barrier())
            .unwrap();
        let reader = cluster.handle(slot).reader().unwrap();
        for (key, revision) in &acknowledged {
            let range = RangeRequest::new(Interval::Key(key.clone().into()));
            let found = reader.range(&range).unwrap();
            let found = found.kvs.first().map(|kv| kv.mod_revision.0);
            assert_eq!(
                found,
                Some(*revision),
                "{key} on member {slot} of {writes} writes"
            );
        }
    }
    let hash = |slot| {
        let reader = cluster.handle(slot).reader().unwrap();
        reader.hash_kv(kv::Revision(0)).unwrap().hash
    };
    assert_eq!(hash(0), hash(1), "n11");
    assert_eq!(hash(1), hash(2), "n11");
}

#[test]
fn a_follower_takes_membership_calls_and_a_leader_may_remove_itself() {
    let cluster = TestCluster::of_static(3);
    let leader = cluster.await_leader();
    let follower = (leader + 1) % 3;
    let id = cluster.id(leader);
    let view = cluster.membership(follower);
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let taker = cluster.handle(follower);
    let update = taker.member_update(cluster.id(follower), urls.clone());
    let updated = cluster.block_on(update).unwrap();
    assert_eq!(
        updated.member(cluster.id(follower)).unwrap().peer_urls,
        urls
    );
    let remove = taker.member_remove(id, Some(view.index));
    let after = cluster.block_on(remove).unwrap();
    assert!(
        after.member(id).is_none(),
        "in force on the member that took the call"
    );
    cluster.wait_for("the old leader to know", || {
        cluster.handle(leader).status().phase == Phase::Removed
    });
}

#[test]
fn etcds_rules_refuse_to_remove_a_voter_while_connections_are_young() {
    let cluster = TestCluster::of_static(3);
    let leader = cluster.await_leader();
    let voter = cluster.id((leader + 1) % 3);
    cluster.wait_for("every member to publish its name", || {
        let members = cluster.handle(leader).status().members.clone();
        members.iter().all(|member| !member.name.is_empty())
    });
    let removed = cluster.block_on(cluster.handle(leader).member_remove(voter, None));
    assert_eq!(removed.unwrap_err(), AdminError::Unhealthy);
    let twice = MemberAdd {
        id: None,
        peer_urls: cluster.peer_urls(0),
        learner: false,
        expected: None,
    };
    let added = cluster.block_on(cluster.handle(leader).member_add(twice));
    assert_eq!(
        added.unwrap_err(),
        AdminError::Unhealthy,
        "health comes before what is wrong with the URLs"
    );
    assert_eq!(cluster.membership(leader).members.len(), 3);
}

#[test]
fn a_member_added_with_etcds_rules_starts_as_existing_and_finds_its_identity() {
    let mut cluster = TestCluster::with_late_joiner(3);
    let leader = cluster.await_leader();
    let add = MemberAdd {
        id: None,
        peer_urls: cluster.peer_urls(3),
        learner: true,
        expected: None,
    };
    let wait = || match cluster.block_on(cluster.handle(leader).member_add(add.clone())) {
        Ok((id, _)) => Some(id),
        // etcd's rule: connections younger than five seconds do not count.
        Err(AdminError::Unhealthy) => None,
        Err(other) => panic!("{other}"),
    };
    let added = std::cell::Cell::new(None);
    cluster.wait_for("connections of five seconds", || {
        added.set(wait());
        added.get().is_some()
    });
    cluster.start(3);
    cluster.wait_for("the late member to join", || {
        Some(cluster.id(3)) == added.get() && cluster.handle(3).status().leader != 0
    });
    cluster.put(3, "from-a-learner", "x");
    assert_eq!(cluster.get(leader, "from-a-learner").as_deref(), Some("x"));
    assert_eq!(cluster.handle(3).status().role, Role::Learner);
}

#[test]
fn a_removed_members_directory_joins_anew_under_another_id_and_keeps_the_old_data() {
    let mut cluster = TestCluster::bootstrapped();
    for key in 0..20 {
        cluster.put(0, &format!("key-{key}"), "x");
    }
    cluster.grow(1);
    cluster.grow(2);
    let leader = cluster.await_leader();
    let old = cluster.id(2);
    let view = cluster.membership(leader);
    let leader = if leader == 2 { 0 } else { leader };
    let remove = cluster.handle(leader);
    cluster
        .block_on(remove.member_remove(old, Some(view.index)))
        .unwrap();
    cluster.await_phase(2, Phase::Removed);
    cluster.wait_for("the removed member to have ended", || {
        cluster.handle(2).status().members.is_empty()
    });
    let leader = cluster.await_leader();
    let view = cluster.membership(leader);
    let add = MemberAdd {
        id: Some(777),
        peer_urls: cluster.peer_urls(2),
        learner: true,
        expected: Some(view.index),
    };
    cluster
        .block_on(cluster.handle(leader).member_add(add))
        .unwrap();
    let join = |cluster: &TestCluster, member_id, displaces, uuid| {
        let join = Join {
            cluster_uuid: [uuid; 16],
            member_id,
            seeds: cluster.peer_urls(leader),
            displaces,
        };
        cluster.block_on(cluster.handle(2).join(join))
    };
    let refused = join(&cluster, 777, None, 7).unwrap_err();
    assert_eq!(refused, AdminError::Request(RequestError::Removed));
    for (displaces, uuid) in [(Some(5), 7), (Some(old), 8)] {
        let refused = join(&cluster, 777, displaces, uuid).unwrap_err();
        assert!(
            matches!(refused, AdminError::AlreadyJoined { .. }),
            "{refused}"
        );
    }
    let refused = join(&cluster, old, Some(old), 7).unwrap_err();
    assert_eq!(refused, AdminError::MemberIdRemoved);
    assert_eq!(cluster.handle(2).status().phase, Phase::Removed);
    join(&cluster, 777, Some(old), 7).unwrap();
    cluster.wait_for("the new member to have the data", || {
        let status = cluster.handle(2).status();
        status.member_id == 777 && status.leader != 0 && status.applied >= view.commit
    });
    let kept = cluster.path(2).join(format!("displaced-{old:016x}"));
    for part in ["wal", "history", "identity"] {
        assert!(
            kept.join(part).exists(),
            "{part} of the removed member is gone"
        );
    }
    assert_eq!(cluster.handle(2).status().epoch, 1);
    cluster.kill(2);
    cluster.start(2);
    cluster.wait_for("the new member after a restart", || {
        cluster.id(2) == 777 && cluster.handle(2).status().leader != 0
    });
}

#[test]
fn a_refusal_of_an_earlier_identity_does_not_end_the_new_one() {
    let cluster = TestCluster::bootstrapped();
    let refuse = |member, why| {
        let input = super::input::Input::PeerRefused { member, by: 9, why };
        cluster.handle(0).shared.inbox.push_always(input).unwrap();
    };
    refuse(55, crate::transport::HelloRefusal::Removed);
    refuse(55, crate::transport::HelloRefusal::Stale);
    cluster.put(0, "a", "1");
    assert_eq!(cluster.handle(0).status().phase, Phase::Joined);
    refuse(1, crate::transport::HelloRefusal::Stale);
    cluster.await_phase(0, Phase::Stale);
}

#[test]
fn f12_a_leader_whose_disk_hangs_hands_over_and_then_ends() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put(0, "before", "x");
    let leader = cluster.await_leader();
    cluster.gate(leader).close("wal/");
    cluster.put_and_forget(leader, "during");
    // It still runs and knows that it leads no more; one that had ended could not tell.
    cluster.wait_for("the office to be handed over", || {
        let status = cluster.handle(leader).status();
        status.role == Role::Follower && ![0, status.member_id].contains(&status.leader)
    });
    let next = (leader + 1) % 3;
    cluster.put(next, "during", "y");
    let error = cluster.ended(leader).to_string();
    assert!(error.contains("has not been synced for"), "{error}");
    assert!(error.contains("free space"), "what to do: {error}");
    cluster.gate(leader).open();
    cluster.put(next, "after", "z");
    cluster.start(leader);
    for (key, value) in [("before", "x"), ("during", "y"), ("after", "z")] {
        assert_eq!(cluster.get(leader, key).as_deref(), Some(value));
    }
}

#[test]
fn f12_a_slow_disk_under_the_state_refuses_writes_before_memory_grows_and_recovers() {
    let cluster = TestCluster::bootstrapped();
    cluster.put(0, "small", "x");
    cluster.gate(0).close("history/");
    let value = "v".repeat(1 << 20);
    let put = |number: usize| {
        let put = Put {
            key: format!("large-{number}").into(),
            value: value.clone().into(),
            ..Put::default()
        };
        cluster.block_on(cluster.handle(0).propose(Op::Put(put)))
    };
    let written = (0..200).take_while(|number| put(*number).is_ok()).count();
    assert!(
        (64..=66).contains(&written),
        "{written} MiB are in memory only"
    );
    assert_eq!(put(999), Err(RequestError::TooManyRequests));
    let status = cluster.handle(0).status();
    assert_eq!((status.role, status.phase), (Role::Leader, Phase::Joined));
    cluster.gate(0).open();
    cluster.wait_for("writes to be taken again", || put(1000).is_ok());
    assert_eq!(cluster.get(0, "small").as_deref(), Some("x"));
}

#[test]
fn round_trips_and_traffic_between_members_are_measured() {
    let cluster = TestCluster::of_static(3);
    cluster.put(0, "a", "1");
    let ids: Vec<u64> = (0..3).map(|slot| cluster.id(slot)).collect();
    let counters = |slot: usize, other: usize| {
        let network = &cluster.metrics(slot).network;
        network.peer(ids[slot], ids[other])
    };
    for (slot, other) in [(0, 1), (1, 2), (2, 0)] {
        cluster.wait_for("a probe to come back", || {
            counters(slot, other).round_trip_seconds.get_sample_count() > 0
        });
        let of = counters(slot, other);
        assert!(of.round_trip_seconds.get_sample_sum() > 0.0);
        assert_eq!(of.active.get(), 1);
        assert!(of.sent_bytes.get() > 0 && of.received_bytes.get() > 0);
        assert_eq!(of.received_failures.get(), 0);
    }
}
