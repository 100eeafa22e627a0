//! The first words on a connection: who dials whom, which life of which directory, and the answer.
//!
//! Must not know: what follows.

use super::frame::put_frame;
use super::message::{kind, unknown};
use super::wire::{DecodeError, Put, Take};
use crate::storage::PeerLife;

/// Raised when frames change their meaning; both sides must agree.
pub const PROTOCOL_VERSION: u16 = 2;
/// Longest URL, name or explanation on the wire.
const TEXT_BYTES_MAX: usize = 4096;
/// Most URLs of one member on the wire.
const URLS_MAX: u64 = 64;

/// Longest hello: as many URLs as there may be, each as long as it may be.
pub(super) const HELLO_BYTES_MAX: usize = (URLS_MAX as usize + 1) * (TEXT_BYTES_MAX + 4);

/// First bytes of a hello: tells our peers from anything else that dials the port.
const MAGIC: [u8; 8] = *b"quorate\n";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The stream of messages from one member to another.
    Messages,
    /// One snapshot, so that it delays no message.
    Snapshot,
    /// One question for the membership, asked by a node that has no identity yet.
    Query,
}

/// Who dials, and whom he believes to have reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// UUID of the caller's cluster; all zero for a query.
    pub cluster_uuid: [u8; 16],
    /// Which life of that cluster the caller belongs to; 0 for a query.
    pub epoch: u64,
    /// The caller; 0 for a query.
    pub from: u64,
    /// Whom he wants; 0 for a query.
    pub to: u64,
    /// The caller's data directory (W7).
    pub directory_id: [u8; 16],
    /// Which life of that directory (W7).
    pub incarnation: u64,
    /// Random, new at every start: tells two lives with one incarnation apart (W7).
    pub boot_nonce: u64,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Where the caller is reached: a member that has not yet applied the caller's addition can
    /// answer it all the same (C15).
    pub peer_urls: Vec<String>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloRefusal {
    /// The cluster UUIDs differ.
    OtherCluster,
    /// The caller wanted another member.
    OtherMember,
    /// The caller's data directory is an older copy, or a second one is in use (W7).
    Stale,
    /// The caller was removed from the cluster.
    Removed,
    /// This node belongs to no cluster yet, or is stopping.
    NotReady,
    /// Another version of the protocol.
    Version,
    /// Too many connections.
    Busy,
    /// The two belong to different lives of the cluster: a lost quorum was recovered by hand.
    OtherEpoch,
}

/// Answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    /// Whether frames may follow.
    pub refusal: Option<HelloRefusal>,
    /// The answering member; 0 while unjoined.
    pub member: u64,
    /// Its data directory.
    pub directory_id: [u8; 16],
    /// Its incarnation.
    pub incarnation: u64,
    /// Its boot nonce.
    pub boot_nonce: u64,
    /// Which life of its cluster it belongs to; 0 while unjoined.
    pub epoch: u64,
}

impl Hello {
    /// Which life of which directory speaks.
    #[must_use]
    pub const fn life(&self) -> PeerLife {
        let (directory_id, incarnation) = (self.directory_id, self.incarnation);
        PeerLife {
            directory_id,
            incarnation,
            boot_nonce: self.boot_nonce,
        }
    }

