//! What runs in a slot: one child process at a time, known by a file that outlives the operator.
//!
//! The operator may be killed at any moment; its children run on and the next operator takes them
//! over, by `life.json` or, when it was killed before it could write that, by their command line.
//! Assumes that only one operator works on the directory (`lock`). Must not know: members, plans.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::ids::{SlotUid, UnixMs, VolumeUid};
use crate::observed::Death;

use super::process::Process;
use super::{Error, files};

/// A process that ran this long has stayed up: its end is not one of a row.
const STAYED_UP_MS: i64 = 10_000;

/// What a process that was told to stop gets before it is killed: it hands leadership over (up to
/// 7 s) and closes its files.
const STOP_GRACE_MS: i64 = 15_000;

/// A log that has grown beyond this is put aside when a process starts.
const LOG_BYTES_MAX: u64 = 32 << 20;

/// The exit code of a node that refuses its data directory.
const EXIT_DATA_REFUSED: i32 = 4;

/// What to start in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The volume it runs on.
    pub volume: VolumeUid,
    /// The epoch it is told to take part in.
    pub epoch: u64,
}

/// One life of a slot, as `life.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Life {
    /// Which life.
    pub uid: SlotUid,
    /// Its process.
    pub process: Process,
    /// When it began.
    pub started_at: UnixMs,
    /// The volume it holds.
    pub volume: VolumeUid,
    /// The epoch it was told to take part in; 0 for none.
    #[serde(default)]
    pub epoch: u64,
    /// How often in a row the lives before it ended without having stayed up.
    pub failures_before: u32,
    /// When it was told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_since: Option<UnixMs>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<End>,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct End {
    since: UnixMs,
    failures: u32,
    exit: String,
    data_refused: bool,
}

impl Life {
    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        self.ended.is_none()
    }

    /// How it ended, in the planner's words.
    pub fn death(&self) -> Option<Death> {
        self.ended.clone().map(
            |End {
                 since,
                 failures,
                 exit,
                 data_refused,
             }| Death {
                since,
                failures,
                exit,
                data_refused,
            },
        )
    }
}

/// Watches over the life in one slot.
#[derive(Debug)]
pub(super) struct Keeper {
    dir: PathBuf,
    life: Option<Life>,
    /// The process as our child, when this operator started it: only then its exit is known.
    child: Option<Child>,
}

impl Keeper {
    /// Takes over what the last operator left in the slot of this directory.
    ///
    /// # Errors
    /// The record cannot be read: whether something runs there is not known, so nothing may start.
    pub fn resume(
        dir: PathBuf,
        data_dir: &Path,
        volume: Option<VolumeUid>,
        now: UnixMs,
    ) -> Result<Keeper, Error> {
        let mut keeper = Keeper {
            life: files::read_json(&dir.join("life.json"))?,
            dir,
            child: None,
        };
        if keeper.life.as_ref().is_some_and(|life| life.process.runs()) {
            return Ok(keeper);
        }
        // Killed between starting a process and writing it down: the process is there all the same.
        if let (Some(process), Some(volume)) = (of_data_dir(data_dir), volume) {
            let failures_before = keeper.life.as_ref().map_or(0, |life| life.failures_before);
            // What it was told is not known.
            let volume = (volume, 0);
            keeper.save(Life::begun(process, volume, failures_before, now))?;
        }
        Ok(keeper)
    }

    /// The life in the slot, running or ended.
    pub fn life(&self) -> Option<&Life> {
        self.life.as_ref()
    }

    /// Where the process writes its messages.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Starts a process. Only to be called when none runs.
    ///
    /// # Errors
    /// It cannot be started, or its start cannot be written down; then it does not run.
    pub fn start(&mut self, program: &Program, now: UnixMs) -> Result<(), Error> {
        assert!(
            !self.life.as_ref().is_some_and(Life::runs),
            "a process runs in the slot already"
        );
        let failures = self.life.as_ref().and_then(|life| life.ended.as_ref());
        let failures_before = failures.map_or(0, |end| end.failures);
        let mut child = self.spawn(program)?;
        let process = Process::of_child(&child)
            .map_err(|error| Error::io("cannot look at", &program.executable, error));
        let begun = process.and_then(|process| {
            self.save(Life::begun(
                process,
                (program.volume.clone(), program.epoch),
                failures_before,
                now,
            ))
        });
        if let Err(error) = begun {
            // Unrecorded it could be started twice by the next operator.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        self.child = Some(child);
        Ok(())
    }

    /// Notices that the process has ended, and kills one that does not stop in time. True when
    /// something changed.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn watch(&mut self, now: UnixMs) -> Result<bool, Error> {
        let Some(life) = self.life.as_ref().filter(|life| life.runs()) else {
            return Ok(false);
        };
        let exit = match &mut self.child {
            Some(child) => child.try_wait().ok().flatten().map(Some),
            None => (!life.process.runs()).then_some(None),
        };
        if let Some(status) = exit {
            self.child = None;
            let mut life = life.clone();
            life.ended = Some(self.end(&life, status, now));
            self.save(life)?;
            return Ok(true);
        }
        if life
            .stopping_since
            .is_some_and(|since| now >= since.plus(STOP_GRACE_MS))
        {
            self.signal(Signal::KILL)?;
        }
        Ok(false)
    }

