//! Data directories that are damaged, incomplete, foreign or of somebody else: refused with the
//! file, the reason and the remedy, and left as they are; or served, when nothing is lost.

use super::member::Member;
use crate::process::harness::copy;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What becomes of a directory.
enum Fate {
    /// It is served, and the key is there.
    Served,
    /// Exit code 4; the log says all of this, and nothing has changed but the lock file
    /// and the count of starts.
    Refused(&'static [&'static str]),
}
use Fate::{Refused, Served};

type Harm = fn(&Path);

const SEGMENT: &str = "wal/00000001.wal";
const HISTORY: &str = "history/00000001.rev";

fn flip(dir: &Path, file: &str, at: usize) {
    let path = dir.join(file);
    let mut bytes = fs::read(&path).expect("a file of the member");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("our file");
}

fn cut(dir: &Path, file: &str, length: u64) {
    let file = fs::OpenOptions::new().write(true).open(dir.join(file));
    file.and_then(|file| file.set_len(length))
        .expect("our file");
}

fn remove(dir: &Path, file: &str) {
    fs::remove_file(dir.join(file)).expect("a file of the member");
}

fn empty(dir: &Path) {
    fs::remove_dir_all(dir).expect("our folder");
    fs::create_dir(dir).expect("our folder");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("our folder");
}

fn in_its_place(dir: &Path, file: &str) {
    remove(dir, file);
    fs::create_dir(dir.join(file)).expect("our folder");
}

/// A single voter has nobody to repair its log from.
const HALTS: &[&str] = &["only voter", "00000001.wal", "left as it is", "backup"];
const MISPLACED: &str = "in place of";

const CASES: &[(&str, Harm, Fate)] = &[
    ("nothing is wrong", |_| {}, Served),
    (
        "identity cut, its copy whole",
        |dir| cut(dir, "identity", 10),
        Served,
    ),
    (
        "identity damaged, its copy whole",
        |dir| flip(dir, "identity", 20),
        Served,
    ),
    (
        "copy of identity damaged",
        |dir| flip(dir, "identity.copy", 20),
        Served,
    ),
    (
        "copy of identity gone",
        |dir| remove(dir, "identity.copy"),
        Served,
    ),
    (
        "both identities damaged",
        |dir| {
            flip(dir, "identity", 20);
            flip(dir, "identity.copy", 30);
        },
        Refused(&["identity", "Nothing was changed"]),
    ),
    (
        "both identities gone",
        |dir| {
            remove(dir, "identity");
            remove(dir, "identity.copy");
        },
        Refused(&["identity file is missing", "Nothing was changed"]),
    ),
    (
        "both identities empty",
        |dir| {
            cut(dir, "identity", 0);
            cut(dir, "identity.copy", 0);
        },
        Refused(&["identity", "Nothing was changed"]),
    ),
    (
        "one vote slot damaged",
        |dir| flip(dir, "wal/vote", 4),
        Served,
    ),
    (
        "both vote slots damaged",
        |dir| {
            flip(dir, "wal/vote", 4);
            flip(dir, "wal/vote", 4100);
        },
        Refused(&["/wal", "term and vote", "add a new member"]),
    ),
    (
        "vote gone",
        |dir| remove(dir, "wal/vote"),
        Refused(&["/wal", "term and vote", "add a new member"]),
    ),
    (
        "vote empty",
        |dir| cut(dir, "wal/vote", 0),
        Refused(&["/wal", "term and vote", "add a new member"]),
    ),
    (
        "log damaged in its header",
        |dir| flip(dir, SEGMENT, 3),
        Refused(HALTS),
    ),
    (
        "log damaged where it was synced",
        |dir| flip(dir, SEGMENT, 300),
        Refused(HALTS),
    ),
    (
        "log cut short",
        |dir| cut(dir, SEGMENT, 1000),
        Refused(HALTS),
    ),
    ("log empty", |dir| cut(dir, SEGMENT, 0), Refused(HALTS)),
    ("log gone", |dir| remove(dir, SEGMENT), Refused(HALTS)),
    (
        "log directory gone",
        |dir| {
            fs::remove_dir_all(dir.join("wal")).expect("our folder");
        },
        Refused(&["wal", "add a new member"]),
    ),
    (
        "log directory is a file",
        |dir| {
            fs::remove_dir_all(dir.join("wal")).expect("our folder");
            fs::write(dir.join("wal"), "x").expect("our folder");
        },
        Refused(&["wal", MISPLACED, "Nothing was changed"]),
    ),
    (
        "copy of the watermark damaged",
        |dir| flip(dir, "wal/watermark", 4),
        Served,
    ),
    (
        "copy of the watermark gone",
        |dir| remove(dir, "wal/watermark"),
        Served,
    ),
    (
        "a strange file beside the log",
        |dir| {
            fs::write(dir.join("wal/notes.txt"), "x").expect("our folder");
        },
        Served,
    ),
    (
        "history's manifest damaged",
        |dir| flip(dir, "history/MANIFEST", 20),
        Served,
    ),
    (
        "history's manifest cut",
        |dir| cut(dir, "history/MANIFEST", 7),
        Served,
    ),
    (
        "history's manifest gone",
        |dir| remove(dir, "history/MANIFEST"),
        Served,
    ),
    (
        "history damaged in its header",
        |dir| flip(dir, HISTORY, 3),
        Served,
    ),
    ("history damaged", |dir| flip(dir, HISTORY, 200), Served),
    ("history cut", |dir| cut(dir, HISTORY, 100), Served),
    ("history gone", |dir| remove(dir, HISTORY), Served),
    (
        "history directory gone",
        |dir| fs::remove_dir_all(dir.join("history")).expect("our folder"),
        Served,
    ),
    (
        "history is a file",
        |dir| {
            fs::remove_dir_all(dir.join("history")).expect("our folder");
            fs::write(dir.join("history"), "x").expect("our folder");
        },
        Served,
    ),
    (
        "history's manifest is a directory",
        |dir| in_its_place(dir, "history/MANIFEST"),
        Served,
    ),
    (
        "log segment is a directory",
        |dir| in_its_place(dir, SEGMENT),
        Refused(&["00000001.wal", MISPLACED, "Nothing was changed"]),
    ),
    (
        "vote is a directory",
        |dir| in_its_place(dir, "wal/vote"),
        Refused(&["vote", MISPLACED, "Nothing was changed"]),
    ),
    (
        "watermark is a directory",
        |dir| in_its_place(dir, "wal/watermark"),
        Refused(&["watermark", MISPLACED, "Nothing was changed"]),
    ),
    (
        "identity is a directory",
        |dir| in_its_place(dir, "identity"),
        Refused(&["identity", MISPLACED, "Nothing was changed"]),
    ),
    (
        "lock is a directory",
        |dir| in_its_place(dir, "lock"),
        Refused(&["lock", MISPLACED, "Nothing was changed"]),
    ),
    (
        "list of peers is a directory",
        |dir| in_its_place(dir, "peers"),
        Refused(&["peers", MISPLACED, "Nothing was changed"]),
    ),
    (
        "log directory points to nothing",
        |dir| {
            fs::remove_dir_all(dir.join("wal")).expect("our folder");
            std::os::unix::fs::symlink("nowhere", dir.join("wal")).expect("our folder");
        },
        Refused(&["wal", "add a new member"]),
    ),
    (
        "list of peers gone",
        |dir| remove(dir, "peers"),
        Refused(&["peers", "none", "Nothing was changed"]),
    ),
    (
        "list of peers declared empty by hand",
        |dir| fs::write(dir.join("peers"), "none\n").expect("our folder"),
        Served,
    ),
    (
        "history's watermark damaged",
        |dir| flip(dir, "history/WATERMARK", 4),
        Served,
    ),
    (
        "list of peers damaged",
        |dir| {
            fs::write(dir.join("peers"), "x").expect("our folder");
        },
        Refused(&["peers", "Replace this member", "Nothing was changed"]),
    ),
    (
        "lock of nonsense",
        |dir| fs::write(dir.join("lock"), [0xff; 99]).expect("our folder"),
        Served,
    ),
    (
        "a strange file",
        |dir| fs::write(dir.join("notes.txt"), "x").expect("our folder"),
        Served,
    ),
    (
        "others may read it",
        |dir| {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("our folder");
        },
        Refused(&["0755", "chmod 700", "Nothing was changed"]),
    ),
    (
        "a file in its place",
        |dir| {
            fs::remove_dir_all(dir).expect("our folder");
            fs::write(dir, "x").expect("our folder");
        },
        Refused(&["is a file, not a directory", "Nothing was changed"]),
    ),
    (
        "etcd's files",
        |dir| {
            empty(dir);
            fs::create_dir_all(dir.join("member/wal")).expect("our folder");
            fs::write(dir.join("member/wal/0.wal"), "x").expect("our folder");
        },
        Refused(&["etcd", "Nothing was changed"]),
    ),
];

