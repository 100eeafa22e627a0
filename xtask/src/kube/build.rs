//! Builds the programs of the bench from their Go modules into a cache, once per version.
//!
//! Some eight minutes on two cores the first time, nothing afterwards. Needs Go and the module
//! proxy. Two calls at once wait for each other.

use super::versions::{self, PROGRAMS, Program, Source};
use crate::tools;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Builds what is missing and returns the folder with all programs.
///
/// # Errors
/// When Go is missing, a module cannot be fetched or does not compile.
pub fn build() -> Result<PathBuf> {
    let cache = tools::cache()?;
    let bin = cache.join("bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let lock = std::fs::File::create(cache.join("build.lock"))?;
    lock.lock()
        .context("cannot wait for another build of the tools")?;
    tools::oracle()?;
    for (number, program) in PROGRAMS.iter().enumerate() {
        let stamp = source_folder(&cache, program).join(format!("{}.built", program.name));
        if stamp.exists() && bin.join(program.name).exists() {
            continue;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "progress for people; decides nothing"
        )]
        let start = Instant::now();
        eprintln!(
            "kube build: {} {} ({} of {})",
            program.name,
            program.version,
            number + 1,
            PROGRAMS.len()
        );
        build_one(&cache, program, &bin.join(program.name))
            .with_context(|| format!("cannot build {} {}", program.name, program.version))?;
        std::fs::write(stamp, "")?;
        eprintln!(
            "kube build: {} done in {:.0} s",
            program.name,
            start.elapsed().as_secs_f64()
        );
    }
    Ok(bin)
}

/// One folder per module and version, so that a new version never meets an old stamp.
fn source_folder(cache: &Path, program: &Program) -> PathBuf {
    let module = match program.source {
        Source::Kubernetes { .. } => "kubernetes",
        Source::Published { .. } | Source::Ours { .. } => program.name,
    };
    cache
        .join("src")
        .join(format!("{module}-{}", program.version))
}

fn build_one(cache: &Path, program: &Program, target: &Path) -> Result<()> {
    let folder = source_folder(cache, program);
    let main = folder.join(program.name);
    std::fs::create_dir_all(&main)?;
    let mut flags = "-s -w".to_owned();
    let package = match &program.source {
        Source::Kubernetes {
            package,
            constructor,
        } => {
            std::fs::write(main.join("main.go"), kubernetes_main(package, constructor))?;
            kubernetes_module(&folder)?;
            flags.push_str(&kubernetes_version_flags());
            format!("./{}", program.name)
        }
        Source::Published { module, package } => {
            let text = format!(
                "module bench\n\ngo 1.26\n\nrequire {module} v{}\n\ntool {package}\n",
                program.version
            );
            std::fs::write(folder.join("go.mod"), text)?;
            tools::go(&folder, &["mod", "tidy"])?;
            (*package).to_owned()
        }
        Source::Ours { module, text } => {
            std::fs::write(main.join("main.go"), text)?;
            let mut module_file = "module bench\n\ngo 1.26\n".to_owned();
            if !module.is_empty() {
                module_file.push_str(&format!("\nrequire {module} v{}\n", program.version));
            }
            std::fs::write(folder.join("go.mod"), module_file)?;
            tools::go(&folder, &["mod", "tidy"])?;
            format!("./{}", program.name)
        }
    };
    // Under a name of its own first: a run may be starting the one that is there.
    let fresh = target.with_extension("fresh");
    let output = fresh.to_string_lossy();
    let args = [
        "build",
        "-trimpath",
        "-ldflags",
        &flags,
        "-o",
        &output,
        &package,
    ];
    tools::go(&folder, &args)?;
    std::fs::rename(&fresh, target).context("cannot put the program in place")
}

