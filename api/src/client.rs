//! A thin client: a list of endpoints, timeouts, and the two ways of trying again.
//!
//! A read may be asked of one endpoint after another. A write is sent at most once: it moves on
//! only while no connection could be made, and once sent, an answer that does not say what
//! happened is reported as [`Error::OutcomeUnknown`] and never repeated.
//! Must not know: what is read or written.

use crate::admin::v1::admin_client::AdminClient;
use crate::etcdserverpb::cluster_client::ClusterClient;
use crate::etcdserverpb::kv_client::KvClient;
use crate::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::limits::RESPONSE_BYTES_MAX;
use crate::tls::{ClientTls, Material, reason};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Where to connect and how long to wait.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, `http://host:port` or `https://host:port`, in the order to try. Without a
    /// scheme TLS is spoken exactly when `tls` is given.
    pub endpoints: Vec<String>,
    /// What to trust and show on connections over TLS.
    pub tls: Option<ClientTls>,
    /// For one connection.
    pub connect_timeout: Duration,
    /// For one call on one endpoint.
    pub request_timeout: Duration,
}

impl Default for Options {
    /// The usual client port on this machine, 2 s to connect and 5 s for a call, as etcdctl has it.
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            tls: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// What went wrong, with the endpoint it concerns.
#[derive(Debug)]
pub enum Error {
    /// The list of endpoints is empty.
    NoEndpoint,
    /// The text of an endpoint cannot be used.
    BadEndpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it and what it should look like.
        reason: String,
    },
    /// No endpoint could be reached; nothing was sent.
    Unreachable {
        /// Every endpoint tried and why it failed.
        tried: Vec<(String, String)>,
    },
    /// A member answered with an error. A write did not happen.
    Refused {
        /// Who answered.
        endpoint: String,
        /// With what.
        status: Box<Status>,
    },
    /// A write was sent, and it may or may not have happened.
    OutcomeUnknown {
        /// Where it was sent.
        endpoint: String,
        /// How the call ended.
        status: Box<Status>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => {
                write!(
                    f,
                    "no endpoint given: name at least one, for example 127.0.0.1:2379"
                )
            }
            Self::BadEndpoint { endpoint, reason } => {
                write!(f, "endpoint {endpoint:?} cannot be used: {reason}")
            }
            Self::Unreachable { tried } => {
                write!(f, "no endpoint could be reached, nothing was sent")?;
                for (endpoint, why) in tried {
                    write!(f, "; {endpoint}: {why}")?;
                }
                Ok(())
            }
            Self::Refused { endpoint, status } => {
                write!(f, "{endpoint}: {} ({:?})", status.message(), status.code())
            }
            Self::OutcomeUnknown { endpoint, status } => write!(
                f,
                "{endpoint}: {} ({:?}): the write may or may not have happened, read before \
                 repeating it",
                status.message(),
                status.code()
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Endpoints with the connections made so far.
#[derive(Debug)]
pub struct Client {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    name: String,
    endpoint: Endpoint,
    /// `None`: plaintext.
    tls: Option<ClientTls>,
    channel: Mutex<Option<Channel>>,
}

impl Client {
    /// Checks the endpoints; connects to none of them.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] and [`Error::BadEndpoint`].
    pub fn new(options: &Options) -> Result<Self, Error> {
        if options.endpoints.is_empty() {
            return Err(Error::NoEndpoint);
        }
        let targets = options
            .endpoints
            .iter()
            .map(|text| Target::new(text, options));
        Ok(Self {
            targets: targets.collect::<Result<_, _>>()?,
        })
    }

    /// The endpoints as given, in order.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.name.as_str())
    }

    /// Asks one endpoint after another until one answers with anything but "unavailable".
    ///
    /// # Errors
    /// [`Error::Unreachable`] when none could be asked, else [`Error::Refused`] with the last
    /// answer.
    pub async fn read<T>(
        &self,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut tried = Vec::new();
        let mut last = None;
        for target in &self.targets {
            let channel = match target.connect().await {
                Ok(channel) => channel,
                Err(why) => {
                    tried.push((target.name.clone(), why));
                    continue;
                }
            };
            match call(channel).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if refused_by_tls(&status).is_some() => {
                    target.forget();
                    tried.extend(refused_by_tls(&status).map(|why| (target.name.clone(), why)));
                }
                Err(status) => {
                    let again = may_have_happened(status.code());
                    let refused = Error::Refused {
                        endpoint: target.name.clone(),
                        status: Box::new(status),
                    };
                    if !again {
                        return Err(refused);
                    }
                    target.forget();
                    last = Some(refused);
                }
            }
        }
        Err(last.unwrap_or(Error::Unreachable { tried }))
    }

    /// Sends a write once, to the first endpoint that can be reached.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Refused`]: it did not happen.
    /// [`Error::OutcomeUnknown`]: it may have.
    pub async fn write<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut tried = Vec::new();
        for target in &self.targets {
            let channel = match target.connect().await {
                Ok(channel) => channel,
                Err(why) => {
                    tried.push((target.name.clone(), why));
                    continue;
                }
            };
            return match call(channel).await {
                Ok(response) => Ok(response.into_inner()),
                Err(status) if refused_by_tls(&status).is_some() => {
                    target.forget();
                    tried.extend(refused_by_tls(&status).map(|why| (target.name.clone(), why)));
                    Err(Error::Unreachable { tried })
                }
                Err(status) => {
                    let (endpoint, unknown) =
                        (target.name.clone(), may_have_happened(status.code()));
                    let status = Box::new(status);
                    if unknown {
                        target.forget();
                        Err(Error::OutcomeUnknown { endpoint, status })
                    } else {
                        Err(Error::Refused { endpoint, status })
                    }
                }
            };
        }
        Err(Error::Unreachable { tried })
    }
}

