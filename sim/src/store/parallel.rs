//! A disk that takes several writes at once and finishes them in any order.
//!
//! What has been finished counts only up to the first gap; a crash keeps that prefix and perhaps
//! some of what follows it without a gap, as a log on a real disk would.

use super::Durable;
use crate::tape::Tape;
use quorate_raft::{Persist, PersistId};
use std::collections::VecDeque;

/// The store.
#[derive(Default)]
pub struct Parallel {
    /// What is durable.
    pub durable: Durable,
    writing: VecDeque<(Persist, bool)>,
}

impl Parallel {
    /// A store that begins with these contents.
    #[must_use]
    pub fn new(durable: Durable) -> Self {
        Self {
            durable,
            writing: VecDeque::new(),
        }
    }

    pub(super) fn begin(&mut self, persist: Persist) {
        self.writing.push_back((persist, false));
    }

    pub(super) fn busy(&self) -> bool {
        self.writing.iter().any(|(_, done)| !done)
    }

    pub(super) fn finish(&mut self, tape: &mut Tape) -> Vec<PersistId> {
        let waiting: Vec<usize> = (0..self.writing.len())
            .filter(|position| !self.writing[*position].1)
            .collect();
        let Some(position) = tape.pick(&waiting).copied() else {
            return Vec::new();
        };
        self.writing[position].1 = true;
        let id = self.writing[position].0.id;
        while self.writing.front().is_some_and(|(_, done)| *done) {
            let (persist, _) = self.writing.pop_front().expect("it was just seen");
            self.durable.take(&persist);
        }
        vec![id]
    }

    pub(super) fn crash(&mut self, tape: &mut Tape) {
        // Entry by entry: a batch may survive in part, but never with a hole.
        'writes: for (mut persist, _) in std::mem::take(&mut self.writing) {
            if tape.chance(500) {
                break;
            }
            if let Some(hard_state) = persist.hard_state.take() {
                self.durable.hard_state = hard_state;
            }
            for entry in persist.entries {
                if tape.chance(200) {
                    break 'writes;
                }
                self.durable.append(&entry);
            }
        }
    }
}
