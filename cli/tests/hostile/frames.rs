//! Bytes on the peer port that no member sends: the connection ends, the log says why, and the
//! member goes on.

use super::member::Member;
use crate::process::harness::wait_for;
use quorate_node::transport::{
    FRAME_BYTES_MAX, FrameReader, Hello, HelloRefusal, HelloReply, Purpose, put_frame,
};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Kind of a frame that carries a Raft message.
const RAFT: u8 = 3;

fn connect(member: &Member) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", member.peer_port())).expect("it listens");
    let timeout = Some(Duration::from_secs(20));
    stream.set_read_timeout(timeout).expect("a socket");
    stream
}

/// Sends bytes, says that no more will come, and waits until the member closes. Returns what it
/// said.
fn tell(member: &Member, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(member);
    // The member may have refused before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    // It may close with unread bytes, which resets the connection.
    let _ = stream.read_to_end(&mut said);
    said
}

fn hello(member: &Member) -> Hello {
    let uuid: String = member.status("cluster_uuid").replace('-', "");
    let cluster_uuid = u128::from_str_radix(&uuid, 16)
        .expect("a UUID")
        .to_be_bytes();
    let to = u64::from_str_radix(&member.status("member_id"), 16).expect("a member ID");
    Hello {
        cluster_uuid,
        epoch: 1,
        from: 77,
        to,
        directory_id: [7; 16],
        incarnation: 5,
        boot_nonce: 9,
        purpose: Purpose::Messages,
        peer_urls: Vec::new(),
    }
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, kind, |to| to.extend_from_slice(body));
    bytes
}

fn encoded(hello: &Hello) -> Vec<u8> {
    let mut bytes = Vec::new();
    hello.put(&mut bytes);
    bytes
}

fn damaged(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x40;
    bytes
}

