//! What an entry of the Raft log tells the state machine to do, and its bytes.
//!
//! First byte: format version. Then who asked, then the operation. Kinds are numbered for ever:
//! a log holds commands of older versions. Decoding is bounded (see `codec`) and total: any bytes
//! give a command or a [`DecodeError`].

use super::codec::{Cursor, DecodeError, Writer};
use super::error::Error;
use super::membership::{ClusterInfo, Member};
use super::types::{
    Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeResult, Interval, LeaseId, Put,
    PutResult, RangeRequest, Revision, SortOrder, SortTarget, Txn, TxnOp, TxnResult,
};
use bytes::Bytes;
use std::sync::Arc;

/// The newest format this code writes, and all it reads.
const FORMAT: u8 = 1;
/// Nested transactions deeper than this are refused; validation refuses them earlier.
pub const TXN_DEPTH_MAX: usize = 64;
/// Compares and operations of one command, nested ones included: bounds what a small command may
/// expand to in memory.
pub const TXN_ITEMS_MAX: usize = 1 << 16;

/// Who waits for a command: never used twice within a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The member (or one life of it) that took the request.
    pub member: u64,
    /// Its own counter.
    pub counter: u64,
}

/// A request on its way through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who waits for it.
    pub request: RequestId,
    /// What to do.
    pub op: Op,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing; moves the applied index.
    Noop,
    /// Write a key.
    Put(Put),
    /// Delete keys.
    DeleteRange(DeleteRange),
    /// A transaction.
    Txn(Txn),
    /// Forget old revisions.
    Compact(Compact),
    /// Change what is known about members.
    Member(MemberOp),
    /// Announce the version that every member runs at least, as `major.minor`.
    ClusterVersion(String),
}

/// Forgets what is older than a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// Versions that are neither newest at this revision nor newer go.
    pub revision: Revision,
    /// The caller also waits until the space is free on the member that answers.
    pub physical: bool,
}

/// A change of the replicated membership data. `Add`, `Promote` and `Remove` travel as the context
/// of a Raft membership entry; the others are plain commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberOp {
    /// Give the cluster its identity and first members. Once per cluster.
    Bootstrap {
        /// The cluster.
        cluster: ClusterInfo,
        /// Its first members.
        members: Vec<Member>,
    },
    /// A new member, not started yet: its name is empty until it publishes itself, unless given.
    Add(Member),
    /// A learner becomes a voter.
    Promote {
        /// Which.
        id: u64,
    },
    /// The member is gone for good; its ID never returns.
    Remove {
        /// Which.
        id: u64,
    },
    /// New peer URLs.
    Update {
        /// Whose.
        id: u64,
        /// All of them.
        peer_urls: Vec<String>,
    },
    /// A started member tells its name and client URLs.
    Publish {
        /// Which.
        id: u64,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision after the command: that of the write if it changed something.
    pub revision: Revision,
    /// The answer, or why nothing was changed.
    pub result: Result<Response, Error>,
}

/// The answer to an [`Op`] that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To `Noop` and `ClusterVersion`.
    Done,
    /// To a put.
    Put(PutResult),
    /// To a delete.
    DeleteRange(DeleteRangeResult),
    /// To a transaction.
    Txn(TxnResult),
    /// To a compaction: in force, not yet physical.
    Compact,
    /// To a member change: all members after it, by ID.
    Members(Vec<Member>),
}

impl Command {
    /// The bytes that go into the log.
    #[must_use]
    pub fn encode(&self) -> Arc<[u8]> {
        let mut out = Writer::with_capacity(size_hint(&self.op));
        out.byte(FORMAT);
        out.u64(self.request.member);
        out.u64(self.request.counter);
        write_op(&mut out, &self.op);
        out.finish().into()
    }

