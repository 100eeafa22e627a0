//! How scripts show what happened: short sentences an operator would use.

use crate::cluster::{Event, Member, Write};
use quorate_raft::{
    AppendOutcome, Entry, Envelope, MemberId, Membership, Message, Notice, Payload, Persist,
    ReadId, ReadOutcome, Refusal, RoleChange, RoleKind, Status,
};
use std::fmt::Display;

pub fn event(event: &Event, name: impl Fn(ReadId) -> String) -> String {
    match event {
        Event::Notice(id, notice) => format!("{id}: {}", self::notice(notice)),
        Event::Read(id, read) => match read.outcome {
            ReadOutcome::Floor(floor) => {
                format!("{id}: read {} has floor {floor}", name(read.read))
            }
            ReadOutcome::Dropped => format!("{id}: read {} dropped", name(read.read)),
        },
        Event::Applied(id, entries) => format!("{id}: applies {}", self::entries(entries)),
        Event::SnapshotWanted(id, wanted) => {
            format!(
                "{id}: {} needs a snapshot up to {} or later",
                wanted.to, wanted.at_least
            )
        }
        Event::Written(id, persist) => format!("{id}: {}", self::persist(persist)),
    }
}

pub fn notice(notice: &Notice) -> String {
    match notice {
        Notice::RoleChanged {
            from,
            to,
            term,
            why,
        } => {
            format!(
                "{} -> {} at term {term}: {}",
                role(*from),
                role(*to),
                reason(*why)
            )
        }
        Notice::LeaderChanged {
            leader: Some(leader),
            term,
        } => {
            format!("follows leader {leader} of term {term}")
        }
        Notice::LeaderChanged { leader: None, term } => format!("knows no leader of term {term}"),
        Notice::VoteRefused { candidate, why } => {
            format!("no vote for {candidate}: {}", refusal(why))
        }
        Notice::MembershipChanged {
            index,
            rolled_back: false,
        } => {
            format!("membership of entry {index} in force")
        }
        Notice::MembershipChanged {
            index,
            rolled_back: true,
        } => {
            format!("membership rolled back to that of entry {index}")
        }
        Notice::LogCut { from } => format!("log cut at {from}"),
        Notice::TransferAborted { to } => format!("transfer to {to} given up"),
        Notice::MessageIgnored { from, what } => format!("ignores {from}: {what}"),
        Notice::SnapshotInstalled { last } => format!("snapshot up to {last} installed"),
    }
}

fn role(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

fn reason(why: RoleChange) -> &'static str {
    match why {
        RoleChange::ElectionTimeout => "election timeout",
        RoleChange::CampaignRequested => "asked to campaign",
        RoleChange::Won => "a quorum agrees",
        RoleChange::Lost => "lost",
        RoleChange::HigherTerm => "newer term",
        RoleChange::QuorumLost => "quorum lost",
        RoleChange::Removed => "removed",
    }
}

fn refusal(why: &Refusal) -> String {
    match why {
        Refusal::LogBehind { ours, theirs } => format!("its log ends at {theirs}, ours at {ours}"),
        Refusal::AlreadyVoted(other) => format!("voted for {other}"),
        Refusal::LeaderAlive(leader) => format!("leader {leader} is alive"),
        Refusal::OldTerm => "old term".into(),
        Refusal::Repairing => "under repair".into(),
    }
}

pub fn kind(message: &Message) -> &'static str {
    match message {
        Message::PreVote { .. } => "pre-vote",
        Message::PreVoteResponse { .. } => "pre-vote-response",
        Message::Vote { .. } => "vote",
        Message::VoteResponse { .. } => "vote-response",
        Message::Append { .. } => "append",
        Message::AppendResponse { .. } => "append-response",
        Message::Heartbeat { .. } => "heartbeat",
        Message::HeartbeatResponse { .. } => "heartbeat-response",
        Message::ReadIndex { .. } => "read-index",
        Message::ReadIndexResponse { .. } => "read-index-response",
        Message::TimeoutNow => "timeout-now",
    }
}

