//! How an empty directory becomes a member's, in an order that a crash may cut anywhere.
//!
//! A new cluster begins with one entry, the same bytes on every initial member: term 1, index 1,
//! the first membership, with names and addresses as its command. It is committed by construction.
//! A member that joins begins with an empty log. The identity is written last: until then the
//! directory is unjoined, and what was written before is cleared by the next attempt.
//! Must not know: who asked, sockets.

use super::ids;
use crate::config::InitialMember;
use crate::env::Disk;
use crate::kv::{ClusterInfo, Command, Member, MemberOp, Op, RequestId};
use crate::storage::{self, DataDir, PeersSeen, Recovered, Wal, WalOptions};
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, MemberId, Membership, Payload, Persist, PersistId, Term,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Where the log lives in the data directory.
pub(super) const WAL_DIR: &str = "wal";
/// Where the revision log lives in the data directory.
pub(super) const HISTORY_DIR: &str = "history";

/// The epoch of a cluster whose quorum was never lost.
pub(super) const FIRST_EPOCH: u64 = 1;

/// Why an empty directory did not become a member's.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The data directory refused or failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Left-overs of an interrupted attempt could not be removed.
    #[error("cannot clear {path}: {source}")]
    Clear {
        /// What was to be removed.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The static list does not contain this member.
    #[error(
        "--initial-cluster has no member named {name:?} with the peer URLs {peer_urls:?}; \
         add this member to the list, with its advertised peer URLs"
    )]
    NotListed {
        /// Our name.
        name: String,
        /// Our advertised peer URLs.
        peer_urls: Vec<String>,
    },
    /// Two members of the static list have the same name or the same URL.
    #[error("--initial-cluster names {what:?} twice; every member needs its own")]
    ListedTwice {
        /// The name or URL.
        what: String,
    },
}

/// The identity that a new member is to have.
#[derive(Clone, Debug)]
pub(super) struct NewMember {
    pub(super) cluster: ClusterInfo,
    pub(super) member_id: u64,
    /// Which life of the cluster, from 1.
    pub(super) epoch: u64,
    /// The first entry of a new cluster; `None` to join a running one.
    pub(super) first_entry: Option<Entry>,
}

/// The only member of a new cluster.
pub(super) fn bootstrap(
    cluster_uuid: [u8; 16],
    epoch: u64,
    member_id: u64,
    peer_urls: &[String],
) -> NewMember {
    let cluster = ClusterInfo {
        uuid: cluster_uuid,
        id: ids::cluster_id(&[member_id]),
    };
    let member = Member {
        id: member_id,
        peer_urls: peer_urls.to_vec(),
        ..Member::default()
    };
    let first_entry = Some(first_entry(cluster, vec![member]));
    NewMember {
        cluster,
        member_id,
        epoch: epoch.max(FIRST_EPOCH),
        first_entry,
    }
}

/// A member of a new cluster that is described by a list, as etcd's static start does it.
pub(super) fn from_static_list(
    name: &str,
    our_peer_urls: &[String],
    list: &[InitialMember],
    token: &str,
) -> Result<NewMember, GenesisError> {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for InitialMember { name, peer_url } in list {
        if seen.insert(peer_url, name).is_some() {
            return Err(GenesisError::ListedTwice {
                what: peer_url.clone(),
            });
        }
        by_name.entry(name).or_default().push(peer_url.clone());
    }
    let mut members = Vec::new();
    for (name, mut peer_urls) in by_name {
        peer_urls.sort();
        let id = ids::initial_member_id(&peer_urls, token);
        let name = name.to_owned();
        members.push(Member {
            id,
            name,
            peer_urls,
            ..Member::default()
        });
    }
    members.sort_by_key(|member| member.id);
    let mut ours = our_peer_urls.to_vec();
    ours.sort();
    let us = members
        .iter()
        .find(|member| member.name == name && member.peer_urls == ours);
    let Some(member_id) = us.map(|member| member.id) else {
        let peer_urls = our_peer_urls.to_vec();
        return Err(GenesisError::NotListed {
            name: name.to_owned(),
            peer_urls,
        });
    };
    // Only a member that has started has a name: each publishes its own.
    for member in &mut members {
        member.name.clear();
    }
    let member_ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let id = ids::cluster_id(&member_ids);
    let unnamed = first_entry(ClusterInfo { uuid: [0; 16], id }, members.clone());
    let uuid = match &unnamed.payload {
        Payload::Membership { context, .. } => ids::static_cluster_uuid(context, token),
        Payload::Empty | Payload::Command(_) => [0; 16],
    };
    let cluster = ClusterInfo { uuid, id };
    let first_entry = Some(first_entry(cluster, members));
    Ok(NewMember {
        cluster,
        member_id,
        epoch: FIRST_EPOCH,
        first_entry,
    })
}

