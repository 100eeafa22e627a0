//! `quorate up`: run the cluster of a KvCluster manifest as processes on this machine.
//!
//! The operator crate does the work; here are the options, the signals and the picture of it. In a
//! terminal the picture is redrawn in place, in a pipe each change is a line.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{cursor, queue};
use quorate_operator::crd::{KvClusterStatus, MemberStatus};
use quorate_operator::platform::local::{self, Ended, Local, Options, Progress, Report, Until};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Common, Format};
use crate::colours::Colours;
use crate::failure::Failure;
use crate::output::Table;

/// Time `--once` may take when `--timeout` is not given.
const ONCE_TIMEOUT: Duration = Duration::from_secs(120);

/// Options of `up`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate up deploy/examples/kvcluster.yaml
  quorate up cluster.yaml --base-port 12379 --data-dir /tmp/demo
  quorate up cluster.yaml --once --timeout 30s      converge, print the table, stop

Edit the manifest while it runs: `replicas: 5` adds two members, one after the other. Ctrl-C stops the
members in order and keeps their data; the next run resumes. Killed, it leaves the members running and
the next run takes them over. Slot N listens on base + 10 N: client 2379, peer 2380, admin 2381.

Exit codes: 0 done; 1 not converged within --timeout, or another process uses the directory; 2 the
manifest cannot be used; 4 the directory belongs to another cluster or is damaged.")]
pub struct UpArgs {
    /// The KvCluster manifest (YAML).
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// Where data, logs and state are kept [default: .quorate/NAME].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Client port of slot 0 [default: 2379, or what the directory has].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// Converge, print the table, stop the members; fails when --timeout (default 2m) passes first.
    #[arg(long)]
    once: bool,
}

/// Runs `up`.
///
/// # Errors
/// As listed in the help of the command.
pub async fn run(args: &UpArgs, common: &Common) -> Result<(), Failure> {
    let until = until(args, common)?;
    let executable = std::env::current_exe().map_err(|error| {
        Failure::refused(format!("the path of this program is unknown: {error}"))
    })?;
    let options = Options {
        manifest: args.manifest.clone(),
        data_dir: args.data_dir.clone(),
        base_port: args.base_port,
        executable,
        settings: super::member_settings,
    };
    let stop = stop_signals()?;
    let mut local = Local::open(options).map_err(failure)?;
    let mut screen = Screen::new(common, args.once);
    screen.begin(&local);
    let ended = local::run(&mut local, until, &mut screen, stop)
        .await
        .map_err(failure)?;
    screen.end(&ended)?;
    match ended {
        Ended::Converged | Ended::Stopped => Ok(()),
        Ended::TimedOut { waiting_for } => Err(Failure::refused(format!(
            "the cluster was not ready in time; waiting for: {}.\n\
             The members were stopped and their data kept. Their logs are {}/slot-N/log.",
            waiting_for.trim_end_matches('.'),
            local.dir().display()
        ))),
    }
}

/// When to leave off: a cluster that is to run on has no time limit.
fn until(args: &UpArgs, common: &Common) -> Result<Until, Failure> {
    if !args.once && common.timeout.is_some() {
        return Err(Failure::usage(
            "--timeout bounds how long --once may take to converge. Add --once, or leave it out.",
        ));
    }
    let limit = args.once.then(|| common.timeout.unwrap_or(ONCE_TIMEOUT));
    Ok(Until {
        converged: args.once,
        limit,
    })
}

