//! The core alone: what it refuses, what it bounds, and what it does about a log that it cannot
//! read.

use super::lone::{Lone, entry, put};
use crate::replica::backlog::BACKLOG_BYTES_MAX;
use crate::replica::input::{AdminCall, Input};
use crate::replica::{AdminError, RequestError};
use crate::transport::{Call, CallRefusal, ForwardRefusal, PeerMessage};
use quorate_raft::{AppendOutcome, EntryId, LogIndex, Message, RoleKind, Term};
use std::sync::Arc;
use tokio::sync::oneshot;

const TAIL_BYTES_MAX: u64 = 16 << 10;

fn unsynced(lone: &Lone) -> u64 {
    lone.core.store().log().tail_bytes()
}

#[test]
fn f12_applying_pauses_while_the_state_on_disk_is_behind_and_goes_on_after() {
    let mut lone = Lone::leading(TAIL_BYTES_MAX);
    let mut answers: Vec<_> = (0..64).map(|_| lone.propose(&[7; 1024])).collect();
    lone.turn();
    let before = lone.core.applied().index;
    assert!(lone.core.raft.commit() > before, "there is more to apply");
    assert!(
        unsynced(&lone) < TAIL_BYTES_MAX + 4096,
        "{} bytes are in memory only",
        unsynced(&lone)
    );
    for _ in 0..50 {
        lone.tick();
    }
    assert_eq!(lone.core.applied().index, before, "nothing was flushed");
    assert!(lone.core.leads(), "ticks and Raft go on");
    let mut refused = lone.propose(b"one more");
    lone.turn();
    let refused = refused.try_recv().unwrap();
    assert_eq!(refused, Err(RequestError::TooManyRequests));
    while lone.core.applied().index < lone.core.raft.commit() {
        let applied = lone.core.applied().index;
        lone.flush();
        lone.tick();
        assert!(
            lone.core.applied().index > applied,
            "it goes on after a flush"
        );
        assert!(unsynced(&lone) < TAIL_BYTES_MAX + 4096);
    }
    for answer in &mut answers {
        assert!(answer.try_recv().unwrap().is_ok());
    }
}

/// A follower of `leader` whose state is not flushed, so that it stops applying.
fn stuck_follower() -> (Lone, u64, u64) {
    let mut lone = Lone::of(3, 1);
    let leader = lone.peers[0];
    let fill = put(1, 1, &[7; 1024]);
    append(&mut lone, leader, 1, vec![entry(2, 2, &fill)], 2);
    assert_eq!(lone.core.applied().index, LogIndex(1), "it waits");
    (lone, leader, 2)
}

fn append(
    lone: &mut Lone,
    leader: u64,
    prev: u64,
    entries: Vec<quorate_raft::Entry>,
    commit: u64,
) -> Vec<(u64, PeerMessage)> {
    lone.take_sent();
    let term = if prev == 1 { 1 } else { 2 };
    let prev = EntryId {
        term: Term(term),
        index: LogIndex(prev),
    };
    let commit = LogIndex(commit);
    let message = Message::Append {
        prev,
        entries,
        commit,
    };
    lone.hear_leader(leader, 2, message);
    lone.take_sent()
}

