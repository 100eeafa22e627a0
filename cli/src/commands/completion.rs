//! `quorate completion`: a completion script for a shell.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use crate::args::{Cli, Common, Format};
use crate::failure::Failure;
use crate::output::Printer;

/// Options of `completion`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate completion bash > /etc/bash_completion.d/quorate
  quorate completion zsh > ~/.zfunc/_quorate
  quorate completion fish > ~/.config/fish/completions/quorate.fish")]
pub struct CompletionArgs {
    /// The shell to write for.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Supported,
}

/// The shells scripts are made for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Supported {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

/// Runs `completion`.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &CompletionArgs, common: &Common) -> Result<(), Failure> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
    Printer::new(common, Format::Simple).raw(&script)
}
