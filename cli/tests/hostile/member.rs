//! One member as a real process, with a key that must outlive whatever is done to it.

use crate::process::harness::{free_ports, http, json, spawn_node, wait_for};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

/// A single voter; its process ends with the value.
pub struct Member {
    dir: tempfile::TempDir,
    base: u16,
    process: Option<Child>,
}

impl Member {
    /// Starts a member in a new directory and writes the key.
    pub fn with_a_key() -> Self {
        let mut member = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            base: free_ports(),
            process: None,
        };
        member.spawn();
        member.wait_ready();
        let (status, body) = http(member.base, "PUT", "/key/before", r#"{"value":"kept"}"#)
            .expect("the member serves");
        assert_eq!(status, 200, "{body}");
        member
    }

    /// Where clients are served.
    pub fn client_port(&self) -> u16 {
        self.base
    }

    /// Where peers are served.
    pub fn peer_port(&self) -> u16 {
        self.base + 1
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path beside the data directory.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What it has logged since the log was last emptied.
    pub fn log(&self) -> String {
        fs::read_to_string(self.aside("log")).unwrap_or_default()
    }

    /// A field of `/status`.
    pub fn status(&self, name: &str) -> String {
        let (_, status) = json(self.base, "GET", "/status", "").expect("the member serves");
        status[name].as_str().expect("a text").to_owned()
    }

    /// Starts the process on whatever the directory holds; the log begins anew.
    pub fn spawn(&mut self) {
        // There is none before the first start.
        let _ = fs::remove_file(self.aside("log"));
        let client = format!("http://127.0.0.1:{}", self.base);
        let peer = format!("http://127.0.0.1:{}", self.base + 1);
        let args = [
            "--name=m0".to_owned(),
            format!("--data-dir={}", self.data().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=m0={peer}"),
            "--heartbeat-interval=20".to_owned(),
            "--election-timeout=200".to_owned(),
        ];
        self.process = Some(spawn_node(&args, &self.aside("log")));
    }

    /// Waits until it serves, or has ended; its exit code then.
    pub fn wait_settled(&mut self) -> Option<i32> {
        let (base, log) = (self.base, self.aside("log"));
        let process = self.process.as_mut().expect("it was started");
        let mut code = None;
        let log = || fs::read_to_string(&log).unwrap_or_default();
        wait_for(
            &format!("the member to serve or to end:\n{}", log()),
            || {
                let ended = process.try_wait().expect("it is our child");
                code = ended.map(|status| status.code().unwrap_or(-1));
                code.is_some()
                    || http(base, "GET", "/readyz", "").is_ok_and(|(ready, _)| ready == 200)
            },
        );
        if code.is_some() {
            self.process = None;
        }
        code
    }

    fn wait_ready(&mut self) {
        let code = self.wait_settled();
        assert_eq!(code, None, "it has ended:\n{}", self.log());
    }

    /// Kills it as a power button would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the process is ours");
            process.wait().expect("it was killed");
        }
    }

    /// Stops it in good order.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let pid = process.id().to_string();
        let sent = Command::new("kill").arg(pid).status().expect("kill runs");
        assert!(sent.success());
        let ended = process.wait().expect("it is our child");
        assert!(ended.success(), "{ended}:\n{}", self.log());
    }

    /// The key is there, and nothing has panicked.
    pub fn check(&self, case: &str) {
        let (status, body) = http(self.base, "GET", "/key/before", "")
            .unwrap_or_else(|error| panic!("{case}: {error}; its log:\n{}", self.log()));
        assert!(
            status == 200 && body.contains("kept"),
            "{case}: {status} {body}"
        );
        self.check_log(case);
    }

    /// Nothing has panicked.
    pub fn check_log(&self, case: &str) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{case}:\n{log}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
