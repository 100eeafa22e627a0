//! gRPC: through the generated clients, and frame by frame for what no client would send.

use super::Served;
use crate::replica::Role;
use crate::replica::solo::MEMBER_ID;
use bytes::Bytes;
use http::{HeaderMap, Request};
use quorate_api::admin::v1 as admin;
use quorate_api::admin::v1::admin_client::AdminClient;
use quorate_api::client;
use quorate_api::etcdserverpb as pb;
use quorate_api::etcdserverpb::lease_client::LeaseClient;
use std::future::poll_fn;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

pub(super) async fn channel(address: std::net::SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

pub(super) fn put(key: &'static [u8], value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from_static(key),
        value: value.into(),
        ..Default::default()
    }
}

fn range(key: &'static [u8]) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::from_static(key),
        ..Default::default()
    }
}

#[tokio::test]
async fn writes_and_reads_carry_etcds_headers_and_revisions() {
    let served = Served::joined();
    let mut kv = client::kv(channel(served.address()).await);
    let header = kv
        .put(put(b"a", "1"))
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    let got = (
        header.cluster_id,
        header.member_id,
        header.revision,
        header.raft_term,
    );
    assert_eq!(got, (0xbeef, MEMBER_ID, 2, 3));
    let again = pb::PutRequest {
        prev_kv: true,
        ..put(b"a", "2")
    };
    let again = kv.put(again).await.unwrap().into_inner();
    assert_eq!(again.prev_kv.unwrap().value, "1");
    let found = kv.range(range(b"a")).await.unwrap().into_inner();
    assert_eq!(
        (
            found.count,
            found.kvs[0].version,
            found.header.unwrap().revision
        ),
        (1, 2, 3)
    );
    let deleted = pb::DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    assert_eq!(
        kv.delete_range(deleted).await.unwrap().into_inner().deleted,
        1
    );
    let compact = pb::CompactionRequest {
        revision: 3,
        physical: false,
    };
    assert_eq!(
        kv.compact(compact)
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision,
        4
    );
    let old = pb::RangeRequest {
        revision: 2,
        ..range(b"a")
    };
    let status = kv.range(old).await.expect_err("compacted");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(
        status.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
}

#[tokio::test]
async fn a_txn_runs_one_branch_and_a_read_only_one_takes_no_revision() {
    let served = Served::joined();
    let mut kv = client::kv(channel(served.address()).await);
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let absent = pb::Compare {
        target: pb::compare::CompareTarget::Create.into(),
        key: "k".into(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(0)),
        ..Default::default()
    };
    let create = pb::TxnRequest {
        compare: vec![absent],
        success: vec![op(pb::request_op::Request::RequestPut(put(b"k", "v")))],
        failure: vec![op(pb::request_op::Request::RequestRange(range(b"k")))],
    };
    let first = kv.txn(create.clone()).await.unwrap().into_inner();
    assert_eq!((first.succeeded, first.header.unwrap().revision), (true, 2));
    let second = kv.txn(create).await.unwrap().into_inner();
    assert_eq!(
        (second.succeeded, second.header.unwrap().revision),
        (false, 2)
    );
    let read = pb::TxnRequest {
        success: vec![op(pb::request_op::Request::RequestRange(range(b"k")))],
        ..Default::default()
    };
    assert_eq!(
        kv.txn(read)
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision,
        2
    );
    let text = served_metrics(&served).await;
    assert!(text.contains(
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"ReadonlyTxn\"} 1"
    ));
}

async fn served_metrics(served: &Served) -> String {
    super::http::get(served, "/metrics").await.body
}

#[tokio::test]
async fn refusals_have_etcds_code_and_text() {
    let served = Served::joined();
    let mut kv = client::kv(channel(served.address()).await);
    let cases = [
        (
            kv.put(put(b"", "x")).await.err(),
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        ),
        (
            kv.put(put(b"k", vec![b'x'; 70_000])).await.err(),
            Code::InvalidArgument,
            "etcdserver: request is too large",
        ),
        (
            kv.range(pb::RangeRequest {
                sort_order: 9,
                ..range(b"k")
            })
            .await
            .err(),
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
        (
            kv.range(pb::RangeRequest {
                revision: 99,
                ..range(b"k")
            })
            .await
            .err(),
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            kv.put(pb::PutRequest {
                ignore_value: true,
                ..put(b"k", "")
            })
            .await
            .err(),
            Code::InvalidArgument,
            "etcdserver: key not found",
        ),
        (
            kv.put(put(b"k", vec![b'x'; 700_000])).await.err(),
            Code::ResourceExhausted,
            "grpc: received message larger than max (700007 vs. 589824)",
        ),
    ];
    for (status, code, text) in cases {
        let status = status.expect(text);
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let mut lease = LeaseClient::new(channel(served.address()).await);
    let status = lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 5, id: 0 })
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.message(),
        "quorate: etcdserverpb.Lease/LeaseGrant is not served by this version"
    );
}

