//! A whole node that is the only member of its cluster, with the system's clock and ports.

use quorate_node::config::HotSettings;
use quorate_node::replica::Bootstrap;
use quorate_node::{Node, NodeConfig};
use tempfile::TempDir;

/// Starts it with these settings, and with the file `settings` beside its data if there is one.
pub async fn start(data: &TempDir, hot: HotSettings) -> Node {
    let file = data.path().join("settings");
    let config = NodeConfig {
        heartbeat_ms: 50,
        election_ms: 500,
        hot,
        settings_file: Some(file).filter(|file| file.exists()),
        ..NodeConfig::managed("lone", data.path().join("data"))
    };
    let node = Node::start(config).expect("a free port and an empty directory");
    let bootstrap = Bootstrap {
        cluster_uuid: [7; 16],
        member_id: 1,
        peer_urls: Vec::new(),
    };
    let joined = node.handle().bootstrap(bootstrap).await;
    joined.expect("the directory is empty");
    node
}
