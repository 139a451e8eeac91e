//! `wbc fetch`: downloads or reads an archive and unpacks it into a folder under raw/.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::fetch::checksum::{Checksum, Kind};
use crate::fetch::{self, Settings, Source};

const EXAMPLES: &str = "\
Examples:
  wbc fetch bccd                                     # a data set that wbc datasets lists
  wbc fetch https://example.org/cells.tar.gz --name mine --md5 HEX
  wbc fetch PBC_dataset_normal_DIB.zip --name pbc    # downloaded with a browser";

/// Downloads an archive (zip, tar, tar.gz), verifies it and unpacks it into data/raw/<NAME>/, where `wbc ingest` reads
/// it.
///
/// The same command resumes an interrupted download. An existing data set is kept unless --force is given. Files in the
/// archive cannot be written outside the data set's folder.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A data set that `wbc datasets` lists, an http or https address, or the path of an archive
    #[arg(value_name = "NAME|URL|FILE")]
    source: String,
    /// Name of the data set [default: that of the public data set or of the archive]
    #[arg(long, value_name = "DATASET")]
    name: Option<String>,
    /// Expected SHA-256 of the archive
    #[arg(long, value_name = "HEX", conflicts_with = "md5")]
    sha256: Option<String>,
    /// Expected MD5 of the archive
    #[arg(long, value_name = "HEX")]
    md5: Option<String>,
    /// Replace an existing data set of that name
    #[arg(long)]
    force: bool,
    /// Keep the archive in data/downloads/
    #[arg(long)]
    keep: bool,
    /// Retries after an interrupted download; the count restarts after progress
    #[arg(long, value_name = "N", default_value_t = Settings::default().retries)]
    retries: u32,
    /// Largest size of the download, bytes
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_bytes)]
    max_bytes: u64,
    /// Largest total size of the unpacked files, GB
    #[arg(long, value_name = "GB", default_value_t = Settings::default().max_unpacked_bytes as f64 / 1e9)]
    max_unpacked_gb: f64,
    /// Largest number of files and folders in an archive
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_files)]
    max_files: u64,
    /// Largest ratio of unpacked to packed bytes (checked above 256 MB)
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_ratio)]
    max_ratio: u64,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let sum = |kind, hex: &Option<String>| match hex {
        None => Ok(None),
        Some(hex) => Checksum::new(kind, hex).map(Some),
    };
    // Checked before anything is downloaded.
    if !(args.max_unpacked_gb > 0.0 && args.max_unpacked_gb.is_finite()) {
        return Err(Error::setting("max-unpacked-gb", "a number above 0", args.max_unpacked_gb).into());
    }
    let settings = Settings {
        checksum: sum(Kind::Sha256, &args.sha256)?.or(sum(Kind::Md5, &args.md5)?),
        force: args.force,
        keep: args.keep,
        retries: args.retries,
        max_bytes: args.max_bytes,
        max_unpacked_bytes: (args.max_unpacked_gb * 1e9) as u64,
        max_files: args.max_files,
        max_ratio: args.max_ratio,
    };
    let source = Source::parse(&args.source)?;
    let name = match args.name.or(globals.dataset.clone()) {
        Some(name) => name,
        None => source.default_name()?,
    };
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let summary = fetch::run(&globals.workspace(), &name, &source, &settings, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
