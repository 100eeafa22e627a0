//! What the bench takes from Debian: the container runtime, plug-ins, and small tools.

use crate::shell;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Folder of the network plug-ins, as Debian packs them.
pub const CNI_FOLDER: &str = "/usr/lib/cni";

/// A file that must be there, and the package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
    ("/usr/lib/cni/portmap", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Installs what is missing, by name, with `apt-get`.
///
/// # Errors
/// When something is missing and there is no `apt-get`; the error lists the packages.
pub fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!(
            "missing programs: install what your system calls {}",
            missing.join(", ")
        );
    }
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    shell::run_with("apt-get", &["update", "-qq"], &quiet)?;
    let args = [
        &["install", "-y", "-qq", "--no-install-recommends"],
        missing.as_slice(),
    ]
    .concat();
    shell::run_with("apt-get", &args, &quiet)?;
    let missing = self::missing();
    if !missing.is_empty() {
        bail!(
            "still missing after the installation: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| find(file).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}

fn find(file: &str) -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    // `sbin` is not on every user's path, and still has `ip` and `iptables`.
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&on_path)
        .chain(extra)
        .map(|folder| folder.join(Path::new(file)))
        .find(|path| path.is_file())
}
