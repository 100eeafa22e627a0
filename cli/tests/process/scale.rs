//! `quorate up` scales under write load, and is killed at random moments while it does.
//!
//! Nothing here asserts how fast: a debug build on a busy machine says nothing about that. The
//! longest gap between two acknowledged writes is printed for each change of size.

use super::harness::{rounds, wait_for};
use super::writers::{Writers, judge};
use crate::up::{Up, members_of};
use quorate_api::etcdserverpb::{Member, MemberListRequest, cluster_client::ClusterClient};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most slots that any of these tests uses.
const SLOTS: u16 = 5;

/// The membership by a linearizable read through one member; `None` when it does not answer.
pub async fn members(port: u16) -> Option<Vec<Member>> {
    let address = format!("http://127.0.0.1:{port}");
    let mut client = ClusterClient::connect(address).await.ok()?;
    let request = MemberListRequest { linearizable: true };
    let reply = tokio::time::timeout(Duration::from_secs(5), client.member_list(request)).await;
    Some(reply.ok()?.ok()?.into_inner().members)
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// Reads the membership again and again and keeps the largest number of non-voters seen at once.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, usize)>,
}

impl Watch {
    fn start(ports: Vec<u16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (runtime, mut most, mut looks) = (runtime(), 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                for port in &ports {
                    if let Some(members) = runtime.block_on(members(*port)) {
                        most = most.max(members.iter().filter(|member| member.is_learner).count());
                        looks += 1;
                    }
                }
                std::thread::sleep(Duration::from_millis(20)); // poll interval
            }
            (most, looks)
        });
        Self { stop, thread }
    }

    /// The most non-voters at once, and how often the membership was read.
    fn stop(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}

fn ports(up: &Up, slots: u16) -> Vec<u16> {
    (0..slots).map(|slot| up.port(slot)).collect()
}

/// Exactly `voters` members, all of them voters, each with a process of its own, and no other.
fn assert_no_ghost(up: &Up, voters: u16) {
    for port in ports(up, voters) {
        let found = runtime()
            .block_on(members(port))
            .expect("every member answers");
        assert_eq!(found.len(), usize::from(voters), "{found:?}");
        assert!(found.iter().all(|member| !member.is_learner), "{found:?}");
    }
    let processes = members_of(&up.data());
    assert_eq!(processes.len(), usize::from(voters), "{processes:?}");
}

fn uuid(up: &Up) -> Value {
    up.status("/clusterUUID")
        .expect("a cluster that has formed has its UUID in the status")
}

#[test]
fn scaled_under_writes_by_editing_the_manifest() {
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let cluster = uuid(&up);
    let writers = Writers::start(&ports(&up, SLOTS));
    // Slot 0 is there in every size.
    let watch = Watch::start(ports(&up, 1));
    wait_for("some writes", || writers.acknowledged() > 20);
    let mut from = 3;
    for round in 0..rounds().div_ceil(2) {
        for to in [5, 3, 1, 3] {
            writers.longest_gap();
            up.write(to);
            up.wait_voters(to);
            let before = writers.acknowledged();
            wait_for(&format!("writes at size {to}"), || {
                writers.acknowledged() > before + 20
            });
            println!(
                "round {round}: {from} -> {to}, longest write gap {:?}",
                writers.longest_gap()
            );
            assert_no_ghost(&up, u16::try_from(to).expect("a small size"));
            from = to;
        }
    }
    let (most, looks) = watch.stop();
    println!("{looks} reads of the membership, at most {most} non-voters at once");
    assert!(
        looks > 0 && most == 1,
        "{most} non-voters at once in {looks} reads"
    );
    let acknowledged = writers.stop();
    println!("{} writes acknowledged", acknowledged.len());
    judge(&acknowledged, &ports(&up, 3), 2);
    assert_eq!(uuid(&up), cluster);
}

/// Pseudo-random numbers: xorshift, good enough to choose moments.
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn up_killed_at_random_moments_of_scaling_resumes_and_converges() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut moments = Moments(seed << 20 | 1);
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let cluster = uuid(&up);
    let writers = Writers::start(&ports(&up, SLOTS));
    let sizes = [5, 3, 1, 3];
    for round in 0..rounds() * 2 {
        if round % 3 == 0 {
            up.write(sizes[(round / 3) % sizes.len()]);
        }
        // Not a wait for anything: the moment is the point.
        std::thread::sleep(Duration::from_millis(moments.below(1500))); // random moment
        up.kill();
        assert_eq!(uuid(&up), cluster, "round {round}");
        up.start();
    }
    for size in [5, 3] {
        up.write(size);
        up.wait_voters(size);
        assert_no_ghost(&up, u16::try_from(size).expect("a small size"));
    }
    assert_eq!(uuid(&up), cluster);
    let acknowledged = writers.stop();
    println!(
        "{} writes acknowledged, {} kills",
        acknowledged.len(),
        rounds() * 2
    );
    judge(&acknowledged, &ports(&up, 3), 2);
}

#[test]
fn up_killed_at_random_moments_of_its_first_start_forms_one_cluster() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut moments = Moments(seed << 20 | 3);
    for round in 0..rounds() {
        let mut up = Up::new(3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            up.start();
            // Not a wait for anything: the moment is the point.
            std::thread::sleep(Duration::from_millis(moments.below(400))); // random moment
            up.kill();
            let uuid = up.status("/clusterUUID");
            seen.extend(uuid.as_ref().and_then(Value::as_str).map(str::to_owned));
        }
        up.start();
        up.wait_voters(3);
        seen.extend(uuid(&up).as_str().map(str::to_owned));
        assert_eq!(
            seen.len(),
            1,
            "round {round}: more than one cluster: {seen:?}"
        );
        assert_no_ghost(&up, 3);
    }
}
