//! The plain HTTP surface: keys for `curl`, probes, version, status and metrics.
//!
//! A thin codec: routes and JSON here, what a request does in `handlers`. Every mistake is
//! answered with JSON that says what happened and what to do.
//! Must not know: gRPC, HTTP versions.

use super::context::Context;
use super::handlers::kv as handler;
use super::percent;
use super::reply::{self, Problem};
use super::{info, probes};
use crate::kv::{DeleteRange, Interval, KeyValue, Put, RangeRequest, Revision};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{Method, Response, StatusCode, request};
use serde::{Deserialize, Serialize};
use tonic::Code;

/// Keys in one list, unless `limit` asks for fewer or more.
const LIST_DEFAULT: i64 = 1_000;

/// The most that `limit` may ask for; `after` gets the rest.
const LIST_MAX: i64 = 10_000;

const KEY_REMEDY: &str = "Send GET, PUT or DELETE to /key/NAME, percent-encoding bytes that a \
    path cannot hold, or GET /key?prefix=TEXT&limit=N for a list.";
const PUT_REMEDY: &str = "Send a JSON object with one field: {\"value\": \"text\"}, or \
    {\"value_base64\": \"…\"} for bytes that are not UTF-8.";

/// Why there is no request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than is accepted.
    TooLarge { bytes_max: usize },
    /// The client broke off.
    Broken,
}

/// Answers one request.
pub(super) async fn answer(
    context: &Context,
    head: &request::Parts,
    body: Result<Bytes, BodyError>,
) -> Response<Bytes> {
    let path = head.uri.path();
    let (route, answer) = match path {
        "/health" => ("/health", probes::health(context, head).await),
        "/version" => ("/version", get(head, || Ok(info::version(context)))),
        "/status" => ("/status", get(head, || Ok(info::status(context)))),
        "/metrics" => ("/metrics", get(head, || Ok(info::metrics(context)))),
        "/key" | "/key/" => ("/key", list(context, head).await),
        _ if path == "/livez" || path.starts_with("/livez/") => {
            ("/livez", probes::livez(context, head).await)
        }
        _ if path == "/readyz" || path.starts_with("/readyz/") => {
            ("/readyz", probes::readyz(context, head).await)
        }
        _ if path.starts_with("/key/") => (
            "/key/{key}",
            key(context, head, &path["/key/".len()..], body).await,
        ),
        _ => ("other", Err(unknown_path(path))),
    };
    let response = answer.unwrap_or_else(Problem::into_response);
    let status = response.status();
    context
        .metrics
        .server
        .http_requests
        .with_label_values(&[route, status.as_str()])
        .inc();
    response
}

/// Answers GET and refuses every other method.
pub(super) fn get<T>(
    head: &request::Parts,
    answer: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, Problem> {
    if head.method == Method::GET {
        answer()
    } else {
        Err(wrong_method(head, "GET"))
    }
}

fn wrong_method(head: &request::Parts, allow: &'static str) -> Problem {
    Problem {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: Code::Unimplemented,
        message: format!("{} is not supported on {}", head.method, head.uri.path()),
        remedy: format!("Use one of: {allow}."),
        allow: Some(allow),
    }
}

fn unknown_path(path: &str) -> Problem {
    if path.starts_with("/v3") {
        return Problem {
            status: StatusCode::NOT_IMPLEMENTED,
            code: Code::Unimplemented,
            message: format!("the JSON gateway ({path}) is not served by this version"),
            remedy: format!("Use gRPC on the same port, or: {KEY_REMEDY}"),
            allow: None,
        };
    }
    Problem::missing(
        format!("there is nothing at {path}"),
        "Known paths: /key/NAME, /key?prefix=TEXT, /status, /health, /livez, /readyz, /version, \
         /metrics. gRPC is served on the same port.",
    )
}

/// One pair as JSON. A key or value that is not UTF-8 travels as base64 under another name.
#[derive(Serialize)]
struct KeyValueJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    version: i64,
    create_revision: i64,
    mod_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    lease: i64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// As text if it is, else as base64.
fn textual(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

impl From<KeyValue> for KeyValueJson {
    fn from(pair: KeyValue) -> Self {
        let (key, key_base64) = textual(&pair.key);
        let (value, value_base64) = textual(&pair.value);
        Self {
            key,
            key_base64,
            value,
            value_base64,
            version: pair.version,
            create_revision: pair.create_revision.0,
            mod_revision: pair.mod_revision.0,
            lease: pair.lease.0,
        }
    }
}

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    pair: KeyValueJson,
    /// The store's revision.
    revision: i64,
}

#[derive(Serialize)]
struct Listed {
    kvs: Vec<KeyValueJson>,
    count: i64,
    more: bool,
    revision: i64,
}

#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<i64>,
    revision: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    value: Option<String>,
    value_base64: Option<String>,
}

