//! Where time and randomness enter the operator: the planner receives both as values.

use crate::ids::{ClusterUuid, MemberId, UnixMs};
use crate::observed::Entropy;

/// The time of day.
pub(crate) fn now() -> UnixMs {
    #[expect(
        clippy::disallowed_methods,
        reason = "the platform is where time enters the operator"
    )]
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Random numbers for one pass.
pub(super) fn entropy() -> Entropy {
    let number = || {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        // The version and variant bits are constant; mixing the halves hides them.
        (high ^ low.rotate_left(32)).max(1)
    };
    Entropy {
        member_id: MemberId(number()),
        cluster_uuid: ClusterUuid(uuid::Uuid::new_v4()),
        operation_id: number(),
    }
}
