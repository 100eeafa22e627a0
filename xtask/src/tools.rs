//! Real etcd, etcdctl and etcd's load tool, built from their Go modules into a cache: the oracle of
//! `cargo xtask compat` and the opponent of `cargo xtask bench`.
//!
//! Needs Go on the PATH. A Go that is too old for etcd fetches the one it takes by itself, as a
//! module, whose checksum Go verifies like that of any other. The first build takes some minutes,
//! later calls nothing.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The etcd release that we compare with.
pub const ETCD_VERSION: &str = "3.7.3";
/// The newest release of etcd's load tool that is published as a module.
const BENCHMARK_VERSION: &str = "3.7.1";

/// What etcd's `go.mod` asks for: the language of the wrappers, in the form of a release.
const GO_NEEDED: &str = "1.26.0";
/// The release that is fetched when the Go on the PATH cannot fetch one by itself.
const GO_RELEASE: &str = "1.26.8";
/// From this minor version of Go 1 on, Go fetches the release that a module asks for.
const GO_FETCHES_ITSELF: u32 = 21;

/// The server that Quorate is compared with, and the client that asks both.
pub struct Oracle {
    /// The server.
    pub etcd: PathBuf,
    /// The command-line client.
    pub etcdctl: PathBuf,
}

/// Paths of the three programs.
pub struct EtcdTools {
    /// The server.
    pub etcd: PathBuf,
    /// The command-line client.
    pub etcdctl: PathBuf,
    /// The load tool.
    pub benchmark: PathBuf,
}

struct Program {
    name: &'static str,
    require: String,
    main: &'static str,
}

fn programs() -> [Program; 3] {
    [
        Program {
            name: "etcd",
            require: format!("go.etcd.io/etcd/server/v3 v{ETCD_VERSION}"),
            main: "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\n\
                   func main() { etcdmain.Main(os.Args) }\n",
        },
        Program {
            name: "etcdctl",
            require: format!("go.etcd.io/etcd/etcdctl/v3 v{ETCD_VERSION}"),
            main: "package main\n\nimport \"go.etcd.io/etcd/etcdctl/v3/ctlv3\"\n\n\
                   func main() { ctlv3.MustStart() }\n",
        },
        Program {
            name: "etcd-benchmark",
            require: format!("go.etcd.io/etcd/v3 v{BENCHMARK_VERSION}"),
            main: "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/v3/tools/benchmark/cmd\"\n)\n\n\
                   func main() {\n\tif cmd.RootCmd.Execute() != nil {\n\t\tos.Exit(1)\n\t}\n}\n",
        },
    ]
}

/// The folder that keeps all tools: `QUORATE_TOOLS_CACHE`, or a folder of the user's cache.
///
/// # Errors
/// When the environment names no place at all.
pub fn cache() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("QUORATE_TOOLS_CACHE") {
        return Ok(PathBuf::from(cache));
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set: nowhere to keep the tools")?;
    Ok(base.join("quorate-tools"))
}

/// Builds etcd and etcdctl if they are missing and returns where they are.
pub fn oracle() -> Result<Oracle> {
    let [etcd, etcdctl, _] = programs();
    let cache = cache()?;
    Ok(Oracle {
        etcd: build(&cache, &etcd)?,
        etcdctl: build(&cache, &etcdctl)?,
    })
}

/// The same with the load tool.
pub fn etcd_tools() -> Result<EtcdTools> {
    let [_, _, benchmark] = programs();
    let Oracle { etcd, etcdctl } = oracle()?;
    Ok(EtcdTools {
        etcd,
        etcdctl,
        benchmark: build(&cache()?, &benchmark)?,
    })
}

/// The path of a program, which is built unless it is there.
fn build(cache: &Path, program: &Program) -> Result<PathBuf> {
    // The version is part of the folder, so that a new one is built and an old one is not used.
    let version = program.require.rsplit(' ').next().unwrap_or_default();
    let source = cache
        .join("src")
        .join(format!("{}-{version}", program.name));
    let target = cache.join("bin").join(program.name);
    let stamp = source.join("built");
    if target.exists() && stamp.exists() {
        return Ok(target);
    }
    std::fs::create_dir_all(&source)?;
    std::fs::create_dir_all(cache.join("bin"))?;
    let go = Go::find(cache)?;
    println!(
        "building {} {version} from its Go module (once; a few minutes)",
        program.name
    );
    std::fs::write(source.join("main.go"), program.main)?;
    let module = format!(
        "module wrapper\n\ngo {GO_NEEDED}\n\nrequire {}\n",
        program.require
    );
    std::fs::write(source.join("go.mod"), module)?;
    go.run(&source, &["mod", "tidy"])?;
    // Under a name of its own first: another run may be starting the one that is there.
    let fresh = cache
        .join("bin")
        .join(format!("{}.{}", program.name, std::process::id()));
    let output = fresh.to_string_lossy();
    go.run(
        &source,
        &[
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            &output,
            ".",
        ],
    )?;
    std::fs::rename(&fresh, &target)?;
    std::fs::write(stamp, version)?;
    Ok(target)
}