/// `/key/{key}`
async fn key(
    context: &Context,
    head: &request::Parts,
    encoded: &str,
    body: Result<Bytes, BodyError>,
) -> Result<Response<Bytes>, Problem> {
    let key = percent::decode(encoded).map_err(|bad| malformed("path", head, bad))?;
    let key = Bytes::from(key);
    let _room = context
        .admission
        .enter(body.as_ref().map_or(0, Bytes::len))?;
    match head.method {
        Method::GET => get_key(context, head, key).await,
        Method::PUT => put_key(context, key, body).await,
        Method::DELETE => delete_key(context, key).await,
        _ => Err(wrong_method(head, "GET, PUT, DELETE")),
    }
}

async fn get_key(
    context: &Context,
    head: &request::Parts,
    key: Bytes,
) -> Result<Response<Bytes>, Problem> {
    let mut request = RangeRequest::new(Interval::Key(key.clone()));
    for (name, value) in query(head)? {
        match name.as_str() {
            "serializable" => request.serializable = flag(&name, &value)?,
            "revision" => request.revision = Revision(number(&name, &value, 0, i64::MAX)?),
            _ => return Err(unknown_parameter(&name, "serializable, revision")),
        }
    }
    let result = handler::read(context, request).await?;
    match result.kvs.into_iter().next() {
        Some(pair) => {
            let found = Found {
                pair: pair.into(),
                revision: result.revision.0,
            };
            Ok(reply::json(StatusCode::OK, &found))
        }
        None => Err(Problem::missing(
            format!("key {:?} does not exist", String::from_utf8_lossy(&key)),
            format!("Create it with PUT on the same path. {PUT_REMEDY}"),
        )),
    }
}

async fn put_key(
    context: &Context,
    key: Bytes,
    body: Result<Bytes, BodyError>,
) -> Result<Response<Bytes>, Problem> {
    let body = body.map_err(|error| match error {
        BodyError::TooLarge { bytes_max } => Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Problem::bad(
                format!("the body is larger than the {bytes_max} bytes that are accepted"),
                "Store a smaller value, or raise --max-request-bytes on every member.",
            )
        },
        BodyError::Broken => Problem::bad("the body broke off", "Send the request again."),
    })?;
    let value = put_value(&body)?;
    let (key_text, key_base64) = textual(&key);
    let put = Put {
        key,
        value,
        ..Put::default()
    };
    let (revision, _) = handler::write_put(context, put).await.map_err(|status| {
        let too_large = status == super::status::REQUEST_TOO_LARGE;
        let problem = Problem::from(status);
        if too_large {
            Problem {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                remedy: "Store a smaller value, or raise --max-request-bytes on every member."
                    .to_owned(),
                ..problem
            }
        } else {
            problem
        }
    })?;
    let changed = Changed {
        key: key_text,
        key_base64,
        deleted: None,
        revision: revision.0,
    };
    Ok(reply::json(StatusCode::OK, &changed))
}

fn put_value(body: &[u8]) -> Result<Bytes, Problem> {
    if body.is_empty() {
        return Err(Problem::bad("the body is empty", PUT_REMEDY));
    }
    let parsed: PutBody = serde_json::from_slice(body)
        .map_err(|error| Problem::bad(format!("the body cannot be used: {error}"), PUT_REMEDY))?;
    match (parsed.value, parsed.value_base64) {
        (Some(text), None) => Ok(Bytes::from(text)),
        (None, Some(text)) => BASE64
            .decode(text.as_bytes())
            .map(Bytes::from)
            .map_err(|error| {
                Problem::bad(
                    format!("value_base64 is not base64: {error}"),
                    "Encode the value with the standard alphabet and padding, as `base64` does.",
                )
            }),
        (Some(_), Some(_)) => Err(Problem::bad(
            "both value and value_base64 are given",
            PUT_REMEDY,
        )),
        (None, None) => Err(Problem::bad(
            "neither value nor value_base64 is given",
            PUT_REMEDY,
        )),
    }
}