fn first_entry(cluster: ClusterInfo, members: Vec<Member>) -> Entry {
    let voters = members.iter().map(|member| MemberId(member.id));
    let membership = Arc::new(Membership::of_voters(voters));
    let op = Op::Member(MemberOp::Bootstrap { cluster, members });
    let context = Command {
        request: RequestId::default(),
        op,
    }
    .encode();
    let id = EntryId {
        term: Term(1),
        index: LogIndex(1),
    };
    Entry {
        id,
        payload: Payload::Membership {
            membership,
            context,
        },
    }
}

/// Makes the directory that member's; durable on return. The log stays open: it is opened once in
/// each start of the directory.
pub(super) fn found(
    disk: &Arc<dyn Disk>,
    dir: &mut DataDir,
    new: &NewMember,
) -> Result<(Wal, Recovered), GenesisError> {
    clear(&**disk, WAL_DIR)?;
    clear(&**disk, HISTORY_DIR)?;
    let options = WalOptions::new(dir.directory_id(), dir.incarnation());
    let (mut wal, mut recovered) = Wal::open(Arc::clone(disk), WAL_DIR, options)?;
    if let Some(entry) = &new.first_entry {
        let hard_state = HardState {
            term: entry.id.term,
            vote: None,
        };
        let entries = vec![entry.clone()];
        let id = PersistId(0);
        wal.append(&[Persist {
            id,
            hard_state: Some(hard_state),
            entries: entries.clone(),
        }])?;
        wal.sync()?;
        recovered.hard_state = hard_state;
        recovered.entries = entries;
    }
    // A member without its list is refused: it may have forgotten whom it must not trust.
    PeersSeen::create(&**disk, dir.directory_id())?;
    dir.become_member(
        new.cluster.uuid,
        new.cluster.id,
        MemberId(new.member_id),
        new.epoch,
    )?;
    Ok((wal, recovered))
}

/// Removes a directory with its files, whatever an interrupted attempt has left in it.
fn clear(disk: &dyn Disk, dir: &str) -> Result<(), GenesisError> {
    let clear_error = |path: &str| {
        let path = disk.display(path);
        move |source| GenesisError::Clear { path, source }
    };
    if !disk.exists(dir).map_err(clear_error(dir))? {
        return Ok(());
    }
    for name in disk.list(dir).map_err(clear_error(dir))? {
        let path = format!("{dir}/{name}");
        disk.remove(&path).map_err(clear_error(&path))?;
    }
    disk.remove_dir(dir).map_err(clear_error(dir))?;
    disk.sync_dir("").map_err(clear_error(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<InitialMember> {
        [
            ("a", "http://h1:1"),
            ("b", "http://h2:1"),
            ("c", "http://h3:1"),
        ]
        .map(|(name, url)| InitialMember {
            name: name.to_owned(),
            peer_url: url.to_owned(),
        })
        .into()
    }

    fn of(name: &str, url: &str, list: &[InitialMember], token: &str) -> NewMember {
        from_static_list(name, &[url.to_owned()], list, token).unwrap()
    }

    #[test]
    fn every_initial_member_derives_the_same_first_entry_in_any_order_of_the_list() {
        let mut reversed = list();
        reversed.reverse();
        let a = of("a", "http://h1:1", &list(), "t");
        let b = of("b", "http://h2:1", &reversed, "t");
        assert_eq!(a.first_entry, b.first_entry);
        assert_eq!(a.cluster, b.cluster);
        assert_ne!(a.member_id, b.member_id);
    }

    #[test]
    fn another_token_or_list_is_another_cluster() {
        let a = of("a", "http://h1:1", &list(), "t");
        assert_ne!(
            a.cluster.uuid,
            of("a", "http://h1:1", &list(), "u").cluster.uuid
        );
        assert_ne!(
            a.cluster.uuid,
            of("a", "http://h1:1", &list()[..1], "t").cluster.uuid
        );
    }

    #[test]
    fn a_list_without_us_or_with_a_url_twice_is_refused_with_the_input_named() {
        let urls = ["http://h9:1".to_owned()];
        let error = from_static_list("a", &urls, &list(), "t")
            .unwrap_err()
            .to_string();
        assert!(error.contains("h9") && error.contains("\"a\""), "{error}");
        let mut twice = list();
        twice.push(InitialMember {
            name: "d".to_owned(),
            peer_url: "http://h1:1".to_owned(),
        });
        let urls = ["http://h1:1".to_owned()];
        let error = from_static_list("a", &urls, &twice, "t")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("http://h1:1") && error.contains("twice"),
            "{error}"
        );
    }
}