    /// Appends the hello as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_frame(out, kind::HELLO, |to| {
            to.extend_from_slice(&MAGIC);
            to.put_u16(PROTOCOL_VERSION);
            to.extend_from_slice(&self.cluster_uuid);
            to.put_u64(self.epoch);
            to.put_u64(self.from);
            to.put_u64(self.to);
            to.extend_from_slice(&self.directory_id);
            to.put_u64(self.incarnation);
            to.put_u64(self.boot_nonce);
            to.put_u8(match self.purpose {
                Purpose::Messages => 1,
                Purpose::Snapshot => 2,
                Purpose::Query => 3,
            });
            put_urls(&self.peer_urls, to);
        });
    }

    /// Reads the body of the first frame of a connection. `Ok(None)`: another protocol version.
    ///
    /// # Errors
    /// [`DecodeError`]; also for another kind of frame.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind != kind::HELLO {
            return Err(unknown("first frame", kind));
        }
        let mut take = Take(body);
        if take.raw(MAGIC.len(), "magic")? != MAGIC {
            return Err(DecodeError::UnknownVariant {
                what: "magic",
                value: 0,
            });
        }
        if take.u16("version")? != PROTOCOL_VERSION {
            return Ok(None);
        }
        let hello = Self {
            cluster_uuid: take.id16("cluster UUID")?,
            epoch: take.u64("epoch")?,
            from: take.u64("from")?,
            to: take.u64("to")?,
            directory_id: take.id16("directory ID")?,
            incarnation: take.u64("incarnation")?,
            boot_nonce: take.u64("boot nonce")?,
            purpose: match take.u8("purpose")? {
                1 => Purpose::Messages,
                2 => Purpose::Snapshot,
                3 => Purpose::Query,
                other => return Err(unknown("purpose", other)),
            },
            peer_urls: urls(&mut take)?,
        };
        take.finish()?;
        Ok(Some(hello))
    }
}

impl HelloReply {
    /// Which life of which directory answers.
    #[must_use]
    pub const fn life(&self) -> PeerLife {
        let (directory_id, incarnation) = (self.directory_id, self.incarnation);
        PeerLife {
            directory_id,
            incarnation,
            boot_nonce: self.boot_nonce,
        }
    }

    /// Appends the reply as a frame.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_frame(out, kind::HELLO_REPLY, |to| {
            to.put_u8(match self.refusal {
                None => 0,
                Some(HelloRefusal::OtherCluster) => 1,
                Some(HelloRefusal::OtherMember) => 2,
                Some(HelloRefusal::Stale) => 3,
                Some(HelloRefusal::Removed) => 4,
                Some(HelloRefusal::NotReady) => 5,
                Some(HelloRefusal::Version) => 6,
                Some(HelloRefusal::Busy) => 7,
                Some(HelloRefusal::OtherEpoch) => 8,
            });
            to.put_u64(self.member);
            to.extend_from_slice(&self.directory_id);
            to.put_u64(self.incarnation);
            to.put_u64(self.boot_nonce);
            to.put_u64(self.epoch);
        });
    }

    /// Reads the body of the answer to a hello.
    ///
    /// # Errors
    /// [`DecodeError`]; also for another kind of frame.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, DecodeError> {
        if kind != kind::HELLO_REPLY {
            return Err(unknown("answer to hello", kind));
        }
        let mut take = Take(body);
        let refusal = match take.u8("refusal")? {
            0 => None,
            1 => Some(HelloRefusal::OtherCluster),
            2 => Some(HelloRefusal::OtherMember),
            3 => Some(HelloRefusal::Stale),
            4 => Some(HelloRefusal::Removed),
            5 => Some(HelloRefusal::NotReady),
            6 => Some(HelloRefusal::Version),
            7 => Some(HelloRefusal::Busy),
            8 => Some(HelloRefusal::OtherEpoch),
            other => return Err(unknown("refusal", other)),
        };
        let reply = Self {
            refusal,
            member: take.u64("member")?,
            directory_id: take.id16("directory ID")?,
            incarnation: take.u64("incarnation")?,
            boot_nonce: take.u64("boot nonce")?,
            epoch: take.u64("epoch")?,
        };
        take.finish()?;
        Ok(reply)
    }
}

pub(super) fn put_urls(urls: &[String], to: &mut Vec<u8>) {
    to.put_len(urls.len());
    urls.iter().for_each(|url| to.put_str(url));
}

pub(super) fn urls(take: &mut Take<'_>) -> Result<Vec<String>, DecodeError> {
    let count = take.count(4, "number of URLs")?;
    if count as u64 > URLS_MAX {
        let value = count as u64;
        return Err(DecodeError::TooLarge {
            what: "number of URLs",
            value,
            max: URLS_MAX,
        });
    }
    (0..count)
        .map(|_| take.string(TEXT_BYTES_MAX, "URL"))
        .collect()
}
