//! Which of several operators works: a Lease, renewed by compare-and-set.
//!
//! It only keeps two operators from doing the same work. Nothing that is true of a cluster depends
//! on it (H51): every step is safe while two operators run. A candidate trusts no clock of another
//! machine: it waits until a holder has not renewed for the whole duration by its own clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::time;
use crate::platform::doors::now;

/// A holder that has not renewed for this long has lost the lease.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(4);
/// A holder that could not renew for this long stops, well before another may begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between attempts.
const RETRY: Duration = Duration::from_secs(2);
/// The longest an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The Lease, and who we are.
#[derive(Clone)]
pub struct Elector {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    /// What another holder last wrote, and when we first saw it.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Elector {
    /// For the Lease of that name; `identity` is this process and no other.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Elector {
        Elector {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            seen: None,
        }
    }

    /// Waits until the Lease is ours, and returns how often it has changed hands.
    pub async fn acquire(&mut self) -> i32 {
        loop {
            match self.attempt().await {
                Ok(Some(transitions)) => return transitions,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "the lease cannot be had"),
            }
            sleep(RETRY).await;
        }
    }

    /// Keeps the Lease; returns when it is lost, and says why.
    pub async fn keep(&mut self) -> String {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW).await;
            let problem = loop {
                match self.attempt().await {
                    Ok(Some(_)) => {
                        renewed = Instant::now();
                        break None;
                    }
                    Ok(None) => break Some("another operator has it".to_owned()),
                    Err(error) if renewed.elapsed() >= GIVE_UP => break Some(error),
                    Err(_) => sleep(RETRY.min(GIVE_UP.saturating_sub(renewed.elapsed()))).await,
                }
            };
            if let Some(problem) = problem {
                return problem;
            }
        }
    }

    /// Gives the Lease back, so that the next operator need not wait.
    pub async fn release(&mut self) {
        let give = async {
            let lease = self.leases.get_opt(&self.name).await.ok().flatten()?;
            let spec = lease.spec.clone().unwrap_or_default();
            if spec.holder_identity.as_ref() != Some(&self.identity) {
                return None;
            }
            let spec = LeaseSpec {
                holder_identity: Some(String::new()),
                ..spec
            };
            self.replace(lease, spec).await.ok()
        };
        let _ = timeout(ATTEMPT, give).await;
    }

    /// Takes or renews the Lease if that may be; `None` while it is another's.
    async fn attempt(&mut self) -> Result<Option<i32>, String> {
        match timeout(ATTEMPT, self.once()).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {ATTEMPT:?}")),
        }
    }

    async fn once(&mut self) -> Result<Option<i32>, kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let spec = self.claimed(&LeaseSpec::default(), 0);
            return self.create(spec).await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        if holder == self.identity {
            let spec = self.claimed(&spec, transitions);
            return self.replace(lease, spec).await;
        }
        if !holder.is_empty() && !self.has_expired(&spec) {
            return Ok(None);
        }
        let spec = self.claimed(&LeaseSpec::default(), transitions.saturating_add(1));
        self.replace(lease, spec).await
    }

    /// The same record was seen for a whole duration, by our own clock.
    fn has_expired(&mut self, spec: &LeaseSpec) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == spec => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn claimed(&self, before: &LeaseSpec, transitions: i32) -> LeaseSpec {
        let now = MicroTime(time(now()).0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            acquire_time: before.acquire_time.clone().or_else(|| Some(now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    async fn create(&self, spec: LeaseSpec) -> Result<Option<i32>, kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        settled(self.leases.create(&PostParams::default(), &lease).await)
    }

    async fn replace(&self, lease: Lease, spec: LeaseSpec) -> Result<Option<i32>, kube::Error> {
        let lease = Lease {
            spec: Some(spec),
            ..lease
        };
        let params = PostParams::default();
        settled(self.leases.replace(&self.name, &params, &lease).await)
    }
}

/// A write that lost against another is no fault: it is another's Lease now.
fn settled(written: Result<Lease, kube::Error>) -> Result<Option<i32>, kube::Error> {
    match written {
        Ok(lease) => Ok(Some(
            lease
                .spec
                .and_then(|spec| spec.lease_transitions)
                .unwrap_or(0),
        )),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