    /// Reads what [`Command::encode`] wrote; byte strings share the input.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Cursor::new(input);
        let request = read_request(&mut from)?;
        let op = read_op(&mut from)?;
        from.finish()?;
        Ok(Self { request, op })
    }

    /// Who waits for the command in `input`, without reading the rest.
    ///
    /// # Errors
    /// [`DecodeError`] if the head is damaged.
    pub fn peek_request(input: &Bytes) -> Result<RequestId, DecodeError> {
        read_request(&mut Cursor::new(input))
    }
}

fn size_hint(op: &Op) -> usize {
    const HEAD: usize = 64;
    match op {
        Op::Put(put) => HEAD + put.key.len() + put.value.len(),
        Op::Txn(txn) => HEAD * (1 + txn.compare.len() + txn.success.len() + txn.failure.len()),
        _ => HEAD,
    }
}

fn read_request(from: &mut Cursor<'_>) -> Result<RequestId, DecodeError> {
    match from.byte()? {
        FORMAT => Ok(RequestId {
            member: from.u64()?,
            counter: from.u64()?,
        }),
        version => Err(DecodeError::Version(version)),
    }
}

fn write_op(out: &mut Writer, op: &Op) {
    match op {
        Op::Noop => out.byte(0),
        Op::Put(put) => {
            out.byte(1);
            write_put(out, put);
        }
        Op::DeleteRange(delete) => {
            out.byte(2);
            write_delete(out, delete);
        }
        Op::Txn(txn) => {
            out.byte(3);
            write_txn(out, txn);
        }
        Op::Compact(compact) => {
            out.byte(4);
            out.i64(compact.revision.0);
            out.flags(&[compact.physical]);
        }
        Op::Member(member) => {
            out.byte(5);
            write_member_op(out, member);
        }
        Op::ClusterVersion(version) => {
            out.byte(6);
            out.bytes(version.as_bytes());
        }
    }
}

fn read_op(from: &mut Cursor<'_>) -> Result<Op, DecodeError> {
    let at = from.position();
    Ok(match from.byte()? {
        0 => Op::Noop,
        1 => Op::Put(read_put(from)?),
        2 => Op::DeleteRange(read_delete(from)?),
        3 => Op::Txn(read_txn(
            from,
            &mut Budget {
                depth: TXN_DEPTH_MAX,
                items: TXN_ITEMS_MAX,
            },
        )?),
        4 => {
            let revision = Revision(from.i64()?);
            let [physical] = from.flags()?;
            Op::Compact(Compact { revision, physical })
        }
        5 => Op::Member(read_member_op(from)?),
        6 => Op::ClusterVersion(from.text()?),
        number => return Err(unknown("operation", number, at)),
    })
}

fn unknown(what: &'static str, number: u8, at: usize) -> DecodeError {
    DecodeError::Unknown {
        what,
        number: number.into(),
        at,
    }
}

fn write_interval(out: &mut Writer, interval: &Interval) {
    match interval {
        Interval::Key(key) => {
            out.byte(0);
            out.bytes(key);
        }
        Interval::From(start) => {
            out.byte(1);
            out.bytes(start);
        }
        Interval::Between { start, end } => {
            out.byte(2);
            out.bytes(start);
            out.bytes(end);
        }
    }
}

fn read_interval(from: &mut Cursor<'_>) -> Result<Interval, DecodeError> {
    let at = from.position();
    Ok(match from.byte()? {
        0 => Interval::Key(from.bytes()?),
        1 => Interval::From(from.bytes()?),
        2 => Interval::Between {
            start: from.bytes()?,
            end: from.bytes()?,
        },
        number => return Err(unknown("interval", number, at)),
    })
}

fn write_put(out: &mut Writer, put: &Put) {
    out.flags(&[put.prev_kv, put.ignore_value, put.ignore_lease]);
    out.bytes(&put.key);
    out.bytes(&put.value);
    out.i64(put.lease.0);
}

fn read_put(from: &mut Cursor<'_>) -> Result<Put, DecodeError> {
    let [prev_kv, ignore_value, ignore_lease] = from.flags()?;
    let (key, value, lease) = (from.bytes()?, from.bytes()?, LeaseId(from.i64()?));
    Ok(Put {
        key,
        value,
        lease,
        prev_kv,
        ignore_value,
        ignore_lease,
    })
}