async fn delete_key(context: &Context, key: Bytes) -> Result<Response<Bytes>, Problem> {
    let (key_text, key_base64) = textual(&key);
    let delete = DeleteRange {
        interval: Interval::Key(key),
        prev_kv: false,
    };
    let (revision, result) = handler::write_delete(context, delete).await?;
    let changed = Changed {
        key: key_text,
        key_base64,
        deleted: Some(result.deleted),
        revision: revision.0,
    };
    Ok(reply::json(StatusCode::OK, &changed))
}

/// `/key?prefix=…&limit=…&after=…`
async fn list(context: &Context, head: &request::Parts) -> Result<Response<Bytes>, Problem> {
    if head.method != Method::GET {
        let mut problem = wrong_method(head, "GET");
        problem.remedy = format!("A key is missing in the path. {KEY_REMEDY}");
        return Err(problem);
    }
    let (mut prefix, mut after, mut limit) = (None, None, LIST_DEFAULT);
    let (mut serializable, mut keys_only) = (false, false);
    for (name, value) in query(head)? {
        match name.as_str() {
            "prefix" => prefix = Some(value),
            "after" => after = Some(value),
            "limit" => limit = number(&name, &value, 1, LIST_MAX)?,
            "serializable" => serializable = flag(&name, &value)?,
            "keys_only" => keys_only = flag(&name, &value)?,
            _ => {
                let known = "prefix, after, limit, serializable, keys_only";
                return Err(unknown_parameter(&name, known));
            }
        }
    }
    let Some(prefix) = prefix else {
        return Err(Problem::bad(
            "the parameter prefix is missing",
            "Send GET /key?prefix=TEXT; an empty prefix lists every key.",
        ));
    };
    let _room = context.admission.enter(0)?;
    let interval = page(Bytes::from(prefix), after)?;
    let request = RangeRequest {
        limit,
        serializable,
        keys_only,
        ..RangeRequest::new(interval)
    };
    let result = handler::read(context, request).await?;
    let listed = Listed {
        kvs: result.kvs.into_iter().map(KeyValueJson::from).collect(),
        count: result.count,
        more: result.more,
        revision: result.revision.0,
    };
    Ok(reply::json(StatusCode::OK, &listed))
}

/// The keys of a prefix, or those of them behind a key.
fn page(prefix: Bytes, after: Option<Vec<u8>>) -> Result<Interval, Problem> {
    let Some(mut start) = after else {
        return Ok(Interval::prefix(prefix));
    };
    if !start.starts_with(&prefix) {
        return Err(Problem::bad(
            format!(
                "after {:?} does not begin with prefix {:?}",
                String::from_utf8_lossy(&start),
                String::from_utf8_lossy(&prefix)
            ),
            "Pass the last key of the previous list as after, with the same prefix.",
        ));
    }
    // The smallest key behind it.
    start.push(0);
    let start = Bytes::from(start);
    Ok(match Interval::prefix(prefix) {
        Interval::Between { end, .. } => Interval::Between { start, end },
        Interval::Key(_) | Interval::From(_) => Interval::From(start),
    })
}

fn query(head: &request::Parts) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    percent::query(head.uri.query().unwrap_or("")).map_err(|bad| malformed("query", head, bad))
}

fn malformed(part: &str, head: &request::Parts, bad: percent::Malformed) -> Problem {
    Problem::bad(
        format!(
            "the {part} of {} has a broken escape at byte {}",
            head.uri, bad.position
        ),
        "Write each byte that cannot stand for itself as % and two hexadecimal digits; a percent \
         sign is %25.",
    )
}

fn unknown_parameter(name: &str, known: &str) -> Problem {
    Problem::bad(
        format!("unknown parameter {name:?}"),
        format!("Known here: {known}."),
    )
}

fn flag(name: &str, value: &[u8]) -> Result<bool, Problem> {
    match value {
        b"" | b"true" | b"1" => Ok(true),
        b"false" | b"0" => Ok(false),
        _ => Err(Problem::bad(
            format!(
                "{name}={} is neither true nor false",
                String::from_utf8_lossy(value)
            ),
            format!("Write {name}=true or leave it out."),
        )),
    }
}

fn number(name: &str, value: &[u8], min: i64, max: i64) -> Result<i64, Problem> {
    let parsed = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            Problem::bad(
                format!(
                    "{name}={} is not a number in range",
                    String::from_utf8_lossy(value)
                ),
                format!("Give a whole number from {min} to {max}."),
            )
        })
}