impl Target {
    fn new(text: &str, options: &Options) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadEndpoint {
            endpoint: text.to_owned(),
            reason,
        };
        const FORMS: &str = "use host:port, http://host:port or https://host:port";
        let (secure, authority) = match text.split_once("://") {
            None => (options.tls.is_some(), text),
            Some(("http", authority)) => (false, authority),
            Some(("https", authority)) => (true, authority),
            Some((scheme, _)) => {
                return Err(bad(format!("scheme {scheme:?} is not supported, {FORMS}")));
            }
        };
        let tls = match (secure, &options.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => {
                let system = ClientTls::new(&Material::default());
                Some(system.map_err(|error| bad(error.to_string()))?)
            }
        };
        let scheme = if secure { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .map_err(|error| bad(format!("{error}, {FORMS}")))?;
        if endpoint.uri().port_u16().is_none() {
            return Err(bad("the port is missing, use host:port".to_owned()));
        }
        let endpoint = endpoint
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .tcp_nodelay(true);
        Ok(Self {
            name: text.to_owned(),
            endpoint,
            tls,
            channel: Mutex::new(None),
        })
    }

    async fn connect(&self) -> Result<Channel, String> {
        let known = self
            .channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(channel) = known {
            return Ok(channel);
        }
        let connected = match &self.tls {
            None => self.endpoint.connect().await,
            Some(tls) => tls.connect(&self.endpoint).await,
        };
        let channel = connected.map_err(|error| chain(&error))?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }

    /// The next call connects afresh, so that a dead peer is seen before anything is sent.
    fn forget(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A KV stub that accepts answers of any size etcd's clients accept.
#[must_use]
pub fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

/// A Cluster stub.
#[must_use]
pub fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

/// A Maintenance stub.
#[must_use]
pub fn maintenance(channel: Channel) -> MaintenanceClient<Channel> {
    MaintenanceClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

/// A stub of Quorate's admin service.
#[must_use]
pub fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel)
}

/// Whether a call that ended with `code` may have been carried out. Members answer Unavailable,
/// DeadlineExceeded or Canceled when they cannot tell; the transport adds Unknown and Internal
/// for a connection that broke.
#[must_use]
pub fn may_have_happened(code: Code) -> bool {
    match code {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// Why the member did not let us in: it has read nothing of what was sent.
fn refused_by_tls(status: &Status) -> Option<String> {
    reason::verdict_within(&chain(status)).map(|failure| failure.text)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoints: &[&str]) -> Result<Client, Error> {
        let endpoints = endpoints.iter().map(|text| (*text).to_owned()).collect();
        Client::new(&Options {
            endpoints,
            ..Options::default()
        })
    }

    #[test]
    fn an_endpoint_needs_a_port_and_a_scheme_we_speak() {
        let all = [
            "localhost:2379",
            "http://[::1]:2379",
            "https://localhost:2379",
        ];
        assert!(client(&all).is_ok());
        for bad in ["localhost", "ftp://localhost:2379", "http://", "a b:1"] {
            let error = client(&[bad]).expect_err(bad).to_string();
            assert!(
                error.contains(bad) && error.contains("host:port"),
                "{error}"
            );
        }
        assert!(
            client(&[])
                .expect_err("empty")
                .to_string()
                .contains("127.0.0.1:2379")
        );
    }

    #[test]
    fn only_codes_that_leave_the_outcome_open_are_unknown() {
        let open = (0..=16).filter(|code| may_have_happened(Code::from_i32(*code)));
        assert_eq!(open.collect::<Vec<_>>(), [1, 2, 4, 13, 14]);
    }
}
