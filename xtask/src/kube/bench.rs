//! A running bench, seen from outside: commands inside its network, kubectl, images.

use super::inside;
use super::run::{FirstProcess, Run};
use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

/// A run whose processes live.
pub struct Bench {
    run: Run,
    first: FirstProcess,
    path: String,
}

impl Bench {
    /// Finds the processes of a run.
    ///
    /// # Errors
    /// When there are none.
    pub fn attach(run: &Run) -> Result<Self> {
        let first = run.first_process().filter(FirstProcess::is_alive);
        let first = first.with_context(|| format!("{} is not running", run.name()))?;
        let bin = run.options()?.bin;
        let path = std::env::var("PATH").unwrap_or_default();
        Ok(Self {
            run: run.clone(),
            first,
            path: format!("{}:{path}", bin.display()),
        })
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What a person types to use it from another shell.
    pub fn how_to_enter(&self) -> String {
        format!(
            "  export KUBECONFIG={}\n  nsenter --net=/proc/{}/ns/net kubectl get nodes\n  \
             cargo xtask kube exec --name {} kubectl get nodes",
            self.run.kubeconfig().display(),
            self.first.pid,
            self.run.name()
        )
    }

    /// A command inside the run's network, with the run's tools first on the path and its
    /// credentials; files and processes are the host's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.first.pid))
            .args(["--", program])
            .env("KUBECONFIG", self.run.kubeconfig())
            .env("PATH", &self.path);
        // What the tools remember belongs to the run and goes with it.
        for variable in [
            "KUBECACHEDIR",
            "HELM_CACHE_HOME",
            "HELM_CONFIG_HOME",
            "HELM_DATA_HOME",
        ] {
            command.env(variable, self.run.join("tmp").join(variable));
        }
        command
    }

    /// Starts a thread whose sockets are in the run's network.
    ///
    /// # Errors
    /// When the run's network is gone.
    pub fn in_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let network = File::open(format!("/proc/{}/ns/net", self.first.pid));
        let network = network.context("the run's network is gone")?;
        Ok(std::thread::spawn(move || {
            // Changes this thread alone; it never goes back, and ends with the work.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the run's network")?;
            work()
        }))
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error carries what it wrote on standard error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.try_kubectl(args, "")?;
        if !output.status.success() {
            bail!(
                "`kubectl {}`: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl with `--output=json` and returns the object.
    ///
    /// # Errors
    /// As [`Self::kubectl`].
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[args, &["--output=json"]].concat())?;
        serde_json::from_str(&text).context("kubectl printed something that is not JSON")
    }

    /// Runs kubectl with a text on standard input, whatever comes of it.
    ///
    /// # Errors
    /// Only when it cannot be started.
    pub fn try_kubectl(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command("kubectl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        // Objects are small: they fit into the pipe, and kubectl reads all before it writes.
        child
            .stdin
            .take()
            .context("a pipe to kubectl")?
            .write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Creates or changes the objects of a manifest.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let output = self.try_kubectl(&["apply", "--filename=-"], manifest)?;
        if !output.status.success() {
            bail!(
                "refused: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Loads an image archive into the node.
    ///
    /// # Errors
    /// When containerd cannot read it.
    pub fn load(&self, archive: &Path) -> Result<()> {
        inside::import(&self.run.containerd().to_string_lossy(), archive)
    }
}
