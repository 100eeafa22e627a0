//! Writers that count what was acknowledged, and the judgement at the end.
//!
//! Every key is written once with a value of its own, so that each acknowledged write can be found
//! again, and the history must show every revision exactly once.

use super::harness::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One write that was acknowledged: the revision the server named.
type Acknowledged = BTreeMap<String, u64>;

/// Running writers.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    gap: Arc<Mutex<Gap>>,
    threads: Vec<JoinHandle<Acknowledged>>,
}

/// The time between two acknowledgements, whoever got them.
struct Gap {
    last: Instant,
    longest: Duration,
}

impl Gap {
    fn end(&mut self) {
        let now = now();
        self.longest = self.longest.max(now - self.last);
        self.last = now;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clients' own time is measured"
)]
fn now() -> Instant {
    Instant::now()
}

impl Writers {
    /// One writer for each port.
    pub fn start(ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let last = now();
        let longest = Duration::ZERO;
        let gap = Arc::new(Mutex::new(Gap { last, longest }));
        let threads = ports
            .iter()
            .enumerate()
            .map(|(writer, port)| {
                let (stop, count, gap) = (stop.clone(), acknowledged.clone(), gap.clone());
                let port = *port;
                std::thread::spawn(move || write(writer, port, &stop, &count, &gap))
            })
            .collect();
        Self {
            stop,
            acknowledged,
            gap,
            threads,
        }
    }

    /// How many writes have been acknowledged so far, by all writers.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// The longest time without an acknowledgement since the last call.
    pub fn longest_gap(&self) -> Duration {
        let mut gap = self.gap.lock().expect("writers do not panic");
        gap.end();
        std::mem::take(&mut gap.longest)
    }

    /// Stops the writers; everything that was acknowledged, by key.
    pub fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for thread in self.threads {
            all.extend(thread.join().expect("writers do not panic"));
        }
        all
    }
}

fn write(
    writer: usize,
    port: u16,
    stop: &AtomicBool,
    count: &AtomicUsize,
    gap: &Mutex<Gap>,
) -> Acknowledged {
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w{writer}-{number:08}");
        let body = format!("{{\"value\":\"value of {key}\"}}");
        // Whatever is not a clear success is unknown: the key is never written again.
        match json(port, "PUT", &format!("/key/{key}"), &body) {
            Ok((200, reply)) => {
                let revision = reply["revision"]
                    .as_u64()
                    .expect("a put names its revision");
                acknowledged.insert(key, revision);
                count.fetch_add(1, Ordering::Relaxed);
                gap.lock().expect("writers do not panic").end();
            }
            Ok(_) | Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)), // poll interval
        }
    }
    acknowledged
}

/// Everything stored under a prefix, through one member: key to (value, revision).
pub fn stored(port: u16, prefix: &str) -> BTreeMap<String, (String, u64)> {
    let mut all = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/key?prefix={prefix}&limit=10000{after}");
        let (status, reply) = json(port, "GET", &path, "").expect("a listing is answered");
        assert_eq!(status, 200, "{reply}");
        for row in reply["kvs"].as_array().expect("a list of keys") {
            let text = |field: &str| row[field].as_str().expect("text").to_owned();
            let revision = row["mod_revision"].as_u64().expect("a revision");
            after = format!("&after={}", text("key"));
            all.insert(text("key"), (text("value"), revision));
        }
        if reply["more"] == false {
            return all;
        }
    }
}

/// Nothing acknowledged is missing or changed, and revisions are contiguous from `first` on.
pub fn judge(acknowledged: &Acknowledged, ports: &[u16], first: u64) {
    let reference = stored(ports[0], "w");
    for (key, revision) in acknowledged {
        let (value, at) = reference
            .get(key)
            .unwrap_or_else(|| panic!("{key} was acknowledged at {revision} and is missing"));
        assert_eq!(value, &format!("value of {key}"));
        assert_eq!(
            at, revision,
            "{key} is stored at another revision than was acknowledged"
        );
    }
    let mut revisions: Vec<u64> = reference.values().map(|(_, revision)| *revision).collect();
    revisions.sort_unstable();
    for (position, revision) in (first..).zip(&revisions) {
        assert_eq!(
            position, *revision,
            "a revision is missing or was used twice"
        );
    }
    for port in &ports[1..] {
        assert!(
            stored(*port, "w") == reference,
            "members on {port} and {} differ",
            ports[0]
        );
    }
    hashes_agree(ports);
}

/// Every member's hash of the whole history, at one revision.
fn hashes_agree(ports: &[u16]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let hashes: Vec<(u32, i64)> = runtime.expect("a runtime").block_on(async {
        let mut hashes = Vec::new();
        for port in ports {
            use quorate_api::etcdserverpb::{HashKvRequest, maintenance_client::MaintenanceClient};
            let mut client = MaintenanceClient::connect(format!("http://127.0.0.1:{port}"))
                .await
                .expect("the member serves");
            let reply = client
                .hash_kv(HashKvRequest { revision: 0 })
                .await
                .expect("a hash");
            hashes.push((reply.get_ref().hash, reply.get_ref().hash_revision));
        }
        hashes
    });
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "state hashes differ: {hashes:?}"
    );
}
