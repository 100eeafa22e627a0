//! Peers over TLS: the same messages, and nobody else.

use super::super::receiver::CONNECTIONS_MAX;
use super::*;
use crate::env::Clock;
use crate::env::real::SystemClock;
use crate::metrics::Metrics;
use crate::tls::pki::{LOCAL, TestCa, TestLeaf, put, put_leaf};
use crate::tls::{Port, PortName, PortTls};
use std::io::Read;
use tempfile::TempDir;

/// A peer port with this leaf. Its files go at once: what was read stays in force.
fn port(leaf: &TestLeaf, trusted: &TestCa) -> (Arc<Port>, Arc<Metrics>) {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = put_leaf(dir.path(), "peer", leaf);
    let ca = put(dir.path(), "ca.crt", &trusted.pem);
    let settings = PortTls::new(certificate, key).mutual(ca);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let metrics = Arc::new(Metrics::default());
    let counters = metrics.tls.port(PortName::Peer);
    let port = Port::open(PortName::Peer, settings, clock, counters).unwrap();
    (Arc::new(port), metrics)
}

fn member(ca: &TestCa, id: u64) -> Peer {
    let (port, _) = port(&ca.leaf("member", LOCAL), ca);
    let mut peer = Peer::start_with(Some(port));
    peer.identify(id, 7);
    peer
}

/// Waits until the port has refused so many callers for this reason: the caller is told first.
fn await_refusals(metrics: &Metrics, reason: &str, count: usize) {
    let mut patience = 500;
    while refusals(metrics, reason) < count {
        patience -= 1;
        assert!(patience > 0, "{reason}:\n{}", metrics.render());
        std::thread::sleep(Duration::from_millis(20)); // poll interval
    }
}

