//! One peer, as the leader sees it: what it holds and how fast we may send.
//!
//! Assumes that a peer never loses entries at or below `matched` (thesis §3.8), unless it says so
//! itself: a peer under repair.
//! Must not know: sockets, wall time, frame sizes.
//! Caveat: a peer whose disk was replaced has forgotten them. It carries another identity, and
//! `transport` refuses its messages under the old member ID.

use crate::config::Config;
use crate::message::AppendOutcome;
use crate::types::LogIndex;
use alloc::collections::VecDeque;

/// The leader's view of one peer.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Known durable at the peer, and equal to our log, up to here.
    pub matched: LogIndex,
    /// Next entry to send; always above `matched`.
    pub next: LogIndex,
    pub flow: Flow,
    /// Appends in flight, while replicating: last index and payload bytes of each.
    window: VecDeque<(LogIndex, usize)>,
    /// Sum of the bytes in `window`.
    window_bytes: usize,
    /// Highest commit index that an append to this peer has carried.
    pub commit_sent: LogIndex,
    /// Ticks since the peer last accepted us as the leader of our term.
    pub silent_ticks: u32,
    /// Last heartbeat round it has answered.
    pub round: u64,
    /// It is under repair: what it holds and its contact count nowhere.
    pub repairing: bool,
}

/// How we send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Where its log agrees with ours is not known: one append at a time.
    Probe {
        /// One is on its way; a heartbeat answer allows the next (B13).
        waiting: bool,
    },
    /// Its log agrees with ours: a window of appends, sent ahead of their answers.
    Replicate,
    /// What it needs is no longer in the log: a snapshot is on its way.
    Snapshot,
}

impl Progress {
    /// A peer nothing is known about; the first probe goes to the end of our log.
    pub fn new(next: LogIndex) -> Self {
        Self {
            matched: LogIndex(0),
            next,
            flow: Flow::Probe { waiting: false },
            window: VecDeque::new(),
            window_bytes: 0,
            commit_sent: LogIndex(0),
            silent_ticks: 0,
            round: 0,
            repairing: false,
        }
    }

    /// Whether an append may be sent now.
    pub fn has_room(&self, config: &Config) -> bool {
        match self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate => {
                self.window.len() < config.inflight_appends_max
                    && (self.window.is_empty() || self.window_bytes < config.inflight_bytes_max)
            }
            Flow::Snapshot => false,
        }
    }

    /// Whether it is known to hold less than we have sent it.
    pub fn awaits_answers(&self) -> bool {
        self.matched < self.next.previous()
    }

    /// An append of the entries up to `last` leaves.
    pub fn sent(&mut self, last: LogIndex, bytes: usize) {
        match &mut self.flow {
            Flow::Probe { waiting } => *waiting = true,
            Flow::Replicate => {
                assert!(
                    last >= self.next,
                    "sent up to {last}, below next {}",
                    self.next
                );
                self.window.push_back((last, bytes));
                self.window_bytes += bytes;
                self.next = last.next();
            }
            Flow::Snapshot => {}
        }
    }

    /// The peer holds our log up to `last`; `first_kept` is the lowest index that an append may
    /// name as its previous one. Returns whether anything was learned.
    pub fn matched_to(&mut self, last: LogIndex, first_kept: LogIndex) -> bool {
        let news = last > self.matched;
        self.matched = self.matched.max(last);
        self.next = self.next.max(self.matched.next());
        match self.flow {
            Flow::Probe { .. } if last >= self.matched => self.replicate(),
            // Any snapshot that closes the gap will do, not only the one we sent (B9).
            Flow::Snapshot if self.matched >= first_kept => self.replicate(),
            Flow::Probe { .. } | Flow::Snapshot => {}
            Flow::Replicate => {
                while self.window.front().is_some_and(|(sent, _)| *sent <= last) {
                    let Some((_, bytes)) = self.window.pop_front() else {
                        break;
                    };
                    assert!(bytes <= self.window_bytes, "{bytes} bytes end of {self:?}");
                    self.window_bytes -= bytes;
                }
            }
        }
        news
    }

    /// The peer refused the append whose previous entry was `refused`; the logs may agree at
    /// `agree`. Returns whether the refusal is news, rather than an answer to an earlier question.
    pub fn refused(&mut self, refused: LogIndex, agree: LogIndex) -> bool {
        let stale = match self.flow {
            // The one probe in flight asked about the entry before `next`.
            Flow::Probe { .. } => refused != self.next.previous() || refused <= self.matched,
            Flow::Replicate => refused <= self.matched,
            Flow::Snapshot => true,
        };
        if stale {
            return false;
        }
        // Back, never on: the answer may be to a question from before an earlier step back.
        let back = agree.next().min(refused).min(self.next);
        let next = back.max(self.matched.next());
        self.probe(next, false);
        true
    }

    /// The peer says that it has lost entries, and may agree with us before `next`. What it had
    /// acknowledged is known no more. Returns whether it can be sent entries now.
    pub fn repairs_from(&mut self, next: LogIndex, first_kept: LogIndex, snapshot: bool) -> bool {
        self.repairing = true;
        self.matched = LogIndex(0);
        // A snapshot is on its way, and is what it needs still.
        if self.flow == Flow::Snapshot && (snapshot || next.previous() < first_kept) {
            return false;
        }
        self.probe(next, false);
        true
    }

    /// Plants the bug of a stale refusal that rewinds what was known.
    pub fn forget_matched(&mut self, outcome: AppendOutcome) {
        if let AppendOutcome::Conflict { hint, .. } = outcome {
            self.probe(hint.index.min(self.matched).max(LogIndex(1)), false);
        }
    }

    /// The peer is alive: a lost probe may be repeated.
    pub fn resume(&mut self) {
        if let Flow::Probe { waiting } = &mut self.flow {
            *waiting = false;
        }
    }

    /// One append at a time, from `next` on.
    pub fn probe(&mut self, next: LogIndex, waiting: bool) {
        self.next = next;
        self.flow = Flow::Probe { waiting };
        self.clear_window();
    }

    /// Nothing can be sent until a snapshot has arrived.
    pub fn await_snapshot(&mut self) {
        self.flow = Flow::Snapshot;
        self.clear_window();
    }

    fn replicate(&mut self) {
        assert!(
            self.flow != Flow::Replicate,
            "began to replicate twice: {self:?}"
        );
        self.flow = Flow::Replicate;
        self.next = self.matched.next();
        self.clear_window();
    }

    fn clear_window(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
    }
}
