//! How many bytes of peers' messages may wait for the replica: a member that is busy for seconds,
//! with a snapshot or a slow disk, must not gather everything that its peers say meanwhile.
//!
//! Must not know: what the messages say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of messages that wait, all peers together. Beyond, messages are dropped: Raft repeats
/// them, and whoever waits for a forwarded proposal hears of a timeout.
pub(super) const WAITING_BYTES_MAX: usize = 256 << 20;
/// What a message costs beside the bytes it came in.
const MESSAGE_BYTES: usize = 256;

/// The room of one inbox.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// Room taken by one batch of messages; dropping it gives the room back.
#[derive(Default)]
pub(super) struct Held {
    bytes: usize,
    room: Room,
}

impl Room {
    /// Takes room for `messages` that came in `bytes`; `None` when there is none.
    pub(super) fn take(&self, messages: usize, bytes: usize) -> Option<Held> {
        let bytes = bytes + messages * MESSAGE_BYTES;
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let held = Held {
            bytes,
            room: self.clone(),
        };
        // One batch always fits into an empty inbox, however large.
        (before == 0 || before + bytes <= WAITING_BYTES_MAX).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let room = Room::default();
        let large = room.take(1, 2 * WAITING_BYTES_MAX);
        assert!(large.is_some(), "one batch always fits");
        assert!(room.take(1, 0).is_none());
        drop(large);
        let held: Vec<_> = (0..10_000_000).map_while(|_| room.take(1024, 0)).collect();
        assert!(held.len() * 1024 * MESSAGE_BYTES <= WAITING_BYTES_MAX);
        drop(held);
        assert!(room.take(1, WAITING_BYTES_MAX - MESSAGE_BYTES).is_some());
    }
}
