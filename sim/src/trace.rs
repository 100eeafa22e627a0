//! What happened, told to people: every event as one line, printed at once or kept for the end.
//!
//! Lines are made only when somebody listens, and nothing depends on whether somebody does.

use quorate_raft::{AppendOutcome, Entry, Envelope, Message, Notice, Payload, Persist};
use std::collections::VecDeque;

/// Who listens.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nobody: lines are not even made.
    #[default]
    Off,
    /// Every line is printed.
    Print,
    /// The last lines are kept, oldest first.
    Tail(VecDeque<String>, usize),
}

impl Trace {
    /// Keeps the last `lines` lines.
    #[must_use]
    pub const fn tail(lines: usize) -> Self {
        Self::Tail(VecDeque::new(), lines)
    }

    /// The lines kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let kept = match self {
            Self::Off | Self::Print => None,
            Self::Tail(lines, _) => Some(lines),
        };
        kept.into_iter().flatten().map(String::as_str)
    }

    /// Notes what happened at a moment of virtual time.
    pub(crate) fn note(&mut self, now_us: u64, line: impl FnOnce() -> String) {
        match self {
            Self::Off => {}
            Self::Print => println!("{}", stamped(now_us, &line())),
            Self::Tail(lines, most) => {
                if lines.len() >= *most {
                    lines.pop_front();
                }
                lines.push_back(stamped(now_us, &line()));
            }
        }
    }
}

fn stamped(now_us: u64, line: &str) -> String {
    format!("{:>9.3} ms  {line}", now_us as f64 / 1000.0)
}

/// A message in a few words.
pub(crate) fn message(envelope: &Envelope) -> String {
    let what = match &envelope.message {
        Message::PreVote { last } => format!("would you vote for me? my log ends at {last}"),
        Message::PreVoteResponse { granted: true } => "I would".to_owned(),
        Message::PreVoteResponse { granted: false } => "I would not".to_owned(),
        Message::Vote { last, transfer } => {
            let asked = if *transfer { " (transfer)" } else { "" };
            format!("vote for me{asked}, my log ends at {last}")
        }
        Message::VoteResponse { granted: true } => "my vote".to_owned(),
        Message::VoteResponse { granted: false } => "no vote".to_owned(),
        Message::Append {
            prev,
            entries,
            commit,
        } => format!("append {} after {prev}, commit {commit}", span(entries)),
        Message::AppendResponse {
            outcome: AppendOutcome::Matched { last },
        } => format!("I hold up to {last}"),
        Message::AppendResponse {
            outcome: AppendOutcome::Conflict { refused, hint },
        } => format!("I do not hold {refused}, perhaps {hint}"),
        Message::AppendResponse {
            outcome: AppendOutcome::Repairing { hint, .. },
        } => format!("I am under repair, perhaps I hold {hint}"),
        Message::Heartbeat { commit, round } => format!("heartbeat {round}, commit {commit}"),
        Message::HeartbeatResponse { round } => format!("heartbeat {round} heard"),
        Message::ReadIndex { read } => format!("what is the floor of read {}?", read.0),
        Message::ReadIndexResponse {
            read,
            floor: Some(floor),
        } => format!("the floor of read {} is {floor}", read.0),
        Message::ReadIndexResponse { read, floor: None } => {
            format!("no floor for read {}", read.0)
        }
        Message::TimeoutNow => "campaign now".to_owned(),
    };
    format!(
        "{} -> {} term {}: {what}",
        envelope.from, envelope.to, envelope.term
    )
}

/// A write in a few words.
pub(crate) fn write(persist: &Persist) -> String {
    let vote = persist.hard_state.map(|state| {
        let vote = state.vote.map_or("nobody".to_owned(), |id| id.to_string());
        format!(" term {}, vote for {vote};", state.term)
    });
    let entries = span(&persist.entries);
    let vote = vote.unwrap_or_default();
    format!("write {} begins:{vote} {entries}", persist.id.0)
}

/// A notice of the core in a few words.
pub(crate) fn notice(notice: &Notice) -> String {
    match notice {
        Notice::RoleChanged { to, term, why, .. } => {
            format!("becomes {to:?} in term {term}: {why:?}")
        }
        Notice::LeaderChanged {
            leader: Some(leader),
            term,
        } => format!("follows {leader} in term {term}"),
        Notice::LeaderChanged { leader: None, term } => format!("knows no leader in term {term}"),
        Notice::VoteRefused { candidate, why } => format!("has no vote for {candidate}: {why:?}"),
        Notice::MembershipChanged { index, rolled_back } => {
            let how = if *rolled_back { " again" } else { "" };
            format!("goes by the membership of entry {index}{how}")
        }
        Notice::LogCut { from } => format!("cuts its log at {from}"),
        Notice::TransferAborted { to } => format!("gives up handing over to {to}"),
        Notice::MessageIgnored { from, what } => format!("ignores {from}: {what}"),
        Notice::SnapshotInstalled { last } => format!("has installed the snapshot at {last}"),
    }
}

fn span(entries: &[Entry]) -> String {
    let [first, ..] = entries else {
        return "nothing".to_owned();
    };
    let last = entries.last().unwrap_or(first);
    let memberships = entries
        .iter()
        .filter(|entry| matches!(entry.payload, Payload::Membership { .. }))
        .map(|entry| format!(", membership at {}", entry.id.index));
    let memberships: String = memberships.collect();
    if first.id == last.id {
        format!("entry {}{memberships}", first.id)
    } else {
        format!("entries {} to {}{memberships}", first.id, last.id)
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn a_tail_keeps_the_last_lines_and_makes_no_line_for_nobody() {
        let mut trace = Trace::tail(2);
        for number in 1..=5 {
            trace.note(number * 1000, || format!("event {number}"));
        }
        let lines: Vec<&str> = trace.lines().collect();
        assert_eq!(lines, ["    4.000 ms  event 4", "    5.000 ms  event 5"]);
        let mut off = Trace::Off;
        off.note(1, || unreachable!("nobody listens"));
        assert_eq!(off.lines().count(), 0);
    }
}
