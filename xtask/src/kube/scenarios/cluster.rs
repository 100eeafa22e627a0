//! One KvCluster under test: how it is made and changed, when it has converged, and what went down
//! on the way.

use super::Bench;
use super::chart::{create_namespace, operator_log};
use super::follow::{Follow, Objects, lock, text};
use crate::image::METRICS_PORT;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a change may take until the cluster is as it should be.
pub const CONVERGED_MAX: Duration = Duration::from_secs(180);

/// A cluster of this many members, and nothing that differs from the defaults but encryption: the
/// writer speaks plain HTTP.
pub fn plain(name: &str, replicas: usize, more: &str) -> String {
    format!(
        "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {replicas}\n  storage: {{size: 1Gi}}\n  \
         tls: {{peer: {{mode: Disabled}}, client: {{mode: Disabled}}}}\n{more}"
    )
}

/// A KvCluster and its pods, watched.
pub struct Cluster {
    bench: Bench,
    namespace: String,
    name: String,
    object: Follow,
    pods: Follow,
    down: Arc<Mutex<Down>>,
}

/// Voters that were up and are not, as the pods showed it.
#[derive(Default)]
struct Down {
    /// Pods that were Ready as voters and are not any more, by name: which life it was.
    now: BTreeMap<String, String>,
    /// Pods that are Ready, likewise.
    up: BTreeMap<String, String>,
    /// The most at once since the last mark.
    most: usize,
    /// In which order pods went down since the last mark.
    order: Vec<String>,
}

impl Down {
    /// A pod changed. One whose member has left the membership is missed by nobody: its label says
    /// so, a moment after the pod began to stop. The next pod of a voter has no label at first.
    fn see(&mut self, name: &str, pods: &Objects) {
        let pod = pods.get(name);
        let role = pod.map(|pod| text(&pod["metadata"]["labels"]["quorate.dev/role"]));
        let uid = pod.map(|pod| text(&pod["metadata"]["uid"]));
        if let Some(uid) = uid.clone().filter(|_| pod.is_some_and(is_up)) {
            self.now.remove(name);
            self.up.insert(name.to_owned(), uid);
            return;
        }
        if let Some(was_up) = self.up.remove(name) {
            self.now.insert(name.to_owned(), was_up);
            self.order.push(name.to_owned());
        }
        let voter = role.is_none_or(|role| role == "voter");
        if !voter && self.now.get(name) == uid.as_ref() {
            self.now.remove(name);
            self.order.pop_if(|last| last == name);
        }
        self.most = self.most.max(self.now.len());
    }
}

/// A pod, reduced to what scenarios ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Which life of the pod.
    pub uid: String,
    /// How often its container was started again.
    pub restarts: i64,
    /// Ready, and not about to go.
    pub up: bool,
}

