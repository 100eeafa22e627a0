//! One store behind three doors: what is written through the command line, plain HTTP or gRPC, on
//! any member, reads the same through each of them on every member. And what `curl` does wrong is
//! answered with JSON that says what to do.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use quorate_api::etcdserverpb::kv_client::KvClient;
use quorate_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::process::harness::{Cluster, http, json as http_json};

const MIB: usize = 1 << 20;

/// A way to the store.
#[derive(Clone, Copy, Debug)]
enum Door {
    CommandLine,
    Rest,
    Grpc,
}

const DOORS: [Door; 3] = [Door::CommandLine, Door::Rest, Door::Grpc];

/// What a read shows of a key.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    value: Vec<u8>,
    version: i64,
    mod_revision: i64,
}

/// The client port of one member, and a way to it.
struct Client {
    port: u16,
    runtime: Runtime,
    grpc: KvClient<Channel>,
}

impl Client {
    fn new(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let grpc = runtime
            .block_on(KvClient::connect(format!("http://127.0.0.1:{port}")))
            .expect("the member serves");
        Self {
            port,
            runtime,
            grpc,
        }
    }

    /// Writes through a door; the revision that the answer names.
    fn put(&self, door: Door, key: &[u8], value: &[u8]) -> i64 {
        match door {
            Door::CommandLine => {
                let answer = self.command("put", key, &["-", "--output=json"], value);
                number(&document(&answer)["header"]["revision"])
            }
            Door::Rest => {
                let body = match std::str::from_utf8(value) {
                    Ok(text) => json!({ "value": text }),
                    Err(_) => json!({ "value_base64": BASE64.encode(value) }),
                };
                let (status, reply) =
                    http_json(self.port, "PUT", &path(key), &body.to_string()).expect("an answer");
                assert_eq!(status, 200, "{reply}");
                number(&reply["revision"])
            }
            Door::Grpc => {
                let request = PutRequest {
                    key: key.to_vec().into(),
                    value: value.to_vec().into(),
                    ..PutRequest::default()
                };
                let reply = self.runtime.block_on(self.grpc.clone().put(request));
                let header = reply.expect("a put succeeds").into_inner().header;
                header.expect("every answer has a header").revision
            }
        }
    }

    /// Reads through a door; `None` for a key that does not exist.
    fn get(&self, door: Door, key: &[u8]) -> Option<Seen> {
        match door {
            Door::CommandLine => {
                let details = self.command("get", key, &["--output=json"], b"");
                let details = document(&details);
                let row = details["kvs"].get(0)?;
                let raw = self.command("get", key, &["--print-value-only"], b"");
                Some(Seen {
                    value: raw.stdout,
                    version: number(&row["version"]),
                    mod_revision: number(&row["mod_revision"]),
                })
            }
            Door::Rest => {
                let (status, row) = http_json(self.port, "GET", &path(key), "").expect("an answer");
                if status == 404 {
                    return None;
                }
                assert_eq!(status, 200, "{row}");
                Some(Seen {
                    value: textual(&row, "value"),
                    version: number(&row["version"]),
                    mod_revision: number(&row["mod_revision"]),
                })
            }
            Door::Grpc => {
                let request = RangeRequest {
                    key: key.to_vec().into(),
                    ..RangeRequest::default()
                };
                let reply = self.runtime.block_on(self.grpc.clone().range(request));
                let row = reply.expect("a read succeeds").into_inner().kvs.pop()?;
                Some(Seen {
                    value: row.value.to_vec(),
                    version: row.version,
                    mod_revision: row.mod_revision,
                })
            }
        }
    }

    /// Deletes through a door; how many keys that were.
    fn delete(&self, door: Door, key: &[u8]) -> i64 {
        match door {
            Door::CommandLine => {
                let answer = self.command("del", key, &["--output=json"], b"");
                number(&document(&answer)["deleted"])
            }
            Door::Rest => {
                let (status, reply) =
                    http_json(self.port, "DELETE", &path(key), "").expect("an answer");
                assert_eq!(status, 200, "{reply}");
                number(&reply["deleted"])
            }
            Door::Grpc => {
                let request = DeleteRangeRequest {
                    key: key.to_vec().into(),
                    ..DeleteRangeRequest::default()
                };
                let reply = self
                    .runtime
                    .block_on(self.grpc.clone().delete_range(request));
                reply.expect("a delete succeeds").into_inner().deleted
            }
        }
    }

