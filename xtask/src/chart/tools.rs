//! The programs of other projects that the checks run: helm, helm-unittest, promtool, prometheus.
//!
//! Each is taken from the PATH or from the cache, and otherwise made once: Go programs from their
//! modules, promtool and prometheus out of Debian's package without installing it. kubectl must be
//! there (Debian: kubernetes-client). The first build takes about five minutes on two cores.

use crate::{shell, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const HELM_VERSION: &str = "4.3.1";
const UNITTEST_VERSION: &str = "1.1.2";

/// Paths of the programs.
pub struct Tools {
    helm: PathBuf,
    unittest: PathBuf,
    /// Tests and checks rules.
    pub promtool: PathBuf,
    /// Scrapes and answers queries.
    pub prometheus: PathBuf,
}

impl Tools {
    /// Finds or makes every program.
    pub fn ready() -> Result<Self> {
        let cache = tools::cache()?;
        std::fs::create_dir_all(cache.join("bin"))?;
        let helm = match find("helm", &cache) {
            Some(path) => path,
            None => build(
                &cache,
                "helm",
                "helm.sh/helm/v4",
                HELM_VERSION,
                "./cmd/helm",
            )?,
        };
        let unittest = match find("helm-unittest", &cache) {
            Some(path) => path,
            None => build(
                &cache,
                "helm-unittest",
                "github.com/helm-unittest/helm-unittest",
                UNITTEST_VERSION,
                "./cmd/helm-unittest",
            )?,
        };
        let (promtool, prometheus) = match (find("promtool", &cache), find("prometheus", &cache)) {
            (Some(promtool), Some(prometheus)) => (promtool, prometheus),
            _ => unpack_prometheus(&cache)?,
        };
        Ok(Self {
            helm,
            unittest,
            promtool,
            prometheus,
        })
    }

    /// Runs helm; fails with its output.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        let (ok, text) = self.try_helm(args)?;
        if !ok {
            bail!("`helm {}` failed:\n{text}", args.join(" "));
        }
        Ok(text)
    }

    /// Runs helm; whether it succeeded, and its output or its errors.
    pub fn try_helm(&self, args: &[&str]) -> Result<(bool, String)> {
        let output = Command::new(&self.helm)
            .args(args)
            .current_dir(shell::root())
            .output()
            .with_context(|| format!("cannot start {}", self.helm.display()))?;
        let text = if output.status.success() {
            output.stdout
        } else {
            [output.stdout, output.stderr].concat()
        };
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        ))
    }

    /// Runs the unit tests of a chart with their output shown.
    pub fn unit_tests(&self, chart: &Path) -> Result<()> {
        shell::run(
            &self.unittest.to_string_lossy(),
            &[
                "--strict",
                "--file",
                "tests/*_test.yaml",
                &chart.to_string_lossy(),
            ],
        )
    }
}

fn find(name: &str, cache: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(cache.join("bin"))
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Builds a Go program inside its downloaded module: `replace` lines of its own then hold, which
/// `go install` refuses.
fn build(cache: &Path, name: &str, module: &str, version: &str, package: &str) -> Result<PathBuf> {
    println!("building {name} {version} from its Go module (once)");
    let wanted = format!("{module}@v{version}");
    let listing = tools::go(&shell::root(), &["mod", "download", "-json", &wanted])?;
    let listing: serde_json::Value =
        serde_json::from_str(&listing).with_context(|| format!("what go says about {wanted}"))?;
    let folder = listing["Dir"]
        .as_str()
        .with_context(|| format!("go did not say where {wanted} is"))?;
    let target = cache.join("bin").join(name);
    let output = target.to_string_lossy();
    let args = [
        "build",
        "-trimpath",
        "-ldflags",
        "-s -w",
        "-o",
        &output,
        package,
    ];
    tools::go(Path::new(folder), &args)?;
    Ok(target)
}

/// Takes the two programs out of Debian's package, without installing a service.
fn unpack_prometheus(cache: &Path) -> Result<(PathBuf, PathBuf)> {
    let folder = cache.join("deb");
    std::fs::create_dir_all(&folder)?;
    let script = "apt-get download -q prometheus >/dev/null && dpkg-deb -x prometheus_*.deb unpacked \
                  && cp unpacked/usr/bin/prometheus unpacked/usr/bin/promtool ../bin/";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(&folder)
        .status()
        .context("cannot start sh")?;
    if !status.success() {
        bail!(
            "promtool is missing and could not be taken from Debian's package `prometheus`: \
             run `apt-get update`, or put prometheus and promtool on the PATH"
        );
    }
    let bin = cache.join("bin");
    Ok((bin.join("promtool"), bin.join("prometheus")))
}
