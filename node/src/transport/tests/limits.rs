//! What a stranger may cost, and what is counted.

use super::*;
use crate::transport::hello::HELLO_BYTES_MAX;

/// A connection that never says who it is.
fn silent(peer: &Peer) -> TcpStream {
    let stream = TcpStream::connect(peer.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Shorter than the time that a stranger has for its first words: what happens within it is not
/// the end of that time.
const SOON: Duration = Duration::from_secs(3);

fn is_timeout(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn f14_strangers_that_say_nothing_do_not_keep_a_peer_out() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    b.identify(2, 7);
    // More than there is room for: the first ones make room for the last.
    let strangers: Vec<TcpStream> = (0..CONNECTIONS_MAX + 10).map(|_| silent(&b)).collect();
    let mut first = &strangers[0];
    let closed = std::io::Read::read(&mut first, &mut [0; 1]);
    assert!(!is_timeout(&closed), "the oldest is let go at once");
    a.identify(1, 7);
    a.dial(&b, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
}

#[test]
fn f14_a_stranger_may_not_announce_a_large_first_frame() {
    let mut b = Peer::start();
    b.identify(2, 7);
    let mut stream = silent(&b);
    let len = u32::try_from(HELLO_BYTES_MAX + 1).unwrap();
    stream.write_all(&len.to_le_bytes()).unwrap();
    stream.write_all(&[0; HEADER_BYTES - 4]).unwrap();
    let mut rest = Vec::new();
    let closed = std::io::Read::read_to_end(&mut stream, &mut rest);
    assert!(
        !is_timeout(&closed),
        "it is closed without waiting for what was announced"
    );
    assert!(rest.is_empty());
}

#[test]
fn traffic_and_connections_are_counted_per_peer() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    b.identify(2, 7);
    let (of_a, of_b) = (&a.recorder.metrics.network, &b.recorder.metrics.network);
    let (out, back) = (of_a.peer(1, 2), of_b.peer(2, 1));
    let mut frame = Vec::new();
    PeerMessage::Ping { sent_ns: 1 }.put(&mut frame);
    let bytes = frame.len() as u64;
    assert_eq!(
        a.transport.send(2, frame.clone(), false),
        Sent::Disconnected
    );
    a.dial(&b, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
    // The peer may have it before it is counted here.
    b.recorder.wait_for("what was sent to be counted", |_| {
        out.sent_bytes.get() == bytes
    });
    assert_eq!(back.received_bytes.get(), bytes);
    assert_eq!((out.active.get(), out.disconnected.get()), (1, 0));
    b.transport.stop();
    b.recorder.wait_for("the end of the connection", |_| {
        a.send(2, &PeerMessage::Ping { sent_ns: 2 });
        out.disconnected.get() == 1
    });
    assert_eq!(out.active.get(), 0);
    let before = out.sent_failures.get();
    a.send(2, &PeerMessage::Ping { sent_ns: 3 });
    assert_eq!(out.sent_failures.get(), before + 1, "nobody is there");
}
