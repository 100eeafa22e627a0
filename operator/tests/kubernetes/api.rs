//! An API server in this process: objects by path, uids, versions, preconditions, and faults.
//!
//! It knows what the operator uses: get, list by labels, create, merge patch, JSON patch,
//! server-side apply, status, delete with preconditions. What a real one would refuse, it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What goes wrong with the writing call of a certain number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The operator dies before it, or the server is away: nothing is done.
    Before,
    /// The operator dies after it, or the answer is lost.
    After,
    /// 409.
    Conflict,
    /// 429.
    TooMany,
    /// 503, and it was done all the same.
    DoneAnd503,
}

pub const FAULTS: [Fault; 5] = [
    Fault::Before,
    Fault::After,
    Fault::Conflict,
    Fault::TooMany,
    Fault::DoneAnd503,
];

/// The objects, by path.
pub type Objects = BTreeMap<String, Value>;

#[derive(Default)]
pub struct Store {
    pub objects: Objects,
    /// Older states, the newest last.
    history: Vec<Objects>,
    /// Reads are served from the state so many writes ago.
    pub lag: usize,
    version: u64,
    uids: u64,
    /// Writing calls of the operator so far.
    pub writes: usize,
    /// What happens to the writing call of that number.
    pub fault: Option<(usize, Fault)>,
    /// Reads of this resource fail.
    pub blind: Option<&'static str>,
    /// Verb and resource of every call.
    pub calls: BTreeSet<(String, String)>,
    /// The time of day, in seconds.
    pub clock: i64,
    /// Somebody else edits as well: a size may be too small for a moment.
    pub edited: bool,
    /// No volume can grow any more.
    pub full: bool,
}

/// The server, shared.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<Store>>);

type Answer = Result<Value, (u16, String)>;

fn refuse<T>(code: u16, reason: &str) -> Result<T, (u16, String)> {
    Err((code, reason.to_owned()))
}

/// A path taken apart.
struct Target {
    collection: String,
    resource: String,
    name: Option<String>,
    sub: Option<String>,
}

fn target(path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // api/v1/…, apis/group/version/…
    let mut at = if parts[0] == "api" { 2 } else { 3 };
    if parts.get(at) == Some(&"namespaces") && parts.len() > at + 2 {
        at += 2;
    }
    Target {
        collection: format!("/{}", parts[..=at].join("/")),
        resource: parts[at].to_owned(),
        name: parts.get(at + 1).map(|name| (*name).to_owned()),
        sub: parts.get(at + 2).map(|sub| (*sub).to_owned()),
    }
}

impl Api {
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.0
            .lock()
            .expect("no test panics while it holds the store")
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body in memory").to_bytes();
                let query = head.uri.query().unwrap_or_default().to_owned();
                let answer = api
                    .store()
                    .serve(&head.method, head.uri.path(), &query, &body);
                let Some((code, value)) = answer else {
                    return Err(std::io::Error::other("the connection was lost"));
                };
                let body = Full::new(bytes::Bytes::from(value.to_string()));
                Ok(Response::builder()
                    .status(code)
                    .body(body)
                    .expect("a response"))
            }
        });
        Client::new(service, "data")
    }
}