    /// Runs `quorate VERB KEY OPTIONS…` on this member; it must succeed.
    fn command(&self, verb: &str, key: &[u8], options: &[&str], stdin: &[u8]) -> Output {
        let mut words: Vec<OsString> = vec![verb.into(), OsStr::from_bytes(key).to_owned()];
        words.extend(options.iter().map(OsString::from));
        words.push(format!("--endpoints=127.0.0.1:{}", self.port).into());
        let mut child = crate::guard::quorate()
            .args(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built with the tests");
        let mut input = child.stdin.take().expect("it is piped");
        input.write_all(stdin).expect("the command reads its input");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        output
    }
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("--output=json prints JSON")
}

/// A number, also where it stands as a text.
fn number(value: &Value) -> i64 {
    let text = || value.as_str().and_then(|text| text.parse().ok());
    value
        .as_i64()
        .or_else(text)
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Bytes that stand under `field`, or as base64 under the name beside it.
fn textual(row: &Value, field: &str) -> Vec<u8> {
    match (row[field].as_str(), row[format!("{field}_base64")].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(encoded)) => BASE64.decode(encoded).expect("base64"),
        _ => panic!("one of two forms: {row}"),
    }
}

/// Every byte of the key escaped: the strictest client there is.
fn path(key: &[u8]) -> String {
    let escaped: String = key.iter().map(|byte| format!("%{byte:02X}")).collect();
    format!("/key/{escaped}")
}

/// Keys and values of every kind.
fn pairs() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = every_byte.iter().copied().cycle().take(MIB).collect();
    vec![
        ("text", b"greeting".to_vec(), b"hello".to_vec()),
        ("empty", b"nothing".to_vec(), Vec::new()),
        (
            "lines",
            b"a b/c?d#e%f".to_vec(),
            b"\none\r\n\ttwo\n\n".to_vec(),
        ),
        (
            "unicode",
            "k\u{e4}se \u{1f9c0}".into(),
            "\u{0}\u{fffd}\u{1f9c0}\"\\".into(),
        ),
        ("every byte", b"bytes".to_vec(), every_byte),
        (
            "not UTF-8",
            b"key \xff\xfe\x80".to_vec(),
            b"\xc3\x28 \xf0\x9f".to_vec(),
        ),
        ("1 MiB of text", b"large text".to_vec(), vec![b'x'; MIB]),
        ("1 MiB of bytes", b"large bytes".to_vec(), large),
    ]
}

