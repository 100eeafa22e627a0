//! How a script of commands is written, and its parser.
//!
//! A line is a command line for etcdctl. Words are split at spaces; `'…'` keeps them together and
//! understands `\n`, `\t`, `\\`, `\xNN`. A line that starts with `<` is a line of standard input
//! for the command before it; `<'…'` gives bytes without a line end, and `<*N x` gives N times x.
//! `#` begins a comment.
//!
//! Commands go to the first member; after `@endpoint N` to member N, after `@all` to all of them.
//! `@start` starts the fourth member, which must have been added, `@kill N` kills a member, and
//! `@settle` lets connections grow old enough for changes of the membership; `@young` says that
//! everything before it must have run while they were not: on a machine too slow for that the
//! script is played again. `{m1}` is a member's ID, `{m1-endpoint}` its address; so are `leader`,
//! `follower` and `new` (added, not started).
//! `~` before a command masks every ID in its output: for answers that tell who leads.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// One line of a script.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Run etcdctl.
    Run(Command),
    /// From now on speak to this member.
    Endpoint(u16),
    /// From now on speak to all members.
    All,
    /// Start the fourth member.
    Start,
    /// Kill a member.
    Kill(u16),
    /// Wait until connections count.
    Settle,
    /// Up to here no connection may have counted.
    Young,
}

/// One call of etcdctl.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// As written, without `~`.
    pub line: String,
    /// Its standard input.
    pub input: Vec<u8>,
    /// Whether all IDs in the output are masked.
    pub masked: bool,
}

/// Reads a script.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(input) = line.strip_prefix('<') {
            let Some(Step::Run(command)) = steps.last_mut() else {
                bail!("line {}: input without a command before it", number + 1);
            };
            command.input.extend(stdin(input)?);
            continue;
        }
        let step = step(line).with_context(|| format!("line {}: {line}", number + 1))?;
        steps.push(step);
    }
    Ok(steps)
}

fn step(line: &str) -> Result<Step> {
    let Some(directive) = line.strip_prefix('@') else {
        let masked = line.starts_with('~');
        let line = line.trim_start_matches('~').trim().to_owned();
        let input = Vec::new();
        return Ok(Step::Run(Command {
            line,
            input,
            masked,
        }));
    };
    Ok(match directive.split_once(' ').unwrap_or((directive, "")) {
        ("endpoint", slot) => Step::Endpoint(slot.parse()?),
        ("kill", slot) => Step::Kill(slot.parse()?),
        ("all", "") => Step::All,
        ("start", "") => Step::Start,
        ("settle", "") => Step::Settle,
        ("young", "") => Step::Young,
        _ => bail!("unknown directive: use @endpoint N, @kill N, @all, @start, @settle or @young"),
    })
}

fn stdin(line: &str) -> Result<Vec<u8>> {
    if line.starts_with('\'') {
        let words = words(line)?.into_iter().map(OsString::into_vec);
        return Ok(words.flatten().collect());
    }
    if let Some(repeated) = line.strip_prefix('*') {
        let (times, what) = repeated.split_once(' ').context("write `<*N x`")?;
        return Ok(what.repeat(times.parse()?).into_bytes());
    }
    let line = line.strip_prefix(' ').unwrap_or(line);
    Ok(format!("{line}\n").into_bytes())
}

/// Splits a command line.
pub fn words(line: &str) -> Result<Vec<OsString>> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), Vec::new(), false, false);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => {
                quoted = !quoted;
                open = true;
            }
            b' ' if !quoted => {
                if open {
                    words.push(OsString::from_vec(std::mem::take(&mut word)));
                }
                open = false;
            }
            b'\\' if quoted => word.push(match bytes.next().context("a lone backslash")? {
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                    u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
                }
                other => other,
            }),
            other => {
                word.push(other);
                open = true;
            }
        }
    }
    if quoted {
        bail!("a quotation without an end");
    }
    if open {
        words.push(OsString::from_vec(word));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_bytes_inside_quotes() {
        let words = words("put 'a b' '\\x00\\n' '' x").unwrap();
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_encoded_bytes()).collect();
        assert_eq!(bytes, [&b"put"[..], b"a b", b"\x00\n", b"", b"x"]);
    }

    #[test]
    fn input_belongs_to_the_command_before_it() {
        let text = "# a comment\n~put a\n< one\n<\n<'\\xff'\n<*3 ab\n\n@kill 2\n";
        let script = parse(text).unwrap();
        let command = Command {
            line: "put a".to_owned(),
            input: b"one\n\n\xffababab".to_vec(),
            masked: true,
        };
        assert_eq!(script, [Step::Run(command), Step::Kill(2)]);
        assert!(parse("< input\n").is_err());
        assert!(parse("@stop\n").is_err());
    }
}
