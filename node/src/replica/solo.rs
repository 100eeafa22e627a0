//! A replica of one without Raft or log, for tests of what sits in front of it: real inbox, real
//! state machine, and a status that a test may change.

use super::handle::{Handle, Shared};
use super::inbox::Inbox;
use super::input::{AdminCall, Input};
use super::types::{MembershipView, Phase, ReplicaStatus, Role};
use crate::env::Disk;
use crate::env::real::{RealDisk, SystemClock};
use crate::kv::{Member, Store};
use crate::storage::revision_log::Options;
use arc_swap::{ArcSwap, ArcSwapOption};
use quorate_raft::{EntryId, LogIndex, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Largest encoded request, bytes: small, so that tests reach it.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// The member's ID.
pub(crate) const MEMBER_ID: u64 = 0xcafe;

pub(crate) struct Solo {
    pub(crate) handle: Handle,
    /// Set: reads wait, as they do without a quorum.
    pub(crate) hold_reads: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Solo {
    /// A member of a cluster of one.
    pub(crate) fn joined() -> Self {
        Self::start(true)
    }

    /// A node with an empty directory.
    pub(crate) fn unjoined() -> Self {
        Self::start(false)
    }

    /// Changes what the node says about itself.
    pub(crate) fn change(&self, change: impl FnOnce(&mut ReplicaStatus)) {
        let mut status = ReplicaStatus::clone(&self.handle.status());
        change(&mut status);
        self.handle.shared.status.store(Arc::new(status));
    }

    /// The state is gone, as while a snapshot is installed or when the member has ended.
    pub(crate) fn lose_state(&self) {
        self.handle.shared.reader.store(None);
    }

    /// Flips a bit of `text` in the stored history, once it is stored.
    pub(crate) fn damage(&self, text: &[u8]) {
        for _ in 0..1000 {
            for entry in std::fs::read_dir(self.dir.path().join("history")).unwrap() {
                let path = entry.unwrap().path();
                let mut bytes = std::fs::read(&path).unwrap_or_default();
                let found = bytes.windows(text.len()).position(|window| window == text);
                if let Some(at) = found {
                    bytes[at] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(10)); // poll interval
        }
        panic!("the history was not stored within 10 s");
    }

    fn start(joined: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()));
        disk.create_dir("history").unwrap();
        let (store, _) = Store::open(disk, "history", Options::default()).unwrap();
        let reader = joined.then(|| Arc::new(store.reader()));
        let handle = Handle {
            shared: Arc::new(Shared {
                inbox: Inbox::default(),
                status: ArcSwap::from_pointee(status(joined)),
                reader: ArcSwapOption::new(reader),
                boot_nonce: 1,
                next_request: AtomicU64::new(1),
                request_bytes_max: REQUEST_BYTES_MAX,
                clock: Arc::new(SystemClock::new()),
            }),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let hold_reads = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&handle.shared), Arc::clone(&stop));
        let hold = Arc::clone(&hold_reads);
        let thread = std::thread::spawn(move || run(&shared, store, &hold, &stopped));
        Self {
            handle,
            hold_reads,
            stop,
            thread: Some(thread),
            dir,
        }
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the loop ends when it is told to");
        }
    }
}

fn status(joined: bool) -> ReplicaStatus {
    let id = if joined { MEMBER_ID } else { 0 };
    let member = Member {
        id,
        name: "solo".to_owned(),
        ..Member::default()
    };
    ReplicaStatus {
        phase: if joined {
            Phase::Joined
        } else {
            Phase::Unjoined
        },
        cluster_id: if joined { 0xbeef } else { 0 },
        cluster_uuid: joined.then_some([7; 16]),
        member_id: id,
        directory_id: [9; 16],
        incarnation: 1,
        epoch: u64::from(joined),
        term: 3,
        leader: id,
        role: if joined { Role::Leader } else { Role::Follower },
        commit: 10,
        applied: 10,
        durable: 10,
        last: 10,
        last_term: 3,
        membership_index: 5,
        membership_settled: true,
        members: if joined {
            Arc::new([member])
        } else {
            Arc::new([])
        },
        peers: Vec::new(),
    }
}

fn run(shared: &Shared, mut store: Store, hold_reads: &AtomicBool, stop: &AtomicBool) {
    let mut reads = Vec::new();
    let mut batch = Vec::new();
    let mut index = store.applied().index;
    while !stop.load(Ordering::Relaxed) {
        shared
            .inbox
            .wait_and_drain(&mut batch, Duration::from_millis(20));
        let mut replies = Vec::new();
        for input in batch.drain(..) {
            match input {
                Input::Propose { command, reply, .. } => {
                    index = LogIndex(index.0 + 1);
                    let entry = EntryId {
                        term: Term(3),
                        index,
                    };
                    let (_, applied) = store.apply(entry, &command).unwrap();
                    replies.push((reply, applied));
                }
                Input::Read { reply } => reads.push(reply),
                Input::Admin(AdminCall::Membership { reply }) => {
                    drop(reply.send(Ok(view(&shared.status.load()))));
                }
                // The caller learns that the node has stopped.
                _ => {}
            }
        }
        if !hold_reads.load(Ordering::Relaxed) {
            for reply in reads.drain(..) {
                drop(reply.send(Ok(())));
            }
        }
        store.end_batch();
        store.log().allow_durable(index);
        for (reply, applied) in replies {
            drop(reply.send(Ok(applied)));
        }
    }
}

fn view(status: &ReplicaStatus) -> MembershipView {
    MembershipView {
        index: status.membership_index,
        term: status.term,
        leader: status.leader,
        commit: status.commit,
        members: Arc::clone(&status.members),
        peers: status.peers.clone(),
    }
}
