//! The template of the members' pods.
//!
//! It passes the restricted Pod Security profile unless the spec overrides it. It depends on
//! nothing that differs between members or changes with their number: no list of members is in it
//! (H6), and growing the cluster restarts nobody.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapEnvSource, Container, ContainerPort, EnvFromSource, EnvVar,
    EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler, LocalObjectReference,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, SeccompProfile, SecurityContext, SleepAction, TopologySpreadConstraint,
    Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::names::{LABEL_EPOCH, PORT_ADMIN, PORT_CLIENT, PORT_METRICS, PORT_PEER};
use super::{Inputs, config, settings, tls};
use crate::crd::{ANNOTATION_RESTARTED_AT, ImageSpec, KvClusterSpec, PullPolicy, TlsMode};
use crate::planted::Bug;

/// The user and group of the process and of its files.
const USER: i64 = 65_532;
/// Where the volume is mounted; the node's directory is in it, because the root of a volume may
/// hold what is not ours (`lost+found`).
const MOUNT: &str = "/var/lib/quorate";
/// Seconds between the pod leaving the Services and the node being told to stop.
const LEAVE_S: i64 = 2;

/// The template.
pub(super) fn template(inputs: &Inputs) -> PodTemplateSpec {
    let (names, spec) = (inputs.names, inputs.spec);
    let mut labels = spec.pod_metadata.labels.clone();
    labels.extend(names.labels());
    labels.insert(LABEL_EPOCH.to_owned(), inputs.epoch.to_string());
    let mut annotations = spec.pod_metadata.annotations.clone();
    if let Some(at) = inputs.restarted_at {
        annotations.insert(ANNOTATION_RESTARTED_AT.to_owned(), at.to_owned());
    }
    let scheduling = &spec.scheduling;
    let account = spec.service_account_name.as_ref();
    let secrets = spec.image.pull_secrets.iter();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(account.unwrap_or(&names.cluster).clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod_security(spec.pod_security_context.clone())),
            termination_grace_period_seconds: Some(spec.termination_grace_period_seconds),
            containers: vec![container(inputs)],
            volumes: Some(volumes(inputs)),
            image_pull_secrets: Some(
                secrets
                    .map(|secret| LocalObjectReference {
                        name: secret.name.clone(),
                    })
                    .collect(),
            ),
            node_selector: Some(scheduling.node_selector.clone()),
            tolerations: Some(scheduling.tolerations.clone()),
            affinity: Some(scheduling.affinity.clone().unwrap_or_else(|| apart(inputs))),
            topology_spread_constraints: Some(spread(inputs)),
            priority_class_name: scheduling.priority_class_name.clone(),
            scheduler_name: scheduling.scheduler_name.clone(),
            ..PodSpec::default()
        }),
    }
}

/// The image by digest, or else by tag. It is never taken apart (H58).
fn image(image: &ImageSpec, version: &str) -> String {
    if Bug::ImageTakenApart.lives()
        && let Some((name, _)) = image.repository.split_once(':')
    {
        return format!("{name}:{version}");
    }
    match (&image.digest, &image.tag) {
        (Some(digest), _) => format!("{}@{digest}", image.repository),
        (None, Some(tag)) => format!("{}:{tag}", image.repository),
        (None, None) => format!("{}:{version}", image.repository),
    }
}

fn volumes(inputs: &Inputs) -> Vec<Volume> {
    let mut volumes = tls::volumes(inputs);
    volumes.push(settings::volume(inputs));
    let extra = inputs.spec.extra_volumes.iter();
    volumes.extend(extra.map(|extra| extra.volume.clone()));
    volumes
}

