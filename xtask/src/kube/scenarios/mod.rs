//! `cargo xtask kube test`: a run of its own, the image of this tree, and scenarios by name, one
//! file per subject. Each prints how long it took; the run is gone afterwards, whatever happened.

mod cel;
mod cel_cases;
mod chaos;
mod chart;
mod cluster;
mod ends;
mod fleet;
mod follow;
mod install;
mod leave;
mod life;
mod load;
mod manifests;
mod manual;
mod production;
mod recover;
mod tells;
mod tls;
mod upgrade;
mod victims;
mod writer;

pub use manifests::install_crd;

use super::bench::Bench;
use super::run::Run;
use super::traces::Before;
use super::up;
use crate::{image, shell};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::time::Instant;

/// Options of `test`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only scenarios whose name contains this, or one of these, as in `crd,install`.
    #[arg(default_value = "")]
    only: String,
    /// Use this run, as it is, instead of starting one; it stays.
    #[arg(long)]
    on: Option<String>,
    /// How the image's program is compiled.
    #[arg(long, value_enum, default_value_t = image::Profile::Release)]
    profile: image::Profile,
    /// Also those that take long.
    #[arg(long)]
    long: bool,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
}

impl Options {
    /// All scenarios, on a run of their own, with the image as users get it.
    pub fn everything() -> Self {
        Self {
            only: String::new(),
            on: None,
            profile: image::Profile::Release,
            long: true,
            list: false,
        }
    }
}

/// One thing that must be true on a real Kubernetes.
struct Scenario {
    name: &'static str,
    /// What it shows, in a sentence.
    shows: &'static str,
    needs: Needs,
    run: fn(&Bench) -> Result<()>,
}

/// What must be there before a scenario can begin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    /// A node that is Ready.
    Node,
    /// The image.
    Image,
    /// The operator, installed by its chart.
    Operator,
}

/// In the order in which they run: what everything else rests on comes first.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "crd",
        shows: "the API server accepts the CRD and offers the resource, its status and its scale",
        needs: Needs::Node,
        run: manifests::crd,
    },
    Scenario {
        name: "examples",
        shows: "the API server accepts every example of deploy/examples",
        needs: Needs::Node,
        run: manifests::examples,
    },
    Scenario {
        name: "cel",
        shows: "every CEL rule accepts what it should and refuses, with its message, what it should",
        needs: Needs::Node,
        run: cel::rules,
    },
    Scenario {
        name: "ends",
        shows: "a second run beside this one, its holder killed, takes all of its processes along",
        needs: Needs::Node,
        run: ends::killed_holder,
    },
    Scenario {
        name: "image",
        shows: "the image runs as non-root on a read-only root in a namespace that enforces it",
        needs: Needs::Image,
        run: manifests::image,
    },
    Scenario {
        name: "volumes",
        shows: "the bench's volumes are writable without root, grow online, and go with their claim",
        needs: Needs::Image,
        run: manifests::volumes,
    },
    Scenario {
        name: "install",
        shows: "the chart installs under restricted pod security, and the example becomes a cluster",
        needs: Needs::Operator,
        run: install::first_cluster,
    },
    Scenario {
        name: "scale",
        shows: "scaling 3, 5, 3, 1, 3 under writes loses nothing and disturbs one voter at a time",
        needs: Needs::Operator,
        run: life::scale,
    },
    Scenario {
        name: "harm",
        shows: "pods, a claim, the leader's process are taken away, all is evicted; nothing is lost",
        needs: Needs::Operator,
        run: life::harm,
    },
    Scenario {
        name: "changes",
        shows: "an update ends with the leader, edits by hand are set back, a cluster sleeps and wakes",
        needs: Needs::Operator,
        run: life::changes,
    },
    Scenario {
        name: "manual",
        shows: "the API server accepts every command that the pages of the manual print",
        needs: Needs::Operator,
        run: manual::commands,
    },
    Scenario {
        name: "tells",
        shows: "kubectl alone says what is wrong and what to do, in six situations",
        needs: Needs::Operator,
        run: tells::everything,
    },
    Scenario {
        name: "tls",
        shows: "no port in the clear, strangers refused with a reason, certificates change under writes",
        needs: Needs::Operator,
        run: tls::encrypted,
    },
    Scenario {
        name: "recover",
        shows: "two claims of three destroyed: said, never mended by itself, recovered on a word",
        needs: Needs::Operator,
        run: recover::lost_quorum,
    },
    Scenario {
        name: "production",
        shows: "the example for production becomes five members with everything on, and mends itself",
        needs: Needs::Operator,
        run: production::example,
    },
    Scenario {
        name: "retain",
        shows: "volumes of a deleted cluster stay, and a new one of its name is refused them",
        needs: Needs::Operator,
        run: leave::retain,
    },
    Scenario {
        name: "leave",
        shows: "a cluster deleted with its volumes leaves nothing behind",
        needs: Needs::Operator,
        run: leave::delete_all,
    },
    Scenario {
        name: "upgrade",
        shows: "helm upgrade, uninstall and install restart no member",
        needs: Needs::Operator,
        run: upgrade::helm,
    },
    Scenario {
        name: "two",
        shows: "two operators at once, without a Lease, make one history and no ghost member",
        needs: Needs::Operator,
        run: chaos::two_operators,
    },
    Scenario {
        name: "kills",
        shows: "the operator killed at random moments comes to the same end states",
        needs: Needs::Operator,
        run: chaos::few_kills,
    },
];

