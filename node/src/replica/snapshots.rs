//! Snapshots between members: the sending thread, the receiving connection, and installing.
//!
//! A snapshot travels on a connection of its own, in chunks that the state machine's history
//! numbers and checks. The receiver says which chunks it lacks, so a transfer that was cut goes on
//! where it ended. Installing is state first (durable, swapped atomically), log second, core third;
//! a start after a crash in between ends it (D3, D8).
//! Must not know: what chunks contain, sockets beyond reading and writing.

use super::disk::DiskJob;
use super::genesis::HISTORY_DIR;
use super::handle::Shared;
use super::input::Input;
use super::shell::{Ended, Shell};
use crate::env::Disk;
use crate::kv;
use crate::storage::codec::{Cursor, put_snapshot_meta, take_snapshot_meta};
use crate::storage::revision_log::{AppliedMark, Error, SnapshotId, SnapshotReceiver, Snapshotter};
use crate::transport::{
    FrameReader, Local, PeerStream, SnapshotMessage, WANTED_RANGES_MAX, connect_snapshot,
};
use quorate_raft::{InstallOutcome, LogIndex, MemberId, SnapshotMeta, SnapshotWanted, Term};
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Transfers to peers at the same time; more wait for their turn.
pub const TRANSFERS_MAX: usize = 2;
/// How often a chunk that arrived damaged is asked for again.
const ROUNDS_MAX: usize = 5;
/// How long a whole snapshot may wait for the replica to install it.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a sender waits until its own state is durable far enough.
const DURABLE_WAIT: Duration = Duration::from_millis(50);
/// How often it looks.
const DURABLE_LOOKS_MAX: usize = 100;

/// A whole snapshot, verified and durable, that waits to be installed.
pub(super) struct ReceivedSnapshot {
    pub(super) from: u64,
    pub(super) term: Term,
    pub(super) meta: SnapshotMeta,
    pub(super) receiver: SnapshotReceiver,
    /// Told the last index installed, or 0.
    pub(super) done: SyncSender<LogIndex>,
}