fn variables(spec: &KvClusterSpec) -> Vec<EnvVar> {
    let mut env = vec![EnvVar {
        name: "POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    }];
    env.extend(spec.env.iter().cloned());
    env
}

fn mounts(inputs: &Inputs) -> Vec<VolumeMount> {
    let mut mounts = vec![VolumeMount {
        name: "data".to_owned(),
        mount_path: MOUNT.to_owned(),
        ..VolumeMount::default()
    }];
    mounts.extend(tls::mounts(inputs));
    mounts.push(settings::mount());
    mounts.extend(inputs.spec.extra_volumes.iter().map(|extra| VolumeMount {
        name: extra.volume.name.clone(),
        mount_path: extra.mount_path.clone(),
        read_only: Some(extra.read_only),
        ..VolumeMount::default()
    }));
    mounts
}

fn container(inputs: &Inputs) -> Container {
    let spec = inputs.spec;
    let pull = match spec.image.pull_policy {
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Always => "Always",
        PullPolicy::Never => "Never",
    };
    let alive = if Bug::LivenessNeedsQuorum.lives() {
        "/readyz"
    } else {
        "/livez"
    };
    Container {
        name: "quorate".to_owned(),
        image: Some(image(&spec.image, &spec.version)),
        image_pull_policy: Some(pull.to_owned()),
        // What it said last stands in the pod's status, and so in the condition: without logs.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        args: Some(arguments(inputs)),
        env: Some(variables(spec)),
        env_from: Some(vec![EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource {
                name: config::name(inputs),
                optional: None,
            }),
            ..EnvFromSource::default()
        }]),
        ports: Some(vec![
            port("client", PORT_CLIENT),
            port("peer", PORT_PEER),
            port("admin", PORT_ADMIN),
            port("metrics", PORT_METRICS),
        ]),
        resources: Some(spec.resources.clone()),
        volume_mounts: Some(mounts(inputs)),
        security_context: Some(container_security(spec.container_security_context.clone())),
        // The port opens when the log has been replayed, which may take a while.
        startup_probe: Some(probe("/livez", 1, 5, 900)),
        // The process only: a lost quorum is no reason to restart a member (H40).
        liveness_probe: Some(probe(alive, 10, 5, 6)),
        // A linearizable read.
        readiness_probe: Some(probe("/readyz", 2, 3, 2)),
        // Clients are led elsewhere first; then the node hands leadership over on SIGTERM. The
        // membership is never touched by a pod that stops (H31).
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: LEAVE_S }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    }
}

fn arguments(inputs: &Inputs) -> Vec<String> {
    let domain = inputs.names.peer_domain();
    let me = format!("$(POD_NAME).{domain}");
    if Bug::MembersInTemplate.lives() {
        return vec![format!("--initial-members={}", inputs.voters)];
    }
    let scheme = |mode: TlsMode| match mode {
        TlsMode::Disabled => "http",
        TlsMode::OperatorManaged | TlsMode::Secret | TlsMode::CertManager => "https",
    };
    let tls = &inputs.spec.tls;
    let (client, peer) = (scheme(tls.client.mode), scheme(tls.peer.mode));
    let mut arguments = vec![
        "node".to_owned(),
        // It waits for Bootstrap or Join: no node forms a cluster by itself (H1, H2).
        "--managed".to_owned(),
        // Data of an earlier epoch stays out by itself.
        format!("--epoch={}", inputs.epoch),
        format!("--data-dir={MOUNT}/data"),
        "--name=$(POD_NAME)".to_owned(),
        format!("--listen-client-urls={client}://0.0.0.0:{PORT_CLIENT}"),
        format!("--advertise-client-urls={client}://{me}:{PORT_CLIENT}"),
        format!("--listen-peer-urls={peer}://0.0.0.0:{PORT_PEER}"),
        format!("--initial-advertise-peer-urls={peer}://{me}:{PORT_PEER}"),
        format!("--listen-admin=0.0.0.0:{PORT_ADMIN}"),
        // A kubelet has no certificate: probes and metrics have a port that knows no keys.
        format!("--listen-metrics-urls=http://0.0.0.0:{PORT_METRICS}"),
        "--log-format=json".to_owned(),
        settings::argument(),
    ];
    arguments.extend(tls::arguments(inputs));
    arguments
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_s: i32, timeout_s: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_s),
        timeout_seconds: Some(timeout_s),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The restricted profile, with the spec's fields over it.
fn pod_security(overrides: Option<PodSecurityContext>) -> PodSecurityContext {
    let mut context = PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    };
    if let Some(overrides) = overrides {
        context.merge_from(overrides);
    }
    context
}

fn container_security(overrides: Option<SecurityContext>) -> SecurityContext {
    let mut context = SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    };
    if let Some(overrides) = overrides {
        context.merge_from(overrides);
    }
    context
}

fn members(inputs: &Inputs) -> LabelSelector {
    let labels: BTreeMap<String, String> = inputs.names.selector();
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// Not two members on one machine, where that is possible.
fn apart(inputs: &Inputs) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(members(inputs)),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Over zones, where that is possible; constraints of the spec without a selector get ours.
fn spread(inputs: &Inputs) -> Vec<TopologySpreadConstraint> {
    let wanted = &inputs.spec.scheduling.topology_spread_constraints;
    if wanted.is_empty() {
        return vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "topology.kubernetes.io/zone".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(members(inputs)),
            ..TopologySpreadConstraint::default()
        }];
    }
    let with_selector = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: constraint
            .label_selector
            .clone()
            .or_else(|| Some(members(inputs))),
        ..constraint.clone()
    };
    wanted.iter().map(with_selector).collect()
}