/// What takes too long for every change: `--long`, or by its name.
const LONG: &[Scenario] = &[
    Scenario {
        name: "hundred",
        shows: "the operator killed at a hundred random moments comes to the same end states",
        needs: Needs::Operator,
        run: chaos::many_kills,
    },
    Scenario {
        name: "fleet",
        shows: "35 clusters at rest cost little, and one that is never ready delays no other",
        needs: Needs::Operator,
        run: fleet::at_rest,
    },
];

/// Runs the scenarios.
///
/// # Errors
/// When one fails, after all have run; or when the run does not start.
pub fn test(options: &Options) -> Result<()> {
    let chosen = choose(options);
    if options.list || chosen.is_empty() {
        for scenario in SCENARIOS.iter().chain(LONG) {
            println!("{:<10} {}", scenario.name, scenario.shows);
        }
        if chosen.is_empty() {
            bail!("no scenario's name contains {:?}", options.only);
        }
        return Ok(());
    }
    let mut images = Vec::new();
    if chosen.iter().any(|scenario| scenario.needs != Needs::Node) {
        images.push(image::build(&image::Options::with_profile(
            options.profile,
        ))?);
    }
    if let Some(name) = &options.on {
        let bench = Bench::attach(&Run::named(name)?)?;
        for image in &images {
            bench.load(image)?;
        }
        return run_all(&bench, &chosen);
    }
    let before = Before::look();
    let started = up::start(&up::Options {
        images,
        ..up::Options::default()
    })?;
    println!("kube test: node Ready in {} s", started.seconds);
    let result = run_all(&started.bench, &chosen);
    if result.is_err() {
        keep_logs(&started.bench);
    }
    let run = started.bench.run().clone();
    let ended = started.end();
    result.and(ended).and(before.compare(&run))
}

/// The scenarios that are meant; one that takes long only when it is asked for.
fn choose(options: &Options) -> Vec<&'static Scenario> {
    let named = |scenario: &Scenario| {
        let mut parts = options.only.split(',');
        parts.any(|part| scenario.name.contains(part))
    };
    let mut chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| named(scenario))
        .collect();
    let wanted = |scenario: &&Scenario| match options.only.is_empty() {
        true => options.long,
        false => named(scenario),
    };
    chosen.extend(LONG.iter().filter(wanted));
    chosen
}

fn run_all(bench: &Bench, chosen: &[&Scenario]) -> Result<()> {
    let mut failed = Vec::new();
    let mut installed = false;
    for scenario in chosen {
        if scenario.needs == Needs::Operator && !installed {
            let start = now();
            chart::ensure_installed(bench)?;
            println!("kube test: operator Ready in {:.1} s", seconds_since(start));
            installed = true;
        }
        let start = now();
        let result = (scenario.run)(bench);
        let seconds = seconds_since(start);
        match result {
            Ok(()) => println!("{:<10} ok      {seconds:6.1} s", scenario.name),
            Err(error) => {
                println!("{:<10} FAILED  {seconds:6.1} s", scenario.name);
                eprintln!("  it shows: {}\n  {error:#}", scenario.shows);
                failed.push(scenario.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} scenarios failed: {}",
            failed.len(),
            chosen.len(),
            failed.join(", ")
        );
    }
    println!("kube test: {} scenarios passed", chosen.len());
    Ok(())
}

/// The clock of scenarios: deadlines for real processes, and measurements for people.
fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "real processes take real time")]
    Instant::now()
}

fn seconds_since(start: Instant) -> f64 {
    (now() - start).as_secs_f64()
}

/// Copies the logs of a run that is about to vanish to where a person finds them.
fn keep_logs(bench: &Bench) {
    let to = shell::root().join("target/kube").join(bench.run().name());
    match copy_files(&bench.run().join("log"), &to) {
        Ok(()) => eprintln!("kube test: the run's logs are in {}", shell::shown(&to)),
        Err(error) => eprintln!("kube test: cannot keep the run's logs: {error:#}"),
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        std::fs::copy(&path, to.join(name))?;
    }
    Ok(())
}

/// Makes a namespace that enforces restricted pod security, gives it to `work`, and deletes it.
fn in_namespace(bench: &Bench, name: &str, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    // One of an earlier scenario or test may still be on its way out.
    bench.kubectl(&[
        "delete",
        "namespace",
        name,
        "--ignore-not-found",
        "--timeout=90s",
    ])?;
    bench.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    ))?;
    let result = work(name);
    let deleted = bench.kubectl(&["delete", "namespace", name, "--wait=false"]);
    result.and(deleted.map(drop))
}
