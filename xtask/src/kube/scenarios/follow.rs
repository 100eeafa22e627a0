//! Objects of Kubernetes as they change: one `kubectl get --watch` for as long as the value lives.
//!
//! For waiting without asking again and again, and for seeing states that last milliseconds. The
//! stream may lag behind; whoever waits here waits for a state, never for the absence of one.

use super::Bench;
use crate::kube::wait_until;
use anyhow::{Context, Result, bail};
use serde_json::{Deserializer, Value};
use std::collections::BTreeMap;
use std::io::BufReader;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Objects by name.
pub type Objects = BTreeMap<String, Value>;

/// Is told after every change: the name of the object that changed, and all objects.
pub type Each = Box<dyn FnMut(&str, &Objects) + Send>;

/// A running watch.
pub struct Follow {
    kubectl: Child,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
    what: String,
}

#[derive(Default)]
struct Seen {
    objects: Objects,
    ended: bool,
}

impl Follow {
    /// Watches what `kubectl get` with these arguments lists.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn start(bench: &Bench, args: &[&str], mut each: Each) -> Result<Self> {
        let mut kubectl = bench
            .command("kubectl")
            .arg("get")
            .args(args)
            .args(["--watch", "--output-watch-events", "--output=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start kubectl")?;
        let output = kubectl.stdout.take().context("a pipe from kubectl")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let reader = std::thread::spawn(move || {
            let events = Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
            for event in events.map_while(Result::ok) {
                let object = &event["object"];
                let name = text(&object["metadata"]["name"]);
                let mut seen = lock(&shared);
                if event["type"] == "DELETED" {
                    seen.objects.remove(&name);
                } else {
                    seen.objects.insert(name.clone(), object.clone());
                }
                each(&name, &seen.objects);
            }
            lock(&shared).ended = true;
        });
        Ok(Self {
            kubectl,
            reader: Some(reader),
            seen,
            what: args.join(" "),
        })
    }

    /// The objects as they were last seen.
    pub fn objects(&self) -> Objects {
        lock(&self.seen).objects.clone()
    }

    /// Waits until the objects are as they should.
    ///
    /// # Errors
    /// When they are not in time, or the watch ended.
    pub fn wait(
        &self,
        what: &str,
        longest: Duration,
        holds: impl Fn(&Objects) -> bool,
    ) -> Result<()> {
        let mut ended = false;
        wait_until(what, longest, || {
            let seen = lock(&self.seen);
            ended = seen.ended;
            ended || holds(&seen.objects)
        })?;
        if ended && !holds(&self.objects()) {
            bail!(
                "the watch of {} ended while waiting until {what}",
                self.what
            );
        }
        Ok(())
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A text of an object; empty when it has none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What is behind a mutex, also after a panic elsewhere: that fails the test by itself.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
