//! What wakes a cluster: watches on its object, its set, its pods and its claims.
//!
//! They only wake: nothing they carry is believed (H50), and only metadata is asked for, so that an
//! object that cannot be decoded stops nobody (H53). Must not know: what a pass does.

use std::collections::BTreeMap;

use futures_util::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::queue::Key;
use crate::crd::KvCluster;
use crate::platform::kubernetes::LABEL_CLUSTER;

/// Something a watch has to say.
#[derive(Debug)]
pub enum Sign {
    /// A cluster is there, or has changed.
    Cluster(Key),
    /// Something of a cluster has changed.
    Part(Key),
    /// A cluster is gone, or is not selected any more.
    Left(Key),
    /// All clusters of one watch have been named: the API server answers and knows the resource.
    Listed,
    /// A watch failed; it is begun again.
    Failed(String),
}

/// All watches of one namespace, or of all.
pub type Signs = SelectAll<BoxStream<'static, Sign>>;

/// The watches. `selector` limits the clusters; what belongs to others is for the caller to ignore.
pub fn signs(client: &Client, namespaces: &[String], selector: Option<&str>) -> Signs {
    let mut signs = SelectAll::new();
    let scopes: Vec<Option<&str>> = match namespaces.is_empty() {
        true => vec![None],
        false => namespaces.iter().map(|name| Some(name.as_str())).collect(),
    };
    for scope in scopes {
        let mut config = watcher::Config::default();
        if let Some(selector) = selector {
            config = config.labels(selector);
        }
        signs.push(clusters(scoped(client, scope), config));
        let ours = || watcher::Config::default().labels(LABEL_CLUSTER);
        signs.push(parts::<StatefulSet>(scoped(client, scope), ours()));
        signs.push(parts::<Pod>(scoped(client, scope), ours()));
        signs.push(parts::<PersistentVolumeClaim>(
            scoped(client, scope),
            ours(),
        ));
    }
    signs
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let client = client.clone();
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// A cluster's object wakes it, except by a change of status alone: that was us.
fn clusters(
    api: Api<PartialObjectMeta<KvCluster>>,
    config: watcher::Config,
) -> BoxStream<'static, Sign> {
    let mut known: BTreeMap<Key, String> = BTreeMap::new();
    let events = watcher(api, config).default_backoff();
    let signs = events.filter_map(move |event| {
        let sign = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                let key = key(&object.namespace().unwrap_or_default(), &object.name_any());
                let print = fingerprint(&object);
                let is_new = known.get(&key) != Some(&print);
                known.insert(key.clone(), print);
                is_new.then_some(Sign::Cluster(key))
            }
            Ok(watcher::Event::Delete(object)) => {
                let key = key(&object.namespace().unwrap_or_default(), &object.name_any());
                known.remove(&key);
                Some(Sign::Left(key))
            }
            Ok(watcher::Event::Init) => None,
            Ok(watcher::Event::InitDone) => Some(Sign::Listed),
            Err(error) => Some(Sign::Failed(format!("the watch on KvClusters: {error}"))),
        };
        std::future::ready(sign)
    });
    signs.boxed()
}

/// What of an object's metadata is for us to act on.
fn fingerprint(object: &PartialObjectMeta<KvCluster>) -> String {
    let meta = &object.metadata;
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        meta.uid,
        meta.generation,
        meta.deletion_timestamp,
        meta.finalizers,
        meta.annotations,
        meta.labels
    )
}

/// Sets, pods and claims carry their cluster's name in a label.
fn parts<K>(api: Api<PartialObjectMeta<K>>, config: watcher::Config) -> BoxStream<'static, Sign>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + DeserializeOwned,
    K: 'static,
{
    let events = watcher(api, config).default_backoff();
    let signs = events.filter_map(|event| {
        let sign = match event {
            Ok(
                watcher::Event::Apply(object)
                | watcher::Event::InitApply(object)
                | watcher::Event::Delete(object),
            ) => {
                let cluster = object.labels().get(LABEL_CLUSTER);
                let namespace = object.namespace().unwrap_or_default();
                cluster.map(|cluster| Sign::Part(key(&namespace, cluster)))
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => {
                let kind = K::kind(&());
                Some(Sign::Failed(format!("the watch on {kind}s: {error}")))
            }
        };
        std::future::ready(sign)
    });
    signs.boxed()
}

fn key(namespace: &str, name: &str) -> Key {
    Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use serde_json::json;

    use super::*;

    /// An API server with two clusters, one of which nobody can decode.
    fn client() -> Client {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let cluster = |name: &str, replicas| {
                json!({"apiVersion": "quorate.dev/v1alpha1", "kind": "KvCluster",
                    "metadata": {"name": name, "namespace": "data", "uid": name},
                    "spec": {"replicas": replicas}})
            };
            let items = match request.uri().path().ends_with("/kvclusters") {
                true => vec![
                    cluster("broken", json!("many")),
                    cluster("orders", json!(3)),
                ],
                false => Vec::new(),
            };
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": items});
            let body = Full::new(bytes::Bytes::from(list.to_string()));
            Ok::<_, std::io::Error>(http::Response::new(body))
        });
        Client::new(service, "data")
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_decoded_hides_no_other() {
        let mut signs = signs(&client(), &["data".to_owned()], None);
        let mut found = Vec::new();
        while found.len() < 2 {
            match signs.next().await.unwrap() {
                Sign::Cluster(key) => found.push(key.name),
                Sign::Failed(why) => panic!("H53: {why}"),
                Sign::Part(_) | Sign::Left(_) | Sign::Listed => {}
            }
        }
        assert_eq!(found, ["broken", "orders"]);
    }
}
