//! What a member keeps on disk: identity, write-ahead log, revision log.
//!
//! Everything goes through [`crate::env::Disk`]. Must not know: the network, what commands mean.
//! The bytes are described in `docs/on-disk-format.md`.

pub mod codec;
mod error;
mod identity;
pub mod inspect;
mod lock;
pub mod peers;
pub mod recovery;
pub mod revision_log;
mod slots;
#[cfg(test)]
mod tests;
pub mod wal;

pub use error::Error;
pub use identity::{DataDir, Identity, Opened};
pub use peers::{PeerDecision, PeerLife, PeerRefusal, PeersSeen};
pub use recovery::Verdict;
pub use wal::{DamagedRange, Examined, PAYLOAD_BYTES_MAX, Position, Recovered, Wal, WalOptions};