impl Cluster {
    /// Applies a manifest in a namespace that is made for it, which enforces restricted pod
    /// security, and watches what comes of it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn create(bench: &Bench, namespace: &str, manifest: &str) -> Result<Self> {
        create_namespace(bench, namespace)?;
        let args = ["create", "--namespace", namespace, "--filename=-"];
        let output = bench.try_kubectl(&[&args[..], &["--output=name"]].concat(), manifest)?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = said.trim().rsplit('/').next().unwrap_or_default();
        let scope = ["--namespace", namespace];
        let field = format!("--field-selector=metadata.name={name}");
        let objects = [&["kvclusters"], &scope[..], &[&field]].concat();
        let label = format!(
            "--selector=app.kubernetes.io/instance={name},app.kubernetes.io/component=node"
        );
        let pods = [&["pods"], &scope[..], &[&label]].concat();
        let down: Arc<Mutex<Down>> = Arc::default();
        let seen = down.clone();
        let each = move |name: &str, pods: &Objects| lock(&seen).see(name, pods);
        Ok(Self {
            bench: Bench::attach(bench.run())?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            object: Follow::start(bench, &objects, Box::new(|_, _| {}))?,
            pods: Follow::start(bench, &pods, Box::new(each))?,
            down,
        })
    }

    /// The metrics of a pod, by way of the API server.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self, pod: &str) -> Result<String> {
        let (namespace, port) = (&self.namespace, METRICS_PORT);
        let page = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics");
        self.bench.kubectl(&["get", "--raw", &page])
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl in its namespace.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.bench
            .kubectl(&[&["--namespace", &self.namespace], args].concat())
    }

    /// An object of its namespace.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        self.bench
            .json(&[&["--namespace", &self.namespace], args].concat())
    }

    /// Changes the spec, by a merge patch of the object.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn patch(&self, patch: &str) -> Result<()> {
        let patch = format!("--patch={patch}");
        let args = ["patch", "kvcluster", &self.name, "--type=merge", &patch];
        self.kubectl(&args).map(drop)
    }

    /// `kubectl scale`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn scale(&self, replicas: usize) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "kvcluster", &self.name, &replicas])
            .map(drop)
    }

    /// The name of a pod.
    pub fn pod(&self, slot: usize) -> String {
        format!("{}-{slot}", self.name)
    }

    /// Its pods as they were last seen.
    pub fn pods(&self) -> BTreeMap<String, Pod> {
        let pods = self.pods.objects();
        pods.iter()
            .map(|(name, pod)| (name.clone(), pod_of(pod)))
            .collect()
    }

    /// The object as it was last seen.
    pub fn object(&self) -> Value {
        let mut objects = self.object.objects();
        objects.remove(&self.name).unwrap_or_default()
    }

    /// The leader's pod, as the status has it.
    ///
    /// # Errors
    /// When it names none.
    pub fn leader(&self) -> Result<String> {
        let object = self.object();
        let pod = text(&object["status"]["leader"]["pod"]);
        ensure!(!pod.is_empty(), "the status names no leader");
        Ok(pod)
    }

    /// Waits until the object is as it should.
    ///
    /// # Errors
    /// When it is not in time; the error has what a person would look at.
    pub fn wait(
        &self,
        what: &str,
        longest: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let there = |objects: &Objects| objects.get(&self.name).is_some_and(&holds);
        self.object
            .wait(what, longest, there)
            .map_err(|error| error.context(self.evidence()))
    }

    /// Waits until the pods are as they should.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_pods(
        &self,
        what: &str,
        longest: Duration,
        holds: impl Fn(&BTreeMap<String, Pod>) -> bool,
    ) -> Result<()> {
        let holds = |pods: &Objects| {
            let pods = pods.iter().map(|(name, pod)| (name.clone(), pod_of(pod)));
            holds(&pods.collect())
        };
        self.pods
            .wait(what, longest, holds)
            .map_err(|error| error.context(self.evidence()))
    }

    /// Waits until there are this many voters, all Ready in the pods that are there, the operator
    /// has nothing left to do, and says so of the newest spec.
    ///
    /// # Errors
    /// When it does not come to that in time.
    pub fn wait_converged(&self, replicas: usize) -> Result<()> {
        self.wait_pods(
            &format!("{replicas} pods are Ready"),
            CONVERGED_MAX,
            |pods| pods.len() == replicas && pods.values().all(|pod| pod.up),
        )?;
        let what = format!("{} has converged to {replicas} voters", self.name);
        self.wait(&what, CONVERGED_MAX, |object| {
            let pods = self.pods();
            pods.len() == replicas
                && pods.values().all(|pod| pod.up)
                && has_converged(object, &pods)
        })
    }

    /// The address of its client Service.
    ///
    /// # Errors
    /// When it has none.
    pub fn client_address(&self) -> Result<SocketAddr> {
        let service = format!("{}-client", self.name);
        let service = self.json(&["get", "service", &service])?;
        let address = text(&service["spec"]["clusterIP"]);
        let address = address.parse().context("the Service has no address")?;
        Ok(SocketAddr::new(address, 2379))
    }

    /// Runs `quorate` in a member's container.
    ///
    /// # Errors
    /// When it fails.
    pub fn quorate(&self, pod: &str, args: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--", "quorate"], args].concat())
    }

    /// Asks to evict a pod, as a drain does; false when the budget refuses.
    ///
    /// # Errors
    /// When it fails for another reason.
    pub fn evict(&self, pod: &str) -> Result<bool> {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", self.namespace);
        let eviction = serde_json::json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        });
        let args = ["create", "--raw", &path, "--filename=-"];
        let output = self.bench.try_kubectl(&args, &eviction.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && !said.contains("disruption budget") {
            bail!("the eviction of {pod}: {}", said.trim());
        }
        Ok(output.status.success())
    }

    /// Begins to count anew what goes down.
    pub fn mark(&self) {
        let mut down = lock(&self.down);
        down.most = down.now.len();
        down.order.clear();
    }

    /// Since the mark: the most voters that were down at once, and the order in which they went.
    pub fn went_down(&self) -> (usize, Vec<String>) {
        let down = lock(&self.down);
        (down.most, down.order.clone())
    }

    /// What a person would look at when it does not work.
    pub fn evidence(&self) -> String {
        let objects = self.kubectl(&["get", "kvclusters,pods,pvc,statefulsets"]);
        let object = self.object();
        let operation = &object["status"]["operation"];
        let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
        let members = self.kubectl(&["logs", &selector, "--prefix", "--tail=12"]);
        format!(
            "{}\n{}operation: {operation}\nmembers: {}\n{}\nthe operator:\n{}",
            objects.unwrap_or_default(),
            conditions(&object),
            object["status"]["members"],
            members.unwrap_or_default(),
            operator_log(&self.bench, 20)
        )
    }

    /// Deletes the namespace with all that is in it, without waiting: the operator takes its part
    /// of it while the next scenario begins. What failed is left for a person to look at.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn clear(self) -> Result<()> {
        self.bench
            .kubectl(&["delete", "namespace", &self.namespace, "--wait=false"])
            .map(drop)
    }
}

