//! `wbc link`: makes images in object storage a data set.

use super::{Globals, Outcome};
use crate::atomic;
use crate::error::{Error, Input};
use crate::storage::{self, Link};
use crate::workspace::Workspace;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc link pbc s3://our-lab/blood/pbc         # then: wbc ingest --dataset pbc
  AWS_ENDPOINT_URL=http://minio:9000 wbc link pbc s3://cells";

/// Makes the images of an S3 bucket (or of MinIO, Ceph and the like) a data set, without copying them: data/raw/<NAME>
/// becomes a file with the address. Images are read from the server whenever they are needed, many at a time.
///
/// Access is set as for other S3 tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or the role of the
/// machine; AWS_REGION; AWS_ENDPOINT_URL for servers other than Amazon's. Without any, the bucket has to be public.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of the data set
    #[arg(value_name = "NAME")]
    name: String,
    /// Bucket and prefix of the images
    #[arg(value_name = "S3://BUCKET/PREFIX")]
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
    let link = Link::new(&address).map_err(|e| Error::setting("address", "such as s3://bucket/prefix", e))?;
    let file = globals.workspace().raw().join(&name);
    let is_same = |there: &Link| there.url() == address;
    if file.exists() && !storage::link(&file).is_ok_and(|there| there.is_some_and(|there| is_same(&there))) {
        let got = format!("{name}, which is there: {}", file.display());
        return Err(Error::setting("name", "the name of a new data set", got).into());
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
