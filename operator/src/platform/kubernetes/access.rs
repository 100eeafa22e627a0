//! Access to the API server: one client, a time limit on every call, errors in our words.
//!
//! A call is made once: what a retry inside the client would hide (a first attempt that was
//! applied, H52) is for the next pass to find out. Must not know: what is read or written.

use std::time::Duration;

use kube::{Client, Config};

use super::Error;
use crate::planted::Bug;

/// The longest a call may take. A pass makes a few dozen, most of them in milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client by the usual places: the pod's service account, or `KUBECONFIG`.
///
/// # Errors
/// Neither is there, or it cannot be read; in words.
pub async fn connect() -> Result<Client, String> {
    let config = Config::infer()
        .await
        .map_err(|error| format!("no access to a Kubernetes API server: {error}"))?;
    client(config)
}

/// The client: it makes each call once, and gives up on a connection that is not made.
fn client(mut config: Config) -> Result<Client, String> {
    config.default_retry = Bug::ClientRetries.lives();
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| format!("the client cannot be made: {error}"))
}

/// Makes one call, with its time limit.
///
/// # Errors
/// As the API server says, or [`Error::Unanswered`]. `doing` begins the message.
pub(super) async fn call<T>(
    doing: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| failed(doing, &error)),
        Err(_) => Err(Error::Unanswered(format!(
            "{doing}: no answer within {CALL_TIMEOUT:?}"
        ))),
    }
}

/// A failure in our words. A conflict is a fact about the world and not a fault.
pub(super) fn failed(doing: &str, error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let text = format!("{doing}: {}", status.message);
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() {
                Error::Conflict(text)
            } else if status.is_forbidden() && !status.message.contains("quota") {
                Error::Forbidden(text)
            } else if (400..500).contains(&status.code) && status.code != 408 && status.code != 429
            {
                Error::Refused(text)
            } else {
                Error::Unanswered(text)
            }
        }
        kube::Error::SerdeError(error) => Error::Unreadable(format!("{doing}: {error}")),
        other => Error::Unanswered(format!("{doing}: {}", causes(other))),
    }
}

/// An error with what lies behind it: the outermost text alone often says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::Pod;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that is too busy for everything, and asks to be left alone for ten minutes.
    async fn busy(asked: Arc<AtomicUsize>) -> Config {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answer = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 600\r\n\
                        Content-Length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Config::new(url.parse().unwrap())
    }

    #[tokio::test]
    async fn a_server_that_asks_for_patience_gets_one_call_and_a_pass_ends_at_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = client(busy(asked.clone()).await).unwrap();
        let pods: kube::Api<Pod> = kube::Api::namespaced(client, "data");
        let calling = call("the pod cannot be read", pods.get("orders-0"));
        let limit = CALL_TIMEOUT / 2;
        let answer = tokio::time::timeout(limit, calling).await;
        assert!(
            matches!(answer, Ok(Err(Error::Unanswered(_)))),
            "H52: {answer:?}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1, "H52: it was called again");
    }
}
