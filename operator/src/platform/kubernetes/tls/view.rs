//! What the Secrets hold and what members report, in the planner's words. Pure.
//!
//! Assumes Secrets and reports of the same pass. Must not know: clients.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::tls::{Certificate, files, provider};

use super::store::{GRACE, Kept, SINCE, Stock, TOKEN, annotation, digest, entry};
use super::{BUNDLE, KEY, LEAF, brought, cluster_names};
use crate::certificates::{
    Asked, Authority, AuthorityFacts, Facts, Holder, LeafFacts, MemberFacts, Use, UseView,
};
use crate::crd::{ClientAuth, TlsMode, TlsSpec};
use crate::ids::Slot;
use crate::observed::{NodeView, PortCertificate, Seen};
use crate::platform::kubernetes::names::Names;

/// How long applications are given in each phase of a change of their authority, s.
pub(super) const CLIENT_GRACE_S: i64 = 86_400;

/// What is around the Secrets.
pub(in super::super) struct Around<'a> {
    pub names: &'a Names,
    pub spec: &'a TlsSpec,
    /// What is asked for by hand.
    pub asked: Option<&'a Asked>,
    /// Slots in which a member lives or should live.
    pub slots: BTreeSet<Slot>,
    pub nodes: &'a BTreeMap<Slot, Seen<NodeView>>,
    pub now_s: i64,
}

/// Every use that is to be encrypted.
pub(in super::super) fn view(stock: &Stock, around: &Around) -> BTreeMap<Use, UseView> {
    let mut uses: BTreeMap<Use, UseView> = BTreeMap::new();
    for (of, kept) in &stock.managed {
        // The operator's own certificates reach peers only where nobody brings others.
        let ports: &[&str] = match of {
            Use::Peer if around.spec.peer.mode == TlsMode::OperatorManaged => &["peer", "admin"],
            Use::Peer => &["admin"],
            Use::Client => &["client"],
        };
        let facts = facts(kept, *of, ports, around);
        let seen = uses.entry(*of).or_default();
        seen.managed = Some(facts);
    }
    for (of, delivered) in &stock.brought {
        let members = reports(&[of.label()], (*of, ""), around);
        let scene = (around.names, around.spec);
        let brought = brought::check(delivered, *of, scene, around.now_s, members);
        uses.entry(*of).or_default().brought = Some(brought);
    }
    for (of, seen) in &mut uses {
        let nodes = around
            .nodes
            .iter()
            .filter_map(|(slot, node)| Some((slot, node.known()?)));
        for (slot, node) in nodes {
            seen.answered += 1;
            if !node.certificates.contains_key(of.label()) {
                seen.plaintext.push(around.names.pod(*slot));
            }
        }
    }
    uses
}

fn facts(kept: &Kept, of: Use, ports: &[&str], around: &Around) -> Facts {
    let secret = kept.leaf_secret.as_ref();
    let authority = kept.authority_secret.as_ref();
    let told = |authority: &Authority| AuthorityFacts {
        subject: authority.facts.subject.clone(),
        not_before_s: authority.facts.not_before_s,
        not_after_s: authority.facts.not_after_s,
    };
    let hash = |authority: &Option<Authority>| {
        let hash = authority
            .as_ref()
            .map(|authority| authority.bundle_hash.clone());
        hash.unwrap_or_default()
    };
    let mut bundle = entry(secret, BUNDLE).map(digest).unwrap_or_default();
    let mut leaf = leaf(kept, holder(of), around);
    if of == Use::Client {
        // What applications are given belongs to it: written first, and again until it fits.
        let credentials = kept.credentials_secret.as_ref();
        if entry(credentials, BUNDLE).map(digest).unwrap_or_default() != bundle {
            bundle = String::new();
        }
        let theirs = parse(credentials);
        leaf = leaf.map(|leaf| LeafFacts {
            names_fit: leaf.names_fit
                && theirs
                    .as_ref()
                    .is_some_and(|theirs| theirs.issuer == leaf.issuer),
            ..leaf
        });
    }
    let number = |key: &str| annotation(authority, key).and_then(|text| text.parse::<i64>().ok());
    let grace_s = match of {
        Use::Peer => 0,
        Use::Client => number(GRACE).unwrap_or(CLIENT_GRACE_S),
    };
    Facts {
        now_s: around.now_s,
        phase: kept.phase,
        current: kept.current.as_ref().map(told),
        next: kept.next.as_ref().map(told),
        hashes: [
            hash(&kept.current),
            digest(kept.bundle(true, true).as_bytes()),
            hash(&kept.next),
        ],
        leaf,
        members: reports(ports, (of, &bundle), around),
        bundle,
        request: around.asked.and_then(|asked| {
            asked.pending(annotation(secret, TOKEN), annotation(authority, TOKEN))
        }),
        held_until_s: number(SINCE).unwrap_or(0).saturating_add(grace_s),
    }
}

/// Who holds the leaf that members are given.
pub(super) const fn holder(of: Use) -> Holder {
    match of {
        Use::Peer => Holder::Member,
        Use::Client => Holder::ClientPort,
    }
}

/// The leaf in the Secret of the members; one that cannot be read, or whose key is not there, is
/// none.
fn leaf(kept: &Kept, holder: Holder, around: &Around) -> Option<LeafFacts> {
    let leaf = parse(kept.leaf_secret.as_ref())?;
    let named = |name: &String| {
        let address = name.parse().is_ok_and(|ip| leaf.ip_addresses.contains(&ip));
        address || leaf.dns_names.contains(name)
    };
    let wanted = cluster_names(around.names).alternatives(holder);
    Some(LeafFacts {
        names_fit: wanted.iter().all(named),
        serial: leaf.serial,
        issuer: leaf.issuer,
        not_before_s: leaf.not_before_s,
        not_after_s: leaf.not_after_s,
    })
}

/// What the leaf of a Secret says, if its key is its own.
fn parse(secret: Option<&k8s_openapi::api::core::v1::Secret>) -> Option<Certificate> {
    let chain = files::certificates(LEAF, entry(secret, LEAF)?).ok()?;
    let key = files::private_key(KEY, entry(secret, KEY)?).ok()?;
    let leaf = Certificate::parse(chain.first()?).ok()?;
    files::pair(&provider(), (LEAF, chain), (KEY, key)).ok()?;
    Some(leaf)
}

/// What members report of these ports. `bundle` stands in for what a port that asks nobody for
/// certificates cannot report.
fn reports(ports: &[&str], (of, bundle): (Use, &str), around: &Around) -> Vec<MemberFacts> {
    let blind = of == Use::Client && around.spec.client.client_auth == ClientAuth::None;
    let report = |slot: &Slot| {
        let node = around.nodes.get(slot)?.known()?;
        let seen: Vec<&PortCertificate> = ports
            .iter()
            .filter_map(|port| node.certificates.get(*port))
            .collect();
        // A port in the clear, and two that differ, report nothing that could be awaited.
        let one = |of: fn(&PortCertificate) -> &String| {
            let first = seen
                .first()
                .map(|port| of(port))
                .cloned()
                .unwrap_or_default();
            let same = seen.len() == ports.len() && seen.iter().all(|port| *of(port) == first);
            if same { first } else { String::new() }
        };
        let trusts = if blind {
            bundle.to_owned()
        } else {
            one(|port| &port.bundle)
        };
        Some((one(|port| &port.serial), trusts))
    };
    let members = around.slots.iter().map(|slot| MemberFacts {
        name: around.names.pod(*slot),
        report: report(slot),
    });
    members.collect()
}
