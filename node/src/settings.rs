//! What a node can be told while it runs: the values in force, from the command line and from a
//! file over it that is read again when it changes.
//!
//! Whoever asks gets what is in force, without a lock. A file that cannot be read or makes no sense
//! replaces nothing: what was in force stays, the log and the admin service say why.
//! Must not know: who writes the file, what a quota or a level is good for.

use crate::config::{AutoCompaction, HotSettings};
use crate::file_stamp::FileStamp;
use crate::flags::hot_over;
use crate::logging;
use crate::metrics::ServerMetrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::IntCounter;
use quorate_api::settings::{BYTES_MAX, digest, read};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at: a `stat`.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("settings file {}: {why}", .path.display())]
pub struct SettingsError {
    /// The file.
    path: PathBuf,
    /// What is wrong, and what to do.
    why: String,
    /// What is in the file is not known: it may be well.
    unread: bool,
}

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The values.
    pub hot: HotSettings,
    /// The digest of the file they come from; empty without one.
    pub digest: String,
    /// Why the file as it is now is not in force; empty when it is.
    pub problem: String,
}

/// The file as it was when last read.
#[derive(Default)]
struct LastRead {
    stamp: Option<FileStamp>,
    /// Reading itself failed: to be tried again although nothing has changed.
    again: bool,
}

/// The values in force and the file that may change them.
pub struct Settings {
    file: Option<PathBuf>,
    base: HotSettings,
    in_force: ArcSwap<InForce>,
    last_read: Mutex<LastRead>,
    auto_compaction: watch::Sender<AutoCompaction>,
    reloaded: IntCounter,
    reload_failed: IntCounter,
}

impl Settings {
    /// Reads the file, if there is to be one.
    ///
    /// # Errors
    /// [`SettingsError`]: a node does not start with settings that nobody asked for.
    pub fn open(
        base: HotSettings,
        file: Option<PathBuf>,
        metrics: &ServerMetrics,
    ) -> Result<Self, SettingsError> {
        let reloads = |result| metrics.settings_reloads.with_label_values(&[result]);
        let settings = Self {
            file,
            base,
            in_force: ArcSwap::default(),
            last_read: Mutex::default(),
            auto_compaction: watch::Sender::default(),
            reloaded: reloads("ok"),
            reload_failed: reloads("failed"),
        };
        let begun = match &settings.file {
            None => InForce {
                hot: settings.base.clone(),
                ..InForce::default()
            },
            Some(path) => {
                settings.last_read.lock().stamp = FileStamp::of(path);
                settings.load(path, bounded)?
            }
        };
        settings.effect(&begun.hot);
        settings.in_force.store(Arc::new(begun));
        Ok(settings)
    }

    /// What is in force now.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Largest size of the stored history, bytes; `None` for no limit.
    #[must_use]
    pub fn quota_backend_bytes(&self) -> Option<u64> {
        self.in_force.load().hot.quota_backend_bytes
    }

    /// Which revisions are forgotten without anybody asking, now and from now on.
    #[must_use]
    pub fn auto_compaction(&self) -> watch::Receiver<AutoCompaction> {
        self.auto_compaction.subscribe()
    }

    /// Reads the file again if it has changed, or could not be read.
    pub fn refresh(&self) {
        self.refresh_by(bounded);
    }

    fn refresh_by(&self, read: fn(&Path) -> io::Result<Vec<u8>>) {
        let Some(path) = &self.file else { return };
        // Somebody else is reading; what is in force is good enough.
        let Some(mut last_read) = self.last_read.try_lock() else {
            return;
        };
        // Taken before reading: what changes meanwhile is seen next time.
        let found = FileStamp::of(path);
        let changed = last_read.stamp != found;
        if !changed && !last_read.again {
            return;
        }
        last_read.stamp = found;
        last_read.again = false;
        match self.load(path, read) {
            Ok(new) => self.take(new),
            Err(error) => {
                // No file descriptor was left, for one: nothing about the file will change.
                last_read.again = error.unread;
                self.keep(&error, changed);
            }
        }
    }

    /// Looks at the file again and again.
    pub async fn watch(&self, stop: &CancellationToken) {
        if self.file.is_none() {
            return;
        }
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL))
            .await
            .is_some()
        {
            self.refresh();
        }
    }

    fn load(
        &self,
        path: &Path,
        content: fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<InForce, SettingsError> {
        let error = |why: String| SettingsError {
            path: path.to_path_buf(),
            why,
            unread: false,
        };
        let bytes = content(path).map_err(|why| SettingsError {
            unread: true,
            ..error(format!("cannot be read: {why}"))
        })?;
        let values = read(&bytes).map_err(|why| error(why.to_string()))?;
        let hot = hot_over(&self.base, values).map_err(|why| error(why.to_string()))?;
        Ok(InForce {
            hot,
            digest: digest(&bytes),
            problem: String::new(),
        })
    }

    /// Tells those who do not ask.
    fn effect(&self, hot: &HotSettings) {
        logging::set_level(hot.log_level);
        self.auto_compaction.send_if_modified(|now| {
            let is_new = *now != hot.auto_compaction;
            *now = hot.auto_compaction;
            is_new
        });
    }

    fn take(&self, new: InForce) {
        self.effect(&new.hot);
        self.reloaded.inc();
        tracing::info!(
            log_level = new.hot.log_level,
            quota_backend_bytes = ?new.hot.quota_backend_bytes,
            auto_compaction = %new.hot.auto_compaction,
            digest = %new.digest,
            "settings in force"
        );
        self.in_force.store(Arc::new(new));
    }

    /// Stays with what is in force, and says why; in the log once for every change of the file.
    fn keep(&self, error: &SettingsError, changed: bool) {
        if changed {
            self.reload_failed.inc();
            tracing::error!(
                reason = %error,
                "the settings file has changed and cannot be used; the settings before it stay in \
                 force"
            );
        }
        let problem = error.to_string();
        self.in_force.rcu(|old| InForce {
            problem: problem.clone(),
            ..InForce::clone(old)
        });
    }
}

