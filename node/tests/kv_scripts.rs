//! Golden scripts of the key-value semantics: `scripts/kv/*.txt`.
//!
//! A script is written in the words of a client; each command goes the way a request goes: static
//! validation, the command's bytes, apply on the store or a read on a reader.
//!
//! ```text
//! put KEY VALUE [lease=N] [prev] [ignore-value] [ignore-lease]
//! range KEY [prefix|from|to=END] [limit=N] [rev=N] [sort=key|version|create|mod|value]
//!       [order=none|asc|desc] [keys-only] [count-only] [min-mod=N] [max-mod=N] [min-create=N]
//!       [max-create=N] [serializable]
//! del KEY [prefix|from|to=END] [prev]
//! > txn {COMPARE; COMPARE} {OP; OP} {OP; OP}     OP: put, range, del, txn, empty
//!       COMPARE: version|create|mod|value|lease KEY [prefix|from|to=END] =|!=|>|< OPERAND
//! compact REV        prune (the background half)       restart        max-ops N
//! hash [REV]         status                             members and member-… (see `members`)
//! ```
//!
//! A token `''` is an empty text; `\0` in a key is a zero byte.

use bytes::Bytes;
use goldenscript::Argument;
use quorate_node::env::real::RealDisk;
use quorate_node::kv::{
    self, Applied, ClusterInfo, Command, Compact, Compare, CompareResult, CompareTarget,
    DeleteRange, Error, Interval, KeyValue, LeaseId, Member, MemberOp, Members, Op, Pruned, Put,
    RangeRequest, RangeResult, RequestId, Response, Revision, SortOrder, SortTarget, Store, Txn,
    TxnOp, TxnOpResult, TxnResult, validate,
};
use quorate_node::storage::revision_log::Options;
use quorate_raft::{EntryId, LogIndex, MemberId, Membership, Term};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::sync::Arc;
use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn StdError>>;

/// A store in a directory of its own.
struct Runner {
    directory: TempDir,
    /// None only while it restarts.
    store: Option<Store>,
    index: u64,
    ops_max: usize,
}

fn open(directory: &TempDir) -> Store {
    let options = Options {
        background: false,
        ..Options::default()
    };
    Store::open(Arc::new(RealDisk::new(directory.path())), "log", options)
        .expect("opens")
        .0
}

