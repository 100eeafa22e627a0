//! Kill -9 of each member in turn, then of all at once, under a writer on every member.

use super::harness::{Cluster, rounds, wait_for};
use super::writers::{Writers, judge};

#[test]
fn nothing_acknowledged_is_lost_whoever_is_killed() {
    let mut cluster = Cluster::start();
    let ports = [cluster.port(0), cluster.port(1), cluster.port(2)];
    let writers = Writers::start(&ports);
    let progress = |what: &str| {
        let before = writers.acknowledged();
        wait_for(&format!("writes to go on {what}"), || {
            writers.acknowledged() >= before + 20
        });
    };
    progress("at the start");
    for round in 0..rounds() {
        for victim in 0..3 {
            cluster.kill(victim);
            progress(&format!("without m{victim}, round {round}"));
            cluster.spawn(victim);
            cluster.wait_ready(&[victim]);
        }
        for victim in 0..3 {
            cluster.kill(victim);
        }
        for victim in 0..3 {
            cluster.spawn(victim);
        }
        cluster.wait_ready(&[0, 1, 2]);
        progress(&format!("after all were killed, round {round}"));
    }
    let acknowledged = writers.stop();
    println!(
        "{} writes acknowledged in {} rounds",
        acknowledged.len(),
        rounds()
    );
    judge(&acknowledged, &ports, 2);
}
