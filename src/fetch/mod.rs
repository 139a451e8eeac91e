//! Fetch: downloads and unpacks a data set into a folder in `raw/`. The archive is checked against its checksum, where
//! one is known, and the folder appears only when it is complete. `downloads/<dataset>.json` records its origin.

use crate::atomic;
use crate::context::Context;
use crate::decode;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod catalogue;
pub mod checksum;
mod download;
mod unpack;

use checksum::Checksum;
pub use download::bytes_text;
use download::{Patience, note_of};
use unpack::{Kind, Limits, Unpacked};

/// Settings of the stage.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Checksum that the archive must have; by default that of the catalogue.
    pub checksum: Option<Checksum>,
    /// Replace an existing data set of that name.
    pub force: bool,
    /// Keep the archive in `downloads/`.
    pub keep: bool,
    /// Retries after a failure; counted anew when more bytes have arrived.
    pub retries: u32,
    /// Most bytes to download.
    pub max_bytes: u64,
    /// Most bytes that an archive may unpack to.
    pub max_unpacked_bytes: u64,
    /// Most files and folders in an archive.
    pub max_files: u64,
    /// Most unpacked bytes per packed byte.
    pub max_ratio: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checksum: None,
            force: false,
            keep: false,
            retries: 5,
            max_bytes: 50_000_000_000,
            max_unpacked_bytes: 100_000_000_000,
            max_files: 1_000_000,
            max_ratio: 100,
        }
    }
}

/// Where a data set comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A data set of the catalogue.
    Known(&'static catalogue::Dataset),
    /// An http or https address of an archive.
    Url(String),
    /// An archive.
    File(PathBuf),
}

impl Source {
    /// A name of [`catalogue::DATASETS`], an http, https or file address, or the path of an archive.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other text.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::File(percent_decoded(path.strip_prefix("localhost").unwrap_or(path)).into()));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Url(text.into()));
        }
        if let Some(known) = catalogue::find(text) {
            return Ok(Self::Known(known));
        }
        if Path::new(text).exists() {
            return Ok(Self::File(text.into()));
        }
        let names: Vec<&str> = catalogue::DATASETS.iter().map(|d| d.name.as_str()).collect();
        let expected = format!("a known data set ({}), an http or https address, or an archive", names.join(", "));
        let is_path = text.contains(['/', '\\', '.']);
        Err(Error::setting(
            "source",
            expected,
            if is_path { format!("{text}, which is not there") } else { text.into() },
        ))
    }

    /// The default name of the data set.
    ///
    /// # Errors
    /// [`Error::Setting`] where the address does not end in a usable name.
    pub fn default_name(&self) -> Result<String> {
        let last = match self {
            Self::Known(known) => return Ok(known.name.clone()),
            Self::Url(url) => url.split(['?', '#']).next().unwrap_or("").rsplit('/').next().unwrap_or("").to_string(),
            Self::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let mut stem = last.as_str();
        for extension in [".gz", ".tgz", ".tar", ".zip"] {
            stem = stem.strip_suffix(extension).unwrap_or(stem);
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
        let name: String = stem.chars().map(plain).collect();
        dataset_name(name.trim_matches(['-', '.']))
            .map_err(|_| Error::setting("name", "a name for the data set, because the address has none", last))
    }
}

/// Decodes `%20` and the like in an address.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => (bytes.push(byte), rest = &after[2..]),
            _ => (bytes.push(first), rest = after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The result of fetching.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// The address or path of the archive.
    pub source: String,
    /// Folder of the data set.
    pub folder: PathBuf,
    /// Size of the archive, bytes.
    pub archive_bytes: u64,
    /// Bytes of it that were downloaded now.
    pub downloaded_bytes: u64,
    /// SHA-256 of the archive.
    pub sha256: String,
    /// The checksum that it was checked against, where one was given or known.
    pub verified: Option<Checksum>,
    /// The unpacked files.
    #[serde(flatten)]
    pub unpacked: Unpacked,
    /// Number of image files among them, by their names.
    pub images: u64,
    /// The licence, where known.
    pub terms: Option<String>,
    /// How to cite the data set, where known.
    pub citation: Option<String>,
    /// The archive, where it was kept.
    pub archive: Option<PathBuf>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Unpacked { files, bytes, left_out, renamed } = &self.unpacked;
        write!(f, "{}: {files} files, {} of them images", self.dataset, self.images)?;
        write!(f, " ({}) in {}", bytes_text(*bytes), self.folder.display())?;
        write!(f, "\n  from {} ({})", self.source, bytes_text(self.archive_bytes))?;
        if self.downloaded_bytes < self.archive_bytes && self.downloaded_bytes > 0 {
            write!(f, ", {} of it downloaded now", bytes_text(self.downloaded_bytes))?;
        }
        write!(f, "\n  sha256 {}", self.sha256)?;
        match &self.verified {
            Some(sum) if sum.hex == self.sha256 => write!(f, ", as expected")?,
            Some(sum) => write!(f, "; {sum}, as expected")?,
            None => write!(f, " (no checksum to compare with)")?,
        }
        if *renamed > 0 {
            write!(f, "\n  {renamed} files were renamed: their names existed, or are not valid on every system")?;
        }
        for (reason, count) in left_out {
            write!(f, "\n  left out: {reason} ({count})")?;
        }
        if let (Some(terms), Some(citation)) = (&self.terms, &self.citation) {
            write!(f, "\n  terms: {terms}\n  cite: {citation}")?;
        }
        if let Some(archive) = &self.archive {
            write!(f, "\n  archive kept: {}", archive.display())?;
        }
        write!(f, "\nNext: wbc ingest --dataset {}", self.dataset)
    }
}

