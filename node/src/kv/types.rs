//! Plain values of the key-value service: requests, results, intervals.
//!
//! They follow etcd's messages field by field, but say with a variant what etcd says with a magic
//! value. Made by `server` from the wire, carried by `command` through the log, executed by
//! `store`. Must not know: protobuf, sockets, the Raft log.

use bytes::Bytes;
use std::fmt;

/// etcd's counter: one per changing transaction. A new store stands at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

/// Identity of a lease; 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// Which keys a request is about; compared bytewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interval {
    /// One key. An empty one is refused by [`crate::kv::validate`].
    Key(Bytes),
    /// All keys at or after this one.
    From(Bytes),
    /// `start <= key < end`; empty, and no error, when `end <= start`.
    Between {
        /// First key contained.
        start: Bytes,
        /// First key not contained.
        end: Bytes,
    },
}

impl Interval {
    /// Reads etcd's pair: no end is one key, an end of one zero byte is "all from here".
    #[must_use]
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        match range_end.as_ref() {
            [] => Self::Key(key),
            [0] => Self::From(key),
            _ => Self::Between {
                start: key,
                end: range_end,
            },
        }
    }

    /// All keys that begin with `prefix`; all keys at all when it is empty.
    #[must_use]
    pub fn prefix(prefix: Bytes) -> Self {
        let kept = prefix.iter().rposition(|&byte| byte != 0xff);
        match kept {
            None if prefix.is_empty() => Self::From(Bytes::from_static(&[0])),
            None => Self::From(prefix),
            Some(last) => {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                Self::Between {
                    start: prefix,
                    end: Bytes::from(end),
                }
            }
        }
    }

    /// The first key that may be contained.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        match self {
            Self::Key(key) | Self::From(key) => key,
            Self::Between { start, .. } => start,
        }
    }

    /// Whether `key` is contained.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(one) => one.as_ref() == key,
            Self::From(start) => start.as_ref() <= key,
            Self::Between { start, end } => start.as_ref() <= key && key < end.as_ref(),
        }
    }
}

/// One key as it stood at a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the put that (re-)created it.
    pub create_revision: Revision,
    /// Revision of the newest put.
    pub mod_revision: Revision,
    /// Puts since the creation, counting that one.
    pub version: i64,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// The lease it is attached to.
    pub lease: LeaseId,
}

/// Order of a range answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Key order, unless another target is named: then ascending by it.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
    /// A number outside etcd's enumeration; refused by [`crate::kv::validate`], in etcd's order.
    Unknown,
}

/// What a range answer is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// Its version.
    Version,
    /// Its create revision.
    Create,
    /// Its modification revision.
    Mod,
    /// The bytes of its value.
    Value,
    /// A number outside etcd's enumeration; refused by [`crate::kv::validate`].
    Unknown,
}

impl SortOrder {
    /// From etcd's number.
    #[must_use]
    pub fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Ascend,
            2 => Self::Descend,
            _ => Self::Unknown,
        }
    }
}

impl SortTarget {
    /// From etcd's number.
    #[must_use]
    pub fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Key,
            1 => Self::Version,
            2 => Self::Create,
            3 => Self::Mod,
            4 => Self::Value,
            _ => Self::Unknown,
        }
    }
}

/// Reads the keys of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub interval: Interval,
    /// At most so many keys; 0 or less: all.
    pub limit: i64,
    /// At which revision; 0 or less: the newest (inside a txn only 0 is).
    pub revision: Revision,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What `sort_order` is about.
    pub sort_target: SortTarget,
    /// Answered from local state, without asking a quorum. Ignored by the store itself.
    pub serializable: bool,
    /// Leave values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Smallest modification revision to return; 0: no bound. The next three likewise.
    pub min_mod_revision: Revision,
    /// Largest modification revision to return.
    pub max_mod_revision: Revision,
    /// Smallest create revision to return.
    pub min_create_revision: Revision,
    /// Largest create revision to return.
    pub max_create_revision: Revision,
}

impl RangeRequest {
    /// Reads all of `interval` at the newest revision, in key order.
    #[must_use]
    pub fn new(interval: Interval) -> Self {
        Self {
            interval,
            limit: 0,
            revision: Revision(0),
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            min_mod_revision: Revision(0),
            max_mod_revision: Revision(0),
            min_create_revision: Revision(0),
            max_create_revision: Revision(0),
        }
    }
}

