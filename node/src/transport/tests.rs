//! The peer protocol: fixed bytes, hostile bytes, and two nodes on loopback.

mod callers;
mod limits;

use super::*;
use crate::metrics::Metrics;
use crate::transport::message::kind;
use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;
use quorate_raft::{
    AppendOutcome, Change, Entry, EntryId, Envelope, LogIndex, MemberId, Membership, Message,
    Payload, ReadId, SnapshotMeta, Term,
};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: LogIndex(index),
    }
}

fn membership() -> Membership {
    Membership {
        voters: [1, 2, 3].map(MemberId).into(),
        outgoing: [MemberId(4)].into(),
        learners: [MemberId(5)].into(),
        learners_next: [MemberId(4)].into(),
        leave_context: Arc::from(&b"leave"[..]),
    }
}

fn every_raft_message() -> Vec<Message> {
    let entries = vec![
        Entry {
            id: id(2, 7),
            payload: Payload::Empty,
        },
        Entry {
            id: id(2, 8),
            payload: Payload::Command(Arc::from(&b"set"[..])),
        },
        Entry {
            id: id(3, 9),
            payload: Payload::Membership {
                membership: membership().into(),
                context: Arc::from(&b"ctx"[..]),
            },
        },
    ];
    let conflict = AppendOutcome::Conflict {
        refused: LogIndex(5),
        hint: id(1, 2),
    };
    vec![
        Message::PreVote { last: id(1, 2) },
        Message::PreVoteResponse { granted: true },
        Message::Vote {
            last: id(1, 2),
            transfer: true,
        },
        Message::VoteResponse { granted: false },
        Message::Append {
            prev: id(2, 6),
            entries,
            commit: LogIndex(6),
        },
        Message::AppendResponse {
            outcome: AppendOutcome::Matched { last: LogIndex(9) },
        },
        Message::AppendResponse { outcome: conflict },
        Message::AppendResponse {
            outcome: AppendOutcome::Repairing {
                hint: id(1, 2),
                commit: LogIndex(2),
                needs_snapshot: true,
            },
        },
        Message::Heartbeat {
            commit: LogIndex(4),
            round: 11,
        },
        Message::HeartbeatResponse { round: 11 },
        Message::ReadIndex { read: ReadId(3) },
        Message::ReadIndexResponse {
            read: ReadId(3),
            floor: Some(LogIndex(8)),
        },
        Message::ReadIndexResponse {
            read: ReadId(3),
            floor: None,
        },
        Message::TimeoutNow,
    ]
}

fn every_message() -> Vec<PeerMessage> {
    let mut all: Vec<PeerMessage> = every_raft_message()
        .into_iter()
        .map(|message| Envelope {
            from: MemberId(1),
            to: MemberId(2),
            term: Term(3),
            message,
        })
        .map(PeerMessage::Raft)
        .collect();
    let urls = vec!["http://a:1".to_owned()];
    let calls = [
        Call::Add {
            id: 7,
            peer_urls: urls.clone(),
            learner: true,
            expected: Some(4),
        },
        Call::Promote {
            id: 7,
            expected: None,
        },
        Call::Remove {
            id: 7,
            expected: Some(9),
        },
        Call::Update {
            id: 7,
            peer_urls: urls,
        },
    ];
    all.extend(calls.map(|request| PeerMessage::Call { call: 5, request }));
    all.extend([
        PeerMessage::Forward {
            term: Term(4),
            commands: vec![(1, Arc::from(&b"x"[..])); 2],
        },
        PeerMessage::ForwardRefused {
            term: Term(4),
            why: ForwardRefusal::Busy,
            counters: vec![1, 2],
        },
        PeerMessage::CallReply {
            call: 5,
            outcome: Ok(LogIndex(6)),
        },
        PeerMessage::CallReply {
            call: 5,
            outcome: Err(CallRefusal::ConfigChanged(8)),
        },
        PeerMessage::Ping { sent_ns: 1 },
        PeerMessage::Pong { sent_ns: 1 },
    ]);
    all
}

