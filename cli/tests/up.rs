//! `quorate up` with real members: converge, be killed, resume, refuse.
//!
//! Every member is found by its data directory and killed when the test ends, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::process::harness::{free_ports, http, wait_for};

/// A cluster of `quorate up` in a directory of its own.
pub(crate) struct Up {
    dir: tempfile::TempDir,
    base: u16,
    running: Option<Child>,
}

impl Up {
    pub(crate) fn new(replicas: u32) -> Up {
        let up = Up {
            dir: tempfile::tempdir().expect("a directory"),
            base: free_ports(),
            running: None,
        };
        up.write(replicas);
        up
    }

    fn manifest(&self) -> PathBuf {
        self.dir.path().join("cluster.yaml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes the manifest, as an editor does: another file under the same name.
    pub(crate) fn write(&self, replicas: u32) {
        let text = format!(
            "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\nmetadata:\n  name: demo\n\
             spec:\n  replicas: {replicas}\n"
        );
        self.write_text(&text);
    }

    /// Writes any text in its place.
    pub(crate) fn write_text(&self, text: &str) {
        let fresh = self.dir.path().join("cluster.yaml.new");
        fs::write(&fresh, text).expect("the manifest can be written");
        fs::rename(fresh, self.manifest()).expect("the manifest can be replaced");
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = crate::guard::quorate();
        command
            .arg("up")
            .arg(self.manifest())
            .arg("--data-dir")
            .arg(self.data())
            .arg(format!("--base-port={}", self.base))
            .args(more)
            .stdin(Stdio::null());
        command
    }

    fn once(&self) -> Output {
        self.command(&["--once", "--timeout=60s"])
            .output()
            .expect("up runs")
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("up.log")).expect("a log");
        let errors = log.try_clone().expect("a handle");
        let child = self
            .command(&[])
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("up starts");
        self.running = Some(child);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().expect("up is ours");
            child.wait().expect("up was killed");
        }
    }

    /// Tells `up` to stop and waits for it; its exit code.
    pub(crate) fn interrupt(&mut self) -> Option<i32> {
        let mut child = self.running.take().expect("up runs");
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        child.wait().expect("up can be waited for").code()
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.data().join("state.json")).ok()?).ok()
    }

    pub(crate) fn status(&self, pointer: &str) -> Option<Value> {
        self.state()?["status"].pointer(pointer).cloned()
    }

    pub(crate) fn wait_voters(&self, voters: u32) {
        wait_for(
            &format!("{voters} voters, all ready; the log of up:\n{}", self.log()),
            || {
                let ready = self
                    .status("/ready")
                    .and_then(|ready| ready.as_str().map(str::to_owned));
                let idle = self.status("/operation").is_none();
                idle && ready.as_deref() == Some(&format!("{voters}/{voters}"))
            },
        );
    }

    pub(crate) fn port(&self, slot: u16) -> u16 {
        self.base + 10 * slot
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("up:\n{}", self.log());
        }
        for pid in members_of(&self.data()) {
            let _ = Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status();
        }
    }
}