/// Ends with the first of the signals that mean "stop".
pub(super) fn stop_signals() -> Result<impl Future<Output = ()>, Failure> {
    let wrong = |error| Failure::refused(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(wrong)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(wrong)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(wrong)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

fn failure(error: local::Error) -> Failure {
    let text = error.to_string();
    match error {
        local::Error::Manifest(_) => Failure::usage(text),
        local::Error::Foreign(_) | local::Error::Damaged { .. } => Failure::DataDirectory(text),
        local::Error::InUse { .. }
        | local::Error::Io { .. }
        | local::Error::Conflict(_)
        | local::Error::Refused(_)
        | local::Error::NotYet(_)
        | local::Error::Unanswered(_) => Failure::refused(text),
    }
}

/// Where progress is shown.
struct Screen {
    format: Format,
    live: bool,
    once: bool,
    colours: Colours,
    /// Lines of the picture on the terminal, which the next one replaces.
    drawn: u16,
    /// What was shown last: only changes are shown.
    shown: String,
    last: Option<Picture>,
    /// The last trouble told.
    trouble: String,
}

/// What one pass left to be shown.
#[derive(Clone)]
struct Picture {
    name: String,
    status: KvClusterStatus,
    doing: String,
    problems: Vec<String>,
    converged: bool,
}

impl Screen {
    fn new(common: &Common, once: bool) -> Screen {
        let format = common.output.unwrap_or(Format::Table);
        Screen {
            format,
            live: format == Format::Table && std::io::stdout().is_terminal(),
            once,
            colours: Colours::of_stdout(),
            drawn: 0,
            shown: String::new(),
            last: None,
            trouble: String::new(),
        }
    }

    fn begin(&mut self, local: &Local) {
        if self.format != Format::Json {
            let dir = local.dir().display();
            say(&format!(
                "cluster {} in {dir}, client ports from {}",
                local.name(),
                local.ports().base()
            ));
        }
    }

    fn end(&mut self, ended: &Ended) -> Result<(), Failure> {
        let Some(picture) = &self.last else {
            return Ok(());
        };
        match (self.format, self.once) {
            (Format::Json, _) => say(&picture.json().to_string()),
            // The live table stands on the screen already.
            (_, true) if !self.live => say(picture.table(self.colours).trim_end()),
            _ => {}
        }
        if self.format != Format::Json {
            let how = match ended {
                Ended::Converged => "converged; members stopped, data kept",
                Ended::Stopped => "members stopped, data kept; run the same command to resume",
                Ended::TimedOut { .. } => "members stopped, data kept",
            };
            say(how);
        }
        Ok(())
    }

    /// Draws the picture in the place of the one before, in one write: a terminal that shows half
    /// of it flickers.
    fn draw(&mut self, picture: &Picture) {
        let text = picture.table(self.colours);
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let mut frame = Vec::new();
        if self.drawn > 0 {
            let _ = queue!(frame, cursor::MoveToPreviousLine(self.drawn));
        }
        // A line that wraps would take two rows and spoil the next redraw; so would a scroll.
        let rows = usize::from(height.saturating_sub(1)).max(1);
        let mut lines = 0;
        for line in text.lines().take(rows) {
            // Before the line: behind one that fills the row it would take the last letter.
            let _ = queue!(frame, Clear(ClearType::UntilNewLine));
            frame.extend_from_slice(cut(line, usize::from(width)).as_bytes());
            frame.push(b'\n');
            lines += 1;
        }
        let _ = queue!(frame, Clear(ClearType::FromCursorDown));
        let mut out = std::io::stdout().lock();
        // Whoever closed the terminal does not look any more.
        let _ = out.write_all(&frame).and_then(|()| out.flush());
        self.drawn = lines;
    }
}

impl Report for Screen {
    fn progress(&mut self, progress: &Progress<'_>) {
        let problems = [
            progress.manifest_error.map(str::to_owned),
            progress.error.clone(),
        ];
        let picture = Picture {
            name: progress.name.to_owned(),
            status: progress.status.clone(),
            doing: progress.doing.clone(),
            problems: problems.into_iter().flatten().collect(),
            converged: progress.converged,
        };
        let line = match self.format {
            Format::Json => picture.json().to_string(),
            Format::Table | Format::Simple => picture.line(),
        };
        if line != self.shown || self.live {
            if self.live {
                self.draw(&picture);
            } else if !(self.format == Format::Json && self.once) {
                say(&line);
            }
            self.shown = line;
        }
        self.last = Some(picture);
    }

    fn trouble(&mut self, why: &str) {
        // On standard error and once: the picture shows the world, and there is none to show.
        if self.trouble != why {
            eprintln!("quorate up: {why}");
            if std::io::stderr().is_terminal() {
                // The line stands below the picture, so the next picture stands below the line.
                self.drawn = 0;
            }
            why.clone_into(&mut self.trouble);
        }
    }

    fn stopping(&mut self) {
        if self.format != Format::Json {
            say("stopping the members");
        }
    }
}

impl Picture {
    /// One line for a pipe: what changed since the line before is in it.
    fn line(&self) -> String {
        let status = &self.status;
        let members: Vec<String> = status
            .members
            .iter()
            .map(|member| {
                format!(
                    "{}={}{}",
                    member.ordinal,
                    state(member),
                    mark(member, status)
                )
            })
            .collect();
        let mut line = format!(
            "{} {} ready {} | {}",
            self.name,
            status.phase.as_deref().unwrap_or("Pending"),
            status.ready.as_deref().unwrap_or("0/0"),
            members.join(" ")
        );
        if !self.doing.is_empty() {
            line.push_str(&format!(" | {}", self.doing));
        }
        for problem in &self.problems {
            line.push_str(&format!(" | problem: {}", problem.replace('\n', " ")));
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "converged": self.converged,
            "doing": self.doing,
            "problems": self.problems,
            "status": self.status,
        })
    }

    fn table(&self, colours: Colours) -> String {
        let status = &self.status;
        let phase = status.phase.as_deref().unwrap_or("Pending");
        let painted = if self.converged {
            colours.green(phase)
        } else {
            colours.yellow(phase)
        };
        let quorum = status.quorum.as_ref();
        let number = |n: Option<i32>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let mut text = format!(
            "{}  {painted}  ready {}  quorum {} ({} of {} healthy, {} needed)\n",
            colours.bold(&self.name),
            status.ready.as_deref().unwrap_or("-"),
            quorum.map_or("Unknown", |quorum| quorum.state.as_str()),
            number(quorum.and_then(|quorum| quorum.healthy)),
            number(quorum.and_then(|quorum| quorum.voters)),
            number(quorum.and_then(|quorum| quorum.needed)),
        );
        let doing = if self.doing.is_empty() {
            "nothing to do"
        } else {
            &self.doing
        };
        text.push_str(&format!("now: {doing}\n"));
        for problem in &self.problems {
            text.push_str(&format!("{} {problem}\n", colours.red("problem:")));
        }
        text.push('\n');
        text.push_str(&self.members().to_string());
        text.push('\n');
        for condition in &status.conditions {
            text.push_str(&condition_line(condition, colours));
        }
        text
    }

    fn members(&self) -> Table {
        let mut table = Table::new(&[
            "SLOT", "MEMBER", "ROLE", "STATE", "READY", "ENDPOINT", "LAG", "VERSION",
        ]);
        for member in &self.status.members {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            table.row(vec![
                member.ordinal.to_string(),
                or_dash(&member.member_id),
                format!("{}{}", member.role, mark(member, &self.status)),
                state(member).to_owned(),
                if member.ready {
                    "yes".to_owned()
                } else {
                    "no".to_owned()
                },
                or_dash(&member.endpoint),
                member
                    .lag
                    .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
                or_dash(&member.version),
            ]);
        }
        table
    }
}

/// Marks the leader.
fn mark(member: &MemberStatus, status: &KvClusterStatus) -> &'static str {
    let leads = status
        .leader
        .as_ref()
        .is_some_and(|leader| Some(&leader.member_id) == member.member_id.as_ref());
    if leads { "*" } else { "" }
}

