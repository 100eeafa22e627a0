//! The small language in which `quorate txn` reads a transaction.
//!
//! One statement a line; `if` begins the conditions (`and` adds one), `then` and `else` begin the
//! two branches, and each may carry its first statement on the same line. Words are separated by
//! blanks; a word in double quotes may hold anything, with the escapes \n \t \r \\ \" and \xNN.
//! Text in, request out: must not know files, terminals, connections.

use quorate_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_api::etcdserverpb::request_op::Request;
use quorate_api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::input::{Interval, parse_count, parse_lease};

/// The language in a few lines, for `--help` and for error messages.
pub const SUMMARY: &str = "  if    TARGET KEY [--prefix] OP OPERAND   TARGET: value version create mod lease; OP: = != < >
  and   ...                                another condition; all must hold
  then  put KEY VALUE [--lease ID] [--prev-kv]
        get KEY [END] [--prefix] [--from-key] [--limit N] [--rev N] [--keys-only] [--count-only]
        del KEY [END] [--prefix] [--from-key] [--prev-kv]
  else  ...                                the operations when a condition does not hold";

/// Reads a transaction.
///
/// # Errors
/// The first mistake, with its line number and what is expected there.
pub fn parse(script: &[u8]) -> Result<TxnRequest, String> {
    let text = std::str::from_utf8(script).map_err(|error| {
        let line = 1 + script[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        format!("line {line}: not UTF-8; write other bytes as \\xNN inside double quotes")
    })?;
    let mut txn = TxnRequest::default();
    let mut section = None;
    for (number, line) in text.lines().enumerate() {
        statement(line, &mut section, &mut txn)
            .map_err(|why| format!("line {}: {why}", number + 1))?;
    }
    if txn.success.is_empty() && txn.failure.is_empty() && txn.compare.is_empty() {
        return Err("it is empty; write at least `then` and an operation".to_owned());
    }
    Ok(txn)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    If,
    Then,
    Else,
}

fn statement(
    line: &str,
    section: &mut Option<Section>,
    txn: &mut TxnRequest,
) -> Result<(), String> {
    let mut words = words(line)?;
    let keyword = words
        .first()
        .filter(|word| !word.quoted)
        .map(|word| word.bytes.clone());
    let begins = match keyword.as_deref() {
        Some(b"if") => Some(Section::If),
        Some(b"then") => Some(Section::Then),
        Some(b"else") => Some(Section::Else),
        Some(b"and") if *section == Some(Section::If) => Some(Section::If),
        Some(b"and") => return Err("`and` follows a condition, after `if`".to_owned()),
        _ => None,
    };
    if let Some(next) = begins {
        let repeated = *section == Some(next) && keyword.as_deref() != Some(b"and");
        if repeated || section.is_some_and(|now| now > next) {
            return Err("`if`, `then` and `else` come once each, in this order".to_owned());
        }
        *section = Some(next);
        words.remove(0);
    }
    if words.is_empty() {
        return Ok(());
    }
    match section {
        None => Err("begin with `if` and a condition, or with `then` and an operation".to_owned()),
        Some(Section::If) => condition(words).map(|compare| txn.compare.push(compare)),
        Some(Section::Then) => operation(words).map(|op| txn.success.push(op)),
        Some(Section::Else) => operation(words).map(|op| txn.failure.push(op)),
    }
}

/// One word of a line, without its quotes.
struct Word {
    bytes: Vec<u8>,
    quoted: bool,
}

impl Word {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn words(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&next) = chars.peek() {
        if next.is_whitespace() {
            chars.next();
        } else if next == '#' {
            break;
        } else if next == '"' {
            chars.next();
            words.push(Word {
                bytes: quoted(&mut chars)?,
                quoted: true,
            });
            if chars.peek().is_some_and(|c| !c.is_whitespace()) {
                return Err("put a blank after the closing quote".to_owned());
            }
        } else {
            let mut bytes = Vec::new();
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                if c == '"' {
                    return Err("a quote inside a word; quote the whole word".to_owned());
                }
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            words.push(Word {
                bytes,
                quoted: false,
            });
        }
    }
    Ok(words)
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Vec<u8>, String> {
    const ESCAPES: &str = "use one of \\n \\t \\r \\\\ \\\" \\xNN";
    let mut bytes = Vec::new();
    loop {
        match chars.next() {
            None => return Err("the closing quote is missing on this line".to_owned()),
            Some('"') => return Ok(bytes),
            Some('\\') => match chars.next() {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('r') => bytes.push(b'\r'),
                Some(c @ ('\\' | '"')) => bytes.push(c as u8),
                Some('x') => {
                    let mut digit = || chars.next().and_then(|c| c.to_digit(16));
                    let (Some(high), Some(low)) = (digit(), digit()) else {
                        return Err(format!("\\x needs two hexadecimal digits; {ESCAPES}"));
                    };
                    bytes.push((high * 16 + low) as u8);
                }
                _ => return Err(format!("unknown escape; {ESCAPES}")),
            },
            Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn condition(words: Vec<Word>) -> Result<Compare, String> {
    const FORM: &str =
        "a condition is TARGET KEY OP OPERAND, such as `version app/lock = 0` (quote odd keys)";
    let prefix = words.iter().any(|word| is_flag(word, b"--prefix"));
    let words: Vec<Word> = words
        .into_iter()
        .filter(|word| !is_flag(word, b"--prefix"))
        .collect();
    let [target, key, op, operand] = words.as_slice() else {
        return Err(FORM.to_owned());
    };
    let result = match op.bytes.as_slice() {
        b"=" | b"==" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b"<" => CompareResult::Less,
        b">" => CompareResult::Greater,
        _ => return Err(format!("{:?} is no comparison; use = != < or >", op.text())),
    };
    let number = || {
        let why = |_| format!("{:?} is no number; {FORM}", operand.text());
        operand.text().parse::<i64>().map_err(why)
    };
    let (target, operand) = match target.bytes.as_slice() {
        b"value" => (
            CompareTarget::Value,
            TargetUnion::Value(operand.bytes.clone().into()),
        ),
        b"version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        b"create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number()?),
        ),
        b"mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        b"lease" => {
            let none = operand.bytes == b"0";
            let id = if none {
                0
            } else {
                parse_lease(&operand.text())?
            };
            (CompareTarget::Lease, TargetUnion::Lease(id))
        }
        _ => {
            let name = target.text();
            return Err(format!(
                "{name:?} is no target; use value, version, create, mod or lease"
            ));
        }
    };
    let interval = interval(&key.bytes, None, prefix, false)?;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: interval.key.into(),
        range_end: interval.range_end.into(),
        target_union: Some(operand),
    })
}

