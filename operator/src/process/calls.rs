//! Calls of the Kubernetes API, counted where all of them pass: between the client and its
//! connection.
//!
//! Must not know: who calls, and why.

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use prometheus::IntCounterVec;

/// What stands for the status when no answer came.
const NO_ANSWER: &str = "none";

/// The same client, whose calls are counted by verb and status.
pub(super) fn counted(client: Client, calls: IntCounterVec) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, calls) = (client.clone(), calls.clone());
        async move {
            let verb = verb(
                request.method(),
                request.uri().path(),
                request.uri().query(),
            );
            let answer: Result<Response<Body>, kube::Error> = client.send(request).await;
            let code = answer.as_ref().map(Response::status);
            let code = code.as_ref().map_or(NO_ANSWER, |code| code.as_str());
            calls.with_label_values(&[verb, code]).inc();
            answer
        }
    });
    Client::new(service, namespace)
}

/// The verb as rights name it.
fn verb(method: &Method, path: &str, query: Option<&str>) -> &'static str {
    let watches = query
        .unwrap_or_default()
        .split('&')
        .any(|pair| matches!(pair, "watch=true" | "watch=1"));
    match *method {
        Method::GET if watches => "watch",
        Method::GET if is_collection(path) => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if is_collection(path) => "deletecollection",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// Whether a path names all objects of a kind: `/api/v1/…/pods` or `/apis/GROUP/VERSION/…/pods`.
fn is_collection(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let head = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        Some(_) | None => return false,
    };
    parts.drain(..head.min(parts.len()));
    if parts.first() == Some(&"namespaces") && parts.len() >= 3 {
        parts.drain(..2);
    }
    parts.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;

    #[test]
    fn verbs_are_those_of_rights() {
        let pods = "/api/v1/namespaces/data/pods";
        let clusters = "/apis/quorate.dev/v1alpha1/kvclusters";
        for (method, path, query, expected) in [
            (Method::GET, pods, Some("limit=5"), "list"),
            (Method::GET, pods, Some("limit=5&watch=true"), "watch"),
            (Method::GET, "/api/v1/namespaces/data/pods/a-0", None, "get"),
            (Method::GET, "/api/v1/namespaces/data", None, "get"),
            (Method::GET, "/api/v1/namespaces", None, "list"),
            (Method::GET, "/api/v1/nodes", None, "list"),
            (Method::GET, "/api/v1/nodes/n", None, "get"),
            (Method::GET, clusters, None, "list"),
            (Method::GET, "/version", None, "get"),
            (Method::POST, pods, None, "create"),
            (
                Method::PATCH,
                "/api/v1/namespaces/data/pods/a-0",
                None,
                "patch",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/data/pods/a-0/status",
                None,
                "update",
            ),
            (Method::DELETE, pods, None, "deletecollection"),
            (
                Method::DELETE,
                "/api/v1/namespaces/data/pods/a-0",
                None,
                "delete",
            ),
        ] {
            assert_eq!(verb(&method, path, query), expected, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn answers_and_their_absence_are_counted_apart() {
        let server = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path().contains("gone") {
                return Err(std::io::Error::other("no connection"));
            }
            let body = Body::from(b"{}".to_vec());
            Ok(Response::builder()
                .status(404)
                .body(body)
                .expect("a response"))
        });
        let opts = Opts::new("calls", "Calls.");
        let calls = IntCounterVec::new(opts, &["verb", "code"]).unwrap();
        let client = counted(Client::new(server, "data"), calls.clone());
        for path in ["/api/v1/namespaces/data/pods/a", "/api/v1/nodes/gone"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let _ = client.send(request).await;
        }
        let count = |code: &str| calls.with_label_values(&["get", code]).get();
        assert_eq!((count("404"), count(NO_ANSWER)), (1, 1));
    }
}
