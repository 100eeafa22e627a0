//! The binary `quorate`: reads the command line, runs one verb, maps its end to an exit code.
//!
//! Called as `etcd` (a link or copy of that name) it is `quorate node`. The client verbs know only
//! the wire; what runs a member, a manifest or a log is dispatched from here and from `launch`.

mod args;
mod client;
mod colours;
mod commands;
mod endpoints;
mod failure;
mod input;
mod launch;
mod output;
mod security;
mod txn_script;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::commands::{
    compact, completion, del, endpoint_health, get, list, member, move_leader, operator, probe,
    put, status, txn, up, version,
};
use crate::failure::Failure;

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let (verb, result) = run(&argv);
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("quorate {verb}: {failure}");
            match failure {
                Failure::Refused(_)
                | Failure::Usage(_)
                | Failure::OutcomeUnknown(_)
                | Failure::DataDirectory(_) => ExitCode::from(failure.exit_code()),
            }
        }
    }
}

/// Runs the command line; the verb is for the head of an error message.
fn run(argv: &[OsString]) -> (&'static str, Result<ExitCode, Failure>) {
    let called = argv.first().map(Path::new).and_then(Path::file_name);
    if called.is_some_and(|name| name == "etcd") {
        return ("node", launch::node(launch::CalledAs::Etcd, &argv[1..]));
    }
    // `help VERB` is `VERB --help`, also for the verbs that answer it themselves.
    if argv.get(1).is_some_and(|verb| verb == "help") {
        let help = [OsString::from("--help")];
        let asked: Vec<OsString> = [&argv[..1], &argv[2..], &help].concat();
        return run(&asked);
    }
    // The flags of a member are etcd's and are read by the member itself, `--help` included.
    if argv.get(1).is_some_and(|verb| verb == "node") {
        return (
            "node",
            launch::node(launch::CalledAs::QuorateNode, &argv[2..]),
        );
    }
    match Cli::try_parse_from(argv) {
        Ok(cli) => {
            let verb = cli.command.verb();
            (verb, dispatch(cli))
        }
        Err(error) => {
            // clap knows whether this is help (0) or a mistake (2), and where to print it.
            let _ = error.print();
            (
                "",
                Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))),
            )
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { command, common } = cli;
    match command {
        Command::Put(args) => block_on(put::run(args, &common)),
        Command::Get(args) => block_on(get::run(args, &common)),
        Command::Del(args) => block_on(del::run(args, &common)),
        Command::List(args) => block_on(list::run(args, &common)),
        Command::Txn(args) => block_on(txn::run(&args, &common)),
        Command::Compact(args) => block_on(compact::run(args, &common)),
        Command::Member(args) => block_on(member::run(args, &common)),
        Command::MoveLeader(args) => block_on(move_leader::run(&args, &common)),
        Command::Status(args) => block_on(status::run(&args, &common)),
        Command::EndpointHealth(args) => block_on(endpoint_health::run(&args, &common)),
        Command::Probe(args) => block_on(probe::run(&args, &common)),
        Command::Up(args) => block_on(up::run(&args, &common)),
        Command::Node(raw) => return launch::node(launch::CalledAs::QuorateNode, &raw.args),
        Command::Operator(args) => block_on(operator::run(args, &common)),
        Command::Wal(args) => launch::wal(&args, &common),
        Command::Version => version::run(&common),
        Command::Completion(args) => completion::run(&args, &common),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Runs a client verb: one thread is enough for one request at a time.
fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| Failure::refused(format!("the runtime cannot start: {error}")))?
        .block_on(verb)
}
