//! The resource becomes `Desired`, or a list of errors that each name the field and the remedy.
//!
//! PURE. Checks again everything that the API server's schema and CEL rules check, because a
//! manifest on the local platform has met neither, and because CEL is best effort for what depends
//! on status. A change that must wait for an operation is no error, since an error would keep that
//! operation from ever ending: it becomes a warning, and the planner does the right thing.

mod flags;

use crate::certificates::Asked;
use crate::crd::{
    ANNOTATION_RECOVER_QUORUM, ANNOTATION_ROTATE_CERTIFICATES, BootstrapSpec, Destination,
    KvCluster, KvClusterSpec, NAME_LENGTH_MAX, PeerTls, REPLICAS_MAX, RESERVED_PREFIXES,
    RepairAction, RetentionPolicy, STORAGE_BYTES_MIN, TlsMode, UpdateStrategy,
};
use crate::desired::{Bootstrap, Desired, Repair, RepairPolicy, VolumePolicy};
use crate::ids::ClusterUuid;
use crate::quantity::{bytes, duration_ms};
use crate::record::{OperationKind, Record};
use crate::requests;
use crate::settings;
use std::collections::BTreeMap;

/// Asks the members' program what it thinks of settings, flag name to value, without starting it:
/// warnings, or why it would not start. It comes from outside: the operator knows no flags.
pub type SettingsCheck = fn(&BTreeMap<String, String>) -> Result<Vec<String>, String>;

/// One thing that is wrong with the resource.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct FieldError {
    /// The field, `spec.storage.size`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Everything that is wrong with the resource.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<FieldError>);

/// Errors and warnings as they are found.
#[derive(Default)]
struct Findings {
    errors: Vec<FieldError>,
    warnings: Vec<String>,
}

