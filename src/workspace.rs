//! Where files are in a workspace: data sets in `raw/<dataset>/`, results in `<dataset>/` and `runs/<run>/`.

use crate::class::ClassSet;
use crate::error::{Error, Input, Result};
use crate::storage;
use crate::text;
use std::path::{Path, PathBuf};

/// Between the names of the members in the name of a joint data set: see [`crate::join`].
pub const JOINT: char = '+';

/// A workspace folder (`--workspace`, by default `data`).
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The folder.
    pub root: PathBuf,
}

impl Workspace {
    /// The workspace in a folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `raw/`: the data sets, one folder each.
    pub fn raw(&self) -> PathBuf {
        self.root.join("raw")
    }

    /// `raw/<dataset>/`: the files of a data set, or a file that says where they are ([`crate::storage`]). They are
    /// never changed. The paths of a joint data set, such as
    /// `jtsc+pbc`, start with the name of the member: its folder is `raw/`.
    pub fn raw_dataset(&self, dataset: &str) -> PathBuf {
        let own = self.raw().join(dataset);
        if dataset.contains(JOINT) && !own.exists() { self.raw() } else { own }
    }

    /// `downloads/`: unfinished downloads, and where the downloaded data sets came from.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// `<dataset>/manifest.parquet`.
    pub fn manifest(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("manifest.parquet")
    }

    /// `<dataset>/ingest_issues.parquet`: what ingest found.
    pub fn ingest_issues(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("ingest_issues.parquet")
    }

    /// `<dataset>/checks.parquet`: groups and measurements of check.
    pub fn checks(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("checks.parquet")
    }

    /// `<dataset>/copies.parquet`: pairs of copies.
    pub fn copies(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("copies.parquet")
    }

    /// `<dataset>/copies-<other>.parquet`: pairs of copies with another data set.
    pub fn copies_in(&self, dataset: &str, other: &str) -> PathBuf {
        self.root.join(dataset).join(format!("copies-{other}.parquet"))
    }

    /// `<dataset>/copy_features.parquet`: what is kept of the images to find copies of them.
    pub fn copy_features(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("copy_features.parquet")
    }

    /// `<dataset>/issues.parquet`: what ingest and check found.
    pub fn issues(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("issues.parquet")
    }

    /// `<dataset>/shards/<stage>/`: what processes found that share the images of a data set, until it is merged.
    pub fn shards(&self, dataset: &str, stage: &str) -> PathBuf {
        self.root.join(dataset).join("shards").join(stage)
    }

    /// `<dataset>/splits.parquet`.
    pub fn splits(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("splits.parquet")
    }

    /// `<dataset>/split_issues.parquet`: leaks of the data set's own split.
    pub fn split_issues(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("split_issues.parquet")
    }

    /// A folder of preprocessed images; `folder` is [`crate::preprocess::Settings::folder`].
    pub fn tensors(&self, dataset: &str, folder: &str) -> PathBuf {
        self.root.join(dataset).join(folder)
    }

    /// `<dataset>/features.parquet`.
    pub fn features(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("features.parquet")
    }

    /// `runs/`.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// `runs/<run>/`.
    pub fn run(&self, run: &str) -> PathBuf {
        self.runs().join(run)
    }

    /// Checks that `name` can be the name of a run or data set. `key` is the setting that it comes from.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is empty, hidden, a path, or has a colon, which separates run and fold.
    pub fn check_name(key: &str, name: &str) -> Result<()> {
        let valid = !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(['/', '\\', ':', '\0']);
        match valid {
            true => Ok(()),
            false => {
                let expected = "a folder name that is not empty, hidden or a path, and has no colon";
                Err(Error::setting(key, expected, format!("{name:?}")))
            }
        }
    }

    /// Names of the data sets in `raw/`, sorted, without hidden folders.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no `raw/`, or no data set in it, or class folders without the folder of a data
    /// set.
    pub fn raw_datasets(&self) -> Result<Vec<String>> {
        let missing = || {
            let hint = "Put each data set into its own folder there, such as data/raw/pbc/neutrophil/*.jpg; \
                        or try synthetic cells: wbc synth";
            Error::missing(Input::Images, self.raw()).with_hint(hint)
        };
        if !self.raw().exists() {
            return Err(missing());
        }
        let names = data_sets(&self.raw())?;
        if names.is_empty() {
            return Err(missing());
        }
        let set = ClassSet::pbc8();
        let is_class = |name: &&String| set.find(name).is_some() && holds_images(&self.raw_dataset(name));
        let classes: Vec<&str> = names.iter().filter(is_class).map(String::as_str).collect();
        if !classes.is_empty() {
            let example = self.raw_dataset("mine").join(classes[0]);
            let hint = format!(
                "Folders named after classes ({}) are not data sets: put them into the folder of one, such as {}",
                text::some(classes.iter().copied()),
                example.display()
            );
            return Err(Error::missing(Input::Images, self.raw_dataset("mine")).with_hint(hint));
        }
        Ok(names)
    }

    /// Names of the data sets with a manifest, sorted.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub fn ingested_datasets(&self) -> Result<Vec<String>> {
        let names: Vec<String> = if self.root.is_dir() {
            folders(&self.root)?.into_iter().filter(|name| self.manifest(name).is_file()).collect()
        } else {
            Vec::new()
        };
        if names.is_empty() { Err(Error::missing(Input::Manifest, &self.root)) } else { Ok(names) }
    }

    /// Selects one of the data sets `present`: the requested one, or the only one, or the one named `cuk`.
    ///
    /// # Errors
    /// [`Error::Setting`] with all names if `requested` is not among them, or if there are several and none is
    /// requested.
    pub fn choose(&self, requested: Option<&str>, present: &[String]) -> Result<String> {
        let names = present.join(", ");
        match requested {
            Some(name) if present.iter().any(|p| p == name) => Ok(name.into()),
            Some(name) => Err(Error::setting("dataset", format!("one of: {names}"), name)),
            None if present.len() == 1 => Ok(present[0].clone()),
            None if present.iter().any(|p| p == "cuk") => Ok("cuk".into()),
            None => Err(Error::setting("dataset", format!("--dataset with one of: {names}"), "several data sets")),
        }
    }
}

/// Whether a folder holds images alone: neither folders nor lists.
fn holds_images(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is_list = |path: &PathBuf| {
        let extension = path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        ["csv", "tsv", "parquet", "json", "xml"].contains(&extension.as_str())
    };
    !paths.is_empty() && !paths.iter().any(|path| path.is_dir() || is_list(path))
}

/// Names of the visible folders and links to object storage in `dir`, sorted.
fn data_sets(dir: &Path) -> Result<Vec<String>> {
    let mut names = folders(dir)?;
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let entry = entry.map_err(Error::io(dir, "list"))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && storage::is_link(&entry.path())
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Names of the visible folders in `dir`, sorted, including links to folders.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir, "list"))? {
        let entry = entry.map_err(Error::io(dir, "list"))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
            && entry.path().is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
