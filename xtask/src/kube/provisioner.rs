//! Volumes for claims: a folder each, grown online, removed as their reclaim policy says.
//!
//! They are `local` volumes, because these honour `fsGroup`, so that pods without root can write.
//! Their size is bookkeeping and not enforced. Asks the API five times a second over the plain port
//! inside the namespace. Decisions are pure (`for_claim`, `for_volume`), effects follow.

use super::processes::{NODE_NAME, PLAIN_API_PORT};
use super::run::Run;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The provisioner's name in the storage classes of `assets/storage.yaml`.
const PROVISIONER: &str = "bench.quorate.dev";
/// How long the API may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// One change that a claim or a volume asks for.
#[derive(Debug, PartialEq)]
enum Action {
    /// Make a folder and a volume for a new claim.
    Create { folder: String, volume: Value },
    /// Give volume and claim the size that the claim asks for.
    Grow {
        volume: String,
        namespace: String,
        claim: String,
        size: String,
    },
    /// Drop a volume whose claim is gone, with its folder.
    Delete { volume: String },
}

/// Looks at all claims and volumes once, and does what they ask for.
///
/// # Errors
/// When the API does not answer; the next look tries again.
pub fn look(run: &Run) -> Result<()> {
    let classes = get("/apis/storage.k8s.io/v1/storageclasses")?;
    let claims = get("/api/v1/persistentvolumeclaims")?;
    let volumes = get("/api/v1/persistentvolumes")?;
    let folder = run.join("volumes");
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let mut actions = Vec::new();
    for claim in items(&claims) {
        let class = items(&classes)
            .into_iter()
            .find(|class| class["metadata"]["name"] == claim["spec"]["storageClassName"]);
        if let Some(class) = class {
            actions.extend(for_claim(&claim, &class, &folder));
        }
    }
    for volume in items(&volumes) {
        actions.extend(for_volume(&volume));
    }
    for action in actions {
        carry_out(&action, &folder)?;
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn for_claim(claim: &Value, class: &Value, folder: &Path) -> Option<Action> {
    if text(&class["provisioner"]) != PROVISIONER
        || !claim["metadata"]["deletionTimestamp"].is_null()
    {
        return None;
    }
    let meta = &claim["metadata"];
    let wanted = text(&claim["spec"]["resources"]["requests"]["storage"]);
    let volume = format!("pvc-{}", text(&meta["uid"]));
    match text(&claim["status"]["phase"]) {
        "Pending" if claim["spec"]["volumeName"].is_null() => {
            let late = text(&class["volumeBindingMode"]) == "WaitForFirstConsumer";
            let node = &meta["annotations"]["volume.kubernetes.io/selected-node"];
            if late && node.is_null() {
                return None;
            }
            let path = folder.join(&volume).to_string_lossy().into_owned();
            Some(Action::Create {
                volume: volume_for(claim, class, &volume, &path),
                folder: path,
            })
        }
        "Bound" if wanted != text(&claim["status"]["capacity"]["storage"]) => Some(Action::Grow {
            volume: text(&claim["spec"]["volumeName"]).to_owned(),
            namespace: text(&meta["namespace"]).to_owned(),
            claim: text(&meta["name"]).to_owned(),
            size: wanted.to_owned(),
        }),
        _ => None,
    }
}

fn volume_for(claim: &Value, class: &Value, name: &str, path: &str) -> Value {
    let meta = &claim["metadata"];
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": class["reclaimPolicy"],
            "storageClassName": class["metadata"]["name"],
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]},
            ]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    })
}

fn for_volume(volume: &Value) -> Option<Action> {
    let ours = volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == PROVISIONER;
    let released = volume["status"]["phase"] == "Released";
    let delete = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete";
    (ours && released && delete).then(|| Action::Delete {
        volume: text(&volume["metadata"]["name"]).to_owned(),
    })
}

