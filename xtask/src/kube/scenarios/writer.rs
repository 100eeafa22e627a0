//! A writer that counts what was acknowledged, and finds all of it again.
//!
//! Some clients write a key after the other, each until it is acknowledged, through the cluster's
//! Service as applications do: over the member that a connection happens to reach, again over
//! another one when that fails. So each client has all keys from its first to its last
//! acknowledged one, and whatever is missing between them was lost. A gap is a time without any
//! acknowledgement.

use super::follow::lock;
use super::{Bench, now};
use crate::kube::poll;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients that write at the same time.
const CLIENTS: usize = 3;
/// Between an acknowledgement and a client's next write: the load is a witness, not a benchmark.
const PACE: Duration = Duration::from_millis(20);
/// How long a client waits for a connection or an answer before it tries another.
const ANSWER_MAX: Duration = Duration::from_millis(600);
/// How long the reader that looks for lost keys may take to find a member that answers.
const READ_MAX: Duration = Duration::from_secs(20);
/// Keys of one page of that reader.
const PAGE: usize = 2_000;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// What the writer has seen since it was last asked to begin anew.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Attempts that were refused, broke off or took too long.
    pub failed: u64,
    /// The longest time without an acknowledgement.
    pub gap: Duration,
    /// When that ended, from the mark on.
    pub gap_end: Duration,
}

struct Shared {
    /// Of each client: how many of its keys were acknowledged.
    acknowledged: [u64; CLIENTS],
    failed: u64,
    last: Instant,
    mark: Instant,
    gap: Duration,
    gap_end: Duration,
    /// Totals when the figures were last begun anew.
    before: (u64, u64),
    /// Why the last attempt failed.
    trouble: String,
}

impl Shared {
    /// Notes how long it has been silent until now, if that is the longest time.
    fn look(&mut self) {
        let silence = now() - self.last;
        if silence > self.gap {
            self.gap = silence;
            self.gap_end = now() - self.mark;
        }
    }
}

/// Clients that write until this value is dropped.
pub struct Writer {
    bench: Bench,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    shared: Arc<Mutex<Shared>>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Begins to write to this address of the run's network, which must speak HTTP.
    ///
    /// # Errors
    /// When the run's network is gone.
    pub fn start(bench: &Bench, address: SocketAddr) -> Result<Self> {
        let mut writer = Self {
            bench: Bench::attach(bench.run())?,
            address,
            stop: Arc::default(),
            shared: Arc::new(Mutex::new(Shared {
                acknowledged: [0; CLIENTS],
                failed: 0,
                last: now(),
                mark: now(),
                gap: Duration::ZERO,
                gap_end: Duration::ZERO,
                before: (0, 0),
                trouble: String::new(),
            })),
            clients: Vec::new(),
        };
        for client in 0..CLIENTS {
            let (stop, shared) = (writer.stop.clone(), writer.shared.clone());
            let work = move || {
                write(client, address, &stop, &shared);
                Ok(())
            };
            writer.clients.push(bench.in_network(work)?);
        }
        Ok(writer)
    }

    /// Ends the clients; what was acknowledged stays known.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }

    /// Begins the figures anew.
    pub fn mark(&self) {
        let mut shared = lock(&self.shared);
        shared.before = (shared.acknowledged.iter().sum(), shared.failed);
        shared.gap = Duration::ZERO;
        shared.last = now();
        shared.mark = shared.last;
    }

    /// The figures since the last mark; a gap that is still open counts.
    pub fn figures(&self) -> Figures {
        let mut shared = lock(&self.shared);
        shared.look();
        Figures {
            acknowledged: shared.acknowledged.iter().sum::<u64>() - shared.before.0,
            failed: shared.failed - shared.before.1,
            gap: shared.gap,
            gap_end: shared.gap_end,
        }
    }

    /// Waits until a write that begins now is acknowledged.
    ///
    /// # Errors
    /// When none is in time; the error says why the last attempt failed.
    pub fn wait_for_a_write(&self, longest: Duration) -> Result<()> {
        let before = self.figures().acknowledged;
        let deadline = now() + longest;
        // Those that were on their way may have been acknowledged before.
        while self.figures().acknowledged <= before + CLIENTS as u64 {
            if now() > deadline {
                let trouble = lock(&self.shared).trouble.clone();
                bail!("no write was acknowledged for {longest:?}: {trouble}");
            }
            poll();
        }
        Ok(())
    }