/// Runs a Go that can build etcd in `dir`, without cgo, and returns what it printed.
///
/// # Errors
/// When Go is missing or fails; the error carries what it wrote.
pub fn go(dir: &Path, args: &[&str]) -> Result<String> {
    let outside = cache()?;
    std::fs::create_dir_all(&outside)?;
    Go::find(&outside)?.output(dir, args)
}

/// A Go that can build etcd.
struct Go {
    program: PathBuf,
    /// Which release it may use: itself only, or whichever a module asks for.
    toolchain: &'static str,
}

impl Go {
    /// The one on the PATH, or the release that it fetches; `dir` is a folder outside a module.
    fn find(dir: &Path) -> Result<Self> {
        let on_path = Self {
            program: PathBuf::from("go"),
            toolchain: "auto",
        };
        let version = on_path.output(dir, &["env", "GOVERSION"])?;
        match minor_version(&version) {
            Some(minor) if minor >= GO_FETCHES_ITSELF => Ok(on_path),
            Some(_) | None => on_path.fetch_release(dir),
        }
    }

    /// Fetches a release as the module that it is published as, for a Go that is too old to.
    fn fetch_release(&self, dir: &Path) -> Result<Self> {
        println!("fetching Go {GO_RELEASE}: the one on the PATH is too old for etcd");
        let platform = self.output(dir, &["env", "GOOS", "GOARCH"])?;
        let platform = platform.split_whitespace().collect::<Vec<_>>().join("-");
        let module = format!("golang.org/toolchain@v0.0.1-go{GO_RELEASE}.{platform}");
        let fetched = self.output(dir, &["mod", "download", "-json", &module])?;
        let fetched: Value = serde_json::from_str(&fetched)?;
        let root = fetched["Dir"].as_str().context("Go does not say where")?;
        // A module has no executable files; these two folders hold nothing else.
        let root = Path::new(root);
        let tools = root.join(format!("pkg/tool/{}", platform.replace('-', "_")));
        for folder in [root.join("bin"), tools] {
            make_executable(&folder)
                .with_context(|| format!("cannot use Go {GO_RELEASE} in {}", folder.display()))?;
        }
        Ok(Self {
            program: root.join("bin/go"),
            toolchain: "local",
        })
    }

    fn run(&self, dir: &Path, args: &[&str]) -> Result<()> {
        self.output(dir, args).map(drop)
    }

    fn output(&self, dir: &Path, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(args)
            .current_dir(dir)
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=mod")])
            .envs([("GOTOOLCHAIN", self.toolchain), ("GOWORK", "off")])
            .env_remove("GOROOT")
            .output()
            .with_context(|| {
                format!(
                    "cannot start `{}`: real etcd {ETCD_VERSION} is built from its Go modules. \
                     Install Go (for instance `apt-get install golang-go`; an old one fetches \
                     {GO_RELEASE} by itself) and put it on the PATH",
                    self.program.display()
                )
            })?;
        if !output.status.success() {
            bail!(
                "`go {}` failed in {}:\n{}",
                args.join(" "),
                dir.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        String::from_utf8(output.stdout).context("go printed something that is not UTF-8")
    }
}

/// `26` of `go1.26.8`.
fn minor_version(version: &str) -> Option<u32> {
    let (_, minor) = version.trim().split_once("go1.")?;
    let digits = minor.split(|letter: char| !letter.is_ascii_digit()).next();
    digits?.parse().ok()
}

fn make_executable(folder: &Path) -> Result<()> {
    for file in std::fs::read_dir(folder)? {
        std::fs::set_permissions(file?.path(), Permissions::from_mode(0o555))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(minor_version("go1.26.8\n"), Some(26));
        assert_eq!(minor_version("go1.19"), Some(19));
        assert_eq!(minor_version("go1.27rc1"), Some(27));
        assert_eq!(minor_version("devel +abc"), None);
    }
}
