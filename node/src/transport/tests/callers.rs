//! A peer that moved or began anew is found by its own call.

use super::*;

#[test]
fn a_peer_whose_name_leads_nowhere_is_found_where_it_calls_from() {
    let (mut a, mut b) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    b.identify(2, 7);
    // Nobody listens there: the resolver has not heard that the peer moved.
    let stale = format!("http://127.0.0.9:{}", b.address.port());
    let peers = BTreeMap::from([(2, vec![stale])]);
    a.transport.set_peers(&peers).unwrap();
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    b.dial(&a, 1);
    b.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
}

#[test]
fn a_call_of_a_new_life_ends_the_connection_to_the_old_one() {
    let (mut a, mut old, mut new) = (Peer::start(), Peer::start(), Peer::start());
    a.identify(1, 7);
    old.identify_as(2, 7, 20);
    a.dial(&old, 2);
    a.send(2, &PeerMessage::Ping { sent_ns: 1 });
    old.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
    // The old process hangs: its connection stands, and what is written there nobody reads.
    let peers = BTreeMap::from([(2, vec![new.url()])]);
    a.transport.set_peers(&peers).unwrap();
    assert!(a.transport.connected_since_ms(2).is_some());
    new.identify_as(2, 7, 21);
    new.dial(&a, 1);
    let mut patience = 1000;
    while new.recorder.state.lock().delivered.is_empty() {
        a.send(2, &PeerMessage::Ping { sent_ns: 2 });
        patience -= 1;
        assert!(patience > 0, "the new life hears nothing");
        std::thread::sleep(Duration::from_millis(10)); // poll interval
    }
}

#[test]
fn a_new_life_that_calls_while_the_old_one_still_answers_is_the_one_dialled() {
    let (mut a, mut new) = (Peer::start(), Peer::start());
    a.identify(1, 7);
    let old = TcpListener::bind(("127.0.0.9", new.address.port())).unwrap();
    let url = format!("http://{}", old.local_addr().unwrap());
    a.transport
        .set_peers(&BTreeMap::from([(2, vec![url])]))
        .unwrap();
    let (mut stream, _) = old.accept().unwrap();
    FrameReader::new(&stream).next_frame().unwrap();
    new.identify_as(2, 7, 21);
    new.dial(&a, 1);
    new.send(1, &PeerMessage::Ping { sent_ns: 1 });
    // Heard after the call was noted.
    a.recorder
        .wait_for("the call", |seen| !seen.delivered.is_empty());
    let mut reply = Vec::new();
    HelloReply {
        refusal: None,
        member: 2,
        directory_id: [1; 16],
        incarnation: 1,
        boot_nonce: 20,
        epoch: 1,
    }
    .put(&mut reply);
    stream.write_all(&reply).unwrap();
    a.send(2, &PeerMessage::Ping { sent_ns: 2 });
    new.recorder
        .wait_for("delivery", |seen| !seen.delivered.is_empty());
}