/// The origin of a data set in the workspace.
#[derive(Clone, Debug, Deserialize)]
pub struct Origin {
    /// The address or path of the archive.
    pub source: String,
    /// The licence, where known.
    pub terms: Option<String>,
    /// How to cite it, where known.
    pub citation: Option<String>,
}

/// The origin of a data set that [`run`] fetched; `None` for any other.
pub fn origin(ws: &Workspace, dataset: &str) -> Option<Origin> {
    serde_json::from_slice(&fs::read(record(ws, dataset)).ok()?).ok()
}

fn record(ws: &Workspace, dataset: &str) -> PathBuf {
    ws.downloads().join(format!("{dataset}.json"))
}

/// Checks the name of a data set.
///
/// # Errors
/// [`Error::Setting`] for a name that is not that of a visible folder, or that the workspace uses itself.
pub fn dataset_name(name: &str) -> Result<String> {
    Workspace::check_name("name", name)?;
    if !["raw", "runs", "downloads"].contains(&name) {
        return Ok(name.into());
    }
    Err(Error::setting("name", "a name other than raw, runs and downloads", format!("{name:?}")))
}

/// Fetches `source` into `raw/<dataset>/`.
///
/// # Errors
/// [`Error::Data`] where a data set of that name exists, has to be downloaded manually, or has no images;
/// [`Error::Fetch`]; [`Error::Format`] for a wrong checksum or a broken or malicious archive; [`Error::Io`];
/// [`Error::Interrupted`]. An existing data set is kept, and so are the bytes that were downloaded.
pub fn run(ws: &Workspace, dataset: &str, source: &Source, settings: &Settings, ctx: &Context) -> Result<Summary> {
    let dataset = &dataset_name(dataset)?;
    let folder = ws.raw_dataset(dataset);
    if !settings.force && folder.exists() {
        let expected = format!("no folder {}", folder.display());
        let hint = "Choose another name (--name NAME), or replace it (--force)";
        return Err(Error::data(dataset, expected, "an existing one").with_hint(hint));
    }
    // The archive of a known data set may have been downloaded manually: `wbc fetch FILE --name jtsc`.
    let known = match source {
        Source::Known(known) => Some(*known),
        Source::File(_) => catalogue::find(dataset),
        Source::Url(_) => None,
    };
    let keep = known.and_then(|k| k.download.as_ref()).map_or(&[][..], |d| &d.keep);
    let expected = settings.checksum.clone().or_else(|| known.and_then(|k| k.checksum.clone()));
    let part = ws.downloads().join(format!("{dataset}.part"));
    let (address, archive, downloaded_bytes) = match source {
        Source::File(path) => (path.display().to_string(), path.clone(), 0),
        Source::Url(url) => (url.clone(), part.clone(), get(url, &part, settings, ctx)?),
        Source::Known(known) => match (&known.download, &known.by_hand) {
            (Some(download), _) => {
                let got = get(&download.url, &part, settings, ctx).map_err(|error| match error {
                    Error::Fetch { address, message } => {
                        Error::fetch(address, format!("{message}. To download it manually: {}", download.else_by_hand))
                    }
                    other => other,
                })?;
                (download.url.clone(), part.clone(), got)
            }
            (None, by_hand) => {
                let (why, how) = by_hand.as_ref().map_or(("", ""), |b| (&b.why, &b.how));
                let expected = "a data set that can be downloaded automatically";
                let got = format!("one that requires manual download or login: {why}");
                return Err(Error::data(dataset, expected, got).with_hint(format!("See {}: {how}", known.page)));
            }
        },
    };
    let is_ours = !matches!(source, Source::File(_));
    let kind = Kind::of(&download::head(&archive)?).map_err(|found| not_an_archive(&archive, found))?;
    let (sha256, found) = checksum::of_file(&archive, expected.as_ref(), ctx)?;
    if let (Some(expected), Some(found)) = (&expected, &found)
        && expected != found
    {
        return Err(mismatch(&archive, is_ours, expected, found));
    }
    let limits = Limits {
        files: settings.max_files,
        bytes: settings.max_unpacked_bytes,
        ratio: settings.max_ratio,
        ratio_from_bytes: 256 << 20,
    };
    let filled = atomic::write_dir(&folder, |temp| {
        let unpacked = unpack::unpack(&archive, temp, keep, &limits, ctx)?;
        let images = images_in(dataset, temp)?;
        Ok((unpacked, images))
    });
    if let (Err(Error::Format { .. } | Error::Data { .. }), true) = (&filled, is_ours) {
        // The download is complete but unusable, so the next attempt starts over.
        put_aside(&archive);
    }
    let (unpacked, images) = filled?;
    let archive_bytes = fs::metadata(&archive).map_err(Error::io(&archive, "read"))?.len();
    let kept = ws.downloads().join(format!("{dataset}.{}", kind.extension()));
    if is_ours && settings.keep {
        atomic::rename(&part, &kept)?;
    }
    if is_ours {
        download::discard(&part);
    }
    let summary = Summary {
        dataset: dataset.clone(),
        source: address,
        folder,
        archive_bytes,
        downloaded_bytes,
        sha256: sha256.hex,
        verified: expected,
        unpacked,
        images,
        terms: known.map(|k| k.terms.clone()),
        citation: known.map(|k| k.citation.clone()),
        archive: (is_ours && settings.keep).then_some(kept),
    };
    let origin = serde_json::to_vec_pretty(&summary).expect("plain JSON");
    atomic::write_bytes(&record(ws, dataset), &origin)?;
    Ok(summary)
}

