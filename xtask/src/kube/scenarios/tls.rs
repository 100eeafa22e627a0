//! Encryption as a user gets it who asks for nothing: no port in the clear, nobody let in without a
//! good certificate, each refusal with its reason in the log, and certificates and authorities that
//! change under a writer none of whose requests fails.
//!
//! The writer is the program of this tree, one process for each write: every request is a new
//! handshake with the files of the moment, which it takes from the Secret as applications do.

use super::cluster::{CONVERGED_MAX, Cluster};
use super::follow::{lock, text};
use super::{Bench, now, seconds_since};
use crate::image;
use crate::kube::{poll, wait_until};
use anyhow::{Context, Result, anyhow, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const NAMESPACE: &str = "encrypted";
const NAME: &str = "safe";
/// The Secret that applications use.
const CREDENTIALS: &str = "safe-client-credentials";
/// How long a change of certificates may take: each phase waits for kubelets, which look at mounted
/// Secrets now and then.
const CHANGED_MAX: Duration = Duration::from_secs(600);
/// How old the files of the writer may be. Less than the grace of the change below.
const FILES_MAX: Duration = Duration::from_secs(5);
/// How long a refusal may take to be in the log.
const LOGGED_MAX: Duration = Duration::from_secs(20);

/// Everything at its default.
const MANIFEST: &str = "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\n\
    metadata: {name: safe}\nspec:\n  replicas: 3\n  storage: {size: 1Gi}\n";

/// The whole life of the certificates of one cluster.
pub fn encrypted(bench: &Bench) -> Result<()> {
    let cluster = Cluster::create(bench, NAMESPACE, MANIFEST)?;
    cluster.wait_converged(3)?;
    wait_ready(&cluster, |_| true)?;
    let folder = bench.run().join("tmp").join("tls");
    std::fs::create_dir_all(&folder)?;
    refuses_plaintext(bench, &cluster)?;
    let client = Client::new()?;
    refuses_strangers(bench, &cluster, &client, &folder)?;
    let writer = Writer::start(bench, &cluster, client, &folder)?;
    let leaf = serials(&cluster);
    change(&cluster, &writer, "leaf,token=1", |object| {
        serials_of(object) != leaf
    })?;
    let authority = secret(&cluster, "safe-peer-ca", "ca.crt")?;
    let clients = secret(&cluster, "safe-client-ca", "ca.crt")?;
    change(&cluster, &writer, "ca,token=2,grace=20s", |_| {
        let changed =
            |name: &str, old: &str| secret(&cluster, name, "ca.crt").is_ok_and(|new| new != old);
        changed("safe-peer-ca", &authority) && changed("safe-client-ca", &clients)
    })?;
    cluster.wait_converged(3)?;
    writer.end(&cluster)?;
    cluster.clear()
}

/// Waits until the condition says that all is encrypted, and this holds.
fn wait_ready(cluster: &Cluster, holds: impl Fn(&Value) -> bool) -> Result<()> {
    cluster.wait("TLSReady is True/Ready", CHANGED_MAX, |object| {
        let conditions = object["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        let ready = all.any(|condition| {
            condition["type"] == "TLSReady"
                && condition["status"] == "True"
                && condition["reason"] == "Ready"
        });
        let stable = object["status"]["certificates"]["phase"] == "Stable";
        ready && stable && holds(object)
    })
}

fn serials_of(object: &Value) -> String {
    let seen = &object["status"]["certificates"];
    format!("{} {}", seen["peer"]["serials"], seen["client"]["serials"])
}

fn serials(cluster: &Cluster) -> String {
    serials_of(&cluster.object())
}

/// One entry of a Secret.
fn secret(cluster: &Cluster, name: &str, key: &str) -> Result<String> {
    let template = format!("--template={{{{index .data {key:?} | base64decode}}}}");
    cluster.kubectl(&["get", "secret", name, &template])
}

