//! What kind of command the bytes of an entry hold, read off without decoding them: for counting.
//!
//! Assumes the layout of `command`: format, two numbers of the request, operation. Bytes that are
//! no command are for `Command::decode` to refuse. Must not know: what is counted.

/// What a command does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Nothing, or something of the cluster's own.
    Internal,
    /// [`Op::Put`](super::Op::Put).
    Put,
    /// [`Op::DeleteRange`](super::Op::DeleteRange).
    DeleteRange,
    /// [`Op::Txn`](super::Op::Txn).
    Txn,
    /// [`Op::Compact`](super::Op::Compact).
    Compact,
    /// [`Op::Member`](super::Op::Member).
    Member,
}

impl OpKind {
    /// The kind of an encoded command; what is none counts as internal.
    #[must_use]
    pub fn of(command: &[u8]) -> Self {
        let mut rest = command.get(1..).unwrap_or_default();
        for _ in 0..2 {
            // A number ends with the first byte whose top bit is clear.
            let end = rest.iter().position(|byte| byte & 0x80 == 0);
            rest = end.map_or(&[], |end| &rest[end + 1..]);
        }
        match rest.first() {
            Some(1) => Self::Put,
            Some(2) => Self::DeleteRange,
            Some(3) => Self::Txn,
            Some(4) => Self::Compact,
            Some(5) => Self::Member,
            Some(_) | None => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OpKind;
    use crate::kv::{
        Command, Compact, DeleteRange, Interval, MemberOp, Op, Put, RequestId, Revision, Txn,
    };

    #[test]
    fn the_kind_is_read_off_behind_any_request() {
        let interval = Interval::Key("a".into());
        let delete = DeleteRange {
            interval,
            prev_kv: false,
        };
        let compact = Compact {
            revision: Revision(7),
            physical: false,
        };
        for (op, kind) in [
            (Op::Noop, OpKind::Internal),
            (Op::Put(Put::default()), OpKind::Put),
            (Op::DeleteRange(delete), OpKind::DeleteRange),
            (Op::Txn(Txn::default()), OpKind::Txn),
            (Op::Compact(compact), OpKind::Compact),
            (Op::Member(MemberOp::Remove { id: 1 }), OpKind::Member),
            (Op::ClusterVersion("3.7".to_owned()), OpKind::Internal),
        ] {
            for (member, counter) in [(0, 1), (0x80, 0x7f), (u64::MAX, u64::MAX)] {
                let request = RequestId { member, counter };
                let op = op.clone();
                let bytes = Command { request, op }.encode();
                assert_eq!(OpKind::of(&bytes), kind, "{member} {counter}");
            }
        }
        for torn in [&[][..], &[1], &[1, 0x80], &[1, 1, 1]] {
            assert_eq!(OpKind::of(torn), OpKind::Internal);
        }
    }
}
