//! gRPC without a framework: routes by path, takes the message out of its frame, runs the handler
//! in place and writes answer and trailers by hand.
//!
//! A unary call costs no task and no box of its own here, which is most of what separates a
//! request of a few microseconds from one of ten or more.
//! Must not know: what a handler does with a message.
//! Caveat: message compression is refused; none of etcd's clients uses it unless told to.

use super::context::Context;
use super::handlers::{cluster, health, kv, maintenance};
use super::status::{self, Status};
use super::streaming;
use crate::metrics::{MethodMetrics, ServerMetrics};
use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use prost::Message;
use std::future::poll_fn;
use std::time::Duration;
use tonic::Code;

const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const CLIENT_API_VERSION: HeaderName = HeaderName::from_static("client-api-version");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Bytes before each message: a flag and the length.
const FRAME_HEADER_BYTES: usize = 5;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    HashKv,
    MoveLeader,
    HealthCheck,
    /// A stream, or a service that a library answers.
    Streaming,
    /// On the wire, not in this version.
    Unserved,
}

/// How often each side speaks, as the label `grpc_type` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

use Kind::{BidiStream, ServerStream, Unary};

/// Every method, the busiest first: the search goes from the top.
const METHODS: &[(&str, Kind, Call)] = &[
    ("/etcdserverpb.KV/Range", Unary, Call::Range),
    ("/etcdserverpb.KV/Put", Unary, Call::Put),
    ("/etcdserverpb.KV/Txn", Unary, Call::Txn),
    ("/etcdserverpb.KV/DeleteRange", Unary, Call::DeleteRange),
    ("/etcdserverpb.KV/Compact", Unary, Call::Compact),
    ("/etcdserverpb.KV/RangeStream", ServerStream, Call::Unserved),
    ("/etcdserverpb.Watch/Watch", BidiStream, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseGrant", Unary, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseRevoke", Unary, Call::Unserved),
    (
        "/etcdserverpb.Lease/LeaseKeepAlive",
        BidiStream,
        Call::Unserved,
    ),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Unary, Call::Unserved),
    ("/etcdserverpb.Lease/LeaseLeases", Unary, Call::Unserved),
    ("/etcdserverpb.Cluster/MemberAdd", Unary, Call::MemberAdd),
    (
        "/etcdserverpb.Cluster/MemberRemove",
        Unary,
        Call::MemberRemove,
    ),
    (
        "/etcdserverpb.Cluster/MemberUpdate",
        Unary,
        Call::MemberUpdate,
    ),
    ("/etcdserverpb.Cluster/MemberList", Unary, Call::MemberList),
    (
        "/etcdserverpb.Cluster/MemberPromote",
        Unary,
        Call::MemberPromote,
    ),
    ("/etcdserverpb.Maintenance/Alarm", Unary, Call::Alarm),
    ("/etcdserverpb.Maintenance/Status", Unary, Call::Status),
    (
        "/etcdserverpb.Maintenance/Defragment",
        Unary,
        Call::Defragment,
    ),
    ("/etcdserverpb.Maintenance/Hash", Unary, Call::Unserved),
    ("/etcdserverpb.Maintenance/HashKV", Unary, Call::HashKv),
    (
        "/etcdserverpb.Maintenance/Snapshot",
        ServerStream,
        Call::Unserved,
    ),
    (
        "/etcdserverpb.Maintenance/MoveLeader",
        Unary,
        Call::MoveLeader,
    ),
    ("/etcdserverpb.Maintenance/Downgrade", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthEnable", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthDisable", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/AuthStatus", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/Authenticate", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserAdd", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserGet", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserList", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserDelete", Unary, Call::Unserved),
    (
        "/etcdserverpb.Auth/UserChangePassword",
        Unary,
        Call::Unserved,
    ),
    ("/etcdserverpb.Auth/UserGrantRole", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/UserRevokeRole", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleAdd", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleGet", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleList", Unary, Call::Unserved),
    ("/etcdserverpb.Auth/RoleDelete", Unary, Call::Unserved),
    (
        "/etcdserverpb.Auth/RoleGrantPermission",
        Unary,
        Call::Unserved,
    ),
    (
        "/etcdserverpb.Auth/RoleRevokePermission",
        Unary,
        Call::Unserved,
    ),
    ("/grpc.health.v1.Health/Check", Unary, Call::HealthCheck),
    (
        "/grpc.health.v1.Health/Watch",
        ServerStream,
        Call::Streaming,
    ),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        BidiStream,
        Call::Streaming,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        BidiStream,
        Call::Streaming,
    ),
];

/// One method with its counters.
pub(super) struct Method {
    path: &'static str,
    call: Call,
    pub(super) counters: MethodMetrics,
}