impl Findings {
    fn refuse(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(FieldError {
            path: path.into(),
            problem: problem.into(),
        });
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// Checks a resource against itself and against what is on record, and says what it asks for.
///
/// # Errors
/// [`Invalid`] lists every field that is wrong.
pub fn validate(
    resource: &KvCluster,
    record: &Record,
    settings: SettingsCheck,
) -> Result<Desired, Invalid> {
    let mut found = Findings::default();
    let spec = &resource.spec;
    let name = resource.metadata.name.clone().unwrap_or_default();
    check_name(&name, &mut found);
    let replicas = replicas(spec, record, &mut found);
    check_version(resource, &mut found);
    let bootstrap = bootstrap(spec.bootstrap.as_ref(), record, &mut found);
    let storage_bytes = storage(resource, &mut found);
    check_texts(spec, &mut found);
    flags::check_env(spec, &mut found);
    flags::check(spec, settings, &mut found);
    check_security(spec, &mut found);
    check_certificates(resource, record, &mut found);
    check_backup(spec, &mut found);
    let repair = repair(spec, &mut found);
    let annotations = resource.metadata.annotations.clone().unwrap_or_default();
    let (once, ignored) = requests::once(&annotations);
    for warning in ignored {
        found.warn(warning);
    }
    if !found.errors.is_empty() {
        return Err(Invalid(found.errors));
    }
    Ok(Desired {
        name,
        replicas,
        version: spec.version.clone(),
        bootstrap,
        storage_bytes,
        when_deleted: policy(spec.storage.when_deleted),
        when_scaled: policy(spec.storage.when_scaled),
        repair,
        paused: spec.paused,
        hibernate: spec.hibernate,
        manual_update: spec.update.strategy == UpdateStrategy::Manual,
        min_ready_ms: i64::from(spec.update.min_ready_seconds).saturating_mul(1_000),
        progress_deadline_ms: duration_ms(&spec.update.progress_deadline).unwrap_or(0),
        once,
        recover_request: annotations
            .get(ANNOTATION_RECOVER_QUORUM)
            .map(|text| requests::recover(text)),
        min_outage_ms: duration_ms(&spec.recovery.min_outage).unwrap_or(0),
        settings: settings::file_digest(spec),
        tls_peer: spec.tls.peer.mode != TlsMode::Disabled,
        tls_client: spec.tls.client.mode != TlsMode::Disabled,
        backup: spec.backup.schedule.is_some() && !spec.backup.suspend,
        warnings: found.warnings,
    })
}

/// The least life of a certificate: members take minutes to read a new one.
const CERTIFICATE_LIFE_MS_MIN: i64 = 10 * 60 * 1000;

fn check_certificates(resource: &KvCluster, record: &Record, found: &mut Findings) {
    let spec = &resource.spec.tls;
    let lives = [
        ("peer", &spec.peer.duration),
        ("client", &spec.client.duration),
    ];
    for (of, text) in lives {
        if duration_ms(text).is_some_and(|ms| (1..CERTIFICATE_LIFE_MS_MIN).contains(&ms)) {
            let problem = format!("`{text}` is too short; members need 10m to take a new one");
            found.refuse(format!("spec.tls.{of}.duration"), problem);
        }
    }
    // Half of the members would not understand the other half.
    let status = resource.status.as_ref();
    let seen = status.and_then(|status| status.certificates.as_ref());
    let wanted = spec.peer.mode != TlsMode::Disabled;
    let switched = seen.is_some_and(|seen| seen.peer.is_some() != wanted);
    if record.is_bootstrapped() && switched {
        let problem = "cannot be switched on or off once the cluster exists; set it back, or make a \
                       new cluster and copy the data";
        found.refuse("spec.tls.peer.mode", problem);
    }
    let annotations = resource.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(ANNOTATION_ROTATE_CERTIFICATES));
    if let Some(Err(why)) = asked.map(|text| Asked::parse(text)) {
        found.warn(format!(
            "metadata.annotations.{ANNOTATION_ROTATE_CERTIFICATES}: {why}"
        ));
    }
}

/// What a resource asks for that is being deleted and is not valid: what becomes of its volumes,
/// and nothing else that could be wrong.
#[must_use]
pub fn to_delete(resource: &KvCluster) -> Option<Desired> {
    let defaults: KvClusterSpec = serde_json::from_str("{}").ok()?;
    let mut plain = KvCluster::new(resource.metadata.name.as_deref()?, defaults);
    plain.spec.storage.when_deleted = resource.spec.storage.when_deleted;
    validate(&plain, &Record::default(), |_| Ok(Vec::new())).ok()
}

fn check_name(name: &str, found: &mut Findings) {
    let path = "metadata.name";
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() {
        found.refuse(path, "is missing; give the cluster a name");
    } else if name.len() > NAME_LENGTH_MAX {
        let length = name.len();
        found.refuse(
            path,
            format!("has {length} characters; {NAME_LENGTH_MAX} are allowed"),
        );
    } else if !name.bytes().all(inner) || name.starts_with('-') || name.ends_with('-') {
        found.refuse(
            path,
            format!(
                "`{name}` is no DNS label; use lower-case letters, digits and `-` between them"
            ),
        );
    }
}

fn replicas(spec: &KvClusterSpec, record: &Record, found: &mut Findings) -> u32 {
    let path = "spec.replicas";
    let wanted = u32::try_from(spec.replicas).unwrap_or(0);
    if !(1..=REPLICAS_MAX).contains(&wanted) {
        found.refuse(
            path,
            format!("{} is out of range; use 1 to {REPLICAS_MAX}", spec.replicas),
        );
        return wanted;
    }
    if wanted.is_multiple_of(2) {
        found.warn(format!(
            "{path}: {wanted} members tolerate no more failures than {}",
            wanted - 1
        ));
    }
    match record.operation.as_ref().map(|operation| &operation.kind) {
        Some(OperationKind::ScaleUp(up)) if wanted < up.from => {
            found.warn(format!(
                "{path}: {wanted} waits until the growth from {} has been undone",
                up.from
            ));
        }
        Some(OperationKind::ScaleDown(down)) if wanted > down.from => {
            found.warn(format!(
                "{path}: {wanted} waits until the shrinking from {} has ended",
                down.from
            ));
        }
        Some(OperationKind::Hibernate(hibernate)) if wanted != hibernate.size => {
            let size = hibernate.size;
            found.warn(format!(
                "{path}: {wanted} waits until the cluster is awake; it has {size}"
            ));
        }
        _ => {}
    }
    wanted
}

/// `major.minor.patch` of a version, without what follows a `-`.
fn semver(text: &str) -> Option<(u32, u32, u32)> {
    let (core, suffix) = text
        .split_once('-')
        .map_or((text, None), |(core, rest)| (core, Some(rest)));
    if suffix.is_some_and(str::is_empty) {
        return None;
    }
    let mut parts = core.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten()
    });
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