impl Store {
    fn serve(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Option<(u16, Value)> {
        let to = target(path);
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let verb = match (method.as_str(), &to.name) {
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            _ => "delete",
        };
        let sub = to
            .sub
            .as_ref()
            .map_or(String::new(), |sub| format!("/{sub}"));
        let resource = format!("{}{sub}", to.resource);
        self.calls.insert((verb.to_owned(), resource));
        let reads = method == Method::GET;
        if reads && self.blind == Some(to.resource.as_str()) {
            return None;
        }
        let fault = match self.fault {
            Some((number, fault)) if !reads && number == self.writes => Some(fault),
            _ => None,
        };
        self.writes += usize::from(!reads);
        match fault {
            Some(Fault::Before) => return None,
            Some(Fault::Conflict) => return Some(problem(409, "Conflict")),
            Some(Fault::TooMany) => return Some(problem(429, "TooManyRequests")),
            Some(Fault::After | Fault::DoneAnd503) | None => {}
        }
        if !reads {
            self.history.push(self.objects.clone());
        }
        let answer = match verb {
            "list" => self.list(&to, query),
            "get" => self.get(&to),
            "create" => self.create(&to, body),
            "delete" => self.delete(&to, &body),
            "update" => self.replace(&to, &body),
            _ => self.patch(&to, query, &body),
        };
        match fault {
            Some(Fault::After) => None,
            Some(_) => Some(problem(503, "ServiceUnavailable")),
            None => Some(match answer {
                Ok(value) => (200, value),
                Err((code, reason)) => problem(code, &reason),
            }),
        }
    }

    fn seen(&self) -> &Objects {
        match self.history.len().checked_sub(self.lag) {
            Some(at) if self.lag > 0 => &self.history[at],
            _ => &self.objects,
        }
    }

    fn get(&self, to: &Target) -> Answer {
        match self.seen().get(&path(to)) {
            Some(object) => Ok(object.clone()),
            None => refuse(404, "NotFound"),
        }
    }

    fn list(&self, to: &Target, query: &str) -> Answer {
        let wanted: Vec<(String, String)> = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("labelSelector="))
            .map(|text| {
                text.replace("%2F", "/")
                    .replace("%3D", "=")
                    .replace("%2C", ",")
            })
            .unwrap_or_default()
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let inside = format!("{}/", to.collection);
        let objects = self.seen().iter().filter(|(path, object)| {
            let labels = &object["metadata"]["labels"];
            path.starts_with(&inside) && wanted.iter().all(|(key, value)| labels[key] == **value)
        });
        let items: Vec<&Value> = objects.map(|(_, object)| object).collect();
        let version = self.version.to_string();
        Ok(json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": version}}))
    }

    /// Puts an object in, with what the server adds to it.
    fn create(&mut self, to: &Target, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}", to.collection);
        if self.objects.contains_key(&path) {
            return refuse(409, "AlreadyExists");
        }
        self.uids += 1;
        let kind = &to.resource;
        object["metadata"]["uid"] = json!(format!("{kind}-{}", self.uids));
        object["metadata"]["creationTimestamp"] = json!(self.time());
        object["metadata"]["generation"] = json!(1);
        let class = &object["spec"]["storageClassName"];
        if kind == "persistentvolumeclaims" && class.is_null() {
            object["spec"]["storageClassName"] = json!("standard");
        }
        if kind == "statefulsets" && object["spec"]["replicas"].is_null() {
            object["spec"]["replicas"] = json!(1);
        }
        self.put(&path, object.clone());
        Ok(self.objects[&path].clone())
    }

    pub fn time(&self) -> String {
        let at = k8s_openapi::jiff::Timestamp::from_second(self.clock);
        at.expect("a time").to_string()
    }