fn body(message: &PeerMessage) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    let mut reader = FrameReader::new(bytes.as_slice());
    let (kind, body) = reader.next_frame().unwrap();
    (kind, body.to_vec())
}

#[test]
fn every_message_survives_the_wire() {
    for message in every_message() {
        let (kind, body) = body(&message);
        assert_eq!(PeerMessage::decode(kind, &body), Ok(message));
    }
}

#[test]
fn a_message_cut_anywhere_or_with_bytes_left_over_is_refused() {
    for message in every_message() {
        let (kind, body) = body(&message);
        for len in 0..body.len() {
            assert!(
                PeerMessage::decode(kind, &body[..len]).is_err(),
                "{message:?} cut at {len}"
            );
        }
        let longer = [&body[..], &[0]].concat();
        assert!(
            PeerMessage::decode(kind, &longer).is_err(),
            "{message:?} with a byte too many"
        );
    }
}

#[test]
fn the_bytes_of_an_append_are_fixed() {
    let message = PeerMessage::Raft(Envelope {
        from: MemberId(1),
        to: MemberId(2),
        term: Term(3),
        message: Message::Append {
            prev: id(2, 6),
            entries: vec![Entry {
                id: id(3, 7),
                payload: Payload::Command(Arc::from(&b"ab"[..])),
            }],
            commit: LogIndex(5),
        },
    });
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "4d000000",
        "21f3c8aa",
        "03",
        "0100000000000000",
        "0200000000000000",
        "0300000000000000",
        "05",
        "0200000000000000",
        "0600000000000000",
        "0500000000000000",
        "01000000",
        "0300000000000000",
        "0700000000000000",
        "01",
        "02000000",
        "6162",
    );
    assert_eq!(hex, expected, "raise PROTOCOL_VERSION");
}

#[test]
fn a_hostile_count_allocates_nothing() {
    let mut body = vec![0; 24];
    body.push(5);
    body.extend_from_slice(&[0; 24]);
    body.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        PeerMessage::decode(kind::RAFT, &body),
        Err(DecodeError::TooLarge {
            what: "number of entries",
            ..
        })
    ));
}

#[test]
fn snapshot_messages_survive_the_wire() {
    let meta = SnapshotMeta {
        last: id(3, 9),
        membership: membership(),
        membership_index: LogIndex(4),
    };
    let messages = [
        SnapshotMessage::Offer {
            term: Term(4),
            meta,
            manifest: Arc::from(&b"m"[..]),
        },
        SnapshotMessage::Wanted {
            ranges: vec![(0, 5), (9, 1)],
        },
        SnapshotMessage::Chunk {
            snapshot: 77,
            number: 1,
            bytes: Arc::from(&b"abc"[..]),
        },
        SnapshotMessage::End { last: LogIndex(9) },
    ];
    for message in messages {
        let mut bytes = Vec::new();
        message.put(&mut bytes);
        let mut reader = FrameReader::new(bytes.as_slice());
        let (kind, body) = reader.next_frame().unwrap();
        assert_eq!(SnapshotMessage::decode(kind, body), Ok(message));
    }
    // The change type is part of what travels only inside the core.
    let _: Change = Change::Remove(MemberId(1));
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(kind in 0u8..20, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = PeerMessage::decode(kind, &body);
        let _ = SnapshotMessage::decode(kind, &body);
        let _ = Hello::decode(kind, &body);
        let _ = HelloReply::decode(kind, &body);
    }

    #[test]
    fn a_damaged_message_is_refused_or_another_message_but_never_a_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let all = every_message();
        let (kind, mut body) = body(which.get(&all));
        let at = at.index(body.len());
        body[at] = byte;
        let _ = PeerMessage::decode(kind, &body);
    }
}

/// Records what arrives; admits everybody but the refused.
#[derive(Default)]
struct Recorder {
    metrics: Metrics,
    state: Mutex<Recorded>,
    changed: Condvar,
}