fn state(member: &MemberStatus) -> &str {
    if member.state.is_empty() {
        "-"
    } else {
        &member.state
    }
}

/// A condition on one line, coloured by whether it is as it should be.
fn condition_line(condition: &quorate_operator::crd::ConditionStatus, colours: Colours) -> String {
    /// Conditions that are good when they are `False`.
    const GOOD_WHEN_FALSE: [&str; 4] = ["Progressing", "Degraded", "Paused", "ClusterIDMismatch"];
    let good = if GOOD_WHEN_FALSE.contains(&condition.type_.as_str()) {
        "False"
    } else {
        "True"
    };
    let status = format!("{:<8}", condition.status);
    let status = match condition.status.as_str() {
        "Unknown" => colours.yellow(&status),
        actual if actual == good => colours.green(&status),
        _ => colours.red(&status),
    };
    let message = condition.message.lines().next().unwrap_or_default();
    format!(
        "{:<24}{status}{:<20}{message}\n",
        condition.type_, condition.reason
    )
}

/// The beginning of a line that fits the terminal; colour codes take no room.
fn cut(line: &str, width: usize) -> String {
    let (mut kept, mut used, mut in_code) = (String::new(), 0, false);
    for c in line.chars() {
        if c == '\x1b' {
            in_code = true;
        } else if in_code {
            in_code = c != 'm';
        } else if used < width {
            used += 1;
        } else {
            continue;
        }
        kept.push(c);
    }
    kept
}

/// Prints a line; when nobody reads any more, the cluster runs on all the same.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_keeps_its_colour_codes() {
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(cut("abcdef", 3), "abc");
        assert_eq!(cut("\x1b[31mabcdef\x1b[0mgh", 3), "\x1b[31mabc\x1b[0m");
    }
}
