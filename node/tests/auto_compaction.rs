//! A whole node with the system's clock: the settings of automatic compaction reach the thread
//! that follows them, at its start and while it runs, and it ends with the node.

use crate::lone;
use quorate_node::Node;
use quorate_node::config::{AutoCompaction, HotSettings};
use quorate_node::kv::{Op, Put};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const SECOND: AutoCompaction = AutoCompaction::Periodic {
    retention_ms: 1_000,
};

/// Asks for a retention by time, as a file that is there whole or not at all.
fn ask(data: &TempDir, retention: &str) {
    let new = data.path().join("new");
    let text = format!("auto-compaction-mode=periodic\nauto-compaction-retention={retention}\n");
    std::fs::write(&new, text).expect("room for a file");
    std::fs::rename(new, data.path().join("settings")).expect("the same directory");
}

async fn node(data: &TempDir, auto_compaction: AutoCompaction) -> Node {
    let hot = HotSettings {
        auto_compaction,
        ..HotSettings::default()
    };
    lone::start(data, hot).await
}

/// Writes once; returns the revision.
async fn write(node: &Node) -> i64 {
    let put = Put {
        key: "a".into(),
        value: "1".into(),
        ..Put::default()
    };
    let applied = node.handle().propose(Op::Put(put)).await;
    applied.expect("a lone member leads").revision.0
}

/// Writes, and waits until nothing older than that can be read.
async fn write_until_compacted(node: &Node) {
    let revision = write(node).await;
    let reader = node.handle().reader().expect("the member has a state");
    let compacted = async {
        while reader.compact_revision().0 < revision {
            tokio::time::sleep(Duration::from_millis(10)).await; // poll interval
        }
    };
    let waited = tokio::time::timeout(PATIENCE, compacted).await;
    waited.expect("the revision is older than a second");
    assert_eq!(reader.compact_revision().0, revision);
}

#[tokio::test]
async fn a_node_compacts_as_it_was_started() {
    let data = TempDir::new().expect("room for a directory");
    let node = node(&data, SECOND).await;
    write_until_compacted(&node).await;
    write_until_compacted(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_runs_follows_new_settings() {
    let data = TempDir::new().expect("room for a directory");
    ask(&data, "0");
    let node = node(&data, AutoCompaction::Off).await;
    write(&node).await;
    ask(&data, "1s");
    write_until_compacted(&node).await;
    ask(&data, "1h");
    let revision = write(&node).await;
    ask(&data, "1s");
    write_until_compacted(&node).await;
    assert!(write(&node).await > revision);
    // It waits for an hour now, and does not hold up the end.
    ask(&data, "1h");
    node.stop().await;
}