/// All methods.
pub(super) struct Methods {
    methods: Vec<Method>,
    /// By known API version, and last those of any other.
    api_versions: Vec<(&'static str, prometheus::IntCounter)>,
    /// Calls that name no version.
    api_unknown: prometheus::IntCounter,
}

impl Methods {
    pub(super) fn new(metrics: &ServerMetrics) -> Self {
        let method = |&(path, kind, call): &(&'static str, Kind, Call)| {
            let kind = match kind {
                Unary => "unary",
                ServerStream => "server_stream",
                BidiStream => "bidi_stream",
            };
            let (service, name) = split(path).expect("the table holds whole paths");
            Method {
                path,
                call,
                counters: metrics.method(kind, service, name),
            }
        };
        let version = |text: &'static str| {
            (
                text,
                metrics.client_requests.with_label_values(&["unary", text]),
            )
        };
        Self {
            methods: METHODS.iter().map(method).collect(),
            api_versions: ["3.7", "3.6", "3.5", "3.4", "other"].map(version).into(),
            api_unknown: metrics
                .client_requests
                .with_label_values(&["unary", "unknown"]),
        }
    }

    fn find(&self, path: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.path == path)
    }

    /// Counts the API version a client claims; every text we do not know is one label.
    fn count_api_version(&self, headers: &HeaderMap) -> Result<(), Status> {
        let Some(claimed) = headers.get(CLIENT_API_VERSION) else {
            self.api_unknown.inc();
            return Ok(());
        };
        let text = std::str::from_utf8(claimed.as_bytes())
            .map_err(|_| status::INVALID_CLIENT_API_VERSION)?;
        let known = self
            .api_versions
            .iter()
            .find(|(version, _)| *version == text);
        if let Some((_, counter)) = known.or(self.api_versions.last()) {
            counter.inc();
        }
        Ok(())
    }
}

