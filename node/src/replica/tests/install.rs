//! The installation of a snapshot, cut at every change it makes to the disk: state, log and core
//! agree afterwards, and are the old ones or the new ones.

use super::lone::{core_config, entry, put, raft_config};
use crate::config::InitialMember;
use crate::env::real::SystemClock;
use crate::kv::Store;
use crate::metrics::Metrics;
use crate::replica::core::Core;
use crate::replica::disk::DiskThread;
use crate::replica::genesis::{self, HISTORY_DIR, NewMember, WAL_DIR};
use crate::replica::handle::Shared;
use crate::replica::inbox::Inbox;
use crate::replica::lifecycle::follow_snapshot;
use crate::replica::repair::restored;
use crate::replica::shell::{Ended, History, Shell};
use crate::replica::sink::PeerSink;
use crate::replica::snapshots::ReceivedSnapshot;
use crate::storage::codec::put_snapshot_meta;
use crate::storage::revision_log::tests::disk::{Loss, TestDisk};
use crate::storage::revision_log::{Flushed, Options, Snapshot, SnapshotReceiver};
use crate::storage::{PeerLife, PeersSeen, Wal, WalOptions};
use crate::transport::{Local, PeerPort, Transport};
use arc_swap::{ArcSwap, ArcSwapOption};
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, Node, Payload, Persist, PersistId, SnapshotMeta, Term,
};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;

const TERM: u64 = 2;
/// Applied and durable before the installation.
const OLD: u64 = 5;
/// Where the log ends before the installation.
const LOGGED: u64 = 10;
/// Where the snapshot stands.
const NEW: u64 = 40;

fn member() -> NewMember {
    let list: Vec<InitialMember> = (1..=3)
        .map(|number| InitialMember {
            name: format!("m{number}"),
            peer_url: format!("http://127.0.0.1:{number}"),
        })
        .collect();
    genesis::from_static_list("m1", &["http://127.0.0.1:1".to_owned()], &list, "t").unwrap()
}

fn log(new: &NewMember, last: u64) -> Vec<Entry> {
    let first = new.first_entry.clone();
    let rest = (2..=last).map(|index| entry(TERM, index, &put(1, index, &[index as u8; 300])));
    first.into_iter().chain(rest).collect()
}

fn options() -> Options {
    Options {
        segment_bytes: 4096,
        background: false,
        ..Options::default()
    }
}

fn wal(disk: &TestDisk, incarnation: u64) -> (Wal, crate::storage::Recovered) {
    let mut options = WalOptions::new([1; 16], incarnation);
    options.was_member = incarnation > 1;
    options.segment_bytes = 64 << 10;
    Wal::open(disk.door(), WAL_DIR, options).unwrap()
}

/// The state after `last` entries, durable. Returns its digest.
fn state(disk: &TestDisk, new: &NewMember, last: u64) -> (Store, u64) {
    disk.door().create_dir(HISTORY_DIR).unwrap();
    let (mut store, _) = Store::open(disk.door(), HISTORY_DIR, options()).unwrap();
    for entry in log(new, last) {
        match &entry.payload {
            Payload::Empty => store.apply_empty(entry.id),
            Payload::Command(command) => drop(store.apply(entry.id, command).unwrap()),
            Payload::Membership {
                membership,
                context,
            } => drop(
                store
                    .apply_membership(entry.id, membership, context)
                    .unwrap(),
            ),
        }
        store.end_batch();
    }
    store.log().allow_durable(LogIndex(last));
    while store.log().flush_step().unwrap() == Flushed::Worked {}
    let digest = store.digest();
    (store, digest)
}

/// A follower that has applied a part of its log, as it lies on its disk; and the digest.
fn follower(new: &NewMember) -> (TestDisk, u64) {
    let disk = TestDisk::new();
    let (mut wal, _) = wal(&disk, 1);
    let hard_state = HardState {
        term: Term(TERM),
        vote: None,
    };
    wal.append(&[Persist {
        id: PersistId(1),
        hard_state: Some(hard_state),
        entries: log(new, LOGGED),
    }])
    .unwrap();
    wal.sync().unwrap();
    drop(wal);
    let (store, digest) = state(&disk, new, OLD);
    drop(store);
    // What was made so far survives whatever comes.
    disk.door().sync_dir("").unwrap();
    (disk, digest)
}

fn snapshot(new: &NewMember) -> (Snapshot, SnapshotMeta, u64) {
    let disk = TestDisk::new();
    let (store, digest) = state(&disk, new, NEW);
    let membership = match &log(new, 1)[0].payload {
        Payload::Membership { membership, .. } => membership.as_ref().clone(),
        Payload::Empty | Payload::Command(_) => panic!("the first entry is a membership"),
    };
    let meta = SnapshotMeta {
        last: EntryId {
            term: Term(TERM),
            index: LogIndex(NEW),
        },
        membership,
        membership_index: LogIndex(1),
    };
    let mut bytes = Vec::new();
    put_snapshot_meta(&mut bytes, &meta);
    let snapshot = store.log().snapshotter().take(|_| bytes).unwrap();
    (snapshot, meta, digest)
}

