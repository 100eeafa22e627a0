//! Answers of the plain HTTP surface: JSON, text, and errors that say what to do.
//!
//! Must not know: routes.

use super::status::Status;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tonic::Code;

/// Something went wrong; the three texts are what the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// gRPC's name of the kind of error.
    pub(super) code: Code,
    /// What happened, to which input.
    pub(super) message: String,
    /// What to do.
    pub(super) remedy: String,
    /// The methods that would be allowed, for a wrong one.
    pub(super) allow: Option<&'static str>,
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    code: &'static str,
    message: &'a str,
    remedy: &'a str,
}

impl Problem {
    /// The request cannot be understood.
    pub(super) fn bad(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: Code::InvalidArgument,
            message: message.into(),
            remedy: remedy.into(),
            allow: None,
        }
    }

    /// What was asked for does not exist.
    pub(super) fn missing(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Code::NotFound,
            ..Self::bad(message, remedy)
        }
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        let number = usize::try_from(self.code as i32).unwrap_or(usize::MAX);
        let body = ProblemJson {
            code: crate::metrics::CODES
                .get(number)
                .copied()
                .unwrap_or("Unknown"),
            message: &self.message,
            remedy: &self.remedy,
        };
        let mut response = json(self.status, &body);
        if let Some(allow) = self.allow {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let (http, remedy) = match status.code {
            Code::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Try again, or ask another member. A write may have happened: read before \
                 repeating it.",
            ),
            Code::DeadlineExceeded => (
                StatusCode::GATEWAY_TIMEOUT,
                "Try again with more time. A write may have happened: read before repeating it.",
            ),
            Code::ResourceExhausted => (
                StatusCode::TOO_MANY_REQUESTS,
                "Nothing was changed. Slow down and try again; if the space is used up, delete \
                 keys and compact.",
            ),
            Code::NotFound => (
                StatusCode::NOT_FOUND,
                "Check the name. Nothing was changed.",
            ),
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => (
                StatusCode::BAD_REQUEST,
                "Correct the request. Nothing was changed.",
            ),
            Code::Unimplemented => (
                StatusCode::NOT_IMPLEMENTED,
                "Use another member or a newer version.",
            ),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Look into the log of this member.",
            ),
        };
        Self {
            status: http,
            code: status.code,
            message: status.message.into_owned(),
            remedy: remedy.to_owned(),
            allow: None,
        }
    }
}

/// A JSON answer, with a newline at its end for people at a terminal.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let mut text = serde_json::to_vec(body).expect("plain structs of texts and numbers serialise");
    text.push(b'\n');
    typed(status, "application/json", text)
}

/// A plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Response<Bytes> {
    typed(status, "text/plain; charset=utf-8", body)
}

/// An answer of some type.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Vec<u8>>,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let no_sniff = HeaderName::from_static("x-content-type-options");
    headers.insert(no_sniff, HeaderValue::from_static("nosniff"));
    response
}