#[derive(Default)]
struct Recorded {
    delivered: Vec<(u64, PeerMessage)>,
    refusals: Vec<(u64, HelloRefusal)>,
    stale: Option<u64>,
}

impl Recorder {
    fn wait_for(&self, what: &str, done: impl Fn(&Recorded) -> bool) {
        let mut state = self.state.lock();
        let mut patience = 100;
        while !done(&state) {
            self.changed
                .wait_for(&mut state, Duration::from_millis(100));
            patience -= 1;
            assert!(patience > 0, "{what} did not happen within 10 s");
        }
    }
}

impl Sink for Recorder {
    fn counters(&self, local: u64, peer: u64) -> PeerMetrics {
        self.metrics.network.peer(local, peer)
    }

    fn deliver(&self, from: u64, messages: Vec<PeerMessage>, _: usize) {
        let mut state = self.state.lock();
        state
            .delivered
            .extend(messages.into_iter().map(|message| (from, message)));
        self.changed.notify_all();
    }

    fn admit(&self, peer: u64, _: PeerLife) -> Result<(), HelloRefusal> {
        if self.state.lock().stale == Some(peer) {
            Err(HelloRefusal::Stale)
        } else {
            Ok(())
        }
    }

    fn refused(&self, _: u64, by: u64, why: HelloRefusal) {
        self.state.lock().refusals.push((by, why));
        self.changed.notify_all();
    }

    fn connected(&self, _: u64, _: &[String]) {}

    fn membership(&self) -> Option<Vec<u8>> {
        Some(b"members".to_vec())
    }

    fn receive_snapshot(&self, _: u64, _: &mut FrameReader<&PeerStream>, _: &PeerStream) {}

    fn now_ms(&self) -> u64 {
        1
    }
}

struct Peer {
    transport: Transport,
    recorder: Arc<Recorder>,
    address: SocketAddr,
    tls: Option<Arc<crate::tls::Port>>,
}

impl Peer {
    fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(tls: Option<Arc<crate::tls::Port>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = Arc::new(Recorder::default());
        let sink: Arc<dyn Sink> = recorder.clone();
        let port = PeerPort {
            listeners: vec![listener],
            tls: tls.clone(),
        };
        let transport = Transport::start(port, sink).unwrap();
        Self {
            transport,
            recorder,
            address,
            tls,
        }
    }

    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    fn identify(&mut self, member: u64, uuid: u8) {
        self.identify_as(member, uuid, member);
    }

    fn identify_as(&mut self, member: u64, uuid: u8, boot_nonce: u64) {
        self.identify_in(1, member, uuid, boot_nonce);
    }

    fn identify_in(&mut self, epoch: u64, member: u64, uuid: u8, boot_nonce: u64) {
        self.transport.identify(Some(Local {
            cluster_uuid: [uuid; 16],
            epoch,
            member,
            life: PeerLife {
                directory_id: [1; 16],
                incarnation: 1,
                boot_nonce,
            },
            peer_urls: vec![self.url()],
            tls: self.tls.clone(),
        }));
    }

    fn dial(&mut self, other: &Peer, as_member: u64) {
        let peers = BTreeMap::from([(as_member, vec![other.url()])]);
        self.transport.set_peers(&peers).unwrap();
    }

    fn send(&self, to: u64, message: &PeerMessage) -> Sent {
        let mut frames = Vec::new();
        message.put(&mut frames);
        self.transport.send(to, frames, false)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.transport.stop();
    }
}

#[test]
fn messages_said_before_the_connection_arrive_once_it_stands() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    a.dial(&b, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.identify(2, 7);
    b.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
    assert_eq!(a.send(2, &PeerMessage::Ping { sent_ns: 2 }), Sent::Accepted);
    b.recorder
        .wait_for("delivery", |seen| seen.delivered.len() == 2);
    let expected = [1, 2].map(|sent_ns| (1, PeerMessage::Ping { sent_ns }));
    assert_eq!(b.recorder.state.lock().delivered, expected);
    assert!(a.transport.connected_since_ms(2).is_some());
}