/// Why a transfer has ended early; it is begun again when the peer still needs it.
#[derive(Debug, thiserror::Error)]
enum TransferError {
    #[error("{0}")]
    Connect(#[from] crate::transport::ConnectError),
    #[error("{0}")]
    Frame(#[from] crate::transport::FrameError),
    #[error("{0}")]
    Decode(#[from] crate::transport::DecodeError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    History(#[from] Error),
    #[error("{0}")]
    Protocol(&'static str),
}

/// The position that a manifest carries along.
pub(super) fn decode_meta(bytes: &[u8]) -> Option<SnapshotMeta> {
    let mut cursor = Cursor::new(bytes);
    let meta = take_snapshot_meta(&mut cursor).ok()?;
    cursor.finish().ok().map(|()| meta)
}

struct Sending {
    local: Local,
    to: u64,
    urls: Vec<String>,
    term: Term,
    at_least: LogIndex,
    meta: SnapshotMeta,
    snapshotter: Snapshotter,
}

impl Sending {
    fn run(&self) -> Result<LogIndex, TransferError> {
        let mut looks = 0;
        while self.snapshotter.mark().applied.index < self.at_least {
            looks += 1;
            if looks > DURABLE_LOOKS_MAX {
                return Err(TransferError::Protocol(
                    "our own state is not durable far enough",
                ));
            }
            std::thread::sleep(DURABLE_WAIT);
        }
        let mut meta = self.meta.clone();
        let snapshot = self.snapshotter.take(|mark| {
            meta.last = mark.applied;
            let mut bytes = Vec::new();
            put_snapshot_meta(&mut bytes, &meta);
            bytes
        })?;
        if snapshot.mark().membership_index != meta.membership_index {
            return Err(TransferError::Protocol(
                "the membership has changed meanwhile",
            ));
        }
        let stream = connect_snapshot(&self.local, self.to, &self.urls)?;
        let mut reader = FrameReader::new(&stream);
        let manifest = Arc::from(&snapshot.manifest()[..]);
        let term = self.term;
        write(
            &stream,
            &SnapshotMessage::Offer {
                term,
                meta: meta.clone(),
                manifest,
            },
        )?;
        loop {
            let (kind, body) = reader.next_frame()?;
            match SnapshotMessage::decode(kind, body)? {
                SnapshotMessage::Wanted { ranges } => {
                    for number in ranges
                        .iter()
                        .flat_map(|(first, count)| *first..first.saturating_add(*count))
                    {
                        let bytes = Arc::from(&snapshot.chunk(number, true)?[..]);
                        let snapshot = snapshot.id().0;
                        write(
                            &stream,
                            &SnapshotMessage::Chunk {
                                snapshot,
                                number,
                                bytes,
                            },
                        )?;
                    }
                    write(
                        &stream,
                        &SnapshotMessage::End {
                            last: meta.last.index,
                        },
                    )?;
                    // Verifying and installing may take the receiver a while.
                    stream.socket().set_read_timeout(Some(INSTALL_TIMEOUT))?;
                }
                SnapshotMessage::End { last } if last == meta.last.index => return Ok(last),
                SnapshotMessage::End { .. } => {
                    return Err(TransferError::Protocol("the peer did not install it"));
                }
                SnapshotMessage::Offer { .. } | SnapshotMessage::Chunk { .. } => {
                    return Err(TransferError::Protocol("the peer sends a snapshot itself"));
                }
            }
        }
    }
}

fn write(mut stream: &PeerStream, message: &SnapshotMessage) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    stream.write_all(&bytes)
}

/// Takes a snapshot from `from`, on the connection's own thread; returns whether it is installed.
pub(super) fn receive(
    shared: &Shared,
    disk: &Arc<dyn Disk>,
    from: u64,
    reader: &mut FrameReader<&PeerStream>,
    writer: &PeerStream,
) -> bool {
    let received = receive_all(shared, disk, from, reader, writer);
    match &received {
        Ok(last) => tracing::info!(from = %MemberId(from), %last, "snapshot received"),
        Err(error) => tracing::warn!(from = %MemberId(from), %error, "snapshot not received"),
    }
    received.is_ok()
}

fn receive_all(
    shared: &Shared,
    disk: &Arc<dyn Disk>,
    from: u64,
    reader: &mut FrameReader<&PeerStream>,
    writer: &PeerStream,
) -> Result<LogIndex, TransferError> {
    let (kind, body) = reader.next_frame()?;
    let SnapshotMessage::Offer {
        term,
        meta,
        manifest,
    } = SnapshotMessage::decode(kind, body)?
    else {
        return Err(TransferError::Protocol("the first message is no offer"));
    };
    let mut receiver = SnapshotReceiver::begin(Arc::clone(disk), HISTORY_DIR, &manifest)?;
    check_position(&meta, receiver.meta(), &receiver.mark())?;
    for _ in 0..ROUNDS_MAX {
        let ranges = ranges(receiver.missing());
        if ranges.is_empty() {
            break;
        }
        write(writer, &SnapshotMessage::Wanted { ranges })?;
        receive_chunks(&mut receiver, reader)?;
    }
    receiver.verify()?;
    let (done, installed) = sync_channel(1);
    let last = meta.last.index;
    let snapshot = ReceivedSnapshot {
        from,
        term,
        meta,
        receiver,
        done,
    };
    let input = Input::SnapshotReceived(Box::new(snapshot));
    if shared.inbox.push_always(input).is_err() {
        return Err(TransferError::Protocol("the node is stopping"));
    }
    let outcome = installed
        .recv_timeout(INSTALL_TIMEOUT)
        .unwrap_or(LogIndex(0));
    write(writer, &SnapshotMessage::End { last: outcome })?;
    if outcome < last {
        return Err(TransferError::Protocol(
            "it was not installed: nothing in it is new",
        ));
    }
    Ok(outcome)
}

/// The offer, the position in the manifest and the mark of the state must say the same: whoever
/// installs by one of them would else not be where the others say (D3).
fn check_position(
    offered: &SnapshotMeta,
    in_manifest: &[u8],
    mark: &AppliedMark,
) -> Result<(), TransferError> {
    if decode_meta(in_manifest).as_ref() != Some(offered) {
        return Err(TransferError::Protocol(
            "offer and manifest name different positions",
        ));
    }
    if mark.applied != offered.last || mark.membership_index != offered.membership_index {
        return Err(TransferError::Protocol(
            "the state in the snapshot stands elsewhere than the offer says",
        ));
    }
    Ok(())
}

fn receive_chunks(
    receiver: &mut SnapshotReceiver,
    reader: &mut FrameReader<&PeerStream>,
) -> Result<(), TransferError> {
    loop {
        let (kind, body) = reader.next_frame()?;
        match SnapshotMessage::decode(kind, body)? {
            SnapshotMessage::Chunk {
                snapshot,
                number,
                bytes,
            } => {
                match receiver.write_chunk(SnapshotId(snapshot), number, &bytes) {
                    Ok(_) => {}
                    // It stays on the list of what is missing.
                    Err(error @ Error::ChunkRefused { .. }) => {
                        tracing::warn!(%error, "a chunk of a snapshot is asked for again");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            SnapshotMessage::End { .. } => return Ok(()),
            SnapshotMessage::Offer { .. } | SnapshotMessage::Wanted { .. } => {
                return Err(TransferError::Protocol("expected a chunk"));
            }
        }
    }
}

/// Ascending numbers as (first, count).
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        if let Some((first, count)) = ranges.last_mut()
            && *first + *count == number
        {
            *count += 1;
        } else if ranges.len() < WANTED_RANGES_MAX {
            ranges.push((number, 1));
        } else {
            break;
        }
    }
    ranges
}

impl Shell {
    /// Begins to send a snapshot on a thread of its own.
    pub(super) fn send_snapshot(&mut self, wanted: SnapshotWanted) {
        let to = wanted.to.0;
        if self.sending.contains_key(&to) {
            return;
        }
        let snapshotter = self.core.store().log().snapshotter();
        let at = snapshotter.mark().applied.index.max(wanted.at_least);
        let membership = self.core.raft.membership_at(at);
        let sending = membership.map(|(membership, membership_index)| Sending {
            local: self.history.local.clone(),
            to,
            urls: self.urls_of(wanted.to),
            term: self.core.raft.term(),
            at_least: wanted.at_least,
            meta: SnapshotMeta {
                membership: membership.clone(),
                membership_index,
                ..SnapshotMeta::default()
            },
            snapshotter,
        });
        let inbox = self.shared.inbox.clone();
        let spawned = sending
            .filter(|_| self.sending.len() < TRANSFERS_MAX)
            .map(|sending| {
                std::thread::Builder::new()
                    .name("snapshot".to_owned())
                    .spawn(move || {
                        let peer = MemberId(to);
                        tracing::info!(%peer, "sending a snapshot");
                        let outcome = sending.run().map_err(|error| {
                            tracing::warn!(%peer, %error, "snapshot not sent");
                        });
                        // The node may have stopped meanwhile.
                        let _ = inbox.push_always(Input::SnapshotSent { to, outcome });
                    })
            });
        match spawned {
            Some(Ok(_)) => {
                self.sending.insert(to, self.shared.clock.monotonic_ns());
                let counters = self.metrics.network.peer(self.core.id(), to);
                counters.snapshot_sends_inflight.set(1);
            }
            // The core asks again when the peer still needs one.
            Some(Err(_)) | None => {
                self.core
                    .raft
                    .snapshot_sent(wanted.to, Err(()), &mut self.core.out);
            }
        }
    }

    /// Installs a snapshot, if it is news: state, then log, then core.
    pub(super) fn install(&mut self, snapshot: ReceivedSnapshot) -> Result<(), Ended> {
        let in_progress = self.metrics.replica.snapshot_apply_in_progress.clone();
        in_progress.set(1);
        let ended = self.install_in_order(snapshot);
        in_progress.set(0);
        ended
    }

    fn install_in_order(&mut self, snapshot: ReceivedSnapshot) -> Result<(), Ended> {
        let ReceivedSnapshot {
            from,
            term,
            meta,
            mut receiver,
            done,
        } = snapshot;
        // All that can speak against it is asked before the state is touched. The leader's messages
        // have brought its term here before; one that they have not yet brought comes again (D5).
        let refused = self.core.raft.refuses_snapshot(MemberId(from), term, &meta);
        let refused = refused.or_else(|| {
            (term != self.core.raft.term()).then_some("snapshot: of a term that is not ours yet")
        });
        if let Some(why) = refused {
            tracing::warn!(from = %MemberId(from), last = %meta.last, why, "not installed");
            // Whoever waits may have given up.
            let _ = done.send(LogIndex(0));
            return Ok(());
        }
        // The term is durable before the state that names it, and what came before the snapshot
        // reaches the log before the log's new beginning.
        self.core.collect();
        self.carry_out()?;
        self.on_disk(DiskJob::Barrier)?;
        let before = self.core.applied();
        self.compaction = None;
        self.shared.reader.store(None);
        self.core.store = None;
        let swapped = receiver.install(&self.history.options);
        let store = self.reopen()?;
        let complete = store.applied() == meta.last;
        self.core.store = Some(store);
        self.serve_state()?;
        if let Err(error) = swapped {
            tracing::warn!(%error, "a snapshot could not be installed");
        }
        if !complete {
            if self.core.applied() < before {
                // Applied and not yet durable: the log on disk has it, and gives it back.
                return Err(Ended::Failed(
                    "a snapshot could not be installed, and the state on disk is older than the \
                     one in memory; start the member again"
                        .to_owned(),
                ));
            }
            let _ = done.send(LogIndex(0));
            return Ok(());
        }
        let base = Box::new(meta.clone());
        self.on_disk(|told| DiskJob::SaveBase(base, told))?;
        let last = meta.last;
        match self
            .core
            .raft
            .install_snapshot(MemberId(from), term, meta, &mut self.core.out)
        {
            InstallOutcome::Installed => {}
            InstallOutcome::Ignored => {
                return Err(Ended::Failed(format!(
                    "the core refused the snapshot at {last} after its installation; start the \
                     member again"
                )));
            }
        }
        self.core.state_replaced(last);
        let _ = done.send(last.index);
        Ok(())
    }

    fn reopen(&self) -> Result<kv::Store, Ended> {
        let disk = Arc::clone(&self.history.disk);
        let failed = |error| Ended::Failed(format!("cannot open the state machine: {error}"));
        let (mut store, _) =
            kv::Store::open(disk, HISTORY_DIR, self.history.options).map_err(failed)?;
        store.answer_only(self.shared.boot_nonce);
        Ok(store)
    }

    /// Hands a job to the disk thread and waits until it is done.
    pub(super) fn on_disk(&self, job: impl FnOnce(SyncSender<()>) -> DiskJob) -> Result<(), Ended> {
        let (told, done): (SyncSender<()>, Receiver<()>) = sync_channel(1);
        self.disk.push(job(told));
        done.recv()
            .map_err(|_| Ended::Failed("the disk thread has failed".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_chunks_are_named_by_ranges() {
        assert_eq!(ranges([].into_iter()), []);
        assert_eq!(
            ranges([0, 1, 2, 5, 7, 8].into_iter()),
            [(0, 3), (5, 1), (7, 2)]
        );
    }

    #[test]
    fn f14_the_number_of_ranges_is_bounded() {
        let every_second = (0..1_000_000).step_by(2);
        assert_eq!(ranges(every_second).len(), WANTED_RANGES_MAX);
    }
}
