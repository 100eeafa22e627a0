//! Golden plan scripts: commands set the world up or move it on, the planner's answers follow
//! `---`.
//!
//! | Command | What it does |
//! |---|---|
//! | `create N` | a new object that wants N members |
//! | `template [bad=yes]` | from now on the platform has templates, and this is a new one |
//! | `spec key=value…` | edits it: `replicas`, `size` (GiB), `paused`, `hibernate`, `retain`, `delete` |
//! | `sizes HOW` | volumes have sizes; how they grow: `online`, `remounted`, `stubborn`, `refused`, … |
//! | `forget` | somebody else deletes the set and leaves its lives alone |
//! | `orphans yes` or `no` | the lives of a set that was deleted stay alone; the new set takes them over |
//! | `run` | passes until nothing happens, without output |
//! | `until STEP` | passes until the next step has that name, which is not taken |
//! | `plan` | prints one pass, takes nothing |
//! | `step [times=2]` | prints one pass and takes its step, twice if the first reply was lost |
//! | `steps N` | the same N times |
//! | `kill S`, `wipe S [stamp=yes]`, `drop S` | ends a process; empties a directory; removes a volume |
//! | `cut S…`, `part S…`, `heal` | nodes we cannot reach; nor can the others; all can be reached |
//! | `lag`, `wait MS` | the learner lags behind; time passes |
//! | `recover [from=S] [epoch=N] [force=yes]` | a human asks for the recovery from a lost quorum |
//! | `ask lead slot=S token=T`, `ask replace slot=S id=N`, `ask abort id=I` | a human asks for one thing |
//! | `behind S`, `stick S` | its log ends early; what is stopped there does not end before `heal` |
//! | `strand S`, `jam`, `unjam` | the machine of a volume is gone; the leader refuses to hand over |
//! | `intrude [S]`, `expel S` | somebody else adds a learner; removes the member in a slot |
//! | `orphan` | somebody deletes the set and leaves what runs in it |
//! | `lead SLOT`, `shrink N` | moves leadership; somebody else lowers the number of slots |
//! | `settings DIGEST`, `deaf S [says=WHY]` | other settings to take while running; that slot does not take any before `heal` |
//! | `brought missing\|good` | certificates of peers that somebody else keeps |
//! | `remember`, `stale`, `fresh` | keeps the present membership; serves the kept one; no longer |

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{Command, Context, Runner};
use quorate_operator::certificates::{Brought, Encryption, Problem, Use, UseView};
use quorate_operator::crd::{
    ANNOTATION_ABORT_OPERATION, ANNOTATION_REPLACE_MEMBER, ANNOTATION_TRANSFER_LEADER,
};
use quorate_operator::desired::{
    Asks, Once, RecoverRequest, RepairPolicy, ReplaceRequest, VolumePolicy,
};
use quorate_operator::ids::{MemberId, Slot};
use quorate_operator::observed::{MembershipView, Role, Seen};
use quorate_operator::plan::{Latch, Plan, Step};
use quorate_operator::quantity::show_bytes;
use quorate_operator::record::OperationKind;

use crate::world::{Growing, World};

/// The world, and a membership remembered to be served again.
struct Script(World, Option<MembershipView>);