/// `/package.Service/Method` in its two parts.
fn split(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

/// Whether the request is gRPC's, by its content type.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Serves one call from its head to its trailers.
pub(super) async fn serve(
    context: &Context,
    head: request::Parts,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let path = head.uri.path();
    let Some(method) = context.methods.find(path) else {
        return refuse(&mut respond, &unknown(path));
    };
    method.counters.started.inc();
    let code = match method.call {
        Call::Streaming => streaming::serve(context, head, body, respond).await,
        Call::Unserved => {
            let text = format!("quorate: {} is not served by this version", &path[1..]);
            let status = Status::new(Code::Unimplemented, text);
            refuse(&mut respond, &status);
            status.code
        }
        call => match unary(context, method, call, &head.headers, body).await {
            Ok(frame) => {
                context
                    .metrics
                    .server
                    .client_sent_bytes
                    .inc_by(frame.len() as u64);
                method.counters.sent.inc();
                answer(&mut respond, frame);
                Code::Ok
            }
            Err(status) => {
                refuse(&mut respond, &status);
                status.code
            }
        },
    };
    method.counters.handled[code as usize].inc();
}

fn unknown(path: &str) -> Status {
    let text = match split(path) {
        Some((service, method)) if has_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Status::new(Code::Unimplemented, text)
}

fn has_service(service: &str) -> bool {
    METHODS
        .iter()
        .any(|(path, ..)| split(path).is_some_and(|(known, _)| known == service))
}

async fn unary(
    context: &Context,
    method: &Method,
    call: Call,
    headers: &HeaderMap,
    body: RecvStream,
) -> Result<Bytes, Status> {
    let message = read_message(body, headers, context.receive_bytes_max()).await?;
    context
        .metrics
        .server
        .client_received_bytes
        .inc_by(message.len() as u64);
    method.counters.received.inc();
    before(context, call, headers)?;
    let _room = context.admission.enter(message.len()).inspect_err(|_| {
        context.metrics.server.refused_overload.inc();
    })?;
    let answer = dispatch(context, call, message);
    match headers.get(GRPC_TIMEOUT).and_then(parse_timeout) {
        Some(timeout) => tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or(Err(status::DEADLINE_EXCEEDED)),
        None => answer.await,
    }
}

/// The checks that come before a handler sees the request, in etcd's order.
fn before(context: &Context, call: Call, headers: &HeaderMap) -> Result<(), Status> {
    if call == Call::HealthCheck {
        return Ok(());
    }
    let replica = context.handle.status();
    if call != Call::Status {
        context.check_phase(&replica)?;
    }
    let learner = replica.role == crate::replica::Role::Learner;
    // A serializable range is allowed on learners: its handler looks at the request.
    if learner && !matches!(call, Call::Status | Call::Range) {
        return Err(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    context.methods.count_api_version(headers)?;
    if replica.leader == 0 && headers.get(HAS_LEADER).is_some_and(|value| value == "true") {
        return Err(status::NO_LEADER);
    }
    Ok(())
}

async fn dispatch(context: &Context, call: Call, message: Bytes) -> Result<Bytes, Status> {
    match call {
        Call::Range => kv::range(context, decode(message)?).await,
        Call::Put => encode(&kv::put(context, decode(message)?).await?),
        Call::DeleteRange => encode(&kv::delete_range(context, decode(message)?).await?),
        Call::Txn => encode(&kv::txn(context, decode(message)?).await?),
        Call::Compact => encode(&kv::compact(context, decode(message)?).await?),
        Call::MemberAdd => encode(&cluster::add(context, decode(message)?).await?),
        Call::MemberRemove => encode(&cluster::remove(context, decode(message)?).await?),
        Call::MemberUpdate => encode(&cluster::update(context, decode(message)?).await?),
        Call::MemberList => encode(&cluster::list(context, decode(message)?).await?),
        Call::MemberPromote => encode(&cluster::promote(context, decode(message)?).await?),
        Call::Alarm => encode(&maintenance::alarm(context, decode(message)?).await?),
        Call::Status => encode(&maintenance::status(context, decode(message)?)?),
        Call::Defragment => encode(&maintenance::defragment(decode(message)?)),
        Call::HashKv => encode(&maintenance::hash_kv(context, decode(message)?).await?),
        Call::MoveLeader => encode(&maintenance::move_leader(context, decode(message)?).await?),
        Call::HealthCheck => encode(&health::check(context, decode(message)?)?),
        Call::Streaming | Call::Unserved => {
            Err(Status::new(Code::Internal, "quorate: not a unary call"))
        }
    }
}

/// The message in its bytes.
pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        Status::new(
            Code::Internal,
            format!("grpc: error unmarshalling request: {error}"),
        )
    })
}

/// The message in its frame.
pub(super) fn encode<M: Message>(message: &M) -> Result<Bytes, Status> {
    let len = message.encoded_len();
    let Ok(wire_len) = u32::try_from(len) else {
        let text = format!(
            "grpc: trying to send message larger than max ({len} vs. {})",
            u32::MAX
        );
        return Err(Status::new(Code::ResourceExhausted, text));
    };
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + len);
    frame.put_u8(0);
    frame.put_u32(wire_len);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// Reads the one message of a unary call. Shares the bytes it arrived in when they are in one piece.
pub(super) async fn read_message(
    mut body: RecvStream,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<Bytes, Status> {
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(chunk) = poll_fn(|task| body.poll_data(task)).await {
        let chunk = chunk.map_err(|error| {
            Status::new(
                Code::Cancelled,
                format!("grpc: the request broke off: {error}"),
            )
        })?;
        // The window must be given back or the client stalls; it fails only on a dead stream.
        let _ = body.flow_control().release_capacity(chunk.len());
        if joined.is_empty() && whole.is_empty() {
            whole = chunk;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&whole);
            }
            joined.extend_from_slice(&chunk);
        }
        let so_far = if joined.is_empty() {
            &whole[..]
        } else {
            &joined[..]
        };
        check_length(so_far, bytes_max)?;
        if body.is_end_stream() {
            break;
        }
    }
    let frame = if joined.is_empty() {
        whole
    } else {
        joined.freeze()
    };
    strip_frame(frame, headers, bytes_max)
}

/// Refuses a message by the length it announces, before it is all here, and anything beyond it.
fn check_length(so_far: &[u8], bytes_max: usize) -> Result<(), Status> {
    let Some(header) = so_far.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(());
    };
    let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if len > bytes_max {
        let text = format!("grpc: received message larger than max ({len} vs. {bytes_max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    if so_far.len() > FRAME_HEADER_BYTES + len {
        return Err(Status::new(
            Code::Internal,
            "grpc: more bytes than the one message of a unary call announces",
        ));
    }
    Ok(())
}

fn strip_frame(mut frame: Bytes, headers: &HeaderMap, bytes_max: usize) -> Result<Bytes, Status> {
    check_length(&frame, bytes_max)?;
    let Some(header) = frame.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(Status::new(
            Code::Internal,
            "grpc: the request ended before its message began",
        ));
    };
    let len = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    match header[0] {
        0 => {}
        1 => return Err(compressed(headers)),
        flag => {
            let text = format!("grpc: received unexpected payload format {flag}");
            return Err(Status::new(Code::Internal, text));
        }
    }
    if frame.len() < FRAME_HEADER_BYTES + len {
        return Err(Status::new(
            Code::Internal,
            "grpc: the request ended inside its message",
        ));
    }
    Ok(frame.split_off(FRAME_HEADER_BYTES))
}

fn compressed(headers: &HeaderMap) -> Status {
    match headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Status::new(
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        ),
        Some(encoding) => Status::new(
            Code::Unimplemented,
            format!(
                "grpc: Decompressor is not installed for grpc-encoding {:?}",
                String::from_utf8_lossy(encoding)
            ),
        ),
    }
}

