//! One case per CEL rule of the CRD: an object, or a change of one, that the rule lets pass, and
//! one that it refuses. `cel` runs them and fails when a rule has no case.
//!
//! All texts are JSON merge patches over the smallest valid object.

/// What a rule is about.
pub struct Case {
    /// Schema node at which the rule stands, by field names; empty for the root.
    pub at: &'static str,
    /// The rule's message.
    pub message: &'static str,
    /// The object that exists before, for rules about changes; none for rules about new objects.
    pub before: Option<Before>,
    /// Passes.
    pub accepted: &'static str,
    /// Does not.
    pub refused: &'static str,
}

/// An object that exists.
pub struct Before {
    /// Patch over the smallest object.
    pub object: &'static str,
    /// Patch of its status, written as the operator writes it.
    pub status: &'static str,
}

const fn new(
    at: &'static str,
    message: &'static str,
    accepted: &'static str,
    refused: &'static str,
) -> Case {
    Case {
        at,
        message,
        before: None,
        accepted,
        refused,
    }
}

const fn change(
    at: &'static str,
    message: &'static str,
    before: Before,
    accepted: &'static str,
    refused: &'static str,
) -> Case {
    Case {
        at,
        message,
        before: Some(before),
        accepted,
        refused,
    }
}

const fn spec(object: &'static str) -> Before {
    Before { object, status: "" }
}

const DESTINATION: &str = "exactly one of s3, gcs, azure, persistentVolumeClaim";
const SECRET: &str = "missing reference: secretName";
const ISSUER: &str = "missing reference: issuerRef";