#[expect(clippy::too_many_lines, reason = "one arm per step")]
fn show(step: &Step) -> String {
    match step {
        Step::Latch(Latch::Identity { bootstrap, .. }) => {
            format!(
                "latch identity slot={} member={}",
                bootstrap.slot, bootstrap.member
            )
        }
        Step::Latch(Latch::Issued(latch)) => {
            let volume = latch.volume.as_ref().map_or("none", |uid| uid.0.as_str());
            format!("latch issued volume={volume}")
        }
        Step::Latch(Latch::Recovered { epoch, .. }) => format!("latch recovered epoch={epoch}"),
        Step::WriteRecovery(recovery) => {
            let (slot, epoch) = (recovery.slot, recovery.new_epoch);
            let mut text = format!(
                "write-recovery slot={slot} member={} epoch={epoch} last={}",
                recovery.member, recovery.last_index
            );
            for words in &recovery.evidence {
                let _ = write!(text, "\n      {words}");
            }
            text
        }
        Step::ClearRecovery { token, .. } => format!("clear-recovery {token}"),
        Step::NoteRequest { value, result, .. } => format!("note-request {value}: {result}"),
        Step::DropRequest { annotation, value } => format!("drop-request {annotation}={value}"),
        Step::Recover { slot, epoch, .. } => format!("recover slot={slot} epoch={epoch}"),
        Step::Latch(Latch::Done { epoch, .. }) => format!("latch done epoch={epoch}"),
        Step::WriteIntent(operation) => {
            let mut text = format!("write-intent {}", operation.kind.name());
            if let Some(slot) = operation.slot() {
                let _ = write!(text, " slot={slot}");
            }
            if let OperationKind::ExpandVolumes(expand) = &operation.kind {
                let size = show_bytes(expand.bytes);
                let _ = write!(text, " to {size} slots={}", expand.slots);
            }
            if let Some(newcomer) = operation.newcomer() {
                let _ = write!(
                    text,
                    " new={} life={}",
                    newcomer.member, newcomer.incarnation
                );
                if let Some(directory) = &newcomer.directory {
                    let _ = write!(text, " directory={directory}");
                }
            }
            text
        }
        Step::ClearIntent {
            outcome, backoff, ..
        } => {
            let pause = if backoff.is_some() { " backoff" } else { "" };
            format!("clear-intent {outcome:?}{pause}")
        }
        Step::EnsureVolume { stamp, adopt } => match adopt {
            Some(uid) => format!("ensure-volume {stamp} adopt={uid}"),
            None => format!("ensure-volume {stamp}"),
        },
        Step::DeleteVolume { slot, uid } => format!("delete-volume slot={slot} uid={uid}"),
        Step::ReleaseVolume { slot, uid } => format!("release-volume slot={slot} uid={uid}"),
        Step::SetSlots { count, was } => {
            format!(
                "set-slots {} -> {count}",
                was.map_or("none".to_owned(), |was| was.to_string())
            )
        }
        Step::ResizeVolume { slot, uid, bytes } => {
            format!(
                "resize-volume slot={slot} uid={uid} to {}",
                show_bytes(*bytes)
            )
        }
        Step::StopSlot { slot, uid, asking } => {
            let asking = asking.map_or_else(String::new, |id| format!(" asking={id}"));
            format!("stop-slot {slot} uid={uid}{asking}")
        }
        Step::LabelSlot { slot, role, .. } => format!("label-slot {slot} role={role:?}"),
        Step::RestartSlot { slot, uid } => format!("restart-slot {slot} uid={uid}"),
        Step::Bootstrap { slot, member, .. } => format!("bootstrap slot={slot} member={member}"),
        Step::MemberAdd {
            slot,
            member,
            expected,
        } => {
            format!("member-add slot={slot} member={member} expected={expected}")
        }
        Step::Join {
            slot,
            member,
            seeds,
            ..
        } => {
            let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
            format!("join slot={slot} member={member} seeds={}", seeds.join(","))
        }
        Step::Promote { member, expected } => format!("promote {member} expected={expected}"),
        Step::TransferLeader { from, to } => format!("transfer-leader {from} -> {to}"),
        Step::MemberRemove { member, expected } => {
            format!("member-remove {member} expected={expected}")
        }
        other => other.name().to_owned(),
    }
}

fn print(plan: &Plan) -> String {
    let mut out = String::new();
    for verdict in &plan.verdicts {
        let answer = if verdict.passed { "ok" } else { "no" };
        let _ = writeln!(out, "guard {}: {answer}, {}", verdict.guard, verdict.why);
    }
    for note in &plan.notes {
        let _ = writeln!(out, "note  {}: {}", note.reason.name(), note.message);
    }
    match &plan.step {
        Some(step) => drop(writeln!(out, "step  {} (rule {})", show(step), plan.rule)),
        None => drop(writeln!(
            out,
            "none  {:?} (rule {})",
            plan.requeue, plan.rule
        )),
    }
    out
}

impl Script {
    fn step(&mut self, times: usize) -> String {
        self.0.settle();
        let decided = self.0.pass();
        let mut out = print(&decided);
        for _ in 0..decided.step.as_ref().map_or(0, |_| times) {
            if let Some(Err(error)) = decided.step.as_ref().map(|step| self.0.apply(step)) {
                let _ = writeln!(out, "error {error}");
            }
        }
        if decided.step.is_none() {
            self.0.now += 1_000;
        }
        self.0.check();
        out
    }

    fn until(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        for _ in 0..500 {
            self.0.settle();
            let decided = self.0.pass();
            match decided.step {
                Some(step) if step.name() == name => return Ok(()),
                Some(step) => drop(self.0.apply(&step)),
                None => self.0.now += 1_000,
            }
        }
        Err(format!("no step {name} within 500 passes").into())
    }