    /// Stores an object under a new version, unless nothing changed.
    pub fn put(&mut self, path: &str, mut object: Value) {
        let old = self.objects.get(path);
        if let Some(old) = old {
            object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            if *old == object {
                return;
            }
            if old["spec"] != object["spec"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let gone = !object["metadata"]["deletionTimestamp"].is_null()
            && object["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty);
        if gone && !path.contains("/pods/") && !path.contains("/persistentvolumeclaims/") {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.to_owned(), object);
        }
    }

    /// The live object, if what the change says of uid and version fits it.
    fn fitting(&self, to: &Target, change: &Value) -> Answer {
        let Some(live) = self.objects.get(&path(to)) else {
            return refuse(404, "NotFound");
        };
        for key in ["uid", "resourceVersion"] {
            let said = &change["metadata"][key];
            if !said.is_null() && *said != live["metadata"][key] {
                return refuse(409, "Conflict");
            }
        }
        Ok(live.clone())
    }

    fn replace(&mut self, to: &Target, body: &Value) -> Answer {
        let mut live = self.fitting(to, body)?;
        assert!(
            !body["metadata"]["resourceVersion"].is_null(),
            "I7: an update without a version"
        );
        match to.sub.as_deref() {
            Some("status") => live["status"] = body["status"].clone(),
            _ => live = body.clone(),
        }
        self.put(&path(to), live);
        self.get_new(to)
    }

    fn get_new(&self, to: &Target) -> Answer {
        Ok(self
            .objects
            .get(&path(to))
            .cloned()
            .unwrap_or(json!({"metadata": {}})))
    }

    fn patch(&mut self, to: &Target, query: &str, body: &Value) -> Answer {
        if let Value::Array(operations) = body {
            return self.patch_by_operations(to, operations);
        }
        if query.contains("force=true") {
            let Some(live) = self.objects.get(&path(to)) else {
                return self.create(to, body.clone());
            };
            let mut next = live.clone();
            merge(&mut next, body);
            self.put(&path(to), next);
            return self.get_new(to);
        }
        let mut live = self.fitting(to, body)?;
        let named = ["uid", "resourceVersion"]
            .iter()
            .any(|key| !body["metadata"][key].is_null());
        assert!(named, "I7: a patch of {} without uid and version", path(to));
        let before = live.clone();
        merge(&mut live, body);
        if to.resource == "persistentvolumeclaims" {
            self.resizable(&before, &live)?;
        }
        self.put(&path(to), live);
        self.get_new(to)
    }

    /// What the API server asks of a claim that changes its size.
    fn resizable(&self, before: &Value, after: &Value) -> Result<(), (u16, String)> {
        let size = |claim: &Value| bytes(&claim["spec"]["resources"]["requests"]["storage"]);
        let (old, new) = (size(before), size(after));
        if old == new {
            return Ok(());
        }
        let class = before["spec"]["storageClassName"]
            .as_str()
            .unwrap_or_default();
        let path = format!("/apis/storage.k8s.io/v1/storageclasses/{class}");
        let allowed = self
            .objects
            .get(&path)
            .map(|class| &class["allowVolumeExpansion"]);
        if new > old && allowed != Some(&json!(true)) {
            return refuse(403, "only a class that supports resize");
        }
        let bound = before["status"]["phase"] == "Bound";
        if !bound || (new < old && new <= bytes(&before["status"]["capacity"]["storage"])) {
            return refuse(422, "less than status.capacity");
        }
        Ok(())
    }

    fn patch_by_operations(&mut self, to: &Target, operations: &[Value]) -> Answer {
        let Some(live) = self.objects.get(&path(to)) else {
            return refuse(404, "NotFound");
        };
        let mut next = live.clone();
        for operation in operations {
            let at = operation["path"].as_str().unwrap_or_default();
            if at == "/metadata/resourceVersion" {
                if operation["value"] != live["metadata"]["resourceVersion"] {
                    return refuse(409, "Conflict");
                }
                continue;
            }
            let (parent, key) = at.rsplit_once('/').unwrap_or_default();
            let Some(parent) = next.pointer_mut(parent) else {
                return refuse(422, "Invalid");
            };
            parent[key] = operation["value"].clone();
        }
        self.put(&path(to), next);
        self.get_new(to)
    }

    fn delete(&mut self, to: &Target, body: &Value) -> Answer {
        let Some(live) = self.objects.get(&path(to)) else {
            return refuse(404, "NotFound");
        };
        let said = &body["preconditions"]["uid"];
        assert!(
            !said.is_null(),
            "I7: a delete of {} without a uid",
            path(to)
        );
        if *said != live["metadata"]["uid"] {
            return refuse(409, "Conflict");
        }
        let mut live = live.clone();
        if body["propagationPolicy"] == "Orphan" {
            // The garbage collector lets go of what it owns, then takes this off.
            live["metadata"]["finalizers"] = json!(["orphan"]);
        }
        self.mark_deleted(&path(to), &live);
        Ok(live)
    }

    /// Begins the deletion of an object; pods and claims go when nothing holds them any more.
    pub fn mark_deleted(&mut self, path: &str, live: &Value) {
        let mut next = live.clone();
        if next["metadata"]["deletionTimestamp"].is_null() {
            next["metadata"]["deletionTimestamp"] = json!(self.time());
        }
        self.put(path, next);
    }

    /// Objects of one resource, by name.
    pub fn all(&self, resource: &str) -> BTreeMap<String, Value> {
        let inside = format!("/{resource}/");
        let found = self.objects.iter().filter_map(|(path, object)| {
            let (_, name) = path.split_once(&inside)?;
            Some((name.to_owned(), object.clone()))
        });
        found.collect()
    }
}

/// Where objects of a resource in the namespace are.
pub fn collection(resource: &str) -> String {
    let group = match resource {
        "statefulsets" => "/apis/apps/v1",
        "kvclusters" => "/apis/quorate.dev/v1alpha1",
        _ => "/api/v1",
    };
    format!("{group}/namespaces/data/{resource}")
}

/// Creates an object as somebody else than the operator.
pub fn make(store: &mut Store, resource: &str, object: Value) {
    let to = target(&format!("{}/x", collection(resource)));
    store.create(&to, object).expect("the object is new");
}

/// A size in bytes.
pub fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or("0");
    quorate_operator::quantity::bytes(text).expect("a size")
}

fn path(to: &Target) -> String {
    format!(
        "{}/{}",
        to.collection,
        to.name.as_deref().unwrap_or_default()
    )
}

fn problem(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": format!("told to fail: {reason}"), "reason": reason, "code": code});
    (code, status)
}

/// JSON merge patch.
pub fn merge(live: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *live = change.clone();
        return;
    };
    if !live.is_object() {
        *live = json!({});
    }
    for (key, value) in change {
        if value.is_null() {
            live.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut live[key], value);
        }
    }
}
