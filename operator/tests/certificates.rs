//! Rotation of certificates from outside: golden scripts over a small model of Secret and members,
//! and the same model moved at random, with the invariant checked after every move.
//!
//! | Command | What it does |
//! |---|---|
//! | `members "a,b,c"` | who there is, each with the files of the moment |
//! | `steps` | the rotation's steps until it waits or rests |
//! | `sync "a,b"` | members take the files of the moment |
//! | `down a`, `up a` | a member that cannot be asked; it starts again with the files of the moment |
//! | `day N` | N days pass |
//! | `grace N` | those who cannot be asked are given N days in each phase |
//! | `request leaf\|authority` | by hand, once |

use goldenscript::{Command, Context, Runner};
use proptest::prelude::*;
use quorate_operator::certificates::{
    AuthorityFacts, Facts, LeafFacts, MemberFacts, Phase, Request, Signer, Step, Trust, next,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;

const DAY_S: i64 = 86_400;
const AUTHORITY_DAYS: i64 = 900;
const LEAF_DAYS: i64 = 90;
/// More steps than any change takes.
const STEPS_MAX: usize = 20;

/// What a member has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    leaf: Option<LeafFacts>,
    trusted: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Member {
    files: Files,
    up: bool,
}

/// Secrets and members.
#[derive(Default)]
struct Model {
    now_s: i64,
    made: usize,
    issued: usize,
    phase: Phase,
    current: Option<AuthorityFacts>,
    next: Option<AuthorityFacts>,
    secret: Files,
    members: BTreeMap<String, Member>,
    request: Option<Request>,
    /// Days that outsiders are given in each phase, and the day the present one began.
    grace_days: i64,
    since_s: i64,
}

fn hash(trusted: &BTreeSet<String>) -> String {
    trusted.iter().cloned().collect::<Vec<_>>().join("+")
}

impl Model {
    fn trust(&self, trust: Trust) -> BTreeSet<String> {
        let name = |authority: &Option<AuthorityFacts>| {
            authority
                .iter()
                .map(|facts| facts.subject.clone())
                .collect::<BTreeSet<_>>()
        };
        let (current, next) = (name(&self.current), name(&self.next));
        match trust {
            Trust::Current => current,
            Trust::Both => current.union(&next).cloned().collect(),
            Trust::Next => next,
        }
    }

    fn facts(&self) -> Facts {
        let report = |member: &Member| {
            let serial = member.files.leaf.as_ref().map_or("", |leaf| &leaf.serial);
            member
                .up
                .then(|| (serial.to_owned(), hash(&member.files.trusted)))
        };
        Facts {
            now_s: self.now_s,
            phase: self.phase,
            current: self.current.clone(),
            next: self.next.clone(),
            hashes: [Trust::Current, Trust::Both, Trust::Next]
                .map(|trust| hash(&self.trust(trust))),
            leaf: self.secret.leaf.clone(),
            bundle: hash(&self.secret.trusted),
            members: self
                .members
                .iter()
                .map(|(name, member)| MemberFacts {
                    name: name.clone(),
                    report: report(member),
                })
                .collect(),
            request: self.request,
            held_until_s: self.since_s + self.grace_days * DAY_S,
        }
    }

    fn make(&mut self) -> AuthorityFacts {
        self.made += 1;
        AuthorityFacts {
            subject: format!("ca{}", self.made),
            not_before_s: self.now_s,
            not_after_s: self.now_s + AUTHORITY_DAYS * DAY_S,
        }
    }

    /// Carries one step out; false when there was nothing to carry out.
    fn apply(&mut self, step: &Step) -> bool {
        match step {
            Step::CreateAuthority => self.current = Some(self.make()),
            Step::CreateNext => {
                self.next = Some(self.make());
                self.request = None;
            }
            Step::WriteBundle(trust) => self.secret.trusted = self.trust(*trust),
            Step::IssueLeaf(signer) => {
                let signer = match signer {
                    Signer::Current => &self.current,
                    Signer::Next => &self.next,
                };
                let signer = signer.clone().expect("the signer exists");
                self.issued += 1;
                self.request = self.request.filter(|request| *request != Request::Leaf);
                self.secret.leaf = Some(LeafFacts {
                    serial: format!("leaf{}", self.issued),
                    not_before_s: self.now_s,
                    not_after_s: signer.not_after_s.min(self.now_s + LEAF_DAYS * DAY_S),
                    issuer: signer.subject,
                    names_fit: true,
                });
            }
            Step::Enter(phase) => (self.phase, self.since_s) = (*phase, self.now_s),
            Step::Finish => {
                self.current = self.next.take();
                self.phase = Phase::Stable;
            }
            Step::Wait { .. } | Step::Rest { .. } => return false,
        }
        true
    }

    fn sync(&mut self, name: &str) {
        let files = self.secret.clone();
        if let Some(member) = self.members.get_mut(name)
            && member.up
        {
            member.files = files;
        }
    }

    /// Every leaf in use verifies against every bundle in use, while its authority lives.
    fn check(&self) -> Result<(), String> {
        let running = || self.members.iter().filter(|(_, member)| member.up);
        for (shower, shown) in running() {
            let Some(leaf) = &shown.files.leaf else {
                continue;
            };
            for (verifier, verifying) in running() {
                if !verifying.files.trusted.contains(&leaf.issuer) {
                    return Err(format!(
                        "{verifier} trusts {:?} and refuses {shower}, whose leaf is of {}",
                        verifying.files.trusted, leaf.issuer
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Runner for Model {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let argument = command.consume_args().next_pos().unwrap_or_default();
        let names: Vec<String> = argument.split(',').map(str::to_owned).collect();
        let mut output = String::new();
        match command.name.as_str() {
            "members" => {
                for name in names {
                    let files = self.secret.clone();
                    self.members.insert(name, Member { files, up: true });
                }
            }
            "steps" => {
                for _ in 0..STEPS_MAX {
                    let step = next(&self.facts());
                    match &step {
                        Step::Rest { until_s } => {
                            writeln!(output, "rest until day {}", until_s / DAY_S)?;
                        }
                        Step::Wait { what: "time", .. } => writeln!(output, "wait for a while")?,
                        Step::Wait { members, what } => {
                            writeln!(output, "wait for the {what} of {}", members.join(", "))?;
                        }
                        step => writeln!(output, "{step:?}")?,
                    }
                    if !self.apply(&step) {
                        return Ok(output);
                    }
                    self.check()?;
                }
                return Err(format!("no end after {STEPS_MAX} steps:\n{output}").into());
            }
            "sync" => names.iter().for_each(|name| self.sync(name)),
            "down" | "up" => {
                for name in &names {
                    let member = self.members.get_mut(name).ok_or("no such member")?;
                    member.up = command.name == "up";
                    self.sync(name);
                }
            }
            "day" => self.now_s += names[0].parse::<i64>()? * DAY_S,
            "grace" => self.grace_days = names[0].parse()?,
            "request" => {
                self.request = Some(match names[0].as_str() {
                    "leaf" => Request::Leaf,
                    "authority" => Request::Authority,
                    other => return Err(format!("unknown request {other}").into()),
                });
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        self.check()?;
        Ok(output)
    }
}

#[test]
fn every_script_rotates_as_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
    let entries = std::fs::read_dir(folder).expect("tests/certificates");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 4, "only {} scripts were found", paths.len());
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("script");
        assert!(
            text.starts_with("# "),
            "{path:?} does not begin with a sentence"
        );
        goldenscript::run(&mut Model::default(), &path).expect("script");
    }
}

/// One move of the world.
#[derive(Clone, Debug)]
enum Move {
    Step,
    /// The step is decided and lost: a crash before the effect.
    Lost,
    Sync(usize),
    Down(usize),
    Up(usize),
    Days(i64),
    Ask(Request),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let member = || 0..3usize;
    let one = prop_oneof![
        8 => Just(Move::Step),
        1 => Just(Move::Lost),
        6 => member().prop_map(Move::Sync),
        1 => member().prop_map(Move::Down),
        2 => member().prop_map(Move::Up),
        1 => (1..20i64).prop_map(Move::Days),
        1 => Just(Move::Ask(Request::Leaf)),
        1 => Just(Move::Ask(Request::Authority)),
    ];
    proptest::collection::vec(one, 1..200)
}

const NAMES: [&str; 3] = ["a", "b", "c"];

proptest! {
    #[test]
    fn no_order_of_events_makes_members_refuse_each_other(moves in moves()) {
        let mut model = Model::default();
        while model.secret.leaf.is_none() {
            let step = next(&model.facts());
            model.apply(&step);
        }
        for name in NAMES {
            let files = model.secret.clone();
            model.members.insert(name.to_owned(), Member { files, up: true });
        }
        for (number, one) in moves.iter().enumerate() {
            match one {
                Move::Step => drop(model.apply(&next(&model.facts()))),
                Move::Lost => drop(next(&model.facts())),
                Move::Sync(member) => model.sync(NAMES[*member]),
                Move::Down(member) => model.members.get_mut(NAMES[*member]).unwrap().up = false,
                Move::Up(member) => {
                    model.members.get_mut(NAMES[*member]).unwrap().up = true;
                    model.sync(NAMES[*member]);
                }
                Move::Days(days) => model.now_s += days * DAY_S,
                Move::Ask(request) => model.request = Some(*request),
            }
            let verdict = model.check();
            prop_assert!(verdict.is_ok(), "move {number}: {verdict:?}");
        }
        // Left alone, with everybody up, it comes to rest with one authority.
        for _ in 0..4 * STEPS_MAX {
            NAMES.iter().for_each(|name| {
                model.members.get_mut(*name).unwrap().up = true;
                model.sync(name);
            });
            let step = next(&model.facts());
            model.apply(&step);
        }
        let step = next(&model.facts());
        prop_assert!(matches!(step, Step::Rest { .. }), "{step:?}");
        prop_assert_eq!((model.phase, &model.next), (Phase::Stable, &None));
    }
}