    /// A request for one thing, as by annotation: `ask lead slot=2 token=a`.
    fn ask(&mut self, what: &str, keyed: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
        let value = |key: &str| keyed.iter().find(|(found, _)| *found == key);
        let value = |key: &str| value(key).map(|(_, value)| *value);
        let number = |key: &str| value(key).unwrap_or("0").parse::<u32>();
        let slot = Slot(number("slot")?);
        let (annotation, text, asks) = match what {
            "lead" => {
                let token = value("token").unwrap_or("a");
                (
                    ANNOTATION_TRANSFER_LEADER,
                    format!("to={slot},token={token}"),
                    Asks::Lead(slot),
                )
            }
            "replace" => {
                let member: MemberId = value("id").ok_or("which member?")?.parse()?;
                let request = ReplaceRequest { slot, member };
                let text = format!("ordinal={slot},id={member}");
                (ANNOTATION_REPLACE_MEMBER, text, Asks::Replace(request))
            }
            "abort" => {
                let text = value("id").ok_or("which operation?")?.to_owned();
                (ANNOTATION_ABORT_OPERATION, text, Asks::Abort)
            }
            _ => return Err(format!("unknown request {what}").into()),
        };
        self.0.desired.once.push(Once {
            annotation,
            text,
            asks,
        });
        Ok(())
    }

    fn edit(&mut self, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
        let desired = &mut self.0.desired;
        match key {
            "replicas" => desired.replicas = value.parse()?,
            "size" => desired.storage_bytes = value.parse::<u64>()? << 30,
            "file" => self.0.requests_stay = value == "yes",
            "manual" => desired.manual_update = value == "yes",
            "paused" => desired.paused = value == "yes",
            "hibernate" => desired.hibernate = value == "yes",
            "node-gone" => desired.repair.node_gone = RepairPolicy::Replace,
            "retain" => desired.when_scaled = VolumePolicy::Retain,
            "remove" => desired.when_deleted = VolumePolicy::Delete,
            "delete" => self.0.deleting = value == "yes",
            _ => return Err(format!("unknown field {key}").into()),
        }
        Ok(())
    }
}

impl Runner for Script {
    type Command = Command;