/// Every file with its bytes, except the lock and the count of starts.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(dir) else {
        found.insert(String::new(), fs::read(dir).expect("a file"));
        return found;
    };
    for entry in entries {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a type").is_dir() {
            let below = tree(&entry.path()).into_iter();
            found.extend(below.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else if name != "lock" && !name.starts_with("identity") {
            // A link to nowhere is there, and has no bytes.
            found.insert(name, fs::read(entry.path()).unwrap_or_default());
        }
    }
    found
}

fn replace(from: &Path, to: &Path) {
    if to.is_dir() {
        fs::remove_dir_all(to).expect("our folder");
    } else {
        fs::remove_file(to).expect("our file");
    }
    copy(from, to);
}

#[test]
fn damaged_and_foreign_directories_are_refused_by_name_or_served_whole() {
    let mut member = Member::with_a_key();
    member.stop();
    let good = member.aside("good");
    copy(&member.data(), &good);
    let mut wrong = Vec::new();
    for (case, harm, fate) in CASES {
        replace(&good, &member.data());
        harm(&member.data());
        let before = tree(&member.data());
        member.spawn();
        let code = member.wait_settled();
        let log = member.log();
        member.check_log(case);
        let as_it_should = match fate {
            Served => {
                if code.is_none() {
                    member.check(case);
                    member.kill();
                }
                code.is_none()
            }
            Refused(texts) => {
                let untouched = code == Some(4) && tree(&member.data()) == before;
                untouched && texts.iter().all(|text| log.contains(text))
            }
        };
        member.kill();
        if !as_it_should {
            let changed = tree(&member.data()) != before;
            wrong.push(format!("{case}: exit {code:?}, changed {changed}\n{log}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    replace(&good, &member.data());
    member.spawn();
    assert_eq!(member.wait_settled(), None, "{}", member.log());
    member.check("the directory as it was");
}