#[tokio::test]
async fn a_learner_serves_status_and_serializable_reads_only() {
    let served = Served::joined();
    served.solo.change(|status| status.role = Role::Learner);
    let channel = channel(served.address()).await;
    let (mut kv, mut maintenance) = (
        client::kv(channel.clone()),
        client::maintenance(channel.clone()),
    );
    let refused = [
        kv.range(range(b"k")).await.err(),
        kv.put(put(b"k", "v")).await.err(),
        maintenance.alarm(pb::AlarmRequest::default()).await.err(),
        client::cluster(channel)
            .member_list(pb::MemberListRequest::default())
            .await
            .err(),
    ];
    for status in refused {
        let status = status.expect("a learner refuses");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.message(),
            "etcdserver: rpc not supported for learner"
        );
    }
    let serializable = pb::RangeRequest {
        serializable: true,
        ..range(b"k")
    };
    assert_eq!(kv.range(serializable).await.unwrap().into_inner().count, 0);
    assert!(
        maintenance
            .status(pb::StatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .is_learner
    );
}

#[tokio::test]
async fn without_a_leader_a_client_that_asks_for_one_is_refused() {
    let served = Served::joined();
    served.solo.change(|status| status.leader = 0);
    let mut kv = client::kv(channel(served.address()).await);
    let mut request = tonic::Request::new(pb::RangeRequest {
        serializable: true,
        ..range(b"k")
    });
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    let status = kv.range(request).await.expect_err("no leader");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    let serializable = pb::RangeRequest {
        serializable: true,
        ..range(b"k")
    };
    assert!(kv.range(serializable).await.is_ok());
}

