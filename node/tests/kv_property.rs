//! The state machine against the plain model, under random commands, reads of any revision,
//! compactions and restarts in between.

use crate::kv_model::Model;
use bytes::Bytes;
use proptest::prelude::*;
use quorate_node::env::real::RealDisk;
use quorate_node::kv::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Interval, LeaseId, Op,
    Pruned, Put, RangeRequest, RequestId, Revision, SortOrder, SortTarget, Store, Txn, TxnOp,
};
use quorate_node::storage::revision_log::{Flushed, Options};
use quorate_raft::{EntryId, LogIndex, Term};
use std::sync::Arc;
use tempfile::TempDir;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Apply(Op),
    Range(RangeRequest),
    Read(Txn),
    /// Compact so far behind the newest revision.
    Compact(i64),
    /// One step of the background half.
    Prune,
    Restart,
}

fn keys() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "aa", "ab", "b", "b/", "b/1", "b/2", "c", "d", "\u{7f}"])
            .prop_map(Bytes::from),
        1 => prop::sample::select(vec![vec![0u8], vec![0xff], vec![b'a', 0xff], vec![b'a', 0]])
            .prop_map(Bytes::from),
        // Enough of them that walks take several chunks.
        3 => (0..400u32).prop_map(|n| Bytes::from(format!("many/{n:03}"))),
    ]
}

fn values() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "1", "2", "x"]).prop_map(Bytes::from)
}

fn intervals() -> impl Strategy<Value = Interval> {
    prop_oneof![
        4 => keys().prop_map(Interval::Key),
        1 => keys().prop_map(Interval::From),
        2 => (keys(), keys()).prop_map(|(key, end)| Interval::from_wire(key, end)),
        2 => prop::sample::select(vec!["a", "b/", "many/", "many/1", ""])
            .prop_map(|prefix| Interval::prefix(Bytes::from(prefix))),
    ]
}

fn puts() -> impl Strategy<Value = Put> {
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (keys(), values(), flags, prop::bool::weighted(0.03)).prop_map(|(key, value, flags, lease)| {
        let (prev_kv, ignore_value, ignore_lease) = flags;
        let value = if ignore_value { Bytes::new() } else { value };
        let lease = LeaseId(i64::from(lease && !ignore_lease));
        Put {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn deletes() -> impl Strategy<Value = DeleteRange> {
    (intervals(), any::<bool>()).prop_map(|(interval, prev_kv)| DeleteRange { interval, prev_kv })
}

/// Mostly off, else a revision that may exist.
fn bounds() -> impl Strategy<Value = Revision> {
    prop_oneof![4 => Just(0), 1 => 0..60i64].prop_map(Revision)
}

fn ranges() -> impl Strategy<Value = RangeRequest> {
    let sort = (0..3i32, 0..5i32);
    let limit = prop_oneof![2 => Just(0i64), 1 => -1..4i64, 1 => 4..300i64];
    let revision = prop_oneof![2 => Just(0i64), 2 => -2..40i64, 1 => 0..200i64];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let bounds = (bounds(), bounds(), bounds(), bounds());
    (intervals(), sort, limit, revision, flags, bounds).prop_map(
        |(interval, (order, target), limit, revision, (keys_only, count_only), bounds)| {
            let mut request = RangeRequest::new(interval);
            request.sort_order = SortOrder::from_wire(order);
            request.sort_target = SortTarget::from_wire(target);
            request.limit = limit;
            request.revision = Revision(revision);
            request.keys_only = keys_only;
            request.count_only = count_only;
            (request.min_mod_revision, request.max_mod_revision) = (bounds.0, bounds.1);
            (request.min_create_revision, request.max_create_revision) = (bounds.2, bounds.3);
            request
        },
    )
}

fn compares() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..4i64).prop_map(CompareTarget::Version),
        (0..40i64).prop_map(|r| CompareTarget::Create(Revision(r))),
        (0..40i64).prop_map(|r| CompareTarget::Mod(Revision(r))),
        (0..2i64).prop_map(|l| CompareTarget::Lease(LeaseId(l))),
        values().prop_map(CompareTarget::Value),
        Just(CompareTarget::Unknown),
    ];
    (intervals(), target, 0..5i32).prop_map(|(interval, target, result)| Compare {
        interval,
        target,
        result: CompareResult::from_wire(result),
    })
}

fn txns() -> impl Strategy<Value = Txn> {
    let leaf = prop_oneof![
        2 => ranges().prop_map(TxnOp::Range),
        4 => puts().prop_map(TxnOp::Put),
        2 => deletes().prop_map(TxnOp::DeleteRange),
    ];
    // Unlike a server we also apply what static validation refuses: put and delete of one key in
    // any order must simply run in order.
    let op = leaf.prop_recursive(2, 8, 3, |inner| {
        let branch = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec(compares(), 0..2), branch(), branch()).prop_map(
            |(compare, success, failure)| {
                TxnOp::Txn(Txn {
                    compare,
                    success,
                    failure,
                })
            },
        )
    });
    let branch = || prop::collection::vec(op.clone(), 0..5);
    (prop::collection::vec(compares(), 0..3), branch(), branch()).prop_map(
        |(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        },
    )
}