/// The flags an operation may carry, collected before the operation is known to want them.
#[derive(Default)]
struct Flags {
    seen: Vec<&'static str>,
    limit: i64,
    revision: i64,
    lease: i64,
}

impl Flags {
    fn has(&self, flag: &str) -> bool {
        self.seen.contains(&flag)
    }

    /// Refuses what was given and does not belong to the operation.
    fn only(&self, operation: &str, allowed: &[&str]) -> Result<(), String> {
        match self.seen.iter().find(|flag| !allowed.contains(flag)) {
            None => Ok(()),
            Some(flag) => Err(format!(
                "`{operation}` has no {flag}; use {}",
                allowed.join(" ")
            )),
        }
    }
}

fn is_flag(word: &Word, flag: &[u8]) -> bool {
    !word.quoted && word.bytes == flag
}

/// Takes the flags out of the words of an operation.
fn split_flags(words: Vec<Word>) -> Result<(Vec<Word>, Flags), String> {
    const BARE: [&str; 5] = [
        "--prefix",
        "--from-key",
        "--keys-only",
        "--count-only",
        "--prev-kv",
    ];
    let mut flags = Flags::default();
    let mut plain = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word.quoted || !word.bytes.starts_with(b"--") {
            plain.push(word);
            continue;
        }
        let name = word.text();
        let mut argument = |what: &str| {
            words
                .next()
                .map(|word| word.text())
                .ok_or_else(|| format!("{name} needs {what}"))
        };
        if let Some(bare) = BARE.iter().find(|bare| **bare == name) {
            flags.seen.push(bare);
        } else if name == "--limit" {
            flags.seen.push("--limit");
            flags.limit = parse_count(&argument("a number")?)?;
        } else if name == "--rev" {
            flags.seen.push("--rev");
            flags.revision = parse_count(&argument("a revision")?)?;
        } else if name == "--lease" {
            flags.seen.push("--lease");
            flags.lease = parse_lease(&argument("a lease ID")?)?;
        } else {
            return Err(format!(
                "unknown flag {name}; quote a word that begins with --"
            ));
        }
    }
    Ok((plain, flags))
}

