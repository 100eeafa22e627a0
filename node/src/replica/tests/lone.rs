//! A replica's core without threads, log or network: the test is its disk, its clock and its
//! peers.

use crate::config::InitialMember;
use crate::env::real::RealDisk;
use crate::kv::{Command, Op, Put, RequestId, Store};
use crate::replica::core::{Core, CoreConfig};
use crate::replica::genesis;
use crate::replica::input::Input;
use crate::replica::room::Room;
use crate::storage::revision_log::{Flushed, Options};
use crate::transport::PeerMessage;
use quorate_raft::{
    Config, Entry, EntryId, Envelope, HardState, LogIndex, MemberId, Message, Node, Payload,
    PersistId, Restored, Term,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Answers of proposals.
pub(super) type Answer =
    oneshot::Receiver<Result<crate::kv::Applied, crate::replica::RequestError>>;

const BOOT_NONCE: u64 = 99;

/// One core.
pub(super) struct Lone {
    pub(super) core: Core,
    /// Its peers' IDs.
    pub(super) peers: Vec<u64>,
    /// What it has sent so far.
    pub(super) sent: Vec<(u64, PeerMessage)>,
    counter: u64,
    _root: tempfile::TempDir,
}

impl Lone {
    /// A member of a cluster of `voters` that has applied its first entry. Its state becomes
    /// durable only when the test says so.
    pub(super) fn of(voters: usize, tail_bytes_max: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let urls = |number| format!("http://127.0.0.1:{number}");
        let list: Vec<InitialMember> = (1..=voters)
            .map(|number| InitialMember {
                name: format!("m{number}"),
                peer_url: urls(number),
            })
            .collect();
        let new = genesis::from_static_list("m1", &[urls(1)], &list, "lone").unwrap();
        let options = Options {
            tail_bytes_max,
            background: false,
            ..Options::default()
        };
        let disk = Arc::new(RealDisk::new(root.path()));
        let (store, _) = Store::open(disk, "history", options).unwrap();
        let first = new.first_entry.clone().unwrap();
        let peers = match &first.payload {
            Payload::Membership { membership, .. } => membership.voters.iter().map(|id| id.0),
            Payload::Empty | Payload::Command(_) => panic!("the first entry is a membership"),
        };
        let peers = peers.filter(|id| *id != new.member_id).collect();
        let restored = Restored {
            hard_state: HardState {
                term: Term(1),
                vote: None,
            },
            entries: vec![first],
            commit: LogIndex(1),
            ..Restored::default()
        };
        let raft = Node::new(raft_config(new.member_id), restored).unwrap();
        let core = Core::new(core_config(&new), raft, store);
        let mut lone = Self {
            core,
            peers,
            sent: Vec::new(),
            counter: 0,
            _root: root,
        };
        lone.turn();
        lone
    }

    /// A member alone, which leads.
    pub(super) fn leading(tail_bytes_max: u64) -> Self {
        let mut lone = Self::of(1, tail_bytes_max);
        for _ in 0..100 {
            lone.tick();
        }
        assert!(lone.core.leads(), "the only voter leads");
        lone
    }

    /// One turn of the loop: everything is synced in the log at once.
    pub(super) fn turn(&mut self) {
        self.core.end_intake();
        loop {
            let some = self.core.collect();
            let effects = self.core.take_effects();
            self.sent.extend(effects.send);
            if let Some(last) = effects.persist.last() {
                self.core.input(Input::Persisted(PersistId(last.id.0)));
            }
            let more = self.core.apply(&mut |_, _| {}).unwrap();
            if !some && !more {
                return;
            }
        }
    }

    /// A tick, and its turn.
    pub(super) fn tick(&mut self) {
        let now_ms = self.core.now_ms + self.core.config.tick_ms;
        self.core.set_now(now_ms);
        self.core.tick();
        self.turn();
    }

    /// A client's put.
    pub(super) fn propose(&mut self, value: &[u8]) -> Answer {
        self.counter += 1;
        let (reply, answer) = oneshot::channel();
        self.core.input(Input::Propose {
            counter: self.counter,
            command: put(BOOT_NONCE, self.counter, value),
            reply,
        });
        answer
    }

    /// A peer says something.
    pub(super) fn hear(&mut self, from: u64, message: PeerMessage) {
        let held = Room::default().take(1, 0).unwrap();
        self.core.input(Input::Peer {
            from,
            messages: vec![message],
            held,
        });
        self.turn();
    }

    /// The leader of `term` says something.
    pub(super) fn hear_leader(&mut self, from: u64, term: u64, message: Message) {
        let envelope = Envelope {
            from: MemberId(from),
            to: self.core.raft.id(),
            term: Term(term),
            message,
        };
        self.hear(from, PeerMessage::Raft(envelope));
    }

    /// What it has said since the last look.
    pub(super) fn take_sent(&mut self) -> Vec<(u64, PeerMessage)> {
        std::mem::take(&mut self.sent)
    }

    /// The state becomes durable as far as it may.
    pub(super) fn flush(&mut self) {
        while self.core.store().log().flush_step().unwrap() == Flushed::Worked {}
    }
}

/// An encoded put.
pub(super) fn put(member: u64, counter: u64, value: &[u8]) -> Arc<[u8]> {
    let put = Put {
        key: format!("key-{counter}").into(),
        value: value.to_vec().into(),
        ..Put::default()
    };
    let request = RequestId { member, counter };
    let op = Op::Put(put);
    Command { request, op }.encode()
}

/// An entry with a command.
pub(super) fn entry(term: u64, index: u64, command: &Arc<[u8]>) -> Entry {
    let id = EntryId {
        term: Term(term),
        index: LogIndex(index),
    };
    let payload = Payload::Command(Arc::clone(command));
    Entry { id, payload }
}

pub(super) fn raft_config(id: u64) -> Config {
    Config {
        id: MemberId(id),
        election_ticks: 10,
        heartbeat_ticks: 2,
        seed: 1,
        append_bytes_max: 1 << 20,
        inflight_appends_max: 64,
        inflight_bytes_max: 16 << 20,
        uncommitted_bytes_max: 64 << 20,
        pending_reads_max: 64,
        promote_lag_max: 1000,
        #[cfg(planted)]
        planted: 0,
    }
}

pub(super) fn core_config(new: &genesis::NewMember) -> CoreConfig {
    CoreConfig {
        boot_nonce: BOOT_NONCE,
        cluster_uuid: new.cluster.uuid,
        cluster_id: new.cluster.id,
        directory_id: [1; 16],
        incarnation: 1,
        epoch: 1,
        name: "m1".to_owned(),
        client_urls: Vec::new(),
        election_ms: 1000,
        tick_ms: 100,
        catchup_entries: 100,
        catchup_bytes_max: 1 << 20,
        max_learners: 1,
        strict_reconfig_check: true,
    }
}