    /// Tells the process to stop, if it is the life of that UID and has not been told.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn stop(&mut self, uid: &SlotUid, now: UnixMs) -> Result<(), Error> {
        let Some(life) = self.life.as_ref() else {
            return Ok(());
        };
        if !life.runs() || life.uid != *uid || life.stopping_since.is_some() {
            return Ok(());
        }
        // Written first: whoever comes next continues to wait and to kill in the end.
        let life = Life {
            stopping_since: Some(now),
            ..life.clone()
        };
        self.save(life)?;
        self.signal(Signal::TERM)
    }

    /// Forgets a life that has ended, so that the slot is as if nothing had run in it.
    ///
    /// # Errors
    /// The path and what failed.
    pub fn forget(&mut self) -> Result<(), Error> {
        if self.life.as_ref().is_some_and(|life| !life.runs()) {
            files::remove(&self.record_path())?;
            self.life = None;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let Some(life) = &self.life else {
            return Ok(());
        };
        life.process
            .signal(signal)
            .map_err(|error| Error::io("cannot signal", &self.dir, error))
    }

    fn spawn(&self, program: &Program) -> Result<Child, Error> {
        files::create_dir(&self.dir)?;
        let path = self.log_path();
        if path
            .metadata()
            .is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX)
        {
            std::fs::rename(&path, path.with_extension("old"))
                .map_err(|error| Error::io("cannot put aside", &path, error))?;
        }
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let log = open().map_err(|error| Error::io("cannot open", &path, error))?;
        let errors = open().map_err(|error| Error::io("cannot open", &path, error))?;
        let mut command = Command::new(&program.executable);
        command
            .args(&program.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own: Ctrl-C in the terminal is for the operator, which stops its
            // children in order.
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ETCD_") || text.starts_with("QUORATE_") {
                command.env_remove(&name);
            }
        }
        command
            .spawn()
            .map_err(|error| Error::io("cannot start", &program.executable, error))
    }

    fn end(&self, life: &Life, status: Option<ExitStatus>, now: UnixMs) -> End {
        let stayed_up = now >= life.started_at.plus(STAYED_UP_MS);
        let asked = life.stopping_since.is_some();
        let failures = if stayed_up || asked {
            0
        } else {
            life.failures_before.saturating_add(1)
        };
        let mut exit = match status {
            Some(status) => exit_text(status),
            None => "it ended while nobody watched".to_owned(),
        };
        let failed = !asked && !status.is_some_and(|status| status.success());
        if failed && let Some(line) = last_line(&self.log_path()) {
            exit.push_str(": ");
            exit.push_str(&line);
        }
        let data_refused = status.and_then(|status| status.code()) == Some(EXIT_DATA_REFUSED);
        End {
            since: now,
            failures,
            exit,
            data_refused,
        }
    }

    fn save(&mut self, life: Life) -> Result<(), Error> {
        files::create_dir(&self.dir)?;
        files::write_json(&self.record_path(), &life)?;
        self.life = Some(life);
        Ok(())
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join("life.json")
    }
}

impl Life {
    fn begun(
        process: Process,
        (volume, epoch): (VolumeUid, u64),
        failures_before: u32,
        now: UnixMs,
    ) -> Life {
        let uid = SlotUid(format!("{}-{}", process.pid, uuid::Uuid::new_v4().simple()));
        let (stopping_since, ended) = (None, None);
        Life {
            uid,
            process,
            started_at: now,
            volume,
            epoch,
            failures_before,
            stopping_since,
            ended,
        }
    }
}

/// The node that runs on a data directory. Other programs may have the path on their command line.
fn of_data_dir(data_dir: &Path) -> Option<Process> {
    Process::with_arguments(&["--data-dir".as_ref(), data_dir.as_os_str()])
}

fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown exit".to_owned(),
    }
}

