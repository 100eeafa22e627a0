//! Readers on other threads: each read is one revision, whatever is written, compacted and pruned
//! meanwhile.

use bytes::Bytes;
use quorate_node::env::real::RealDisk;
use quorate_node::kv::{
    Command, Compact, DeleteRange, Interval, Op, Pruned, Put, RangeRequest, Reader, RequestId,
    Response, Revision, SortOrder, SortTarget, Store, Txn, TxnOp,
};
use quorate_node::storage::revision_log::Options;
use quorate_raft::{EntryId, LogIndex, Term};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

/// More than a reader looks at in one hold of the lock, several times over.
const KEYS: usize = 1_500;
const ROUNDS: u64 = 60;

struct Writer {
    store: Store,
    index: u64,
    _directory: TempDir,
}

impl Writer {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("no trouble in a test");
        let options = Options {
            background: false,
            ..Options::default()
        };
        let disk = Arc::new(RealDisk::new(directory.path()));
        let (store, _) = Store::open(disk, "log", options).expect("no trouble in a test");
        Self {
            store,
            index: 0,
            _directory: directory,
        }
    }

    fn apply(&mut self, op: Op) -> (Revision, Response) {
        self.index += 1;
        let entry = EntryId {
            term: Term(1),
            index: LogIndex(self.index),
        };
        let request = RequestId {
            member: 1,
            counter: self.index,
        };
        let command = Command { request, op }.encode();
        let (_, applied) = self
            .store
            .apply(entry, &command)
            .expect("no trouble in a test");
        self.store.end_batch();
        (
            applied.revision,
            applied.result.expect("no trouble in a test"),
        )
    }

    /// Gives all keys one new value, in one transaction. The range in its middle makes the writer
    /// give the lock back while half of it is written.
    fn write_all(&mut self, value: u64) -> Revision {
        let mut success: Vec<TxnOp> = (0..KEYS).map(|n| put(n, value)).collect();
        let mut middle = RangeRequest::new(Interval::prefix(Bytes::from("k")));
        middle.count_only = true;
        success.insert(KEYS / 2, TxnOp::Range(middle));
        self.apply(Op::Txn(Txn {
            success,
            ..Txn::default()
        }))
        .0
    }
}

fn put(n: usize, value: u64) -> TxnOp {
    let key = Bytes::from(format!("k{n:05}"));
    TxnOp::Put(Put {
        key,
        value: Bytes::from(value.to_string()),
        ..Put::default()
    })
}

fn everything() -> RangeRequest {
    RangeRequest::new(Interval::prefix(Bytes::from("k")))
}

/// Lists in several ways; every list must be one state.
fn check_lists(reader: &Reader, turn: usize) {
    let mut request = everything();
    match turn % 4 {
        0 => {}
        1 => request.sort_order = SortOrder::Descend,
        2 => (request.sort_target, request.sort_order) = (SortTarget::Mod, SortOrder::Descend),
        _ => request.limit = 700,
    }
    let result = reader.range(&request).expect("no trouble in a test");
    let expected = if turn % 4 == 3 { 700 } else { KEYS };
    if result.count == 0 {
        assert!(result.kvs.is_empty());
        return;
    }
    assert_eq!((result.count, result.kvs.len()), (KEYS as i64, expected));
    let first = &result.kvs[0];
    for kv in &result.kvs {
        assert_eq!(
            (&kv.value, kv.mod_revision),
            (&first.value, first.mod_revision)
        );
    }
    assert!(first.mod_revision <= result.revision);
}

#[test]
fn a_long_list_is_one_state_while_the_writer_and_compaction_go_on() {
    let mut writer = Writer::new();
    writer.write_all(0);
    let stop = AtomicBool::new(false);
    let lists = AtomicU64::new(0);
    let (reader, mut compactor) = (writer.store.reader(), writer.store.compactor());
    std::thread::scope(|scope| {
        for start in 0..2 {
            let (reader, stop, lists) = (reader.clone(), &stop, &lists);
            scope.spawn(move || {
                let mut turn = start;
                while !stop.load(Ordering::Relaxed) {
                    check_lists(&reader, turn);
                    lists.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if compactor.step(1 << 20).expect("no trouble in a test") != Pruned::Worked {
                    std::thread::yield_now();
                }
            }
        });
        let mut round = 0;
        // Until there was enough of both sides.
        while round < ROUNDS || lists.load(Ordering::Relaxed) < ROUNDS {
            round += 1;
            let revision = writer.write_all(round);
            writer.apply(Op::Compact(Compact {
                revision,
                physical: false,
            }));
            if round % 8 == 0 {
                // Many chunks too: readers see all of it or nothing.
                let interval = Interval::prefix(Bytes::from("k"));
                let delete = DeleteRange {
                    interval,
                    prev_kv: round % 16 == 0,
                };
                let (_, response) = writer.apply(Op::DeleteRange(delete));
                let Response::DeleteRange(result) = response else {
                    panic!("{response:?}")
                };
                assert_eq!(result.deleted, KEYS as i64);
                writer.write_all(round);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut compactor = writer.store.compactor();
    while compactor.step(1 << 20).expect("no trouble in a test") == Pruned::Worked {}
    assert!(
        reader.is_compacted_physically(reader.compact_revision()),
        "no pin is left behind"
    );
}

#[test]
fn equal_commands_give_equal_digests_and_other_commands_others() {
    let (mut one, mut two) = (Writer::new(), Writer::new());
    // Who asked is no part of the state, and whether answers are wanted neither.
    two.store.answer_only(99);
    for round in 0..3 {
        one.write_all(round);
        two.write_all(round);
        assert_eq!(one.store.digest(), two.store.digest());
    }
    let delete = |key: &'static str| {
        let interval = Interval::Key(Bytes::from(key));
        Op::DeleteRange(DeleteRange {
            interval,
            prev_kv: true,
        })
    };
    let (_, told) = one.apply(delete("k00001"));
    let (_, silent) = two.apply(delete("k00001"));
    let (Response::DeleteRange(told), Response::DeleteRange(silent)) = (told, silent) else {
        panic!("a delete is answered as a delete");
    };
    assert_eq!((told.deleted, told.prev_kvs.len()), (1, 1));
    assert_eq!(
        (silent.deleted, silent.prev_kvs.len()),
        (1, 0),
        "nobody waits here"
    );
    assert_eq!(one.store.digest(), two.store.digest());
    let hashes = [&one, &two].map(|w| {
        w.store
            .reader()
            .hash_kv(Revision(0))
            .expect("no trouble in a test")
    });
    assert_eq!(hashes[0], hashes[1]);
    one.apply(delete("k00002"));
    two.apply(delete("k00003"));
    assert_ne!(one.store.digest(), two.store.digest());
}