impl Runner {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let store = Some(open(&directory));
        Self {
            directory,
            store,
            index: 0,
            ops_max: 128,
        }
    }

    fn store(&mut self) -> &mut Store {
        self.store
            .as_mut()
            .expect("the store is open between commands")
    }

    fn next_entry(&mut self) -> EntryId {
        self.index += 1;
        EntryId {
            term: Term(1),
            index: LogIndex(self.index),
        }
    }

    fn command(&self, op: Op) -> Arc<[u8]> {
        Command {
            request: RequestId {
                member: 1,
                counter: self.index,
            },
            op,
        }
        .encode()
    }

    fn apply(&mut self, op: Op) -> Applied {
        let entry = self.next_entry();
        let command = self.command(op);
        let store = self.store();
        let (_, applied) = store
            .apply(entry, &command)
            .expect("no trouble with the disk");
        store.end_batch();
        applied
    }

    fn apply_raft(&mut self, op: MemberOp, membership: &Membership) -> Applied {
        let entry = self.next_entry();
        let command = self.command(Op::Member(op));
        let store = self.store();
        let applied = store
            .apply_membership(entry, membership, &command)
            .expect("no trouble");
        store.end_batch();
        applied.expect("there was a context").1
    }

    fn restart(&mut self) {
        let index = LogIndex(self.index);
        let store = self.store();
        let before = (store.applied(), store.digest(), store.membership_index());
        store.log().allow_durable(index);
        while store.log().flush_step().expect("flushes")
            == quorate_node::storage::revision_log::Flushed::Worked
        {}
        self.store = None;
        let store = open(&self.directory);
        let after = (store.applied(), store.digest(), store.membership_index());
        assert_eq!(after, before, "a restart must change nothing");
        self.store = Some(store);
    }

    fn prune(&mut self) -> String {
        let mut compactor = self.store().compactor();
        loop {
            match compactor.step(1 << 20).expect("no trouble with the disk") {
                Pruned::Worked => {}
                Pruned::Idle => return "pruned\n".to_owned(),
                Pruned::Waiting => return "pruned, the log waits\n".to_owned(),
            }
        }
    }

    fn execute(&mut self, words: &[String]) -> Outcome<String> {
        let rest = &words[1..];
        Ok(match words[0].as_str() {
            "put" | "del" => {
                let op = match parse_op(words)? {
                    TxnOp::Put(put) => validate::put(&put).map(|()| Op::Put(put)),
                    TxnOp::DeleteRange(delete) => {
                        validate::delete_range(&delete).map(|()| Op::DeleteRange(delete))
                    }
                    other => return Err(format!("not a write: {other:?}").into()),
                };
                match op {
                    Ok(op) => show_applied(&self.apply(op)),
                    Err(error) => format!("refused: {error}\n"),
                }
            }
            "range" => {
                let TxnOp::Range(request) = parse_op(words)? else {
                    return Err("not a range".into());
                };
                let reader = self.store().reader();
                match validate::range(&request).and_then(|()| reader.range(&request)) {
                    Ok(result) => show_range(&result),
                    Err(error) => format!("refused: {error}\n"),
                }
            }
            "txn" => self.txn(&parse_txn(&tokens(&rest.join(" ")), &mut 0)?),
            "compact" => {
                let revision = Revision(rest.first().ok_or("which revision?")?.parse()?);
                show_applied(&self.apply(Op::Compact(Compact {
                    revision,
                    physical: false,
                })))
            }
            "prune" => self.prune(),
            "restart" => {
                self.restart();
                String::new()
            }
            "max-ops" => {
                self.ops_max = rest.first().ok_or("how many?")?.parse()?;
                String::new()
            }
            "hash" => {
                let revision = rest.first().map_or(Ok(0), |text| text.parse())?;
                match self.store().reader().hash_kv(Revision(revision)) {
                    Ok(hash) => format!(
                        "hash {:08x} of revision {}, compacted {}\n",
                        hash.hash, hash.hash_revision, hash.compact_revision
                    ),
                    Err(error) => format!("refused: {error}\n"),
                }
            }
            "status" => {
                let reader = self.store().reader();
                format!(
                    "revision {}, compacted {}, keys {}\n",
                    reader.revision(),
                    reader.compact_revision(),
                    reader.keys_total()
                )
            }
            name if name.starts_with("member") => self.members(name, rest)?,
            "bootstrap" => self.members("bootstrap", rest)?,
            name => return Err(format!("no such command: {name}").into()),
        })
    }

    /// As the server does: what only reads takes no log entry.
    fn txn(&mut self, txn: &Txn) -> String {
        if let Err(error) = validate::txn(txn, self.ops_max) {
            return format!("refused: {error}\n");
        }
        if txn.is_read_only() {
            return match self.store().reader().txn(txn) {
                Ok((revision, result)) => {
                    format!("read only, revision {revision}, {}", show_txn(&result, 0))
                }
                Err(error) => format!("refused: {error}\n"),
            };
        }
        show_applied(&self.apply(Op::Txn(txn.clone())))
    }

    /// `bootstrap ID URL…`, `members`, `member-add ID URL [learner]`, `member-promote ID`,
    /// `member-remove ID`, `member-update ID URL…`, `member-publish ID NAME URL…`. The first three
    /// changes are checked, then go as the context of a Raft membership entry.
    fn members(&mut self, name: &str, rest: &[String]) -> Outcome<String> {
        let id = rest
            .first()
            .map(|id| u64::from_str_radix(id, 16))
            .transpose()?
            .unwrap_or(0);
        let urls: Vec<String> = rest
            .iter()
            .skip(1)
            .filter(|word| *word != "learner")
            .cloned()
            .collect();
        let op = match name {
            "members" => {
                let members = self.store().reader().members();
                let removed: Vec<_> = members.removed.iter().map(|id| format!("{id:x}")).collect();
                return Ok(format!(
                    "{}removed: {removed:?}\n",
                    show_members(&members.list())
                ));
            }
            "bootstrap" => MemberOp::Bootstrap {
                cluster: ClusterInfo {
                    uuid: [7; 16],
                    id: 0xc1,
                },
                members: vec![Member {
                    id,
                    peer_urls: urls,
                    ..Member::default()
                }],
            },
            "member-add" => MemberOp::Add(Member {
                id,
                peer_urls: urls,
                learner: rest.iter().any(|word| word == "learner"),
                ..Member::default()
            }),
            "member-promote" => MemberOp::Promote { id },
            "member-remove" => MemberOp::Remove { id },
            "member-update" => MemberOp::Update {
                id,
                peer_urls: urls,
            },
            "member-publish" => MemberOp::Publish {
                id,
                name: urls[0].clone(),
                client_urls: urls[1..].to_vec(),
            },
            _ => return Err(format!("no such command: {name}").into()),
        };
        let members = self.store().reader().members();
        if let Err(error) = members.check(&op) {
            return Ok(format!("refused: {error}\n"));
        }
        if !matches!(
            op,
            MemberOp::Add(_) | MemberOp::Promote { .. } | MemberOp::Remove { .. }
        ) {
            return Ok(show_applied(&self.apply(Op::Member(op))));
        }
        let membership = after(&members, &op, MemberId(id));
        Ok(show_applied(&self.apply_raft(op, &membership)))
    }
}

