//! Certificates of cert-manager: one object for each use that the spec leaves to it.
//!
//! cert-manager writes the Secret, members mount it, and the operator checks what is in it. Where
//! its API does not exist, applying fails with a message that says so, and nothing starts.

use kube::core::ApiResource;
use serde_json::json;

use super::super::tls::{brought_names, cluster_names, mode};
use super::{Inputs, Object, RENDERED, annotate, digest, prune};
use crate::certificates::{Holder, Use};
use crate::crd::{IssuerRef, TlsMode};

/// The API group of cert-manager.
pub const GROUP: &str = "cert-manager.io";

/// The objects that are wanted.
pub(super) fn render(inputs: &Inputs) -> Vec<Object> {
    let tls = &inputs.spec.tls;
    let uses = [
        (Use::Peer, &tls.peer.issuer_ref, &tls.peer.duration),
        (Use::Client, &tls.client.issuer_ref, &tls.client.duration),
    ];
    let wanted = uses.into_iter().filter_map(|(of, issuer, duration)| {
        let issuer = issuer
            .as_ref()
            .filter(|_| mode(tls, of) == TlsMode::CertManager)?;
        Some(certificate(inputs, of, issuer, duration))
    });
    wanted.collect()
}

fn certificate(inputs: &Inputs, of: Use, issuer: &IssuerRef, duration: &str) -> Object {
    let names = inputs.names;
    let name = format!("{}-{}", names.cluster, of.label());
    let (secret, _) = brought_names(names, &inputs.spec.tls, of);
    let (holder, usages) = match of {
        Use::Peer => (
            Holder::Member,
            &["digital signature", "server auth", "client auth"][..],
        ),
        Use::Client => (
            Holder::ClientPort,
            &["digital signature", "server auth"][..],
        ),
    };
    let holders = cluster_names(names);
    let (addresses, dns): (Vec<String>, Vec<String>) = holders
        .alternatives(holder)
        .into_iter()
        .partition(|name| name.parse::<std::net::IpAddr>().is_ok());
    let mut body = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {
            "name": name,
            "namespace": names.namespace,
            "labels": names.labels(),
            "ownerReferences": [names.owner()],
        },
        "spec": {
            "secretName": secret,
            "duration": duration,
            "commonName": of.label(),
            "dnsNames": dns,
            "ipAddresses": addresses,
            "usages": usages,
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"name": issuer.name, "kind": issuer.kind, "group": issuer.group},
        },
    });
    prune(&mut body);
    let digest = digest(&body);
    annotate(&mut body, RENDERED, &digest);
    Object {
        id: format!("certificate/{name}"),
        resource: ApiResource {
            group: GROUP.to_owned(),
            version: "v1".to_owned(),
            api_version: "cert-manager.io/v1".to_owned(),
            kind: "Certificate".to_owned(),
            plural: "certificates".to_owned(),
        },
        name,
        body: Some(body),
        digest,
    }
}
