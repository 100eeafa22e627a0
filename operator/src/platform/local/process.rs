//! Processes by what they are, not only by their number: a PID is used again after its process
//! ends.
//!
//! Assumes Linux's `/proc`. Must not know: slots, members, what the processes do.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Child;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process for all time: its number, when it began, and in which boot of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Process {
    /// The process ID.
    pub pid: u32,
    /// Clock ticks between the boot and its start.
    pub start_ticks: u64,
    /// Identifies the boot.
    pub boot_id: String,
}

impl Process {
    /// The process that has this number now; `None` when there is none or it has ended already.
    pub fn of_pid(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (start_ticks, ended) = start_and_end(&stat)?;
        (!ended).then(|| Process {
            pid,
            start_ticks,
            boot_id: boot_id(),
        })
    }

    /// A child of ours that was not collected yet: its number is its own, even if it has ended.
    ///
    /// # Errors
    /// The system does not tell about it.
    pub fn of_child(child: &Child) -> io::Result<Process> {
        let pid = child.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (start_ticks, _) = start_and_end(&stat)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected")))?;
        Ok(Process {
            pid,
            start_ticks,
            boot_id: boot_id(),
        })
    }

    /// Whether it still runs. A process that waits to be collected by its parent does not.
    pub fn runs(&self) -> bool {
        Process::of_pid(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to this process and to no other, even if its number is in use again.
    ///
    /// # Errors
    /// As the system says. That it has ended is success.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // The descriptor is opened first and checked after: from here on it means one process.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if !self.runs() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The running process, other than ourselves, that has these words in a row on its command
    /// line.
    pub fn with_arguments(words: &[&OsStr]) -> Option<Process> {
        let entries = fs::read_dir("/proc").ok()?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| *pid != std::process::id() && has_arguments(*pid, words))
            .find_map(Process::of_pid)
    }
}

fn has_arguments(pid: u32, words: &[&OsStr]) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let line: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let wanted: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    line.windows(wanted.len()).any(|part| part == wanted)
}

/// The start time in a `/proc/PID/stat` line, and whether the process has ended.
fn start_and_end(stat: &str) -> Option<(u64, bool)> {
    // The name stands in parentheses and may hold blanks and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    // Field 22 of the line; the state is field 3.
    Some((fields.nth(18)?.parse().ok()?, ended))
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    /// A process that ends with the test, whatever becomes of the test.
    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn cat(argument: &str) -> Guard {
        let mut command = Command::new("cat");
        command.args(["-", argument]).stdin(Stdio::piped());
        Guard(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 0";
        assert_eq!(
            start_and_end(&format!("7 (a) b) {fields}")),
            Some((4711, false))
        );
        let ended = fields.replacen('S', "Z", 1);
        assert_eq!(start_and_end(&format!("7 (a) {ended}")), Some((4711, true)));
        assert_eq!(start_and_end("7 (a) S 1"), None);
    }

    #[test]
    fn a_signal_reaches_the_process_it_was_meant_for_and_no_other() {
        let mut guard = cat("one");
        let process = Process::of_pid(guard.0.id()).unwrap();
        let stranger = Process {
            start_ticks: process.start_ticks + 1,
            ..process.clone()
        };
        stranger.signal(Signal::KILL).unwrap();
        assert!(process.runs() && !stranger.runs());
        process.signal(Signal::KILL).unwrap();
        assert_eq!(guard.0.wait().unwrap().signal(), Some(9));
        assert!(!process.runs());
        process.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_process_is_found_by_words_of_its_command_line() {
        let word = format!("/nowhere/{}", uuid::Uuid::new_v4());
        let find = |words: [&str; 2]| {
            Process::with_arguments(&words.map(OsStr::new)).map(|process| process.pid)
        };
        assert_eq!(find(["-", &word]), None);
        let guard = cat(&word);
        // The command line is that of the test itself until the program is replaced.
        while fs::read(format!("/proc/{}/cmdline", guard.0.id()))
            .unwrap()
            .len()
            < 10
        {
            std::thread::yield_now();
        }
        assert_eq!(find(["-", &word]), Some(guard.0.id()));
        assert_eq!(find(["--data-dir", &word]), None);
        assert_eq!(find(["-", &word[..word.len() - 1]]), None);
    }
}
