//! Certificates that somebody else keeps, checked before members meet them. Pure.
//!
//! What is found here is what a handshake would find later, on every member at once. Must not know:
//! clients, the planner.

use std::sync::Arc;

use quorate_api::tls::verify::{accepts_callee, accepts_caller};
use quorate_api::tls::{Certificate, HandshakeFailure, Reason, bundle_hash, files, provider};

use super::store::{Delivered, entry};
use super::{BUNDLE, KEY, LEAF};
use crate::certificates::{Brought, BroughtLeaf, MemberFacts, Problem, Use};
use crate::crd::{ClientAuth, TlsMode, TlsSpec};
use crate::ids::Slot;
use crate::platform::kubernetes::names::Names;

/// What is there, and what is wrong with it.
pub(super) fn check(
    delivered: &Delivered,
    of: Use,
    (names, spec): (&Names, &TlsSpec),
    now_s: i64,
    members: Vec<MemberFacts>,
) -> Brought {
    let source = format!("Secret {}", delivered.name);
    let (leaf, problem) = match read(delivered, of, (names, spec), now_s) {
        Ok(leaf) => (Some(leaf), None),
        Err((leaf, problem)) => (leaf, Some(problem)),
    };
    Brought {
        source,
        problem,
        leaf,
        members,
    }
}

/// The leaf and its problem; the leaf may be told also where there is one.
type Found = Result<BroughtLeaf, (Option<BroughtLeaf>, Problem)>;

fn read(delivered: &Delivered, of: Use, (names, spec): (&Names, &TlsSpec), now_s: i64) -> Found {
    let name = &delivered.name;
    let unusable = |why: String| (None, Problem::Unusable(format!("Secret {name}: {why}.")));
    let Some(secret) = &delivered.secret else {
        return Err((None, absent(name, of, spec)));
    };
    let part = |key: &str| {
        entry(Some(secret), key).ok_or_else(|| {
            unusable(format!(
                "it has no {key}; it needs {LEAF}, {KEY} and {BUNDLE}, in PEM form"
            ))
        })
    };
    let chain = files::certificates(LEAF, part(LEAF)?).map_err(|e| unusable(e.to_string()))?;
    let key = files::private_key(KEY, part(KEY)?).map_err(|e| unusable(e.to_string()))?;
    files::pair(&provider(), (LEAF, chain.clone()), (KEY, key))
        .map_err(|error| unusable(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| unusable(format!("{LEAF} is empty")))?;
    let leaf = Certificate::parse(leaf).map_err(unusable)?;
    let mut found = BroughtLeaf {
        serial: leaf.serial.clone(),
        bundle: String::new(),
        not_before_s: leaf.not_before_s,
        not_after_s: leaf.not_after_s,
        authority_not_after_s: leaf.not_after_s,
    };
    if !needs_authority(of, spec) {
        return Ok(found);
    }
    let (ca_name, ca_secret) = match &delivered.ca {
        Some((name, secret)) => (name, secret.as_ref()),
        None => (name, Some(secret)),
    };
    let Some(pem) = entry(ca_secret, BUNDLE) else {
        let text = format!(
            "Secret {ca_name} has no {BUNDLE}: without a common authority nobody can tell whom to \
             trust."
        );
        return Err((Some(found), Problem::NotShared(text)));
    };
    let authorities = files::certificates(BUNDLE, pem).map_err(|e| unusable(e.to_string()))?;
    found.bundle = bundle_hash(&authorities);
    let ends = authorities
        .iter()
        .filter_map(|der| Certificate::parse(der).ok());
    found.authority_not_after_s = ends.map(|ca| ca.not_after_s).min().unwrap_or(0);
    let roots = files::roots(BUNDLE, &authorities).map_err(|e| unusable(e.to_string()))?;
    let roots = Arc::new(roots);
    let host = host(names, of);
    let checked = match of {
        Use::Peer => accepts_callee(&roots, &chain, &host, now_s)
            .and_then(|()| accepts_caller(&roots, &chain, now_s)),
        // The bundle is of the clients, who may have another authority than the server.
        Use::Client => in_time(&found, now_s).and_then(|()| named(&leaf, &host)),
    };
    match checked {
        Ok(()) => Ok(found),
        Err(failure) => {
            let text = format!("Secret {name}: {LEAF} would be refused: {}.", failure.text);
            let problem = match failure.reason {
                Reason::UnknownAuthority => Problem::NotShared(text),
                _ => Problem::Unusable(text),
            };
            Err((Some(found), problem))
        }
    }
}

fn absent(name: &str, of: Use, spec: &TlsSpec) -> Problem {
    Problem::Absent(match super::mode(spec, of) {
        TlsMode::CertManager => format!(
            "Secret {name} is not there yet: cert-manager has not issued the certificate. See \
             `kubectl describe certificate`."
        ),
        TlsMode::OperatorManaged | TlsMode::Secret | TlsMode::Disabled => format!(
            "Secret {name} does not exist: create it with {LEAF}, {KEY} and {BUNDLE}, in PEM form."
        ),
    })
}

/// Whether the port asks for certificates, and so must know whom to trust.
fn needs_authority(of: Use, spec: &TlsSpec) -> bool {
    of == Use::Peer || spec.client.client_auth != ClientAuth::None
}

/// A name by which the port is dialled.
fn host(names: &Names, of: Use) -> String {
    match of {
        Use::Peer => format!("{}.{}", names.pod(Slot(0)), names.peer_domain()),
        Use::Client => format!("{}.{}.svc", names.client(), names.namespace),
    }
}

fn in_time(leaf: &BroughtLeaf, now_s: i64) -> Result<(), HandshakeFailure> {
    let utc = quorate_api::tls::certificate::utc;
    if now_s > leaf.not_after_s {
        let text = format!("it expired at {}", utc(leaf.not_after_s));
        return Err(HandshakeFailure::new(Reason::Expired, text));
    }
    if now_s < leaf.not_before_s {
        let text = format!("it is not valid before {}", utc(leaf.not_before_s));
        return Err(HandshakeFailure::new(Reason::NotYetValid, text));
    }
    Ok(())
}

fn named(leaf: &Certificate, host: &str) -> Result<(), HandshakeFailure> {
    if leaf.covers(host) {
        return Ok(());
    }
    let text = format!(
        "it is made out for {}, and clients dial {host}",
        leaf.names()
    );
    Err(HandshakeFailure::new(Reason::WrongName, text))
}