fn write_delete(out: &mut Writer, delete: &DeleteRange) {
    out.flags(&[delete.prev_kv]);
    write_interval(out, &delete.interval);
}

fn read_delete(from: &mut Cursor<'_>) -> Result<DeleteRange, DecodeError> {
    let [prev_kv] = from.flags()?;
    Ok(DeleteRange {
        interval: read_interval(from)?,
        prev_kv,
    })
}

fn write_range(out: &mut Writer, range: &RangeRequest) {
    out.flags(&[range.serializable, range.keys_only, range.count_only]);
    out.byte(match range.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
        SortOrder::Unknown => u8::MAX,
    });
    out.byte(match range.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
        SortTarget::Unknown => u8::MAX,
    });
    write_interval(out, &range.interval);
    out.i64(range.limit);
    out.i64(range.revision.0);
    out.i64(range.min_mod_revision.0);
    out.i64(range.max_mod_revision.0);
    out.i64(range.min_create_revision.0);
    out.i64(range.max_create_revision.0);
}

fn read_range(from: &mut Cursor<'_>) -> Result<RangeRequest, DecodeError> {
    let [serializable, keys_only, count_only] = from.flags()?;
    let sort_order = SortOrder::from_wire(from.byte()?.into());
    let sort_target = SortTarget::from_wire(from.byte()?.into());
    let interval = read_interval(from)?;
    let limit = from.i64()?;
    let mut revision = || Ok(Revision(from.i64()?));
    Ok(RangeRequest {
        interval,
        limit,
        revision: revision()?,
        sort_order,
        sort_target,
        serializable,
        keys_only,
        count_only,
        min_mod_revision: revision()?,
        max_mod_revision: revision()?,
        min_create_revision: revision()?,
        max_create_revision: revision()?,
    })
}

/// What a transaction may still nest and hold.
struct Budget {
    depth: usize,
    items: usize,
}

impl Budget {
    fn take_items(&mut self, count: usize, at: usize) -> Result<(), DecodeError> {
        self.items = self
            .items
            .checked_sub(count)
            .ok_or(DecodeError::TooDeep { at })?;
        Ok(())
    }
}

fn write_txn(out: &mut Writer, txn: &Txn) {
    out.len(txn.compare.len());
    for compare in &txn.compare {
        write_compare(out, compare);
    }
    for branch in [&txn.success, &txn.failure] {
        out.len(branch.len());
        for op in branch {
            write_txn_op(out, op);
        }
    }
}

fn read_txn(from: &mut Cursor<'_>, budget: &mut Budget) -> Result<Txn, DecodeError> {
    let at = from.position();
    budget.depth = budget
        .depth
        .checked_sub(1)
        .ok_or(DecodeError::TooDeep { at })?;
    let count = from.count()?;
    budget.take_items(count, at)?;
    let compare = (0..count)
        .map(|_| read_compare(from))
        .collect::<Result<_, _>>()?;
    let success = read_branch(from, budget)?;
    let failure = read_branch(from, budget)?;
    budget.depth += 1;
    Ok(Txn {
        compare,
        success,
        failure,
    })
}

fn read_branch(from: &mut Cursor<'_>, budget: &mut Budget) -> Result<Vec<TxnOp>, DecodeError> {
    let at = from.position();
    let count = from.count()?;
    budget.take_items(count, at)?;
    (0..count).map(|_| read_txn_op(from, budget)).collect()
}

fn write_txn_op(out: &mut Writer, op: &TxnOp) {
    match op {
        TxnOp::Empty => out.byte(0),
        TxnOp::Range(range) => {
            out.byte(1);
            write_range(out, range);
        }
        TxnOp::Put(put) => {
            out.byte(2);
            write_put(out, put);
        }
        TxnOp::DeleteRange(delete) => {
            out.byte(3);
            write_delete(out, delete);
        }
        TxnOp::Txn(txn) => {
            out.byte(4);
            write_txn(out, txn);
        }
    }
}

