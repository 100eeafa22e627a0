//! Bytes on the client port that are no request, and requests that ask for the impossible.

use super::member::Member;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Sends bytes and reads until the member closes, which it must do by itself, or once it hears that
/// no more will come when that is said.
fn tell(member: &Member, bytes: &[u8], no_more: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", member.client_port())).expect("it listens");
    let timeout = Some(Duration::from_secs(30));
    stream.set_read_timeout(timeout).expect("a socket");
    // The member may have refused before it has read all.
    let _ = stream.write_all(bytes);
    if no_more {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        let kind = error.kind();
        let endless = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
        assert!(
            !endless.contains(&kind),
            "it neither answers nor closes: {bytes:?}"
        );
    }
    said
}

fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\
         \r\n{body}"
    )
    .into_bytes()
}

#[test]
fn http_mistakes_are_told_what_and_what_to_do() {
    let member = Member::with_a_key();
    let long = format!("GET /key/{}", "k".repeat(70_000));
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let nested = format!("{{\"value\":{deep}}}");
    let cases: &[(&str, &str, &str, &[u16])] = &[
        ("GET /", "", "", &[404]),
        ("GET /nothing/here", "", "", &[404]),
        ("GET /key/", "", "", &[400, 404]),
        ("GET /key/before/more?x=1", "", "", &[400]),
        ("GET /key/%zz", "", "", &[400]),
        ("GET /key/before?revision=-5", "", "", &[400]),
        (
            "GET /key/before?revision=99999999999999999999",
            "",
            "",
            &[400],
        ),
        ("GET /key/before?serializable=perhaps", "", "", &[400]),
        ("GET /keys?limit=-1", "", "", &[400, 404]),
        ("GET /keys?limit=x", "", "", &[400, 404]),
        ("POST /key/before", "", "{}", &[405]),
        ("BREW /key/before", "", "", &[405]),
        ("PUT /key/before", "", "", &[400]),
        ("PUT /key/before", "", "{", &[400]),
        ("PUT /key/before", "", "null", &[400]),
        ("PUT /key/before", "", &deep, &[400]),
        ("PUT /key/before", "", &nested, &[400]),
        ("PUT /key/before", "", "{\"value\":\"\\ud800\"}", &[400]),
        (
            "PUT /key/before",
            "",
            "{\"value\":\"a\",\"value\":\"b\"}",
            &[400],
        ),
        (
            "PUT /key/before",
            "",
            "{\"value\":\"a\",\"lease\":-1}",
            &[400],
        ),
        ("PUT /key/before", "", "{\"value_base64\":\"a\"}", &[400]),
        ("PUT /health", "", "{}", &[405]),
        (&long, "", "", &[400, 404, 414, 431]),
    ];
    for (line, headers, body, expected) in cases {
        let case: String = format!("{line} {body}").chars().take(80).collect();
        let said = tell(&member, &request(line, headers, body), false);
        let said = String::from_utf8_lossy(&said).into_owned();
        let status = said.split(' ').nth(1).and_then(|code| code.parse().ok());
        assert!(
            status.is_some_and(|code| expected.contains(&code)),
            "{case}: {said}"
        );
        let short: &[u16] = &[414, 431];
        let told = said.contains("\"remedy\":\"") && said.contains("\"message\":\"");
        // The parser itself answers what is beyond its bounds, by the status alone.
        assert!(
            told || status.is_some_and(|code| short.contains(&code)),
            "{case}: {said}"
        );
        member.check(&case);
    }
}

#[test]
fn bytes_that_are_no_request_end_their_connection_only() {
    let member = Member::with_a_key();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let http2 = |frames: &[u8]| [&preface[..], settings, frames].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("zeros", vec![0; 1000]),
        ("ones", vec![0xff; 100_000]),
        ("a line without end", vec![b'a'; 300_000]),
        ("a header without end", [&b"GET / HTTP/1.1\r\nX: "[..], &[b'a'; 300_000]].concat()),
        ("too many headers", {
            let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
            (0..5000).for_each(|n| bytes.extend_from_slice(format!("x{n}: y\r\n").as_bytes()));
            [bytes, b"\r\n".to_vec()].concat()
        }),
        ("two lengths", b"PUT /key/before HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx".to_vec()),
        ("a negative length", b"PUT /key/before HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec()),
        ("a body that ends early", b"PUT /key/before HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"value\":\"lost\"}".to_vec()),
        ("a broken chunk", b"PUT /key/before HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n".to_vec()),
        ("HTTP/9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n".to_vec()),
        ("a preface alone", preface.to_vec()),
        ("a preface cut", preface[..20].to_vec()),
        ("no settings first", [&preface[..], b"\0\0\x08\x06\0\0\0\0\0AAAAAAAA"].concat()),
        ("a frame beyond the size", http2(b"\xff\xff\xff\x00\x01\0\0\0\x01")),
        ("data without a call", http2(b"\0\0\x04\x00\x01\0\0\0\x01abcd")),
        ("data on stream 0", http2(b"\0\0\x04\x00\x01\0\0\0\0abcd")),
        ("headers that do not decode", http2(b"\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff")),
        ("headers without a method", http2(b"\0\0\0\x01\x05\0\0\0\x01")),
        ("an even stream", http2(b"\0\0\0\x01\x05\0\0\0\x02")),
        ("a window of nothing", http2(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0")),
        ("a window beyond all", http2(b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff")),
        ("settings of five bytes", http2(b"\0\0\x05\x04\0\0\0\0\0abcde")),
        ("a push from a client", http2(b"\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02")),
        ("an unknown kind", http2(&[&b"\0\0\x04\xee\0\0\0\0\0abcd"[..], b"\0\0\x01\x06\0\0\0\0\0A"].concat())),
        ("a continuation of nothing", http2(b"\0\0\0\x09\x04\0\0\0\x01")),
        ("a thousand resets", http2(&b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\0".repeat(1000))),
    ];
    for (case, bytes) in cases {
        let said = tell(&member, &bytes, true);
        let ok = said.starts_with(b"HTTP/1.1 200");
        assert!(!ok, "{case}: {}", String::from_utf8_lossy(&said));
        member.check(case);
    }
}
