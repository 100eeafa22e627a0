//! etcd's error table: code and text of every refusal, byte for byte.
//!
//! Go clients turn the text back into a typed error and other clients use the code, so both are a
//! contract. The golden test at the end holds the whole table.
//! Must not know: how an answer travels.

use crate::kv;
use crate::replica::{AdminError, RequestError};
use std::borrow::Cow;
use tonic::Code;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC's code.
    pub code: Code,
    /// What clients compare.
    pub message: Cow<'static, str>,
}

impl Status {
    const fn fixed(code: Code, text: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(text),
        }
    }

    /// A refusal with a text of its own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

macro_rules! table {
    ($($name:ident = $code:ident $text:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub const $name: Status = Status::fixed(Code::$code, $text);
        )*
        /// Every row.
        #[cfg(test)]
        const TABLE: &[Status] = &[$($name),*];
    };
}

table! {
    KEY_NOT_PROVIDED = InvalidArgument "etcdserver: key is not provided", "An empty key.";
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found", "`ignore_*` on a missing key, or an empty operation.";
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided", "`ignore_value` with a value.";
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided", "`ignore_lease` with a lease.";
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request", "A txn beyond the limit.";
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request", "A txn that writes a key twice.";
    INVALID_CLIENT_API_VERSION = InvalidArgument "etcdserver: invalid client api version", "Metadata that is not UTF-8.";
    INVALID_SORT_OPTION = InvalidArgument "etcdserver: invalid sort option", "A number outside the enumeration.";
    MEMBER_BAD_URLS = InvalidArgument "etcdserver: given member URLs are invalid", "No URL, or a malformed one.";
    REQUEST_TOO_LARGE = InvalidArgument "etcdserver: request is too large", "Beyond `--max-request-bytes`.";
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted", "Below the compacted revision.";
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision", "Above the store's revision.";
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded", "The quota is used up.";
    TOO_MANY_REQUESTS = ResourceExhausted "etcdserver: too many requests", "Overload; nothing was done.";
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found", "An unknown lease.";
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found", "An unknown or removed member.";
    MEMBER_EXISTS = FailedPrecondition "etcdserver: member ID already exist", "The ID is or was in use.";
    PEER_URL_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists", "Another member has the URL.";
    NOT_ENOUGH_STARTED = FailedPrecondition "etcdserver: re-configuration failed due to not enough started members", "Strict reconfiguration.";
    NOT_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member", "Promotion of a voter.";
    LEARNER_NOT_READY = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader", "Promotion too early.";
    TOO_MANY_LEARNERS = FailedPrecondition "etcdserver: too many learner members in cluster", "Beyond `--max-learners`.";
    NOT_LEADER = FailedPrecondition "etcdserver: not leader", "Only the leader does this.";
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition "etcdserver: rpc not supported for learner", "A learner serves little.";
    BAD_LEADER_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee", "The target cannot lead.";
    NO_LEADER = Unavailable "etcdserver: no leader", "Nobody is known to lead.";
    LEADER_CHANGED = Unavailable "etcdserver: leader changed", "An election came between.";
    STOPPED = Unavailable "etcdserver: server stopped", "Shutting down.";
    TIMEOUT = Unavailable "etcdserver: request timed out", "The server's deadline passed.";
    TIMEOUT_LEADER_FAIL = Unavailable "etcdserver: request timed out, possibly due to previous leader failure", "Deadline around the loss of a leader.";
    TIMEOUT_CONNECTION_LOST = Unavailable "etcdserver: request timed out, possibly due to connection lost", "Deadline without the needed peers.";
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster", "Too few members are connected.";
    TIMEOUT_TRANSFER = Unknown "etcdserver: request timed out, leader transfer took too long", "The target did not take over.";
    DEADLINE_EXCEEDED = DeadlineExceeded "context deadline exceeded", "gRPC's own text for the client's deadline.";
}

