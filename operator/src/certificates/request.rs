//! What an annotation asks for by hand, once: `leaf` or `ca`, with a token that makes repeating it
//! harmless.
//!
//! The token is written beside what was made for it, in the same write, so that no crash makes it
//! twice. Must not know: where annotations are kept.

use super::rotation::Request;
use crate::quantity::duration_ms;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 128;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is to be made.
    pub request: Request,
    /// Which asking this is.
    pub token: String,
    /// How long those are given in each phase who cannot be asked, s; `None`: as usual.
    pub grace_s: Option<i64>,
}

impl Asked {
    /// Reads `leaf|ca,token=<any>[,grace=<duration>]`.
    ///
    /// # Errors
    /// How to write it.
    pub fn parse(text: &str) -> Result<Asked, String> {
        let wrong = || {
            format!("`{text}` is ignored; write leaf,token=<any> or ca,token=<any>[,grace=<time>]")
        };
        let mut parts = text.split(',');
        let request = match parts.next() {
            Some("leaf") => Request::Leaf,
            Some("ca") => Request::Authority,
            _ => return Err(wrong()),
        };
        let (mut token, mut grace_s) = (None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("token", text)) if !text.is_empty() && text.len() <= TOKEN_BYTES_MAX => {
                    token = Some(text.to_owned());
                }
                Some(("grace", text)) => {
                    grace_s = Some(duration_ms(text).ok_or_else(wrong)? / 1000)
                }
                _ => return Err(wrong()),
            }
        }
        let token = token.ok_or_else(wrong)?;
        Ok(Asked {
            request,
            token,
            grace_s,
        })
    }

    /// The request, unless it was carried out already. Each is remembered beside what it makes: the
    /// leaf, or the authority.
    #[must_use]
    pub fn pending(
        &self,
        leaf_token: Option<&str>,
        authority_token: Option<&str>,
    ) -> Option<Request> {
        let done = match self.request {
            Request::Leaf => leaf_token,
            Request::Authority => authority_token,
        };
        (done != Some(self.token.as_str())).then_some(self.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_made_once_for_each_token() {
        let asked = Asked::parse("ca,token=2026-11,grace=10m").unwrap();
        assert_eq!(
            (asked.request, asked.grace_s),
            (Request::Authority, Some(600))
        );
        assert_eq!(
            asked.pending(Some("2026-11"), None),
            Some(Request::Authority)
        );
        assert_eq!(asked.pending(None, Some("2026-11")), None);
        let leaf = Asked::parse("leaf,token=a").unwrap();
        assert_eq!(leaf.pending(Some("a"), None), None);
        assert_eq!(leaf.pending(Some("b"), Some("a")), Some(Request::Leaf));
    }

    #[test]
    fn what_is_not_understood_is_no_request() {
        for text in [
            "",
            "ca",
            "ca,token=",
            "peer,token=a",
            "ca,token=a,grace=x",
            "ca,token=a,b",
        ] {
            let why = Asked::parse(text).unwrap_err();
            assert!(why.contains("leaf,token=<any>"), "{text}: {why}");
        }
    }
}