/// Opens a member's directory as a start does.
fn open(disk: &TestDisk, new: &NewMember, incarnation: u64) -> (Wal, Core) {
    let (mut wal, mut recovered) = wal(disk, incarnation);
    let (store, opened) = Store::open(disk.door(), HISTORY_DIR, options()).unwrap();
    if let Some(installed) = &opened.installed {
        follow_snapshot(&mut wal, &mut recovered, installed).unwrap();
    }
    let restored = restored(recovered, store.applied(), false);
    let raft = Node::new(raft_config(new.member_id), restored).unwrap();
    (wal, Core::new(core_config(new), raft, store))
}

/// A running member, without peers.
fn shell(disk: &TestDisk, new: &NewMember) -> Shell {
    let (wal, core) = open(disk, new, 2);
    let clock = Arc::new(SystemClock::new());
    let metrics = Arc::new(Metrics::default());
    let shared = Arc::new(Shared {
        inbox: Inbox::default(),
        status: ArcSwap::from_pointee(core.status()),
        reader: ArcSwapOption::empty(),
        boot_nonce: 1,
        next_request: AtomicU64::new(1),
        request_bytes_max: 1 << 20,
        clock: clock.clone(),
    });
    let seen = PeersSeen::open(disk.door(), [1; 16], false).unwrap();
    let sink = PeerSink::new(Arc::clone(&shared), Arc::clone(&metrics), seen, disk.door());
    let transport = Transport::start(PeerPort::plain(Vec::new()), Arc::new(sink)).unwrap();
    let (inbox, counted) = (shared.inbox.clone(), Arc::clone(&metrics));
    let thread = DiskThread::start(wal, inbox, clock, counted).unwrap();
    let life = PeerLife {
        directory_id: [1; 16],
        incarnation: 2,
        boot_nonce: 1,
    };
    let history = History {
        disk: disk.door(),
        options: options(),
        local: Local {
            cluster_uuid: new.cluster.uuid,
            epoch: new.epoch,
            member: new.member_id,
            life,
            peer_urls: Vec::new(),
            tls: None,
        },
        log_found: LogIndex(0),
    };
    Shell::new(core, thread, transport, shared, metrics, history)
}

/// Installs the snapshot on a copy of `base` whose power goes after `changes`. Returns the disk
/// afterwards, and whether the installation was cut.
fn install(
    base: &TestDisk,
    new: &NewMember,
    (snapshot, meta): (&Snapshot, &SnapshotMeta),
    changes: u64,
) -> (TestDisk, bool) {
    let disk = base.fork();
    let mut shell = shell(&disk, new);
    let manifest = snapshot.manifest();
    let mut receiver = SnapshotReceiver::begin(disk.door(), HISTORY_DIR, &manifest).unwrap();
    let missing: Vec<u32> = receiver.missing().collect();
    for number in missing {
        let chunk = snapshot.chunk(number, true).unwrap();
        receiver.write_chunk(snapshot.id(), number, &chunk).unwrap();
    }
    receiver.verify().unwrap();
    let (done, told) = sync_channel(1);
    disk.stop_after(changes);
    let ended = shell.install(ReceivedSnapshot {
        from: 9,
        term: Term(TERM),
        meta: meta.clone(),
        receiver,
        done,
    });
    let cut = disk.has_stopped();
    match ended {
        Ok(()) => assert!(cut || told.try_recv() == Ok(LogIndex(NEW))),
        Err(Ended::Failed(why)) => assert!(cut, "{why}"),
        Err(other) => panic!("{other:?}"),
    }
    drop(shell);
    (disk, cut)
}

#[test]
fn d03_d08_an_installation_cut_anywhere_leaves_the_old_or_the_new_state_log_and_core() {
    let new = member();
    let (base, old_digest) = follower(&new);
    let (snapshot, meta, new_digest) = snapshot(&new);
    let mut seen = [0; 2];
    let mut changes = 0;
    loop {
        let mut cut = false;
        for loss in [Loss::Nothing, Loss::Unsynced, Loss::Torn] {
            let (disk, was_cut) = install(&base, &new, (&snapshot, &meta), changes);
            cut |= was_cut;
            disk.lose_power(loss);
            let at = format!("cut after {changes} changes, {loss:?}");
            let (wal, core) = open(&disk, &new, 3);
            let applied = core.applied().index.0;
            let (expected, last) = match applied {
                OLD => (old_digest, LOGGED),
                NEW => (new_digest, NEW),
                other => panic!("{at}: the state is at {other}"),
            };
            seen[usize::from(applied == NEW)] += 1;
            assert_eq!(core.store().digest(), expected, "{at}");
            assert!(
                wal.last().index.0 >= last,
                "{at}: the log ends at {}",
                wal.last()
            );
            assert!(was_cut || applied == NEW, "{at}: it was complete");
            let status = core.raft.status();
            assert_eq!(status.membership_index, LogIndex(1), "{at}");
            assert!(
                status.first.0 <= applied + 1,
                "{at}: a gap before {}",
                status.first
            );
        }
        if !cut {
            break;
        }
        changes += 1;
    }
    assert!(changes > 5, "{changes} changes were cut");
    assert!(seen[0] > 0 && seen[1] > 3, "both outcomes occur: {seen:?}");
}
