//! `quorate up` with two of three data directories gone: said, and recovered when the manifest
//! asks.

use std::fs;

use serde_json::Value;

use crate::process::harness::{http, wait_for};
use crate::up::Up;

/// A manifest of three members, with an annotation if there is one.
fn manifest(request: &str) -> String {
    format!(
        "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\nmetadata:\n  name: demo\n{request}\
         spec:\n  replicas: 3\n  recovery: {{minOutage: 1s}}\n"
    )
}

fn condition(up: &Up, type_: &str) -> Value {
    let conditions = up.status("/conditions").unwrap_or_default();
    let mut all = conditions.as_array().into_iter().flatten();
    let found = all.find(|condition| condition["type"] == type_);
    found.cloned().unwrap_or_default()
}

#[test]
fn p39_two_directories_of_three_gone_are_recovered_from_the_third_when_the_manifest_asks() {
    let mut up = Up::new(3);
    up.write_text(&manifest(""));
    up.start();
    up.wait_voters(3);
    for port in [up.port(0), up.port(1)] {
        let (status, text) = http(port, "PUT", "/key/a", r#"{"value":"b"}"#).expect("served");
        assert_eq!(status, 200, "{text}");
    }
    // Read through the one that is to survive: it has all of that.
    let (status, _) = http(up.port(1), "GET", "/key/a", "").expect("served");
    assert_eq!(status, 200);
    assert_eq!(up.interrupt(), Some(0));
    for slot in [0, 2] {
        let volume = up.data().join(format!("slot-{slot}/volume"));
        fs::remove_dir_all(volume).expect("the volume can be removed");
    }
    up.start();
    wait_for("the lost quorum to be said", || {
        let said = condition(&up, "QuorumHealthy");
        let message = said["message"].as_str().unwrap_or_default();
        said["status"] == "False"
            && message.contains("in slot 1: it runs and has its data")
            && message.ends_with("quorate.dev/recover-quorum: \"from=auto,epoch=1\"")
    });
    assert_eq!(up.status("/epoch"), Some(1.into()));
    assert_eq!(up.status("/recovery"), None, "nothing by itself");
    up.write_text(&manifest(
        "  annotations:\n    quorate.dev/recover-quorum: \"from=auto,epoch=1\"\n",
    ));
    wait_for(
        &format!("epoch 2 to begin; the log of up:\n{}", up.log()),
        || up.status("/epoch") == Some(2.into()),
    );
    up.wait_voters(3);
    for slot in 0..3 {
        let (status, text) = http(up.port(slot), "GET", "/key/a", "").expect("served");
        assert!(
            status == 200 && text.contains("\"b\""),
            "slot {slot}: {text}"
        );
    }
    // The request may stay in the file: it was done.
    assert_eq!(up.status("/recovery"), None);
    assert_eq!(up.status("/epoch"), Some(2.into()));
}
