//! What runs inside the run's own namespaces: the first process, and the one that brings
//! Kubernetes up and keeps it up.
//!
//! When the first process ends, the kernel kills every other process of the namespace and drops its
//! mounts and its network. That, and not a list of things to undo, is why nothing is left behind.

use super::processes::Processes;
use super::run::{FirstProcess, Run, start_ticks};
use super::{config, network, poll, provisioner, shell_in, try_wait_until, wait_until};
use crate::image::{self, archive};
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::process::{WaitOptions, wait};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the API server and the node may take.
const READY_MAX: Duration = Duration::from_secs(120);

/// Settings of the whole machine that a kubelet changes where they are not as it wants them. It is
/// shown files with what it wants, and leaves the machine alone.
pub const KERNEL_SETTINGS: &[(&str, &str)] = &[
    ("kernel/keys/root_maxbytes", "25000000"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
];

/// The first process: takes over the mounts, starts the supervisor, buries orphans. Ends when its
/// standard input does, which the holder keeps open.
pub fn first_process(run: &Run) -> Result<()> {
    // Still the host's /proc, in which this link names us by the host's number.
    let pid = std::fs::read_link("/proc/self")?
        .to_string_lossy()
        .parse()
        .context("/proc/self is no number")?;
    let start_ticks = start_ticks(pid).context("a process without a start time")?;
    take_over_mounts().context("cannot take over the mounts")?;
    run.write_first_process(FirstProcess { pid, start_ticks })?;
    let log = std::fs::File::create(run.log("supervisor"))?;
    Command::new(run.join("xtask"))
        .args(["kube", "supervise", &run.name()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        // Fails only while there is no child at all.
        if wait(WaitOptions::empty()).is_err() {
            poll();
        }
    }
}

/// A /proc of this namespace, an empty /run, and a /var whose changes stay here. Mounts made from
/// now on are seen by all processes of the run, as a kubelet and its pods need, and by no other.
fn take_over_mounts() -> Result<()> {
    let none = MountFlags::empty();
    mount("proc", "/proc", "proc", none, None)?;
    mount("tmpfs", "/run", "tmpfs", none, Some(c"mode=0755"))?;
    for folder in ["/run/var/upper", "/run/var/work", "/run/netns", "/run/lock"] {
        std::fs::create_dir_all(folder)?;
    }
    let layers = c"lowerdir=/var,upperdir=/run/var/upper,workdir=/run/var/work";
    mount("overlay", "/var", "overlay", none, Some(layers))?;
    for (name, value) in KERNEL_SETTINGS {
        let decoy = Path::new("/run/settings").join(name);
        std::fs::create_dir_all(decoy.parent().context("a path with a folder")?)?;
        std::fs::write(&decoy, value)?;
        mount_bind(&decoy, Path::new("/proc/sys").join(name))?;
    }
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared)?;
    Ok(())
}

/// Brings everything up, notes how long it took, and keeps it up for as long as it is let.
pub fn supervise(run: &Run) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a measurement for people")]
    let start = Instant::now();
    let mut processes = Processes::new(run);
    if let Err(error) = bring_up(run, &mut processes) {
        eprintln!("{error:#}");
        std::fs::write(run.join("failed"), format!("{error:#}"))?;
        return Err(error);
    }
    let seconds = format!("{:.1}", start.elapsed().as_secs_f64());
    std::fs::write(run.join("ready.part"), seconds)?;
    std::fs::rename(run.join("ready.part"), run.join("ready"))?;
    let mut last_trouble = String::new();
    loop {
        processes.restart_ended()?;
        if let Err(error) = provisioner::look(run) {
            // Said once, not five times a second.
            let trouble = format!("{error:#}");
            if trouble != last_trouble {
                eprintln!("volumes: {trouble}");
                last_trouble = trouble;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn bring_up(run: &Run, processes: &mut Processes) -> Result<()> {
    let options = run.options()?;
    network::configure()?;
    config::write(run)?;
    processes.start_api(&options)?;
    load_images(run)?;
    let kubectl = options.bin.join("kubectl");
    let kubectl = |args: &[&str]| {
        let output = Command::new(&kubectl)
            .args(args)
            .env("KUBECONFIG", run.kubeconfig())
            .env("HOME", run.path())
            .stdin(Stdio::null())
            .output();
        output.is_ok_and(|output| {
            output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("False")
        })
    };
    try_wait_until("the API server answers", READY_MAX, || {
        processes.all_run()?;
        Ok(kubectl(&["get", "--raw", "/readyz"]))
    })?;
    processes.start_rest(&options)?;
    let storage = run.join("storage.yaml");
    wait_until("storage classes are accepted", READY_MAX, || {
        kubectl(&["apply", "-f", &storage.to_string_lossy()])
    })?;
    try_wait_until("the node is Ready", READY_MAX, || {
        processes.all_run()?;
        Ok(kubectl(&[
            "wait",
            "--for=condition=Ready",
            "node/node-1",
            "--timeout=5s",
        ]))
    })?;
    // Every pod is given this account's token.
    wait_until("the default service account exists", READY_MAX, || {
        kubectl(&["get", "serviceaccount", "default"])
    })
}

/// Loads the placeholder image and those of the user, while the API server starts.
fn load_images(run: &Run) -> Result<()> {
    let options = run.options()?;
    let socket = run.containerd();
    let socket = socket.to_string_lossy();
    wait_until("containerd answers", READY_MAX, || {
        Path::new(&*socket).exists() && shell_in("ctr", &["-a", &socket, "version"]).is_ok()
    })?;
    let pause = run.join("pause.tar");
    let placeholder = archive::Image {
        name: "localhost/pause:1".to_owned(),
        config: image::Config {
            entrypoint: vec!["/pause".to_owned()],
            ..image::Config::default()
        },
        files: vec![archive::File::program(
            "pause",
            std::fs::read(options.bin.join("pause"))?,
        )],
    };
    archive::write(&placeholder, &pause)?;
    for path in std::iter::once(&pause).chain(&options.images) {
        import(&socket, path)?;
    }
    Ok(())
}

/// Loads one archive into the namespace of containerd that the kubelet uses.
pub fn import(socket: &str, path: &Path) -> Result<()> {
    let path = path.to_string_lossy();
    shell_in(
        "ctr",
        &["-a", socket, "-n", "k8s.io", "images", "import", &path],
    )
    .with_context(|| format!("cannot load the image {path}"))
}
