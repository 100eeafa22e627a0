//! Real etcd, etcdctl and etcd's load tool, built from their Go modules into a cache: the oracle of
//! `cargo xtask compat` and the opponent of `cargo xtask bench`.
//!
//! Needs Go 1.26 or newer on the PATH. The first build takes some minutes, later calls nothing.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The etcd release that we compare with.
pub const ETCD_VERSION: &str = "3.7.3";
/// The newest release of etcd's load tool that is published as a module.
const BENCHMARK_VERSION: &str = "3.7.1";

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

/// Builds what is missing and returns where the programs are.
pub fn etcd_tools() -> Result<EtcdTools> {
    let cache = cache()?;
    for program in programs() {
        build(&cache, &program)?;
    }
    let bin = cache.join("bin");
    Ok(EtcdTools {
        etcd: bin.join("etcd"),
        etcdctl: bin.join("etcdctl"),
        benchmark: bin.join("etcd-benchmark"),
    })
}

fn build(cache: &Path, program: &Program) -> Result<()> {
    // The version is part of the folder, so that a new one is built and an old one is not used.
    let version = program.require.rsplit(' ').next().unwrap_or_default();
    let source = cache
        .join("src")
        .join(format!("{}-{version}", program.name));
    let target = cache.join("bin").join(program.name);
    let stamp = source.join("built");
    if target.exists() && stamp.exists() {
        return Ok(());
    }
    println!(
        "building {} {version} from its Go module (once)",
        program.name
    );
    std::fs::create_dir_all(&source)?;
    std::fs::create_dir_all(cache.join("bin"))?;
    std::fs::write(source.join("main.go"), program.main)?;
    let module = format!("module wrapper\n\ngo 1.26\n\nrequire {}\n", program.require);
    std::fs::write(source.join("go.mod"), module)?;
    go(&source, &["mod", "tidy"])?;
    go(
        &source,
        &[
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            &target.to_string_lossy(),
            ".",
        ],
    )?;
    std::fs::write(stamp, version)?;
    Ok(())
}

/// Runs `go` in `dir` without cgo and returns what it printed.
///
/// # Errors
/// When Go is missing or fails; the error carries what it wrote.
pub fn go(dir: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("go")
        .args(args)
        .current_dir(dir)
        .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-mod=mod")])
        .output()
        .context("cannot start `go`: install Go 1.26 or newer")?;
    if !output.status.success() {
        bail!(
            "`go {}` failed:\n{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("go printed something that is not UTF-8")
}
