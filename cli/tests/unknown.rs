//! A change whose answer is lost: the exit code is 3, it was sent once, and it may have happened.
//!
//! Between the command and the member stands a door that lets a request through and no answer back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::process::harness::{Cluster, http, wait_for};

/// What a request carries that is not to be answered.
const MARK: &[u8] = b"unsure";

/// A way to a member on which answers to requests with the mark are lost.
struct OneWay {
    port: u16,
    passed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl OneWay {
    fn to(member: u16) -> OneWay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let way = OneWay {
            port: listener.local_addr().expect("bound").port(),
            passed: Arc::new(AtomicBool::new(false)),
            open: Arc::new(Mutex::new(Vec::new())),
        };
        let (passed, open) = (Arc::clone(&way.passed), Arc::clone(&way.open));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let member = TcpStream::connect(("127.0.0.1", member)).expect("the member serves");
                let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
                open.lock()
                    .expect("nobody panics with it")
                    .extend([clone(&client), clone(&member)]);
                let (there, back) = (Arc::clone(&passed), Arc::clone(&passed));
                let (from, to) = (clone(&client), clone(&member));
                std::thread::spawn(move || requests(from, to, &there));
                std::thread::spawn(move || answers(member, client, &back));
            }
        });
        way
    }

    /// Cuts every connection.
    fn cut(&self) {
        for stream in self.open.lock().expect("nobody panics with it").iter() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = crate::guard::quorate();
        command
            .arg(format!("--endpoints=127.0.0.1:{}", self.port))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command whose change happens and whose answer is lost, and cuts the connection when
    /// `happened`.
    fn run(&self, args: &[&str], stdin: &str, happened: impl FnMut() -> bool) -> Output {
        self.passed.store(false, Ordering::SeqCst);
        let mut child = self.command(args).spawn().expect("the binary starts");
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(stdin.as_bytes()).expect("it reads");
        drop(input);
        wait_for(&format!("{args:?} to happen"), happened);
        self.cut();
        child.wait_with_output().expect("it ends")
    }
}

fn requests(mut from: TcpStream, mut to: TcpStream, passed: &AtomicBool) {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
        if all.windows(MARK.len()).any(|window| window == MARK) {
            passed.store(true, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn answers(mut from: TcpStream, mut to: TcpStream, passed: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !passed.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Status and body of a key, asked of the member itself.
fn key(port: u16, path: &str) -> (u16, String) {
    http(port, "GET", path, "").expect("the member answers")
}

fn assert_unknown(output: &Output, verb: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    for part in [
        verb,
        "outcome unknown",
        "was not repeated",
        "Read the state back",
    ] {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert!(output.stdout.is_empty(), "nothing was confirmed");
}

#[test]
fn a_change_without_an_answer_ends_with_exit_code_3_and_is_not_repeated() {
    let cluster = Cluster::start();
    let port = cluster.port(0);
    let way = OneWay::to(port);

    let put = way.run(&["put", "unsure", "1"], "", || {
        key(port, "/key/unsure").0 == 200
    });
    assert_unknown(&put, "put");
    let (_, body) = key(port, "/key/unsure");
    assert!(
        body.contains("\"version\":1"),
        "sent more than once: {body}"
    );

    let del = way.run(&["del", "unsure"], "", || key(port, "/key/unsure").0 == 404);
    assert_unknown(&del, "del");

    let script = "then put unsure-too 1\n";
    let txn = way.run(&["txn"], script, || key(port, "/key/unsure-too").0 == 200);
    assert_unknown(&txn, "txn");
    let (_, body) = key(port, "/key/unsure-too");
    assert!(
        body.contains("\"version\":1"),
        "sent more than once: {body}"
    );
}

#[test]
fn a_change_that_nobody_confirms_in_time_ends_with_exit_code_3() {
    let cluster = Cluster::start();
    let way = OneWay::to(cluster.port(0));
    let output = way
        .command(&["put", "unsure", "1", "--timeout=1s"])
        .output()
        .expect("the binary starts");
    assert_unknown(&output, "no answer within 1s");
    assert_eq!(key(cluster.port(0), "/key/unsure").0, 200, "it did happen");
}

#[test]
fn a_read_without_an_answer_and_a_change_that_was_never_sent_are_not_in_doubt() {
    let cluster = Cluster::start();
    let way = OneWay::to(cluster.port(0));
    let read = way
        .command(&["get", "unsure", "--timeout=1s"])
        .output()
        .expect("the binary starts");
    assert_eq!(read.status.code(), Some(1));
    let nobody = crate::guard::run(
        &["put", "unsure", "1", "--endpoints=127.0.0.1:1"].map(str::to_owned),
        b"",
        Path::new("."),
    );
    let message = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(1), "{message}");
    assert!(message.contains("Nothing was sent"), "{message}");
}