#[tokio::test]
async fn maintenance_answers_what_etcdctl_asks() {
    let served = Served::joined();
    let mut maintenance = client::maintenance(channel(served.address()).await);
    let status = maintenance
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.version.as_str(), status.leader),
        ("3.7.3", MEMBER_ID)
    );
    assert!(status.downgrade_info.is_some() && status.errors.is_empty());
    let alarms = maintenance
        .alarm(pb::AlarmRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(alarms.alarms.is_empty() && alarms.header.is_some());
    let defragment = maintenance
        .defragment(pb::DefragmentRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(defragment.header.is_none());
    let hash = maintenance
        .hash_kv(pb::HashKvRequest { revision: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((hash.hash_revision, hash.compact_revision), (1, -1));
}

#[tokio::test]
async fn health_and_reflection_answer_on_the_same_port() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let served = Served::joined();
    let channel = channel(served.address()).await;
    let mut health = HealthClient::new(channel.clone());
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = health.check(ask("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    assert_eq!(
        health.check(ask("nope")).await.expect_err("unknown").code(),
        Code::NotFound
    );
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    served
        .solo
        .change(|status| status.phase = crate::replica::Phase::Stopping);
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let stream = tokio_stream::iter([request]);
    let mut answers = reflection
        .server_reflection_info(stream)
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "etcdserverpb.KV",
        "etcdserverpb.Watch",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn an_unjoined_node_answers_its_admin_service_and_refuses_clients() {
    let served = Served::unjoined();
    let mut admin = AdminClient::new(channel(served.running.admin_addr().unwrap()).await);
    let identity = admin
        .identity(admin::IdentityRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(identity.state(), admin::State::Unjoined);
    assert_eq!((identity.member_id, identity.pid), (0, std::process::id()));
    let request = admin::BootstrapRequest {
        member_id: 1,
        ..Default::default()
    };
    let status = admin.bootstrap(request).await.expect_err("no UUID");
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut kv = client::kv(channel(served.address()).await);
    let status = kv.range(range(b"k")).await.expect_err("unjoined");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("has not joined a cluster"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn the_admin_service_tells_the_membership() {
    let served = Served::joined();
    let mut admin = AdminClient::new(channel(served.running.admin_addr().unwrap()).await);
    let view = admin
        .membership(admin::MembershipRequest { local: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (view.config_index, view.settled, view.leader),
        (5, true, MEMBER_ID)
    );
    assert_eq!((view.members.len(), view.answered_by), (1, MEMBER_ID));
    assert!(view.members[0].healthy);
    assert_eq!(view.members[0].role(), admin::Role::Voter);
}

/// Sends one call as raw pieces and returns gRPC's status from head or trailers.
async fn frames(
    served: &Served,
    path: &str,
    headers: &[(&str, &str)],
    pieces: &[&[u8]],
) -> (i32, String) {
    let stream = tokio::net::TcpStream::connect(served.address())
        .await
        .unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request =
        Request::post(format!("http://x{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client
        .send_request(request.body(()).unwrap(), pieces.is_empty())
        .unwrap();
    for (number, piece) in pieces.iter().enumerate() {
        let last = number + 1 == pieces.len();
        // The server may have refused already and closed the stream.
        let _ = send.send_data(Bytes::copy_from_slice(piece), last);
    }
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut headers: HeaderMap = head.headers;
    while let Some(chunk) = poll_fn(|task| body.poll_data(task)).await {
        let len = chunk.unwrap().len();
        body.flow_control().release_capacity(len).unwrap();
    }
    if let Some(trailers) = poll_fn(|task| body.poll_trailers(task)).await.unwrap() {
        headers.extend(trailers);
    }
    drop((client, send, body));
    driver.abort();
    let text = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

const RANGE: &str = "/etcdserverpb.KV/Range";

#[tokio::test]
async fn hostile_frames_end_their_call_and_nothing_else() {
    let served = Served::joined();
    let internal = Code::Internal as i32;
    let cases: &[(&[&[u8]], i32, &str)] = &[
        (&[], internal, "before its message began"),
        (&[b"\0\0"], internal, "before its message began"),
        (&[b"\0\0\0\0\x05ab"], internal, "ended inside its message"),
        (
            &[b"\0\0\0\0\x01abc"],
            internal,
            "more bytes than the one message",
        ),
        (
            &[b"\0\0\0\0\0", b"\0\0\0\0\0"],
            internal,
            "more bytes than the one message",
        ),
        (&[b"\x01\0\0\0\x01a"], internal, "compressed flag set"),
        (
            &[b"\x07\0\0\0\x01a"],
            internal,
            "unexpected payload format 7",
        ),
        (
            &[b"\0\xff\xff\xff\xff"],
            Code::ResourceExhausted as i32,
            "larger than max (4294967295",
        ),
        (
            &[b"\0\0\0\0\x02\xff\xff"],
            internal,
            "error unmarshalling request",
        ),
        (
            &[b"\0\0\0\0\x03\x0a\x7fa"],
            internal,
            "error unmarshalling request",
        ),
    ];
    for (pieces, code, text) in cases {
        let (got, message) = frames(&served, RANGE, &[], pieces).await;
        assert_eq!(got, *code, "{pieces:?}: {message}");
        assert!(message.contains(text), "{pieces:?}: {message}");
    }
    let (code, message) = frames(
        &served,
        RANGE,
        &[],
        &[b"\0\0", b"\0\0\x03", b"\x0a", b"\x01k"],
    )
    .await;
    assert_eq!(
        (code, message.as_str()),
        (0, ""),
        "a message in pieces is a message"
    );
}

#[tokio::test]
async fn wrong_paths_and_headers_are_told_apart() {
    let served = Served::joined();
    let whole: &[&[u8]] = &[b"\0\0\0\0\x03\x0a\x01k"];
    let unimplemented = Code::Unimplemented as i32;
    let (code, message) = frames(&served, "/etcdserverpb.KV/Nope", &[], whole).await;
    assert_eq!(
        (code, message.as_str()),
        (
            unimplemented,
            "unknown method Nope for service etcdserverpb.KV"
        )
    );
    let (code, message) = frames(&served, "/v3lockpb.Lock/Lock", &[], whole).await;
    assert_eq!(
        (code, message.as_str()),
        (unimplemented, "unknown service v3lockpb.Lock")
    );
    let gzip = [("grpc-encoding", "gzip")];
    let (code, message) = frames(&served, RANGE, &gzip, &[b"\x01\0\0\0\x03\x0a\x01k"]).await;
    assert_eq!(code, unimplemented);
    assert!(
        message.contains("not installed for grpc-encoding \"gzip\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_client_gets_its_own_deadline_back_and_slow_calls_do_not_block_fast_ones() {
    let served = Served::joined();
    served
        .solo
        .hold_reads
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let channel = channel(served.address()).await;
    let mut waiting = client::kv(channel.clone());
    let waits = tokio::spawn(async move { waiting.range(range(b"k")).await });
    let whole: &[&[u8]] = &[b"\0\0\0\0\x03\x0a\x01k"];
    let (code, message) = frames(&served, RANGE, &[("grpc-timeout", "20m")], whole).await;
    let expected = (Code::DeadlineExceeded as i32, "context deadline exceeded");
    assert_eq!((code, message.as_str()), expected);
    let mut kv = client::kv(channel);
    let serializable = pb::RangeRequest {
        serializable: true,
        ..range(b"k")
    };
    assert!(
        kv.range(serializable).await.is_ok(),
        "the same connection goes on"
    );
    assert!(!waits.is_finished());
    served
        .solo
        .hold_reads
        .store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(waits.await.unwrap().is_ok());
}

#[tokio::test]
async fn many_calls_on_one_connection_are_all_answered() {
    let served = Served::joined();
    let channel = channel(served.address()).await;
    let calls = (0..500_u32).map(|number| {
        let mut kv = client::kv(channel.clone());
        tokio::spawn(async move {
            let key = Bytes::from(format!("key-{number:04}"));
            let put = pb::PutRequest {
                key: key.clone(),
                value: key.clone(),
                ..Default::default()
            };
            kv.put(put).await.unwrap();
            let range = pb::RangeRequest {
                key: key.clone(),
                ..Default::default()
            };
            assert_eq!(
                kv.range(range).await.unwrap().into_inner().kvs[0].value,
                key
            );
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let mut kv = client::kv(channel);
    let all = pb::RangeRequest {
        range_end: Bytes::from_static(b"\0"),
        ..range(b"\0")
    };
    // Long enough to be made away from the serving threads once there are more than 512.
    for number in 500..600_u32 {
        let key = Bytes::from(format!("key-{number:04}"));
        kv.put(pb::PutRequest {
            key,
            ..Default::default()
        })
        .await
        .unwrap();
    }
    let all = kv.range(all).await.unwrap().into_inner();
    assert_eq!((all.kvs.len(), all.count), (600, 600));
    assert!(served_metrics(&served).await.contains(
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 600"
    ));
}
