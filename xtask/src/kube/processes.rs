//! The processes of the run, inside its namespaces: their command lines, starting, restarting.

use super::network::{NODE_ADDRESS, POD_RANGE, SERVICE_RANGE};
use super::run::{Options, Run};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Loopback port on which the API is served without TLS and credentials, inside the namespace only.
pub const PLAIN_API_PORT: u16 = 8001;
/// Name of the only node.
pub const NODE_NAME: &str = "node-1";

/// Command line of a process.
struct Spec {
    name: &'static str,
    program: PathBuf,
    args: Vec<String>,
}

/// Running processes; each is started again when it ends.
pub struct Processes {
    run: Run,
    running: Vec<(Spec, Child)>,
}

impl Processes {
    /// None yet.
    pub fn new(run: &Run) -> Self {
        Self {
            run: run.clone(),
            running: Vec::new(),
        }
    }

    /// Starts what the API needs: its store, itself, and the container runtime beside it.
    pub fn start_api(&mut self, options: &Options) -> Result<()> {
        if options.etcd_servers.is_empty() {
            self.start(etcd(&self.run, options))?;
        }
        self.start(api_server(&self.run, options))?;
        self.start(containerd(&self.run))
    }

    /// Starts all others; the API answers by now.
    pub fn start_rest(&mut self, options: &Options) -> Result<()> {
        for make in [
            controller_manager,
            scheduler,
            kubelet,
            kube_proxy,
            coredns,
            plain_api,
        ] {
            self.start(make(&self.run, options))?;
        }
        Ok(())
    }

    /// Fails when one of them has ended: while the run comes up, none may.
    pub fn all_run(&mut self) -> Result<()> {
        for (spec, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}", spec.name);
            }
        }
        Ok(())
    }

    /// Starts again whatever has ended, and says so on standard error.
    pub fn restart_ended(&mut self) -> Result<()> {
        for (spec, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                eprintln!("{} ended with {status}: starting it again", spec.name);
                *child = spawn(&self.run, spec)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, spec: Spec) -> Result<()> {
        let child = spawn(&self.run, &spec)?;
        self.running.push((spec, child));
        Ok(())
    }
}

fn spawn(run: &Run, spec: &Spec) -> Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(run.log(spec.name))?;
    Command::new(&spec.program)
        .args(&spec.args)
        .env("HOME", run.path())
        .env("TMPDIR", run.join("tmp"))
        .current_dir(run.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", spec.program.display()))
}

fn spec(name: &'static str, program: PathBuf, args: &[String]) -> Spec {
    Spec {
        name,
        program,
        args: args.to_vec(),
    }
}

fn etcd(run: &Run, options: &Options) -> Spec {
    let args = [
        format!("--data-dir={}/etcd", run.shown()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    spec("etcd", options.bin.join("etcd"), &args)
}

fn api_server(run: &Run, options: &Options) -> Spec {
    let store = if options.etcd_servers.is_empty() {
        "http://127.0.0.1:2379"
    } else {
        &options.etcd_servers
    };
    let folder = run.shown();
    let args = [
        format!("--etcd-servers={store}"),
        format!("--advertise-address={NODE_ADDRESS}"),
        "--bind-address=0.0.0.0".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--cert-dir={folder}/certs"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        format!("--service-account-key-file={folder}/certs/service-accounts.key"),
        format!("--service-account-signing-key-file={folder}/certs/service-accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--token-auth-file={folder}/certs/tokens.csv"),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        // Otherwise logs and exec look for the node's name in the host's DNS.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // The end of a run is no reason to wait.
        "--shutdown-delay-duration=0s".to_owned(),
    ];
    spec("kube-apiserver", options.bin.join("kube-apiserver"), &args)
}

fn controller_manager(run: &Run, options: &Options) -> Spec {
    let folder = run.shown();
    let args = [
        format!("--kubeconfig={folder}/kubeconfig"),
        format!("--service-account-private-key-file={folder}/certs/service-accounts.key"),
        format!("--root-ca-file={folder}/certs/apiserver.crt"),
        format!("--cert-dir={folder}/certs"),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
    ];
    spec(
        "kube-controller-manager",
        options.bin.join("kube-controller-manager"),
        &args,
    )
}

fn scheduler(run: &Run, options: &Options) -> Spec {
    let args = [
        format!("--kubeconfig={}", run.kubeconfig().display()),
        "--leader-elect=false".to_owned(),
    ];
    spec("kube-scheduler", options.bin.join("kube-scheduler"), &args)
}

fn containerd(run: &Run) -> Spec {
    let args = [format!("--config={}/containerd/config.toml", run.shown())];
    spec("containerd", PathBuf::from("containerd"), &args)
}

fn kubelet(run: &Run, options: &Options) -> Spec {
    let folder = run.shown();
    let args = [
        format!("--config={folder}/kubelet/config.yaml"),
        format!("--kubeconfig={folder}/kubeconfig"),
        format!("--root-dir={folder}/kubelet/root"),
        format!("--cert-dir={folder}/kubelet/certs"),
        format!("--hostname-override={NODE_NAME}"),
        format!("--node-ip={NODE_ADDRESS}"),
    ];
    spec("kubelet", options.bin.join("kubelet"), &args)
}

fn kube_proxy(run: &Run, options: &Options) -> Spec {
    let args = [
        format!("--kubeconfig={}", run.kubeconfig().display()),
        "--proxy-mode=iptables".to_owned(),
        format!("--hostname-override={NODE_NAME}"),
        format!("--cluster-cidr={POD_RANGE}"),
        // These settings are the whole machine's, not the namespace's: leave them alone.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
        "--conntrack-tcp-timeout-established=0".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0".to_owned(),
    ];
    spec("kube-proxy", options.bin.join("kube-proxy"), &args)
}

fn coredns(run: &Run, options: &Options) -> Spec {
    let args = [format!("-conf={}/coredns/Corefile", run.shown())];
    spec("coredns", options.bin.join("coredns"), &args)
}

fn plain_api(run: &Run, options: &Options) -> Spec {
    let args = [
        format!("--kubeconfig={}", run.kubeconfig().display()),
        "proxy".to_owned(),
        format!("--port={PLAIN_API_PORT}"),
    ];
    spec("plain-api", options.bin.join("kubectl"), &args)
}