pub fn envelope(envelope: &Envelope) -> String {
    let Envelope {
        from,
        to,
        term,
        message,
    } = envelope;
    let yes = |granted: &bool| if *granted { "yes" } else { "no" };
    let details = match message {
        Message::PreVote { last } => format!("log ends at {last}"),
        Message::Vote { last, transfer } => {
            format!(
                "log ends at {last}{}",
                if *transfer { ", by transfer" } else { "" }
            )
        }
        Message::PreVoteResponse { granted } | Message::VoteResponse { granted } => {
            yes(granted).into()
        }
        Message::Append {
            prev,
            entries,
            commit,
        } => {
            format!("after {prev}: {}, commit {commit}", self::entries(entries))
        }
        Message::AppendResponse {
            outcome: AppendOutcome::Matched { last },
        } => {
            format!("matched {last}")
        }
        Message::AppendResponse {
            outcome: AppendOutcome::Conflict { refused, hint },
        } => {
            format!("conflict at {refused}, try {hint}")
        }
        Message::AppendResponse {
            outcome:
                AppendOutcome::Repairing {
                    hint,
                    commit,
                    needs_snapshot,
                },
        } => {
            let wants = if *needs_snapshot {
                "a snapshot"
            } else {
                "entries"
            };
            format!("repairing, wants {wants} after {hint}, commit {commit}")
        }
        Message::Heartbeat { commit, round } => format!("round {round}, commit {commit}"),
        Message::HeartbeatResponse { round } => format!("round {round}"),
        Message::ReadIndex { read: _ } => "floor?".into(),
        Message::ReadIndexResponse {
            read: _,
            floor: Some(floor),
        } => format!("floor {floor}"),
        Message::ReadIndexResponse {
            read: _,
            floor: None,
        } => "no floor".into(),
        Message::TimeoutNow => "campaign".into(),
    };
    format!("{from} -> {to} {} at term {term}: {details}", kind(message))
}

pub fn entries(entries: &[Entry]) -> String {
    if entries.is_empty() {
        "nothing".into()
    } else {
        list(entries.iter().map(entry))
    }
}

fn entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Empty => format!("{}", entry.id),
        Payload::Command(command) => format!("{} {}", entry.id, String::from_utf8_lossy(command)),
        Payload::Membership {
            membership,
            context,
        } if context.is_empty() => {
            format!("{} ({})", entry.id, members(membership))
        }
        Payload::Membership {
            membership,
            context,
        } => {
            let context = String::from_utf8_lossy(context);
            format!("{} ({}; {context})", entry.id, members(membership))
        }
    }
}

pub fn members(membership: &Membership) -> String {
    let Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        leave_context: _,
    } = membership;
    let mut text = format!("voters {}", ids(voters));
    for (what, set) in [
        ("outgoing", outgoing),
        ("learners", learners),
        ("learners next", learners_next),
    ] {
        if !set.is_empty() {
            text += &format!(", {what} {}", ids(set));
        }
    }
    text
}

fn ids<'a>(ids: impl IntoIterator<Item = &'a MemberId>) -> String {
    ids.into_iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn list<T: Display>(items: impl Iterator<Item = T>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn persist(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = persist.hard_state {
        let vote = hard_state
            .vote
            .map_or("nobody".into(), |vote| vote.to_string());
        parts.push(format!("term {} vote {vote}", hard_state.term));
    }
    if !persist.entries.is_empty() {
        parts.push(entries(&persist.entries));
    }
    format!("write {}: {}", persist.id.0, parts.join("; "))
}

pub fn write(id: MemberId, write: &Write) -> String {
    let done = if write.reported {
        " (done, but not what is before it)"
    } else {
        ""
    };
    format!("{id}: {}{done}", persist(&write.persist))
}

pub fn status(status: &Status) -> String {
    let Status {
        id,
        role,
        term,
        leader,
        commit,
        applied,
        last,
        durable,
        first,
        ..
    } = status;
    let leader = leader.map_or("nobody".into(), |leader| leader.to_string());
    let mut text = format!(
        "{id}: {} term {term} leader {leader} log {first}..{last} durable {durable} commit {commit}",
        self::role(*role)
    );
    if applied != commit {
        text += &format!(" applied {applied}");
    }
    if let Some(to) = status.transferring_to {
        text += &format!(" transferring to {to}");
    }
    for peer in status.peers.iter().filter(|peer| peer.id != *id) {
        let snapshot = if peer.snapshotting { " snapshot" } else { "" };
        text += &format!(
            "\n  {} matched {} next {}{snapshot}",
            peer.id, peer.matched, peer.next
        );
    }
    text
}

/// The log in memory as a member has handed it out, with `|` behind what is durable and `!` behind
/// what is committed.
pub fn log(id: MemberId, member: &Member) -> String {
    let mut words = Vec::new();
    let base = &member.written.base;
    if base.last.index.0 > 0 {
        words.push(format!("[..{}]", base.last));
    }
    words.extend(member.written.entries.iter().map(entry));
    if words.is_empty() {
        words.push("empty".into());
    }
    format!("{id}: {}", words.join(", "))
}
