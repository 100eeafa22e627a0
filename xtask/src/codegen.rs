//! `cargo xtask codegen`: Rust types, clients and descriptors from the files under `api/proto`.
//!
//! The result is committed in `api/src/gen`, so that building Quorate needs no code generator;
//! `check` compares instead of writing, which is what continuous integration runs.
//! Must not know: what the messages are used for.

use anyhow::{Context, Result, bail};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every file that is compiled, relative to `api/proto`; imports come along by themselves.
const PROTOS: [&str; 4] = [
    "mvccpb/kv.proto",
    "authpb/auth.proto",
    "etcdserverpb/rpc.proto",
    "quorate/admin/v1/admin.proto",
];

/// Packages that need server traits. etcd's services are routed by `node/src/server/grpc.rs`.
const SERVED_BY_TONIC: [&str; 1] = ["quorate.admin.v1"];

/// Fields whose etcd spelling turns into an unreadable Rust name, and the name Rust sees. The wire
/// carries numbers, and the descriptors keep the original for reflection and JSON.
const RENAMED: [(&str, &str); 2] = [("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

/// Generates everything; with `check`, only says whether the committed files are what would be
/// generated.
///
/// # Errors
/// A proto that does not compile, files that cannot be written, or, with `check`, a difference.
pub fn run(check: bool) -> Result<()> {
    let root = workspace_root();
    let committed = root.join("api/src/gen");
    let fresh = root.join("target/codegen");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("clearing target/codegen")?;
    }
    fs::create_dir_all(&fresh).context("creating target/codegen")?;
    generate(&root.join("api/proto"), &fresh)?;

    if check {
        return compare(&fresh, &committed);
    }
    fs::create_dir_all(&committed).context("creating api/src/gen")?;
    for name in names(&committed)? {
        fs::remove_file(committed.join(&name)).with_context(|| format!("removing {name}"))?;
    }
    for name in names(&fresh)? {
        fs::copy(fresh.join(&name), committed.join(&name))
            .with_context(|| format!("writing api/src/gen/{name}"))?;
    }
    Ok(())
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_path_buf()
}

fn generate(protos: &Path, out: &Path) -> Result<()> {
    let mut compiler = protox::Compiler::new([protos]).context("opening api/proto")?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(PROTOS).context("compiling api/proto")?;
    let set = compiler.file_descriptor_set();

    let mut descriptors = set.clone();
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let mut named = set;
    for file in &mut named.file {
        file.message_type.iter_mut().for_each(rename_fields);
    }
    for (served, packages) in [(true, &SERVED_BY_TONIC[..]), (false, &[])] {
        let files = named.file.iter().filter(|file| {
            let by_tonic = SERVED_BY_TONIC.contains(&file.package());
            if served {
                packages.contains(&file.package())
            } else {
                !by_tonic
            }
        });
        let part = FileDescriptorSet {
            file: files.cloned().collect(),
        };
        tonic_prost_build::configure()
            .build_client(true)
            .build_server(served)
            .bytes(".")
            .emit_rerun_if_changed(false)
            .out_dir(out)
            .compile_fds(part)
            .context("generating Rust")?;
    }
    Ok(())
}

fn rename_fields(message: &mut DescriptorProto) {
    for field in &mut message.field {
        if let Some((_, rust)) = RENAMED.iter().find(|(etcd, _)| *etcd == field.name()) {
            field.name = Some((*rust).to_owned());
        }
    }
    message.nested_type.iter_mut().for_each(rename_fields);
}

fn compare(fresh: &Path, committed: &Path) -> Result<()> {
    let (new, old) = (names(fresh)?, names(committed)?);
    let mut stale: Vec<&String> = old.iter().filter(|name| !new.contains(name)).collect();
    for name in &new {
        let same =
            old.contains(name) && fs::read(fresh.join(name))? == fs::read(committed.join(name))?;
        if !same {
            stale.push(name);
        }
    }
    if !stale.is_empty() {
        bail!("api/src/gen is out of date ({stale:?}): run `cargo xtask codegen` and commit");
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
