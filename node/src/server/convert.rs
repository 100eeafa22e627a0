//! Between etcd's messages and the plain values of the state machine.
//!
//! Byte strings move; nothing is copied. Must not know: sockets, what is done with the values.

use crate::kv;
use kv::{
    Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeResult, Interval, KeyValue,
    LeaseId, Put, PutResult, RangeRequest, RangeResult, Revision, SortOrder, SortTarget, Txn,
    TxnOp, TxnOpResult, TxnResult,
};
use quorate_api::etcdserverpb as pb;
use quorate_api::etcdserverpb::compare::TargetUnion;
use quorate_api::etcdserverpb::{request_op, response_op};
use quorate_api::mvccpb;

/// A read.
pub(super) fn range(request: pb::RangeRequest) -> RangeRequest {
    RangeRequest {
        interval: Interval::from_wire(request.key, request.range_end),
        limit: request.limit,
        revision: Revision(request.revision),
        sort_order: SortOrder::from_wire(request.sort_order),
        sort_target: SortTarget::from_wire(request.sort_target),
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: Revision(request.min_mod_revision),
        max_mod_revision: Revision(request.max_mod_revision),
        min_create_revision: Revision(request.min_create_revision),
        max_create_revision: Revision(request.max_create_revision),
    }
}

/// A write.
pub(super) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(super) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        interval: Interval::from_wire(request.key, request.range_end),
        prev_kv: request.prev_kv,
    }
}

/// A transaction. Its depth is bounded by the decoder, which refuses to recurse further.
pub(super) fn txn(request: pb::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().map(txn_op).collect(),
        failure: request.failure.into_iter().map(txn_op).collect(),
    }
}

fn txn_op(op: pb::RequestOp) -> TxnOp {
    match op.request {
        Some(request_op::Request::RequestRange(request)) => TxnOp::Range(range(request)),
        Some(request_op::Request::RequestPut(request)) => TxnOp::Put(put(request)),
        Some(request_op::Request::RequestDeleteRange(request)) => {
            TxnOp::DeleteRange(delete_range(request))
        }
        Some(request_op::Request::RequestTxn(request)) => TxnOp::Txn(txn(request)),
        None => TxnOp::Empty,
    }
}

/// An operand of another kind than the target reads as 0 or empty, as etcd reads it.
fn compare(compare: pb::Compare) -> Compare {
    let operand = compare.target_union;
    let target = match (compare.target, operand) {
        (0, Some(TargetUnion::Version(version))) => CompareTarget::Version(version),
        (0, _) => CompareTarget::Version(0),
        (1, Some(TargetUnion::CreateRevision(revision))) => {
            CompareTarget::Create(Revision(revision))
        }
        (1, _) => CompareTarget::Create(Revision(0)),
        (2, Some(TargetUnion::ModRevision(revision))) => CompareTarget::Mod(Revision(revision)),
        (2, _) => CompareTarget::Mod(Revision(0)),
        (3, Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (3, _) => CompareTarget::Value(bytes::Bytes::new()),
        (4, Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(LeaseId(lease)),
        (4, _) => CompareTarget::Lease(LeaseId(0)),
        (_, _) => CompareTarget::Unknown,
    };
    Compare {
        interval: Interval::from_wire(compare.key, compare.range_end),
        target,
        result: CompareResult::from_wire(compare.result),
    }
}

/// One pair.
pub(super) fn key_value(pair: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: pair.key,
        create_revision: pair.create_revision.0,
        mod_revision: pair.mod_revision.0,
        version: pair.version,
        value: pair.value,
        lease: pair.lease.0,
    }
}

/// The answer to a read.
pub(super) fn range_result(
    result: RangeResult,
    header: Option<pb::ResponseHeader>,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: result.kvs.into_iter().map(key_value).collect(),
        more: result.more,
        count: result.count,
    }
}