/// Bytes like any, the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn len_bytes(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a length").to_le_bytes()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one flat table of cases")]
fn strange_bytes_on_the_peer_port_close_their_connection_and_say_why() {
    let member = Member::with_a_key();
    let good = hello(&member);
    let before_hello: Vec<(&str, Vec<u8>, &str)> = vec![
        ("zeros", vec![0; 64], "claims 0 bytes"),
        (
            "text",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            "is this a Quorate peer?",
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
            "is this a Quorate peer?",
        ),
        ("all ones", vec![0xff; 64], "is this a Quorate peer?"),
        (
            "one byte too long",
            [&len_bytes(FRAME_BYTES_MAX + 1)[..], &[0; 60]].concat(),
            "is this a Quorate peer?",
        ),
        (
            "a length of a frame, before it is said who sends it",
            [&len_bytes(FRAME_BYTES_MAX)[..], &[0; 60]].concat(),
            "is this a Quorate peer?",
        ),
        (
            "a length that nothing follows",
            [&len_bytes(100)[..], &[0; 60]].concat(),
            "closed by the peer within a frame",
        ),
        (
            "half a header",
            vec![9, 0, 0],
            "closed by the peer within a frame",
        ),
        (
            "a cut hello",
            encoded(&good)[..30].to_vec(),
            "closed by the peer within a frame",
        ),
        (
            "a damaged length",
            damaged(encoded(&good), 0),
            "peer connection closed",
        ),
        (
            "a damaged checksum",
            damaged(encoded(&good), 5),
            "a frame is damaged",
        ),
        (
            "a damaged kind",
            damaged(encoded(&good), 8),
            "a frame is damaged",
        ),
        (
            "a damaged body",
            damaged(encoded(&good), 40),
            "a frame is damaged",
        ),
        ("no hello first", framed(RAFT, b"x"), "first frame"),
        ("another magic", framed(1, &[b'x'; 80]), "malformed message"),
        ("an empty hello", framed(1, b""), "malformed message"),
        (
            "a hello cut inside",
            framed(1, b"quorate\n\x02\x00abc"),
            "malformed message",
        ),
        (
            "bytes after the hello's end",
            {
                let bytes = encoded(&good);
                framed(1, &[&bytes[9..], b"more"].concat())
            },
            "malformed message",
        ),
        ("noise", noise(1, 4096), "peer connection closed"),
        ("other noise", noise(2, 100_000), "peer connection closed"),
    ];
    for (case, bytes, expected) in before_hello {
        let told = member.log().len();
        tell(&member, &bytes);
        wait_for(
            &format!("{case}: the log to say {expected:?}:\n{}", member.log()),
            || member.log()[told..].contains(expected),
        );
        member.check(case);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one flat table of cases")]
fn callers_who_are_not_who_they_should_be_are_refused_with_the_reason() {
    let member = Member::with_a_key();
    let good = hello(&member);
    let refused: Vec<(&str, Hello, HelloRefusal)> = vec![
        (
            "another cluster",
            Hello {
                cluster_uuid: [9; 16],
                ..good.clone()
            },
            HelloRefusal::OtherCluster,
        ),
        (
            "another epoch",
            Hello {
                epoch: 2,
                ..good.clone()
            },
            HelloRefusal::OtherEpoch,
        ),
        (
            "another member",
            Hello {
                to: 4,
                ..good.clone()
            },
            HelloRefusal::OtherMember,
        ),
        (
            "nobody",
            Hello {
                from: 0,
                ..good.clone()
            },
            HelloRefusal::OtherMember,
        ),
        (
            "ourselves",
            Hello {
                from: good.to,
                ..good.clone()
            },
            HelloRefusal::OtherMember,
        ),
    ];
    // From here on the member knows this life of member 77.
    assert_eq!(reply(&member, &good).refusal, None);
    let stale: Vec<(&str, Hello, HelloRefusal)> = vec![
        (
            "an older start",
            Hello {
                incarnation: 4,
                ..good.clone()
            },
            HelloRefusal::Stale,
        ),
        (
            "a copy",
            Hello {
                boot_nonce: 8,
                ..good.clone()
            },
            HelloRefusal::Stale,
        ),
        (
            "another disk",
            Hello {
                directory_id: [8; 16],
                ..good.clone()
            },
            HelloRefusal::Stale,
        ),
    ];
    for (case, hello, expected) in refused.into_iter().chain(stale) {
        assert_eq!(reply(&member, &hello).refusal, Some(expected), "{case}");
        wait_for(case, || member.log().contains(&format!("{expected:?}")));
        member.check(case);
    }
    assert!(
        member
            .log()
            .contains("remove that member and add a new one")
    );
}

fn reply(member: &Member, hello: &Hello) -> HelloReply {
    let mut stream = connect(member);
    stream.write_all(&encoded(hello)).expect("it takes a hello");
    let mut reader = FrameReader::new(&stream);
    let (kind, body) = reader.next_frame().expect("it answers a hello");
    HelloReply::decode(kind, body).expect("a reply")
}

#[test]
fn strange_messages_after_a_good_hello_end_the_connection() {
    let member = Member::with_a_key();
    let hello = encoded(&hello(&member));
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for kind in (0..=15).chain([99, 255]) {
        cases.push((format!("kind {kind}, no body"), framed(kind, b"")));
        cases.push((format!("kind {kind}, ones"), framed(kind, &[0xff; 40])));
        cases.push((
            format!("kind {kind}, noise"),
            framed(kind, &noise(u64::from(kind), 200)),
        ));
    }
    cases.push(("a second hello".to_owned(), hello.clone()));
    cases.push((
        "a damaged frame".to_owned(),
        damaged(framed(RAFT, &[1; 20]), 20),
    ));
    for (case, bytes) in cases {
        let told = member.log().len();
        // A reply to the hello comes first; then the connection ends without our help.
        let mut stream = connect(&member);
        stream.write_all(&hello).expect("it takes a hello");
        // It may have closed before all was written.
        let _ = stream.write_all(&bytes);
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        let kind = ended
            .as_ref()
            .map_or_else(|error| Some(error.kind()), |_| None);
        let cut = !matches!(
            kind,
            Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        );
        assert!(cut, "{case}: the connection goes on");
        wait_for(&format!("{case}: the log to say why"), || {
            member.log()[told..].contains("peer connection closed")
        });
        member.check(&case);
    }
}