/// From the root down, in the order of `operator/src/crd/rules.rs`.
pub const CASES: &[Case] = &[
    new(
        "",
        "name too long",
        r#"{"metadata":{"name":"a23456789-a23456789-a23456789-a23456789-a2345"}}"#,
        r#"{"metadata":{"name":"a23456789-a23456789-a23456789-a23456789-a23456"}}"#,
    ),
    change(
        "",
        "volumes cannot shrink",
        spec(r#"{"spec":{"storage":{"size":"2Gi"}}}"#),
        r#"{"spec":{"storage":{"size":"3Gi"}}}"#,
        r#"{"spec":{"storage":{"size":"1Gi"}}}"#,
    ),
    change(
        "",
        "size is frozen while hibernating",
        spec(r#"{"spec":{"replicas":3,"hibernate":true}}"#),
        r#"{"spec":{"hibernate":false}}"#,
        r#"{"spec":{"replicas":5}}"#,
    ),
    change(
        "",
        "a scale is in flight",
        Before {
            object: r#"{"spec":{"replicas":5}}"#,
            status: r#"{"status":{"operation":{"type":"ScaleUp","fromReplicas":3,"toReplicas":5}}}"#,
        },
        r#"{"spec":{"replicas":3}}"#,
        r#"{"spec":{"replicas":1}}"#,
    ),
    change(
        "",
        "one minor at a time",
        Before {
            object: r#"{"spec":{"version":"1.2.3"}}"#,
            status: r#"{"status":{"version":{"feature":"1.2"}}}"#,
        },
        r#"{"spec":{"version":"1.3.0"}}"#,
        r#"{"spec":{"version":"1.4.0"}}"#,
    ),
    change(
        "spec",
        "bootstrap is immutable",
        spec(r#"{"spec":{"bootstrap":{"new":{}}}}"#),
        r#"{"spec":{"replicas":5}}"#,
        r#"{"spec":{"bootstrap":null}}"#,
    ),
    change(
        "spec",
        "clusterDomain is immutable",
        spec(r#"{"spec":{"clusterDomain":"cluster.local"}}"#),
        r#"{"spec":{"replicas":5}}"#,
        r#"{"spec":{"clusterDomain":"other.local"}}"#,
    ),
    new(
        "spec.bootstrap",
        "exactly one of new, restore, adopt",
        r#"{"spec":{"bootstrap":{"adopt":{"clusterUUID":"01234567-89ab-cdef-0123-456789abcdef"}}}}"#,
        r#"{"spec":{"bootstrap":{"new":{},"adopt":{"clusterUUID":"01234567-89ab-cdef-0123-456789abcdef"}}}}"#,
    ),
    new(
        "spec.bootstrap.restore.source",
        DESTINATION,
        r#"{"spec":{"bootstrap":{"restore":{"source":{"s3":{"bucket":"b"}}}}}}"#,
        r#"{"spec":{"bootstrap":{"restore":{"source":{"s3":{"bucket":"b"},"gcs":{"bucket":"b"}}}}}}"#,
    ),
    change(
        "spec.storage",
        "storageClassName is immutable",
        spec(r#"{"spec":{"storage":{"storageClassName":"standard"}}}"#),
        r#"{"spec":{"storage":{"size":"20Gi"}}}"#,
        r#"{"spec":{"storage":{"storageClassName":"other"}}}"#,
    ),
    change(
        "spec.storage",
        "accessMode is immutable",
        spec(r#"{"spec":{"storage":{"accessMode":"ReadWriteOnce"}}}"#),
        r#"{"spec":{"storage":{"size":"20Gi"}}}"#,
        r#"{"spec":{"storage":{"accessMode":"ReadWriteOncePod"}}}"#,
    ),
    new(
        "spec.storage.size",
        "not a size of at least 64Mi",
        r#"{"spec":{"storage":{"size":"64Mi"}}}"#,
        r#"{"spec":{"storage":{"size":"63Mi"}}}"#,
    ),
    change(
        "spec.tls.peer",
        "peer TLS cannot be switched on or off",
        spec(r#"{"spec":{"tls":{"peer":{"mode":"OperatorManaged"}}}}"#),
        r#"{"spec":{"tls":{"peer":{"mode":"Secret","secretName":"s"}}}}"#,
        r#"{"spec":{"tls":{"peer":{"mode":"Disabled"}}}}"#,
    ),
    new(
        "spec.tls.peer",
        SECRET,
        r#"{"spec":{"tls":{"peer":{"mode":"Secret","secretName":"s"}}}}"#,
        r#"{"spec":{"tls":{"peer":{"mode":"Secret"}}}}"#,
    ),
    new(
        "spec.tls.peer",
        ISSUER,
        r#"{"spec":{"tls":{"peer":{"mode":"CertManager","issuerRef":{"name":"i"}}}}}"#,
        r#"{"spec":{"tls":{"peer":{"mode":"CertManager"}}}}"#,
    ),
    new(
        "spec.tls.client",
        SECRET,
        r#"{"spec":{"tls":{"client":{"mode":"Secret","secretName":"s"}}}}"#,
        r#"{"spec":{"tls":{"client":{"mode":"Secret"}}}}"#,
    ),
    new(
        "spec.tls.client",
        ISSUER,
        r#"{"spec":{"tls":{"client":{"mode":"CertManager","issuerRef":{"name":"i"}}}}}"#,
        r#"{"spec":{"tls":{"client":{"mode":"CertManager"}}}}"#,
    ),
    new(
        "spec.auth",
        "rootSecretName is required when auth is enabled",
        r#"{"spec":{"auth":{"enabled":true,"rootSecretName":"root"}}}"#,
        r#"{"spec":{"auth":{"enabled":true}}}"#,
    ),
    new(
        "spec.podMetadata.labels",
        "reserved prefix",
        r#"{"spec":{"podMetadata":{"labels":{"team":"a"}}}}"#,
        r#"{"spec":{"podMetadata":{"labels":{"app.kubernetes.io/name":"a"}}}}"#,
    ),
    new(
        "spec.podMetadata.annotations",
        "reserved prefix",
        r#"{"spec":{"podMetadata":{"annotations":{"team":"a"}}}}"#,
        r#"{"spec":{"podMetadata":{"annotations":{"quorate.dev/x":"a"}}}}"#,
    ),
    new(
        "spec.config",
        "set by the operator",
        r#"{"spec":{"config":{"heartbeat-interval":"200"}}}"#,
        r#"{"spec":{"config":{"data-dir":"/tmp"}}}"#,
    ),
    new(
        "spec.config",
        "use spec.autoCompaction and spec.quotaBackendBytes",
        r#"{"spec":{"autoCompaction":{"mode":"Revision","retention":"1000"}}}"#,
        r#"{"spec":{"config":{"auto-compaction-retention":"1h"}}}"#,
    ),
    new(
        "spec.backup",
        "a schedule needs a destination",
        r#"{"spec":{"backup":{"schedule":"0 * * * *","destination":{"s3":{"bucket":"b"}}}}}"#,
        r#"{"spec":{"backup":{"schedule":"0 * * * *"}}}"#,
    ),
    new(
        "spec.backup.destination",
        DESTINATION,
        r#"{"spec":{"backup":{"destination":{"persistentVolumeClaim":{"claimName":"c"}}}}}"#,
        r#"{"spec":{"backup":{"destination":{"path":"p"}}}}"#,
    ),
];