/// Asks for new certificates and waits until every member has them; no write may fail meanwhile.
fn change(
    cluster: &Cluster,
    writer: &Writer,
    request: &str,
    holds: impl Fn(&Value) -> bool,
) -> Result<()> {
    let (start, before) = (now(), writer.figures());
    let annotation = format!("quorate.dev/rotate-certificates={request}");
    cluster.kubectl(&["annotate", "--overwrite", "kvcluster", NAME, &annotation])?;
    wait_ready(cluster, holds)?;
    writer.wait_for_a_write()?;
    let after = writer.figures();
    println!(
        "  {request:<22} {:5.1} s  writes {:4}  failed {}",
        seconds_since(start),
        after.0 - before.0,
        after.1
    );
    ensure!(after.1 == 0, "writes failed: {}", writer.trouble());
    Ok(())
}

fn address(cluster: &Cluster, slot: usize) -> Result<IpAddr> {
    let pod = cluster.json(&["get", "pod", &cluster.pod(slot)])?;
    let address = text(&pod["status"]["podIP"]);
    address.parse().context("the pod has no address")
}

/// Plain HTTP to each port: no answer but a refusal, and a line in the log.
fn refuses_plaintext(bench: &Bench, cluster: &Cluster) -> Result<()> {
    // A port each, because one kind of failure is logged once in ten seconds.
    for (slot, port, number) in [(0, "client", 2379), (1, "peer", 2380), (2, "admin", 2381)] {
        let to = SocketAddr::new(address(cluster, slot)?, number);
        let asked = bench.in_network(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(Duration::from_secs(15)))?;
            stream.write_all(b"GET /key/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            // A reset is a refusal as well.
            let _ = stream.read_to_end(&mut answer);
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })?;
        let answer = asked.join().map_err(|_| anyhow!("the caller panicked"))??;
        ensure!(
            !answer.contains("HTTP/1.1 2"),
            "the {port} port answered {answer}"
        );
        logged(cluster, slot, port, "plaintext")?;
    }
    println!("  plaintext is refused on the client, peer and admin ports");
    Ok(())
}

/// Waits for the line of a refusal in a member's log.
fn logged(cluster: &Cluster, slot: usize, port: &str, kind: &str) -> Result<()> {
    let pod = cluster.pod(slot);
    let has = |line: &str, key: &str, value: &str| line.contains(&format!("\"{key}\":\"{value}\""));
    let mut log = String::new();
    wait_until("the refusal is in the log", LOGGED_MAX, || {
        log = cluster
            .kubectl(&["logs", &pod, "--tail=200"])
            .unwrap_or_default();
        log.lines().any(|line| {
            line.contains("TLS handshake failed")
                && has(line, "port", port)
                && has(line, "kind", kind)
                && line.contains("\"reason\":\"")
        })
    })
    .with_context(|| format!("{pod}: {kind} on the {port} port is not in the log:\n{log}"))
}

