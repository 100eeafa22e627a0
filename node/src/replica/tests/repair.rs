//! Members that have lost a part of their log or their history: with others they become whole again
//! by themselves, alone they halt and touch nothing.

use super::cluster::TestCluster;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Harm = fn(&Path);

/// The segment that is being written; earlier damage is in earlier ones.
fn newest(dir: &Path) -> PathBuf {
    segments(dir).pop().unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("wal"), "wal")
}

/// The oldest segment of the history.
fn history(dir: &Path) -> PathBuf {
    files(&dir.join("history"), "rev").remove(0)
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == ending))
        .collect();
    found.sort();
    found
}

fn cut(path: &Path, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// Each loses entries that were synced and acknowledged.
const LOG_DAMAGE: &[(&str, Harm)] = &[
    ("a flipped bit", |dir| flip(&newest(dir), 4096 + 300)),
    ("a damaged header", |dir| flip(&newest(dir), 3)),
    ("cut in the middle", |dir| cut(&newest(dir), 4096 + 900)),
    ("emptied", |dir| cut(&newest(dir), 0)),
    ("the only segment gone", |dir| {
        fs::remove_file(newest(dir)).unwrap();
    }),
    ("log damaged, history gone", |dir| {
        cut(&newest(dir), 0);
        fs::remove_dir_all(dir.join("history")).unwrap();
    }),
    ("log damaged, history damaged", |dir| {
        flip(&newest(dir), 4096 + 300);
        flip(&history(dir), 100);
    }),
];

/// Each loses what was durable of the state machine.
const HISTORY_DAMAGE: &[(&str, Harm)] = &[
    ("manifest damaged", |dir| {
        flip(&dir.join("history/MANIFEST"), 20)
    }),
    ("manifest gone", |dir| {
        fs::remove_file(dir.join("history/MANIFEST")).unwrap();
    }),
    ("directory gone", |dir| {
        fs::remove_dir_all(dir.join("history")).unwrap();
    }),
    ("first segment damaged", |dir| {
        flip(&history(dir), 100);
    }),
    ("first segment gone", |dir| {
        fs::remove_file(history(dir)).unwrap();
    }),
    ("first segment cut", |dir| {
        cut(&history(dir), 90);
    }),
];

/// Writes, however long an election takes meanwhile.
fn put(cluster: &TestCluster, slot: usize, key: &str) {
    cluster.wait_long_for("a write", || cluster.try_put(slot, key, "x"));
}

/// Reads what is acknowledged, however long an election takes meanwhile.
fn get(cluster: &TestCluster, slot: usize, key: &str) -> Option<String> {
    cluster.wait_long_for("a read", || cluster.is_up_to_date(slot));
    cluster.get_serializable(slot, key)
}

/// Waits until the beginning of a member's log is gone; files go with a later write.
fn await_release(cluster: &TestCluster, slot: usize) {
    let dir = cluster.dir(slot);
    cluster.wait_long_for("the log to be released", || {
        put(cluster, slot, "tick");
        !segments(&dir)
            .iter()
            .any(|path| path.ends_with("00000001.wal"))
    });
}

/// Stops a follower in order, harms its directory, starts it, and takes another member away: what
/// is acknowledged then rests on the one that was harmed.
fn repairs_itself(cluster: &mut TestCluster, what: &str, harm: Harm, round: usize) {
    let leader = cluster.await_leader();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    put(cluster, leader, &format!("before-{round}"));
    get(cluster, victim, &format!("before-{round}"));
    cluster.stop(victim);
    harm(&cluster.dir(victim));
    put(cluster, leader, &format!("meanwhile-{round}"));
    cluster.start(victim);
    cluster.await_whole(victim);
    cluster.kill(other);
    put(cluster, victim, &format!("after-{round}"));
    for key in ["before", "meanwhile", "after"] {
        let key = format!("{key}-{round}");
        assert_eq!(
            get(cluster, victim, &key).as_deref(),
            Some("x"),
            "{what}: {key}"
        );
    }
    // The repair is durable, and leaves nothing behind.
    cluster.kill(victim);
    cluster.start(victim);
    cluster.await_whole(victim);
    assert!(
        !cluster.dir(victim).join("history.damaged").exists(),
        "{what}"
    );
    let key = format!("after-{round}");
    assert_eq!(get(cluster, victim, &key).as_deref(), Some("x"), "{what}");
    cluster.start(other);
    cluster.await_leader();
    let digests: Vec<u32> = (0..3).map(|slot| cluster.hash(slot)).collect();
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{what}: {digests:x?}"
    );
}