/// The last line of a log, cut to what fits into a message.
fn last_line(path: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const SHOWN_MAX: usize = 300;
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(4096).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(SHOWN_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    /// A directory whose slot's process is killed when the test ends, however it ends.
    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let record = files::read_json::<Life>(&self.dir.path().join("slot/life.json"));
            if let Ok(Some(life)) = record {
                let _ = life.process.signal(Signal::KILL);
            }
        }
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture {
                dir: tempfile::tempdir().unwrap(),
            }
        }

        fn data_dir(&self) -> PathBuf {
            self.dir.path().join("slot/data")
        }

        fn keeper(&self) -> Keeper {
            let volume = Some(VolumeUid::from("v"));
            Keeper::resume(self.dir.path().join("slot"), &self.data_dir(), volume, NOW).unwrap()
        }

        /// A shell as the program; `--data-dir` is its `$0`.
        fn program(&self, script: &str) -> Program {
            let args = [
                "-c".into(),
                script.into(),
                "--data-dir".into(),
                self.data_dir().into_os_string(),
            ];
            Program {
                executable: "/bin/sh".into(),
                args: args.to_vec(),
                volume: VolumeUid::from("v"),
                epoch: 1,
            }
        }
    }

    /// Watches until the process has ended.
    fn ended(keeper: &mut Keeper, now: UnixMs) -> Death {
        loop {
            keeper.watch(now).unwrap();
            if let Some(death) = keeper.life().unwrap().death() {
                return death;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_exit_code_and_the_last_words_are_kept() {
        let fixture = Fixture::new();
        let mut keeper = fixture.keeper();
        assert_eq!(keeper.life(), None);
        keeper
            .start(&fixture.program("echo the port is taken; exit 4"), NOW)
            .unwrap();
        let death = ended(&mut keeper, NOW.plus(5));
        assert_eq!(death.exit, "exit code 4: the port is taken");
        assert!(death.data_refused);
        assert_eq!((death.failures, death.since), (1, NOW.plus(5)));
        keeper.start(&fixture.program("exit 1"), NOW).unwrap();
        assert_eq!(ended(&mut keeper, NOW).failures, 2);
        keeper.start(&fixture.program("exit 1"), NOW).unwrap();
        assert_eq!(ended(&mut keeper, NOW.plus(STAYED_UP_MS)).failures, 0);
    }

    #[test]
    fn the_next_operator_takes_over_what_runs() {
        let fixture = Fixture::new();
        let mut first = fixture.keeper();
        first
            .start(&fixture.program("while :; do sleep 1; done"), NOW)
            .unwrap();
        let life = first.life().unwrap().clone();
        let mut second = fixture.keeper();
        assert_eq!(second.life(), Some(&life));
        second.stop(&life.uid, NOW).unwrap();
        // The first keeper is still the parent and collects it.
        ended(&mut first, NOW);
        assert!(!life.process.runs());
    }

    #[test]
    fn a_process_that_was_not_written_down_is_found_and_not_started_again() {
        let fixture = Fixture::new();
        let mut first = fixture.keeper();
        first
            .start(&fixture.program("while :; do sleep 1; done"), NOW)
            .unwrap();
        let process = first.life().unwrap().process.clone();
        std::fs::remove_file(fixture.dir.path().join("slot/life.json")).unwrap();
        let second = fixture.keeper();
        assert_eq!(second.life().map(|life| &life.process), Some(&process));
    }

    #[test]
    fn an_end_that_nobody_watched_is_noticed() {
        let fixture = Fixture::new();
        let mut first = fixture.keeper();
        first.start(&fixture.program("exit 0"), NOW).unwrap();
        first.child.take().unwrap().wait().unwrap();
        let mut second = fixture.keeper();
        assert!(second.watch(NOW).unwrap());
        let death = second.life().unwrap().death().unwrap();
        assert!(
            death.exit.starts_with("it ended while nobody watched"),
            "{}",
            death.exit
        );
    }

    #[test]
    fn a_process_that_ignores_the_request_to_stop_is_killed_after_its_grace() {
        let fixture = Fixture::new();
        let mut keeper = fixture.keeper();
        let deaf = "trap '' TERM; echo deaf; while :; do sleep 1; done";
        keeper.start(&fixture.program(deaf), NOW).unwrap();
        while !std::fs::read_to_string(keeper.log_path())
            .unwrap()
            .contains("deaf")
        {
            std::thread::yield_now();
        }
        let uid = keeper.life().unwrap().uid.clone();
        keeper.stop(&SlotUid::from("another life"), NOW).unwrap();
        assert_eq!(keeper.life().unwrap().stopping_since, None);
        keeper.stop(&uid, NOW).unwrap();
        keeper.watch(NOW.plus(STOP_GRACE_MS - 1)).unwrap();
        assert!(keeper.life().unwrap().process.runs());
        assert_eq!(
            ended(&mut keeper, NOW.plus(STOP_GRACE_MS)).exit,
            "killed by signal 9"
        );
        keeper.forget().unwrap();
        assert_eq!(keeper.life(), None);
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let fixture = Fixture::new();
        let mut keeper = fixture.keeper();
        let program = Program {
            executable: "/nowhere/quorate".into(),
            ..fixture.program("")
        };
        let text = keeper.start(&program, NOW).unwrap_err().to_string();
        assert!(text.contains("/nowhere/quorate"), "{text}");
        assert_eq!(keeper.life(), None);
    }
}
