//! gRPC without a framework: routes by path, takes the message out of its frame, runs the handler
//! in place and writes answer and trailers by hand.
//!
//! A unary call costs no task and no box of its own here, which is most of what separates a
//! request of a few microseconds from one of ten or more.
//! Must not know: what a handler does with a message.

use super::context::Context;
use super::frame::{decode, encode, read_message, send, trailers, trailers_ok};
use super::handlers::{cluster, health, kv, maintenance};
use super::methods::{Call, Method, unknown};
use super::status::{self, Status};
use super::streaming;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use std::time::Duration;
use tonic::Code;

const HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// A larger answer is counted until the client has taken it.
const LARGE_ANSWER_BYTES: usize = 256 << 10;

const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

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
                answer(context, &mut respond, frame).await;
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
async fn answer(context: &Context, respond: &mut SendResponse<Bytes>, frame: Bytes) {
    let mut head = http::Response::new(());
    head.headers_mut()
        .insert(header::CONTENT_TYPE, CONTENT_TYPE_GRPC);
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    let sent = if frame.len() > LARGE_ANSWER_BYTES {
        let _unsent = context.admission.hold_unsent(frame.len());
        send(&mut stream, frame).await
    } else {
        stream.send_data(frame, false)
    };
    if sent.is_ok() {
        let _ = stream.send_trailers(trailers_ok());
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