impl From<kv::Error> for Status {
    fn from(error: kv::Error) -> Self {
        match &error {
            kv::Error::KeyNotProvided => KEY_NOT_PROVIDED,
            kv::Error::KeyNotFound => KEY_NOT_FOUND,
            kv::Error::ValueProvided => VALUE_PROVIDED,
            kv::Error::LeaseProvided => LEASE_PROVIDED,
            kv::Error::TooManyOps => TOO_MANY_OPS,
            kv::Error::DuplicateKey => DUPLICATE_KEY,
            kv::Error::InvalidSortOption => INVALID_SORT_OPTION,
            kv::Error::Compacted { .. } => COMPACTED,
            kv::Error::FutureRevision { .. } => FUTURE_REVISION,
            kv::Error::LeaseNotFound => LEASE_NOT_FOUND,
            kv::Error::NoSpace => NO_SPACE,
            kv::Error::MemberIdExists => MEMBER_EXISTS,
            kv::Error::PeerUrlExists => PEER_URL_EXISTS,
            // etcd has one answer to both.
            kv::Error::MemberNotFound | kv::Error::MemberIdRemoved => MEMBER_NOT_FOUND,
            kv::Error::NotLearner => NOT_LEARNER,
            kv::Error::AlreadyBootstrapped => Self::fixed(
                Code::FailedPrecondition,
                "quorate: the cluster is bootstrapped already",
            ),
            // Another member may well be able to.
            kv::Error::Unreadable(_) => Self::new(Code::Unavailable, format!("quorate: {error}")),
        }
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoLeader => NO_LEADER,
            RequestError::LeaderChanged => LEADER_CHANGED,
            RequestError::Timeout => TIMEOUT,
            RequestError::TimeoutLeaderFailure => TIMEOUT_LEADER_FAIL,
            RequestError::TimeoutConnectionLost => TIMEOUT_CONNECTION_LOST,
            RequestError::TooManyRequests => TOO_MANY_REQUESTS,
            RequestError::TooLarge { .. } => REQUEST_TOO_LARGE,
            RequestError::Stopped => STOPPED,
            RequestError::Unjoined
            | RequestError::Removed
            | RequestError::Repairing
            | RequestError::Stale
            | RequestError::Fenced { .. } => {
                Self::new(Code::Unavailable, format!("quorate: {error}"))
            }
        }
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Request(error) => error.into(),
            AdminError::MemberNotFound | AdminError::MemberIdRemoved => MEMBER_NOT_FOUND,
            AdminError::MemberIdExists => MEMBER_EXISTS,
            AdminError::PeerUrlExists => PEER_URL_EXISTS,
            AdminError::InvalidPeerUrls { .. } => MEMBER_BAD_URLS,
            AdminError::NotLearner => NOT_LEARNER,
            AdminError::LearnerNotReady => LEARNER_NOT_READY,
            AdminError::TooManyLearners => TOO_MANY_LEARNERS,
            AdminError::NotEnoughStarted => NOT_ENOUGH_STARTED,
            AdminError::Unhealthy => UNHEALTHY,
            AdminError::NotLeader => NOT_LEADER,
            AdminError::BadTransferee => BAD_LEADER_TRANSFEREE,
            AdminError::TransferTimeout => TIMEOUT_TRANSFER,
            // etcd has no such refusals; the client may try again as with any unavailability.
            AdminError::ChangePending => {
                Self::new(Code::Unavailable, format!("quorate: {error}, try again"))
            }
            AdminError::ConfigChanged { .. } | AdminError::AlreadyJoined { .. } => {
                Self::new(Code::FailedPrecondition, format!("quorate: {error}"))
            }
            AdminError::Invalid(text) => {
                Self::new(Code::InvalidArgument, format!("quorate: {text}"))
            }
        }
    }
}

impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        Self::new(status.code, status.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down a second time on purpose: a changed text breaks clients.
    const GOLDEN: &str = "\
InvalidArgument etcdserver: key is not provided
InvalidArgument etcdserver: key not found
InvalidArgument etcdserver: value is provided
InvalidArgument etcdserver: lease is provided
InvalidArgument etcdserver: too many operations in txn request
InvalidArgument etcdserver: duplicate key given in txn request
InvalidArgument etcdserver: invalid client api version
InvalidArgument etcdserver: invalid sort option
InvalidArgument etcdserver: given member URLs are invalid
InvalidArgument etcdserver: request is too large
OutOfRange etcdserver: mvcc: required revision has been compacted
OutOfRange etcdserver: mvcc: required revision is a future revision
ResourceExhausted etcdserver: mvcc: database space exceeded
ResourceExhausted etcdserver: too many requests
NotFound etcdserver: requested lease not found
NotFound etcdserver: member not found
FailedPrecondition etcdserver: member ID already exist
FailedPrecondition etcdserver: Peer URLs already exists
FailedPrecondition etcdserver: re-configuration failed due to not enough started members
FailedPrecondition etcdserver: can only promote a learner member
FailedPrecondition etcdserver: can only promote a learner member which is in sync with leader
FailedPrecondition etcdserver: too many learner members in cluster
FailedPrecondition etcdserver: not leader
FailedPrecondition etcdserver: rpc not supported for learner
FailedPrecondition etcdserver: bad leader transferee
Unavailable etcdserver: no leader
Unavailable etcdserver: leader changed
Unavailable etcdserver: server stopped
Unavailable etcdserver: request timed out
Unavailable etcdserver: request timed out, possibly due to previous leader failure
Unavailable etcdserver: request timed out, possibly due to connection lost
Unavailable etcdserver: unhealthy cluster
Unknown etcdserver: request timed out, leader transfer took too long
DeadlineExceeded context deadline exceeded
";

    #[test]
    fn codes_and_texts_are_etcds() {
        let table: String = TABLE
            .iter()
            .map(|row| format!("{:?} {}\n", row.code, row.message))
            .collect();
        assert_eq!(table, GOLDEN);
    }

    /// What etcd's Cluster service says to each refusal of a change (its
    /// `ValidateConfigurationChange`
    /// and what comes before it).
    #[test]
    fn refusals_of_the_cluster_service_are_etcds() {
        let rows = [
            (
                AdminError::MemberNotFound,
                "NotFound etcdserver: member not found",
            ),
            (
                AdminError::MemberIdRemoved,
                "NotFound etcdserver: member not found",
            ),
            (
                AdminError::MemberIdExists,
                "FailedPrecondition etcdserver: member ID already exist",
            ),
            (
                AdminError::PeerUrlExists,
                "FailedPrecondition etcdserver: Peer URLs already exists",
            ),
            (
                AdminError::InvalidPeerUrls {
                    url: "x".to_owned(),
                },
                "InvalidArgument etcdserver: given member URLs are invalid",
            ),
            (
                AdminError::NotLearner,
                "FailedPrecondition etcdserver: can only promote a learner member",
            ),
            (
                AdminError::LearnerNotReady,
                "FailedPrecondition etcdserver: can only promote a learner member which is in sync with leader",
            ),
            (
                AdminError::TooManyLearners,
                "FailedPrecondition etcdserver: too many learner members in cluster",
            ),
            (
                AdminError::NotEnoughStarted,
                "FailedPrecondition etcdserver: re-configuration failed due to not enough started members",
            ),
            (
                AdminError::Unhealthy,
                "Unavailable etcdserver: unhealthy cluster",
            ),
            (
                AdminError::NotLeader,
                "FailedPrecondition etcdserver: not leader",
            ),
            (
                AdminError::BadTransferee,
                "FailedPrecondition etcdserver: bad leader transferee",
            ),
        ];
        for (error, expected) in rows {
            let status = Status::from(error);
            assert_eq!(format!("{:?} {}", status.code, status.message), expected);
        }
    }

    #[test]
    fn no_text_is_one_on_which_go_clients_repeat_a_write() {
        let texts = [
            Status::from(RequestError::Unjoined),
            Status::from(RequestError::Removed),
            Status::from(RequestError::Repairing),
            Status::from(RequestError::Stale),
            Status::from(AdminError::ChangePending),
        ];
        for status in TABLE.iter().chain(&texts) {
            assert!(!status.message.contains("there is no address available"));
            assert!(!status.message.contains("there is no connection available"));
        }
    }

    #[test]
    fn a_write_whose_outcome_is_open_never_gets_a_code_that_says_it_did_not_happen() {
        let open = [
            RequestError::LeaderChanged,
            RequestError::Timeout,
            RequestError::TimeoutLeaderFailure,
            RequestError::TimeoutConnectionLost,
            RequestError::Stopped,
            RequestError::Removed,
        ];
        for error in open {
            assert!(error.outcome_unknown());
            assert_eq!(Status::from(error).code, Code::Unavailable);
        }
    }
}
