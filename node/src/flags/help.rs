//! The text of `--help`, from the table.

use super::CalledAs;
use super::table::{Flag, Mark, flags};
use std::fmt::Write;

/// The whole text.
pub(super) fn text(called_as: CalledAs) -> String {
    let program = match called_as {
        CalledAs::Etcd => "etcd",
        CalledAs::QuorateNode => "quorate node",
    };
    let mut text = format!(
        "Runs one member of a cluster.\n\n\
         Usage: {program} [flags]\n\n\
         Try it out, one line per terminal, in any order:\n  \
         {program} --id node1 --port 8001 --peers localhost:8002,localhost:8003\n  \
         {program} --id node2 --port 8002 --peers localhost:8001,localhost:8003\n  \
         {program} --id node3 --port 8003 --peers localhost:8001,localhost:8002\n\n\
         As etcd is started (each flag is also a variable: --data-dir is ETCD_DATA_DIR):\n  \
         {program} --name a --data-dir /var/lib/a \\\n    \
         --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://a:2379 \\\n    \
         --listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls http://a:2380 \\\n    \
         --initial-cluster a=http://a:2380,b=http://b:2380,c=http://c:2380\n\nFlags:\n"
    );
    for flag in flags().iter().filter(|flag| flag.mark == Mark::Served) {
        line(&mut text, flag);
    }
    let accepted: Vec<&str> = names(Mark::Accepted);
    let refused: Vec<&str> = names(Mark::NotServed);
    let _ = write!(
        text,
        "  --version                        print versions and exit\n\
         \nAccepted without effect: {}.\n\nKnown to etcd, refused by this version unless left at the \
         default: {}.\n",
        accepted.join(", "),
        refused.join(", ")
    );
    text
}

fn line(text: &mut String, flag: &Flag) {
    let default = match flag.default {
        "" => String::new(),
        default => format!(" (default {default})"),
    };
    let _ = writeln!(text, "  --{:<30} {}{default}", flag.name, flag.help);
}

fn names(mark: Mark) -> Vec<&'static str> {
    flags()
        .iter()
        .filter(|flag| flag.mark == mark)
        .map(|flag| flag.name)
        .collect()
}
