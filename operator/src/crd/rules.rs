//! The CEL rules of the resource and the merge keys of its lists, as tables.
//!
//! CEL is best effort for what depends on status; `validate` checks every rule again and the
//! planner is the guarantee. A rule with `oldSelf` must be true when nothing it reads has changed:
//! otherwise a mere status write could fail it and block the operator itself
//! (kubernetes/kubernetes#129503).

/// One rule of the API server's validation.
pub(super) struct CelRule {
    /// The schema node it stands at, by field names from the root; empty for the root.
    pub path: &'static [&'static str],
    /// The expression.
    pub rule: &'static str,
    /// What the user is told.
    pub message: &'static str,
}

const fn rule(path: &'static [&'static str], rule: &'static str, message: &'static str) -> CelRule {
    CelRule {
        path,
        rule,
        message,
    }
}

const DESTINATION: &str = "[has(self.s3), has(self.gcs), has(self.azure), has(self.persistentVolumeClaim)].filter(x, x).size() == 1";
const DESTINATION_MESSAGE: &str = "exactly one of s3, gcs, azure, persistentVolumeClaim";
const NOT_RESERVED: &str =
    "self.all(k, !k.startsWith('quorate.dev/') && !k.startsWith('app.kubernetes.io/'))";

/// Every rule, from the root down.
pub(super) const RULES: &[CelRule] = &[
    rule(
        &[],
        "size(self.metadata.name) <= 45",
        "name too long: pod revision labels would exceed 63",
    ),
    rule(
        &[],
        "self.spec.storage.size == oldSelf.spec.storage.size || quantity(self.spec.storage.size).compareTo(quantity(oldSelf.spec.storage.size)) >= 0 || (has(self.status) && has(self.status.storage) && has(self.status.storage.capacity) && quantity(self.spec.storage.size).compareTo(quantity(self.status.storage.capacity)) >= 0)",
        "volumes cannot shrink",
    ),
    rule(
        &[],
        "self.spec.replicas == oldSelf.spec.replicas || !(self.spec.hibernate || oldSelf.spec.hibernate)",
        "size is frozen while hibernating",
    ),
    rule(
        &[],
        "self.spec.replicas == oldSelf.spec.replicas || !has(self.status) || !has(self.status.operation) || !(self.status.operation.type in ['ScaleUp','ScaleDown']) || (self.status.operation.type == 'ScaleUp' ? self.spec.replicas >= self.status.operation.fromReplicas : self.spec.replicas <= self.status.operation.fromReplicas)",
        "a scale is in flight; only back to its start is allowed",
    ),
    rule(
        &[],
        "self.spec.version == oldSelf.spec.version || !has(self.status) || !has(self.status.version) || !has(self.status.version.feature) || (self.spec.version.split('.')[0] == self.status.version.feature.split('.')[0] && int(self.spec.version.split('.')[1]) - int(self.status.version.feature.split('.')[1]) in [0, 1])",
        "one minor at a time, from the feature version",
    ),
    rule(
        &["spec"],
        "has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)",
        "bootstrap is immutable",
    ),
    rule(
        &["spec"],
        "has(self.clusterDomain) == has(oldSelf.clusterDomain) && (!has(self.clusterDomain) || self.clusterDomain == oldSelf.clusterDomain)",
        "clusterDomain is immutable",
    ),
    rule(
        &["spec", "bootstrap"],
        "[has(self.new), has(self.restore), has(self.adopt)].filter(x, x).size() == 1",
        "exactly one of new, restore, adopt",
    ),
    rule(
        &["spec", "bootstrap", "restore", "source"],
        DESTINATION,
        DESTINATION_MESSAGE,
    ),
    rule(
        &["spec", "storage"],
        "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "storageClassName is immutable; replace members instead",
    ),
    rule(
        &["spec", "storage"],
        "has(self.accessMode) == has(oldSelf.accessMode) && (!has(self.accessMode) || self.accessMode == oldSelf.accessMode)",
        "accessMode is immutable; replace members instead",
    ),
    rule(
        &["spec", "storage", "size"],
        "isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0",
        "not a size of at least 64Mi",
    ),
    rule(
        &["spec", "tls", "peer"],
        "self.mode == oldSelf.mode || (self.mode != 'Disabled' && oldSelf.mode != 'Disabled')",
        "peer TLS cannot be switched on or off",
    ),
    rule(&["spec", "tls", "peer"], HAS_SECRET, HAS_SECRET_MESSAGE),
    rule(&["spec", "tls", "peer"], HAS_ISSUER, HAS_ISSUER_MESSAGE),
    rule(&["spec", "tls", "client"], HAS_SECRET, HAS_SECRET_MESSAGE),
    rule(&["spec", "tls", "client"], HAS_ISSUER, HAS_ISSUER_MESSAGE),
    rule(
        &["spec", "auth"],
        "!self.enabled || has(self.rootSecretName)",
        "rootSecretName is required when auth is enabled",
    ),
    rule(
        &["spec", "podMetadata", "labels"],
        NOT_RESERVED,
        "reserved prefix",
    ),
    rule(
        &["spec", "podMetadata", "annotations"],
        NOT_RESERVED,
        "reserved prefix",
    ),
    rule(
        &["spec", "config"],
        "!self.exists(k, k in ['admin-cert-allowed-cn','admin-cert-file','admin-key-file','admin-trusted-ca-file','admin-url','advertise-client-urls','cert-file','client-cert-auth','client-cert-optional','data-dir','epoch','initial-advertise-peer-urls','initial-cluster','initial-cluster-state','key-file','listen-admin','listen-client-urls','listen-metrics-urls','listen-peer-urls','name','peer-cert-allowed-cn','peer-cert-file','peer-key-file','peer-trusted-ca-file','settings-file','trusted-ca-file'])",
        "set by the operator",
    ),
    rule(
        &["spec", "config"],
        "!self.exists(k, k in ['auto-compaction-mode','auto-compaction-retention','quota-backend-bytes'])",
        "use spec.autoCompaction and spec.quotaBackendBytes",
    ),
    rule(
        &["spec", "backup"],
        "!has(self.schedule) || has(self.destination)",
        "a schedule needs a destination",
    ),
    rule(
        &["spec", "backup", "destination"],
        DESTINATION,
        DESTINATION_MESSAGE,
    ),
];

const HAS_SECRET: &str = "self.mode != 'Secret' || has(self.secretName)";
const HAS_SECRET_MESSAGE: &str = "missing reference: secretName";
const HAS_ISSUER: &str = "self.mode != 'CertManager' || has(self.issuerRef)";
const HAS_ISSUER_MESSAGE: &str = "missing reference: issuerRef";

/// Lists that server-side apply merges by a key.
pub(super) const LIST_MAPS: &[(&[&str], &str)] = &[
    (&["status", "members"], "ordinal"),
    (&["status", "conditions"], "type"),
];
