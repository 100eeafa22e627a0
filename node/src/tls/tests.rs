//! Ports, and handshakes between them in memory: who is let in, who is not and why, and what
//! happens when files change.

use super::pki::{LOCAL, TestCa, TestLeaf, put, put_leaf};
use super::{Allowed, Callers, Port, PortName, PortTls, Version};
use crate::env::Clock;
use crate::env::real::SystemClock;
use crate::metrics::Metrics;
use quorate_api::tls::certificate::Certificate;
use quorate_api::tls::reason::explain;
use quorate_api::tls::{Reason, files};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn open(name: PortName, settings: &PortTls) -> Port {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let metrics = Metrics::default().tls.port(name);
    Port::open(name, settings.clone(), clock, metrics).unwrap()
}

fn refusal(name: PortName, settings: &PortTls) -> String {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let metrics = Metrics::default().tls.port(name);
    let error = Port::open(name, settings.clone(), clock, metrics).err();
    error.expect("refused").to_string()
}

/// Files of a peer port in `dir`.
fn peer(dir: &Path, stem: &str, leaf: &TestLeaf, trusted: &str) -> PortTls {
    let (certificate, key) = put_leaf(dir, stem, leaf);
    PortTls::new(certificate, key).mutual(put(dir, &format!("{stem}-ca.crt"), trusted))
}

/// Moves bytes both ways until nothing moves; the first error of each side.
fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    host: &str,
) -> (Option<Reason>, Option<Reason>) {
    let name = host.to_owned().try_into().unwrap();
    let mut caller = Connection::Client(ClientConnection::new(client, name).unwrap());
    let mut callee = Connection::Server(ServerConnection::new(server).unwrap());
    let (mut caller_error, mut callee_error) = (None, None);
    for _ in 0..20 {
        carry(&mut caller, &mut callee, &mut callee_error);
        carry(&mut callee, &mut caller, &mut caller_error);
    }
    if callee_error.is_none() && caller_error.is_none() {
        assert!(!caller.is_handshaking() && !callee.is_handshaking());
    }
    (callee_error, caller_error)
}

fn carry(from: &mut Connection, to: &mut Connection, error: &mut Option<Reason>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = &bytes[..];
    while !bytes.is_empty() && error.is_none() {
        to.read_tls(&mut bytes).unwrap();
        if let Err(failure) = to.process_new_packets() {
            *error = Some(explain(&failure).reason);
        }
    }
}

/// What a callee with `settings` and a caller with `caller` say of each other.
fn meet(settings: &PortTls, caller: &PortTls) -> (Option<Reason>, Option<Reason>) {
    let callee = open(PortName::Peer, settings);
    let caller = open(PortName::Peer, caller);
    shake(
        callee.server(),
        caller.client().expect("a peer dials"),
        "127.0.0.1",
    )
}

#[test]
fn peers_of_one_authority_let_each_other_in() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let a = peer(dir.path(), "a", &ca.leaf("a", LOCAL), &ca.pem);
    let b = peer(dir.path(), "b", &ca.leaf("b", LOCAL), &ca.pem);
    assert_eq!(meet(&a, &b), (None, None));
}

#[test]
fn whoever_shows_a_certificate_that_is_no_good_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let (ca, foreign) = (TestCa::new("ca"), TestCa::new("foreign"));
    let good = peer(dir.path(), "good", &ca.leaf("good", LOCAL), &ca.pem);
    let expired = ca.leaf_of_years("late", LOCAL, 2001..2020);
    let early = ca.leaf_of_years("early", LOCAL, 2090..2100);
    let other_name = ca.leaf("other", &["elsewhere.example"]);
    let stranger = foreign.leaf("stranger", LOCAL);
    for (leaf, as_caller, as_callee) in [
        (&expired, Some(Reason::Expired), Reason::Expired),
        (&early, Some(Reason::NotYetValid), Reason::NotYetValid),
        (
            &stranger,
            Some(Reason::UnknownAuthority),
            Reason::UnknownAuthority,
        ),
        // A caller has no name to be compared with.
        (&other_name, None, Reason::WrongName),
    ] {
        let bad = peer(dir.path(), "bad", leaf, &ca.pem);
        let told = as_caller.map(|_| Reason::RefusedByOther);
        assert_eq!(meet(&good, &bad), (as_caller, told));
        let (callee, caller) = meet(&bad, &good);
        assert_eq!(
            (callee, caller),
            (Some(Reason::RefusedByOther), Some(as_callee))
        );
    }
}

