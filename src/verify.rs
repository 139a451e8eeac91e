//! Verify: compares the files that wbc wrote in a workspace with their checksums, on request also the images with their
//! manifest, and names what was made from what has changed.

use crate::context::Context;
use crate::decode;
use crate::error::{Error, Input, Result, if_readable};
use crate::fetch::bytes_text;
use crate::guard;
use crate::integrity::{self, State};
use crate::rows::ManifestRow;
use crate::schema::MANIFEST;
use crate::storage;
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Result of [`run`].
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Number of files that were compared.
    pub files: u64,
    /// Their size, bytes.
    pub bytes: u64,
    /// Files of earlier versions, which have no checksum.
    pub unknown: u64,
    /// Images that were compared with their manifest; none unless requested.
    pub images: u64,
    /// What differs.
    pub findings: Vec<Finding>,
}

/// A file that is not as it was written or ingested.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
    /// The files that were made from it.
    pub made_from_it: Vec<PathBuf>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", text::of(self.files, "file"), bytes_text(self.bytes))?;
        if self.images > 0 {
            write!(f, " and {}", text::of(self.images, "image"))?;
        }
        match self.findings.len() {
            0 => write!(f, ": no differences")?,
            n => write!(f, ": {}", text::of(n as u64, "difference"))?,
        }
        if self.unknown > 0 {
            write!(f, "\n{} of earlier versions without a checksum, which cannot be compared", self.unknown)?;
        }
        for Finding { path, message, made_from_it } in &self.findings {
            write!(f, "\n{}: {message}", path.display())?;
            for path in made_from_it {
                write!(f, "\n  made from it: {}", path.display())?;
            }
        }
        Ok(())
    }
}

/// A data set or a run, and what a file of it holds or was made from, by [`Input::name`].
type Node = (String, String);

/// A file that wbc wrote.
struct Artefact {
    path: PathBuf,
    bytes: u64,
    state: State,
    /// What is wrong with it, if it cannot be read at all.
    problem: Option<String>,
    /// What it holds.
    holds: Option<Node>,
    /// What it was made from.
    inputs: Vec<Node>,
}

/// Compares every file that wbc wrote in the workspace with its checksum; with `full`, also every image with its
/// manifest.
///
/// # Errors
/// [`Error::Io`] if a file or folder cannot be read, [`Error::Interrupted`].
pub fn run(ws: &Workspace, full: bool, ctx: &Context) -> Result<Summary> {
    let paths = paths(ws)?;
    let task = ctx.progress.task("verifying", Some(paths.len() as u64), "files");
    let artefacts = paths.into_par_iter().map(|path| {
        ctx.check_stop()?;
        let artefact = Artefact::read(ws, path);
        task.advance(1);
        artefact
    });
    let artefacts = artefacts.collect::<Result<Vec<_>>>()?;
    drop(task);
    let mut summary = Summary {
        files: artefacts.len() as u64,
        bytes: artefacts.iter().map(|a| a.bytes).sum(),
        unknown: artefacts.iter().filter(|a| a.problem.is_none() && a.state == State::Unknown).count() as u64,
        images: 0,
        findings: Vec::new(),
    };
    for artefact in &artefacts {
        let message =
            artefact.problem.clone().or((artefact.state == State::Damaged).then(|| integrity::DAMAGED.into()));
        if let Some(message) = message {
            let made_from_it = artefact.holds.as_ref().map_or(Vec::new(), |node| made_from(node, &artefacts));
            summary.findings.push(Finding { path: artefact.path.clone(), message, made_from_it });
        }
    }
    if full {
        for artefact in artefacts.iter().filter(|a| a.path.file_name().is_some_and(|name| name == "manifest.parquet")) {
            let Some((dataset, _)) = &artefact.holds else { continue };
            // A damaged manifest is a finding already.
            if let Some((rows, _)) = if_readable(table::read_rows::<ManifestRow>(&artefact.path, &MANIFEST))? {
                let files: BTreeMap<String, String> =
                    rows.into_iter().map(|row| (row.path, row.content_hash)).collect();
                summary.images += files.len() as u64;
                let mut changed = changed_images(ws, dataset, &files, ctx)?;
                let node = (dataset.clone(), Input::Manifest.name().to_string());
                let made_from_it: Vec<PathBuf> =
                    std::iter::once(artefact.path.clone()).chain(made_from(&node, &artefacts)).collect();
                changed.iter_mut().for_each(|finding| finding.made_from_it.clone_from(&made_from_it));
                summary.findings.extend(changed);
            }
        }
    }
    Ok(summary)
}

/// The files of the workspace that hold checksums, sorted.
fn paths(ws: &Workspace) -> Result<Vec<PathBuf>> {
    if !ws.root.is_dir() {
        return Err(Error::io(&ws.root, "open")(std::io::ErrorKind::NotFound.into()));
    }
    let is_foreign = |path: &Path| path == ws.raw() || path == ws.downloads();
    let is_hidden =
        |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with('.');
    let walk = walkdir::WalkDir::new(&ws.root).follow_links(true).sort_by_file_name().into_iter();
    let mut paths = Vec::new();
    for entry in walk.filter_entry(|entry| !is_hidden(entry) && !is_foreign(entry.path())) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(&ws.root).to_path_buf();
            Error::io(&path, "open")(e.into())
        })?;
        let name = entry.file_name().to_string_lossy();
        let is_ours = ["parquet", "safetensors"].iter().any(|e| entry.path().extension().is_some_and(|x| x == *e))
            || ["run.json", "fit.json", "about.json"].contains(&name.as_ref());
        if entry.file_type().is_file() && is_ours && entry.depth() > 1 {
            paths.push(entry.into_path());
        }
    }
    Ok(paths)
}

