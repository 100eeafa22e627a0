//! Certificates in the pod: volumes, mounts and the node's flags for them. Pure.
//!
//! Whole Secrets are mounted, never single files of them (`subPath`): those would never change. A
//! Secret that is not there keeps the pod from starting, and a node whose flags name files starts
//! no port without them.

use k8s_openapi::api::core::v1::{
    KeyToPath, ProjectedVolumeSource, SecretProjection, SecretVolumeSource, Volume, VolumeMount,
    VolumeProjection,
};

use super::super::tls::{BUNDLE, KEY, LEAF, brought_names, cluster_names, leaf_name};
use super::Inputs;
use crate::certificates::{Holder, Use};
use crate::crd::{ClientAuth, TlsMode};

/// Where the files of all ports are.
const FOLDER: &str = "/etc/quorate/tls";
/// Readable by the process's group alone.
const FILE_MODE: i32 = 0o440;

/// The ports that have files, with the Secrets they come from.
fn ports(inputs: &Inputs) -> Vec<(&'static str, Use, TlsMode)> {
    let tls = &inputs.spec.tls;
    let mut ports = Vec::new();
    if tls.peer.mode != TlsMode::Disabled {
        // The operator's port never depends on what somebody brings.
        ports.push(("admin", Use::Peer, TlsMode::OperatorManaged));
        ports.push(("peer", Use::Peer, tls.peer.mode));
    }
    if tls.client.mode != TlsMode::Disabled {
        ports.push(("client", Use::Client, tls.client.mode));
    }
    ports
}

/// One volume for each port.
pub(super) fn volumes(inputs: &Inputs) -> Vec<Volume> {
    let volume = |(port, of, mode): (&str, Use, TlsMode)| {
        let name = format!("tls-{port}");
        let (secret, ca) = match mode {
            TlsMode::OperatorManaged | TlsMode::Disabled => (leaf_name(inputs.names, of), None),
            TlsMode::Secret | TlsMode::CertManager => {
                brought_names(inputs.names, &inputs.spec.tls, of)
            }
        };
        let Some(ca) = ca else {
            let source = SecretVolumeSource {
                secret_name: Some(secret),
                default_mode: Some(FILE_MODE),
                ..SecretVolumeSource::default()
            };
            return Volume {
                name,
                secret: Some(source),
                ..Volume::default()
            };
        };
        let source = ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(vec![
                projection(secret, &[LEAF, KEY]),
                projection(ca, &[BUNDLE]),
            ]),
        };
        Volume {
            name,
            projected: Some(source),
            ..Volume::default()
        }
    };
    ports(inputs).into_iter().map(volume).collect()
}

fn projection(secret: String, keys: &[&str]) -> VolumeProjection {
    let item = |key: &&str| KeyToPath {
        key: (*key).to_owned(),
        path: (*key).to_owned(),
        mode: None,
    };
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret,
            items: Some(keys.iter().map(item).collect()),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}

/// Where they are mounted.
pub(super) fn mounts(inputs: &Inputs) -> Vec<VolumeMount> {
    let mount = |(port, _, _): (&str, Use, TlsMode)| VolumeMount {
        name: format!("tls-{port}"),
        mount_path: format!("{FOLDER}/{port}"),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    ports(inputs).into_iter().map(mount).collect()
}

/// The flags that name the files, and who may call.
pub(super) fn arguments(inputs: &Inputs) -> Vec<String> {
    let names = cluster_names(inputs.names);
    let mut flags = Vec::new();
    for (port, _, from) in ports(inputs) {
        let prefix = match port {
            "client" => String::new(),
            port => format!("{port}-"),
        };
        flags.push(format!("--{prefix}cert-file={FOLDER}/{port}/{LEAF}"));
        flags.push(format!("--{prefix}key-file={FOLDER}/{port}/{KEY}"));
        let auth = inputs.spec.tls.client.client_auth;
        if port != "client" || auth != ClientAuth::None {
            flags.push(format!(
                "--{prefix}trusted-ca-file={FOLDER}/{port}/{BUNDLE}"
            ));
        }
        match (port, auth) {
            ("admin", _) => {
                let caller = names.common_name(Holder::Operator);
                flags.push(format!("--admin-cert-allowed-cn={caller}"));
            }
            // Whom another authority has certified is its own affair.
            ("peer", _) if from == TlsMode::OperatorManaged => {
                let member = names.common_name(Holder::Member);
                flags.push(format!("--peer-cert-allowed-cn={member}"));
            }
            ("client", ClientAuth::Required) => flags.push("--client-cert-auth".to_owned()),
            ("client", ClientAuth::Optional) => flags.push("--client-cert-optional".to_owned()),
            _ => {}
        }
    }
    flags
}
