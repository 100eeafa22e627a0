//! Golden scripts: an operator's words in, what happened out. One file per scenario, found by
//! directory; `UPDATE_GOLDENFILES=1` rewrites the output below each `---`, for review.
//!
//! ```text
//! cluster voters=3 [learners=1] [blank=1] [election-ticks=10] [append-bytes=..] ...
//! campaign 1 · tick 10 [on=1/2] [alone=yes] · settle · status [1] · log [1] · membership 1
//! deliver / drop / delay / repeat [from=1] [to=2] [kind=append] [count=1]    release    messages
//! send vote-granted from=9 to=1 term=2 ...
//! partition 1 from 2 3 · cut from=1 to=2 · heal · crash 1 [keep=2] · restart 1 [applied=3]
//! propose 1 a b · read 1 as=r · transfer 1 to=2 · abandon 1
//! change 1 voter=4 learner=2 remove=3 [context=x] [expected=5]
//! hold-disk 1 · free-disk 1 · writes 1 · persist 1 [write=3]
//! trim 1 [to=5] · take-snapshot 1 · send-snapshot 1 to=4 [report=no] [forged=2] · snapshot-failed
//! 1 to=4
//! hold-snapshots
//! ```
//! Members are numbered from 1: voters, then learners, then those that know of no membership yet. A
//! message that is delayed waits until `release`; `settle` lets all else happen that needs no time.

