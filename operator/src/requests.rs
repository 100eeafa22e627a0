//! What people ask for once, by annotation of the object: read, never acted upon. PURE.
//!
//! An annotation that is not understood is never a reason to stop everything else: it is left out,
//! with a warning that says how to write it.

use crate::crd::{
    ANNOTATION_ABORT_OPERATION, ANNOTATION_RECOVER_QUORUM, ANNOTATION_REPLACE_MEMBER,
    ANNOTATION_TRANSFER_LEADER,
};
use crate::desired::{Asks, Once, RecoverRequest, ReplaceRequest};
use crate::ids::{MemberId, Slot};
use std::collections::BTreeMap;

/// Longest request, bytes; far more than any needs.
const REQUEST_LENGTH_MAX: usize = 128;

/// How a request is read: nothing, when it is not understood.
type Read = fn(&str) -> Option<Asks>;

/// Requests for one thing each, and how each is written.
const KINDS: &[(&str, Read, &str)] = &[
    (
        ANNOTATION_REPLACE_MEMBER,
        replace,
        "ordinal=<slot>,id=<member ID>",
    ),
    (
        ANNOTATION_TRANSFER_LEADER,
        transfer,
        "to=<slot>,token=<any word of your own>",
    ),
    (
        ANNOTATION_ABORT_OPERATION,
        abort,
        "the ID in status.operation",
    ),
];

/// The requests among the annotations of an object, and warnings about those that are ignored.
#[must_use]
pub fn once(annotations: &BTreeMap<String, String>) -> (Vec<Once>, Vec<String>) {
    let (mut requests, mut ignored) = (Vec::new(), Vec::new());
    for (annotation, read, form) in KINDS {
        let Some(text) = annotations.get(*annotation) else {
            continue;
        };
        let asks = (text.len() <= REQUEST_LENGTH_MAX).then(|| read(text));
        match asks.flatten() {
            Some(asks) => requests.push(Once {
                annotation,
                text: text.clone(),
                asks,
            }),
            None => ignored.push(format!(
                "metadata.annotations.{annotation}: `{}` is ignored; write {form}",
                shown(text)
            )),
        }
    }
    (requests, ignored)
}

fn shown(text: &str) -> String {
    text.chars().take(REQUEST_LENGTH_MAX).collect()
}

fn replace(text: &str) -> Option<Asks> {
    let (ordinal, id) = text.split_once(',')?;
    let slot = ordinal.strip_prefix("ordinal=")?.parse::<u32>().ok()?;
    let member = id.strip_prefix("id=")?.parse::<MemberId>().ok()?;
    Some(Asks::Replace(ReplaceRequest {
        slot: Slot(slot),
        member,
    }))
}

fn transfer(text: &str) -> Option<Asks> {
    let (to, token) = text.split_once(',')?;
    let slot = to.strip_prefix("to=")?.parse::<u32>().ok()?;
    let token = token.strip_prefix("token=")?;
    (!token.is_empty()).then_some(Asks::Lead(Slot(slot)))
}

fn abort(text: &str) -> Option<Asks> {
    (!text.is_empty()).then_some(Asks::Abort)
}

/// `from=<ordinal>|auto,epoch=<n>[,force=true]`
///
/// # Errors
/// How it is to be written.
pub fn recover(text: &str) -> Result<RecoverRequest, String> {
    let parse = || {
        let mut parts = text.split(',');
        let from = match parts.next()?.strip_prefix("from=")? {
            "auto" => None,
            slot => Some(Slot(slot.parse().ok()?)),
        };
        let epoch = parts.next()?.strip_prefix("epoch=")?.parse().ok()?;
        let force = match parts.next() {
            None => false,
            Some("force=true") => true,
            Some(_) => return None,
        };
        (parts.next().is_none() && text.len() <= REQUEST_LENGTH_MAX).then(|| RecoverRequest {
            from,
            epoch,
            force,
            text: text.to_owned(),
        })
    };
    parse().ok_or_else(|| {
        let shown: String = text.chars().take(REQUEST_LENGTH_MAX).collect();
        format!(
            "metadata.annotations.{ANNOTATION_RECOVER_QUORUM}: `{shown}` is not understood; write \
             from=<slot or auto>,epoch=<epoch of the lost quorum>, and force=true behind it only if \
             no machine that cannot be reached may still serve. Nothing was changed."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotation: &str, text: &str) -> Result<Asks, String> {
        let annotations = BTreeMap::from([(annotation.to_owned(), text.to_owned())]);
        let (mut requests, mut ignored) = once(&annotations);
        match requests.pop() {
            Some(request) => Ok(request.asks),
            None => Err(ignored.pop().unwrap_or_default()),
        }
    }

    #[test]
    fn requests_are_read_or_it_is_said_how_to_write_them() {
        let member = MemberId(0x10a);
        let replace = ReplaceRequest {
            slot: Slot(1),
            member,
        };
        let text = format!("ordinal=1,id={member}");
        assert_eq!(
            read(ANNOTATION_REPLACE_MEMBER, &text),
            Ok(Asks::Replace(replace))
        );
        assert_eq!(
            read(ANNOTATION_TRANSFER_LEADER, "to=2,token=monday"),
            Ok(Asks::Lead(Slot(2)))
        );
        assert_eq!(read(ANNOTATION_ABORT_OPERATION, "a1b2"), Ok(Asks::Abort));
        for (annotation, text, part) in [
            (
                ANNOTATION_REPLACE_MEMBER,
                "1",
                "ordinal=<slot>,id=<member ID>",
            ),
            (
                ANNOTATION_REPLACE_MEMBER,
                "ordinal=1,id=zz",
                "`ordinal=1,id=zz` is ignored",
            ),
            (
                ANNOTATION_TRANSFER_LEADER,
                "to=2",
                "to=<slot>,token=<any word",
            ),
            (ANNOTATION_TRANSFER_LEADER, "to=2,token=", "is ignored"),
            (ANNOTATION_TRANSFER_LEADER, "to=-1,token=a", "is ignored"),
            (ANNOTATION_ABORT_OPERATION, "", "the ID in status.operation"),
        ] {
            let said = read(annotation, text).unwrap_err();
            assert!(
                said.contains(part) && said.contains(annotation),
                "{text}: {said}"
            );
        }
        let long = read(ANNOTATION_ABORT_OPERATION, &"x".repeat(5_000)).unwrap_err();
        assert!(long.len() < 400, "{long}");
    }
}