/// The processes that run on data directories below this one.
pub(crate) fn members_of(data: &Path) -> Vec<u32> {
    let Ok(data) = data.canonicalize() else {
        return Vec::new();
    };
    let data = data.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("the process table");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            words.get(1) == Some(&b"node".as_slice())
                && words
                    .iter()
                    .any(|word| String::from_utf8_lossy(word).starts_with(&data))
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn once_converges_prints_the_table_and_leaves_nothing_running() {
    let up = Up::new(3);
    let output = up.once();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let table = text(&output.stdout);
    assert!(table.contains("ready 3/3"), "{table}");
    assert!(table.matches("Voter").count() >= 3, "{table}");
    assert_eq!(members_of(&up.data()), Vec::<u32>::new());
}

#[test]
fn killed_with_its_members_running_up_takes_them_over() {
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let uuid = up.status("/clusterUUID");
    let before = members_of(&up.data());
    assert_eq!(before.len(), 3);
    let written = http(up.port(0), "PUT", "/key/kept", r#"{"value":"yes"}"#);
    assert_eq!(written.expect("the member answers").0, 200);
    up.kill();
    assert_eq!(
        members_of(&up.data()),
        before,
        "members run on without their operator"
    );
    up.write(1);
    up.start();
    up.wait_voters(1);
    assert_eq!(up.status("/clusterUUID"), uuid);
    let left = members_of(&up.data());
    assert!(
        before.contains(&left[0]) && left.len() == 1,
        "{left:?} of {before:?}"
    );
    assert_eq!(up.interrupt(), Some(0));
    assert_eq!(members_of(&up.data()), Vec::<u32>::new());
    up.start();
    // The stored status still says "ready" from before: ask the member itself.
    wait_for("the member to serve again", || {
        http(up.port(0), "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
    });
    let (status, body) = http(up.port(0), "GET", "/key/kept", "").expect("the member answers");
    assert!(status == 200 && body.contains("yes"), "{status} {body}");
}

#[test]
fn a_broken_manifest_is_refused_while_the_cluster_goes_on() {
    let mut up = Up::new(1);
    up.start();
    up.wait_voters(1);
    fs::write(up.manifest(), "kind: KvCluster\nspec: [").expect("the manifest can be broken");
    wait_for("the mistake to be shown", || {
        up.log().contains("cluster.yaml:2")
    });
    assert_eq!(
        http(up.port(0), "GET", "/readyz", "")
            .expect("the member answers")
            .0,
        200
    );
    up.kill();
    // Also without its predecessor's memory, the last good manifest stays in force.
    up.start();
    wait_for("the mistake to be shown again", || {
        up.log().contains("cluster.yaml:2")
    });
    assert_eq!(members_of(&up.data()).len(), 1);
}

#[test]
fn a_member_that_cannot_start_says_why_and_starts_when_it_can() {
    let mut up = Up::new(1);
    let peers = up.port(0) + 1;
    let foreign = std::net::TcpListener::bind(("127.0.0.1", peers)).expect("a free port");
    up.start();
    let why = format!("cannot listen on 127.0.0.1:{peers}");
    wait_for("the reason to be shown", || {
        let log = up.log();
        log.lines()
            .any(|line| line.contains("Slot 0") && line.contains(&why))
    });
    drop(foreign);
    up.wait_voters(1);
}

#[test]
fn settings_change_under_members_that_go_on() {
    let mut up = Up::new(3);
    up.start();
    up.wait_voters(3);
    let before = members_of(&up.data());
    let manifest = fs::read_to_string(up.manifest()).expect("the manifest");
    let new =
        "  quotaBackendBytes: 77777777\n  autoCompaction: {mode: Revision, retention: \"5\"}\n";
    up.write_text(&format!("{manifest}{new}"));
    for slot in 0..3 {
        wait_for("the quota to be in force", || {
            let page = http(up.port(slot), "GET", "/metrics", "");
            page.is_ok_and(|(_, text)| text.contains("quota_backend_bytes 77777777"))
        });
    }
    let file = fs::read_to_string(up.data().join("settings")).expect("the file");
    assert!(file.contains("auto-compaction-mode=revision\n"), "{file}");
    wait_for("everybody to have confirmed it", || {
        let conditions = up.status("/conditions");
        let conditions = conditions
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut progress = conditions.filter(|condition| condition["type"] == "Progressing");
        progress.any(|progress| progress["reason"] == "Idle")
    });
    assert_eq!(members_of(&up.data()), before, "a member ended for it");
    // Without it no member could begin anew.
    fs::remove_file(up.data().join("settings")).expect("the file is there");
    wait_for("the file to be there again", || {
        up.data().join("settings").exists()
    });
}

#[test]
fn a_second_up_on_the_same_directory_is_told_who_has_it() {
    let mut up = Up::new(1);
    up.start();
    wait_for("the directory to be taken", || up.state().is_some());
    let output = up.once();
    assert_eq!(output.status.code(), Some(1));
    let holder = up.running.as_ref().expect("up runs").id();
    let message = text(&output.stderr);
    assert!(
        message.contains(&format!("in use by process {holder}")),
        "{message}"
    );
}

#[test]
fn a_directory_of_another_cluster_or_port_is_refused() {
    let up = Up::new(1);
    fs::create_dir(up.data()).expect("a directory");
    let output = up.once();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let moved = up
        .command(&["--once"])
        .arg("--base-port=1")
        .output()
        .expect("up runs");
    assert_eq!(
        moved.status.code(),
        Some(2),
        "a flag given twice is a mistake"
    );
    let other = fs::read_to_string(up.manifest())
        .expect("the manifest")
        .replace("demo", "other");
    fs::write(up.manifest(), other).expect("the manifest can be written");
    let output = up.once();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        text(&output.stderr).contains("belongs to cluster \"demo\""),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_manifest_that_cannot_be_used_at_first_is_a_mistake_in_usage() {
    let up = Up::new(1);
    fs::write(up.manifest(), "kind: KvCluster\n").expect("the manifest can be written");
    let output = up.once();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("cluster.yaml"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(members_of(&up.data()), Vec::<u32>::new());
}
