//! Settings that change while the server runs: by the file, without a restart, confirmed by digest.

use super::Served;
use super::grpc::{channel, put};
use crate::replica::solo::Solo;
use quorate_api::admin::v1 as admin;
use quorate_api::client;
use quorate_api::settings::digest;
use std::path::Path;
use tonic::Code;

/// As a mounted ConfigMap changes: another file takes the name.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

async fn identity(served: &Served) -> admin::IdentityResponse {
    let address = served.running.admin_addr().unwrap();
    let mut client = client::admin(channel(address).await);
    let answer = client.identity(admin::IdentityRequest {}).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn a_quota_that_changes_is_in_force_when_its_digest_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings");
    write(&file, "");
    let served = Served::with_settings(Solo::joined(), Some(file.clone()));
    let mut kv = client::kv(channel(served.address()).await);
    kv.put(put(b"a", "1")).await.unwrap();
    assert_eq!(identity(&served).await.config_hash, digest(b""));

    write(&file, "quota-backend-bytes=1\n");
    let told = identity(&served).await;
    assert_eq!(told.config_hash, digest(b"quota-backend-bytes=1\n"));
    let refused = kv.put(put(b"a", "2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    write(&file, "quota-backend-bytes=plenty\n");
    let told = identity(&served).await;
    assert_eq!(told.config_hash, digest(b"quota-backend-bytes=1\n"));
    assert!(
        told.config_problem.contains("not a whole number"),
        "{told:?}"
    );

    write(&file, "quota-backend-bytes=0\n");
    assert_eq!(identity(&served).await.config_problem, "");
    kv.put(put(b"a", "3")).await.unwrap();
}

#[tokio::test]
async fn nobody_has_to_ask_for_a_change_to_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings");
    write(&file, "");
    let served = Served::with_settings(Solo::joined(), Some(file.clone()));
    let mut kv = client::kv(channel(served.address()).await);
    write(&file, "quota-backend-bytes=1\n");
    let mut patience = 1_000;
    while kv.put(put(b"a", "1")).await.is_ok() {
        patience -= 1;
        assert!(patience > 0, "the file was never read again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // poll interval
    }
}
