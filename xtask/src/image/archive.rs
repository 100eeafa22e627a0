//! Image archives as `docker save` writes them and `ctr images import` and `docker load` read them:
//! a tar with one layer, a config and a manifest.
//!
//! The tar format is the POSIX one, of which files, folders and links suffice. All times are zero
//! and all names sorted by the caller, so that equal contents give equal bytes.

use super::Config;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes of a block; headers and contents are padded to it.
const BLOCK: usize = 512;

/// An image of one layer.
#[derive(Debug)]
pub struct Image {
    /// Name and tag, with the registry's host: `docker.io/quorate/quorate:0.1.0`.
    pub name: String,
    /// How a container starts.
    pub config: Config,
    /// What is in it.
    pub files: Vec<File>,
}

/// One entry of the layer.
#[derive(Debug)]
pub struct File {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Folder,
    Link(String),
}

impl File {
    /// An executable file. Paths are relative to the root, without a slash in front.
    pub fn program(path: &str, bytes: Vec<u8>) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o755,
            content: Content::Bytes(bytes),
        }
    }

    /// A text file that everybody may read.
    pub fn text(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o644,
            content: Content::Bytes(text.as_bytes().to_vec()),
        }
    }

    /// An empty folder.
    pub fn folder(path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Content::Folder,
        }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o777,
            content: Content::Link(target.to_owned()),
        }
    }
}

/// Writes the archive; folders in the way to `output` are made.
///
/// # Errors
/// When a path is too long for the format or the file cannot be written.
pub fn write(image: &Image, output: &Path) -> Result<()> {
    let bytes = archive(image)?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(output, bytes).with_context(|| format!("cannot write {}", output.display()))
}

fn archive(image: &Image) -> Result<Vec<u8>> {
    let layer = tar(&with_parents(&image.files))?;
    let layer_digest = hex(&Sha256::digest(&layer));
    let config = config_json(&image.config, &layer_digest).to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": [image.name],
        "Layers": [layer_name],
    }]);
    tar(&[
        &File::text(&config_name, &config),
        &File::folder(&layer_digest, 0o755),
        &File {
            path: layer_name.clone(),
            mode: 0o644,
            content: Content::Bytes(layer),
        },
        &File::text("manifest.json", &manifest.to_string()),
    ])
}

/// The config of the OCI image specification, in its Docker flavour: the same fields.
fn config_json(config: &Config, layer_digest: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let ports: Map<String, Value> = config
        .ports
        .iter()
        .map(|port| (format!("{port}/tcp"), json!({})))
        .collect();
    let labels: Map<String, Value> = config
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": config.user,
            "Entrypoint": config.entrypoint,
            "Env": config.env,
            "ExposedPorts": ports,
            "Labels": labels,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image"}],
    })
}

/// Every folder on the way to a file comes before it, as an entry of its own: some readers give
/// folders that are merely implied no access for users.
fn with_parents(files: &[File]) -> Vec<File> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for file in files {
        let mut end = 0;
        while let Some(slash) = file.path[end..].find('/') {
            end += slash + 1;
            let folder = &file.path[..end - 1];
            if seen.insert(folder.to_owned()) {
                all.push(File::folder(folder, 0o755));
            }
        }
        seen.insert(file.path.clone());
        all.push(File {
            path: file.path.clone(),
            mode: file.mode,
            content: file.content.clone(),
        });
    }
    all
}

fn tar(files: &[impl std::borrow::Borrow<File>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for file in files {
        let file = file.borrow();
        let bytes: &[u8] = match &file.content {
            Content::Bytes(bytes) => bytes,
            Content::Folder | Content::Link(_) => &[],
        };
        out.extend_from_slice(&header(file, bytes.len())?);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    // Two empty blocks end the archive.
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// A header of the POSIX format: fixed fields, numbers in octal text, a sum over all bytes.
fn header(file: &File, size: usize) -> Result<[u8; BLOCK]> {
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, room: usize, text: &str| -> Result<()> {
        if text.len() > room {
            bail!("{text:?} has more than the {room} bytes that a tar header has room for");
        }
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
        Ok(())
    };
    let (kind, link, slash) = match &file.content {
        Content::Bytes(_) => ("0", "", ""),
        Content::Folder => ("5", "", "/"),
        Content::Link(target) => ("2", target.as_str(), ""),
    };
    put(0, 100, &format!("{}{slash}", file.path))?; // name
    put(100, 8, &format!("{:07o}", file.mode))?;
    put(108, 8, "0000000")?; // user: root
    put(116, 8, "0000000")?; // group: root
    put(124, 12, &format!("{size:011o}"))?;
    put(136, 12, "00000000000")?; // time
    put(148, 8, "        ")?; // the sum counts itself as spaces
    put(156, 1, kind)?;
    put(157, 100, link)?;
    put(257, 8, "ustar\x0000")?;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sample() -> Image {
        Image {
            name: "docker.io/quorate/quorate:1".to_owned(),
            config: Config {
                entrypoint: vec!["/bin/it".to_owned()],
                user: "1:2".to_owned(),
                ..Config::default()
            },
            files: vec![
                File::folder("tmp", 0o1777),
                File::program("usr/bin/it", vec![7; 1000]),
                File::link("usr/bin/other", "it"),
            ],
        }
    }

    /// What `tar` lists, in its own words: mode, owner, size and name of each entry.
    fn listed(archive: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tar");
        std::fs::write(&path, archive).expect("written");
        let output = Command::new("tar")
            .args(["--numeric-owner", "--utc", "-tvf"])
            .arg(&path)
            .output()
            .expect("tar starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn tar_reads_the_layer_as_it_was_meant() {
        let layer = tar(&with_parents(&sample().files)).expect("a layer");
        let listed = listed(&layer);
        let words: Vec<Vec<&str>> = listed
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let shown: Vec<String> = words
            .iter()
            .map(|line| format!("{} {} {}", line[0], line[2], line[5..].join(" ")))
            .collect();
        assert_eq!(
            shown,
            [
                "drwxrwxrwt 0 tmp/",
                "drwxr-xr-x 0 usr/",
                "drwxr-xr-x 0 usr/bin/",
                "-rwxr-xr-x 1000 usr/bin/it",
                "lrwxrwxrwx 0 usr/bin/other -> it",
            ]
        );
    }

    #[test]
    fn equal_contents_give_equal_bytes() {
        let (one, two) = (archive(&sample()), archive(&sample()));
        assert_eq!(one.expect("one"), two.expect("two"));
    }

    #[test]
    fn the_config_names_the_digest_of_the_layer_inside() {
        let bytes = archive(&sample()).expect("an archive");
        let layer = tar(&with_parents(&sample().files)).expect("a layer");
        let digest = hex(&Sha256::digest(&layer));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(&format!("\"diff_ids\":[\"sha256:{digest}\"]")));
        assert!(listed(&bytes).contains(&format!("{digest}/layer.tar")));
    }

    #[test]
    fn a_name_without_room_in_the_header_is_refused() {
        let long = File::text(&"x".repeat(101), "");
        assert!(tar(&[long]).is_err());
    }
}
