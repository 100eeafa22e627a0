//! Access to the API server: one client, a time limit on every call, errors in our words.
//!
//! A call is made once: what a retry inside the client would hide (a first attempt that was
//! applied, H52) is for the next pass to find out. Must not know: what is read or written.

use std::time::Duration;

use kube::{Client, Config};

use super::Error;

/// The longest a call may take. A pass makes a few dozen, most of them in milliseconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client by the usual places: the pod's service account, or `KUBECONFIG`.
///
/// # Errors
/// Neither is there, or it cannot be read; in words.
pub async fn connect() -> Result<Client, String> {
    let mut config = Config::infer()
        .await
        .map_err(|error| format!("no access to a Kubernetes API server: {error}"))?;
    config.default_retry = false;
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