#[test]
fn f10_a_member_with_a_damaged_log_is_made_whole_by_the_leader() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put_many(0, 50);
    for (round, (what, harm)) in LOG_DAMAGE.iter().enumerate() {
        repairs_itself(&mut cluster, what, *harm, round);
    }
}

#[test]
fn f10_a_member_with_a_damaged_history_rebuilds_it_from_its_log() {
    let mut cluster = TestCluster::of_static(3);
    cluster.put_many(0, 50);
    for (round, (what, harm)) in HISTORY_DAMAGE.iter().enumerate() {
        repairs_itself(&mut cluster, what, *harm, round);
    }
}

#[test]
fn f10_a_member_with_a_damaged_history_and_a_trimmed_log_gets_a_snapshot() {
    let mut cluster = TestCluster::of_static(3);
    let some = [HISTORY_DAMAGE[2], LOG_DAMAGE[0], LOG_DAMAGE[6]];
    for (round, (what, harm)) in some.iter().enumerate() {
        // Behind what is kept for followers that lag, and behind the log on disk.
        let leader = cluster.await_leader();
        let victim = (leader + 1) % 3;
        cluster.put_large(leader);
        await_release(&cluster, victim);
        repairs_itself(&mut cluster, what, *harm, round);
    }
}

/// Every file with its bytes, but for the lock and the count of starts.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(tree(&path));
        } else if name != "lock" && !name.starts_with("identity") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn n6_a_single_voter_with_a_damaged_log_halts_and_touches_nothing() {
    for (what, harm) in LOG_DAMAGE {
        let mut cluster = TestCluster::bootstrapped();
        for key in 0..20 {
            cluster.put(0, &format!("key-{key}"), "x");
        }
        cluster.stop(0);
        harm(&cluster.dir(0));
        let before = tree(&cluster.dir(0));
        for _ in 0..2 {
            let error = cluster.start_and_fail(0);
            assert!(error.is_refusal(), "{what}: {error}");
            let text = error.to_string();
            for part in ["only voter", ".wal", "backup", "left as it is"] {
                assert!(text.contains(part), "{what}: {part} in {text}");
            }
            assert_eq!(tree(&cluster.dir(0)), before, "{what}");
        }
    }
}

#[test]
fn a_single_voter_with_a_damaged_history_rebuilds_it_or_halts() {
    for (number, (what, harm)) in HISTORY_DAMAGE.iter().enumerate() {
        let mut cluster = TestCluster::bootstrapped();
        cluster.put_many(0, 50);
        cluster.stop(0);
        harm(&cluster.dir(0));
        cluster.start(0);
        cluster.await_leader();
        assert_eq!(get(&cluster, 0, "many-49").as_deref(), Some("x"), "{what}");
        if number % 3 != 0 {
            continue;
        }
        // With the log's beginning released, there is nothing left to rebuild it from.
        cluster.put_large(0);
        await_release(&cluster, 0);
        cluster.stop(0);
        harm(&cluster.dir(0));
        let before = tree(&cluster.dir(0));
        let error = cluster.start_and_fail(0);
        assert!(error.is_refusal(), "{what}: {error}");
        let text = error.to_string();
        assert!(
            text.contains("history") && text.contains("backup"),
            "{what}: {text}"
        );
        let after = tree(&cluster.dir(0));
        let in_history = |path: &&PathBuf| path.to_string_lossy().contains("history");
        assert_eq!(
            after
                .iter()
                .filter(|(path, _)| in_history(path))
                .collect::<Vec<_>>(),
            before
                .iter()
                .filter(|(path, _)| in_history(path))
                .collect::<Vec<_>>(),
            "{what}"
        );
    }
}
