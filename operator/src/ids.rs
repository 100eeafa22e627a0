//! Numbers and names that must never be taken for one another.
//!
//! Assumes nothing. Must not know: clusters, plans, platforms. The operator has its own `MemberId`
//! because it sees members only through the API and must not depend on the consensus crate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place in the set of nodes, counted from 0. It is not the member that lives there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

impl Slot {
    /// How many slots a set needs to contain this one.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0.saturating_add(1)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An identity in the membership. Never zero, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId(pub u64);

impl MemberId {
    /// The form used in status and files: sixteen hexadecimal digits, because JSON numbers lose
    /// precision above 2^53.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// The short form used in messages: `2f`.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Text that should have been an ID and is not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    /// What was read.
    pub text: String,
    /// What was wanted, with an article.
    pub expected: &'static str,
}

impl FromStr for MemberId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<MemberId, IdError> {
        let error = || IdError {
            text: text.to_owned(),
            expected: "a member ID (1 to 16 hexadecimal digits, not zero)",
        };
        // `from_str_radix` alone would accept a sign.
        if text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        match u64::from_str_radix(text, 16) {
            Ok(0) | Err(_) => Err(error()),
            Ok(id) => Ok(MemberId(id)),
        }
    }
}

impl Serialize for MemberId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Identity of one history: chosen once per cluster, checked on every peer and admin call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterUuid(pub uuid::Uuid);

impl fmt::Display for ClusterUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for ClusterUuid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<ClusterUuid, IdError> {
        uuid::Uuid::try_parse(text)
            .map(ClusterUuid)
            .map_err(|_| IdError {
                text: text.to_owned(),
                expected: "a cluster UUID",
            })
    }
}

/// Defines a name the platform gives to one life of a thing, so that a later thing in the same
/// place is never mistaken for it.
macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.to_owned())
            }
        }
    };
}

uid!(
    /// One life of the `KvCluster` object: a recreated object of the same name has another.
    ObjectUid
);
uid!(
    /// One life of what runs in a slot: a pod's UID, or a process (PID and start time).
    SlotUid
);
uid!(
    /// One life of a volume: a claim's UID, or a directory's ID.
    VolumeUid
);
uid!(
    /// The ID a node gives its data directory when it first opens it.
    DirectoryId
);

/// Milliseconds since the Unix epoch. The planner receives it and never reads a clock.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// This time plus `ms` milliseconds.
    #[must_use]
    pub fn plus(self, ms: i64) -> UnixMs {
        UnixMs(self.0.saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_id_survives_its_hexadecimal_form() {
        for id in [1, 0x2f, u64::MAX, 1 << 53] {
            assert_eq!(MemberId(id).to_hex().parse(), Ok(MemberId(id)));
        }
    }

    #[test]
    fn what_is_no_member_id_is_refused() {
        for text in ["", "0", "+1", "-1", "xyz", "00000000000000001", "1 "] {
            assert!(text.parse::<MemberId>().is_err(), "{text:?} was accepted");
        }
    }
}