/// Answer to a [`RangeRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The store's revision when it was read, also when an older one was asked for.
    pub revision: Revision,
    /// The keys, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// Keys alive in the interval, independent of limit and filters.
    pub count: i64,
}

/// Writes one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The key; must not be empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach to; none detaches.
    pub lease: LeaseId,
    /// Return the previous pair.
    pub prev_kv: bool,
    /// Keep the current value; `value` must be empty and the key must exist.
    pub ignore_value: bool,
    /// Keep the current lease; `lease` must be 0 and the key must exist.
    pub ignore_lease: bool,
}

/// Answer to a [`Put`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutResult {
    /// The pair before, if asked for and present.
    pub prev_kv: Option<KeyValue>,
}

/// Deletes the keys of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which keys.
    pub interval: Interval,
    /// Return the deleted pairs.
    pub prev_kv: bool,
}

/// Answer to a [`DeleteRange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeResult {
    /// How many keys were deleted.
    pub deleted: i64,
    /// What they held, in key order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// Compares, then one of two lists of operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to run.
    pub compare: Vec<Compare>,
    /// Run when all compares hold.
    pub success: Vec<TxnOp>,
    /// Run when one does not.
    pub failure: Vec<TxnOp>,
}

/// A condition on every key of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys; an empty interval behaves like one missing key.
    pub interval: Interval,
    /// What of the key, and the operand. An operand of another kind than the target is read as 0
    /// or empty: whoever decodes the wire puts that in.
    pub target: CompareTarget,
    /// How the key's part relates to the operand.
    pub result: CompareResult,
}

/// What a [`Compare`] looks at, with its operand. A missing key has 0 everywhere and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(Revision),
    /// The modification revision.
    Mod(Revision),
    /// The value; never true for a missing key, whatever the operator.
    Value(Bytes),
    /// The lease.
    Lease(LeaseId),
    /// A target outside etcd's enumeration: compares as equal.
    Unknown,
}

/// The operator of a [`Compare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `!=`
    NotEqual,
    /// An operator outside etcd's enumeration: always true.
    Unknown,
}

impl CompareResult {
    /// From etcd's number.
    #[must_use]
    pub fn from_wire(number: i32) -> Self {
        match number {
            0 => Self::Equal,
            1 => Self::Greater,
            2 => Self::Less,
            3 => Self::NotEqual,
            _ => Self::Unknown,
        }
    }
}

/// One operation of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Read.
    Range(RangeRequest),
    /// Write.
    Put(Put),
    /// Delete.
    DeleteRange(DeleteRange),
    /// A transaction within: its compares see the state before the outermost one.
    Txn(Txn),
    /// A request without content; refused by [`crate::kv::validate`].
    Empty,
}

/// Answer to a [`Txn`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResult {
    /// Which branch ran.
    pub succeeded: bool,
    /// One per operation run, in order.
    pub responses: Vec<TxnOpResult>,
}

/// Answer to one [`TxnOp`]. `revision` is that of its header: the revision before the txn, one
/// more as soon as the txn has changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOpResult {
    /// Of a range; the header's revision is in it.
    Range(RangeResult),
    /// Of a put.
    Put {
        /// Revision of the response header.
        revision: Revision,
        /// The answer.
        result: PutResult,
    },
    /// Of a delete.
    DeleteRange {
        /// Revision of the response header.
        revision: Revision,
        /// The answer.
        result: DeleteRangeResult,
    },
    /// Of a txn within; its header carries revision 0.
    Txn(TxnResult),
}

impl Txn {
    /// Whether it may be answered without a log entry: every operation of both branches is a
    /// plain range. A txn within makes it a write even if that only reads.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.ops().all(|op| matches!(op, TxnOp::Range(_)))
    }

    /// Whether a read-only txn may be answered from local state. etcd counts a txn without any
    /// operation as serializable; we run it linearizably, since its compares are reads.
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        self.ops().next().is_some()
            && self
                .ops()
                .all(|op| matches!(op, TxnOp::Range(range) if range.serializable))
    }

    fn ops(&self) -> impl Iterator<Item = &TxnOp> {
        self.success.iter().chain(&self.failure)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Lower-case hexadecimal without padding, as etcd prints IDs.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
