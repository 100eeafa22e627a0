//! The run's network: a namespace with loopback, one address for the node, and routes to pods that
//! the network plug-in adds. Nothing leads out of it.

use super::shell_in;
use anyhow::{Context, Result};

/// The node's address: API server, DNS and kubelet listen here.
pub const NODE_ADDRESS: &str = "10.99.0.10";
/// Addresses of pods.
pub const POD_RANGE: &str = "10.244.0.0/24";
/// Addresses of Services; the first is the API server's.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";

/// Configures the namespace that this process is in.
///
/// # Errors
/// When `ip` fails.
pub fn configure() -> Result<()> {
    let address = format!("{NODE_ADDRESS}/24");
    let commands: &[&[&str]] = &[
        &["link", "set", "lo", "up"],
        &[
            "link", "add", "node0", "type", "veth", "peer", "name", "node0p",
        ],
        &["link", "set", "node0p", "up"],
        &["address", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        // Service addresses need a route before kube-proxy's rules can redirect them.
        &["route", "add", "default", "dev", "node0"],
    ];
    for command in commands {
        shell_in("ip", command)?;
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward between pods")
}