/// Callers without a certificate, with one of somebody else, with one that has expired, and one
/// that is good for another port.
fn refuses_strangers(
    bench: &Bench,
    cluster: &Cluster,
    client: &Client,
    folder: &Path,
) -> Result<()> {
    let genuine = Files::of(cluster, folder, CREDENTIALS, "genuine")?;
    let foreign_key = KeyPair::generate()?;
    let mut foreign = CertificateParams::default();
    foreign.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let foreign = Issuer::new(foreign, foreign_key);
    let foreign = genuine.with(folder, "foreign", &leaf(&foreign, 2035)?)?;
    let key = KeyPair::from_pem(&secret(cluster, "safe-client-ca", "ca.key")?)?;
    let ours = Issuer::from_ca_cert_pem(&secret(cluster, "safe-client-ca", "ca.crt")?, key)?;
    let expired = genuine.with(folder, "expired", &leaf(&ours, 2020)?)?;
    let nobody = Files {
        identity: None,
        ..genuine.clone()
    };
    // Members of this cluster for certain: they know its authority, and that is not enough.
    let member = Files::of(cluster, folder, "safe-peer-tls", "member")?;
    let misused = Files {
        trusted: member.trusted.clone(),
        ..genuine.clone()
    };
    let cases = [
        (0, ("client", 2379), &foreign, "unknown_authority"),
        (1, ("client", 2379), &expired, "expired"),
        (2, ("client", 2379), &nobody, "no_certificate"),
        // What opens the client port opens the operator's as little as anybody's.
        (0, ("admin", 2381), &misused, "unknown_authority"),
        (1, ("admin", 2381), &member, "not_allowed"),
    ];
    for (slot, (port, number), files, kind) in cases {
        let to = SocketAddr::new(address(cluster, slot)?, number);
        let output = client.run(bench, &to, files, &["get", "a"])?;
        ensure!(
            !output.status.success(),
            "{kind} was let in by the {port} port"
        );
        logged(cluster, slot, port, kind)?;
    }
    let to = SocketAddr::new(address(cluster, 0)?, 2379);
    client.succeed(bench, &to, &genuine, &["put", "a", "b"])?;
    println!(
        "  foreign, expired, absent and misused certificates are refused, with the reason in the log"
    );
    Ok(())
}

