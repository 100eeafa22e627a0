//! The Kubernetes platform: a cluster as one StatefulSet and the objects around it.
//!
//! | the planner's word | here |
//! |---|---|
//! | object | the `KvCluster`, read live at the start of every pass |
//! | slot | pod `<name>-<slot>` of the StatefulSet `<name>`, `lives.rs` |
//! | volume | claim `data-<name>-<slot>` with a stamp in its annotations, `claims.rs`, `volumes.rs` |
//! | intent, latches, status | the status of the `KvCluster`, compare-and-set, `record.rs` |
//! | objects around it | `objects/`, one file per kind, compared by `drift.rs` |
//! | certificates | Secrets, `tls/` |
//! | member calls | the admin service on the pod's address, `platform/members.rs` |
//!
//! `platform.rs` holds them together: `observe.rs` reads, `apply.rs` makes one effect of one step.
//! Stores and watches only wake us; every decision rests on live reads (H49, H50), every delete
//! names a UID and every update a resourceVersion (I7). Must not know: the planner's rules, the
//! queue, leader election.

mod access;
mod apply;
mod claims;
mod drift;
pub mod events;
mod lives;
mod names;
pub mod objects;
mod observe;
mod platform;
mod record;
mod tls;
mod unused;
mod volumes;

pub use access::connect;
pub use names::{FIELD_MANAGER, LABEL_CLUSTER, Names};
pub use platform::Kubernetes;

use super::members;

/// Why something could not be read or done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The world is not as the step assumed; the next pass reads it again.
    #[error("{0}")]
    Conflict(String),
    /// A member or the API server refused, and nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A member asks for patience, and nothing was changed: it is asked again.
    #[error("{0}")]
    NotYet(String),
    /// No answer came: the outcome is unknown.
    #[error("{0}")]
    Unanswered(String),
    /// The operator lacks a right.
    #[error("{0}. Give the operator's role the rights of the chart")]
    Forbidden(String),
    /// The object cannot be read as a `KvCluster`, or its records cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

impl Error {
    /// The kind of failure, for metrics: bounded values.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Error::Conflict(_) => "conflict",
            Error::Refused(_) => "refused",
            Error::NotYet(_) => "not-yet",
            Error::Unanswered(_) => "unanswered",
            Error::Forbidden(_) => "forbidden",
            Error::Unreadable(_) => "unreadable",
        }
    }
}

impl From<members::Error> for Error {
    fn from(error: members::Error) -> Error {
        match error {
            members::Error::Conflict(text) => Error::Conflict(text),
            members::Error::Refused(text) => Error::Refused(text),
            members::Error::NotYet(text) => Error::NotYet(text),
            members::Error::Unanswered(text) => Error::Unanswered(text),
        }
    }
}
