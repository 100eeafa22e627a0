//! Plain HTTP: what works, and what every mistake is told.

use super::Served;
use crate::replica::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends bytes and reads until the server closes.
pub(super) async fn raw(served: &Served, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(served.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn send(served: &Served, method: &str, path: &str, body: &str) -> Reply {
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    raw(served, request.as_bytes()).await
}

pub(super) async fn get(served: &Served, path: &str) -> Reply {
    send(served, "GET", path, "").await
}

#[tokio::test]
async fn a_key_is_written_read_listed_and_deleted() {
    let served = Served::joined();
    let put = send(&served, "PUT", "/key/greeting", r#"{"value":"hello"}"#).await;
    assert_eq!(
        (put.status, put.json()),
        (200, json!({"key": "greeting", "revision": 2}))
    );
    let found = get(&served, "/key/greeting").await;
    let pair = json!({"key": "greeting", "value": "hello", "version": 1, "create_revision": 2,
        "mod_revision": 2, "revision": 2});
    assert_eq!((found.status, found.json()), (200, pair));
    let listed = get(&served, "/key?prefix=gree&limit=1").await.json();
    assert_eq!(
        (&listed["count"], &listed["more"]),
        (&json!(1), &json!(false))
    );
    let deleted = send(&served, "DELETE", "/key/greeting", "").await;
    let expected = json!({"key": "greeting", "deleted": 1, "revision": 3});
    assert_eq!((deleted.status, deleted.json()), (200, expected));
    let again = send(&served, "DELETE", "/key/greeting", "").await.json();
    assert_eq!(again["deleted"], 0);
    assert_eq!(get(&served, "/key/greeting").await.status, 404);
}

#[tokio::test]
async fn bytes_that_are_not_text_travel_as_base64() {
    let served = Served::joined();
    let put = send(
        &served,
        "PUT",
        "/key/a%2Fb%ff",
        r#"{"value_base64":"/wA="}"#,
    )
    .await;
    assert_eq!(put.json(), json!({"key_base64": "YS9i/w==", "revision": 2}));
    let found = get(&served, "/key/a/b%FF").await.json();
    assert_eq!(
        (&found["key_base64"], &found["value_base64"]),
        (&json!("YS9i/w=="), &json!("/wA="))
    );
    let empty = send(&served, "PUT", "/key/e", r#"{"value":""}"#).await;
    assert_eq!(empty.status, 200);
    assert_eq!(get(&served, "/key/e").await.json()["value"], "");
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let served = Served::joined();
    for number in 0..7 {
        let path = format!("/key/p/{number}");
        assert_eq!(
            send(&served, "PUT", &path, r#"{"value":"x"}"#).await.status,
            200
        );
    }
    send(&served, "PUT", "/key/q", r#"{"value":"x"}"#).await;
    let mut seen = Vec::new();
    let mut path = "/key?prefix=p/&limit=3".to_owned();
    loop {
        let page = get(&served, &path).await.json();
        let keys = page["kvs"].as_array().unwrap();
        seen.extend(
            keys.iter()
                .map(|pair| pair["key"].as_str().unwrap().to_owned()),
        );
        if page["more"] == false {
            break;
        }
        path = format!("/key?prefix=p/&limit=3&after={}", seen.last().unwrap());
    }
    let expected: Vec<String> = (0..7).map(|number| format!("p/{number}")).collect();
    assert_eq!(seen, expected);
}

/// Method, path, body, status, and a piece of the message and of the remedy.
const MISTAKES: &[(&str, &str, &str, u16, &str, &str)] = &[
    ("GET", "/", "", 404, "nothing at /", "Known paths"),
    ("GET", "/keys/a", "", 404, "nothing at /keys/a", "/key/NAME"),
    (
        "POST",
        "/v3/kv/range",
        "{}",
        501,
        "JSON gateway",
        "Use gRPC",
    ),
    (
        "GET",
        "/key/absent",
        "",
        404,
        "\"absent\" does not exist",
        "Create it with PUT",
    ),
    (
        "POST",
        "/key/a",
        "{}",
        405,
        "POST is not supported",
        "GET, PUT, DELETE",
    ),
    (
        "PATCH",
        "/key/a",
        "{}",
        405,
        "PATCH is not supported",
        "GET, PUT, DELETE",
    ),
    (
        "PUT",
        "/key/",
        r#"{"value":"x"}"#,
        405,
        "PUT is not supported on /key/",
        "A key is missing",
    ),
    (
        "DELETE",
        "/key",
        "",
        405,
        "DELETE is not supported on /key",
        "A key is missing",
    ),
    (
        "GET",
        "/key",
        "",
        400,
        "prefix is missing",
        "GET /key?prefix=TEXT",
    ),
    (
        "GET",
        "/key?prefix=a&limit=0",
        "",
        400,
        "limit=0",
        "from 1 to 10000",
    ),
    (
        "GET",
        "/key?prefix=a&limit=many",
        "",
        400,
        "limit=many",
        "whole number",
    ),
    (
        "GET",
        "/key?prefix=a&limit=99999999999999999999",
        "",
        400,
        "not a number in range",
        "10000",
    ),
    (
        "GET",
        "/key?prefix=a&after=b",
        "",
        400,
        "does not begin with prefix",
        "last key of the previous",
    ),
    (
        "GET",
        "/key?prefix=a&sort=up",
        "",
        400,
        "unknown parameter \"sort\"",
        "prefix, after",
    ),
    (
        "GET",
        "/key?prefix=%zz",
        "",
        400,
        "broken escape at byte 7",
        "%25",
    ),
    (
        "GET",
        "/key/a%2",
        "",
        400,
        "broken escape at byte 1",
        "two hexadecimal digits",
    ),
    (
        "GET",
        "/key/a?revision=-1",
        "",
        400,
        "revision=-1",
        "from 0 to",
    ),
    (
        "GET",
        "/key/a?revision=99",
        "",
        400,
        "future revision",
        "Correct the request",
    ),
    (
        "GET",
        "/key/a?serializable=maybe",
        "",
        400,
        "serializable=maybe",
        "leave it out",
    ),
    (
        "GET",
        "/key/a?rev=1",
        "",
        400,
        "unknown parameter \"rev\"",
        "serializable, revision",
    ),
    (
        "PUT",
        "/key/a",
        "",
        400,
        "the body is empty",
        "{\"value\": \"text\"}",
    ),
    (
        "PUT",
        "/key/a",
        "hello",
        400,
        "cannot be used: expected value at line 1 column 1",
        "JSON object",
    ),
    (
        "PUT",
        "/key/a",
        r#"{"value":"x""#,
        400,
        "EOF while parsing",
        "JSON object",
    ),
    (
        "PUT",
        "/key/a",
        r#"{"vlaue":"x"}"#,
        400,
        "unknown field `vlaue`",
        "value_base64",
    ),
    (
        "PUT",
        "/key/a",
        r#"{"value":7}"#,
        400,
        "invalid type: integer",
        "JSON object",
    ),
    (
        "PUT",
        "/key/a",
        r#"["x"]"#,
        400,
        "cannot be used",
        "JSON object",
    ),
    (
        "PUT",
        "/key/a",
        "{}",
        400,
        "neither value nor value_base64",
        "one field",
    ),
    (
        "PUT",
        "/key/a",
        r#"{"value":"x","value_base64":"eA=="}"#,
        400,
        "both value and",
        "one field",
    ),
    (
        "PUT",
        "/key/a",
        r#"{"value_base64":"*"}"#,
        400,
        "not base64",
        "standard alphabet",
    ),
    (
        "POST",
        "/status",
        "",
        405,
        "POST is not supported on /status",
        "GET",
    ),
    (
        "DELETE",
        "/health",
        "",
        405,
        "DELETE is not supported on /health",
        "GET",
    ),
    (
        "PUT",
        "/metrics",
        "",
        405,
        "PUT is not supported on /metrics",
        "GET",
    ),
    (
        "GET",
        "/livez/nonsense",
        "",
        404,
        "no check \"nonsense\"",
        "serializable_read",
    ),
    ("GET", "/readyz?exclude=%f", "", 400, "broken escape", "%25"),
];

#[tokio::test]
async fn every_mistake_is_told_what_happened_and_what_to_do() {
    let served = Served::joined();
    for &(method, path, body, status, message, remedy) in MISTAKES {
        let reply = send(&served, method, path, body).await;
        let case = format!("{method} {path} {body}: {}", reply.body);
        assert_eq!(reply.status, status, "{case}");
        let told = reply.json();
        assert!(
            told["code"].as_str().is_some_and(|code| !code.is_empty()),
            "{case}"
        );
        assert!(
            told["message"].as_str().unwrap().contains(message),
            "{case}"
        );
        assert!(told["remedy"].as_str().unwrap().contains(remedy), "{case}");
        assert_eq!(reply.head.contains("allow: "), status == 405, "{case}");
    }
    assert_eq!(
        get(&served, "/status").await.json()["revision"],
        1,
        "nothing was changed"
    );
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused_with_the_limit() {
    let served = Served::joined();
    let body = format!(r#"{{"value":"{}"}}"#, "x".repeat(70_000));
    let reply = send(&served, "PUT", "/key/big", &body).await;
    assert_eq!(reply.status, 413, "{}", reply.body);
    assert!(reply.body.contains("--max-request-bytes"), "{}", reply.body);
    let body = format!(r#"{{"value":"{}"}}"#, "x".repeat(700_000));
    let reply = send(&served, "PUT", "/key/big", &body).await;
    assert_eq!(reply.status, 413, "{}", reply.body);
    assert!(
        reply.body.contains("larger than the 589824 bytes"),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn nonsense_on_the_port_closes_that_connection_only() {
    let served = Served::joined();
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and more\r\n\r\n"[..],
        b"hello\r\n\r\n",
    ] {
        let reply = raw(&served, nonsense).await;
        assert!(
            reply.status == 400 || reply.head.is_empty(),
            "{}",
            reply.head
        );
    }
    assert_eq!(get(&served, "/version").await.status, 200);
}

#[tokio::test]
async fn an_unjoined_node_is_alive_not_ready_and_says_why_it_serves_nothing() {
    let served = Served::unjoined();
    assert_eq!(get(&served, "/livez").await.status, 200);
    assert_eq!(get(&served, "/readyz").await.status, 503);
    assert_eq!(
        get(&served, "/health").await.json(),
        json!({"health": "false", "reason": "RAFT NO LEADER"})
    );
    let reply = get(&served, "/key/a").await;
    assert_eq!(reply.status, 503);
    assert!(
        reply
            .body
            .contains("has not joined a cluster: send Bootstrap or Join"),
        "{}",
        reply.body
    );
    assert_eq!(get(&served, "/status").await.json()["phase"], "unjoined");
    assert_eq!(
        get(&served, "/version").await.json()["etcdcluster"],
        "not_decided"
    );
}

#[tokio::test]
async fn probes_name_their_checks_and_honour_verbose_and_exclude() {
    let served = Served::joined();
    assert_eq!(
        get(&served, "/health").await.body,
        "{\"health\":\"true\",\"reason\":\"\"}\n"
    );
    assert_eq!(get(&served, "/readyz").await.body, "ok\n");
    let verbose = get(
        &served,
        "/readyz?verbose&exclude=linearizable_read&exclude=unknown",
    )
    .await;
    let expected = "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(verbose.body, expected);
    assert_eq!(get(&served, "/livez/serializable_read").await.body, "ok\n");
    served.solo.change(|status| status.role = Role::Learner);
    let learner = get(&served, "/readyz").await;
    assert_eq!(learner.status, 503);
    assert!(
        learner
            .body
            .ends_with("[-]non_learner failed: this member is a learner\n")
    );
    assert_eq!(get(&served, "/readyz/data_corruption").await.status, 200);
    assert_eq!(get(&served, "/livez").await.status, 200);
    served.solo.change(|status| {
        status.role = Role::Follower;
        status.leader = 0;
    });
    let reply = get(&served, "/health").await;
    assert_eq!(
        (reply.status, &reply.json()["reason"]),
        (503, &json!("RAFT NO LEADER"))
    );
    assert_eq!(get(&served, "/health?serializable=true").await.status, 200);
}

#[tokio::test]
async fn metrics_show_the_state_and_what_was_served() {
    let served = Served::joined();
    send(&served, "PUT", "/key/a", r#"{"value":"x"}"#).await;
    let text = get(&served, "/metrics").await.body;
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_id{server_id=\"cafe\"} 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_mvcc_put_total 1",
        "quorate_http_requests_total{route=\"/key/{key}\",status=\"200\"} 1",
        "grpc_server_started_total{grpc_method=\"Watch\",grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0",
    ] {
        assert!(text.contains(line), "missing {line} in\n{text}");
    }
}

#[tokio::test]
async fn f10_a_member_that_has_found_damage_is_not_ready_and_says_where() {
    let served = Served::joined();
    let value = "a value that is long enough to be found";
    send(
        &served,
        "PUT",
        "/key/a",
        &format!("{{\"value\":\"{value}\"}}"),
    )
    .await;
    assert_eq!(get(&served, "/readyz/data_corruption").await.status, 200);
    served.solo.damage(value.as_bytes());
    // It is served from memory as long as it is there, and never wrongly.
    let mut reply = get(&served, "/key/a").await;
    for _ in 0..1000 {
        if reply.status != 200 {
            break;
        }
        assert_eq!(reply.json()["value"], value);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await; // poll interval
        reply = get(&served, "/key/a").await;
    }
    assert_eq!(reply.status, 503, "{}", reply.body);
    let ready = get(&served, "/readyz/data_corruption").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("is damaged at byte"), "{}", ready.body);
    assert!(ready.body.contains("restore a backup"), "{}", ready.body);
    let alive = get(&served, "/livez").await;
    assert_eq!(alive.status, 200, "a restart would not help");
}

#[tokio::test]
async fn a_member_with_a_damaged_log_is_not_ready() {
    let served = Served::unjoined();
    served
        .solo
        .change(|status| status.phase = crate::replica::Phase::Repairing);
    let ready = get(&served, "/readyz/data_corruption").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready
            .body
            .contains(&crate::replica::RequestError::Repairing.to_string())
    );
}