/// Raft's membership after a change.
fn after(members: &Members, op: &MemberOp, id: MemberId) -> Membership {
    let mut membership = Membership::default();
    for member in members.members.values() {
        let set = if member.learner {
            &mut membership.learners
        } else {
            &mut membership.voters
        };
        set.insert(MemberId(member.id));
    }
    membership.learners.remove(&id);
    membership.voters.remove(&id);
    match op {
        MemberOp::Add(member) if member.learner => membership.learners.insert(id),
        MemberOp::Remove { .. } => false,
        _ => membership.voters.insert(id),
    };
    membership
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Outcome<String> {
        // After `>` the name is the whole line.
        let mut words: Vec<String> = command.name.split_whitespace().map(str::to_owned).collect();
        for argument in &command.args {
            words.push(match argument {
                Argument::KeyValue(key, value) => format!("{key}={value}"),
                Argument::Positional(value) => value.clone(),
                other => other.to_string(),
            });
        }
        self.execute(&words)
    }
}

/// Splits the text of a txn: braces and semicolons stand alone.
fn tokens(text: &str) -> Vec<String> {
    let mut spaced = String::new();
    for character in text.chars() {
        match character {
            '{' | '}' | ';' => {
                let _ = write!(spaced, " {character} ");
            }
            _ => spaced.push(character),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

fn bytes(word: &str) -> Bytes {
    let text = if word == "''" { "" } else { word };
    Bytes::from(text.replace("\\0", "\0").into_bytes())
}

/// `{ item ; item }` from `at` on, each item as its words.
fn block(tokens: &[String], at: &mut usize) -> Outcome<Vec<Vec<String>>> {
    if tokens.get(*at).map(String::as_str) != Some("{") {
        return Err(format!("expected {{ at token {at}").into());
    }
    *at += 1;
    let (mut items, mut item, mut depth) = (Vec::new(), Vec::new(), 0);
    loop {
        let token = tokens.get(*at).ok_or("a } is missing")?;
        *at += 1;
        match token.as_str() {
            "}" if depth == 0 => break,
            ";" if depth == 0 => items.push(std::mem::take(&mut item)),
            other => {
                depth += i32::from(other == "{") - i32::from(other == "}");
                item.push(token.clone());
            }
        }
    }
    if !item.is_empty() {
        items.push(item);
    }
    Ok(items)
}

fn parse_txn(tokens: &[String], at: &mut usize) -> Outcome<Txn> {
    let compares = block(tokens, at)?;
    let compare = compares
        .iter()
        .map(|words| parse_compare(words))
        .collect::<Outcome<_>>()?;
    let mut branch = || -> Outcome<Vec<TxnOp>> {
        block(tokens, at)?
            .iter()
            .map(|words| parse_op(words))
            .collect()
    };
    Ok(Txn {
        compare,
        success: branch()?,
        failure: branch()?,
    })
}

fn parse_compare(words: &[String]) -> Outcome<Compare> {
    let operator = words
        .iter()
        .position(|word| ["=", "!=", ">", "<", "?"].contains(&word.as_str()))
        .ok_or("a compare needs an operator")?;
    let (interval, left) = parse_interval(&words[1..operator])?;
    if let Some(word) = left.first() {
        return Err(format!("unknown word in a compare: {word}").into());
    }
    let operand = words
        .get(operator + 1)
        .ok_or("a compare needs an operand")?;
    let target = match words[0].as_str() {
        "version" => CompareTarget::Version(operand.parse()?),
        "create" => CompareTarget::Create(Revision(operand.parse()?)),
        "mod" => CompareTarget::Mod(Revision(operand.parse()?)),
        "lease" => CompareTarget::Lease(LeaseId(operand.parse()?)),
        "value" => CompareTarget::Value(bytes(operand)),
        "unknown" => CompareTarget::Unknown,
        other => return Err(format!("unknown compare target: {other}").into()),
    };
    let result = match words[operator].as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => CompareResult::Unknown,
    };
    Ok(Compare {
        interval,
        target,
        result,
    })
}

/// The interval at the front, and the words that say something else.
fn parse_interval(words: &[String]) -> Outcome<(Interval, Vec<&str>)> {
    let key = bytes(words.first().ok_or("a key is missing")?);
    let mut interval = Interval::Key(key.clone());
    let mut left = Vec::new();
    for word in &words[1..] {
        match word.split_once('=').unwrap_or((word, "")) {
            ("prefix", _) => interval = Interval::prefix(key.clone()),
            ("from", _) => interval = Interval::from_wire(key.clone(), Bytes::from_static(b"\0")),
            ("to", end) => interval = Interval::from_wire(key.clone(), bytes(end)),
            _ => left.push(word.as_str()),
        }
    }
    Ok((interval, left))
}

fn parse_op(words: &[String]) -> Outcome<TxnOp> {
    match words[0].as_str() {
        "put" => parse_put(&words[1..]),
        "range" => parse_range(&words[1..]),
        "del" => {
            let (interval, left) = parse_interval(&words[1..])?;
            Ok(TxnOp::DeleteRange(DeleteRange {
                interval,
                prev_kv: left.contains(&"prev"),
            }))
        }
        "txn" => Ok(TxnOp::Txn(parse_txn(&words[1..], &mut 0)?)),
        "empty" => Ok(TxnOp::Empty),
        other => Err(format!("unknown operation: {other}").into()),
    }
}

fn parse_put(words: &[String]) -> Outcome<TxnOp> {
    let [key, value, options @ ..] = words else {
        return Err("put KEY VALUE".into());
    };
    let mut put = Put {
        key: bytes(key),
        value: bytes(value),
        ..Put::default()
    };
    for word in options {
        match word.split_once('=').unwrap_or((word, "")) {
            ("lease", id) => put.lease = LeaseId(id.parse()?),
            ("prev", _) => put.prev_kv = true,
            ("ignore-value", _) => put.ignore_value = true,
            ("ignore-lease", _) => put.ignore_lease = true,
            _ => return Err(format!("unknown option of put: {word}").into()),
        }
    }
    Ok(TxnOp::Put(put))
}

fn parse_range(words: &[String]) -> Outcome<TxnOp> {
    let (interval, options) = parse_interval(words)?;
    let mut request = RangeRequest::new(interval);
    for word in options {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<i64>();
        match name {
            "limit" => request.limit = number()?,
            "rev" => request.revision = Revision(number()?),
            "keys-only" => request.keys_only = true,
            "count-only" => request.count_only = true,
            "serializable" => request.serializable = true,
            "min-mod" => request.min_mod_revision = Revision(number()?),
            "max-mod" => request.max_mod_revision = Revision(number()?),
            "min-create" => request.min_create_revision = Revision(number()?),
            "max-create" => request.max_create_revision = Revision(number()?),
            "order" => {
                let names = ["none", "asc", "desc"];
                let number = names.iter().position(|n| *n == value).unwrap_or(99);
                request.sort_order = SortOrder::from_wire(i32::try_from(number)?);
            }
            "sort" => {
                let names = ["key", "version", "create", "mod", "value"];
                let number = names.iter().position(|n| *n == value).unwrap_or(99);
                request.sort_target = SortTarget::from_wire(i32::try_from(number)?);
            }
            _ => return Err(format!("unknown option of range: {word}").into()),
        }
    }
    Ok(TxnOp::Range(request))
}

fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "''".to_owned()
    } else {
        bytes.escape_ascii().to_string()
    }
}