fn acknowledged(sent: &[(u64, PeerMessage)]) -> Option<LogIndex> {
    sent.iter().find_map(|(_, message)| match message {
        PeerMessage::Raft(envelope) => match &envelope.message {
            Message::AppendResponse {
                outcome: AppendOutcome::Matched { last },
            } => Some(*last),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn f12_a_follower_that_cannot_apply_takes_no_more_than_it_has_room_for() {
    let (mut lone, leader, mut last) = stuck_follower();
    // One allocation stands for many: only its size is counted.
    let large = put(1, 2, &vec![7; 1 << 20]);
    let mut taken = 0;
    while taken <= 2 * BACKLOG_BYTES_MAX {
        let sent = append(
            &mut lone,
            leader,
            last,
            vec![entry(2, last + 1, &large)],
            last + 1,
        );
        if acknowledged(&sent) != Some(LogIndex(last + 1)) {
            break;
        }
        last += 1;
        taken += large.len();
    }
    assert!(
        taken <= BACKLOG_BYTES_MAX + large.len(),
        "{taken} bytes wait"
    );
    assert!(lone.core.counts.dropped > 0);
    // Heartbeats and empty appends are answered: the leader keeps its follower.
    let sent = append(&mut lone, leader, last, Vec::new(), last);
    assert_eq!(acknowledged(&sent), Some(LogIndex(last)));
    while lone.core.applied().index < LogIndex(last) {
        lone.flush();
        lone.turn();
    }
    let sent = append(
        &mut lone,
        leader,
        last,
        vec![entry(2, last + 1, &large)],
        last + 1,
    );
    assert_eq!(acknowledged(&sent), Some(LogIndex(last + 1)), "room again");
}

#[test]
fn an_entry_that_cannot_be_read_stops_the_member_alike_every_time_and_changes_nothing() {
    for _ in 0..2 {
        let mut lone = Lone::of(3, 1 << 20);
        let leader = lone.peers[0];
        let good = put(1, 1, b"x");
        append(&mut lone, leader, 1, vec![entry(2, 2, &good)], 2);
        let before = (lone.core.applied(), lone.core.store().digest());
        for bad in [&b""[..], &[1], &[255; 40], &good[..good.len() - 1]] {
            let bad: Arc<[u8]> = bad.into();
            lone.core
                .to_apply
                .extend(vec![entry(2, 3, &bad), entry(2, 4, &good)]);
            let fatal = lone.core.apply(&mut |_, _| {}).unwrap_err().to_string();
            assert!(fatal.contains("entry 3 cannot be read"), "{fatal}");
            assert!(fatal.contains("install the version"), "{fatal}");
            let after = (lone.core.applied(), lone.core.store().digest());
            assert_eq!(after, before);
            lone.core.to_apply = Default::default();
        }
    }
}

fn refusal(sent: &[(u64, PeerMessage)]) -> Option<(u64, ForwardRefusal, Vec<u64>)> {
    sent.iter().find_map(|(to, message)| match message {
        PeerMessage::ForwardRefused { why, counters, .. } => Some((*to, *why, counters.clone())),
        _ => None,
    })
}

#[test]
fn f14_what_followers_hand_over_is_bounded_and_refused_beyond() {
    let mut lone = Lone::leading(1 << 40);
    let (term, last) = (lone.core.raft.term(), lone.core.raft.status().last);
    let large = put(1, 2, &vec![7; 1 << 20]);
    // While the core has no room, what arrives waits here; the bound is in bytes.
    lone.take_sent();
    let mut taken = 0;
    let refused = loop {
        let messages = vec![PeerMessage::Forward {
            term,
            commands: vec![(taken, Arc::clone(&large))],
        }];
        lone.core.input(Input::Peer {
            from: 7,
            messages,
            held: Default::default(),
        });
        let refused = lone.core.effects.send.pop();
        if let Some(refused) = refused {
            break refused;
        }
        taken += 1;
        assert!(taken < 1000, "nothing is refused");
    };
    let refused = refusal(&[refused]);
    assert_eq!(refused, Some((7, ForwardRefusal::Busy, vec![taken])));
    // The bound of the core is reached first; what it commits makes room for the rest.
    lone.turn();
    lone.turn();
    let proposed = lone.core.raft.status().last.index.0 - last.index.0;
    assert_eq!(proposed, taken, "what was taken is proposed, in order");
}

#[test]
fn a_command_that_nobody_could_apply_is_refused_to_its_sender() {
    let mut lone = Lone::leading(1 << 40);
    let term = lone.core.raft.term();
    lone.take_sent();
    lone.core.input(Input::Inadmissible {
        from: 7,
        term,
        counters: vec![3, 4],
    });
    lone.turn();
    let refused = refusal(&lone.take_sent());
    assert_eq!(refused, Some((7, ForwardRefusal::Inadmissible, vec![3, 4])));
}

#[test]
fn g16_only_the_member_that_was_asked_answers_a_call() {
    let mut lone = Lone::of(3, 1 << 20);
    let (leader, other) = (lone.peers[0], lone.peers[1]);
    append(&mut lone, leader, 1, Vec::new(), 1);
    lone.core.connected.insert(leader, 0);
    let (reply, mut answer) = oneshot::channel();
    lone.core.input(Input::Admin(AdminCall::MemberRemove {
        id: other,
        expected: None,
        reply,
    }));
    lone.turn();
    let call = lone
        .take_sent()
        .into_iter()
        .find_map(|(to, message)| match message {
            PeerMessage::Call { call, request } => {
                assert!(matches!(request, Call::Remove { .. }));
                assert_eq!(to, leader);
                Some(call)
            }
            _ => None,
        });
    let call = call.expect("the follower asks its leader");
    let outcome = Err(CallRefusal::MemberNotFound);
    lone.hear(other, PeerMessage::CallReply { call, outcome });
    assert!(answer.try_recv().is_err(), "{other} was not asked");
    lone.hear(leader, PeerMessage::CallReply { call, outcome });
    let answer = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(answer, AdminError::MemberNotFound);
}

#[test]
fn a_call_with_malformed_addresses_never_reaches_the_log() {
    let mut lone = Lone::leading(1 << 20);
    let last = lone.core.raft.status().last;
    lone.take_sent();
    for peer_urls in [vec![], vec!["nonsense".to_owned()]] {
        let request = Call::Add {
            id: 77,
            peer_urls,
            learner: true,
            expected: None,
        };
        lone.hear(7, PeerMessage::Call { call: 1, request });
        let reply = (
            7,
            PeerMessage::CallReply {
                call: 1,
                outcome: Err(CallRefusal::Invalid),
            },
        );
        assert!(lone.take_sent().contains(&reply));
    }
    assert_eq!(lone.core.raft.status().last, last);
    assert_eq!(lone.core.raft.role(), RoleKind::Leader);
}