fn reads() -> impl Strategy<Value = Txn> {
    let branch = || prop::collection::vec(ranges().prop_map(TxnOp::Range), 0..3);
    (prop::collection::vec(compares(), 0..3), branch(), branch()).prop_map(
        |(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => puts().prop_map(|put| Step::Apply(Op::Put(put))),
        3 => deletes().prop_map(|delete| Step::Apply(Op::DeleteRange(delete))),
        8 => txns().prop_map(|txn| Step::Apply(Op::Txn(txn))),
        10 => ranges().prop_map(Step::Range),
        2 => reads().prop_map(Step::Read),
        1 => (-1..30i64).prop_map(Step::Compact),
        2 => Just(Step::Prune),
        1 => Just(Step::Restart),
    ]
}

struct Subject {
    directory: TempDir,
    store: Option<Store>,
    index: u64,
}

fn open(directory: &TempDir) -> Store {
    // Small segments, so that there are sealed ones to rewrite.
    let options = Options {
        background: false,
        segment_bytes: 16 << 10,
        ..Options::default()
    };
    Store::open(Arc::new(RealDisk::new(directory.path())), "log", options)
        .expect("opens")
        .0
}

impl Subject {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let store = Some(open(&directory));
        Self {
            directory,
            store,
            index: 0,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("open between steps")
    }

    fn apply(&mut self, op: &Op) -> quorate_node::kv::Applied {
        self.index += 1;
        let entry = EntryId {
            term: Term(1),
            index: LogIndex(self.index),
        };
        let request = RequestId {
            member: 7,
            counter: self.index,
        };
        let command = Command {
            request,
            op: op.clone(),
        };
        let bytes = command.encode();
        let decoded =
            Command::decode(&Bytes::from_owner(Arc::clone(&bytes))).expect("no trouble in a test");
        assert_eq!(decoded, command, "a command must survive its bytes");
        let (answered, applied) = self
            .store()
            .apply(entry, &bytes)
            .expect("no trouble in a test");
        assert_eq!(answered, request);
        self.store().end_batch();
        applied
    }

    fn flush(&mut self) {
        let index = LogIndex(self.index);
        let store = self.store();
        store.log().allow_durable(index);
        while store.log().flush_step().expect("no trouble in a test") == Flushed::Worked {}
    }

    fn restart(&mut self) {
        self.flush();
        let store = self.store();
        let before = (
            store.applied(),
            store.digest(),
            store.reader().hash_kv(Revision(0)),
        );
        self.store = None;
        let store = open(&self.directory);
        let after = (
            store.applied(),
            store.digest(),
            store.reader().hash_kv(Revision(0)),
        );
        assert_eq!(after, before);
        self.store = Some(store);
    }
}

/// Reads everything at every revision that is readable.
fn compare_history(subject: &mut Subject, model: &Model) {
    let reader = subject.store().reader();
    assert_eq!(reader.revision().0, model.revision);
    assert_eq!(reader.compact_revision().0, model.compacted);
    let everything = RangeRequest::new(Interval::prefix(Bytes::new()));
    let now = model.range(&everything).expect("no trouble in a test");
    assert_eq!(reader.keys_total(), now.count.unsigned_abs());
    for revision in model.compacted.max(1)..=model.revision {
        for limit in [0, 3] {
            let mut request = everything.clone();
            (request.revision, request.limit) = (Revision(revision), limit);
            assert_eq!(
                reader.range(&request),
                model.range(&request),
                "at {revision}"
            );
        }
    }
}

/// Pages through a revision and counts what is left.
fn compare_pages(subject: &mut Subject, model: &Model, revision: i64, limit: i64) {
    let reader = subject.store().reader();
    let mut request = RangeRequest::new(Interval::From(Bytes::from_static(&[0])));
    (request.revision, request.limit) = (Revision(revision), limit);
    loop {
        let page = reader.range(&request).expect("no trouble in a test");
        assert_eq!(page, model.range(&request).expect("no trouble in a test"));
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            return;
        };
        request.interval = Interval::From(Bytes::from([last.key.as_ref(), &[0]].concat()));
    }
}