fn read_txn_op(from: &mut Cursor<'_>, budget: &mut Budget) -> Result<TxnOp, DecodeError> {
    let at = from.position();
    Ok(match from.byte()? {
        0 => TxnOp::Empty,
        1 => TxnOp::Range(read_range(from)?),
        2 => TxnOp::Put(read_put(from)?),
        3 => TxnOp::DeleteRange(read_delete(from)?),
        4 => TxnOp::Txn(read_txn(from, budget)?),
        number => return Err(unknown("txn operation", number, at)),
    })
}

fn write_compare(out: &mut Writer, compare: &Compare) {
    out.byte(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
        CompareResult::Unknown => u8::MAX,
    });
    write_interval(out, &compare.interval);
    let (kind, number) = match &compare.target {
        CompareTarget::Version(version) => (0, *version),
        CompareTarget::Create(revision) => (1, revision.0),
        CompareTarget::Mod(revision) => (2, revision.0),
        CompareTarget::Lease(lease) => (3, lease.0),
        CompareTarget::Unknown => (4, 0),
        CompareTarget::Value(value) => {
            out.byte(5);
            out.bytes(value);
            return;
        }
    };
    out.byte(kind);
    out.i64(number);
}

fn read_compare(from: &mut Cursor<'_>) -> Result<Compare, DecodeError> {
    let result = CompareResult::from_wire(from.byte()?.into());
    let interval = read_interval(from)?;
    let at = from.position();
    let kind = from.byte()?;
    if kind == 5 {
        let target = CompareTarget::Value(from.bytes()?);
        return Ok(Compare {
            interval,
            target,
            result,
        });
    }
    let number = from.i64()?;
    let target = match kind {
        0 => CompareTarget::Version(number),
        1 => CompareTarget::Create(Revision(number)),
        2 => CompareTarget::Mod(Revision(number)),
        3 => CompareTarget::Lease(LeaseId(number)),
        4 => CompareTarget::Unknown,
        _ => return Err(unknown("compare target", kind, at)),
    };
    Ok(Compare {
        interval,
        target,
        result,
    })
}

fn write_member_op(out: &mut Writer, op: &MemberOp) {
    match op {
        MemberOp::Bootstrap { cluster, members } => {
            out.byte(0);
            cluster.write(out);
            out.len(members.len());
            for member in members {
                member.write(out);
            }
        }
        MemberOp::Add(member) => {
            out.byte(1);
            member.write(out);
        }
        MemberOp::Promote { id } => {
            out.byte(2);
            out.u64(*id);
        }
        MemberOp::Remove { id } => {
            out.byte(3);
            out.u64(*id);
        }
        MemberOp::Update { id, peer_urls } => {
            out.byte(4);
            out.u64(*id);
            out.texts(peer_urls);
        }
        MemberOp::Publish {
            id,
            name,
            client_urls,
        } => {
            out.byte(5);
            out.u64(*id);
            out.bytes(name.as_bytes());
            out.texts(client_urls);
        }
    }
}

fn read_member_op(from: &mut Cursor<'_>) -> Result<MemberOp, DecodeError> {
    let at = from.position();
    Ok(match from.byte()? {
        0 => {
            let cluster = ClusterInfo::read(from)?;
            let count = from.count()?;
            let members = (0..count)
                .map(|_| Member::read(from))
                .collect::<Result<_, _>>()?;
            MemberOp::Bootstrap { cluster, members }
        }
        1 => MemberOp::Add(Member::read(from)?),
        2 => MemberOp::Promote { id: from.u64()? },
        3 => MemberOp::Remove { id: from.u64()? },
        4 => MemberOp::Update {
            id: from.u64()?,
            peer_urls: from.texts()?,
        },
        5 => MemberOp::Publish {
            id: from.u64()?,
            name: from.text()?,
            client_urls: from.texts()?,
        },
        number => return Err(unknown("member operation", number, at)),
    })
}
