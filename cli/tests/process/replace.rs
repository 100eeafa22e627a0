//! `quorate up` over data directories that were wiped, rolled back or exchanged behind its back.
//!
//! Everything happens while neither `up` nor the member runs, as it would to a machine's disk.

use super::harness::{copy, wait_for};
use super::scale::members;
use super::writers::{Writers, judge};
use crate::up::{Up, members_of};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The slot whose disk suffers.
const SLOT: u16 = 1;

fn directory(up: &Up, slot: u16) -> PathBuf {
    up.data().join(format!("slot-{slot}/volume/data"))
}

fn ids(up: &Up) -> BTreeSet<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let found = runtime.expect("a runtime").block_on(members(up.port(0)));
    found
        .expect("slot 0 answers")
        .iter()
        .map(|member| member.id)
        .collect()
}

/// Kills `up` and the members in these slots; the others run on.
fn kill_with(up: &mut Up, slots: &[u16]) {
    up.kill();
    for slot in slots {
        let below = up.data().join(format!("slot-{slot}"));
        for pid in members_of(&below) {
            let killed = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
            assert!(killed.expect("kill runs").success());
        }
        wait_for("the member to be gone", || members_of(&below).is_empty());
    }
}

/// What is done to a directory of three is healed by a new member in its slot, and nothing is lost.
fn replaced_after(mishap: impl FnOnce(&mut Up)) {
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let (cluster, before) = (up.status("/clusterUUID"), ids(&up));
    let writers = Writers::start(&[up.port(0), up.port(2)]);
    wait_for("some writes", || writers.acknowledged() > 20);
    mishap(&mut up);
    up.start();
    wait_for("another member in the slot", || ids(&up) != before);
    up.wait_voters(3);
    let after = ids(&up);
    assert_eq!(
        after.intersection(&before).count(),
        2,
        "{before:x?} became {after:x?}"
    );
    assert_eq!(up.status("/clusterUUID"), cluster);
    assert_eq!(members_of(&up.data()).len(), 3);
    let acknowledged = writers.stop();
    judge(&acknowledged, &[up.port(0), up.port(1), up.port(2)], 2);
}

#[test]
fn a_wiped_directory_is_replaced_by_a_new_member() {
    replaced_after(|up| {
        kill_with(up, &[SLOT]);
        fs::remove_dir_all(directory(up, SLOT)).expect("the directory was there");
    });
}

#[test]
fn an_old_copy_of_a_directory_is_replaced_by_a_new_member() {
    replaced_after(|up| {
        kill_with(up, &[SLOT]);
        let old = up.data().with_file_name("old");
        copy(&directory(up, SLOT), &old);
        up.start();
        up.wait_voters(3);
        wait_for("the member to be back", || {
            members_of(&up.data().join(format!("slot-{SLOT}"))).len() == 1
        });
        super::harness::wait_serving(up.port(SLOT));
        kill_with(up, &[SLOT]);
        fs::remove_dir_all(directory(up, SLOT)).expect("the directory was there");
        copy(&old, &directory(up, SLOT));
    });
}

#[test]
fn exchanged_directories_are_refused_and_the_table_says_so() {
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let before = ids(&up);
    let swap = |up: &Up| {
        let aside = up.data().with_file_name("aside");
        fs::rename(directory(up, 1), &aside).expect("the directory was there");
        fs::rename(directory(up, 2), directory(up, 1)).expect("the directory was there");
        fs::rename(&aside, directory(up, 2)).expect("the directory was there");
    };
    // Stopped in order, each has written down who else is a member: that is what it goes by.
    assert_eq!(up.interrupt(), Some(0));
    swap(&up);
    up.start();
    wait_for("the table to tell", || {
        let told = |slot| {
            let log = fs::read_to_string(up.data().join(format!("slot-{slot}/log")));
            log.is_ok_and(|log| log.contains("exchanged"))
        };
        told(1) && told(2) && up.log().contains("belongs to member")
    });
    // Put right by hand, the same three members go on.
    kill_with(&mut up, &[1, 2]);
    swap(&up);
    up.start();
    super::harness::wait_serving(up.port(1));
    super::harness::wait_serving(up.port(2));
    up.wait_voters(3);
    assert_eq!(ids(&up), before);
}
