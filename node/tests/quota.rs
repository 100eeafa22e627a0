//! A whole node at its quota, over the network: what deletions and a compaction set free can be
//! written again, without a restart and without a further command.

use crate::lone;
use quorate_api::client;
use quorate_api::etcdserverpb as pb;
use quorate_node::Node;
use quorate_node::config::HotSettings;
use std::time::Duration;
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// How long the room may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// Far less than a segment of the log: nothing of it is ever rewritten here.
const QUOTA_BYTES: u64 = 100_000;

type Client = pb::kv_client::KvClient<Channel>;

async fn full_node(data: &TempDir) -> (Node, Client) {
    let hot = HotSettings {
        quota_backend_bytes: Some(QUOTA_BYTES),
        ..HotSettings::default()
    };
    let node = lone::start(data, hot).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.client_addrs()[0]));
    let channel = endpoint.expect("an address").connect().await;
    let mut client = client::kv(channel.expect("the node listens"));
    let refused = loop {
        if let Err(refused) = put(&mut client).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    (node, client)
}

/// The same key again and again: every value but the newest is history.
async fn put(client: &mut Client) -> Result<(), tonic::Status> {
    let request = pb::PutRequest {
        key: "a".into(),
        value: vec![b'x'; 10_000].into(),
        ..pb::PutRequest::default()
    };
    client.put(request).await.map(|_| ())
}

#[tokio::test]
async fn a_full_store_is_written_again_after_a_compaction() {
    let data = TempDir::new().expect("room for a directory");
    let (node, mut client) = full_node(&data).await;
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        ..pb::DeleteRangeRequest::default()
    };
    let deleted = client.delete_range(delete).await;
    let header = deleted
        .expect("a deletion needs no room")
        .into_inner()
        .header;
    let compact = pb::CompactionRequest {
        revision: header.expect("every answer has one").revision,
        physical: true,
    };
    let compacted = client.compact(compact).await;
    compacted.expect("a compaction needs no room");
    let written = async {
        while put(&mut client).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await; // poll interval
        }
    };
    let waited = tokio::time::timeout(PATIENCE, written).await;
    waited.expect("nearly nothing is in use");
    node.stop().await;
}