#[test]
fn a_genuine_certificate_must_also_be_one_of_those_allowed() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let member = peer(dir.path(), "member", &ca.leaf("member", LOCAL), &ca.pem);
    let guest = peer(dir.path(), "guest", &ca.leaf("guest", LOCAL), &ca.pem);
    for allowed in [
        Allowed::CommonName("member".to_owned()),
        Allowed::Names(vec!["db.example".to_owned()]),
    ] {
        let mut strict = peer(dir.path(), "strict", &ca.leaf("member", LOCAL), &ca.pem);
        strict.allowed = allowed;
        let refused = (Some(Reason::NotAllowed), Some(Reason::RefusedByOther));
        assert_eq!(meet(&strict, &guest), refused);
        assert_eq!(meet(&guest, &strict), (refused.1, refused.0));
        strict.allowed = Allowed::CommonName("member".to_owned());
        assert_eq!(meet(&strict, &member), (None, None));
        strict.allowed = Allowed::Names(vec!["localhost".to_owned()]);
        assert_eq!(meet(&strict, &member), (None, None));
    }
}

#[test]
fn a_revoked_certificate_is_refused() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let bad = ca.leaf("bad", LOCAL);
    let der = files::certificates("bad", bad.cert.as_bytes()).unwrap();
    let serial = Certificate::parse(&der[0]).unwrap().serial;
    let bad = peer(dir.path(), "bad", &bad, &ca.pem);
    let mut strict = peer(dir.path(), "strict", &ca.leaf("s", LOCAL), &ca.pem);
    assert_eq!(meet(&strict, &bad), (None, None));
    strict.crl_file = Some(put(dir.path(), "crl.pem", &ca.revoke(&[&serial])));
    assert_eq!(meet(&strict, &bad).0, Some(Reason::Revoked));
    assert_eq!(meet(&bad, &strict).1, Some(Reason::Revoked));
    let other = peer(dir.path(), "other", &ca.leaf("o", LOCAL), &ca.pem);
    assert_eq!(meet(&strict, &other), (None, None));
}

