//! Colours on a terminal, and nowhere else.

use std::io::IsTerminal as _;

/// Colours, when a person looks and has not declined them (`NO_COLOR`).
#[derive(Clone, Copy, Debug)]
pub struct Colours {
    on: bool,
}

impl Colours {
    /// For standard output.
    pub fn of_stdout() -> Colours {
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Colours {
            on: std::io::stdout().is_terminal() && !declined,
        }
    }

    /// Something good.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something that may pass by itself.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Something to find first.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