fn show_kv(kv: &KeyValue) -> String {
    let mut text = format!(
        "{} = {} (create {}, mod {}, version {}",
        show(&kv.key),
        show(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    );
    if kv.lease != LeaseId(0) {
        let _ = write!(text, ", lease {}", kv.lease);
    }
    text.push(')');
    text
}

fn show_range(result: &RangeResult) -> String {
    let more = if result.more { ", more" } else { "" };
    let mut text = format!(
        "count {}{more}, revision {}\n",
        result.count, result.revision
    );
    for kv in &result.kvs {
        let _ = writeln!(text, "  {}", show_kv(kv));
    }
    text
}

fn show_previous(text: &mut String, kvs: &[KeyValue]) {
    for kv in kvs {
        let _ = writeln!(text, "  was {}", show_kv(kv));
    }
}

fn show_op(result: &TxnOpResult, depth: usize) -> String {
    match result {
        TxnOpResult::Range(result) => format!("range: {}", show_range(result)),
        TxnOpResult::Put { revision, result } => {
            let mut text = format!("put, revision {revision}\n");
            show_previous(&mut text, result.prev_kv.as_slice());
            text
        }
        TxnOpResult::DeleteRange { revision, result } => {
            let mut text = format!("deleted {}, revision {revision}\n", result.deleted);
            show_previous(&mut text, &result.prev_kvs);
            text
        }
        TxnOpResult::Txn(result) => show_txn(result, depth),
    }
}

fn show_txn(result: &TxnResult, depth: usize) -> String {
    let mut text = if result.succeeded {
        "succeeded\n"
    } else {
        "failed\n"
    }
    .to_owned();
    for response in &result.responses {
        for line in show_op(response, depth + 1).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn show_members(members: &[Member]) -> String {
    let mut text = String::new();
    for member in members {
        let role = if member.learner { "learner" } else { "voter" };
        let name = show(member.name.as_bytes());
        let (peer, client) = (&member.peer_urls, &member.client_urls);
        let _ = writeln!(
            text,
            "{:x} {role} name {name} peer {peer:?} client {client:?}",
            member.id
        );
    }
    text
}

fn show_applied(applied: &Applied) -> String {
    let revision = applied.revision;
    match &applied.result {
        Err(error) => format!("refused: {error}\n"),
        Ok(Response::Done) => "done\n".to_owned(),
        Ok(Response::Compact) => format!("compacted, revision {revision}\n"),
        Ok(Response::Put(result)) => {
            let mut text = format!("put, revision {revision}\n");
            show_previous(&mut text, result.prev_kv.as_slice());
            text
        }
        Ok(Response::DeleteRange(result)) => {
            let mut text = format!("deleted {}, revision {revision}\n", result.deleted);
            show_previous(&mut text, &result.prev_kvs);
            text
        }
        Ok(Response::Txn(result)) => format!("revision {revision}, {}", show_txn(result, 0)),
        Ok(Response::Members(members)) => show_members(members),
    }
}

/// The name of every refusal is printed, so each can stand in a script.
#[test]
fn every_refusal_reads_as_a_sentence_without_a_full_stop() {
    for error in [Error::KeyNotProvided, Error::NoSpace, Error::TooManyOps] {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
    }
    assert!(kv::Error::KeyNotFound.is_deterministic());
}

#[test]
fn scripts_of_the_key_value_semantics_hold() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts/kv");
    let mut scripts: Vec<_> = std::fs::read_dir(directory)
        .expect("the scripts are part of the source")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(
        scripts.len() >= 25,
        "only {} scripts were found",
        scripts.len()
    );
    for script in scripts {
        println!("{}", script.display());
        goldenscript::run(&mut Runner::new(), &script).expect("the script reads and runs");
    }
}
