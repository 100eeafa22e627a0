//! Compactions whose caller waits for the space.

use super::Served;
use super::grpc::channel;
use quorate_api::client;
use quorate_api::etcdserverpb as pb;
use std::time::Duration;
use tonic::Code;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_physical_compaction_does_not_wait_for_a_state_that_is_gone() {
    let served = Served::joined();
    let mut kv = client::kv(channel(served.address()).await);
    let put = pb::PutRequest {
        key: "a".into(),
        value: "1".into(),
        ..Default::default()
    };
    kv.put(put).await.unwrap();
    // Nobody compacts in the background here, so that the call waits.
    let mut waiting = kv.clone();
    let compact = pb::CompactionRequest {
        revision: 2,
        physical: true,
    };
    let call = tokio::spawn(async move { waiting.compact(compact).await });
    let old = pb::RangeRequest {
        key: "a".into(),
        revision: 1,
        serializable: true,
        ..Default::default()
    };
    let compacted = async {
        while kv.range(old.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.unwrap();
    served.solo.lose_state();
    let ended = tokio::time::timeout(PATIENCE, call).await;
    let status = ended.unwrap().unwrap().expect_err("the state is gone");
    assert_eq!(status.code(), Code::Unavailable);
}