#[test]
fn callers_show_certificates_as_the_port_demands() {
    let dir = TempDir::new().unwrap();
    let (ca, foreign) = (TestCa::new("ca"), TestCa::new("foreign"));
    let (certificate, key) = put_leaf(dir.path(), "port", &ca.leaf("port", LOCAL));
    let plain = PortTls::new(certificate, key);
    let mut optional = plain.clone().mutual(put(dir.path(), "ca.crt", &ca.pem));
    let required = optional.clone();
    optional.callers = Callers::Optional;

    let anonymous = |settings: &PortTls| {
        let port = open(PortName::Client, settings);
        let provider = quorate_api::tls::provider();
        let roots = files::certificates("ca", ca.pem.as_bytes()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(files::roots("ca", &roots).unwrap())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        shake(port.server(), Arc::new(config), "localhost").0
    };
    assert_eq!(anonymous(&plain), None);
    assert_eq!(anonymous(&optional), None);
    assert_eq!(anonymous(&required), Some(Reason::NoCertificate));
    // Optional is not "any": what is shown must be genuine.
    let stranger = peer(dir.path(), "s", &foreign.leaf("s", LOCAL), &ca.pem);
    let mut lenient = peer(dir.path(), "l", &ca.leaf("l", LOCAL), &ca.pem);
    lenient.callers = Callers::Optional;
    assert_eq!(meet(&lenient, &stranger).0, Some(Reason::UnknownAuthority));
}

#[test]
fn versions_that_do_not_overlap_are_incompatible() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let mut new = peer(dir.path(), "new", &ca.leaf("new", LOCAL), &ca.pem);
    let mut old = peer(dir.path(), "old", &ca.leaf("old", LOCAL), &ca.pem);
    new.version_min = Version::Tls13;
    old.version_max = Version::Tls12;
    assert_eq!(meet(&new, &old).0, Some(Reason::Incompatible));
    old.version_max = Version::Tls13;
    assert_eq!(meet(&new, &old), (None, None));
    new.version_min = Version::Tls12;
    old.version_max = Version::Tls12;
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    old.cipher_suites = vec![super::cipher_suite(suite).unwrap()];
    assert_eq!(meet(&new, &old), (None, None));
    let other = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305";
    new.cipher_suites = vec![super::cipher_suite(other).unwrap()];
    new.version_max = Version::Tls12;
    assert_eq!(meet(&new, &old).0, Some(Reason::Incompatible));
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let good = peer(dir.path(), "good", &ca.leaf("good", LOCAL), &ca.pem);
    let other = peer(dir.path(), "other", &ca.leaf("other", LOCAL), &ca.pem);
    let absent = dir.path().join("absent.pem");
    for (settings, text) in [
        (
            PortTls {
                cert_file: absent.clone(),
                ..good.clone()
            },
            "absent.pem",
        ),
        (
            PortTls {
                key_file: other.key_file.clone(),
                ..good.clone()
            },
            "other.key does not belong to the certificate in",
        ),
        (
            PortTls {
                trusted_ca_file: Some(good.key_file.clone()),
                ..good.clone()
            },
            "good.key holds no certificate",
        ),
        (
            PortTls {
                trusted_ca_file: None,
                ..good.clone()
            },
            "no trusted CA",
        ),
    ] {
        let refused = refusal(PortName::Peer, &settings);
        assert!(
            refused.contains(text) && refused.contains("peer port"),
            "{refused}"
        );
    }
}

#[test]
fn changed_files_are_taken_without_a_restart() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let settings = peer(dir.path(), "a", &ca.leaf("a", LOCAL), &ca.pem);
    let port = open(PortName::Peer, &settings);
    let first = port.report();
    assert_eq!(port.report(), first);

    // Half a change: the old pair stays in force.
    let next = ca.leaf("a", LOCAL);
    put(dir.path(), "a.crt", &next.cert);
    assert_eq!(port.report(), first);
    put(dir.path(), "a.key", &next.key);
    let second = port.report();
    assert_ne!(second.serial, first.serial);
    assert_eq!(second.bundle_hash, first.bundle_hash);

    // A second authority beside the first.
    let both = format!("{}{}", ca.pem, TestCa::new("next").pem);
    put(dir.path(), "a-ca.crt", &both);
    let third = port.report();
    assert_eq!(third.serial, second.serial);
    assert_ne!(third.bundle_hash, second.bundle_hash);

    // Nonsense and absence change nothing; what follows is taken again.
    put(dir.path(), "a-ca.crt", "nonsense");
    assert_eq!(port.report(), third);
    std::fs::remove_file(dir.path().join("a-ca.crt")).unwrap();
    assert_eq!(port.report(), third);
    put(dir.path(), "a-ca.crt", &ca.pem);
    assert_eq!(port.report(), second);
}

#[test]
fn an_expired_certificate_never_replaces_a_valid_one() {
    let dir = TempDir::new().unwrap();
    let ca = TestCa::new("ca");
    let expired = ca.leaf_of_years("a", LOCAL, 2001..2020);
    let settings = peer(dir.path(), "a", &expired, &ca.pem);
    // It starts all the same: its replacement needs no restart.
    let port = open(PortName::Peer, &settings);
    let late = port.report();
    put_leaf(dir.path(), "a", &ca.leaf("a", LOCAL));
    let valid = port.report();
    assert_ne!(valid, late);
    put_leaf(dir.path(), "a", &expired);
    assert_eq!(port.report(), valid);
}
