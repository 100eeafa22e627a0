//! The replicated state machine: keys by revision, transactions, compaction, membership data.
//!
//! Deterministic: the same commands in the same order give the same state, answers and digest on
//! every member. Must not know: clocks, sockets, random sources, who leads. Time and IDs arrive
//! inside the command.
//!
//! Reading order: `types`, `codec`, `command`, `membership`, `validate`, `index`, `store`, `txn`,
//! `range`, `reader`.

mod admit;
mod change;
pub mod codec;
pub mod command;
mod compactor;
mod counts;
mod digest;
pub mod error;
mod hash;
mod index;
mod interval_set;
mod kind;
pub mod membership;
pub mod quota;
mod range;
mod reader;
mod rebuild;
mod state;
mod store;
mod txn;
pub mod types;
pub mod validate;
mod walk;

#[cfg(test)]
mod tests;

pub use admit::{Inadmissible, admit};
pub use codec::DecodeError;
pub use command::{Applied, Command, Compact, MemberOp, Op, RequestId, Response};
pub use compactor::{Compactor, Progress, Pruned};
pub use error::{Error, Fatal};
pub use hash::HashKv;
pub use kind::OpKind;
pub use membership::{ClusterInfo, Member, Members};
pub use reader::Reader;
pub use store::Store;
pub use types::*;
