//! `quorate up` as a person sees it: one table, redrawn in place, in colour, and only in a
//! terminal.
//!
//! `script` (util-linux) gives the program a terminal; a small model of one reads what it writes.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::process::harness::wait_for;
use crate::up::{Up, members_of};

/// A screen of a fixed size that understands what `up` writes, and nothing else: a new kind of
/// control sequence must be added here, with its meaning.
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    width: usize,
}

impl Screen {
    fn new(width: usize, height: usize) -> Screen {
        Screen {
            rows: vec![Vec::new(); height],
            row: 0,
            column: 0,
            width,
        }
    }

    /// What stands on a screen of this size after `written`.
    fn after(written: &str, width: usize, height: usize) -> String {
        let mut screen = Screen::new(width, height);
        let mut letters = written.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\x1b' => screen.control(&mut letters),
                '\r' => screen.column = 0,
                '\n' => screen.line_feed(),
                letter => screen.put(letter),
            }
        }
        let lines = screen.rows.iter().map(|row| row.iter().collect::<String>());
        lines
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    fn put(&mut self, letter: char) {
        if self.column == self.width {
            self.column = 0;
            self.line_feed();
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + 1), ' ');
        row[self.column] = letter;
        self.column += 1;
    }

    fn line_feed(&mut self) {
        if self.row + 1 < self.rows.len() {
            self.row += 1;
        } else {
            self.rows.remove(0);
            self.rows.push(Vec::new());
        }
    }

    fn control(&mut self, letters: &mut std::str::Chars<'_>) {
        let mut number = String::new();
        let kind = loop {
            match letters.next() {
                // The rest of it is still on its way.
                None => return,
                Some('[') if number.is_empty() => {}
                Some(digit) if digit.is_ascii_digit() || digit == ';' => number.push(digit),
                Some(kind) => break kind,
            }
        };
        match (kind, number.as_str()) {
            ('m', _) => {}
            ('F', count) => {
                let count = count.parse().unwrap_or(1);
                self.row = self.row.saturating_sub(count);
                self.column = 0;
            }
            ('J', "" | "0") => {
                self.rows[self.row].truncate(self.column);
                self.rows[self.row + 1..].iter_mut().for_each(Vec::clear);
            }
            ('K', "" | "0") => self.rows[self.row].truncate(self.column),
            (kind, number) => panic!("unknown control sequence {number}{kind}"),
        }
    }
}

/// A program in a terminal of its own.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
    width: usize,
    height: usize,
}

impl Terminal {
    /// Starts `command`, of which program, arguments and removed or set variables are kept.
    fn start(command: &Command, width: usize, height: usize) -> Terminal {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!(" '{}'", word.to_string_lossy()));
        let line = quoted.collect::<String>();
        let mut script = Command::new("script");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut script = script
            .args(["--quiet", "--flush", "--return", "--command"])
            .arg(format!("stty rows {height} cols {width} -echo; exec{line}"))
            .arg("/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux is needed to give a program a terminal");
        let keyboard = script.stdin.take().expect("stdin is piped");
        let mut output = script.stdout.take().expect("stdout is piped");
        let written = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let mut all = keep.lock().expect("nobody panics with it");
                all.extend_from_slice(&buffer[..length]);
            }
        });
        Terminal {
            script,
            keyboard,
            written,
            width,
            height,
        }
    }

    fn written(&self) -> String {
        let all = self.written.lock().expect("nobody panics with it");
        String::from_utf8_lossy(&all).into_owned()
    }

    fn screen(&self) -> String {
        Screen::after(&self.written(), self.width, self.height)
    }

    /// Waits until the screen is as `is` says.
    fn wait_screen(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        wait_for(what, || is(&self.screen()));
        self.screen()
    }

    fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).expect("a terminal");
        self.keyboard.flush().expect("a terminal");
    }

    /// Waits for the program to end; its exit code.
    fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        wait_for("the program to end", || {
            let ended = self.script.try_wait().expect("it is our child");
            code = ended.and_then(|status| status.code());
            ended.is_some()
        });
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the screen:\n{}", self.screen());
        }
        // The terminal goes with it, and hangs up on the program.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

#[test]
fn in_a_terminal_one_table_is_redrawn_in_place_and_in_colour() {
    let up = Up::new(1);
    let mut command = up.command(&[]);
    command.env_remove("NO_COLOR");
    let mut terminal = Terminal::start(&command, 120, 30);
    let screen = terminal.wait_screen("a ready cluster", |screen| {
        screen.contains("ready 1/1") && screen.contains("now: nothing to do")
    });
    assert_eq!(count(&screen, "SLOT"), 1, "one table:\n{screen}");
    assert_eq!(count(&screen, "cluster demo in"), 1, "{screen}");
    let drawn = count(&terminal.written(), "SLOT");
    assert!(drawn > 1, "the table was drawn {drawn} times");

    // More lines, then fewer: what a longer table left below must be gone.
    up.write_text("kind: KvCluster\nspec: [\n");
    let broken = terminal.wait_screen("the mistake", |screen| screen.contains("problem:"));
    assert_eq!(count(&broken, "SLOT"), 1, "{broken}");
    assert!(broken.contains("cluster.yaml:"), "{broken}");
    up.write(1);
    let mended = terminal.wait_screen("no mistake", |screen| !screen.contains("problem:"));
    assert_eq!(mended, screen, "the picture is as it was before");

    let written = terminal.written();
    for (colour, what) in [("32", "good"), ("31", "wrong"), ("1", "the name")] {
        assert!(written.contains(&format!("\x1b[{colour}m")), "{what}");
    }
    terminal.press(0x03); // Ctrl-C
    assert_eq!(terminal.wait(), Some(0));
    let screen = terminal.screen();
    assert!(
        screen.contains("run the same command to resume"),
        "{screen}"
    );
    assert_eq!(count(&screen, "SLOT"), 1, "{screen}");
    assert_eq!(members_of(&up.data()), Vec::<u32>::new());
}

#[test]
fn a_small_terminal_shows_the_beginning_of_the_table_and_no_colour_when_declined() {
    let up = Up::new(1);
    let mut command = up.command(&["--once", "--timeout=60s"]);
    command.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(&command, 44, 9);
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.written());
    let (screen, written) = (terminal.screen(), terminal.written());
    assert!(count(&written, "SLOT") > 1, "{written:?}");
    assert_eq!(count(&screen, "SLOT"), 1, "{screen}");
    assert!(written.contains("ready 1/1"), "{written:?}");
    let is_colour = |sequence: &str| {
        let end = sequence.find(|letter: char| letter.is_ascii_alphabetic());
        end.is_some_and(|end| sequence.as_bytes()[end] == b'm')
    };
    assert!(!written.split('\x1b').skip(1).any(is_colour), "{written:?}");
}

#[test]
fn a_pipe_gets_plain_lines() {
    let up = Up::new(1);
    let mut command = up.command(&["--once", "--timeout=60s"]);
    let output = command
        .env_remove("NO_COLOR")
        .output()
        .expect("the binary under test starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("ready 1/1"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text:?}");
}
