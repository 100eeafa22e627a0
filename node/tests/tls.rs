//! Three whole members with TLS on every port, in this process: they form a cluster, refuse
//! strangers, and change every certificate and the authority itself under a writer.

#[path = "../src/tls/pki.rs"]
mod pki;

use pki::{LOCAL, TestCa, put, put_leaf};
use quorate_api::admin::v1::{IdentityRequest, PortCertificate};
use quorate_api::client::{self as api, Client, Options};
use quorate_api::etcdserverpb::{PutRequest, RangeRequest};
use quorate_api::tls::client::Pem;
use quorate_api::tls::{ClientTls, Material};
use quorate_node::config::{InitialMember, InitialState, Start};
use quorate_node::tls::{PortTls, Settings};
use quorate_node::{Node, NodeConfig};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const MEMBERS: usize = 3;

/// The authority of the cluster, and the files every member uses.
struct Cluster {
    files: TempDir,
    _data: TempDir,
    nodes: Vec<Node>,
}

fn write_leaves(files: &Path, ca: &TestCa) {
    for slot in 0..MEMBERS {
        for port in ["client", "peer", "admin"] {
            let stem = format!("{port}-{slot}");
            put_leaf(files, &stem, &ca.leaf("member", LOCAL));
        }
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .expect("the test has what it needs")
        .local_addr()
        .expect("the test has what it needs")
}

impl Cluster {
    fn start(ca: &TestCa) -> Self {
        let (files, data) = (
            TempDir::new().expect("the test has what it needs"),
            TempDir::new().expect("the test has what it needs"),
        );
        let trusted = put(files.path(), "ca.crt", &ca.pem);
        write_leaves(files.path(), ca);
        let addresses: Vec<SocketAddr> = (0..MEMBERS).map(|_| free_address()).collect();
        let initial_cluster: Vec<InitialMember> = addresses
            .iter()
            .enumerate()
            .map(|(slot, address)| InitialMember {
                name: format!("m{slot}"),
                peer_url: format!("https://{address}"),
            })
            .collect();
        let nodes = addresses.iter().enumerate().map(|(slot, address)| {
            let port = |name: &str| {
                let file = |end: &str| files.path().join(format!("{name}-{slot}.{end}"));
                Some(PortTls::new(file("crt"), file("key")).mutual(&trusted))
            };
            let config = NodeConfig {
                listen_peer: vec![*address],
                advertise_peer_urls: vec![format!("https://{address}")],
                tls: Settings {
                    client: port("client"),
                    peer: port("peer"),
                    admin: port("admin"),
                },
                start: Start::Static {
                    initial_cluster: initial_cluster.clone(),
                    state: InitialState::New,
                    token: "tls".to_owned(),
                },
                heartbeat_ms: 50,
                election_ms: 500,
                ..NodeConfig::managed(format!("m{slot}"), data.path().join(format!("m{slot}")))
            };
            Node::start(config).expect("the test has what it needs")
        });
        let nodes = nodes.collect();
        Self {
            files,
            _data: data,
            nodes,
        }
    }

    fn endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.client_addrs()[0].to_string())
            .collect()
    }

    async fn certificates(&self, slot: usize, tls: &ClientTls) -> Vec<PortCertificate> {
        let address = self.nodes[slot]
            .admin_addr()
            .expect("the test has what it needs");
        let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}"));
        let channel = tls
            .connect(&endpoint.expect("the test has what it needs"))
            .await
            .expect("the test has what it needs");
        let answer = api::admin(channel).identity(IdentityRequest {}).await;
        answer
            .expect("the test has what it needs")
            .into_inner()
            .certificates
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// A caller that trusts these authorities and shows a leaf of the first.
fn caller(trusted: &[&TestCa]) -> ClientTls {
    let pem = |name: &str, text: &str| Pem {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let leaf = trusted[0].leaf("root", &[]);
    let bundle: String = trusted.iter().map(|ca| ca.pem.as_str()).collect();
    ClientTls::new(&Material {
        trusted_ca: Some(pem("ca", &bundle)),
        identity: Some((pem("leaf", &leaf.cert), pem("key", &leaf.key))),
        ..Material::default()
    })
    .expect("the test has what it needs")
}

fn client(endpoints: &[String], tls: &ClientTls) -> Client {
    let options = Options {
        endpoints: endpoints.to_vec(),
        tls: Some(tls.clone()),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(20),
    };
    Client::new(&options).expect("the test has what it needs")
}

async fn put_key(client: &Client, key: String) -> Result<(), api::Error> {
    let request = PutRequest {
        key: key.into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    let call = async |channel| api::kv(channel).put(request).await;
    client.write(call).await.map(drop)
}

async fn await_leader(client: &Client) {
    for _ in 0..600 {
        if put_key(client, "first".to_owned()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // poll interval
    }
    panic!("no leader within 30 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_over_tls_serve_and_refuse_strangers() {
    let ca = TestCa::new("ca");
    let cluster = Cluster::start(&ca);
    let tls = caller(&[&ca]);
    let endpoints = cluster.endpoints();
    await_leader(&client(&endpoints, &tls)).await;
    for endpoint in &endpoints {
        let one = client(std::slice::from_ref(endpoint), &tls);
        put_key(&one, format!("at {endpoint}"))
            .await
            .expect("the test has what it needs");
        let range = || RangeRequest {
            key: "first".into(),
            ..RangeRequest::default()
        };
        let read = one.read(async |channel| api::kv(channel).range(range()).await);
        assert_eq!(read.await.expect("the test has what it needs").count, 1);
    }
    let stranger = TestCa::new("stranger");
    // It trusts the cluster, and the cluster does not trust it.
    let refused = put_key(
        &client(&endpoints, &caller(&[&stranger, &ca])),
        "x".to_owned(),
    )
    .await;
    assert!(refused.is_err());
    cluster.stop().await;
}

/// Two writers: one keeps its connection, one makes a new one for every request.
async fn write_on(
    endpoints: Vec<String>,
    tls: Arc<arc_swap::ArcSwap<ClientTls>>,
    afresh: bool,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut kept = client(&endpoints, &tls.load());
    while !stop.load(Ordering::Relaxed) {
        if afresh {
            kept = client(&endpoints, &tls.load());
        }
        let number = written.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = put_key(&kept, format!("{afresh}-{number}")).await {
            failed.push(error.to_string());
        }
    }
    failed
}

/// Waits until the writers have written so much more.
async fn more(written: &AtomicU64, count: u64) {
    let goal = written.load(Ordering::Relaxed) + count;
    for _ in 0..1200 {
        if written.load(Ordering::Relaxed) >= goal {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await; // poll interval
    }
    panic!("the writers stand still");
}

/// Every member must report, on each port, a leaf not seen before.
async fn check_reports(cluster: &Cluster, tls: &ClientTls, old: &[String]) {
    for slot in 0..MEMBERS {
        let reports = cluster.certificates(slot, tls).await;
        assert_eq!(reports.len(), 3);
        for report in &reports {
            assert!(
                !old.contains(&report.serial),
                "{report:?} is still in force"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_is_replaced_under_load_without_a_failed_request() {
    let (old_ca, new_ca) = (TestCa::new("old"), TestCa::new("new"));
    let cluster = Cluster::start(&old_ca);
    let endpoints = cluster.endpoints();
    let tls = Arc::new(arc_swap::ArcSwap::from_pointee(caller(&[&old_ca])));
    await_leader(&client(&endpoints, &tls.load())).await;

    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let writers: Vec<_> = [false, true]
        .into_iter()
        .map(|afresh| {
            tokio::spawn(write_on(
                endpoints.clone(),
                Arc::clone(&tls),
                afresh,
                Arc::clone(&stop),
                Arc::clone(&written),
            ))
        })
        .collect();
    let serials = async |tls: &ClientTls| {
        let mut serials = Vec::new();
        for slot in 0..MEMBERS {
            serials.extend(
                cluster
                    .certificates(slot, tls)
                    .await
                    .into_iter()
                    .map(|one| one.serial),
            );
        }
        serials
    };

    more(&written, 30).await;
    let both = format!("{}{}", old_ca.pem, new_ca.pem);
    put(cluster.files.path(), "ca.crt", &both);
    tls.store(Arc::new(caller(&[&old_ca, &new_ca])));
    more(&written, 30).await;
    let old = serials(&tls.load()).await;
    write_leaves(cluster.files.path(), &new_ca);
    more(&written, 30).await;
    check_reports(&cluster, &tls.load(), &old).await;
    tls.store(Arc::new(caller(&[&new_ca, &old_ca])));
    more(&written, 30).await;
    put(cluster.files.path(), "ca.crt", &new_ca.pem);
    tls.store(Arc::new(caller(&[&new_ca])));
    more(&written, 30).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert_eq!(
            writer.await.expect("the test has what it needs"),
            Vec::<String>::new()
        );
    }
    // The authority there was is worth nothing any more.
    let refused = put_key(
        &client(&endpoints, &caller(&[&old_ca, &new_ca])),
        "x".to_owned(),
    )
    .await;
    assert!(refused.is_err());
    cluster.stop().await;
}
