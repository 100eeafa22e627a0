//! `/health`, `/livez` and `/readyz`, as etcd answers them.
//!
//! A node without a cluster is alive and never ready: it waits for the admin service.

use super::context::Context;
use super::percent;
use super::reply::{self, Problem};
use super::rest::get;
use crate::replica::{Phase, RequestError, Role};
use bytes::Bytes;
use http::{Response, StatusCode, request};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// How long a probe waits for a quorum.
const QUORUM_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    SerializableRead,
    DataCorruption,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::SerializableRead => "serializable_read",
            Self::DataCorruption => "data_corruption",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    /// `kind` is `livez` or `readyz`.
    async fn run(self, context: &Context, kind: &str) -> Result<(), String> {
        match self {
            Self::SerializableRead => match context.reader() {
                Ok(_) => Ok(()),
                // Killing a node that waits to be told its cluster would help nobody.
                Err(_) if kind == "livez" => Ok(()),
                Err(status) => Err(status.message.into_owned()),
            },
            Self::DataCorruption => intact(context),
            Self::LinearizableRead => linearizable(context).await,
            Self::NonLearner if context.is_learner() => Err("this member is a learner".to_owned()),
            Self::NonLearner => Ok(()),
        }
    }
}

/// Whether this member knows of no damage to what it stores: to its log, found when it was opened,
/// or to its history, found by whatever has read it since. etcd's check is by the alarm `CORRUPT`,
/// which somebody has to raise; here a member that knows takes itself out of service.
fn intact(context: &Context) -> Result<(), String> {
    if context.handle.status().phase == Phase::Repairing {
        return Err(RequestError::Repairing.to_string());
    }
    match context.handle.reader().and_then(|reader| reader.damage()) {
        Some(damage) => Err(damage),
        None => Ok(()),
    }
}

async fn linearizable(context: &Context) -> Result<(), String> {
    context
        .reader()
        .map_err(|status| status.message.into_owned())?;
    match tokio::time::timeout(QUORUM_TIMEOUT, context.handle.read_barrier()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("request timed out".to_owned()),
    }
}

/// `/livez` and `/livez/{check}`
pub(super) async fn livez(
    context: &Context,
    head: &request::Parts,
) -> Result<Response<Bytes>, Problem> {
    run(context, head, "livez", &[Check::SerializableRead]).await
}

/// `/readyz` and `/readyz/{check}`
pub(super) async fn readyz(
    context: &Context,
    head: &request::Parts,
) -> Result<Response<Bytes>, Problem> {
    let checks = [
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ];
    run(context, head, "readyz", &checks).await
}

async fn run(
    context: &Context,
    head: &request::Parts,
    kind: &'static str,
    checks: &[Check],
) -> Result<Response<Bytes>, Problem> {
    get(head, || Ok(()))?;
    let rest = head.uri.path()[1 + kind.len()..].trim_start_matches('/');
    let options = Options::parse(head)?;
    let chosen: Vec<Check> = if rest.is_empty() {
        let excluded = |check: &Check| options.exclude.iter().any(|name| name == check.name());
        checks
            .iter()
            .copied()
            .filter(|check| !excluded(check))
            .collect()
    } else {
        let known = checks.iter().copied().find(|check| check.name() == rest);
        let names: Vec<&str> = checks.iter().map(|check| check.name()).collect();
        vec![known.ok_or_else(|| {
            Problem::missing(
                format!("/{kind} has no check {rest:?}"),
                format!("Checks: {}.", names.join(", ")),
            )
        })?]
    };
    let (mut lines, mut failed) = (String::new(), false);
    for check in chosen {
        let outcome = check.run(context, kind).await;
        record(context, kind, check.name(), outcome.is_ok());
        // Writing to a string cannot fail.
        let _ = match outcome {
            Ok(()) => writeln!(lines, "[+]{} ok", check.name()),
            Err(why) => {
                failed = true;
                writeln!(lines, "[-]{} failed: {why}", check.name())
            }
        };
    }
    if failed {
        return Ok(reply::text(StatusCode::SERVICE_UNAVAILABLE, lines));
    }
    let body = if options.verbose {
        lines + "ok\n"
    } else {
        "ok\n".to_owned()
    };
    Ok(reply::text(StatusCode::OK, body))
}

fn record(context: &Context, kind: &str, name: &str, ok: bool) {
    let metrics = &context.metrics.server;
    metrics
        .healthcheck
        .with_label_values(&[kind, name])
        .set(i64::from(ok));
    let status = if ok { "success" } else { "error" };
    metrics
        .healthchecks
        .with_label_values(&[kind, name, status])
        .inc();
}

#[derive(Default)]
struct Options {
    verbose: bool,
    serializable: bool,
    exclude: Vec<String>,
}

impl Options {
    /// Unknown parameters and unknown names to exclude mean nothing, as in etcd.
    fn parse(head: &request::Parts) -> Result<Self, Problem> {
        let pairs = percent::query(head.uri.query().unwrap_or("")).map_err(|bad| {
            Problem::bad(
                format!(
                    "the query of {} has a broken escape at byte {}",
                    head.uri, bad.position
                ),
                "Write a percent sign as %25.",
            )
        })?;
        let mut options = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "verbose" => options.verbose = true,
                "serializable" => options.serializable = value == b"true",
                "exclude" => options
                    .exclude
                    .push(String::from_utf8_lossy(&value).into_owned()),
                _ => {}
            }
        }
        Ok(options)
    }
}

#[derive(Serialize)]
struct Health<'a> {
    health: &'static str,
    reason: &'a str,
}

/// `/health`
pub(super) async fn health(
    context: &Context,
    head: &request::Parts,
) -> Result<Response<Bytes>, Problem> {
    get(head, || Ok(()))?;
    let options = Options::parse(head)?;
    let replica = context.handle.status();
    let learner = replica.role == Role::Learner;
    let outcome = if options.serializable || learner {
        context
            .reader()
            .map(|_| ())
            .map_err(|status| format!("RANGE ERROR:{}", status.message))
    } else if replica.leader == 0 {
        Err("RAFT NO LEADER".to_owned())
    } else {
        linearizable(context)
            .await
            .map_err(|why| format!("RANGE ERROR:{why}"))
    };
    let metrics = &context.metrics.server;
    Ok(match outcome {
        Ok(()) => {
            metrics.health_success.inc();
            reply::json(
                StatusCode::OK,
                &Health {
                    health: "true",
                    reason: "",
                },
            )
        }
        Err(reason) => {
            metrics.health_failures.inc();
            let body = Health {
                health: "false",
                reason: &reason,
            };
            reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    })
}
