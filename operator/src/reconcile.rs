//! The conductor: observe → validate → plan → apply → publish, once.
//!
//! Assumes a platform that reads live. Must not know: which platform it is.

use crate::crd::{KvCluster, KvClusterStatus};
use crate::observed::Observed;
use crate::plan::Step;

/// What turns observation and steps into reads and effects.
///
/// `observe` and `apply` never branch on the spec.
#[expect(async_fn_in_trait, reason = "both platforms are ours and drive it from one task")]
pub trait Platform {
    /// Why a read, an effect or a write failed.
    type Error: std::error::Error;

    /// Reads everything, live. `None`: the object does not exist (any more).
    async fn observe(&mut self) -> Result<Option<Observation>, Self::Error>;

    /// Applies one step. An error means that the outcome is unknown or that it was refused; the
    /// next pass reads the world again and never assumes either.
    async fn apply(&mut self, observation: &Observation, step: &Step) -> Result<(), Self::Error>;

    /// Writes the status if it differs from what is stored, compare-and-set.
    async fn publish(&mut self, status: &KvClusterStatus) -> Result<(), Self::Error>;
}

/// What `observe` returns: the resource for `validate`, and everything else for `plan`.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The resource with its spec and its stored status.
    pub resource: KvCluster,
    /// The world.
    pub observed: Observed,
}