fn kubernetes_main(package: &str, constructor: &str) -> String {
    let context = if constructor.contains("context.") {
        "\t\"context\"\n"
    } else {
        ""
    };
    format!(
        "package main\n\nimport (\n{context}\t\"os\"\n\n\tapp \"{package}\"\n\
         \t\"k8s.io/component-base/cli\"\n\
         \t_ \"k8s.io/component-base/logs/json/register\"\n\
         \t_ \"k8s.io/component-base/metrics/prometheus/clientgo\"\n\
         \t_ \"k8s.io/component-base/metrics/prometheus/version\"\n)\n\n\
         func main() {{ os.Exit(cli.Run({constructor})) }}\n"
    )
}

/// Writes the module around all Kubernetes programs, once. It pins the parts which the main module
/// replaces by folders of its own repository to the releases that were published from them.
fn kubernetes_module(folder: &Path) -> Result<()> {
    let version = versions::KUBERNETES;
    // All main packages must be there before `go mod tidy` looks at what they import.
    for program in PROGRAMS {
        if let Source::Kubernetes {
            package,
            constructor,
        } = program.source
        {
            std::fs::create_dir_all(folder.join(program.name))?;
            let main = folder.join(program.name).join("main.go");
            std::fs::write(main, kubernetes_main(package, constructor))?;
        }
    }
    let done = folder.join("module.tidy");
    if done.exists() {
        return Ok(());
    }
    let module = format!("k8s.io/kubernetes@v{version}");
    let found: Value = serde_json::from_str(&tools::go(
        folder.parent().context("a folder inside the cache")?,
        &["mod", "download", "-json", &module],
    )?)?;
    let path = found["GoMod"].as_str().context("go names no go.mod")?;
    let theirs = std::fs::read_to_string(path)?;
    std::fs::write(folder.join("go.mod"), wrapper_module(version, &theirs))?;
    tools::go(folder, &["mod", "tidy"])?;
    std::fs::write(done, "")?;
    Ok(())
}

/// The text of our `go.mod`, from the one of `k8s.io/kubernetes`: version 1.N.P of Kubernetes is
/// version 0.N.P of every part.
fn wrapper_module(version: &str, theirs: &str) -> String {
    let part_version = version.replacen("1.", "0.", 1);
    let mut text =
        format!("module bench\n\ngo 1.26\n\nrequire k8s.io/kubernetes v{version}\n\nreplace (\n");
    for line in theirs.lines() {
        if let Some((part, _)) = line.split_once("=> ./staging/") {
            let part = part.trim().trim_start_matches("replace ").trim();
            text.push_str(&format!("\t{part} => {part} v{part_version}\n"));
        }
    }
    text.push_str(")\n");
    text
}

/// Without these, the API server reports version 0.0.0 and refuses to serve.
fn kubernetes_version_flags() -> String {
    let version = versions::KUBERNETES;
    let mut numbers = version.split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let mut flags = String::new();
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        flags.push_str(&format!(
            " -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        ));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_kubernetes_are_pinned_to_their_own_releases() {
        let theirs = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                      \tk8s.io/kubelet => ./staging/src/k8s.io/kubelet\n)\n\
                      replace k8s.io/other v1 => ../other\n";
        let ours = wrapper_module("1.34.4", theirs);
        assert!(
            ours.contains("\tk8s.io/api => k8s.io/api v0.34.4\n"),
            "{ours}"
        );
        assert!(
            ours.contains("\tk8s.io/kubelet => k8s.io/kubelet v0.34.4\n"),
            "{ours}"
        );
        assert!(!ours.contains("other"), "{ours}");
        assert!(
            ours.contains("require k8s.io/kubernetes v1.34.4\n"),
            "{ours}"
        );
    }

    #[test]
    fn only_a_command_that_takes_a_context_imports_it() {
        let kubelet = kubernetes_main("p/app", "app.NewKubeletCommand(context.Background())");
        assert!(kubelet.contains("\t\"context\"\n"));
        assert!(!kubernetes_main("p/app", "app.NewProxyCommand()").contains("context"));
    }
}
