//! Three processes with TLS on every port, from certificates as the operator issues them, and the
//! client verbs (and etcdctl where it is at hand) over https.

use super::harness::{free_ports, http, spawn_node, wait_for};
use quorate_operator::certificates::{Authority, ClusterNames, Holder, Issued, Use};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const DAY_S: i64 = 86_400;

struct Secure {
    dir: tempfile::TempDir,
    base: u16,
    nodes: Vec<Child>,
}

impl Drop for Secure {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid now")]
fn now_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("before the end of time")
}

fn names() -> ClusterNames {
    ClusterNames {
        cluster: "demo".to_owned(),
        namespace: "test".to_owned(),
        domain: None,
        peer_service: "demo-peers".to_owned(),
        client_services: vec!["demo-client".to_owned()],
    }
}

fn put(dir: &Path, stem: &str, issued: &Issued) {
    std::fs::write(dir.join(format!("{stem}.crt")), &issued.certificate_pem).expect("a file");
    std::fs::write(dir.join(format!("{stem}.key")), &issued.key_pem).expect("a file");
}

impl Secure {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let now = now_s();
        for (of, holders) in [
            (
                Use::Peer,
                &[
                    (Holder::Member, "member", now),
                    (Holder::Operator, "operator", now),
                ][..],
            ),
            (
                Use::Client,
                &[
                    (Holder::ClientPort, "server", now),
                    (Holder::Operator, "caller", now),
                    (Holder::Operator, "expired", now - 200 * DAY_S),
                ],
            ),
            (Use::Client, &[(Holder::Operator, "stranger", now)]),
        ] {
            let made = now - 300 * DAY_S;
            let ca = Authority::create(&names(), of, made, 1000 * DAY_S).expect("an authority");
            for (holder, stem, at) in holders {
                let leaf = ca.issue(&names(), *holder, *at, 90 * DAY_S);
                put(dir.path(), stem, &leaf.expect("a leaf"));
            }
            let stranger = holders.iter().any(|(_, stem, _)| *stem == "stranger");
            if !stranger {
                put(dir.path(), &format!("{}-ca", of.label()), ca.kept());
            }
        }
        let base = free_ports();
        let mut secure = Self {
            dir,
            base,
            nodes: Vec::new(),
        };
        secure.nodes = (0..3).map(|slot| secure.spawn(slot)).collect();
        secure
    }

    fn port(&self, slot: u16) -> u16 {
        self.base + 10 * slot
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn spawn(&self, slot: u16) -> Child {
        let initial: Vec<String> = (0..3)
            .map(|n| format!("m{n}=https://127.0.0.1:{}", self.port(n) + 1))
            .collect();
        let client = format!("https://127.0.0.1:{}", self.port(slot));
        let peer = format!("https://127.0.0.1:{}", self.port(slot) + 1);
        let args = [
            format!("--name=m{slot}"),
            format!("--data-dir={}", self.file(&format!("m{slot}"))),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", initial.join(",")),
            format!("--listen-admin=127.0.0.1:{}", self.port(slot) + 2),
            format!("--cert-file={}", self.file("server.crt")),
            format!("--key-file={}", self.file("server.key")),
            format!("--trusted-ca-file={}", self.file("client-ca.crt")),
            "--client-cert-auth".to_owned(),
            format!("--peer-cert-file={}", self.file("member.crt")),
            format!("--peer-key-file={}", self.file("member.key")),
            format!("--peer-trusted-ca-file={}", self.file("peer-ca.crt")),
            "--peer-cert-allowed-cn=demo.test.member".to_owned(),
            format!("--admin-cert-file={}", self.file("member.crt")),
            format!("--admin-key-file={}", self.file("member.key")),
            format!("--admin-trusted-ca-file={}", self.file("peer-ca.crt")),
            "--admin-cert-allowed-cn=demo.test.operator".to_owned(),
        ];
        spawn_node(&args, &self.log(slot))
    }

    fn log(&self, slot: u16) -> PathBuf {
        self.dir.path().join(format!("m{slot}.log"))
    }

    /// Runs a client program against member 0 with this certificate.
    fn run(&self, program: &Path, leaf: &str, verb: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .arg(format!("--endpoints=https://127.0.0.1:{}", self.port(0)))
            .arg(format!("--cacert={}", self.file("client-ca.crt")))
            .arg(format!("--cert={}", self.file(&format!("{leaf}.crt"))))
            .arg(format!("--key={}", self.file(&format!("{leaf}.key"))))
            .args(verb)
            .stdin(Stdio::null());
        command.output().expect("the program runs")
    }
}

#[test]
fn operator_issued_certificates_make_a_cluster_that_lets_nobody_else_in() {
    let secure = Secure::start();
    let quorate = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let logs = || {
        let read = |slot| std::fs::read_to_string(secure.log(slot)).unwrap_or_default();
        (0..3).map(read).collect::<String>()
    };
    let mut last = String::new();
    wait_for("a write over https", || {
        let output = secure.run(quorate, "caller", &["put", "k", "v"]);
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success()
    });
    let output = secure.run(quorate, "caller", &["get", "k"]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains('v'),
        "{output:?}"
    );
    let etcdctl = std::env::home_dir().map(|home| home.join(".cache/quorate-tools/bin/etcdctl"));
    if let Some(etcdctl) = etcdctl.filter(|path| path.exists()) {
        let output = secure.run(&etcdctl, "caller", &["get", "k"]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "k\nv\n",
            "{output:?}"
        );
    }
    for (leaf, why) in [("stranger", "foreign"), ("expired", "expired on")] {
        let output = secure.run(quorate, leaf, &["--timeout=5s", "put", "k", "w"]);
        // Refused in the handshake: nothing was sent, and that is certain.
        assert_eq!(output.status.code(), Some(1), "{leaf}: {output:?}");
        wait_for("the reason in the log", || logs().contains(why));
    }
    for offset in [0, 2] {
        let (status, text) =
            http(secure.port(0) + offset, "GET", "/version", "").expect("answered");
        assert_eq!(status, 400);
        assert!(text.contains("https://"), "{text}");
    }
}
