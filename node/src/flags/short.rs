//! The short form: `--id node1 --port 8001 --peers localhost:8002,localhost:8003`, one line per
//! terminal, in any order, and the nodes form one cluster.
//!
//! Each node knows the client ports of all; the peer port is always [`PEER_PORT_OFFSET`] higher.
//! The set of peer URLs is thus the same on every node, and cluster and member IDs follow from it
//! by etcd's rule, so that nothing has to be agreed on.

use super::build::{metrics, name, with_limits};
use super::read::Raw;
use super::{UsageError, urls};
use crate::config::{InitialMember, InitialState, NodeConfig, Start};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The peer port of a node is its client port plus this.
pub(super) const PEER_PORT_OFFSET: u16 = 1000;
/// Most nodes of the short form.
const NODES_MAX: usize = 9;
/// Flags of the long form that would contradict what the short form derives.
const EXCLUDED: &[&str] = &[
    "name",
    "listen-peer-urls",
    "listen-client-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster",
    "initial-cluster-state",
    "managed",
];
/// Shown with every refusal: the whole form in one line.
const EXAMPLE: &str =
    "for example: quorate node --id node1 --port 8001 --peers localhost:8002,localhost:8003";

/// Builds the configuration of the short form.
pub(super) fn build(raw: &Raw) -> Result<NodeConfig, UsageError> {
    for flag in ["id", "port"] {
        if !raw.is_set(flag) {
            return Err(UsageError::invalid(format!(
                "--{flag} is missing: the short form needs --id and --port; {EXAMPLE}"
            )));
        }
    }
    let excluded = EXCLUDED.iter().chain(super::tls::FLAGS);
    if let Some(flag) = excluded.copied().find(|flag| raw.is_set(flag)) {
        return Err(UsageError::invalid(format!(
            "--{flag} does not go with the short form (--id, --port, --peers); {EXAMPLE}"
        )));
    }
    let id = name(raw.text("id"), "id")?;
    let host = raw.text("host");
    let port = port(raw.text("port"))?;
    let own = format!("{host}:{port}");
    let nodes = nodes(&own, raw.text("peers"))?;
    let start = Start::Static {
        initial_cluster: nodes
            .iter()
            .map(|node| {
                let name = if *node == own {
                    id.clone()
                } else {
                    node.clone()
                };
                Ok(InitialMember {
                    name,
                    peer_url: peer_url(node)?,
                })
            })
            .collect::<Result<_, UsageError>>()?,
        state: InitialState::New,
        token: raw.text("initial-cluster-token").to_owned(),
    };
    let data_dir = match raw.text("data-dir") {
        "" => PathBuf::from(format!("{id}.quorate")),
        dir => PathBuf::from(dir),
    };
    let listen = |port| SocketAddr::new(listen_ip(host), port);
    let config = NodeConfig {
        data_dir,
        listen_client: vec![listen(port)],
        advertise_client_urls: vec![format!("http://{own}")],
        listen_peer: vec![listen(port + PEER_PORT_OFFSET)],
        advertise_peer_urls: vec![peer_url(&own)?],
        listen_admin: match raw.text("listen-admin") {
            "" => None,
            text => Some(urls::listen_address("listen-admin", text)?),
        },
        listen_metrics: metrics(raw.text("listen-metrics-urls"))?,
        start,
        ..NodeConfig::managed(id, PathBuf::new())
    };
    with_limits(raw, config)
}

/// Every node once, ourselves first.
fn nodes(own: &str, peers: &str) -> Result<Vec<String>, UsageError> {
    let mut nodes = vec![own.to_owned()];
    for peer in peers
        .split(',')
        .map(str::trim)
        .filter(|peer| !peer.is_empty())
    {
        let (host, port) = peer.rsplit_once(':').ok_or_else(|| {
            UsageError::invalid(format!("--peers \"{peer}\" is not host:port; {EXAMPLE}"))
        })?;
        let node = format!("{host}:{}", self::port(port)?);
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    if nodes.len() > NODES_MAX {
        return Err(UsageError::invalid(format!(
            "--peers names {} nodes with this one; at most {NODES_MAX} form a cluster",
            nodes.len()
        )));
    }
    Ok(nodes)
}

/// Only a node that others reach by another name than localhost listens beyond loopback.
fn listen_ip(host: &str) -> IpAddr {
    match host {
        "localhost" | "127.0.0.1" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

fn peer_url(node: &str) -> Result<String, UsageError> {
    let (host, port) = node.rsplit_once(':').unwrap_or((node, "0"));
    let url = format!("http://{host}:{}", self::port(port)? + PEER_PORT_OFFSET);
    urls::check("peers", &url)?;
    Ok(url)
}

fn port(text: &str) -> Result<u16, UsageError> {
    let limit = u16::MAX - PEER_PORT_OFFSET;
    text.parse()
        .ok()
        .filter(|port| (1..=limit).contains(port))
        .ok_or_else(|| {
            UsageError::invalid(format!(
                "port \"{text}\" is not a number from 1 to {limit} (the peer port is \
             {PEER_PORT_OFFSET} higher); {EXAMPLE}"
            ))
        })
}
