//! The replicated state machine: keys by revision, transactions, compaction, membership data.
//!
//! Deterministic: the same commands in the same order give the same state, answers and digest on
//! every member. Must not know: clocks, sockets, random sources, who leads. Time and IDs arrive
//! inside the command.
//!
//! Reading order: `types`, `codec`, `command`, `membership`, `validate`, `index`, `store`, `txn`, `range`, `reader`.

pub mod codec;
pub mod command;
pub mod error;
pub mod membership;
pub mod quota;
pub mod types;
pub mod validate;

pub use codec::DecodeError;
pub use command::{Applied, Command, Compact, MemberOp, Op, RequestId, Response};
pub use error::{Error, Fatal};
pub use membership::{Member, Members};
pub use types::*;
