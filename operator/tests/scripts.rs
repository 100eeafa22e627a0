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
use quorate_operator::record::{Operation, OperationKind, Recovery};

use crate::world::{Growing, World};

/// The world, and a membership remembered to be served again.
struct Script(World, Option<MembershipView>);

/// A step as a line of a script.
fn show(step: &Step) -> String {
    match step {
        Step::Latch(latch) => show_latch(latch),
        Step::WriteRecovery(recovery) => show_recovery(recovery),
        Step::ClearRecovery { token, .. } => format!("clear-recovery {token}"),
        Step::Recover { slot, epoch, .. } => format!("recover slot={slot} epoch={epoch}"),
        Step::NoteRequest { value, result, .. } => format!("note-request {value}: {result}"),
        Step::DropRequest { annotation, value } => format!("drop-request {annotation}={value}"),
        Step::WriteIntent(operation) => show_intent(operation),
        Step::ClearIntent {
            outcome, backoff, ..
        } => {
            let pause = if backoff.is_some() { " backoff" } else { "" };
            format!("clear-intent {outcome:?}{pause}")
        }
        Step::SetSlots { count, was } => {
            let was = was.map_or("none".to_owned(), |was| was.to_string());
            format!("set-slots {was} -> {count}")
        }
        Step::StopSlot { slot, uid, asking } => {
            let asking = asking.map_or_else(String::new, |id| format!(" asking={id}"));
            format!("stop-slot {slot} uid={uid}{asking}")
        }
        Step::LabelSlot { slot, role, .. } => format!("label-slot {slot} role={role:?}"),
        Step::RestartSlot { slot, uid } => format!("restart-slot {slot} uid={uid}"),
        other => show_of_volume(other)
            .or_else(|| show_of_member(other))
            .unwrap_or_else(|| other.name().to_owned()),
    }
}

fn show_latch(latch: &Latch) -> String {
    match latch {
        Latch::Identity { bootstrap, .. } => {
            let (slot, member) = (bootstrap.slot, bootstrap.member);
            format!("latch identity slot={slot} member={member}")
        }
        Latch::Issued(latch) => {
            let volume = latch.volume.as_ref().map_or("none", |uid| uid.0.as_str());
            format!("latch issued volume={volume}")
        }
        Latch::Recovered { epoch, .. } => format!("latch recovered epoch={epoch}"),
        Latch::Done { epoch, .. } => format!("latch done epoch={epoch}"),
    }
}

