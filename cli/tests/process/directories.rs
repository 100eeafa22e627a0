//! Data directories that are wiped, swapped, rolled back or in use: never a vote from them.

use super::harness::{Cluster, copy, http, spawn_node, wait_for};
use super::writers::{Writers, judge};
use std::fs;

#[test]
fn a_second_process_on_a_directory_is_refused_and_told_who_holds_it() {
    let mut cluster = Cluster::start();
    let args = [
        "--name=m0".to_owned(),
        format!("--data-dir={}", cluster.data(0).display()),
        "--listen-client-urls=http://127.0.0.1:1".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:1".to_owned(),
    ];
    let log = cluster.dir.path().join("second.log");
    let mut args = args.to_vec();
    args.push("--initial-cluster=m0=http://localhost:2380".to_owned());
    let status = spawn_node(&args, &log).wait().expect("it ends");
    let text = fs::read_to_string(log).expect("a log");
    assert_eq!(status.code(), Some(4), "{text}");
    assert!(
        text.contains("in use") && text.contains("process"),
        "{text}"
    );
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(&[0, 1, 2]);
}

#[test]
fn swapped_directories_are_refused() {
    let mut cluster = Cluster::start();
    cluster.kill(1);
    cluster.kill(2);
    let aside = cluster.dir.path().join("aside");
    fs::rename(cluster.data(1), &aside).expect("our folder");
    fs::rename(cluster.data(2), cluster.data(1)).expect("our folder");
    fs::rename(&aside, cluster.data(2)).expect("our folder");
    cluster.spawn(1);
    assert_eq!(cluster.wait_exit(1), Some(4), "{}", cluster.log(1));
    assert!(cluster.log(1).contains("belongs to"), "{}", cluster.log(1));
}

#[test]
fn an_old_copy_of_a_directory_never_votes_again() {
    let mut cluster = Cluster::start();
    let ports = [cluster.port(0), cluster.port(1), cluster.port(2)];
    cluster.kill(2);
    let old = cluster.dir.path().join("old");
    copy(&cluster.data(2), &old);
    cluster.spawn(2);
    cluster.wait_ready(&[2]);
    let writers = Writers::start(&ports);
    wait_for("some writes", || writers.acknowledged() > 50);
    cluster.kill(2);
    fs::remove_dir_all(cluster.data(2)).expect("our folder");
    copy(&old, &cluster.data(2));
    cluster.spawn(2);
    wait_for("the old copy to be refused", || {
        let log = cluster.log(2);
        log.contains("this data directory is refused")
    });
    // The two others are a quorum without it; it alone with one of them must not become one.
    let before = writers.acknowledged();
    wait_for("writes to go on", || writers.acknowledged() > before + 20);
    cluster.kill(1);
    let (status, _) = http(ports[0], "GET", "/readyz", "").expect("m0 serves");
    wait_for("m0 to lose its quorum", || {
        status != 200 || http(ports[0], "GET", "/readyz", "").is_ok_and(|(code, _)| code != 200)
    });
    cluster.spawn(1);
    cluster.wait_ready(&[0, 1]);
    let acknowledged = writers.stop();
    judge(&acknowledged, &ports[..2], 2);
}

#[test]
fn a_wiped_directory_does_not_rejoin_under_its_old_name() {
    let mut cluster = Cluster::start();
    let ports = [cluster.port(0), cluster.port(1), cluster.port(2)];
    let writers = Writers::start(&ports[..2]);
    wait_for("some writes", || writers.acknowledged() > 20);
    cluster.kill(2);
    fs::remove_dir_all(cluster.data(2)).expect("our folder");
    cluster.spawn(2);
    wait_for("the wiped member to be refused", || {
        let log = cluster.log(2);
        log.contains("this data directory is refused")
    });
    cluster.kill(1);
    wait_for("m0 alone to be without a quorum", || {
        http(ports[0], "GET", "/readyz", "").is_ok_and(|(code, _)| code != 200)
    });
    cluster.spawn(1);
    cluster.wait_ready(&[0, 1]);
    let acknowledged = writers.stop();
    judge(&acknowledged, &ports[..2], 2);
}