fn carry_out(action: &Action, folder: &Path) -> Result<()> {
    match action {
        Action::Create {
            folder: path,
            volume,
        } => {
            std::fs::create_dir_all(path)?;
            request("POST", "/api/v1/persistentvolumes", Some(volume)).map(drop)
        }
        Action::Grow {
            volume,
            namespace,
            claim,
            size,
        } => {
            // The volume first: a claim never reports more than its volume has.
            let size_of_volume = json!({"spec": {"capacity": {"storage": size}}});
            let path = format!("/api/v1/persistentvolumes/{volume}");
            request("PATCH", &path, Some(&size_of_volume))?;
            let size_of_claim = json!({"status": {"capacity": {"storage": size}}});
            let path =
                format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}/status");
            request("PATCH", &path, Some(&size_of_claim)).map(drop)
        }
        Action::Delete { volume } => {
            let path: PathBuf = folder.join(volume);
            if path.exists() {
                std::fs::remove_dir_all(&path)?;
            }
            let path = format!("/api/v1/persistentvolumes/{volume}");
            request("DELETE", &path, None).map(drop)
        }
    }
}

fn get(path: &str) -> Result<Value> {
    request("GET", path, None)
}

/// One request as HTTP/1.0, so that the answer ends with the connection and is never chunked. A
/// conflict or an object that is already there or already gone is no error: the next look sees it.
fn request(method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PLAIN_API_PORT));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the API's answer is not UTF-8")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the API's answer has no end of headers")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" | "201" | "202" => Ok(serde_json::from_str(body)?),
        "404" | "409" => Ok(Value::Null),
        _ => bail!("{method} {path}: {status}: {body}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(phase: &str, size: &str, capacity: &str) -> Value {
        json!({
            "metadata": {"name": "data-x-0", "namespace": "n", "uid": "u-1"},
            "spec": {
                "storageClassName": "standard",
                "accessModes": ["ReadWriteOncePod"],
                "resources": {"requests": {"storage": size}},
            },
            "status": {"phase": phase, "capacity": {"storage": capacity}},
        })
    }

    fn class(mode: &str) -> Value {
        json!({
            "metadata": {"name": "standard"},
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
        })
    }

    #[test]
    fn a_new_claim_gets_a_volume_that_only_it_can_bind() {
        let action = for_claim(
            &claim("Pending", "1Gi", ""),
            &class("Immediate"),
            Path::new("/v"),
        );
        let Some(Action::Create { folder, volume }) = action else {
            panic!("no volume: {action:?}");
        };
        assert_eq!(folder, "/v/pvc-u-1");
        assert_eq!(volume["spec"]["claimRef"]["uid"], "u-1");
        assert_eq!(volume["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
        assert_eq!(volume["spec"]["local"]["path"], "/v/pvc-u-1");
    }

    #[test]
    fn a_late_class_waits_for_the_scheduler() {
        let mut claim = claim("Pending", "1Gi", "");
        let class = class("WaitForFirstConsumer");
        assert_eq!(for_claim(&claim, &class, Path::new("/v")), None);
        claim["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "node-1"});
        assert!(for_claim(&claim, &class, Path::new("/v")).is_some());
    }

    #[test]
    fn a_bound_claim_grows_once() {
        let mut wants_more = claim("Bound", "2Gi", "1Gi");
        wants_more["spec"]["volumeName"] = json!("pvc-u-1");
        let action = for_claim(&wants_more, &class("Immediate"), Path::new("/v"));
        assert!(matches!(action, Some(Action::Grow { size, .. }) if size == "2Gi"));
        let done = claim("Bound", "2Gi", "2Gi");
        assert_eq!(for_claim(&done, &class("Immediate"), Path::new("/v")), None);
    }

    #[test]
    fn only_released_volumes_of_ours_with_that_policy_are_dropped() {
        let volume = |phase: &str, policy: &str, by: &str| {
            json!({
                "metadata": {
                    "name": "pvc-u-1",
                    "annotations": {"pv.kubernetes.io/provisioned-by": by},
                },
                "spec": {"persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase},
            })
        };
        assert!(for_volume(&volume("Released", "Delete", PROVISIONER)).is_some());
        for kept in [
            volume("Bound", "Delete", PROVISIONER),
            volume("Released", "Retain", PROVISIONER),
            volume("Released", "Delete", "other"),
        ] {
            assert_eq!(for_volume(&kept), None, "{kept}");
        }
    }
}
