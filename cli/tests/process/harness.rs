//! Members as child processes, and the little HTTP that the tests speak to them.

use std::fs;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up, with what it waited for in the message.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often the loops run: 2, or what `QUORATE_TEST_ROUNDS` says.
pub fn rounds() -> usize {
    std::env::var("QUORATE_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2)
}

/// Waits for a condition; panics with `what` when it does not come true.
#[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(20)); // poll interval
    }
}

/// The first port of a block of 100 that nobody listens on.
pub fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..100 {
        let block = NEXT.fetch_add(1, Ordering::Relaxed);
        let spread = u16::try_from(std::process::id() % 97).expect("less than 97");
        let base = 20_000 + (spread * 3 + block) % 100 * 100;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (0..50).all(|offset| free(base + offset)) {
            return base;
        }
    }
    panic!("no block of free ports between 20000 and 30000");
}

/// A static cluster of three; its processes end with the value.
pub struct Cluster {
    /// Where the data is; removed at the end.
    pub dir: tempfile::TempDir,
    base: u16,
    nodes: [Option<Child>; 3],
}

impl Cluster {
    /// Starts three members and waits until each serves.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Self {
            dir,
            base: free_ports(),
            nodes: [None, None, None],
        };
        for slot in 0..3 {
            cluster.spawn(slot);
        }
        cluster.wait_ready(&[0, 1, 2]);
        cluster
    }

    /// The client port of a member.
    pub fn port(&self, slot: usize) -> u16 {
        self.base + 10 * u16::try_from(slot).expect("a small slot")
    }

    /// The data directory of a member.
    pub fn data(&self, slot: usize) -> PathBuf {
        self.dir.path().join(format!("m{slot}"))
    }

    /// What a member has logged so far.
    pub fn log(&self, slot: usize) -> String {
        std::fs::read_to_string(self.log_path(slot)).unwrap_or_default()
    }

    fn log_path(&self, slot: usize) -> PathBuf {
        self.dir.path().join(format!("m{slot}.log"))
    }

    /// Starts a member's process; its directory may be new or old.
    pub fn spawn(&mut self, slot: usize) {
        let initial: Vec<String> = (0..3)
            .map(|n| format!("m{n}=http://127.0.0.1:{}", self.port(n) + 1))
            .collect();
        let client = format!("http://127.0.0.1:{}", self.port(slot));
        let peer = format!("http://127.0.0.1:{}", self.port(slot) + 1);
        let args = [
            format!("--name=m{slot}"),
            format!("--data-dir={}", self.data(slot).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", initial.join(",")),
        ];
        self.nodes[slot] = Some(spawn_node(&args, &self.log_path(slot)));
    }

    /// Kills a member as a power button would.
    pub fn kill(&mut self, slot: usize) {
        if let Some(mut node) = self.nodes[slot].take() {
            node.kill().expect("the process is ours");
            node.wait().expect("it was killed");
        }
    }

    /// Tells a member to stop in good order, and does not wait for it.
    pub fn terminate(&self, slot: usize) {
        let node = self.nodes[slot].as_ref().expect("the member was started");
        let sent = Command::new("kill")
            .args(["-TERM", &node.id().to_string()])
            .status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until a member's process has ended by itself; its exit code.
    pub fn wait_exit(&mut self, slot: usize) -> Option<i32> {
        let mut node = self.nodes[slot].take().expect("the member was started");
        let mut code = None;
        wait_for(&format!("m{slot} to stop by itself"), || {
            node.try_wait()
                .expect("it is our child")
                .is_some_and(|status| {
                    code = status.code();
                    true
                })
        });
        code
    }

    /// Waits until every listed member answers linearizable reads.
    pub fn wait_ready(&self, slots: &[usize]) {
        for slot in slots {
            let port = self.port(*slot);
            wait_for(
                &format!("m{slot} to be ready; its log:\n{}", self.log(*slot)),
                || http(port, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200),
            );
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for slot in 0..3 {
            if std::thread::panicking() {
                let log = self.log(slot);
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "m{slot}:\n{}",
                    lines[lines.len().saturating_sub(15)..].join("\n")
                );
            }
            self.kill(slot);
        }
    }
}

/// Copies a directory with all that is in it, and its mode.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    let mode = fs::metadata(from).expect("it exists").permissions();
    fs::set_permissions(to, mode).expect("our folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

/// Waits until the member on this port answers linearizable reads.
pub fn wait_serving(port: u16) {
    wait_for("a member to be ready", || {
        http(port, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
    });
}

/// Starts `quorate node` with these flags; what it logs is appended to a file.
pub fn spawn_node(args: &[String], log: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("node")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary was built with the tests")
}

/// One HTTP request on loopback: status and body.
pub fn http(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((
        status.ok_or_else(|| Error::from(ErrorKind::InvalidData))?,
        body.to_owned(),
    ))
}

/// Like [`http`], with the body as JSON.
pub fn json(port: u16, method: &str, path: &str, body: &str) -> Result<(u16, serde_json::Value)> {
    let (status, body) = http(port, method, path, body)?;
    Ok((status, serde_json::from_str(&body).map_err(Error::other)?))
}