#[test]
fn a_member_with_a_damaged_log_or_history_is_made_whole_under_load() {
    let mut cluster = Cluster::start();
    let ports = [cluster.port(0), cluster.port(1), cluster.port(2)];
    let writers = Writers::start(&ports[..2]);
    let harms: [fn(&std::path::Path); 4] = [
        |data| flip(&data.join("wal/00000001.wal"), 4096 + 300),
        |data| {
            fs::remove_file(data.join("wal/00000001.wal")).expect("the member's log");
            flip(&data.join("history/MANIFEST"), 20);
        },
        |data| fs::remove_dir_all(data.join("history")).expect("the member's history"),
        |data| flip(&data.join("history/00000001.rev"), 100),
    ];
    for harm in harms {
        let before = writers.acknowledged();
        wait_for("some writes", || writers.acknowledged() > before + 20);
        let history = cluster.data(2).join("history/00000001.rev");
        wait_for("some history on disk", || {
            fs::metadata(&history).is_ok_and(|file| file.len() > 4096)
        });
        cluster.kill(2);
        harm(&cluster.data(2));
        cluster.spawn(2);
        cluster.wait_ready(&[2]);
    }
    assert!(cluster.log(2).contains("repaired"), "{}", cluster.log(2));
    // What is acknowledged now rests on the member that was damaged.
    cluster.kill(1);
    let before = writers.acknowledged();
    wait_for("writes to go on", || writers.acknowledged() > before + 20);
    cluster.spawn(1);
    cluster.wait_ready(&[0, 1, 2]);
    let acknowledged = writers.stop();
    judge(&acknowledged, &ports, 2);
}

fn flip(path: &std::path::Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file of the member");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("our file");
}

#[test]
fn a_removed_member_stays_out_when_it_comes_back_with_its_old_data() {
    let mut cluster = Cluster::start();
    let ports = [cluster.port(0), cluster.port(1)];
    let writers = Writers::start(&ports);
    cluster.kill(2);
    remove_member(
        ports[0],
        &format!("http://127.0.0.1:{}", cluster.port(2) + 1),
    );
    cluster.spawn(2);
    wait_for("the removed member to know", || {
        cluster.log(2).contains("stays out")
    });
    // Also when it starts once more.
    cluster.kill(2);
    cluster.spawn(2);
    let gone = cluster.port(2);
    wait_for("it to say so", || {
        http(gone, "GET", "/readyz", "")
            .is_ok_and(|(status, body)| status == 503 && body.contains("removed"))
    });
    let before = writers.acknowledged();
    wait_for("writes to go on", || writers.acknowledged() > before + 20);
    let acknowledged = writers.stop();
    judge(&acknowledged, &ports, 2);
}

/// Removes the member that is reached at a peer URL, once the others have published their names.
fn remove_member(port: u16, peer_url: &str) {
    use quorate_api::etcdserverpb::{
        MemberListRequest, MemberRemoveRequest, cluster_client::ClusterClient,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut client = runtime
        .block_on(ClusterClient::connect(format!("http://127.0.0.1:{port}")))
        .expect("the member serves");
    let list = MemberListRequest { linearizable: true };
    let list = runtime.block_on(client.member_list(list)).expect("a list");
    let listed = list.into_inner().members;
    let found = |member: &&quorate_api::etcdserverpb::Member| {
        member.peer_urls.iter().any(|url| url == peer_url)
    };
    let id = listed.iter().find(found).expect("the member is listed").id;
    wait_for("the removal to be taken", || {
        let request = MemberRemoveRequest { id };
        runtime.block_on(client.member_remove(request)).is_ok()
    });
}