#[test]
fn every_door_on_every_member_shows_the_same() {
    let cluster = Cluster::start();
    let clients: Vec<Client> = (0..3).map(|slot| Client::new(cluster.port(slot))).collect();
    for (kind, key, value) in pairs() {
        let mut revision_before = 0;
        for ((writer, door), version) in DOORS.into_iter().enumerate().zip(1..) {
            let revision = clients[writer].put(door, &key, &value);
            assert!(revision > revision_before, "{kind}: revisions grow");
            revision_before = revision;
            let expected = Seen {
                value: value.clone(),
                version,
                mod_revision: revision,
            };
            for (member, client) in clients.iter().enumerate() {
                for reader in DOORS {
                    // Not `assert_eq`: nobody reads two megabytes of numbers.
                    let seen = client.get(reader, &key);
                    assert!(
                        seen.as_ref() == Some(&expected),
                        "{kind}: written through {door:?} on m{writer} at {revision}, \
                         read otherwise through {reader:?} on m{member}: {:?}",
                        seen.map(|seen| (seen.value.len(), seen.version, seen.mod_revision))
                    );
                }
            }
        }
        for (slot, door) in DOORS.into_iter().enumerate() {
            let deleted = clients[slot].delete(door, &key);
            assert_eq!(
                deleted,
                i64::from(slot == 0),
                "{kind}: deleted through {door:?}"
            );
            for client in &clients {
                for reader in DOORS {
                    assert_eq!(
                        client.get(reader, &key),
                        None,
                        "{kind}: gone for {reader:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_list_shows_keys_and_values_of_every_kind() {
    let cluster = Cluster::start();
    let clients: Vec<Client> = (0..3).map(|slot| Client::new(cluster.port(slot))).collect();
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (_, key, value) in pairs() {
        clients[0].put(Door::Grpc, &key, &value);
        expected.push((key, value));
    }
    expected.sort();
    for client in &clients {
        let (status, reply) = http_json(client.port, "GET", "/key?prefix=", "").expect("an answer");
        assert_eq!(status, 200);
        let rows = reply["kvs"].as_array().expect("a list");
        let listed: Vec<(Vec<u8>, Vec<u8>)> = rows
            .iter()
            .map(|row| (textual(row, "key"), textual(row, "value")))
            .collect();
        assert!(
            listed == expected,
            "the list on port {} differs",
            client.port
        );
        let output = client.command("get", b"", &["--prefix", "--keys-only"], b"");
        let keys: Vec<u8> = expected
            .iter()
            .flat_map(|(key, _)| [key, &b"\n"[..]].concat())
            .collect();
        assert_eq!(output.stdout, keys);
    }
}

/// Method, path, body; status, and a word that the remedy must hold.
type Mistake = (&'static str, &'static str, &'static str, u16, &'static str);

const MISTAKES: &[Mistake] = &[
    // `curl -d` without `-X PUT`.
    ("POST", "/key/a", "{\"value\":\"x\"}", 405, "PUT"),
    ("PATCH", "/key/a", "{\"value\":\"x\"}", 405, "PUT"),
    ("PUT", "/key/a", "", 400, "{\"value\": \"text\"}"),
    ("PUT", "/key/a", "hello", 400, "{\"value\": \"text\"}"),
    ("PUT", "/key/a", "value=hello", 400, "{\"value\": \"text\"}"),
    (
        "PUT",
        "/key/a",
        "{\"valeu\":\"x\"}",
        400,
        "{\"value\": \"text\"}",
    ),
    (
        "PUT",
        "/key/a",
        "{\"value\":5}",
        400,
        "{\"value\": \"text\"}",
    ),
    (
        "PUT",
        "/key/a",
        "{\"value\":null}",
        400,
        "{\"value\": \"text\"}",
    ),
    ("PUT", "/key/a", "{}", 400, "value_base64"),
    ("PUT", "/key/a", "[\"value\",\"x\"]", 400, "value_base64"),
    ("PUT", "/key/a", "{\"value\":\"x\"", 400, "JSON object"),
    (
        "PUT",
        "/key/a",
        "{\"value\":\"x\",\"value_base64\":\"eA==\"}",
        400,
        "one field",
    ),
    ("PUT", "/key/a", "{\"value_base64\":\"***\"}", 400, "base64"),
    ("PUT", "/key/%zz", "{\"value\":\"x\"}", 400, "%25"),
    ("PUT", "/key", "{\"value\":\"x\"}", 405, "/key/NAME"),
    ("PUT", "/key/", "{\"value\":\"x\"}", 405, "/key/NAME"),
    ("DELETE", "/key", "", 405, "/key/NAME"),
    ("GET", "/key/missing", "", 404, "PUT"),
    ("GET", "/key/100%", "", 400, "%25"),
    ("GET", "/key/a?revision=x", "", 400, "whole number"),
    ("GET", "/key/a?revision=-1", "", 400, "whole number"),
    ("GET", "/key/a?revision=999999", "", 400, "Correct"),
    ("GET", "/key/a?rev=1", "", 400, "revision"),
    (
        "GET",
        "/key/a?serializable=maybe",
        "",
        400,
        "serializable=true",
    ),
    ("GET", "/key", "", 400, "prefix="),
    ("GET", "/key?prefix=a&limit=0", "", 400, "1 to"),
    ("GET", "/key?prefix=a&limit=many", "", 400, "1 to"),
    ("GET", "/key?prefix=a&count=1", "", 400, "limit"),
    ("GET", "/key?prefix=b&after=a", "", 400, "last key"),
    ("GET", "/keys/a", "", 404, "/key/NAME"),
    ("GET", "/", "", 404, "/key/NAME"),
    ("POST", "/v3/kv/range", "{}", 501, "gRPC"),
    ("POST", "/status", "", 405, "GET"),
    ("DELETE", "/health", "", 405, "GET"),
];

#[test]
fn mistakes_with_curl_get_json_that_says_what_to_do() {
    let cluster = Cluster::start();
    let port = cluster.port(1);
    let too_large = format!("{{\"value\":\"{}\"}}", "x".repeat(3 * MIB));
    let mut mistakes = MISTAKES.to_vec();
    mistakes.push((
        "PUT",
        "/key/a",
        &too_large[..2 * MIB - 1],
        400,
        "JSON object",
    ));
    mistakes.push(("PUT", "/key/a", &too_large, 413, "--max-request-bytes"));
    for (method, path, body, status, remedy) in mistakes {
        let what = format!("{method} {path} {}", &body[..body.len().min(60)]);
        let (got, reply) = http(port, method, path, body).expect("an answer, not a reset");
        assert_eq!(got, status, "{what}: {reply}");
        let reply: Value =
            serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{what}: {reply}"));
        let text = |field: &str| reply[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("code").is_empty(), "{what}: {reply}");
        assert!(!text("message").is_empty(), "{what}: {reply}");
        assert!(text("remedy").contains(remedy), "{what}: {reply}");
    }
    let (status, reply) = http_json(port, "GET", "/key?prefix=", "").expect("an answer");
    assert_eq!(
        (status, &reply["count"]),
        (200, &json!(0)),
        "no mistake has an effect"
    );
    assert_eq!(reply["revision"], json!(1));
}