fn run(steps: &[Step]) {
    let (mut subject, mut model) = (Subject::new(), Model::default());
    // Something to walk through from the beginning.
    let put = |n| {
        let key = Bytes::from(format!("many/{n:03}"));
        TxnOp::Put(Put {
            key,
            ..Put::default()
        })
    };
    let many = Op::Txn(Txn {
        success: (0..300).map(put).collect(),
        ..Txn::default()
    });
    assert_eq!(subject.apply(&many), model.apply(&many));
    for step in steps {
        match step {
            Step::Apply(op) => assert_eq!(subject.apply(op), model.apply(op), "{op:?}"),
            Step::Range(request) => {
                // Revisions are drawn small; the interesting ones are the newest.
                let mut request = request.clone();
                if request.revision.0 > 0 {
                    request.revision.0 += model.revision - 35;
                }
                let reader = subject.store().reader();
                assert_eq!(reader.range(&request), model.range(&request), "{request:?}");
            }
            Step::Read(txn) => {
                let read = subject.store().reader().txn(txn);
                let expected = model
                    .read(txn)
                    .map(|result| (Revision(model.revision), result));
                assert_eq!(read, expected, "{txn:?}");
            }
            Step::Compact(behind) => {
                let revision = Revision(model.revision - behind);
                let op = Op::Compact(Compact {
                    revision,
                    physical: false,
                });
                assert_eq!(subject.apply(&op), model.apply(&op));
            }
            Step::Prune => {
                let before = subject.store().reader().hash_kv(Revision(0));
                subject.flush();
                let mut compactor = subject.store().compactor();
                while compactor.step(1 << 20).expect("no trouble in a test") == Pruned::Worked {}
                let after = subject.store().reader().hash_kv(Revision(0));
                assert_eq!(after, before, "pruning must not change what is hashed");
            }
            Step::Restart => subject.restart(),
        }
    }
    compare_pages(
        &mut subject,
        &model,
        model.compacted.max(model.revision - 9).max(1),
        70,
    );
    subject.restart();
    compare_history(&mut subject, &model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_state_machine_agrees_with_the_plain_model(
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        run(&steps);
    }

    #[test]
    fn any_bytes_decode_to_a_command_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        op in steps(),
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let _ = Command::decode(&Bytes::from(bytes));
        let Step::Apply(op) = op else { return Ok(()) };
        let whole = Command { request: RequestId { member: 1, counter: 2 }, op }.encode().to_vec();
        let short = &whole[..cut.index(whole.len())];
        prop_assert!(Command::decode(&Bytes::copy_from_slice(short)).is_err(), "cut short");
        let mut bad = whole.clone();
        let at = flip.0.index(bad.len());
        bad[at] ^= flip.1;
        // Whatever it says, it must say the same again.
        if let Ok(command) = Command::decode(&Bytes::from(bad)) {
            let again = command.encode();
            prop_assert_eq!(Command::decode(&Bytes::from_owner(again)), Ok(command));
        }
        let mut long = whole;
        long.push(0);
        prop_assert!(Command::decode(&Bytes::from(long)).is_err(), "bytes at the end");
    }
}