/// The file's content, or a little more than is allowed of it.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = BYTES_MAX as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    struct Bench {
        dir: tempfile::TempDir,
        metrics: Metrics,
    }

    impl Bench {
        fn with(text: &str) -> Self {
            let bench = Self {
                dir: tempfile::tempdir().unwrap(),
                metrics: Metrics::default(),
            };
            bench.put(text);
            bench
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("settings")
        }

        /// As a mounted ConfigMap changes: another file takes the name.
        fn put(&self, text: &str) {
            let new = self.dir.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, self.path()).unwrap();
        }

        fn open(&self) -> Result<Settings, SettingsError> {
            let base = HotSettings {
                quota_backend_bytes: Some(7),
                ..HotSettings::default()
            };
            Settings::open(base, Some(self.path()), &self.metrics.server)
        }

        fn reloads(&self, result: &str) -> u64 {
            let reloads = &self.metrics.server.settings_reloads;
            reloads.with_label_values(&[result]).get()
        }
    }

    #[test]
    fn the_file_wins_over_the_flags_and_what_it_no_longer_says_falls_back_to_them() {
        let bench = Bench::with("quota-backend-bytes=100\n");
        let settings = bench.open().unwrap();
        assert_eq!(settings.quota_backend_bytes(), Some(100));
        bench.put("log-level=debug\n");
        assert_eq!(settings.quota_backend_bytes(), Some(100));
        settings.refresh();
        assert_eq!(settings.quota_backend_bytes(), Some(7));
        let in_force = settings.in_force();
        assert_eq!(in_force.hot.log_level, "debug");
        assert_eq!(in_force.digest, digest(b"log-level=debug\n"));
        settings.refresh();
        assert_eq!(bench.reloads("ok"), 1, "an unchanged file is not read");
        bench.put("quota-backend-bytes=-1\n");
        settings.refresh();
        assert_eq!(settings.quota_backend_bytes(), None);
    }

    #[test]
    fn a_file_that_makes_no_sense_replaces_nothing_and_says_so() {
        let bench = Bench::with("quota-backend-bytes=100\n");
        let settings = bench.open().unwrap();
        let before = settings.in_force();
        let table = [
            ("quota-backend-bytes=much", "is not a whole number"),
            ("log-level=loud", "is none of debug, info, warn, error"),
            ("data-dir=/", "line 1: \"data-dir\" cannot change"),
        ];
        for (number, (text, part)) in (1..).zip(table) {
            bench.put(text);
            settings.refresh();
            let now = settings.in_force();
            assert!(now.problem.contains(part), "{}", now.problem);
            assert_eq!((&now.hot, &now.digest), (&before.hot, &before.digest));
            assert_eq!(bench.reloads("failed"), number);
        }
        std::fs::remove_file(bench.path()).unwrap();
        settings.refresh();
        assert!(settings.in_force().problem.contains("cannot be read"));
        assert_eq!(settings.quota_backend_bytes(), Some(100));
        bench.put("quota-backend-bytes=100\n");
        settings.refresh();
        assert_eq!(settings.in_force(), before);
    }

    #[test]
    fn a_file_that_could_not_be_read_is_read_again_although_it_has_not_changed() {
        let bench = Bench::with("quota-backend-bytes=100\n");
        let settings = bench.open().unwrap();
        bench.put("quota-backend-bytes=200\n");
        for _ in 0..2 {
            settings.refresh_by(|_| Err(io::Error::other("too many open files")));
            let problem = settings.in_force().problem.clone();
            assert!(problem.contains("too many open files"), "{problem}");
            assert_eq!(settings.quota_backend_bytes(), Some(100));
            assert_eq!(bench.reloads("failed"), 1, "once for every change");
        }
        settings.refresh();
        let in_force = settings.in_force();
        assert_eq!(in_force.hot.quota_backend_bytes, Some(200));
        assert_eq!(in_force.problem, "");
        settings.refresh();
        assert_eq!(bench.reloads("ok"), 1, "what was read is not read again");
    }

    #[test]
    fn a_node_does_not_start_with_settings_that_nobody_asked_for() {
        let bench = Bench::with("log-level=loud\n");
        let Err(error) = bench.open() else {
            panic!("it starts");
        };
        let said = error.to_string();
        assert!(said.contains(&bench.path().display().to_string()), "{said}");
        assert!(said.contains("--log-level \"loud\""), "{said}");
        std::fs::remove_file(bench.path()).unwrap();
        assert!(bench.open().is_err());
    }
}