/// Downloads into `part`. Returns the number of bytes received now.
fn get(url: &str, part: &Path, settings: &Settings, ctx: &Context) -> Result<u64> {
    let parent = part.parent().expect("below the workspace");
    fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
    let patience = Patience {
        retries: settings.retries,
        wait: Duration::from_millis(500),
        silence: Duration::from_secs(60),
        max_bytes: settings.max_bytes,
    };
    ctx.progress.log(&format!("downloading {url}"));
    let accept = |head: &[u8]| match Kind::of(head) {
        Ok(_) => Ok(()),
        Err(found) => Err(Error::fetch(url, format!("expected a zip, tar or tar.gz archive, found {found}"))),
    };
    Ok(download::download(url, part, &patience, &accept, ctx)?.new_bytes)
}

fn not_an_archive(path: &Path, got: String) -> Error {
    Error::format(path, "contents", "a zip, tar or tar.gz archive", got)
}

/// Renames an unusable download to `.rejected`, so that the next attempt starts over.
fn put_aside(archive: &Path) -> Option<PathBuf> {
    let aside = archive.with_extension("rejected");
    fs::rename(archive, &aside).ok()?;
    let _ = fs::remove_file(note_of(archive));
    Some(aside)
}

/// The error for a wrong checksum. A downloaded archive is set aside, so that the next attempt starts over.
fn mismatch(archive: &Path, is_ours: bool, expected: &Checksum, found: &Checksum) -> Error {
    let kept = match is_ours.then(|| put_aside(archive)).flatten() {
        Some(aside) => format!(". Nothing was unpacked; the file is now {}", aside.display()),
        None => ". Nothing was unpacked".into(),
    };
    Error::format(archive, "checksum", expected.to_string(), format!("{found}{kept}"))
}

/// The number of images, by their names. A list of images at the top will do, too.
fn images_in(dataset: &str, folder: &Path) -> Result<u64> {
    let (mut images, mut lists) = (0, 0);
    let mut others: BTreeMap<String, u64> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.map_err(|e| Error::io(folder, "list")(e.into()))?;
        let name = Path::new(entry.file_name());
        let extension = name.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match entry.file_type().is_file() {
            true if decode::has_image_extension(name) => images += 1,
            true if ["csv", "parquet"].contains(&extension.as_str()) && entry.depth() == 1 => lists += 1,
            true => *others.entry(extension).or_default() += 1,
            false => {}
        }
    }
    if images + lists > 0 {
        return Ok(images);
    }
    let others: Vec<String> = others.iter().map(|(extension, n)| format!("{n} .{extension}")).collect();
    let archives = ["zip", "rar", "7z", "gz", "tar"].iter().any(|a| others.iter().any(|o| o.ends_with(a)));
    let got = match others.is_empty() {
        true => "none of the files that the data set should have".into(),
        false => format!("only {}", others.join(", ")),
    };
    let hint = match archives {
        true => "Unpack the archives in it by hand into a folder in data/raw/",
        false => "Nothing was unpacked",
    };
    Err(Error::data(dataset, "images (JPEG, PNG, BMP, TIFF, WebP or GIF) in the archive", got).with_hint(hint))
}
