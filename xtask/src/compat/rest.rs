//! When a cluster is at rest: nothing that a script compares is still changing by itself.
//!
//! A cluster that has just started, lost a member or moved its leadership goes on settling for a
//! while: members learn of the leader and apply the last entries one after the other, and real etcd
//! raises its storage version from 3.5.0 only when a timer of five seconds finds that every member
//! could. None of that can be compared at a moment of chance, and masking it would hide what is to
//! be compared, so the player waits until it is over.
//!
//! Must not know: how members are asked.

use super::player::Member;
use crate::tools;
use serde_json::Value;
use std::collections::BTreeSet;

/// What `endpoint status -w json` says of one member.
struct Status<'a> {
    endpoint: &'a str,
    leader: u64,
    term: u64,
    applied: u64,
    storage_version: &'a str,
}

/// The first reason why a cluster is not at rest, in words; `None` when it is.
///
/// `statuses` is what etcdctl printed for the endpoints of [`asked`]; whoever did not answer is
/// missing in it. With too few members alive for a quorum, rest means that all of them know it.
pub fn disquiet(members: &[Member], dead: &BTreeSet<String>, statuses: &[Value]) -> Option<String> {
    let asked = asked(members, dead);
    let statuses: Vec<Status<'_>> = statuses.iter().map(status).collect();
    let Some(first) = statuses.first() else {
        return Some("no member answers".to_owned());
    };
    let missing = asked
        .iter()
        .find(|asked| statuses.iter().all(|status| status.endpoint != **asked));
    if let Some(missing) = missing {
        return Some(format!("{missing} does not answer"));
    }
    let wanted = storage_version();
    let behind = |status: &&Status<'_>| status.storage_version != wanted;
    if let Some(status) = statuses.iter().find(behind) {
        let (endpoint, version) = (status.endpoint, status.storage_version);
        return Some(format!(
            "{endpoint} has storage version {version:?} and not yet {wanted:?}"
        ));
    }
    let voters = members.iter().filter(|member| !member.learner);
    let alive = |member: &&Member| asked.contains(&member.endpoint.as_str());
    let has_quorum = voters.clone().filter(alive).count() > voters.count() / 2;
    if !has_quorum {
        let believer = statuses.iter().find(|status| status.leader != 0)?;
        let (endpoint, leader) = (believer.endpoint, believer.leader);
        return Some(format!(
            "{endpoint} still takes {leader:x} for the leader, without a quorum"
        ));
    }
    let other = |status: &&Status<'_>| {
        (status.leader, status.term, status.applied) != (first.leader, first.term, first.applied)
    };
    if first.leader == 0 {
        return Some(format!("{} knows no leader", first.endpoint));
    }
    let other = statuses.iter().find(other)?;
    Some(format!("{} and {}", position(first), position(other)))
}

/// The endpoints of those who can answer: started and not killed.
pub fn asked<'a>(members: &'a [Member], dead: &BTreeSet<String>) -> Vec<&'a str> {
    let started = members.iter().filter(|member| !member.name.is_empty());
    let endpoints = started.map(|member| member.endpoint.as_str());
    endpoints
        .filter(|endpoint| !dead.contains(*endpoint))
        .collect()
}

/// The version of the release without its patch level: what etcd raises its storage to.
fn storage_version() -> String {
    let minor = tools::ETCD_VERSION.rsplit_once('.');
    let minor = minor.map_or(tools::ETCD_VERSION, |(minor, _)| minor);
    format!("{minor}.0")
}

fn status(answer: &Value) -> Status<'_> {
    let number = |name: &str| answer["Status"][name].as_u64().unwrap_or(0);
    Status {
        endpoint: answer["Endpoint"].as_str().unwrap_or_default(),
        leader: number("leader"),
        term: number("raftTerm"),
        applied: number("raftAppliedIndex"),
        storage_version: answer["Status"]["storageVersion"]
            .as_str()
            .unwrap_or_default(),
    }
}

fn position(status: &Status<'_>) -> String {
    let Status {
        endpoint,
        leader,
        term,
        applied,
        storage_version: _,
    } = status;
    format!("{endpoint} has applied {applied} and follows {leader:x} in term {term}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(slot: u16) -> Member {
        Member {
            id: format!("{slot:x}"),
            name: format!("m{slot}"),
            peer_url: String::new(),
            endpoint: format!("h:{slot}"),
            leads: false,
            learner: false,
        }
    }

    fn answer(slot: u16, leader: u64, applied: u64, version: &str) -> Value {
        json!({"Endpoint": format!("h:{slot}"), "Status": {
            "leader": leader, "raftTerm": 2, "raftAppliedIndex": applied, "storageVersion": version,
        }})
    }

    /// The reason why three members are not at rest, given their answers.
    fn three(dead: &[u16], answers: &[Value]) -> Option<String> {
        let members: Vec<Member> = (0..3).map(member).collect();
        let dead = dead.iter().map(|slot| format!("h:{slot}")).collect();
        disquiet(&members, &dead, answers)
    }

    #[test]
    fn a_cluster_whose_members_agree_is_at_rest() {
        let all = [0, 1, 2].map(|slot| answer(slot, 1, 9, "3.7.0"));
        assert_eq!(three(&[], &all), None);
        assert_eq!(three(&[2], &all[..2]), None);
        assert_eq!(three(&[1, 2], &[answer(0, 0, 9, "3.7.0")]), None);
    }

    #[test]
    fn every_unfinished_change_is_named() {
        let good = |slot| answer(slot, 1, 9, "3.7.0");
        let reasons = [
            three(&[], &[good(0), good(1)]),
            three(&[], &[good(0), good(1), answer(2, 1, 9, "3.5.0")]),
            three(&[], &[good(0), good(1), answer(2, 0, 9, "3.7.0")]),
            three(&[], &[good(0), good(1), answer(2, 1, 8, "3.7.0")]),
            three(&[], &[0, 1, 2].map(|slot| answer(slot, 0, 9, "3.7.0"))),
            three(&[1, 2], &[good(0)]),
            three(&[], &[]),
        ]
        .map(Option::unwrap_or_default);
        assert_eq!(
            reasons,
            [
                "h:2 does not answer",
                "h:2 has storage version \"3.5.0\" and not yet \"3.7.0\"",
                "h:0 has applied 9 and follows 1 in term 2 and h:2 has applied 9 and follows 0 in term 2",
                "h:0 has applied 9 and follows 1 in term 2 and h:2 has applied 8 and follows 1 in term 2",
                "h:0 knows no leader",
                "h:0 still takes 1 for the leader, without a quorum",
                "no member answers",
            ]
        );
    }

    #[test]
    fn an_unstarted_member_counts_for_the_quorum_and_is_not_asked() {
        let mut members: Vec<Member> = (0..4).map(member).collect();
        members[3].name.clear();
        let dead = BTreeSet::from(["h:2".to_owned()]);
        assert_eq!(asked(&members, &dead), ["h:0", "h:1"]);
        let answers = [0, 1].map(|slot| answer(slot, 0, 9, "3.7.0"));
        assert_eq!(disquiet(&members, &dead, &answers), None);
    }
}
