//! Certificates on Kubernetes: the Secrets that hold them, and the operator's own connection.
//!
//! | Secret | Holds | Who reads it |
//! |---|---|---|
//! | `<name>-peer-ca`, `<name>-client-ca` | the authority with its key, the next one, the phase | the operator |
//! | `<name>-peer-tls`, `<name>-client-tls` | bundle, leaf and key | members, as files |
//! | `<name>-client-credentials` | the same for applications | applications |
//!
//! `store.rs` reads and understands them, `brought.rs` checks those that somebody else keeps,
//! `view.rs` puts both into the planner's words, `effect.rs` carries out one step, `caller.rs` is
//! the operator as a caller of the admin service. When what changes is decided in
//! `crate::certificates`. The admin port always has certificates that the operator keeps: a leaf
//! that somebody brings for peers opens it to nobody.

mod brought;
mod caller;
mod effect;
mod store;
mod view;

pub(super) use caller::Caller;
pub(super) use store::Stock;
pub(super) use view::{Around, view};

use crate::certificates::{ClusterNames, Use};
use crate::crd::{KvCluster, TlsMode, TlsSpec};
use crate::record::Record;

use super::names::Names;

/// Key of a Secret: certificates to trust.
pub(super) const BUNDLE: &str = "ca.crt";
/// Key of a Secret: the leaf, with what lies between it and its authority.
pub(super) const LEAF: &str = "tls.crt";
/// Key of a Secret: the private key of the leaf.
pub(super) const KEY: &str = "tls.key";

/// Where certificates of one use come from.
pub(super) fn mode(spec: &TlsSpec, of: Use) -> TlsMode {
    match of {
        Use::Peer => spec.peer.mode,
        Use::Client => spec.client.mode,
    }
}

/// The Secret with an authority that the operator keeps.
pub(super) fn authority_name(names: &Names, of: Use) -> String {
    format!("{}-{}-ca", names.cluster, of.label())
}

/// The Secret with the leaf that the operator keeps.
pub(super) fn leaf_name(names: &Names, of: Use) -> String {
    format!("{}-{}-tls", names.cluster, of.label())
}

/// The Secret with what applications need.
pub(super) fn credentials_name(names: &Names) -> String {
    format!("{}-client-credentials", names.cluster)
}

/// The Secrets that somebody else keeps: of the leaf, and of the authority where that is another.
pub(super) fn brought_names(names: &Names, spec: &TlsSpec, of: Use) -> (String, Option<String>) {
    let (secret, ca) = match of {
        Use::Peer => (&spec.peer.secret_name, &spec.peer.ca_secret_name),
        Use::Client => (&spec.client.secret_name, &spec.client.ca_secret_name),
    };
    let default = || format!("{}-{}-certificate", names.cluster, of.label());
    (secret.clone().unwrap_or_else(default), ca.clone())
}

/// The names of a cluster as its certificates have them.
pub(super) fn cluster_names(names: &Names) -> ClusterNames {
    ClusterNames {
        cluster: names.cluster.clone(),
        namespace: names.namespace.clone(),
        domain: names.domain.clone(),
        peer_service: names.peers(),
        client_services: vec![names.client()],
    }
}

/// Whether members encrypt what they say to each other and to us. Once the cluster exists, its spec
/// cannot change that: then the status has the answer.
pub(super) fn peers_are_secure(object: &KvCluster, record: &Record) -> bool {
    if record.is_bootstrapped() {
        let status = object.status.as_ref();
        let seen = status.and_then(|status| status.certificates.as_ref());
        return seen.is_some_and(|seen| seen.peer.is_some());
    }
    object.spec.tls.peer.mode != TlsMode::Disabled
}
