//! The Secrets as a pass reads them, and what is in them.
//!
//! Read by name and live; Secrets are never listed or watched. One that belongs to somebody else is
//! never used. Must not know: what is done about what is found.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use quorate_api::tls::files;

use super::super::Error;
use super::super::access::call;
use super::super::names::Names;
use super::super::platform::Kubernetes;
use super::{authority_name, brought_names, credentials_name, leaf_name, mode};
use crate::certificates::{Authority, Issued, Phase, Use};
use crate::crd::{TlsMode, TlsSpec};

/// Key of the authority's Secret: the authority there is.
pub(super) const CURRENT: (&str, &str) = ("ca.crt", "ca.key");
/// Keys of the authority's Secret: the one that replaces it.
pub(super) const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
/// Annotation of the authority's Secret: how far its change has come.
pub(super) const PHASE: &str = "quorate.dev/ca-phase";
/// Annotation of the authority's Secret: when that phase began, s since 1970.
pub(super) const SINCE: &str = "quorate.dev/ca-phase-since";
/// Annotation of the authority's Secret: how long those are given who cannot be asked, s.
pub(super) const GRACE: &str = "quorate.dev/ca-grace";
/// Annotation: the request by hand that this was made for.
pub(super) const TOKEN: &str = "quorate.dev/rotated-for";

/// Everything a pass read.
#[derive(Debug, Default)]
pub(in super::super) struct Stock {
    pub(super) managed: BTreeMap<Use, Kept>,
    pub(super) brought: BTreeMap<Use, Delivered>,
}

/// What the operator keeps for one use.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The Secrets, for their versions.
    pub(super) authority_secret: Option<Secret>,
    pub(super) leaf_secret: Option<Secret>,
    /// For applications; of clients only.
    pub(super) credentials_secret: Option<Secret>,
    pub(super) current: Option<Authority>,
    pub(super) next: Option<Authority>,
    pub(super) phase: Phase,
}

/// What somebody else keeps for one use.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) name: String,
    pub(super) secret: Option<Secret>,
    /// Where the authority has a Secret of its own.
    pub(super) ca: Option<(String, Option<Secret>)>,
}

/// One entry of a Secret; `None` when it is not there or empty.
pub(super) fn entry<'a>(secret: Option<&'a Secret>, key: &str) -> Option<&'a [u8]> {
    let bytes = &secret?.data.as_ref()?.get(key)?.0;
    (!bytes.is_empty()).then_some(bytes)
}

/// One annotation of a Secret.
pub(super) fn annotation<'a>(secret: Option<&'a Secret>, key: &str) -> Option<&'a str> {
    secret?.annotations().get(key).map(String::as_str)
}

impl Kubernetes {
    pub(in super::super) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Reads what the spec needs.
    pub(in super::super) async fn read_stock(
        &self,
        names: &Names,
        spec: &TlsSpec,
        secure: bool,
    ) -> Result<Stock, Error> {
        let mut stock = Stock::default();
        for of in [Use::Peer, Use::Client] {
            let mode = mode(spec, of);
            let keeps = match of {
                Use::Peer => secure,
                Use::Client => mode == TlsMode::OperatorManaged,
            };
            if keeps {
                stock.managed.insert(of, self.read_kept(names, of).await?);
            }
            let brings = matches!(mode, TlsMode::Secret | TlsMode::CertManager);
            if brings && (of == Use::Client || secure) {
                let delivered = self.read_delivered(names, spec, of).await?;
                stock.brought.insert(of, delivered);
            }
        }
        Ok(stock)
    }