fn operation(words: Vec<Word>) -> Result<RequestOp, String> {
    let (words, flags) = split_flags(words)?;
    let (verb, rest) = words
        .split_first()
        .ok_or("an operation begins with put, get or del")?;
    let request = match verb.bytes.as_slice() {
        b"put" => Request::RequestPut(put(rest, &flags)?),
        b"get" => Request::RequestRange(get(rest, &flags)?),
        b"del" => Request::RequestDeleteRange(del(rest, &flags)?),
        _ => {
            return Err(format!(
                "{:?} is no operation; use put, get or del",
                verb.text()
            ));
        }
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

fn put(words: &[Word], flags: &Flags) -> Result<PutRequest, String> {
    flags.only("put", &["--lease", "--prev-kv"])?;
    let [key, value] = words else {
        return Err("`put` takes a key and a value; quote what holds blanks".to_owned());
    };
    let interval = interval(&key.bytes, None, false, false)?;
    Ok(PutRequest {
        key: interval.key.into(),
        value: value.bytes.clone().into(),
        lease: flags.lease,
        prev_kv: flags.has("--prev-kv"),
        ..PutRequest::default()
    })
}

fn get(words: &[Word], flags: &Flags) -> Result<RangeRequest, String> {
    const ALLOWED: [&str; 6] = [
        "--prefix",
        "--from-key",
        "--limit",
        "--rev",
        "--keys-only",
        "--count-only",
    ];
    flags.only("get", &ALLOWED)?;
    let interval = key_and_end("get", words, flags)?;
    Ok(RangeRequest {
        key: interval.key.into(),
        range_end: interval.range_end.into(),
        limit: flags.limit,
        revision: flags.revision,
        keys_only: flags.has("--keys-only"),
        count_only: flags.has("--count-only"),
        ..RangeRequest::default()
    })
}

fn del(words: &[Word], flags: &Flags) -> Result<DeleteRangeRequest, String> {
    flags.only("del", &["--prefix", "--from-key", "--prev-kv"])?;
    let interval = key_and_end("del", words, flags)?;
    Ok(DeleteRangeRequest {
        key: interval.key.into(),
        range_end: interval.range_end.into(),
        prev_kv: flags.has("--prev-kv"),
    })
}

fn key_and_end(verb: &str, words: &[Word], flags: &Flags) -> Result<Interval, String> {
    let (prefix, from_key) = (flags.has("--prefix"), flags.has("--from-key"));
    match words {
        [key] => interval(&key.bytes, None, prefix, from_key),
        [key, end] => interval(&key.bytes, Some(&end.bytes), prefix, from_key),
        _ => Err(format!(
            "`{verb}` takes a key and perhaps a range end; quote what holds blanks"
        )),
    }
}

fn interval(
    key: &[u8],
    end: Option<&[u8]>,
    prefix: bool,
    from_key: bool,
) -> Result<Interval, String> {
    match (end, prefix, from_key) {
        (None, true, false) => Ok(Interval::prefix(key)),
        (None, false, true) => Ok(Interval::from_key(key)),
        (_, false, false) if key.is_empty() => {
            Err("the key is empty, and a key has at least one byte".to_owned())
        }
        (None, false, false) => Ok(Interval::one(key)),
        (Some(end), false, false) if end > key => Ok(Interval {
            key: key.to_vec(),
            range_end: end.to_vec(),
        }),
        (Some(_), false, false) => {
            Err("the range holds no key: its end is not after its start".to_owned())
        }
        (_, true, _) | (_, _, true) => {
            Err("choose one: a range end, --prefix, or --from-key".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why_refused(script: &str) -> String {
        parse(script.as_bytes()).expect_err(script)
    }

    #[test]
    fn a_transaction_has_conditions_and_two_branches() {
        let txn = parse(
            b"# take the lock\n\
              if version lock = 0\n\
              and value \"a key\" != \"x\\ty\\x00\"\n\
              then put lock \"worker 7\" --prev-kv\n\
              \x20    get app/ --prefix --limit 3\n\
              else\n\
              \x20    del a c\n",
        )
        .unwrap();
        assert_eq!(
            (txn.compare.len(), txn.success.len(), txn.failure.len()),
            (2, 2, 1)
        );
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::Version(0)));
        assert_eq!(&txn.compare[1].key[..], b"a key");
        let value = TargetUnion::Value(b"x\ty\0"[..].into());
        assert_eq!(txn.compare[1].target_union, Some(value));
        let Some(Request::RequestRange(range)) = &txn.success[1].request else {
            panic!("the second operation is a get: {txn:?}");
        };
        assert_eq!((&range.range_end[..], range.limit), (&b"app0"[..], 3));
        let Some(Request::RequestDeleteRange(delete)) = &txn.failure[0].request else {
            panic!("the failure branch deletes: {txn:?}");
        };
        assert_eq!(&delete.range_end[..], b"c");
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let cases = [
            ("", "empty"),
            ("put a 1", "line 1: begin with"),
            ("then\nfrob a", "line 2: \"frob\" is no operation"),
            ("then put a", "line 1: `put` takes a key and a value"),
            ("then put a b c", "line 1: `put` takes"),
            ("then put a \"b", "line 1: the closing quote"),
            ("then put a \"\\q\"", "line 1: unknown escape"),
            ("then put a \"\\x1\"", "two hexadecimal digits"),
            ("then put \"a\"b c", "blank after the closing quote"),
            ("then get a --frob", "unknown flag --frob"),
            ("then del a --limit 3", "`del` has no --limit"),
            ("then get a --limit", "--limit needs a number"),
            ("then get a --limit x", "whole number"),
            ("then get b a", "holds no key"),
            ("then get a b --prefix", "choose one"),
            ("then get \"\"", "the key is empty"),
            ("if version a", "a condition is"),
            ("if version a ~ 1", "is no comparison"),
            ("if age a = 1", "is no target"),
            ("if mod a = x", "is no number"),
            (
                "then get a\nif mod a = 1",
                "line 2: `if`, `then` and `else` come once",
            ),
            ("then get a\nthen get b", "line 2: `if`"),
            ("then get a\nand get b", "line 2: `and` follows"),
        ];
        for (script, expected) in cases {
            let why = why_refused(script);
            assert!(
                why.contains(expected),
                "{script:?} gave {why:?}, expected {expected:?}"
            );
        }
    }

    #[test]
    fn other_bytes_than_utf8_are_refused_with_their_line() {
        let why = parse(b"then get a\nput b \xff").unwrap_err();
        assert!(why.starts_with("line 2: not UTF-8"), "{why}");
    }

    #[test]
    fn a_lease_of_zero_means_none() {
        let txn = parse(b"if lease a = 0\nthen get a").unwrap();
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::Lease(0)));
    }
}
