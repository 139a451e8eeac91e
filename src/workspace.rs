//! Where things lie in a workspace: `raw/<dataset>/` in, `<dataset>/` and `runs/<run>/` out.

use crate::error::{Error, Input, Result};
use std::path::{Path, PathBuf};

const ONE_FOLDER_PER_DATASET: &str = "Put each data set into its own folder there, such as data/raw/pbc/neutrophil/*.jpg; `wbc synth` makes synthetic ones";

/// A workspace folder (`--workspace`, by default `data`).
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: PathBuf,
}

impl Workspace {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `raw/`: the data sets as they came.
    pub fn raw(&self) -> PathBuf {
        self.root.join("raw")
    }

    /// `raw/<dataset>/`.
    pub fn raw_dataset(&self, dataset: &str) -> PathBuf {
        self.raw().join(dataset)
    }

    /// `downloads/`: what `wbc fetch` has not unpacked yet, and where data sets came from.
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

    /// `<dataset>/checks.parquet`: what check measured, and the groups of copies.
    pub fn checks(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("checks.parquet")
    }

    /// `<dataset>/issues.parquet`: what ingest and check found.
    pub fn issues(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("issues.parquet")
    }

    /// `<dataset>/splits.parquet`.
    pub fn splits(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("splits.parquet")
    }

    /// A folder of pictures; `folder` is what the settings of preprocessing say.
    pub fn tensors(&self, dataset: &str, folder: &str) -> PathBuf {
        self.root.join(dataset).join(folder)
    }

    /// `<dataset>/features.parquet`.
    pub fn features(&self, dataset: &str) -> PathBuf {
        self.root.join(dataset).join("features.parquet")
    }

    /// That `name` can be a folder's name below the workspace: of a run, of a data set. `key` is the setting that gave it.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is empty, hidden, or a path, or has a colon, which parts a run from its fold.
    pub fn check_name(key: &str, name: &str) -> Result<()> {
        let fits = !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(['/', '\\', ':', '\0']);
        match fits {
            true => Ok(()),
            false => Err(Error::Setting {
                key: key.into(),
                expected: "a folder's name: not empty, no path, no colon, not hidden".into(),
                got: format!("{name:?}"),
            }),
        }
    }

    /// `runs/`.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// `runs/<run>/`.
    pub fn run(&self, run: &str) -> PathBuf {
        self.runs().join(run)
    }

    /// Names of the data sets under `raw/`, sorted; hidden folders left out.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no `raw/` or no data set in it.
    pub fn raw_datasets(&self) -> Result<Vec<String>> {
        let names = folders(&self.raw())?;
        if names.is_empty() {
            return Err(Error::missing(Input::Images, self.raw()).with_hint(ONE_FOLDER_PER_DATASET));
        }
        Ok(names)
    }

    /// Names of the data sets that have a manifest, sorted.
    pub fn ingested_datasets(&self) -> Result<Vec<String>> {
        let names: Vec<String> = if self.root.is_dir() {
            folders(&self.root)?.into_iter().filter(|n| self.manifest(n).is_file()).collect()
        } else {
            Vec::new()
        };
        if names.is_empty() {
            return Err(Error::missing(Input::Manifest, &self.root));
        }
        Ok(names)
    }

    /// The one data set that a command works on: `asked`, else the only one, else the one named `cuk`.
    ///
    /// # Errors
    /// [`Error::Setting`] that lists the names where the choice is open or `asked` is not among them.
    pub fn choose(&self, asked: Option<&str>, present: &[String]) -> Result<String> {
        let names = present.join(", ");
        match asked {
            Some(name) if present.iter().any(|p| p == name) => Ok(name.into()),
            Some(name) => {
                Err(Error::Setting { key: "dataset".into(), expected: format!("one of: {names}"), got: name.into() })
            }
            None if present.len() == 1 => Ok(present[0].clone()),
            None if present.iter().any(|p| p == "cuk") => Ok("cuk".into()),
            None => Err(Error::Setting {
                key: "dataset".into(),
                expected: format!("--dataset with one of: {names}"),
                got: "several data sets and no choice".into(),
            }),
        }
    }
}

/// Names of the visible folders in `dir`, sorted. Links to folders count.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::missing(Input::Images, dir).with_hint(ONE_FOLDER_PER_DATASET),
        _ => Error::Io { path: dir.into(), action: "list", source },
    })?;
    let mut names = Vec::new();
    for entry in entries {
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