#[test]
fn a_large_message_leaves_in_pieces_and_arrives_whole() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    b.identify(2, 7);
    a.dial(&b, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.recorder
        .wait_for("connection", |seen| !seen.delivered.is_empty());
    let large = PeerMessage::Forward {
        term: Term(1),
        commands: vec![(1, vec![9; 20 << 20].into())],
    };
    a.send(2, &large);
    a.send(2, &PeerMessage::Ping { sent_ns: 2 });
    b.recorder
        .wait_for("delivery", |seen| seen.delivered.len() == 3);
    let seen = b.recorder.state.lock();
    assert_eq!(seen.delivered[1].1, large);
    assert_eq!(seen.delivered[2].1, PeerMessage::Ping { sent_ns: 2 });
}

#[test]
fn strangers_stale_copies_and_misdirected_callers_are_told_so() {
    use HelloRefusal::{OtherCluster, OtherEpoch, OtherMember, Stale};
    let cases = [
        ("another cluster", (1, 2, 8), None, OtherCluster),
        ("another member", (1, 3, 7), None, OtherMember),
        ("a later epoch", (2, 2, 7), None, OtherEpoch),
        ("an earlier epoch", (0, 2, 7), None, OtherEpoch),
        ("a stale copy", (1, 2, 7), Some(1), Stale),
    ];
    for (label, (epoch, member, uuid), stale, expected) in cases {
        let (mut a, mut b) = (Peer::start(), Peer::start());
        a.identify(1, 7);
        b.identify_in(epoch, member, uuid, member);
        b.recorder.state.lock().stale = stale;
        a.dial(&b, 2);
        a.recorder
            .wait_for(label, |seen| seen.refusals.contains(&(2, expected)));
        assert!(b.recorder.state.lock().delivered.is_empty(), "{label}");
    }
}

#[test]
fn an_impostor_on_a_good_connection_is_cut_off() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    b.identify(2, 7);
    a.dial(&b, 2);
    let forged = PeerMessage::Raft(Envelope {
        from: MemberId(3),
        to: MemberId(2),
        term: Term(9),
        message: Message::TimeoutNow,
    });
    a.send(2, &forged);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    // The connection is closed by b, dialled again by a, and good again.
    let mut tries = 0u64;
    while b.recorder.state.lock().delivered.is_empty() {
        a.send(2, &PeerMessage::Ping { sent_ns: tries });
        tries += 1;
        std::thread::yield_now();
        assert!(tries < 50_000_000, "no good connection came back");
    }
    let seen = b.recorder.state.lock();
    assert!(
        seen.delivered
            .iter()
            .all(|(_, message)| matches!(message, PeerMessage::Ping { .. }))
    );
}

#[test]
fn garbage_closes_its_connection_and_nothing_else() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    b.identify(2, 7);
    a.dial(&b, 2);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[255; 64]] {
        let mut stream = TcpStream::connect(b.address).unwrap();
        stream.write_all(garbage).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut rest = Vec::new();
        let closed = std::io::Read::read_to_end(&mut stream, &mut rest);
        assert!(closed.is_err() || rest.is_empty(), "answered {rest:?}");
    }
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
}

#[test]
fn a_node_without_identity_may_ask_for_the_membership() {
    let mut b = Peer::start();
    let refused = query_membership(&[b.url()], None).unwrap_err();
    assert!(
        matches!(refused, ConnectError::Refused(HelloRefusal::NotReady)),
        "{refused}"
    );
    b.identify(2, 7);
    let (members, epoch) = query_membership(&[b.url()], None).unwrap();
    assert_eq!((members.as_slice(), epoch), (&b"members"[..], 1));
}

/// The same over TLS, and what TLS refuses.
mod secure;
