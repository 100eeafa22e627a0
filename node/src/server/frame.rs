//! gRPC's frame around a message, and its trailers.
//!
//! Hostile frames end here: a length is checked before the bytes it announces are awaited.
//! Must not know: methods.
//! Caveat: message compression is refused; none of etcd's clients uses it unless told to.

use super::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use std::future::poll_fn;
use tonic::Code;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Bytes before each message: a flag and the length.
const FRAME_HEADER_BYTES: usize = 5;

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

/// Reads the one message of a unary call. Shares the bytes it arrived in when they are in one
/// piece.
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

/// Sends `bytes` as the client's window allows.
///
/// # Errors
/// The client has gone.
pub(super) async fn send(
    stream: &mut SendStream<Bytes>,
    mut bytes: Bytes,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let len = match poll_fn(|task| stream.poll_capacity(task)).await {
            Some(len) => len?.min(bytes.len()),
            None => return Err(h2::Reason::CANCEL.into()),
        };
        stream.send_data(bytes.split_to(len), false)?;
    }
    Ok(())
}

/// The trailers of a call that was answered.
pub(super) fn trailers_ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
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
    fn messages_for_trailers_are_printable_ascii() {
        assert_eq!(escape("100 % ü\n"), "100 %25 %C3%BC%0A");
        let status = Status::new(Code::Unavailable, "ü");
        assert_eq!(trailers(&status).get("grpc-message").unwrap(), "%C3%BC");
        assert_eq!(trailers(&status).get("grpc-status").unwrap(), "14");
    }
}