    async fn read_kept(&self, names: &Names, of: Use) -> Result<Kept, Error> {
        let mut wanted = vec![authority_name(names, of), leaf_name(names, of)];
        if of == Use::Client {
            wanted.push(credentials_name(names));
        }
        let reads = wanted.iter().map(|name| self.read_secret(name));
        let mut found = Vec::new();
        for (read, name) in join_all(reads).await.into_iter().zip(&wanted) {
            let secret = read?;
            let is_foreign = |secret: &Secret| {
                let owners = secret.owner_references();
                !owners.iter().any(|owner| owner.uid == names.uid.0)
            };
            if secret.as_ref().is_some_and(is_foreign) {
                return Err(Error::Refused(format!(
                    "Secret {name} exists and was not made for this cluster. Remove or rename it, \
                     or wait until the cluster it belongs to is gone"
                )));
            }
            found.push(secret);
        }
        let mut found = found.into_iter();
        let (authority, leaf) = (found.next().flatten(), found.next().flatten());
        Kept::new(authority, leaf, found.next().flatten())
    }

    async fn read_delivered(
        &self,
        names: &Names,
        spec: &TlsSpec,
        of: Use,
    ) -> Result<Delivered, Error> {
        let (name, ca) = brought_names(names, spec, of);
        let secret = self.read_secret(&name).await?;
        let ca = match ca {
            Some(name) => {
                let secret = self.read_secret(&name).await?;
                Some((name, secret))
            }
            None => None,
        };
        Ok(Delivered { name, secret, ca })
    }

    async fn read_secret(&self, name: &str) -> Result<Option<Secret>, Error> {
        let doing = format!("Secret {name} cannot be read");
        call(&doing, self.secrets().get_opt(name)).await
    }
}

impl Kept {
    fn new(
        authority_secret: Option<Secret>,
        leaf_secret: Option<Secret>,
        credentials_secret: Option<Secret>,
    ) -> Result<Kept, Error> {
        let secret = authority_secret.as_ref();
        let name = secret.map(|secret| secret.name_any()).unwrap_or_default();
        let unreadable =
            |why: &dyn std::fmt::Display| Error::Unreadable(format!("Secret {name}: {why}"));
        let read = |(certificate, key): (&str, &str)| {
            let Some(pem) = entry(secret, certificate) else {
                return Ok(None);
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let kept = Issued {
                certificate_pem: text(pem),
                key_pem: text(entry(secret, key).unwrap_or_default()),
            };
            Authority::read(kept)
                .map(Some)
                .map_err(|error| unreadable(&error))
        };
        let (current, next) = (read(CURRENT)?, read(NEXT)?);
        let phase = match annotation(secret, PHASE) {
            None => Phase::Stable,
            Some(text) => Phase::parse(text).ok_or_else(|| {
                unreadable(&format!("its annotation {PHASE} names no phase: {text}"))
            })?,
        };
        Ok(Kept {
            current,
            next,
            phase,
            authority_secret,
            leaf_secret,
            credentials_secret,
        })
    }

    /// Certificates of the authorities that are to be trusted, in PEM form.
    pub(super) fn bundle(&self, current: bool, next: bool) -> String {
        let wanted = [(&self.current, current), (&self.next, next)];
        let authorities = wanted.into_iter().filter(|(_, wanted)| *wanted);
        let pems = authorities.filter_map(|(authority, _)| authority.as_ref());
        let pems = pems.map(|authority| authority.kept().certificate_pem.as_str());
        pems.collect::<Vec<_>>().concat()
    }

    /// The authority whose leaves everybody trusts in this phase.
    pub(super) fn signer(&self) -> Option<&Authority> {
        match self.phase {
            Phase::Stable | Phase::TrustBoth => self.current.as_ref(),
            Phase::NewLeaves | Phase::TrustNew => self.next.as_ref().or(self.current.as_ref()),
        }
    }
}

/// Digest of certificates in PEM form, as members report it; empty when there are none.
pub(super) fn digest(pem: &[u8]) -> String {
    let found = files::certificates(super::BUNDLE, pem);
    found.map_or_else(
        |_| String::new(),
        |ders| quorate_api::tls::bundle_hash(&ders),
    )
}
