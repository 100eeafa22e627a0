//! The operator as a caller of the admin service: a certificate of its own, never stored.
//!
//! It holds the authority's key, so a leaf in memory is worth as much as one in a Secret and cannot
//! be read by others. It is signed by whom everybody trusts in the phase of the moment, and trusts
//! both authorities while there are two. Must not know: which calls are made.

use quorate_api::tls::Material;
use quorate_api::tls::client::Pem;

use super::cluster_names;
use super::store::Stock;
use crate::certificates::{Holder, Use, renew_at_s};
use crate::platform::kubernetes::names::Names;
use crate::platform::members::Security;

/// Life of the certificate, s. A new one costs nothing.
const LIFE_S: i64 = 7 * 86_400;

/// The certificate the operator shows at present.
#[derive(Debug)]
pub(in super::super) struct Caller {
    /// Digests of signer and bundle: another mark needs another certificate.
    mark: String,
    renew_at_s: i64,
    material: Material,
}

impl Caller {
    /// How members are called now. Without an authority they are not called at all: a member that
    /// encrypts is never asked in the clear (H47).
    pub(in super::super) fn security(
        kept: &mut Option<Caller>,
        stock: &Stock,
        names: &Names,
        now_s: i64,
    ) -> Security {
        let peer = stock.managed.get(&Use::Peer);
        let Some((peer, signer)) = peer.and_then(|peer| Some((peer, peer.signer()?))) else {
            return Security::Missing("its certificates are not issued yet".to_owned());
        };
        let bundle = peer.bundle(true, true);
        let mark = format!(
            "{}/{}",
            signer.bundle_hash,
            super::store::digest(bundle.as_bytes())
        );
        let fits = |caller: &&Caller| caller.mark == mark && now_s < caller.renew_at_s;
        if let Some(caller) = kept.as_ref().filter(fits) {
            return caller.shown();
        }
        let issued = match signer.issue(&cluster_names(names), Holder::Operator, now_s, LIFE_S) {
            Ok(issued) => issued,
            Err(error) => return Security::Missing(error.to_string()),
        };
        let pem = |name: &str, text: &str| Pem {
            name: name.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        let until_s = (now_s + LIFE_S).min(signer.facts.not_after_s);
        let caller = Caller {
            mark,
            renew_at_s: renew_at_s(now_s, until_s),
            material: Material {
                trusted_ca: Some(pem("the authority of the members", &bundle)),
                identity: Some((
                    pem("the operator's certificate", &issued.certificate_pem),
                    pem("the operator's key", &issued.key_pem),
                )),
                ..Material::default()
            },
        };
        kept.insert(caller).shown()
    }

    fn shown(&self) -> Security {
        Security::Encrypted {
            material: Box::new(self.material.clone()),
            mark: format!("{}/{}", self.mark, self.renew_at_s),
        }
    }
}
