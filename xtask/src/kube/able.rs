//! Whether this machine can run the bench at all: tried out, not guessed, in a namespace that is
//! gone a moment later.
//!
//! Containers and shared build machines often allow some of it. A run would fail there too, but
//! late, and by what a plug-in or the kubelet has to say about it.

use super::{cgroups, packages};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// What a run does in its namespaces, as a shell does it, and what it is for.
const TRIALS: &[(&str, &str)] = &[
    ("processes of a namespace's own", "mount -t proc proc /proc"),
    (
        "an empty /run",
        "mount -t tmpfs tmpfs /run; mkdir /run/u /run/w",
    ),
    (
        "changes to /var that stay inside (an overlay)",
        "mount -t overlay overlay -o lowerdir=/var,upperdir=/run/u,workdir=/run/w /var",
    ),
    (
        "pairs of network devices",
        "ip link add able0 type veth peer name able1",
    ),
    (
        "forwarding between pods",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ),
    (
        "rules of the packet filter",
        "iptables --table nat --append POSTROUTING --jump MASQUERADE",
    ),
];

/// Tries everything that a run needs from the machine.
///
/// # Errors
/// Names what the machine does not allow, and what it said.
pub fn check() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench needs root: it makes namespaces, mounts and control groups");
    }
    packages::install().context("the bench needs packages that cannot be installed")?;
    let group = format!("quorate-bench-able-{}", std::process::id());
    let made = cgroups::create(&group);
    made.and(cgroups::remove(&group))
        .context("the bench needs control groups of its own")?;
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", "private", "--", "sh", "-c"])
        .arg(script(TRIALS))
        .stdin(Stdio::null())
        .output()
        .context("cannot start unshare: is util-linux installed?")?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        bail!(
            "the bench needs root in namespaces of its own, and this machine does not allow it: {}",
            said.trim()
        );
    }
    Ok(())
}

/// Runs one trial after the other; the first that fails ends it and says what it was for.
fn script(trials: &[(&str, &str)]) -> String {
    let line = |(what, command): &(&str, &str)| {
        format!("( {command} ) || {{ echo \"({what})\"; exit 1; }}\n")
    };
    trials.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_trial_that_fails_is_named_and_ends_it() {
        let trials = [("first", "true"), ("second", "false"), ("third", "false")];
        let output = Command::new("sh")
            .args(["-c", &script(&trials)])
            .output()
            .expect("a shell");
        assert!(!output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "(second)\n");
    }
}