/// The answer to a write.
pub(super) fn put_result(result: PutResult, header: Option<pb::ResponseHeader>) -> pb::PutResponse {
    pb::PutResponse {
        header,
        prev_kv: result.prev_kv.map(key_value),
    }
}

/// The answer to a deletion.
pub(super) fn delete_range_result(
    result: DeleteRangeResult,
    header: Option<pb::ResponseHeader>,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header,
        deleted: result.deleted,
        prev_kvs: result.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// The answer to a transaction. Headers within carry only a revision; that of a transaction
/// within carries 0.
pub(super) fn txn_result(result: TxnResult, header: Option<pb::ResponseHeader>) -> pb::TxnResponse {
    pb::TxnResponse {
        header,
        succeeded: result.succeeded,
        responses: result.responses.into_iter().map(txn_op_result).collect(),
    }
}

fn txn_op_result(result: TxnOpResult) -> pb::ResponseOp {
    let inner = |revision: Revision| {
        Some(pb::ResponseHeader {
            revision: revision.0,
            ..pb::ResponseHeader::default()
        })
    };
    let response = match result {
        TxnOpResult::Range(result) => {
            let header = inner(result.revision);
            response_op::Response::ResponseRange(range_result(result, header))
        }
        TxnOpResult::Put { revision, result } => {
            response_op::Response::ResponsePut(put_result(result, inner(revision)))
        }
        TxnOpResult::DeleteRange { revision, result } => {
            let response = delete_range_result(result, inner(revision));
            response_op::Response::ResponseDeleteRange(response)
        }
        TxnOpResult::Txn(result) => {
            response_op::Response::ResponseTxn(txn_result(result, inner(Revision(0))))
        }
    };
    pb::ResponseOp {
        response: Some(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn compared(target: i32, operand: Option<TargetUnion>) -> CompareTarget {
        compare(pb::Compare {
            target,
            target_union: operand,
            ..pb::Compare::default()
        })
        .target
    }

    #[test]
    fn an_operand_of_another_kind_reads_as_zero_or_empty() {
        assert_eq!(
            compared(0, Some(TargetUnion::Version(7))),
            CompareTarget::Version(7)
        );
        assert_eq!(
            compared(0, Some(TargetUnion::Lease(7))),
            CompareTarget::Version(0)
        );
        assert_eq!(
            compared(1, Some(TargetUnion::Version(7))),
            CompareTarget::Create(Revision(0))
        );
        assert_eq!(compared(2, None), CompareTarget::Mod(Revision(0)));
        assert_eq!(
            compared(3, Some(TargetUnion::Version(7))),
            CompareTarget::Value(Bytes::new())
        );
        assert_eq!(compared(4, None), CompareTarget::Lease(LeaseId(0)));
        assert_eq!(
            compared(9, Some(TargetUnion::Version(7))),
            CompareTarget::Unknown
        );
    }

    #[test]
    fn an_operation_without_content_stays_recognisable() {
        let request = pb::TxnRequest {
            success: vec![pb::RequestOp { request: None }],
            ..pb::TxnRequest::default()
        };
        assert_eq!(txn(request).success, [TxnOp::Empty]);
    }

    #[test]
    fn headers_within_a_txn_carry_only_a_revision_and_nested_ones_zero() {
        let put = TxnOpResult::Put {
            revision: Revision(5),
            result: PutResult::default(),
        };
        let nested = TxnOpResult::Txn(TxnResult {
            succeeded: true,
            responses: vec![put],
        });
        let result = TxnResult {
            succeeded: true,
            responses: vec![nested],
        };
        let wire = txn_result(result, None);
        let Some(response_op::Response::ResponseTxn(inner)) = &wire.responses[0].response else {
            panic!("{wire:?}");
        };
        assert_eq!(inner.header, Some(pb::ResponseHeader::default()));
        let Some(response_op::Response::ResponsePut(put)) = &inner.responses[0].response else {
            panic!("{inner:?}");
        };
        let header = put.header.expect("a header");
        assert_eq!((header.revision, header.member_id), (5, 0));
    }
}
