//! The one door into the replica: a bounded double buffer that wakes its owner at most once.
//!
//! Producers push under a short lock; the owner swaps the whole buffer out. While the owner is
//! busy no producer pays for a wake-up, so one turn of the loop serves all that arrived meanwhile.
//! Must not know: what an input means.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Requests of clients that wait for the loop. When full the caller gets `TooManyRequests` and
/// nothing was proposed.
pub const INBOX_REQUESTS_MAX: usize = 16_384;

/// Everything that waits for the loop, completions and peer messages included. Peer messages
/// beyond are dropped (Raft repeats them); completions are few and always find room.
pub const INBOX_MAX: usize = 2 * INBOX_REQUESTS_MAX;

/// What ends the owner's sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeOn {
    /// Whatever arrives.
    Anything,
    /// Only what cannot wait: nothing can be done yet for the rest, so waking for it would be a
    /// turn in vain.
    Urgent,
}

struct State<T> {
    items: Vec<T>,
    /// Some of `items` cannot wait.
    urgent: bool,
    /// The owner sleeps until this.
    asleep: Option<WakeOn>,
    /// No more requests are taken.
    closed: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

/// Why an input was not taken; the input is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The bound of this kind of input is reached.
    Full,
    /// The owner has stopped.
    Closed,
}

/// The producers' end, and the owner's. Cloning shares the queue.
pub struct Inbox<T>(Arc<Shared<T>>);

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                items: Vec::new(),
                urgent: false,
                asleep: None,
                closed: false,
            }),
            wake: Condvar::new(),
        }))
    }
}

impl<T> Inbox<T> {
    /// Adds an input of which at most `len_max` may wait.
    ///
    /// # Errors
    /// [`Refused`]; the input was dropped.
    pub fn push(&self, item: T, len_max: usize) -> Result<(), Refused> {
        self.add(item, len_max, true)
    }

    /// As [`Inbox::push`], for an input that an owner who waits for [`WakeOn::Urgent`] need not
    /// see before something else wakes it.
    ///
    /// # Errors
    /// [`Refused`]; the input was dropped.
    pub fn push_patient(&self, item: T, len_max: usize) -> Result<(), Refused> {
        self.add(item, len_max, false)
    }

    fn add(&self, item: T, len_max: usize, urgent: bool) -> Result<(), Refused> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= len_max {
            return Err(Refused::Full);
        }
        state.items.push(item);
        state.urgent |= urgent;
        let wake = state
            .asleep
            .take_if(|until| urgent || *until == WakeOn::Anything)
            .is_some();
        drop(state);
        if wake {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Adds an input whose number is bounded by its producer (completions).
    ///
    /// # Errors
    /// [`Refused::Closed`] only.
    pub fn push_always(&self, item: T) -> Result<(), Refused> {
        self.push(item, usize::MAX)
    }

    /// Takes all that waits, or sleeps up to `timeout` for something to arrive. `batch` must be
    /// empty; its allocation becomes the producers' next buffer.
    pub fn wait_and_drain(&self, batch: &mut Vec<T>, timeout: Duration) {
        self.wait_and_drain_on(batch, timeout, WakeOn::Anything);
    }

    /// As [`Inbox::wait_and_drain`], asleep until `wake_on`; takes what did not wake it too.
    pub fn wait_and_drain_on(&self, batch: &mut Vec<T>, timeout: Duration, wake_on: WakeOn) {
        debug_assert!(batch.is_empty(), "the previous batch was not finished");
        let mut state = self.0.state.lock();
        let nothing = match wake_on {
            WakeOn::Anything => state.items.is_empty(),
            WakeOn::Urgent => !state.urgent,
        };
        if nothing && !timeout.is_zero() {
            state.asleep = Some(wake_on);
            self.0.wake.wait_for(&mut state, timeout);
            state.asleep = None;
        }
        state.urgent = false;
        std::mem::swap(batch, &mut state.items);
    }

    /// Refuses everything from now on and returns what was still waiting.
    pub fn close(&self) -> Vec<T> {
        let mut state = self.0.state.lock();
        state.closed = true;
        std::mem::take(&mut state.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_refuses_requests_but_takes_completions() {
        let inbox = Inbox::default();
        inbox.push(1, 2).unwrap();
        inbox.push(2, 2).unwrap();
        assert_eq!(inbox.push(3, 2), Err(Refused::Full));
        inbox.push_always(4).unwrap();
        let mut batch = Vec::new();
        inbox.wait_and_drain(&mut batch, Duration::ZERO);
        assert_eq!(batch, [1, 2, 4]);
    }

    #[test]
    fn a_sleeping_owner_is_woken_by_a_push() {
        let inbox = Inbox::default();
        let producer = inbox.clone();
        let thread = std::thread::spawn(move || producer.push(7, 10));
        let mut batch = Vec::new();
        while batch.is_empty() {
            inbox.wait_and_drain(&mut batch, Duration::from_secs(60));
        }
        assert_eq!(batch, [7]);
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_can_wait_does_not_wake_an_owner_who_waits_for_more() {
        let inbox = Inbox::default();
        let mut batch = Vec::new();
        inbox.push_patient(1, 10).unwrap();
        let producer = inbox.clone();
        let thread = std::thread::spawn(move || producer.push(2, 10));
        inbox.wait_and_drain_on(&mut batch, Duration::from_secs(60), WakeOn::Urgent);
        assert_eq!(
            batch,
            [1, 2],
            "the patient input alone did not end the wait"
        );
        thread.join().unwrap().unwrap();
        batch.clear();
        inbox.push_patient(3, 10).unwrap();
        inbox.wait_and_drain_on(&mut batch, Duration::from_millis(1), WakeOn::Urgent);
        assert_eq!(batch, [3], "it is taken when the time is over");
    }

    #[test]
    fn a_closed_inbox_hands_back_what_waited_and_takes_nothing_more() {
        let inbox = Inbox::default();
        inbox.push(1, 2).unwrap();
        assert_eq!(inbox.close(), [1]);
        assert_eq!(inbox.push(2, 2), Err(Refused::Closed));
    }
}
