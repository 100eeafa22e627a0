//! Who may talk to the members, and how: TLS, users, Service, NetworkPolicy.
//!
//! Must not know: how certificates are made or rotated.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption of peer and client traffic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSpec {
    /// Between members. It cannot be switched on or off later.
    pub peer: PeerTls,
    /// Between clients and members.
    pub client: ClientTls,
}

/// TLS between members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerTls {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// The cert-manager issuer, for `CertManager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// The Secret with certificate and key, for `Secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// The Secret with the CA, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ca_secret_name: Option<String>,
    /// Life of a certificate.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub duration: String,
}

impl Default for PeerTls {
    fn default() -> PeerTls {
        PeerTls {
            mode: TlsMode::OperatorManaged,
            issuer_ref: None,
            secret_name: None,
            ca_secret_name: None,
            duration: "2160h".to_owned(),
        }
    }
}

/// TLS between clients and members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// Where certificates come from.
    pub mode: TlsMode,
    /// The cert-manager issuer, for `CertManager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// The Secret with certificate and key, for `Secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
    /// The Secret with the CA, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ca_secret_name: Option<String>,
    /// Life of a certificate.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub duration: String,
    /// Whether a client must show a certificate.
    pub client_auth: ClientAuth,
}

impl Default for ClientTls {
    fn default() -> ClientTls {
        ClientTls {
            mode: TlsMode::OperatorManaged,
            issuer_ref: None,
            secret_name: None,
            ca_secret_name: None,
            duration: "2160h".to_owned(),
            client_auth: ClientAuth::Required,
        }
    }
}

/// Where certificates come from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// The operator keeps a CA and issues them.
    OperatorManaged,
    /// cert-manager issues them.
    CertManager,
    /// A Secret holds them.
    Secret,
    /// No TLS.
    Disabled,
}

/// Whether a client must show a certificate.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// It must.
    Required,
    /// It may.
    Optional,
    /// It is not asked.
    None,
}

/// A cert-manager issuer.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer` or `ClusterIssuer`.
    #[serde(default = "default_issuer_kind")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its API group.
    #[serde(default = "default_issuer_group")]
    #[schemars(length(max = 253))]
    pub group: String,
}

fn default_issuer_kind() -> String {
    "Issuer".to_owned()
}

fn default_issuer_group() -> String {
    "cert-manager.io".to_owned()
}

/// Users and roles.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthSpec {
    /// Requests must be authenticated.
    pub enabled: bool,
    /// The Secret with the password of `root`. It is used once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub root_secret_name: Option<String>,
}

/// The client Service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: ServiceType,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer, for `LoadBalancer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub load_balancer_class: Option<String>,
    /// `Cluster` or `Local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub external_traffic_policy: Option<String>,
}

/// The type of the client Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Reachable inside.
    #[default]
    ClusterIP,
    /// On a port of every machine.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// Who may reach the members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// A NetworkPolicy is kept.
    pub enabled: bool,
    /// Sources allowed on the client port. Empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub client_from: Vec<NetworkPolicyPeer>,
    /// Sources allowed to read metrics. Empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub metrics_from: Vec<NetworkPolicyPeer>,
}

impl Default for NetworkPolicySpec {
    fn default() -> NetworkPolicySpec {
        NetworkPolicySpec {
            enabled: true,
            client_from: Vec::new(),
            metrics_from: Vec::new(),
        }
    }
}
