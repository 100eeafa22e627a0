//! Command lines as users type them, right and wrong.

use super::{CalledAs, LogOutput, Request, parse};
use crate::config::{AutoCompaction, InitialState, NodeConfig, Start};
use crate::tls::{Allowed, Callers, Version};
use std::collections::BTreeMap;

fn request(line: &str, env: &[(&str, &str)]) -> Result<Request, super::UsageError> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let env: BTreeMap<String, String> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    parse(CalledAs::Etcd, &args, &env)
}

fn config(line: &str) -> NodeConfig {
    match request(line, &[]) {
        Ok(Request::Run(config, _)) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> super::UsageError {
    match request(line, &[]) {
        Err(error) => error,
        Ok(other) => panic!("{line} was accepted: {other:?}"),
    }
}

#[test]
fn without_flags_a_single_member_starts_as_etcd_does() {
    let config = config("");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.listen_client[0].to_string(), "127.0.0.1:2379");
    let Start::Static {
        initial_cluster,
        state,
        token,
    } = config.start
    else {
        panic!()
    };
    assert_eq!(initial_cluster[0].peer_url, "http://localhost:2380");
    assert_eq!((state, token.as_str()), (InitialState::New, "etcd-cluster"));
}

#[test]
fn every_spelling_of_a_flag_means_the_same() {
    for line in ["--name a", "-name a", "--name=a", "-name=a"] {
        assert_eq!(
            config(&format!("{line} --initial-cluster a=http://localhost:2380")).name,
            "a"
        );
    }
    assert!(!config("--strict-reconfig-check=false").strict_reconfig_check);
    assert!(config("--strict-reconfig-check").strict_reconfig_check);
}

#[test]
fn the_three_short_lines_describe_one_cluster() {
    let urls = |line: &str| {
        let Start::Static {
            initial_cluster, ..
        } = config(line).start
        else {
            panic!("{line}")
        };
        let mut urls: Vec<String> = initial_cluster
            .into_iter()
            .map(|member| member.peer_url)
            .collect();
        urls.sort();
        urls
    };
    let first = urls("--id node1 --port 8001 --peers localhost:8002,localhost:8003");
    let second = urls("--id node2 --port 8002 --peers localhost:8001,localhost:8003");
    let third = urls("--id node3 --port 8003 --peers localhost:8002,localhost:8001");
    assert_eq!(
        first,
        [
            "http://localhost:9001",
            "http://localhost:9002",
            "http://localhost:9003"
        ]
    );
    assert_eq!((&first, &first), (&second, &third));
}

#[test]
fn the_environment_is_read_and_must_not_contradict_a_flag() {
    let env = [
        ("ETCD_NAME", "e"),
        ("ETCD_INITIAL_CLUSTER", "e=http://localhost:2380"),
    ];
    let Ok(Request::Run(config, log)) = request("", &env) else {
        panic!()
    };
    assert_eq!((config.name.as_str(), log.output), ("e", LogOutput::Stderr));
    let error = request("--name f", &env).unwrap_err();
    assert!(error.message.contains("ETCD_NAME"), "{error}");
    let Ok(Request::Run(_, log)) = request("", &[("ETCD_NONSENSE", "1")]) else {
        panic!()
    };
    assert!(
        log.warnings[0].contains("ETCD_NONSENSE"),
        "{:?}",
        log.warnings
    );
}

type Refusal = (&'static str, u8, &'static str);

fn check_refusals(table: &[Refusal]) {
    for (line, exit_code, text) in table {
        let error = refused(line);
        assert!(error.message.contains(text), "{line}: {error}");
        assert_eq!(error.exit_code, *exit_code, "{line}");
    }
}

#[test]
fn wrong_flags_and_values_are_named_with_their_remedy() {
    check_refusals(&[
        ("--data-dri /x", 2, "did you mean --data-dir?"),
        ("--zzzzzzzzzzzz", 2, "does not exist; see --help"),
        ("stray", 1, "\"stray\" is not a flag"),
        ("--name", 2, "--name needs a value"),
        (
            "--heartbeat-interval ten",
            1,
            "\"ten\" is not a whole number",
        ),
        ("--heartbeat-interval 0", 1, "must be greater than 0"),
        ("--election-timeout 200", 1, "shorter than five times"),
        ("--election-timeout 60000", 1, "longer than 50000 ms"),
        ("--max-request-bytes 5", 1, "not between 1024"),
        ("--max-request-bytes 16777216", 1, "and 16711680"),
        ("--auto-tls", 1, "this version does not do"),
        ("--unsafe-no-fsync", 1, "this version does not do"),
        ("--log-level loud", 1, "none of debug, info, warn, error"),
        ("--log-format xml", 1, "neither json nor console"),
        ("--name a/b", 1, "a name has 1 to"),
        (
            "--strict-reconfig-check=perhaps",
            1,
            "neither true nor false",
        ),
    ]);
}

#[test]
fn a_retention_counts_hours_time_or_revisions() {
    let hours = |hours: u64| AutoCompaction::Periodic {
        retention_ms: hours * 3_600_000,
    };
    let retention_ms = 1_000;
    for (line, expected) in [
        ("", AutoCompaction::Off),
        ("--auto-compaction-mode=periodic", AutoCompaction::Off),
        ("--auto-compaction-mode=revision", AutoCompaction::Off),
        ("--auto-compaction-retention=", AutoCompaction::Off),
        ("--auto-compaction-retention=0", AutoCompaction::Off),
        ("--auto-compaction-retention=0s", AutoCompaction::Off),
        ("--auto-compaction-retention=1", hours(1)),
        ("--auto-compaction-retention=24h", hours(24)),
        ("--auto-compaction-retention=120m", hours(2)),
        ("--auto-compaction-retention=87600", hours(87_600)),
        (
            "--auto-compaction-retention=1s",
            AutoCompaction::Periodic { retention_ms },
        ),
        (
            "--auto-compaction-mode=revision --auto-compaction-retention=0",
            AutoCompaction::Off,
        ),
        (
            "--auto-compaction-mode revision --auto-compaction-retention 1000",
            AutoCompaction::Revision { keep: 1000 },
        ),
        (
            "--id node1 --port 8001 --auto-compaction-retention 1h",
            hours(1),
        ),
    ] {
        assert_eq!(config(line).hot.auto_compaction, expected, "{line}");
    }
}

#[test]
fn a_retention_that_means_nothing_is_refused_with_its_remedy() {
    let retention = [
        ("1.5", "write it as in 30m, 1h30m or 24h"),
        ("1e9", "is no duration"),
        ("soon", "is no duration"),
        ("1d", "is no duration"),
        ("-1", "is negative; write 0"),
        ("-1h", "is negative; write 0"),
        ("1ns", "is too short; keep at least 1s"),
        ("999ms", "is too short"),
        ("87600h1s", "is too long; keep at most 87600h"),
        ("999999999h", "is too long"),
        ("999999999", "is too long"),
        ("99999999999999999999999", "is too long"),
    ];
    for (text, part) in retention {
        let error = refused(&format!("--auto-compaction-retention={text}"));
        let named = format!("--auto-compaction-retention \"{text}\" ");
        assert!(error.message.starts_with(&named), "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
        assert_eq!(error.exit_code, 1, "{text}");
    }
    let long = refused(&format!(
        "--auto-compaction-retention={}",
        "9".repeat(60_000)
    ));
    assert!(long.message.contains("has more than 64 bytes"), "{long}");
    assert!(long.message.len() < 200, "{long}");
    check_refusals(&[
        (
            "--auto-compaction-mode Periodic",
            1,
            "--auto-compaction-mode \"Periodic\" is neither periodic nor revision",
        ),
        (
            "--auto-compaction-mode=",
            1,
            "neither periodic nor revision",
        ),
        (
            "--auto-compaction-mode revision --auto-compaction-retention 1h",
            1,
            "\"1h\" is no number of revisions; with --auto-compaction-mode=revision write",
        ),
        (
            "--auto-compaction-mode revision --auto-compaction-retention -5",
            1,
            "\"-5\" is negative",
        ),
    ]);
}

#[test]
fn wrong_addresses_and_members_are_named_with_their_remedy() {
    check_refusals(&[
        (
            "--listen-client-urls http://localhost:1",
            1,
            "--advertise-client-urls is missing",
        ),
        (
            "--listen-peer-urls https://localhost:1",
            1,
            "needs --peer-cert-file",
        ),
        ("--listen-peer-urls localhost:1", 1, "http://host:port"),
        (
            "--listen-peer-urls http://localhost",
            1,
            "the port is missing",
        ),
        (
            "--listen-peer-urls http://localhost:99999",
            1,
            "not a number up to 65535",
        ),
        (
            "--listen-peer-urls http://localhost:1/x",
            1,
            "must not have a path",
        ),
        (
            "--listen-peer-urls http://example.invalid:1",
            1,
            "is not an IP address",
        ),
        (
            "--initial-cluster a=http://localhost:2380",
            1,
            "does not name this member",
        ),
        ("--initial-cluster default", 1, "has no ="),
        (
            "--initial-cluster default=http://localhost:1",
            1,
            "the two must agree",
        ),
        ("--initial-cluster-state old", 1, "neither new nor existing"),
        ("--managed", 1, "needs --listen-admin"),
        ("--id node1", 1, "--port is missing"),
        ("--id node1 --port 0", 1, "from 1 to 64535"),
        (
            "--id node1 --port 8001 --peers localhost",
            1,
            "is not host:port",
        ),
        (
            "--id node1 --port 8001 --name x",
            1,
            "--name does not go with the short form",
        ),
    ]);
}

#[test]
fn what_has_no_effect_is_accepted_with_a_warning() {
    let Ok(Request::Run(_, log)) = request("--max-wals 7 --pre-vote=true", &[]) else {
        panic!()
    };
    assert_eq!(log.warnings, ["--max-wals=7 has no effect on this server"]);
}

#[test]
fn help_and_version_win_over_everything_else() {
    let Ok(Request::Print(help)) = request("--name --help --help", &[]) else {
        panic!()
    };
    assert!(
        help.contains("--initial-cluster ") && help.contains("node1"),
        "{help}"
    );
    let Ok(Request::Print(version)) = request("--version", &[]) else {
        panic!()
    };
    assert!(version.starts_with("etcd Version: 3.7.3\n"), "{version}");
}

const PEER_TLS: &str = "--peer-cert-file p.pem --peer-key-file p.key --peer-trusted-ca-file ca.pem \
                        --listen-peer-urls https://127.0.0.1:2380";

#[test]
fn the_tls_flags_of_etcd_mean_what_they_mean_there() {
    let config = config(&format!(
        "--cert-file c.pem --key-file c.key --trusted-ca-file ca.pem --client-cert-auth \
         --listen-client-urls https://127.0.0.1:2379 --advertise-client-urls https://h:2379 \
         --tls-min-version TLS1.3 {PEER_TLS} --peer-cert-allowed-cn member"
    ));
    let client = config.tls.client.expect("client TLS");
    assert_eq!(client.cert_file.to_str(), Some("c.pem"));
    assert_eq!(client.callers, Callers::Required);
    assert_eq!(client.version_min, Version::Tls13);
    let peer = config.tls.peer.expect("peer TLS");
    assert_eq!(peer.callers, Callers::Required);
    assert_eq!(peer.allowed, Allowed::CommonName("member".to_owned()));
    assert_eq!(config.advertise_peer_urls, ["https://127.0.0.1:2380"]);
    assert_eq!(config.tls.admin, None);
}

#[test]
fn health_and_metrics_have_a_port_without_tls_where_that_is_asked_for() {
    assert!(config("--name a").listen_metrics.is_empty());
    for form in ["--name a", "--id node1 --port 8001"] {
        let config = config(&format!("{form} --listen-metrics-urls http://0.0.0.0:2382"));
        assert_eq!(config.listen_metrics, ["0.0.0.0:2382".parse().unwrap()]);
    }
    let error = refused("--name a --listen-metrics-urls https://0.0.0.0:2382");
    assert!(error.message.contains("write http://"), "{error}");
}

#[test]
fn a_plaintext_listener_where_tls_is_asked_for_is_refused() {
    let https = "--listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://h:1";
    let lines = [
        ("--cert-file c --key-file k".to_owned(), "--listen-client-urls \"http://localhost:2379\" is plaintext"),
        (https.to_owned(), "needs --cert-file and --key-file"),
        (format!("{https} --cert-file c"), "--cert-file without --key-file"),
        (format!("{https} --key-file c"), "--key-file without --cert-file"),
        (
            "--listen-client-urls https://127.0.0.1:1,http://127.0.0.1:3 --cert-file c --key-file k \
             --advertise-client-urls https://h:1"
                .to_owned(),
            "\"http://127.0.0.1:3\" is plaintext",
        ),
        (format!("{https} --cert-file c --key-file k --client-cert-auth"), "needs --trusted-ca-file"),
        ("--trusted-ca-file ca".to_owned(), "--trusted-ca-file without --cert-file"),
        ("--peer-cert-file c --peer-key-file k --peer-trusted-ca-file ca".to_owned(), "--listen-peer-urls \"http://localhost:2380\" is plaintext"),
        (
            "--peer-cert-file c --peer-key-file k --listen-peer-urls https://127.0.0.1:1".to_owned(),
            "needs --peer-trusted-ca-file",
        ),
        (format!("{PEER_TLS} --initial-advertise-peer-urls http://h:2380"), "is plaintext, but"),
        (format!("{PEER_TLS} --listen-admin 127.0.0.1:1"), "--listen-admin would be plaintext"),
        (format!("{PEER_TLS} --peer-cert-allowed-cn a --peer-cert-allowed-hostname b"), "exclude each other"),
        ("--admin-cert-file c --admin-key-file k --admin-trusted-ca-file ca".to_owned(), "no --listen-admin"),
        (
            "--listen-admin 127.0.0.1:1 --admin-cert-file c --admin-key-file k".to_owned(),
            "needs --admin-trusted-ca-file",
        ),
        ("--tls-min-version TLS1.1".to_owned(), "neither TLS1.2 nor TLS1.3"),
        ("--tls-min-version TLS1.3 --tls-max-version TLS1.2".to_owned(), "older than"),
        ("--cipher-suites TLS_RSA_WITH_AES_128_CBC_SHA".to_owned(), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (
            "--tls-min-version TLS1.3 --cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned(),
            "no choice of suites",
        ),
        ("--id node1 --port 8001 --cert-file c".to_owned(), "--cert-file does not go with the short form"),
    ];
    for (line, text) in lines {
        let error = refused(&line);
        assert!(error.message.contains(text), "{line}: {error}");
        assert_eq!(error.exit_code, 1, "{line}");
    }
}