    #[expect(clippy::too_many_lines, reason = "one arm per command")]
    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut positional: Vec<&str> = Vec::new();
        let mut keyed: Vec<(&str, &str)> = Vec::new();
        let mut arguments = command.consume_args();
        while let Some(pair) = arguments.next_key() {
            keyed.push(pair);
        }
        while let Some(value) = arguments.next_pos() {
            positional.push(value);
        }
        let number = || -> Result<u32, Box<dyn Error>> {
            Ok(positional.first().ok_or("a number is missing")?.parse()?)
        };
        let world = &mut self.0;
        match command.name.as_str() {
            "create" => *world = World::new(number()?),
            "ask" => self.ask(positional.first().ok_or("what is asked?")?, &keyed)?,
            "spec" => {
                for (key, value) in keyed {
                    self.edit(key, value)?;
                }
            }
            "run" => world.converge(1_000)?,
            "until" => self.until(positional.first().ok_or("a step is missing")?)?,
            "plan" => {
                world.settle();
                return Ok(print(&world.pass()));
            }
            "step" => {
                let times = keyed.iter().find(|(key, _)| *key == "times");
                return Ok(self.step(times.map_or(Ok(1), |(_, value)| value.parse())?));
            }
            "steps" => {
                let count = number()?;
                return Ok((0..count).map(|_| self.step(1)).collect());
            }
            "kill" => world.kill(Slot(number()?)),
            "wipe" => world.wipe(Slot(number()?), keyed.contains(&("stamp", "yes"))),
            "drop" => {
                world.kill(Slot(number()?));
                world.volumes.remove(&Slot(number()?));
            }
            "cut" | "part" => {
                world.parted = command.name == "part";
                for slot in positional {
                    world.unreachable.insert(Slot(slot.parse()?));
                }
            }
            "recover" => {
                let value = |key: &str| {
                    let pair = keyed.iter().find(|(found, _)| *found == key);
                    pair.map(|(_, value)| *value)
                };
                if value("words").is_some() {
                    let why = "`words` is not understood".to_owned();
                    world.desired.recover_request = Some(Err(why));
                    return Ok(String::new());
                }
                let from = value("from").map(str::parse).transpose()?;
                let epoch = value("epoch").unwrap_or("1");
                let force = value("force").is_some();
                let slot = from.map_or_else(|| "auto".to_owned(), |slot: u32| slot.to_string());
                let forced = if force { ",force=true" } else { "" };
                world.desired.recover_request = Some(Ok(RecoverRequest {
                    from: from.map(Slot),
                    epoch: epoch.parse()?,
                    force,
                    text: format!("from={slot},epoch={epoch}{forced}"),
                }));
            }
            "abort" => {
                let recovery = world.record.recovery.as_ref();
                let text = recovery.map(|recovery| recovery.token.clone());
                world.desired.once.extend(text.map(|text| Once {
                    annotation: ANNOTATION_ABORT_OPERATION,
                    text,
                    asks: Asks::Abort,
                }));
            }
            "behind" => drop(world.behind.insert(Slot(number()?))),
            "stick" => drop(world.stuck.insert(Slot(number()?))),
            "heal" => {
                world.unreachable.clear();
                world.stuck.clear();
                world.parted = false;
                world.lagging.clear();
                world.deaf.clear();
            }
            "lag" => {
                let members = world.group.iter().flat_map(|group| &group.members);
                let learners = members.filter(|(_, row)| row.1 == Role::Learner);
                world.lagging = learners.map(|(id, _)| *id).collect();
            }
            "template" => {
                let next = world.revision.map_or(0, |revision| revision + 1);
                world.revision = Some(next);
                if keyed.contains(&("bad", "yes")) {
                    world.bad.insert(next);
                }
            }
            "wait" => world.now += i64::from(number()?),
            "lead" => {
                let slot = Slot(number()?);
                let group = world.group.as_mut().ok_or("no cluster")?;
                let member = group.members.iter().find(|(_, row)| row.0 == Some(slot));
                group.leader = *member.ok_or("no member there")?.0;
                group.term += 1;
            }
            "sizes" => {
                world.growing = Some(match positional.first() {
                    Some(&"online") => Growing::Online,
                    Some(&"remounted") => Growing::Remounted,
                    Some(&"stubborn") => Growing::Stubborn,
                    Some(&"refused") => Growing::Refused,
                    Some(&"unknown") => Growing::Unknown,
                    Some(&"failing") => Growing::Failing,
                    Some(&"slow") => Growing::Slow,
                    other => return Err(format!("unknown way {other:?}").into()),
                });
                world
                    .template_bytes
                    .get_or_insert(world.desired.storage_bytes);
            }
            "orphans" => world.adopts = positional.first() == Some(&"no"),
            "remember" => {
                let Seen::Known(view) = world.observe().membership else {
                    return Err("no membership".into());
                };
                self.1 = Some(view);
            }
            "stale" => world.stale = self.1.clone(),
            "forget" => {
                world.count = None;
                world.lives.values_mut().for_each(|life| life.orphan = true);
            }
            "shrink" => {
                let count = number()?;
                world.count = Some(count);
                world.lives.retain(|slot, _| slot.0 < count);
            }
            "fresh" => world.stale = None,
            "strand" => drop(world.stranded.insert(Slot(number()?))),
            "jam" => world.jammed = true,
            "unjam" => world.jammed = false,
            "intrude" => world.intrude(
                positional
                    .first()
                    .and_then(|slot| slot.parse().ok())
                    .map(Slot),
            ),
            "expel" => world.expel(Slot(number()?)),
            "orphan" => world.count = None,
            "settings" => {
                let digest = positional.first().ok_or("which settings?")?;
                world.desired.settings = (*digest).to_owned();
            }
            "deaf" => {
                let says = keyed.iter().find(|(key, _)| *key == "says");
                let problem = says.map(|(_, text)| (*text).to_owned());
                world.deaf.insert(Slot(number()?), problem);
            }
            "brought" => world.encryption = brought(positional.contains(&"missing")),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(String::new())
    }
}

/// Certificates of peers that somebody else keeps.
fn brought(missing: bool) -> Encryption {
    let problem = Problem::Absent("Secret mine does not exist.".to_owned());
    let view = UseView {
        brought: Some(Brought {
            source: "Secret mine".to_owned(),
            problem: missing.then_some(problem),
            leaf: None,
            members: Vec::new(),
        }),
        ..UseView::default()
    };
    Encryption::Offered(Seen::Known([(Use::Peer, view)].into()))
}

#[test]
fn every_script_plans_as_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let entries = std::fs::read_dir(folder).expect("tests/scripts");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert!(paths.len() > 60, "only {} scripts were found", paths.len());
    let one = std::env::var("QUORATE_SCRIPT").ok();
    for path in paths {
        if one
            .as_ref()
            .is_some_and(|one| !path.ends_with(format!("{one}.txt")))
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("script");
        assert!(
            text.starts_with("# "),
            "{path:?} does not begin with a sentence"
        );
        goldenscript::run(&mut Script(World::new(3), None), &path).expect("script");
    }
}
