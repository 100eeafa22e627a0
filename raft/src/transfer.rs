//! Handing over the office to a chosen voter (thesis §3.10).
//!
//! The leader accepts no proposals meanwhile, brings the target's log up to the end of its own,
//! and tells it to campaign at once. If that does not work out within an election timeout, the
//! leader goes on as before (A17).

use crate::common::{Common, Need};
use crate::error::TransferError;
use crate::leader::Leader;
use crate::message::Message;
use crate::output::{Notice, Output};
use crate::types::MemberId;

/// A transfer that is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub to: MemberId,
    ticks: u32,
    told: bool,
}

impl Transfer {
    /// One that begins now.
    pub const fn new(to: MemberId) -> Self {
        Self {
            to,
            ticks: 0,
            told: false,
        }
    }
}

impl Leader {
    /// Begins to hand over to `to`.
    pub fn begin_transfer(
        &mut self,
        common: &Common,
        to: MemberId,
        out: &mut Output,
    ) -> Result<(), TransferError> {
        if to == common.id() {
            return Err(TransferError::AlreadyLeader);
        }
        if let Some(running) = &self.transfer {
            return Err(TransferError::Running(running.to));
        }
        if !common.log.membership().voters.contains(&to) {
            return Err(TransferError::NotVoter(to));
        }
        self.transfer = Some(Transfer::new(to));
        self.maybe_hand_over(common, to, out);
        Ok(())
    }

    /// Tells the target to campaign, once it holds our whole log durably.
    pub fn maybe_hand_over(&mut self, common: &Common, from: MemberId, out: &mut Output) {
        let last = common.log.last().index;
        let holds_all = self
            .peers
            .get(&from)
            .is_some_and(|peer| peer.matched == last);
        if let Some(transfer) = &mut self.transfer
            && transfer.to == from
            && !transfer.told
            && holds_all
        {
            transfer.told = true;
            common.send(from, Message::TimeoutNow, Need::Nothing, out);
        }
    }

    /// Gives up a transfer that takes too long, or whose target has lost its vote.
    pub fn tick_transfer(&mut self, common: &Common, out: &mut Output) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.ticks += 1;
        let to = transfer.to;
        let late = transfer.ticks >= common.config.election_ticks;
        if late || !common.log.membership().voters.contains(&to) {
            self.abandon_transfer(out);
        }
    }

    /// Goes on as before the transfer.
    pub fn abandon_transfer(&mut self, out: &mut Output) {
        if let Some(Transfer { to, .. }) = self.transfer.take() {
            out.notices.push(Notice::TransferAborted { to });
        }
    }
}
