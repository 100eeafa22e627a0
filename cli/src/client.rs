//! Calls to a cluster: which endpoint is asked, what is tried again, and what an error means.
//!
//! Two rules carry the safety of every verb. A *read* may be asked again, of any endpoint. A
//! *write* is handed to one connection at most once: until a connection stands nothing was sent and
//! another endpoint may be tried; after that only the member's answer tells whether the write
//! happened, and without an answer the outcome is unknown (exit code 3). Must not know: any
//! particular verb.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_api::client::{self as api, Error, may_have_happened};
use quorate_api::tls::ClientTls;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::args::Common;
use crate::endpoints::{Endpoint, Endpoints};
use crate::failure::Failure;

/// A member that does not accept a connection within this time counts as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after every endpoint has been asked once, before the next round of a read.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// The members a command may talk to and the time it has.
#[derive(Clone, Debug)]
pub struct Client {
    endpoints: Endpoints,
    tls: Option<ClientTls>,
    limit: Duration,
    deadline: Instant,
}

impl Client {
    /// A client as the common options say, whose calls, all together, end within their time limit
    /// from now.
    ///
    /// # Errors
    /// [`Failure::Usage`], when a certificate file cannot be used.
    pub fn new(common: &Common) -> Result<Client, Failure> {
        let limit = common.client_timeout();
        Ok(Client {
            endpoints: common.endpoints.clone(),
            tls: common.tls.client()?,
            limit,
            deadline: Instant::now() + limit,
        })
    }

    /// Other members, and the whole time limit again.
    pub fn renewed(&self, endpoints: Endpoints) -> Client {
        Client {
            endpoints,
            deadline: Instant::now() + self.limit,
            ..self.clone()
        }
    }

    /// The endpoints this client may ask.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The same time limit, other members.
    pub fn with_endpoints(&self, endpoints: Endpoints) -> Client {
        Client {
            endpoints,
            ..self.clone()
        }
    }

    /// Asks for something without effect, going through the endpoints until one answers.
    ///
    /// # Errors
    /// [`Failure::Refused`] with the members' answer, or with the last error once the time is over.
    pub async fn read<T>(
        &self,
        what: &str,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut last = String::new();
        loop {
            for endpoint in self.endpoints.as_slice() {
                match self.ask(endpoint, &call).await {
                    Ok(answer) => return Ok(answer),
                    Err(status) if may_ask_another(&status) => {
                        // A try that the end of the time cuts off says less than those before it.
                        if last.is_empty() || Instant::now() < self.deadline {
                            last = format!("{endpoint}: {}", status.message());
                        }
                    }
                    Err(status) => return Err(refusal(what, endpoint.to_string(), &status)),
                }
            }
            if Instant::now() + ROUND_PAUSE >= self.deadline {
                return Err(Failure::refused(format!(
                    "{what}: no member answered within {:?} ({last}).\n{}",
                    self.limit,
                    self.check_endpoints()
                )));
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    /// Asks one member once for something without effect.
    ///
    /// # Errors
    /// The member's status, or one of code Unavailable when there is no answer in time.
    pub async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = self.connector(vec![endpoint.url()])?;
        // One member that hangs must leave time to ask the others.
        let share = self.limit / u32::try_from(self.endpoints.as_slice().len()).unwrap_or(u32::MAX);
        let until = (Instant::now() + share).min(self.deadline);
        match timeout_at(until, client.read(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Error::Refused { status, .. } | Error::OutcomeUnknown { status, .. })) => {
                Err(*status)
            }
            Ok(Err(Error::Unreachable { mut tried })) => {
                let why = tried.pop().map_or_else(String::new, |(_, why)| why);
                Err(Status::unavailable(innermost(&why)))
            }
            Ok(Err(error @ (Error::NoEndpoint | Error::BadEndpoint { .. }))) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(_) => Err(Status::unavailable("no answer in time")),
        }
    }

    /// Sends a change exactly once, to the first endpoint that accepts a connection.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the change certainly did not happen, [`Failure::OutcomeUnknown`]
    /// when
    /// it was sent and nothing tells how it ended.
    pub async fn write<T>(
        &self,
        what: &str,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let endpoints = self
            .endpoints
            .as_slice()
            .iter()
            .map(Endpoint::url)
            .collect();
        let client = self
            .connector(endpoints)
            .map_err(|status| Failure::usage(format!("{what}: {}", status.message())))?;
        let sent = AtomicBool::new(false);
        let once = async |channel| {
            sent.store(true, Ordering::Relaxed);
            call(channel).await
        };
        let error = match timeout_at(self.deadline, client.write(once)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) if sent.load(Ordering::Relaxed) => {
                let why = format!("no answer within {:?}", self.limit);
                return Err(outcome_unknown(what, &self.endpoints.to_string(), &why));
            }
            Err(_) => return Err(self.unreachable(what, "no connection in time")),
        };
        Err(match error {
            Error::Refused { endpoint, status } => refusal(what, endpoint, &status),
            Error::OutcomeUnknown { endpoint, status } => {
                outcome_unknown(what, &endpoint, status.message())
            }
            Error::Unreachable { tried } => {
                let (endpoint, why) = tried.into_iter().next_back().unwrap_or_default();
                self.unreachable(what, &format!("{endpoint}: {}", innermost(&why)))
            }
            Error::NoEndpoint | Error::BadEndpoint { .. } => {
                Failure::usage(format!("{what}: {error}"))
            }
        })
    }