    /// Reads back every key that was acknowledged until now, linearizably, and returns their
    /// number.
    ///
    /// # Errors
    /// Names the first key that is missing or has another value.
    pub fn verify(&self) -> Result<u64> {
        let acknowledged = lock(&self.shared).acknowledged;
        let address = self.address;
        let reader = self.bench.in_network(move || {
            for (client, count) in acknowledged.iter().enumerate() {
                find_all(address, client, *count)?;
            }
            Ok(())
        })?;
        reader
            .join()
            .map_err(|_| anyhow!("the reader of the acknowledged keys panicked"))??;
        Ok(acknowledged.iter().sum())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn key(client: usize, number: u64) -> String {
    format!("w{client}-{number:09}")
}

/// Writes one key after the other until told to stop.
fn write(client: usize, address: SocketAddr, stop: &AtomicBool, shared: &Mutex<Shared>) {
    let mut connection = None;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let body = format!("{{\"value\":\"{number}\"}}");
        let path = format!("/key/{}", key(client, number));
        let answer = ask(&mut connection, address, "PUT", &path, &body);
        let problem = match answer {
            Ok((200, _)) => None,
            Ok((status, text)) => Some(format!("{status}: {text}")),
            Err(error) => Some(format!("{error:#}")),
        };
        let mut seen = lock(shared);
        if let Some(problem) = problem {
            seen.failed += 1;
            seen.trouble = problem;
            // The Service leads a new connection to another member, perhaps.
            connection = None;
        } else {
            number += 1;
            seen.acknowledged[client] = number;
            seen.look();
            seen.last = now();
        }
        drop(seen);
        std::thread::sleep(PACE);
    }
}

/// Reads the first `count` keys of a client.
fn find_all(address: SocketAddr, client: usize, count: u64) -> Result<()> {
    let (mut connection, mut found) = (None, 0);
    let deadline = now() + READ_MAX;
    while found < count {
        let mut path = format!("/key?prefix=w{client}-&limit={PAGE}");
        if found > 0 {
            path.push_str(&format!("&after={}", key(client, found - 1)));
        }
        let text = match ask(&mut connection, address, "GET", &path, "") {
            Ok((200, text)) => text,
            other if now() > deadline => bail!("cannot read the keys back: {other:?}"),
            _ => {
                connection = None;
                poll();
                continue;
            }
        };
        let page: Value = serde_json::from_str(&text).context("the list of keys is not JSON")?;
        let pairs = page["kvs"].as_array().context("the list has no keys")?;
        for pair in pairs {
            let wanted = key(client, found);
            ensure!(
                pair["key"] == *wanted && pair["value"] == *found.to_string(),
                "LOST: {wanted} was acknowledged; in its place is {pair}"
            );
            found += 1;
        }
        ensure!(
            found >= count || !pairs.is_empty(),
            "LOST: {} was acknowledged, and no key follows {found} others",
            key(client, found)
        );
    }
    Ok(())
}

/// One request of HTTP/1.1 over a connection that is made if there is none; status and body.
pub fn ask(
    connection: &mut Option<BufReader<TcpStream>>,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String)> {
    if connection.is_none() {
        let stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        *connection = Some(BufReader::new(stream));
    }
    let stream = connection.as_mut().context("a connection")?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    read_line(stream, &mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("an answer that begins with {line:?}"))?;
    let mut length = 0;
    loop {
        read_line(stream, &mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("a length of the answer")?;
        }
    }
    ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
    let mut text = String::new();
    stream.take(length).read_to_string(&mut text)?;
    ensure!(text.len() as u64 == length, "the answer broke off");
    Ok((status, text))
}

fn read_line(stream: &mut BufReader<TcpStream>, line: &mut String) -> Result<()> {
    line.clear();
    let bytes = stream.take(8 << 10).read_line(line)?;
    ensure!(bytes > 0, "the connection was closed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one list of keys and closes.
    fn member(keys: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 1024]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", keys.len());
            let _ = stream.write_all(format!("{head}{keys}").as_bytes());
        });
        address
    }

    #[test]
    fn a_key_that_is_missing_or_has_another_value_is_named() {
        let both =
            r#"{"kvs":[{"key":"w1-000000000","value":"0"},{"key":"w1-000000001","value":"1"}]}"#;
        find_all(member(both), 1, 2).expect("nothing is lost");
        let hole = r#"{"kvs":[{"key":"w1-000000001","value":"1"}]}"#;
        let lost = find_all(member(hole), 1, 2).expect_err("the first is lost");
        assert!(lost.to_string().contains("w1-000000000"), "{lost}");
        let other = r#"{"kvs":[{"key":"w1-000000000","value":"7"}]}"#;
        let lost = find_all(member(other), 1, 1).expect_err("the value is another");
        assert!(lost.to_string().contains("w1-000000000"), "{lost}");
        let lost = find_all(member(r#"{"kvs":[]}"#), 1, 1).expect_err("all are lost");
        assert!(lost.to_string().contains("LOST: w1-000000000"), "{lost}");
    }
}