/// A client's certificate and its key.
fn leaf(issuer: &Issuer<'_, KeyPair>, until_year: i32) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "stranger");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2015, 1, 1);
    params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// What a client trusts and shows.
#[derive(Clone)]
pub(super) struct Files {
    trusted: PathBuf,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// What is in a Secret of the operator's at the moment.
    pub(super) fn of(cluster: &Cluster, folder: &Path, secret: &str, stem: &str) -> Result<Files> {
        let object = cluster.json(&["get", "secret", secret])?;
        Files::from(&object, folder, stem)
    }

    fn from(object: &Value, folder: &Path, stem: &str) -> Result<Files> {
        let mut texts = Vec::new();
        for key in ["ca.crt", "tls.crt", "tls.key"] {
            let content = text(&object["data"][key]);
            texts.push(put(folder, &format!("{stem}-{key}"), &decoded(&content)?)?);
        }
        let [trusted, certificate, key] = <[PathBuf; 3]>::try_from(texts)
            .map_err(|found| anyhow!("the credentials have {} parts", found.len()))?;
        Ok(Files {
            trusted,
            identity: Some((certificate, key)),
        })
    }

    /// The same trust, another certificate.
    fn with(&self, folder: &Path, stem: &str, pair: &(String, String)) -> Result<Files> {
        let certificate = put(folder, &format!("{stem}.crt"), pair.0.as_bytes())?;
        let key = put(folder, &format!("{stem}.key"), pair.1.as_bytes())?;
        Ok(Files {
            trusted: self.trusted.clone(),
            identity: Some((certificate, key)),
        })
    }
}

fn put(folder: &Path, name: &str, content: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Base64, as Secrets have it.
fn decoded(text: &str) -> Result<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|one| *one == letter);
        let value = value.context("a Secret that is not base64")?;
        bits = bits << 6 | u32::try_from(value)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

/// The program of this tree as a client.
#[derive(Clone)]
pub(super) struct Client(String);

impl Client {
    pub(super) fn new() -> Result<Client> {
        let (program, _) = image::program_of_the_tests()?;
        Ok(Client(program.to_string_lossy().into_owned()))
    }

    fn run(
        &self,
        bench: &Bench,
        to: &SocketAddr,
        files: &Files,
        args: &[&str],
    ) -> Result<std::process::Output> {
        let mut command = bench.command(&self.0);
        command
            .args(args)
            .args(["--endpoints", &format!("https://{to}")])
            // A name that each port's certificate has.
            .args(["--tls-server-name", "localhost"])
            .arg("--cacert")
            .arg(&files.trusted);
        if let Some((certificate, key)) = &files.identity {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        command.output().context("cannot start the client")
    }

    /// What it prints; fails when it does.
    pub(super) fn succeed(
        &self,
        bench: &Bench,
        to: &SocketAddr,
        files: &Files,
        args: &[&str],
    ) -> Result<String> {
        let output = self.run(bench, to, files, args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "`quorate {}`: {said}",
            args.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[derive(Default)]
struct Seen {
    acknowledged: u64,
    failed: u64,
    trouble: String,
}

/// Writes one key after the other until told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<Result<()>>,
    client: Client,
    to: SocketAddr,
    folder: PathBuf,
    bench: Bench,
}

impl Writer {
    fn start(bench: &Bench, cluster: &Cluster, client: Client, folder: &Path) -> Result<Writer> {
        let to = cluster.client_address()?;
        let (stop, seen): (Arc<AtomicBool>, Arc<Mutex<Seen>>) = Default::default();
        let (stopped, shared) = (stop.clone(), seen.clone());
        let (writing, inside) = (client.clone(), Bench::attach(bench.run())?);
        let mine = folder.to_owned();
        let thread = std::thread::spawn(move || {
            let mut files = credentials(&inside, &mine)?;
            let mut read = now();
            while !stopped.load(Ordering::Relaxed) {
                if now() - read > FILES_MAX {
                    files = credentials(&inside, &mine)?;
                    read = now();
                }
                let number = lock(&shared).acknowledged;
                let key = format!("w-{number:06}");
                let output = writing.run(&inside, &to, &files, &["put", &key, "x"])?;
                let mut seen = lock(&shared);
                if output.status.success() {
                    seen.acknowledged += 1;
                } else {
                    seen.failed += 1;
                    seen.trouble = String::from_utf8_lossy(&output.stderr).into_owned();
                }
            }
            Ok(())
        });
        Ok(Writer {
            stop,
            seen,
            thread,
            client,
            to,
            folder: folder.to_owned(),
            bench: Bench::attach(bench.run())?,
        })
    }

    /// Writes that were acknowledged, and those that failed.
    fn figures(&self) -> (u64, u64) {
        let seen = lock(&self.seen);
        (seen.acknowledged, seen.failed)
    }

    fn trouble(&self) -> String {
        lock(&self.seen).trouble.clone()
    }

    fn wait_for_a_write(&self) -> Result<()> {
        let (before, start) = (self.figures().0, now());
        // One may have been on its way.
        while self.figures().0 < before + 2 {
            if now() - start > CONVERGED_MAX {
                bail!("no write was acknowledged: {}", self.trouble());
            }
            poll();
        }
        Ok(())
    }

    /// Stops, and finds everything again that was acknowledged.
    fn end(self, cluster: &Cluster) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the writer panicked"))??;
        let files = Files::of(cluster, &self.folder, CREDENTIALS, "last")?;
        let args = ["get", "w-", "--prefix", "--keys-only"];
        let found = self.client.succeed(&self.bench, &self.to, &files, &args)?;
        let found = found.lines().filter(|line| line.starts_with("w-")).count() as u64;
        let seen = lock(&self.seen);
        println!(
            "  of {} acknowledged writes {found} were found again",
            seen.acknowledged
        );
        ensure!(found == seen.acknowledged, "acknowledged writes were lost");
        Ok(())
    }
}

/// The credentials as kubectl shows them now.
fn credentials(bench: &Bench, folder: &Path) -> Result<Files> {
    let object = bench.json(&["get", "secret", "--namespace", NAMESPACE, CREDENTIALS])?;
    Files::from(&object, folder, "writer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_decoded_whatever_their_length() {
        for (text, wanted) in [("", ""), ("eA==", "x"), ("eHk=", "xy"), ("eHl6", "xyz")] {
            assert_eq!(decoded(text).unwrap(), wanted.as_bytes());
        }
        assert!(decoded("e*==").is_err());
    }
}