/// Reads the header `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Head, message and trailers. Errors mean that the client has gone, which ends the call anyway.
fn answer(respond: &mut SendResponse<Bytes>, frame: Bytes) {
    let mut head = http::Response::new(());
    head.headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE_GRPC);
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    if stream.send_data(frame, false).is_ok() {
        let _ = stream.send_trailers(trailers);
    }
}

/// A refusal is only a head.
pub(super) fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::OK;
    head.headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE_GRPC);
    head.headers_mut().extend(trailers(status));
    let _ = respond.send_response(head, true);
}

/// The trailers that carry a status.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(status.code as i32));
    if !status.message.is_empty() {
        let text = escape(&status.message);
        let value = HeaderValue::from_str(&text).expect("escaped text is printable ASCII");
        trailers.insert(GRPC_MESSAGE, value);
    }
    trailers
}

/// gRPC's percent-encoding: everything but printable ASCII, and the percent sign itself.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100;

    fn strip(frame: &[u8]) -> Result<Bytes, Status> {
        strip_frame(Bytes::copy_from_slice(frame), &HeaderMap::new(), MAX)
    }

    #[test]
    fn a_whole_frame_gives_its_message() {
        assert_eq!(
            strip(&[0, 0, 0, 0, 2, 7, 8]).unwrap(),
            Bytes::from_static(&[7, 8])
        );
        assert_eq!(strip(&[0, 0, 0, 0, 0]).unwrap(), Bytes::new());
    }

    #[test]
    fn hostile_frames_are_refused_with_what_is_wrong() {
        let cases: [(&[u8], Code, &str); 8] = [
            (&[], Code::Internal, "before its message began"),
            (&[0, 0, 0], Code::Internal, "before its message began"),
            (&[0, 0, 0, 0, 2, 7], Code::Internal, "inside its message"),
            (&[0, 0, 0, 0, 1, 7, 8], Code::Internal, "more bytes"),
            (
                &[0, 0, 0, 0, 101],
                Code::ResourceExhausted,
                "larger than max (101 vs. 100)",
            ),
            (
                &[0, 255, 255, 255, 255],
                Code::ResourceExhausted,
                "(4294967295 vs. 100)",
            ),
            (&[1, 0, 0, 0, 1, 7], Code::Internal, "compressed flag set"),
            (&[9, 0, 0, 0, 1, 7], Code::Internal, "payload format 9"),
        ];
        for (frame, code, text) in cases {
            let status = strip(frame).expect_err("hostile");
            assert_eq!(status.code, code, "{frame:?}");
            assert!(
                status.message.contains(text),
                "{frame:?}: {}",
                status.message
            );
        }
    }

    #[test]
    fn compression_is_named_when_it_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
        let frame = Bytes::from_static(&[1, 0, 0, 0, 1, 7]);
        let status = strip_frame(frame, &headers, MAX).expect_err("compressed");
        assert_eq!(status.code, Code::Unimplemented);
        assert!(status.message.contains("\"gzip\""));
    }

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("4999m"), Some(Duration::from_millis(4999)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "5", "-1S", "123456789S", "5x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn messages_for_trailers_are_printable_ascii() {
        assert_eq!(escape("100 % ü\n"), "100 %25 %C3%BC%0A");
        let status = Status::new(Code::Unavailable, "ü");
        assert_eq!(trailers(&status).get("grpc-message").unwrap(), "%C3%BC");
        assert_eq!(trailers(&status).get("grpc-status").unwrap(), "14");
    }

    #[test]
    fn every_rpc_of_the_descriptors_has_a_row_of_the_same_kind() {
        let set = prost_types::FileDescriptorSet::decode(quorate_api::DESCRIPTORS).unwrap();
        let mut found = 0;
        for file in set
            .file
            .iter()
            .filter(|file| file.package() == "etcdserverpb")
        {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/etcdserverpb.{}/{}", service.name(), method.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Unary,
                        (false, true) => ServerStream,
                        (true, _) => BidiStream,
                    };
                    let row = METHODS.iter().find(|(p, ..)| *p == path);
                    assert_eq!(row.map(|row| row.1), Some(kind), "{path}");
                    found += 1;
                }
            }
        }
        assert_eq!(found, 42);
    }

    #[test]
    fn an_unknown_path_says_which_part_is_unknown() {
        let text = |path| unknown(path).message.into_owned();
        assert_eq!(
            text("/etcdserverpb.KV/Nope"),
            "unknown method Nope for service etcdserverpb.KV"
        );
        assert_eq!(text("/a.B/C"), "unknown service a.B");
        assert_eq!(text("/x"), "malformed method name: \"/x\"");
    }
}