    fn connector(&self, endpoints: Vec<String>) -> Result<api::Client, Status> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = api::Options {
            endpoints,
            tls: self.tls.clone(),
            connect_timeout: left.min(CONNECT_TIMEOUT),
            // The deadline of the whole command is kept here and covers this as well.
            request_timeout: self.limit.saturating_mul(2),
        };
        api::Client::new(&options).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn unreachable(&self, what: &str, why: &str) -> Failure {
        Failure::refused(format!(
            "{what}: no member can be reached ({why}). Nothing was sent.\n{}",
            self.check_endpoints()
        ))
    }

    fn check_endpoints(&self) -> String {
        format!(
            "Check that the cluster runs and that --endpoints names it (now: {}).",
            self.endpoints
        )
    }
}

/// The last part of a chain of causes: the outer ones say only that the transport failed.
fn innermost(chain: &str) -> &str {
    chain.rsplit(": ").next().unwrap_or(chain)
}

/// Whether a read may be asked of another member: the error speaks of this one, or of the moment.
fn may_ask_another(status: &Status) -> bool {
    let learner = status.message().contains("rpc not supported for learner");
    learner || may_have_happened(status.code())
}

fn outcome_unknown(what: &str, endpoint: &str, why: &str) -> Failure {
    Failure::OutcomeUnknown(format!(
        "{what}: outcome unknown: {endpoint} was asked and did not confirm ({why}).\n\
         The change may or may not have happened and was not repeated. Read the state back \
         before trying again."
    ))
}

fn refusal(what: &str, endpoint: String, status: &Status) -> Failure {
    let text = status
        .message()
        .strip_prefix("etcdserver: ")
        .unwrap_or(status.message());
    let text = if text.is_empty() {
        status.code().description()
    } else {
        text
    };
    let remedy = remedy(text);
    let pause = if remedy.is_empty() { "" } else { "\n" };
    Failure::refused(format!("{what}: {endpoint} refused: {text}{pause}{remedy}"))
}

/// Parts of refusals that never change, and what to do about each.
const REMEDIES: &[(&str, &str)] = &[
    (
        "has been compacted",
        "That revision is gone. Leave out --rev to read the newest.",
    ),
    (
        "is a future revision",
        "The store has not come so far. Use a revision it has reached.",
    ),
    (
        "database space exceeded",
        "The quota is used up. Delete keys, compact, or raise the quota.",
    ),
    (
        "request is too large",
        "Split the request, or raise --max-request-bytes of the members.",
    ),
    (
        "too many requests",
        "The cluster is busy and changed nothing. Try again in a moment.",
    ),
    (
        "duplicate key given",
        "A transaction may write a key once. Merge the operations.",
    ),
    (
        "too many operations",
        "Split the transaction, or raise --max-txn-ops of the members.",
    ),
    (
        "member not found",
        "See `quorate member list` for the members there are.",
    ),
    (
        "not enough started members",
        "Bring the members that are down back first.",
    ),
    (
        "unhealthy cluster",
        "Wait until the members see each other, then try again.",
    ),
    (
        "in sync with leader",
        "The learner has not caught up. Wait, then promote it again.",
    ),
    (
        "only promote a learner",
        "That member is a voter already; nothing is left to do.",
    ),
    (
        "too many learner members",
        "Promote or remove the learner there is, then add the next.",
    ),
    (
        "Peer URLs already exists",
        "Another member has that URL; see `quorate member list`.",
    ),
    (
        "bad leader transferee",
        "Only a voter can lead; see `quorate member list`.",
    ),
    ("not leader", "Leadership has moved. Run the command again."),
    (
        "requested lease not found",
        "The lease has ended. Grant a new one, or leave out --lease.",
    ),
];

/// What to do about a refusal, by the part of its text that never changes.
fn remedy(text: &str) -> &'static str {
    REMEDIES
        .iter()
        .find(|(part, _)| text.contains(part))
        .map_or("", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_cannot_serve_a_read_sends_it_on() {
        let status = Status::failed_precondition("etcdserver: rpc not supported for learner");
        assert!(may_ask_another(&status));
        assert!(!may_ask_another(&Status::failed_precondition(
            "etcdserver: not leader"
        )));
    }

    #[test]
    fn a_refusal_names_the_member_the_reason_and_the_remedy() {
        let status = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert_eq!(
            refusal("key \"k\"", "a:1".to_owned(), &status).to_string(),
            "key \"k\": a:1 refused: mvcc: required revision has been compacted\n\
             That revision is gone. Leave out --rev to read the newest."
        );
    }
}