/// Whether a condition has a status.
pub fn has(object: &Value, type_: &str, status: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.any(|condition| condition["type"] == type_ && condition["status"] == status)
}

/// Whether the status speaks of the newest spec and of these pods, with nothing left to do.
fn has_converged(object: &Value, pods: &BTreeMap<String, Pod>) -> bool {
    let status = &object["status"];
    let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
    let settled = |member: &Value| {
        let pod = pods.get(&text(&member["pod"]));
        let same = pod.is_some_and(|pod| member["podUID"] == *pod.uid);
        same && member["role"] == "Voter" && member["ready"] == true
    };
    object["metadata"]["generation"] == status["observedGeneration"]
        && status["operation"].is_null()
        && status["readyReplicas"] == pods.len()
        && members.len() == pods.len()
        && members.iter().all(settled)
        && has(object, "Available", "True")
        && has(object, "Progressing", "False")
        && has(object, "MembersReady", "True")
        && has(object, "VersionUpToDate", "True")
}

fn pod_of(pod: &Value) -> Pod {
    Pod {
        uid: text(&pod["metadata"]["uid"]),
        restarts: pod["status"]["containerStatuses"][0]["restartCount"]
            .as_i64()
            .unwrap_or(0),
        up: is_up(pod),
    }
}

fn is_up(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(ready)
}

/// The conditions as lines.
pub fn conditions(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let line = |condition: &Value| {
        let word = |name: &str| text(&condition[name]);
        let (type_, status, reason) = (word("type"), word("status"), word("reason"));
        format!("{type_}={status} {reason}: {}\n", word("message"))
    };
    conditions.into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, ready: &str, role: &str) -> Option<Value> {
        Some(json!({
            "metadata": {"uid": uid, "labels": {"quorate.dev/role": role}},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    #[test]
    fn voters_that_are_down_at_once_are_counted_and_those_that_left_are_not() {
        let (mut down, mut pods) = (Down::default(), Objects::new());
        let mut show = |name: &str, pod: Option<Value>| {
            match pod {
                Some(pod) => drop(pods.insert(name.to_owned(), pod)),
                None => drop(pods.remove(name)),
            }
            down.see(name, &pods);
            down.most
        };
        for name in ["a", "b", "c", "d"] {
            show(name, pod("1", "False", ""));
            let most = show(name, pod("1", "True", "voter"));
            assert_eq!(most, 0, "one that starts has not gone down");
        }
        // The highest slot is emptied: its member leaves, then its pod.
        show("d", pod("1", "False", "voter"));
        show("d", pod("1", "False", ""));
        assert_eq!(show("d", None), 1);
        assert_eq!(show("a", None), 1);
        assert_eq!(show("a", pod("2", "True", "voter")), 1);
        assert_eq!(show("b", pod("1", "False", "voter")), 1);
        show("b", None);
        // The next pod of a voter is no voter's yet, and its member still counts.
        show("b", pod("2", "False", ""));
        assert_eq!(show("c", pod("1", "False", "voter")), 2);
        assert_eq!(down.order, ["a", "b", "c"]);
    }
}
