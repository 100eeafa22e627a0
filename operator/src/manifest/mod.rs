//! A manifest file becomes a `KvCluster`, or an error that names file, line, column and field.
//!
//! PURE: text in, value out. The resource's own schema says what may be written, so what a user may
//! write here and on Kubernetes is the same. Assumes nothing about the text. Must not know: where
//! the file came from, beyond the name it is given for messages.

mod check;
mod tree;

use std::fmt;

use serde_saphyr::Location;

use crate::crd::{API_VERSION, KIND, KvCluster, schema};
use crate::manifest::check::check;
use crate::manifest::tree::{Node, Tree};

/// The largest manifest, in bytes: what an object may be on Kubernetes, with room for comments.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// One thing that is wrong with a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    /// The name of the file.
    pub file: String,
    /// Line, from 1; 0 when it is the whole file.
    pub line: u64,
    /// Column, from 1; 0 when it is the whole line or file.
    pub column: u64,
    /// The field, `spec.storage.size`; empty when it is the whole document.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ManifestError {
            file,
            line,
            column,
            path,
            problem,
        } = self;
        write!(f, "{file}")?;
        if *line > 0 {
            write!(f, ":{line}:{column}")?;
        }
        match path.is_empty() {
            true => write!(f, ": {problem}"),
            false => write!(f, ": {path}: {problem}"),
        }
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    fn at(file: &str, location: Location, path: &str, problem: impl Into<String>) -> ManifestError {
        ManifestError {
            file: file.to_owned(),
            line: location.line(),
            column: location.column(),
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    fn whole(file: &str, problem: impl Into<String>) -> ManifestError {
        ManifestError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            problem: problem.into(),
        }
    }
}

/// Reads the one `KvCluster` of a manifest. `file` is only named in errors.
///
/// # Errors
/// The first [`ManifestError`], in the order of the file: not YAML, too large, a duplicate or
/// unknown field, a wrong type or value, no `KvCluster` or more than one.
pub fn parse(file: &str, text: &str) -> Result<KvCluster, ManifestError> {
    let bytes = text.len();
    if bytes > MANIFEST_BYTES_MAX {
        let problem = format!("has {bytes} bytes; a manifest may have {MANIFEST_BYTES_MAX}");
        return Err(ManifestError::whole(file, problem));
    }
    let documents: Vec<Tree> = serde_saphyr::from_multiple(text).map_err(|error| {
        let problem = error.without_snippet().to_string();
        match error.location() {
            Some(location) => ManifestError::at(file, location, "", problem),
            None => ManifestError::whole(file, problem),
        }
    })?;
    let document = only_cluster(file, documents)?;
    let schema = schema().map_err(|error| ManifestError::whole(file, error.to_string()))?;
    check(&document, &schema)
        .map_err(|wrong| ManifestError::at(file, wrong.location, &wrong.path, wrong.problem))?;
    let location = document.location;
    serde_json::from_value(document.into_json())
        .map_err(|error| ManifestError::at(file, location, "", error.to_string()))
}

/// The one document that is a `KvCluster`; documents of other kinds are left to others.
fn only_cluster(file: &str, documents: Vec<Tree>) -> Result<Tree, ManifestError> {
    let mut cluster: Option<Tree> = None;
    let mut others = Vec::new();
    for document in documents {
        if document.node == Node::Null {
            continue;
        }
        let text = |name: &str| document.field(name).and_then(Tree::text).map(str::to_owned);
        let (version, kind) = (text("apiVersion"), text("kind"));
        let Some(kind) = kind else {
            let problem = format!("is missing; write `kind: {KIND}`");
            return Err(ManifestError::at(file, document.location, "kind", problem));
        };
        if kind != KIND {
            others.push(kind);
            continue;
        }
        if version.as_deref() != Some(API_VERSION) {
            let problem = match version {
                Some(version) => format!("`{version}` is not known; write `{API_VERSION}`"),
                None => format!("is missing; write `apiVersion: {API_VERSION}`"),
            };
            let at = document
                .field("apiVersion")
                .map_or(document.location, |tree| tree.location);
            return Err(ManifestError::at(file, at, "apiVersion", problem));
        }
        if let Some(first) = &cluster {
            let problem = format!(
                "is the second {KIND}; the first is at line {}. Keep one {KIND} in a file",
                first.location.line()
            );
            return Err(ManifestError::at(file, document.location, "", problem));
        }
        cluster = Some(document);
    }
    cluster.ok_or_else(|| {
        let found = match others.is_empty() {
            true => "is empty".to_owned(),
            false => format!("contains {}", others.join(", ")),
        };
        ManifestError::whole(
            file,
            format!("{found}; one {KIND} ({API_VERSION}) is needed"),
        )
    })
}
