//! Calls that are streams: health watching and reflection.
//!
//! Unary calls never pass here. A stream may be slow: it waits for the client's window before each
//! message, so that no stream makes memory grow.
//! Must not know: what a message means, except for health.

use super::context::Context;
use super::frame::{decode, encode, read_message, send, trailers};
use super::grpc::refuse;
use super::handlers::health;
use super::status::Status;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, header, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;
use tonic::Code;
use tonic::service::Routes;
use tower::ServiceExt;

/// How often a health watcher's answer is looked at again.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);

/// Serves one stream; returns the code it ended with.
pub(super) async fn serve(
    context: &Context,
    head: request::Parts,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Code {
    if head.uri.path() == "/grpc.health.v1.Health/Watch" {
        return match health_watch(context, &head.headers, body, &mut respond).await {
            Ok(()) => Code::Ok,
            Err(status) => {
                refuse(&mut respond, &status);
                status.code
            }
        };
    }
    reflection(head, body, respond).await
}

/// Sends the health once and then whenever it changes, until the client leaves.
async fn health_watch(
    context: &Context,
    headers: &HeaderMap,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Status> {
    let message = read_message(body, headers, context.receive_bytes_max()).await?;
    let request: tonic_health::pb::HealthCheckRequest = decode(message)?;
    let mut head = Response::new(());
    head.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    let Ok(mut stream) = respond.send_response(head, false) else {
        return Ok(());
    };
    let mut told = None;
    loop {
        let now = health::watched(context, &request.service);
        if told != Some(now.status) {
            told = Some(now.status);
            if send(&mut stream, encode(&now)?).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            _ = poll_fn(|task| stream.poll_reset(task)) => return Ok(()),
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

/// Hands the call to tonic's reflection service. Rare, so its cost does not matter.
async fn reflection(
    head: request::Parts,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let routes = match reflection_routes() {
        Ok(routes) => routes,
        Err(error) => {
            let text = format!("quorate: the descriptors are unreadable: {error}");
            let status = Status::new(Code::Internal, text);
            refuse(&mut respond, &status);
            return status.code;
        }
    };
    let request = http::Request::from_parts(head, RequestBody(body));
    let Ok(response) = routes.oneshot(request).await;
    let (head, mut body) = response.into_parts();
    let code = code_of(&head.headers);
    let Ok(mut stream) =
        respond.send_response(Response::from_parts(head, ()), body.is_end_stream())
    else {
        return Code::Cancelled;
    };
    while let Some(frame) = body.frame().await {
        let sent = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => send(&mut stream, data).await,
            Ok(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    let code = code_of(&trailers);
                    let _ = stream.send_trailers(trailers);
                    return code.unwrap_or(Code::Unknown);
                }
                // Neither data nor trailers: nothing that HTTP/2 could carry.
                Err(_) => Ok(()),
            },
            Err(status) => {
                let _ = stream.send_trailers(trailers(&Status::new(
                    status.code(),
                    status.message().to_owned(),
                )));
                return status.code();
            }
        };
        if sent.is_err() {
            return Code::Cancelled;
        }
    }
    code.unwrap_or(Code::Ok)
}

fn reflection_routes() -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(quorate_api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// A request body as the types of tonic want it.
struct RequestBody(RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(match ready!(self.0.poll_data(task)) {
            Some(Ok(data)) => {
                // The window must be given back or the client stalls.
                self.0.flow_control().release_capacity(data.len())?;
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }
}
