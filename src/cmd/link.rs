//! `wbc link`: makes images in object storage, or in a folder elsewhere, a data set.

use super::{Globals, Outcome};
use crate::atomic;
use crate::error::{Error, Input};
use crate::storage::{self, Link};
use crate::workspace::Workspace;
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc link pbc s3://our-lab/blood/pbc         # then: wbc ingest --dataset pbc
  wbc link pbc /mnt/microscope/pbc            # a folder of this machine
  AWS_ENDPOINT_URL=http://minio:9000 wbc link pbc s3://cells";

/// Makes the images of an S3 bucket (or of MinIO, Ceph and the like) a data set, without copying them: data/raw/<NAME>
/// becomes a file with the address. Images are read from the server whenever they are needed, many at a time. For a
/// folder elsewhere on this machine, it becomes a symbolic link.
///
/// Access is set as for other S3 tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the role of
/// the container or machine; AWS_REGION; AWS_ENDPOINT_URL for servers other than Amazon's. Without any, the bucket has
/// to be public.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of the data set
    #[arg(value_name = "NAME")]
    name: String,
    /// Bucket and prefix of the images, such as s3://bucket/prefix, or a folder
    #[arg(value_name = "ADDRESS")]
    address: String,
}

#[derive(Serialize)]
struct Report {
    dataset: String,
    address: String,
    file: PathBuf,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let Args { name, address } = args;
    Workspace::check_name("name", &name)?;
    let file = globals.workspace().raw().join(&name);
    if let Some(folder) = folder(&address).map(Path::to_path_buf) {
        return link_folder(name, address, &folder, file, globals);
    }
    let link = Link::new(&address).map_err(|e| {
        let is_web = address.starts_with("http://") || address.starts_with("https://");
        let found = if is_web { format!("{e}: wbc fetch downloads what a web server has") } else { e.to_string() };
        Error::setting("address", "such as s3://bucket/prefix, or a folder", found)
    })?;
    let is_same = |there: &Link| there.url() == address;
    if file.exists() && !storage::link(&file).is_ok_and(|there| there.is_some_and(|there| is_same(&there))) {
        return Err(is_there(&name, &file).into());
    }
    if !link.has_objects().map_err(Error::io(&file, "link"))? {
        let hint = format!("There is no object below {address}");
        return Err(Error::missing(Input::Images, address.as_str()).with_hint(hint).into());
    }
    atomic::write_bytes(&file, format!("{address}\n").as_bytes())?;
    let text = format!("{}: {address}\nNext: wbc ingest --dataset {name}", file.display());
    globals.print(&Report { dataset: name, address, file }, text)?;
    Ok(Outcome::Done)
}

/// The folder of an address of this machine; none for another.
fn folder(address: &str) -> Option<&Path> {
    let path = address.strip_prefix("file://").map(|path| path.strip_prefix("localhost").unwrap_or(path));
    path.map(Path::new).or_else(|| Some(Path::new(address)).filter(|path| path.is_dir()))
}

fn link_folder(
    dataset: String,
    address: String,
    folder: &Path,
    file: PathBuf,
    globals: &Globals,
) -> anyhow::Result<Outcome> {
    let folder = std::fs::canonicalize(folder).map_err(Error::io(folder, "find"))?;
    if !folder.is_dir() {
        return Err(Error::setting("address", "a folder", folder.display()).into());
    }
    let is_there_already = std::fs::symlink_metadata(&file).is_ok();
    if is_there_already && !std::fs::canonicalize(&file).is_ok_and(|there| there == folder) {
        return Err(is_there(&dataset, &file).into());
    }
    if !is_there_already {
        let raw = globals.workspace().raw();
        std::fs::create_dir_all(&raw).map_err(Error::io(&raw, "create"))?;
        symbolic_link(&folder, &file).map_err(Error::io(&file, "link"))?;
    }
    let text = format!("{}: {}\nNext: wbc ingest --dataset {dataset}", file.display(), folder.display());
    globals.print(&Report { dataset, address, file }, text)?;
    Ok(Outcome::Done)
}

fn is_there(name: &str, file: &Path) -> Error {
    Error::setting("name", "the name of a new data set", format!("{name}, which is there: {}", file.display()))
}

#[cfg(unix)]
use std::os::unix::fs::symlink as symbolic_link;
#[cfg(windows)]
use std::os::windows::fs::symlink_dir as symbolic_link;