use crate::cluster::{Cluster, Event};
use crate::show;
use goldenscript::{Argument, Command, Context};
use quorate_raft::{
    AppendOutcome, Change, Config, Entry, EntryId, Envelope, LogIndex, MemberId, Membership,
    Message, Notice, Payload, ReadId, Repair, SnapshotMeta, Term,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Taken = (Term, SnapshotMeta, BTreeMap<LogIndex, Entry>);

#[derive(Default)]
pub struct Runner {
    cluster: Cluster,
    /// Messages that `delay` or `repeat` has put aside.
    aside: VecDeque<Envelope>,
    /// Names of reads.
    names: BTreeMap<ReadId, String>,
    /// What `take-snapshot` has kept, by member.
    taken: BTreeMap<MemberId, Taken>,
}

/// Positional arguments, and the others by key.
struct Args {
    words: VecDeque<String>,
    keys: BTreeMap<String, String>,
    /// Of a change: what each member shall be, in order.
    changes: Vec<(String, String)>,
}

impl Args {
    fn of(command: &Command) -> Self {
        let mut args = Self {
            words: VecDeque::new(),
            keys: BTreeMap::new(),
            changes: Vec::new(),
        };
        for arg in &command.args {
            match arg {
                Argument::Positional(word) => args.words.push_back(word.clone()),
                Argument::KeyValue(key, value)
                    if matches!(key.as_str(), "voter" | "learner" | "remove") =>
                {
                    args.changes.push((key.clone(), value.clone()));
                }
                Argument::KeyValue(key, value) => {
                    args.keys.insert(key.clone(), value.clone());
                }
                other => panic!("an argument of a new kind: {other}"),
            }
        }
        args
    }

    fn word(&mut self) -> Result<String> {
        self.words
            .pop_front()
            .ok_or_else(|| "an argument is missing".into())
    }

    fn id(&mut self) -> Result<MemberId> {
        Ok(MemberId(self.word()?.parse()?))
    }

    fn key(&mut self, key: &str) -> Option<String> {
        self.keys.remove(key)
    }

    fn number(&mut self, key: &str) -> Result<Option<u64>> {
        Ok(self.key(key).map(|text| text.parse()).transpose()?)
    }

    fn ids(&mut self, key: &str) -> Result<Option<Vec<MemberId>>> {
        self.key(key).map(|text| ids(&text)).transpose()
    }

    fn member(&mut self, key: &str) -> Result<MemberId> {
        let number = self
            .number(key)?
            .ok_or_else(|| format!("{key}= is missing"))?;
        Ok(MemberId(number))
    }

    fn end(self) -> Result<()> {
        if let Some(word) = self.words.front() {
            return Err(format!("what does {word} mean?").into());
        }
        match self.keys.first_key_value() {
            Some((key, _)) => Err(format!("what does {key}= mean?").into()),
            None => Ok(()),
        }
    }
}

fn ids(text: &str) -> Result<Vec<MemberId>> {
    text.split('/')
        .map(|id| Ok(MemberId(id.parse()?)))
        .collect()
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String> {
        let mut args = Args::of(command);
        let mut said = Vec::new();
        match command.name.as_str() {
            "cluster" => self.cluster(&mut args)?,
            "campaign" => self.cluster.campaign(args.id()?),
            "tick" => self.tick(&mut args)?,
            "settle" => self.cluster.settle(),
            "status" => said = self.status(&mut args),
            "log" => said = self.log(&mut args),
            "membership" => said = vec![self.membership(args.id()?)],
            "messages" => said = self.cluster.network.iter().map(show::envelope).collect(),
            "deliver" | "drop" | "delay" | "repeat" => {
                said = self.messages(command.name.as_str(), &mut args)?;
            }
            "release" => self.cluster.network.extend(self.aside.drain(..)),
            "send" => self.send(&mut args)?,
            "partition" | "cut" | "heal" => self.links(command.name.as_str(), &mut args)?,
            "crash" => {
                let id = args.id()?;
                let keep = args.number("keep")?.unwrap_or(0);
                self.cluster.crash(id, usize::try_from(keep)?);
            }
            "restart" => self.restart(&mut args)?,
            "damage" => self.damage(&mut args)?,
            "repaired" => self.cluster.repaired(args.id()?),
            "propose" => said = self.propose(&mut args)?,
            "read" => said = self.read(&mut args)?,
            "change" => said = self.change(&mut args)?,
            "transfer" => said = self.transfer(&mut args)?,
            "abandon" => self.cluster.abandon(args.id()?),
            "hold-disk" => self.cluster.member_mut(args.id()?).disk_held = true,
            "free-disk" => self.cluster.member_mut(args.id()?).disk_held = false,
            "writes" => said = self.writes(args.id()?),
            "persist" => self.persist(&mut args)?,
            "trim" => {
                let id = args.id()?;
                self.cluster
                    .trim(id, LogIndex(args.number("to")?.unwrap_or(u64::MAX)));
            }
            "take-snapshot" => said = vec![self.take_snapshot(args.id()?)],
            "send-snapshot" => said = vec![self.send_snapshot(&mut args)?],
            "hold-snapshots" => self.cluster.snapshots_held = true,
            "snapshot-failed" => {
                let (id, to) = (args.id()?, args.member("to")?);
                self.cluster.snapshot_sent(id, to, Err(()));
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        args.end()?;
        let mut lines = self.events();
        lines.extend(said);
        Ok(lines.join("\n"))
    }
}

impl Runner {
    fn cluster(&mut self, args: &mut Args) -> Result<()> {
        let mut numbers = (1..).map(MemberId);
        let mut some = |args: &mut Args, key: &str| -> Result<Vec<MemberId>> {
            let count = usize::try_from(args.number(key)?.unwrap_or(0))?;
            Ok(numbers.by_ref().take(count).collect())
        };
        let voters = some(args, "voters")?;
        let learners = some(args, "learners")?;
        let blank = some(args, "blank")?;
        let number = |args: &mut Args, key: &str, default: u64| -> Result<u64> {
            Ok(args.number(key)?.unwrap_or(default))
        };
        let config = Config {
            id: MemberId(0),
            election_ticks: u32::try_from(number(args, "election-ticks", 10)?)?,
            heartbeat_ticks: u32::try_from(number(args, "heartbeat-ticks", 2)?)?,
            seed: number(args, "seed", 1)?,
            append_bytes_max: usize::try_from(number(args, "append-bytes", 1000)?)?,
            inflight_appends_max: usize::try_from(number(args, "window", 64)?)?,
            inflight_bytes_max: usize::try_from(number(args, "window-bytes", 100_000)?)?,
            uncommitted_bytes_max: usize::try_from(number(args, "uncommitted-bytes", 100_000)?)?,
            pending_reads_max: usize::try_from(number(args, "pending-reads", 100)?)?,
            promote_lag_max: number(args, "promote-lag", 0)?,
            #[cfg(planted)]
            planted: 0,
        };
        let membership = Membership {
            learners: learners.iter().copied().collect(),
            ..Membership::of_voters(voters.iter().copied())
        };
        let base = SnapshotMeta {
            membership,
            ..SnapshotMeta::default()
        };
        for id in voters.into_iter().chain(learners) {
            self.cluster.add(
                Config {
                    id,
                    ..config.clone()
                },
                base.clone(),
            );
        }
        for id in blank {
            self.cluster.add(
                Config {
                    id,
                    ..config.clone()
                },
                SnapshotMeta::default(),
            );
        }
        Ok(())
    }

    /// Time passes for all that run, or for some; everything settles after each tick, unless
    /// `quietly=yes`.
    fn tick(&mut self, args: &mut Args) -> Result<()> {
        let ticks: u64 = args.word()?.parse()?;
        let on = args.ids("on")?;
        let alone = args.key("alone").is_some();
        for _ in 0..ticks {
            for id in on.clone().unwrap_or_else(|| self.cluster.up()) {
                self.cluster.tick(id);
            }
            if !alone {
                self.cluster.settle();
            }
        }
        Ok(())
    }

    fn messages(&mut self, what: &str, args: &mut Args) -> Result<Vec<String>> {
        let from = args.number("from")?.map(MemberId);
        let to = args.number("to")?.map(MemberId);
        let kind = args.key("kind");
        let count = args.number("count")?.unwrap_or(u64::MAX);
        let mut said = Vec::new();
        let mut kept = VecDeque::new();
        let mut chosen = VecDeque::new();
        for envelope in std::mem::take(&mut self.cluster.network) {
            let fits = from.is_none_or(|from| envelope.from == from)
                && to.is_none_or(|to| envelope.to == to)
                && kind
                    .as_deref()
                    .is_none_or(|kind| show::kind(&envelope.message) == kind)
                && (chosen.len() as u64) < count;
            if fits {
                chosen.push_back(envelope)
            } else {
                kept.push_back(envelope)
            }
        }
        self.cluster.network = kept;
        for envelope in chosen {
            let text = show::envelope(&envelope);
            match what {
                "deliver" => {
                    let events_before = self.events();
                    let arrived = self.cluster.deliver(envelope);
                    said.extend(events_before);
                    said.push(format!("{text}{}", if arrived { "" } else { " (lost)" }));
                    said.extend(self.events());
                }
                "drop" => said.push(format!("{text} (dropped)")),
                "delay" => {
                    said.push(format!("{text} (delayed)"));
                    self.aside.push_back(envelope);
                }
                _ => {
                    said.push(format!("{text} (will be repeated)"));
                    self.aside.push_back(envelope.clone());
                    self.cluster.network.push_back(envelope);
                }
            }
        }
        Ok(said)
    }

    /// Puts a message on the network that nobody has sent:
    /// `send vote-granted from=9 to=1 term=2`.
    fn send(&mut self, args: &mut Args) -> Result<()> {
        let kind = args.word()?;
        let (from, to) = (args.member("from")?, args.member("to")?);
        let term = Term(args.number("term")?.ok_or("term= is missing")?);
        let index = LogIndex(args.number("index")?.unwrap_or(0));
        let of = Term(args.number("of-term")?.unwrap_or(0));
        let commit = LogIndex(args.number("commit")?.unwrap_or(0));
        let id = EntryId { term: of, index };
        let message = match kind.as_str() {
            "vote" => Message::Vote {
                last: id,
                transfer: false,
            },
            "pre-vote" => Message::PreVote { last: id },
            "vote-granted" => Message::VoteResponse { granted: true },
            "vote-refused" => Message::VoteResponse { granted: false },
            "pre-vote-granted" => Message::PreVoteResponse { granted: true },
            "pre-vote-refused" => Message::PreVoteResponse { granted: false },
            "matched" => Message::AppendResponse {
                outcome: AppendOutcome::Matched { last: index },
            },
            "conflict" => Message::AppendResponse {
                outcome: AppendOutcome::Conflict {
                    refused: index,
                    hint: EntryId::default(),
                },
            },
            "append" => {
                let command = args
                    .key("entry")
                    .map(|text| Payload::Command(text.as_bytes().into()));
                let membership = args.ids("voters")?.map(|voters| Payload::Membership {
                    membership: Membership::of_voters(voters).into(),
                    context: Default::default(),
                });
                let entry = command.or(membership).map(|payload| Entry {
                    id: EntryId {
                        term,
                        index: index.next(),
                    },
                    payload,
                });
                Message::Append {
                    prev: id,
                    entries: entry.into_iter().collect(),
                    commit,
                }
            }
            "heartbeat" => Message::Heartbeat { commit, round: 1 },
            "heartbeat-response" => Message::HeartbeatResponse { round: index.0 },
            "read-index-response" => Message::ReadIndexResponse {
                read: ReadId(1),
                floor: Some(index),
            },
            "timeout-now" => Message::TimeoutNow,
            other => return Err(format!("unknown message {other}").into()),
        };
        self.cluster.network.push_back(Envelope {
            from,
            to,
            term,
            message,
        });
        Ok(())
    }

    fn links(&mut self, what: &str, args: &mut Args) -> Result<()> {
        match what {
            "heal" => self.cluster.cut.clear(),
            "cut" => {
                let link = (args.member("from")?, args.member("to")?);
                self.cluster.cut.insert(link);
            }
            _ => {
                let words: Vec<String> = args.words.drain(..).collect();
                let sides = words.split(|word| word == "from").map(|side| {
                    side.iter()
                        .map(|id| Ok(MemberId(id.parse()?)))
                        .collect::<Result<Vec<_>>>()
                });
                let sides = sides.collect::<Result<Vec<_>>>()?;
                for (side, other) in sides.iter().flat_map(|a| sides.iter().map(move |b| (a, b))) {
                    let links = side
                        .iter()
                        .flat_map(|x| other.iter().map(move |y| (*x, *y)));
                    self.cluster.cut.extend(links.filter(|_| side != other));
                }
            }
        }
        Ok(())
    }

    fn restart(&mut self, args: &mut Args) -> Result<()> {
        let id = args.id()?;
        let base = self.cluster.member(id).disk.base.last.index.0;
        let applied = args.number("applied")?.unwrap_or(base);
        Ok(self.cluster.start(id, LogIndex(applied))?)
    }

    /// `damage 2 from=5`: of what was durable, 5 and all behind it are gone at the restart;
    /// `damage 2 state`: the state machine is.
    fn damage(&mut self, args: &mut Args) -> Result<()> {
        let id = args.id()?;
        match args.number("from")? {
            Some(from) => self.cluster.start_damaged(id, LogIndex(from), Repair::Log),
            None => {
                let what = args.word()?;
                assert_eq!(what, "state", "damage of what?");
                self.cluster.start_damaged(id, LogIndex(0), Repair::State);
            }
        }
        Ok(())
    }

    fn propose(&mut self, args: &mut Args) -> Result<Vec<String>> {
        let id = args.id()?;
        let commands: Vec<String> = args.words.drain(..).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        Ok(match self.cluster.propose(id, &commands) {
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("{id}: refused: {error}")],
        })
    }

    fn read(&mut self, args: &mut Args) -> Result<Vec<String>> {
        let id = args.id()?;
        let name = args.key("as").ok_or("as= is missing")?;
        Ok(match self.cluster.read(id) {
            Ok(read) => {
                self.names.insert(read, name);
                Vec::new()
            }
            Err(error) => vec![format!("{id}: read {name} refused: {error}")],
        })
    }

    fn change(&mut self, args: &mut Args) -> Result<Vec<String>> {
        let id = args.id()?;
        let context = args.key("context").unwrap_or_default();
        let current = self.cluster.node(id).status().membership_index;
        let expected = args.number("expected")?.map_or(current, LogIndex);
        let mut changes = Vec::new();
        for (what, member) in std::mem::take(&mut args.changes) {
            let member = MemberId(member.parse()?);
            changes.push(match what.as_str() {
                "voter" => Change::AddVoter(member),
                "learner" => Change::AddLearner(member),
                _ => Change::Remove(member),
            });
        }
        Ok(
            match self.cluster.change(id, &changes, expected, &context) {
                Ok(_) => Vec::new(),
                Err(error) => vec![format!("{id}: refused: {error}")],
            },
        )
    }

    fn transfer(&mut self, args: &mut Args) -> Result<Vec<String>> {
        let (id, to) = (args.id()?, args.member("to")?);
        Ok(match self.cluster.transfer(id, to) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("{id}: refused: {error}")],
        })
    }

    fn persist(&mut self, args: &mut Args) -> Result<()> {
        let id = args.id()?;
        let position = match args.number("write")? {
            None => 0,
            Some(name) => {
                let member = self.cluster.member(id);
                let mut unreported = member.writes.iter().filter(|write| !write.reported);
                unreported
                    .position(|write| write.persist.id.0 == name)
                    .ok_or("no such write")?
            }
        };
        if self.cluster.unreported(id) == 0 {
            return Err(format!("member {id} has nothing to write").into());
        }
        self.cluster.complete(id, position);
        Ok(())
    }

    fn take_snapshot(&mut self, id: MemberId) -> String {
        let (meta, data) = self.cluster.newest_snapshot(id);
        let text = format!(
            "{id}: snapshot up to {}, {}",
            meta.last,
            show::members(&meta.membership)
        );
        self.taken
            .insert(id, (self.cluster.node(id).term(), meta, data));
        text
    }

    /// Sends the snapshot taken earlier, or one of now.
    fn send_snapshot(&mut self, args: &mut Args) -> Result<String> {
        let (id, to) = (args.id()?, args.member("to")?);
        let (term, mut meta, data) = match self.taken.get(&id) {
            Some(taken) => taken.clone(),
            None => {
                let (meta, data) = self.cluster.newest_snapshot(id);
                (self.cluster.node(id).term(), meta, data)
            }
        };
        // A snapshot that claims another term for its last entry.
        if let Some(term) = args.number("forged")? {
            meta.last.term = Term(term);
        }
        let outcome = self.cluster.install(id, to, term, &meta, &data);
        if args.key("report").is_none() && self.cluster.is_up(id) {
            self.cluster.snapshot_sent(id, to, Ok(meta.last.index));
        }
        Ok(format!("{to}: snapshot up to {} from {id}: {outcome:?}", meta.last).to_lowercase())
    }

    fn chosen(&self, args: &mut Args) -> Vec<MemberId> {
        match args.id() {
            Ok(id) => vec![id],
            Err(_) => self.cluster.up(),
        }
    }

    fn status(&self, args: &mut Args) -> Vec<String> {
        let chosen = self.chosen(args);
        chosen
            .iter()
            .map(|id| show::status(&self.cluster.node(*id).status()))
            .collect()
    }

    fn log(&self, args: &mut Args) -> Vec<String> {
        let chosen = self.chosen(args);
        chosen
            .iter()
            .map(|id| show::log(*id, self.cluster.member(*id)))
            .collect()
    }

    fn membership(&self, id: MemberId) -> String {
        format!(
            "{id}: {}",
            show::members(self.cluster.node(id).membership())
        )
    }

    fn writes(&self, id: MemberId) -> Vec<String> {
        self.cluster
            .member(id)
            .writes
            .iter()
            .map(|write| show::write(id, write))
            .collect()
    }

    fn events(&mut self) -> Vec<String> {
        let names = &self.names;
        let fresh: BTreeSet<_> = names.keys().copied().collect();
        self.cluster
            .events
            .drain(..)
            // That a leader follows itself goes without saying.
            .filter(|event| {
                !matches!(event, Event::Notice(id, Notice::LeaderChanged { leader: Some(leader), .. }) if id == leader)
            })
            .map(|event: Event| {
                show::event(&event, |read| {
                    if fresh.contains(&read) {
                        names[&read].clone()
                    } else {
                        format!("{}", read.0)
                    }
                })
            })
            .collect()
    }
}

/// Runs every script, and names all that fail.
#[test]
fn every_script_says_what_it_said() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .expect("the scripts are there")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    paths.sort();
    let only = std::env::var("QUORATE_SCRIPT").ok();
    let mut failed = Vec::new();
    for path in paths {
        let name = path
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .to_string();
        if only
            .as_ref()
            .is_some_and(|only| !name.contains(only.as_str()))
        {
            continue;
        }
        let ran = std::panic::catch_unwind(|| goldenscript::run(&mut Runner::default(), &path));
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{name}: {error}")),
            Err(_) => failed.push(format!("{name}: see above")),
        }
    }
    assert!(
        failed.is_empty(),
        "scripts differ from their output; if that is right, say why and run again with \
         UPDATE_GOLDENFILES=1:\n{}",
        failed.join("\n")
    );
}