fn check_version(resource: &KvCluster, found: &mut Findings) {
    let path = "spec.version";
    let text = &resource.spec.version;
    let Some((major, minor, _)) = semver(text) else {
        found.refuse(
            path,
            format!("`{text}` is no version; write it as in `0.1.0`"),
        );
        return;
    };
    let status = resource
        .status
        .as_ref()
        .and_then(|status| status.version.as_ref());
    let Some(feature) = status.and_then(|version| version.feature.as_ref()) else {
        return;
    };
    // The feature version has two or three parts.
    let Some((from_major, from_minor, _)) =
        semver(feature).or_else(|| semver(&format!("{feature}.0")))
    else {
        return;
    };
    if major != from_major || minor < from_minor || minor > from_minor.saturating_add(1) {
        let next = from_minor.saturating_add(1);
        found.refuse(
            path,
            format!(
                "{text} is more than one minor from feature version {from_major}.{from_minor}; use \
                 {from_major}.{from_minor}.x or {from_major}.{next}.x"
            ),
        );
    }
}

fn bootstrap(spec: Option<&BootstrapSpec>, record: &Record, found: &mut Findings) -> Bootstrap {
    let path = "spec.bootstrap";
    let Some(spec) = spec else {
        return Bootstrap::New;
    };
    match spec {
        BootstrapSpec {
            new: Some(_),
            restore: None,
            adopt: None,
        } => Bootstrap::New,
        BootstrapSpec {
            new: None,
            restore: Some(restore),
            adopt: None,
        } => {
            check_destination("spec.bootstrap.restore.source", &restore.source, found);
            if !record.is_bootstrapped() {
                found.refuse(
                    "spec.bootstrap.restore",
                    "this version cannot restore; create the cluster new and load the data into it",
                );
            }
            Bootstrap::New
        }
        BootstrapSpec {
            new: None,
            restore: None,
            adopt: Some(adopt),
        } => {
            let path = "spec.bootstrap.adopt.clusterUUID";
            match adopt.cluster_uuid.parse::<ClusterUuid>() {
                Ok(uuid) if record.cluster_uuid.is_none_or(|ours| ours == uuid) => {
                    Bootstrap::Adopt(uuid)
                }
                Ok(uuid) => {
                    found.refuse(
                        path,
                        format!("bootstrap is immutable; {uuid} is not this cluster"),
                    );
                    Bootstrap::New
                }
                Err(error) => {
                    found.refuse(path, error.to_string());
                    Bootstrap::New
                }
            }
        }
        _ => {
            found.refuse(path, "exactly one of new, restore, adopt is wanted");
            Bootstrap::New
        }
    }
}

fn storage(resource: &KvCluster, found: &mut Findings) -> u64 {
    let path = "spec.storage.size";
    let text = &resource.spec.storage.size;
    let Some(size) = bytes(text) else {
        found.refuse(path, format!("`{text}` is no size; write it as in `8Gi`"));
        return 0;
    };
    if size < STORAGE_BYTES_MIN {
        found.refuse(
            path,
            format!("{text} is too small; at least 64Mi are needed"),
        );
    }
    if resource.spec.storage.when_deleted == RetentionPolicy::Delete {
        found.warn("spec.storage.whenDeleted: Delete removes all data together with the object");
    }
    size
}

fn policy(spec: RetentionPolicy) -> VolumePolicy {
    match spec {
        RetentionPolicy::Retain => VolumePolicy::Retain,
        RetentionPolicy::Delete => VolumePolicy::Delete,
    }
}

/// Maps and lists whose keys are partly the operator's.
fn check_texts(spec: &KvClusterSpec, found: &mut Findings) {
    for key in spec.config.keys() {
        if let Some(why) = flags::not_in_config(key) {
            found.refuse(format!("spec.config.{key}"), why);
        }
    }
    for (field, map) in [
        ("labels", &spec.pod_metadata.labels),
        ("annotations", &spec.pod_metadata.annotations),
    ] {
        for key in map.keys() {
            if RESERVED_PREFIXES
                .iter()
                .any(|prefix| key.starts_with(prefix))
            {
                let path = format!("spec.podMetadata.{field}.{key}");
                found.refuse(path, "has a reserved prefix; use one of your own");
            }
        }
    }
    for (index, variable) in spec.env.iter().enumerate() {
        if variable.name.starts_with("QUORATE_") {
            let path = format!("spec.env[{index}].name");
            found.refuse(
                path,
                format!("`{}` is set by the operator; leave it out", variable.name),
            );
        }
    }
    if !(10..=600).contains(&spec.termination_grace_period_seconds) {
        let seconds = spec.termination_grace_period_seconds;
        let path = "spec.terminationGracePeriodSeconds";
        found.refuse(path, format!("{seconds} is out of range; use 10 to 600"));
    }
    if spec.quota_backend_bytes.is_some_and(|quota| quota < 0) {
        found.refuse(
            "spec.quotaBackendBytes",
            "is negative; leave it out for 2 GiB",
        );
    }
}

