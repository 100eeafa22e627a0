//! The manifest file: what the user wants, read again whenever its content changes.
//!
//! A manifest that cannot be used never takes effect: the last good one stays in force and the
//! reason is shown. Must not know: the cluster, where the last good one is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::crd::KvCluster;

use super::files;

/// No manifest is larger; more is another file.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A manifest as it was last read.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The text as read.
    pub text: String,
    /// What it says, or why it cannot be used: file, line, field, remedy.
    pub content: Result<KvCluster, String>,
}

/// What changes when a file is written, whatever the editor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Manifest {
    /// Reads the manifest for the first time.
    pub fn read(path: &Path) -> Manifest {
        let content = Err(String::new());
        let mut manifest = Manifest {
            path: path.to_owned(),
            stamp: None,
            text: String::new(),
            content,
        };
        manifest.load();
        manifest
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it again if the file is another one than before. True when the text changed.
    pub fn refresh(&mut self) -> bool {
        // Without a stamp (the file could not be looked at) it is read each time.
        if self.stamp.is_some() && self.stamp == stamp(&self.path) {
            return false;
        }
        let before = (self.text.clone(), self.content.clone().err());
        self.load();
        before != (self.text.clone(), self.content.clone().err())
    }

    fn load(&mut self) {
        self.stamp = stamp(&self.path);
        let shown = self.path.display();
        let text = files::read(&self.path, MANIFEST_BYTES_MAX).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
        });
        match text {
            Ok(text) => {
                self.content = parse(&self.path, &text);
                self.text = text;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.content = Err(format!("{shown}: there is no such file. Check the path."));
            }
            Err(error) => self.content = Err(format!("{shown}: cannot be read: {error}.")),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok();
    Some(Stamp {
        modified,
        length: metadata.len(),
        inode: metadata.ino(),
    })
}

/// What a manifest text says.
///
/// # Errors
/// For people: file, line, field, and what is wrong there.
pub(super) fn parse(path: &Path, text: &str) -> Result<KvCluster, String> {
    crate::manifest::parse(&path.display().to_string(), text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\nmetadata: {name: demo}\n\
                        spec: {replicas: 3}\n";

    #[test]
    fn a_change_is_noticed_by_content_and_a_mistake_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.yaml");
        fs::write(&path, GOOD).unwrap();
        let mut manifest = Manifest::read(&path);
        assert_eq!(manifest.content.as_ref().unwrap().spec.replicas, 3);
        assert!(!manifest.refresh());
        fs::write(&path, GOOD.replace('3', "many")).unwrap();
        assert!(manifest.refresh());
        let why = manifest.content.clone().unwrap_err();
        assert!(
            why.contains("cluster.yaml:4") && why.contains("replicas"),
            "{why}"
        );
        fs::remove_file(&path).unwrap();
        assert!(manifest.refresh());
        assert!(
            manifest
                .content
                .clone()
                .unwrap_err()
                .contains("no such file")
        );
        assert!(!manifest.refresh());
        fs::write(&path, GOOD).unwrap();
        assert!(manifest.refresh());
        assert!(manifest.content.is_ok());
    }
}