impl Artefact {
    fn read(ws: &Workspace, path: PathBuf) -> Result<Self> {
        let failed = |error| Error::io(&path, "read")(error);
        let mut file = File::open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let part = match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => integrity::parquet_footer(&mut file),
            Some("safetensors") => integrity::safetensors_header(&mut file),
            _ => Ok(0..bytes),
        };
        let state = match part.and_then(|part| integrity::state(&mut file, part)) {
            // A file that is shorter than any of its kind.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => State::Damaged,
            state => state.map_err(failed)?,
        };
        let mut artefact = Artefact { bytes, state, problem: None, holds: None, inputs: Vec::new(), path };
        artefact.place(ws)?;
        Ok(artefact)
    }

    /// Finds out what the file holds, and from what it was made.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn place(&mut self, ws: &Workspace) -> Result<()> {
        let below = |root: PathBuf| {
            let below = self.path.strip_prefix(root).ok()?;
            Some(below.components().next()?.as_os_str().to_string_lossy().into_owned())
        };
        let run = below(ws.runs()).map(|run| format!("runs/{run}"));
        let is_run = run.is_some();
        let Some(owner) = run.or_else(|| below(ws.root.clone())) else { return Ok(()) };
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let holds = match stem.as_str() {
            _ if folder.starts_with("tensors-") => Some(Input::Tensors.name()),
            "about" => Some(Input::Validation.name()),
            // What a classical classifier chose takes the place of weights.
            "fit" => Some(Input::Checkpoint.name()),
            stem => Input::from_name(stem).map(Input::name),
        };
        self.holds = holds.map(|name| (owner.clone(), name.to_string()));
        let of_owner = |input: Input| (owner.clone(), input.name().to_string());
        match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => match table::any_provenance(&self.path) {
                Ok(Provenance { inputs, .. }) => {
                    self.inputs = inputs.into_keys().map(|key| (owner.clone(), key)).collect();
                    if is_run && stem == "predictions" {
                        self.inputs.push(of_owner(Input::Checkpoint));
                    }
                }
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(Error::Format { item, expected, got, .. }) => {
                    self.problem = Some(format!("{item}: expected {expected}, found {got}"));
                }
                Err(error) => self.problem = Some(error.to_string()),
            },
            Some("json") if stem == "run" => {
                // Not as a record: that of another version names its inputs, too.
                let text = guard::read(&self.path, 10_000_000).map_err(Error::io(&self.path, "read"))?;
                let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(()) };
                let dataset = record["dataset"].as_str().unwrap_or_default().to_string();
                let inputs = record["inputs"].as_object().into_iter().flatten();
                self.inputs = inputs.map(|(key, _)| (dataset.clone(), key.clone())).collect();
            }
            _ => self.inputs = vec![of_owner(Input::Run)],
        }
        Ok(())
    }
}

/// The files that were made from what `node` stands for, and from these, sorted.
fn made_from(node: &Node, artefacts: &[Artefact]) -> Vec<PathBuf> {
    let (mut reached, mut found) = (BTreeSet::from([node.clone()]), BTreeSet::new());
    loop {
        let before = found.len();
        for artefact in artefacts {
            let is_made_from = artefact.inputs.iter().any(|input| reached.contains(input));
            if is_made_from && artefact.holds.as_ref() != Some(node) {
                found.insert(artefact.path.clone());
                reached.extend(artefact.holds.clone());
            }
        }
        if found.len() == before {
            return found.into_iter().collect();
        }
    }
}

/// BLAKE3 of a file, or of an object.
fn hash_of(path: &Path) -> Result<String> {
    match storage::read(path, decode::MAX_BYTES).map_err(Error::io(path, "read"))? {
        Some(bytes) => Ok(blake3::hash(&bytes).to_hex().to_string()),
        None => table::file_hash(path),
    }
}

/// The images of a data set that are not the ones that were ingested.
fn changed_images(
    ws: &Workspace,
    dataset: &str,
    files: &BTreeMap<String, String>,
    ctx: &Context,
) -> Result<Vec<Finding>> {
    let raw = ws.raw_dataset(dataset);
    let task = ctx.progress.task("verifying images", Some(files.len() as u64), "images");
    let compare = |(path, hash): (&String, &String)| {
        ctx.check_stop()?;
        let path = raw.join(path);
        task.advance(1);
        let message = match table::exists(&path)? {
            false => "the image is no longer there",
            true if hash_of(&path)? == *hash => return Ok(None),
            true => "the image has changed since it was ingested",
        };
        Ok(Some(Finding { path, message: message.into(), made_from_it: Vec::new() }))
    };
    let found = storage::on_threads(&raw, || files.par_iter().map(compare).collect::<Result<Vec<_>>>())?;
    Ok(found.into_iter().flatten().collect())
}