fn show_recovery(recovery: &Recovery) -> String {
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

fn show_intent(operation: &Operation) -> String {
    let mut text = format!("write-intent {}", operation.kind.name());
    if let Some(slot) = operation.slot() {
        let _ = write!(text, " slot={slot}");
    }
    if let OperationKind::ExpandVolumes(expand) = &operation.kind {
        let size = show_bytes(expand.bytes);
        let _ = write!(text, " to {size} slots={}", expand.slots);
    }
    if let Some(newcomer) = operation.newcomer() {
        let (member, life) = (newcomer.member, newcomer.incarnation);
        let _ = write!(text, " new={member} life={life}");
        if let Some(directory) = &newcomer.directory {
            let _ = write!(text, " directory={directory}");
        }
    }
    text
}

fn show_of_volume(step: &Step) -> Option<String> {
    Some(match step {
        Step::EnsureVolume {
            stamp,
            adopt: Some(uid),
        } => format!("ensure-volume {stamp} adopt={uid}"),
        Step::EnsureVolume { stamp, adopt: None } => format!("ensure-volume {stamp}"),
        Step::DeleteVolume { slot, uid } => format!("delete-volume slot={slot} uid={uid}"),
        Step::ReleaseVolume { slot, uid } => format!("release-volume slot={slot} uid={uid}"),
        Step::ResizeVolume { slot, uid, bytes } => {
            let size = show_bytes(*bytes);
            format!("resize-volume slot={slot} uid={uid} to {size}")
        }
        _ => return None,
    })
}

fn show_of_member(step: &Step) -> Option<String> {
    Some(match step {
        Step::Bootstrap { slot, member, .. } => format!("bootstrap slot={slot} member={member}"),
        Step::MemberAdd {
            slot,
            member,
            expected,
        } => format!("member-add slot={slot} member={member} expected={expected}"),
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
        _ => return None,
    })
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
    fn ask(&mut self, what: &str, args: &Args) -> Result<(), Box<dyn Error>> {
        let value = |key: &str| args.value(key);
        let slot = Slot(value("slot").unwrap_or("0").parse()?);
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

/// What follows a command's name.
struct Args<'a> {
    positional: Vec<&'a str>,
    keyed: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    fn of(command: &'a Command) -> Args<'a> {
        let mut arguments = command.consume_args();
        let keyed = std::iter::from_fn(|| arguments.next_key()).collect();
        let positional = std::iter::from_fn(|| arguments.next_pos()).collect();
        Args { positional, keyed }
    }

    fn first(&self) -> Result<&'a str, Box<dyn Error>> {
        let first = self.positional.first();
        Ok(*first.ok_or("an argument is missing")?)
    }

    fn number(&self) -> Result<u32, Box<dyn Error>> {
        Ok(self.first()?.parse()?)
    }

    fn slot(&self) -> Result<Slot, Box<dyn Error>> {
        Ok(Slot(self.number()?))
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        let mut keyed = self.keyed.iter();
        keyed
            .find(|(found, _)| *found == key)
            .map(|(_, value)| *value)
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let (name, args) = (command.name.as_str(), Args::of(command));
        if let Some(printed) = self.plan(name, &args)? {
            return Ok(printed);
        }
        let known = self.wish(name, &args)?
            || self.change_platform(name, &args)?
            || self.meddle(name, &args)?
            || self.trouble(name, &args)?;
        match known {
            true => Ok(String::new()),
            false => Err(format!("unknown command {name}").into()),
        }
    }
}

/// Commands by who acts; `false` or `None`: it is not one of those.
impl Script {
    /// The planner is asked, and time passes.
    fn plan(&mut self, name: &str, args: &Args) -> Result<Option<String>, Box<dyn Error>> {
        let world = &mut self.0;
        match name {
            "create" => *world = World::new(args.number()?),
            "run" => world.converge(1_000)?,
            "until" => self.until(args.first()?)?,
            "wait" => world.now += i64::from(args.number()?),
            "plan" => {
                world.settle();
                return Ok(Some(print(&world.pass())));
            }
            "step" => {
                let times = args.value("times").unwrap_or("1");
                return Ok(Some(self.step(times.parse()?)));
            }
            "steps" => return Ok(Some((0..args.number()?).map(|_| self.step(1)).collect())),
            _ => return Ok(None),
        }
        Ok(Some(String::new()))
    }

    /// A human asks for something.
    fn wish(&mut self, name: &str, args: &Args) -> Result<bool, Box<dyn Error>> {
        match name {
            "spec" => {
                for (key, value) in &args.keyed {
                    self.edit(key, value)?;
                }
            }
            "settings" => args.first()?.clone_into(&mut self.0.desired.settings),
            "ask" => self.ask(args.first()?, args)?,
            "recover" => self.0.desired.recover_request = Some(recovery_asked(args)?),
            "abort" => {
                let recovery = self.0.record.recovery.as_ref();
                let text = recovery.map(|recovery| recovery.token.clone());
                self.0.desired.once.extend(text.map(|text| Once {
                    annotation: ANNOTATION_ABORT_OPERATION,
                    text,
                    asks: Asks::Abort,
                }));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What the platform is like from now on.
    fn change_platform(&mut self, name: &str, args: &Args) -> Result<bool, Box<dyn Error>> {
        let world = &mut self.0;
        match name {
            "template" => {
                let next = world.revision.map_or(0, |revision| revision + 1);
                world.revision = Some(next);
                if args.value("bad") == Some("yes") {
                    world.bad.insert(next);
                }
            }
            "sizes" => {
                world.growing = Some(growing(args.first()?)?);
                let now = world.desired.storage_bytes;
                world.template_bytes.get_or_insert(now);
            }
            "orphans" => world.adopts = args.first()? == "no",
            "brought" => world.encryption = brought(args.positional.contains(&"missing")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Somebody else changes the set or the membership.
    fn meddle(&mut self, name: &str, args: &Args) -> Result<bool, Box<dyn Error>> {
        let world = &mut self.0;
        match name {
            "orphan" => world.count = None,
            "forget" => {
                world.count = None;
                world.lives.values_mut().for_each(|life| life.orphan = true);
            }
            "shrink" => {
                let count = args.number()?;
                world.count = Some(count);
                world.lives.retain(|slot, _| slot.0 < count);
            }
            "lead" => lead(world, args.slot()?)?,
            "intrude" => {
                let slot = args.positional.first().map(|slot| slot.parse());
                world.intrude(slot.transpose()?.map(Slot));
            }
            "expel" => world.expel(args.slot()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Something breaks, or is whole again.
    fn trouble(&mut self, name: &str, args: &Args) -> Result<bool, Box<dyn Error>> {
        let world = &mut self.0;
        match name {
            "kill" => world.kill(args.slot()?),
            "wipe" => world.wipe(args.slot()?, args.value("stamp") == Some("yes")),
            "drop" => {
                world.kill(args.slot()?);
                world.volumes.remove(&args.slot()?);
            }
            "cut" | "part" => {
                world.parted = name == "part";
                for slot in &args.positional {
                    world.unreachable.insert(Slot(slot.parse()?));
                }
            }
            "behind" => drop(world.behind.insert(args.slot()?)),
            "stick" => drop(world.stuck.insert(args.slot()?)),
            "strand" => drop(world.stranded.insert(args.slot()?)),
            "jam" | "unjam" => world.jammed = name == "jam",
            "lag" => {
                let members = world.group.iter().flat_map(|group| &group.members);
                let learners = members.filter(|(_, row)| row.1 == Role::Learner);
                world.lagging = learners.map(|(id, _)| *id).collect();
            }
            "heal" => {
                world.unreachable.clear();
                world.stuck.clear();
                world.parted = false;
                world.lagging.clear();
                world.deaf.clear();
            }
            "deaf" => {
                let problem = args.value("says").map(str::to_owned);
                world.deaf.insert(args.slot()?, problem);
            }
            "remember" => {
                let Seen::Known(view) = world.observe().membership else {
                    return Err("no membership".into());
                };
                self.1 = Some(view);
            }
            "stale" => world.stale = self.1.clone(),
            "fresh" => world.stale = None,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The recovery that a human asks for, well put or not.
fn recovery_asked(args: &Args) -> Result<Result<RecoverRequest, String>, Box<dyn Error>> {
    if args.value("words").is_some() {
        return Ok(Err("`words` is not understood".to_owned()));
    }
    let from: Option<u32> = args.value("from").map(str::parse).transpose()?;
    let epoch = args.value("epoch").unwrap_or("1");
    let force = args.value("force").is_some();
    let slot = from.map_or_else(|| "auto".to_owned(), |slot| slot.to_string());
    let forced = if force { ",force=true" } else { "" };
    Ok(Ok(RecoverRequest {
        from: from.map(Slot),
        epoch: epoch.parse()?,
        force,
        text: format!("from={slot},epoch={epoch}{forced}"),
    }))
}

fn growing(how: &str) -> Result<Growing, String> {
    Ok(match how {
        "online" => Growing::Online,
        "remounted" => Growing::Remounted,
        "stubborn" => Growing::Stubborn,
        "refused" => Growing::Refused,
        "unknown" => Growing::Unknown,
        "failing" => Growing::Failing,
        "slow" => Growing::Slow,
        other => return Err(format!("unknown way {other}")),
    })
}

/// Leadership moves by itself.
fn lead(world: &mut World, slot: Slot) -> Result<(), &'static str> {
    let group = world.group.as_mut().ok_or("no cluster")?;
    let member = group.members.iter().find(|(_, row)| row.0 == Some(slot));
    group.leader = *member.ok_or("no member there")?.0;
    group.term += 1;
    Ok(())
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
