//! What another member may ask to be proposed: checked before it reaches the log, because every
//! member must be able to apply what is there.
//!
//! Must not know: who sends, how it travels.

use super::codec::DecodeError;
use super::command::{Command, MemberOp, Op};
use bytes::Bytes;
use std::sync::Arc;

/// Why a command of another member is not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// This version cannot read it, so others might not either.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] DecodeError),
    /// Larger than any request this member would take.
    #[error("it has {bytes} bytes, and the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// `--max-request-bytes`.
        bytes_max: usize,
    },
    /// A change of the membership travels as a call, which the leader checks.
    #[error("it changes the membership, which only the leader may propose")]
    Membership,
    /// A member publishes its own name and addresses only.
    #[error("it publishes the name of member {0:x}")]
    Impostor(u64),
}

/// Checks a command that member `from` wants proposed.
///
/// # Errors
/// [`Inadmissible`]; nothing was proposed.
pub fn admit(command: &Arc<[u8]>, from: u64, bytes_max: usize) -> Result<(), Inadmissible> {
    let bytes = command.len();
    if bytes > bytes_max {
        return Err(Inadmissible::TooLarge { bytes, bytes_max });
    }
    match Command::decode(&Bytes::from_owner(Arc::clone(command)))?.op {
        Op::Noop
        | Op::Put(_)
        | Op::DeleteRange(_)
        | Op::Txn(_)
        | Op::Compact(_)
        | Op::ClusterVersion(_) => Ok(()),
        Op::Member(MemberOp::Publish { id, .. }) if id == from => Ok(()),
        Op::Member(MemberOp::Publish { id, .. }) => Err(Inadmissible::Impostor(id)),
        Op::Member(
            MemberOp::Bootstrap { .. }
            | MemberOp::Add(_)
            | MemberOp::Promote { .. }
            | MemberOp::Remove { .. }
            | MemberOp::Update { .. },
        ) => Err(Inadmissible::Membership),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Put, RequestId};

    fn command(op: Op) -> Arc<[u8]> {
        let request = RequestId {
            member: 7,
            counter: 1,
        };
        Command { request, op }.encode()
    }

    fn put() -> Arc<[u8]> {
        command(Op::Put(Put {
            key: "key".into(),
            value: "value".into(),
            ..Put::default()
        }))
    }

    #[test]
    fn requests_of_clients_and_a_members_own_name_are_admitted() {
        assert_eq!(admit(&put(), 3, 1000), Ok(()));
        let publish = |id| {
            command(Op::Member(MemberOp::Publish {
                id,
                name: "m".to_owned(),
                client_urls: Vec::new(),
            }))
        };
        assert_eq!(admit(&publish(3), 3, 1000), Ok(()));
        let other = admit(&publish(4), 3, 1000);
        assert_eq!(other, Err(Inadmissible::Impostor(4)));
    }

    #[test]
    fn what_cannot_be_read_is_too_large_or_changes_the_membership_is_not() {
        let whole = put();
        for len in 0..whole.len() {
            let cut: Arc<[u8]> = whole[..len].into();
            let refused = admit(&cut, 3, 1000);
            assert!(matches!(refused, Err(Inadmissible::Unreadable(_))), "{len}");
        }
        let bytes = whole.len();
        let refused = admit(&whole, 3, bytes - 1);
        let bytes_max = bytes - 1;
        assert_eq!(refused, Err(Inadmissible::TooLarge { bytes, bytes_max }));
        for op in [MemberOp::Remove { id: 3 }, MemberOp::Promote { id: 3 }] {
            let refused = admit(&command(Op::Member(op)), 3, 1000);
            assert_eq!(refused, Err(Inadmissible::Membership));
        }
    }
}