fn check_security(spec: &KvClusterSpec, found: &mut Findings) {
    let PeerTls {
        mode,
        issuer_ref,
        secret_name,
        ..
    } = &spec.tls.peer;
    let client = &spec.tls.client;
    let sides = [
        ("peer", *mode, issuer_ref.is_some(), secret_name.is_some()),
        (
            "client",
            client.mode,
            client.issuer_ref.is_some(),
            client.secret_name.is_some(),
        ),
    ];
    for (side, mode, has_issuer, has_secret) in sides {
        let path = format!("spec.tls.{side}");
        match mode {
            TlsMode::Secret if !has_secret => {
                found.refuse(path + ".secretName", "is needed with mode Secret");
            }
            TlsMode::CertManager if !has_issuer => {
                found.refuse(path + ".issuerRef", "is needed with mode CertManager");
            }
            TlsMode::Disabled => found.warn(format!("{path}.mode: traffic is not encrypted")),
            _ => {}
        }
    }
    if spec.auth.enabled && spec.auth.root_secret_name.is_none() {
        found.refuse("spec.auth.rootSecretName", "is needed when auth is enabled");
    }
}

fn check_backup(spec: &KvClusterSpec, found: &mut Findings) {
    if let Some(destination) = &spec.backup.destination {
        check_destination("spec.backup.destination", destination, found);
    }
    let Some(schedule) = &spec.backup.schedule else {
        return;
    };
    if spec.backup.destination.is_none() {
        found.refuse("spec.backup.destination", "is needed with a schedule");
    }
    if schedule.split_whitespace().count() != 5 {
        let problem =
            format!("`{schedule}` is no schedule; write five cron fields, as in `0 3 * * *`");
        found.refuse("spec.backup.schedule", problem);
    }
}

fn check_destination(path: &str, destination: &Destination, found: &mut Findings) {
    let kinds = [
        destination.s3.is_some(),
        destination.gcs.is_some(),
        destination.azure.is_some(),
        destination.persistent_volume_claim.is_some(),
    ];
    if kinds.into_iter().filter(|kind| *kind).count() != 1 {
        found.refuse(
            path,
            "exactly one of s3, gcs, azure, persistentVolumeClaim is wanted",
        );
    }
}

fn repair(spec: &KvClusterSpec, found: &mut Findings) -> Repair {
    let action = |action: RepairAction| match action {
        RepairAction::Replace => RepairPolicy::Replace,
        RepairAction::Report => RepairPolicy::Report,
    };
    let durations = [
        (
            "spec.repair.learnerDeadline",
            Some(&spec.repair.learner_deadline),
        ),
        ("spec.recovery.minOutage", Some(&spec.recovery.min_outage)),
        (
            "spec.update.progressDeadline",
            Some(&spec.update.progress_deadline),
        ),
        ("spec.tls.peer.duration", Some(&spec.tls.peer.duration)),
        ("spec.tls.client.duration", Some(&spec.tls.client.duration)),
        (
            "spec.monitoring.podMonitor.interval",
            Some(&spec.monitoring.pod_monitor.interval),
        ),
        (
            "spec.backup.retention.maxAge",
            spec.backup.retention.max_age.as_ref(),
        ),
    ];
    for (path, text) in durations {
        if let Some(text) = text
            && duration_ms(text).is_none_or(|ms| ms == 0)
        {
            found.refuse(
                path,
                format!("`{text}` is no duration; write it as in `15m` or `1h30m`"),
            );
        }
    }
    let threshold = spec.repair.crash_loop_threshold;
    if !(2..=100).contains(&threshold) {
        let path = "spec.repair.crashLoopThreshold";
        found.refuse(path, format!("{threshold} is out of range; use 2 to 100"));
    }
    Repair {
        lost_volume: action(spec.repair.lost_volume),
        corrupt_member: action(spec.repair.corrupt_member),
        node_gone: action(spec.repair.node_gone),
        crash_loop: action(spec.repair.crash_loop),
        crash_loop_threshold: u32::try_from(threshold).unwrap_or(u32::MAX),
        learner_deadline_ms: duration_ms(&spec.repair.learner_deadline).unwrap_or(0),
    }
}
