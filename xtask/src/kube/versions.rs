//! What the bench is built from: versions and main packages, one row per program.
//!
//! Raising a version is a change of this file alone; the next `cargo xtask kube build` follows.

/// The Kubernetes release of control plane, kubelet, kube-proxy and kubectl.
pub const KUBERNETES: &str = "1.34.4";
/// The Helm release that installs the chart.
pub const HELM: &str = "4.3.1";
/// The DNS server of the cluster.
pub const COREDNS: &str = "1.12.4";
/// Our own placeholder container; raise it when its text changes.
pub const PAUSE: &str = "1";

/// A program of the bench.
#[derive(Debug)]
pub struct Program {
    /// File name in the cache.
    pub name: &'static str,
    /// Its release, without `v`.
    pub version: &'static str,
    /// How its main package comes about.
    pub source: Source,
}

/// Where a program's main package comes from.
#[derive(Debug)]
pub enum Source {
    /// A command of `k8s.io/kubernetes`, by the Go expression that makes it. The module replaces
    /// its own parts by local folders, so that it cannot be installed by name.
    Kubernetes {
        /// Import path of the package that has the constructor.
        package: &'static str,
        /// The constructor call, with the package called `app`.
        constructor: &'static str,
    },
    /// A main package of a module, both by name.
    Published {
        /// The module.
        module: &'static str,
        /// Import path of the main package.
        package: &'static str,
    },
    /// Go text of our own; of one module or, without a name, of the standard library alone.
    Ours {
        /// The module; empty for none.
        module: &'static str,
        /// The text of `main.go`.
        text: &'static str,
    },
}

const fn kubernetes(
    name: &'static str,
    package: &'static str,
    constructor: &'static str,
) -> Program {
    Program {
        name,
        version: KUBERNETES,
        source: Source::Kubernetes {
            package,
            constructor,
        },
    }
}

/// Every program but etcd, which `tools` builds; in the order in which they are wanted first.
pub const PROGRAMS: &[Program] = &[
    kubernetes(
        "kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-apiserver/app",
        "app.NewAPIServerCommand()",
    ),
    kubernetes(
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager/app",
        "app.NewControllerManagerCommand()",
    ),
    kubernetes(
        "kube-scheduler",
        "k8s.io/kubernetes/cmd/kube-scheduler/app",
        "app.NewSchedulerCommand()",
    ),
    kubernetes(
        "kubelet",
        "k8s.io/kubernetes/cmd/kubelet/app",
        "app.NewKubeletCommand(context.Background())",
    ),
    kubernetes(
        "kube-proxy",
        "k8s.io/kubernetes/cmd/kube-proxy/app",
        "app.NewProxyCommand()",
    ),
    kubernetes(
        "kubectl",
        "k8s.io/kubectl/pkg/cmd",
        "app.NewDefaultKubectlCommand()",
    ),
    Program {
        name: "coredns",
        version: COREDNS,
        source: Source::Ours {
            module: "github.com/coredns/coredns",
            text: include_str!("assets/coredns.go"),
        },
    },
    Program {
        name: "helm",
        version: HELM,
        source: Source::Published {
            module: "helm.sh/helm/v4",
            package: "helm.sh/helm/v4/cmd/helm",
        },
    },
    Program {
        name: "pause",
        version: PAUSE,
        source: Source::Ours {
            module: "",
            text: include_str!("assets/pause.go"),
        },
    },
];