/// How often the port refused a caller for this reason, as the metrics tell.
fn refusals(metrics: &Metrics, reason: &str) -> usize {
    let wanted = "side=\"accept\"} ";
    let text = metrics.render();
    let line = text
        .lines()
        .filter(|line| line.starts_with("quorate_tls_handshake_failures_total"))
        .find(|line| line.contains(&format!("reason=\"{reason}\"")) && line.contains(wanted));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn messages_pass_encrypted_in_order_and_whole() {
    let ca = TestCa::new("ca");
    let (mut a, b) = (member(&ca, 1), member(&ca, 2));
    a.dial(&b, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.recorder
        .wait_for("connection", |seen| !seen.delivered.is_empty());
    let large = PeerMessage::Forward {
        term: Term(1),
        commands: vec![(1, vec![9; 20 << 20].into())],
    };
    a.send(2, &large);
    for sent_ns in 2..1000 {
        a.send(2, &PeerMessage::Ping { sent_ns });
    }
    b.recorder
        .wait_for("delivery", |seen| seen.delivered.len() == 1000);
    let seen = b.recorder.state.lock();
    assert_eq!(seen.delivered[1].1, large);
    for (at, (_, message)) in seen.delivered.iter().enumerate().skip(2) {
        assert_eq!(message, &PeerMessage::Ping { sent_ns: at as u64 });
    }
}

#[test]
fn a_peer_without_tls_and_one_with_it_refuse_each_other() {
    let ca = TestCa::new("ca");
    let secure = member(&ca, 2);
    let mut plain = Peer::start();
    plain.identify(1, 7);
    // Each by the URL it believes in: no connection is made at all.
    let text = query_membership(&[secure.url()], None)
        .unwrap_err()
        .to_string();
    assert!(text.contains("has no --peer-cert-file"), "{text}");
    let text = query_membership(&[plain.url()], secure.tls.as_ref())
        .unwrap_err()
        .to_string();
    assert!(text.contains("speaks TLS to its peers only"), "{text}");
    // Each by a URL with the wrong scheme: what arrives is not understood.
    let wrong = plain.url().replace("http:", "https:");
    let text = query_membership(&[wrong], secure.tls.as_ref())
        .unwrap_err()
        .to_string();
    assert!(text.contains("TLS: "), "{text}");
    let wrong = secure.url().replace("https:", "http:");
    let error = query_membership(&[wrong], None).unwrap_err();
    assert!(!matches!(error, ConnectError::Refused(_)), "{error}");
}

#[test]
fn both_ends_say_why_a_certificate_was_refused() {
    let (ca, foreign) = (TestCa::new("ca"), TestCa::new("foreign"));
    let (good, metrics) = port(&ca.leaf("good", LOCAL), &ca);
    let mut good_peer = Peer::start_with(Some(Arc::clone(&good)));
    good_peer.identify(2, 7);
    for (leaf, reason, caller_hears, caller_says) in [
        (
            ca.leaf_of_years("late", LOCAL, 2001..2020),
            "expired",
            "our certificate has expired",
            "expired on 2020-01-01",
        ),
        (
            foreign.leaf("stranger", LOCAL),
            "unknown_authority",
            "does not trust the CA",
            "foreign",
        ),
    ] {
        let (bad, _) = port(&leaf, &ca);
        // As a caller it hears the verdict of the other side.
        let heard = query_membership(&[good_peer.url()], Some(&bad)).unwrap_err();
        assert!(matches!(heard, ConnectError::Tls(_)), "{heard}");
        assert!(heard.to_string().contains(caller_hears), "{heard}");
        await_refusals(&metrics, reason, 1);
        // Called, it is refused by the caller.
        let mut bad_peer = Peer::start_with(Some(bad));
        bad_peer.identify(3, 7);
        let said = query_membership(&[bad_peer.url()], Some(&good)).unwrap_err();
        assert!(said.to_string().contains(caller_says), "{said}");
    }
    let (misnamed, _) = port(&ca.leaf("m", &["elsewhere.example"]), &ca);
    let mut misnamed_peer = Peer::start_with(Some(misnamed));
    misnamed_peer.identify(4, 7);
    let said = query_membership(&[misnamed_peer.url()], Some(&good)).unwrap_err();
    let said = said.to_string();
    assert!(
        said.contains("not made out for 127.0.0.1") && said.contains("elsewhere.example"),
        "{said}"
    );
    assert_eq!(
        query_membership(&[good_peer.url()], Some(&good)).unwrap().0,
        b"members"
    );
}

#[test]
fn garbage_at_the_handshake_closes_its_connection_and_nothing_else() {
    let ca = TestCa::new("ca");
    let (good, metrics) = port(&ca.leaf("good", LOCAL), &ca);
    let mut b = Peer::start_with(Some(Arc::clone(&good)));
    b.identify(2, 7);
    let mut hello = Vec::new();
    put_frame(&mut hello, 1, |body| body.extend_from_slice(&[7; 100]));
    // A record that claims more than any record holds, and one that begins well and goes on badly.
    let huge = [&[0x16, 3, 3, 0xff, 0xff][..], &[1; 70_000]].concat();
    let torn = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[0xaa; 300]].concat();
    let claims = [
        &[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..],
        &[0; 16_379],
    ]
    .concat();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &hello,
        &[0; 64],
        &huge,
        &torn,
        &claims,
    ] {
        let mut stream = TcpStream::connect(b.address).unwrap();
        // The other side may have had enough before all is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            // An alert at most.
            Ok(_) => assert!(rest.len() < 64, "answered {} bytes", rest.len()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    await_refusals(&metrics, "plaintext", 2);
    assert_eq!(
        query_membership(&[b.url()], Some(&good)).unwrap().0,
        b"members"
    );
}

#[test]
fn callers_that_never_speak_make_room_for_those_that_do() {
    let ca = TestCa::new("ca");
    let (good, _) = port(&ca.leaf("good", LOCAL), &ca);
    let mut b = Peer::start_with(Some(Arc::clone(&good)));
    b.identify(2, 7);
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(b.address).unwrap())
        .collect();
    let members = query_membership(&[b.url()], Some(&good));
    assert_eq!(members.unwrap().0, b"members");
    drop(silent);
}
