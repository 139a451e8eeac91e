//! `wbc ingest`: reads the data sets under raw/ into manifests, and checks them unless `--no-check` is given.

use super::{Globals, Outcome, each_dataset, shards};
use crate::context::Context;
use crate::error::{Error, Input};
use crate::part::Part;
use crate::{check, ingest};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  wbc ingest                                  # every data set under data/raw/
  wbc ingest --dataset lisc --expert 2        # one, with the second expert's masks
  wbc ingest --dataset pbc --classes pbc8     # with ig, erythroblast, platelet
  wbc ingest --dataset mine --layout list     # images and classes from its list.csv
  wbc ingest --dataset mine --shard 3/100     # one of 100 shares of the images";

/// Reads every data set under data/raw/, or that of --dataset, into data/<DATASET>/manifest.parquet, and checks its
/// images. The layout of the files is recognised automatically. Images are never changed.
///
/// The exit status is 1 if it finds a problem; the remaining images can be used all the same.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Layout of the files: class_folders, list, path, voc, coco, yolo, boxes, jtsc or lisc [default: recognised]
    #[arg(long, value_name = "NAME", env = "WBC_LAYOUT")]
    layout: Option<String>,
    /// Classes: wbc5, pbc8, all (every label), a list (blast,normal), or a .toml file [default: wbc5
    /// where the data set has any of its classes, else all]
    #[arg(long, value_name = "SET", env = "WBC_CLASSES")]
    classes: Option<ingest::Set>,
    /// Which expert's masks to use, 1 or 2, where there are two (LISC) [default: 1]
    #[arg(long, value_name = "N", env = "WBC_EXPERT")]
    expert: Option<u32>,
    /// Part of the images that is cut out where cells have no boxes: auto (as the images are), centre, whole
    /// or cell [default: auto]
    #[arg(long, value_name = "PART", value_parser = cut, env = "WBC_INGEST_CUT")]
    cut: Option<ingest::Cut>,
    /// Do not check the images; `wbc check` has to run before `wbc split`
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    shards: shards::Args,
}

fn cut(text: &str) -> Result<ingest::Cut, String> {
    let value = serde_json::Value::String(text.into());
    serde_json::from_value(value).map_err(|_| "expected auto, centre, whole or cell".into())
}

/// The results for one data set.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingest: Option<ingest::Summary>,
    check: Option<check::Summary>,
    /// How far the shards are, where not all is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<shards::Progress>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut pipeline = globals.pipeline()?;
    pipeline.ingest.layout = args.layout.or(pipeline.ingest.layout);
    pipeline.ingest.expert = args.expert.unwrap_or(pipeline.ingest.expert);
    pipeline.ingest.cut = args.cut.unwrap_or(pipeline.ingest.cut);
    pipeline.classes.set = args.classes.or(pipeline.classes.set);
    let settings = pipeline.ingest();
    settings.validate()?;
    pipeline.check.validate()?;
    let ws = globals.workspace();
    let present = ws.raw_datasets()?;
    let parts = ingest::parts_of_one(&present).filter(|_| globals.dataset.is_none());
    if let Some((what, true)) = &parts {
        let mine = ws.raw_dataset("mine");
        let hint = format!(
            "Folders named after {what} are not data sets: put them into the folder of one, {}. If each is a data set \
             of its own: wbc ingest --dataset {}",
            mine.join(&present[0]).display(),
            present[0]
        );
        return Err(Error::missing(Input::Images, mine).with_hint(hint).into());
    }
    let progress = globals.progress();
    let part = args.shards.part();
    let ctx = Context { part, ..globals.context(pipeline.seed, &progress) };
    let (reports, failed) = each_dataset(globals, &pipeline, &present, |dataset| {
        let ingested = ingest::run(&ws, dataset, &settings, &ctx);
        let ingest = match shards::finished(ingested, "ingest", dataset, part)? {
            Ok(summary) => summary,
            Err(progress) => return Ok(Report { ingest: None, check: None, shards: Some(progress) }),
        };
        if args.no_check {
            return Ok(Report { ingest: Some(ingest), check: None, shards: None });
        }
        match check::run(&ws, dataset, &pipeline.check, &ctx) {
            // Of what was ingested before, the merge has told.
            Err(Error::Waiting(waiting)) if matches!(part, Part::Shard(_)) => {
                let shards = Some(shards::progress(waiting, "ingest", dataset));
                Ok(Report { ingest: None, check: None, shards })
            }
            // The manifest was merged by now, so that the shards can only begin to check.
            Err(Error::Waiting(waiting)) if !ingest.up_to_date => {
                let shards = Some(shards::progress(waiting, "ingest", dataset));
                Ok(Report { ingest: Some(ingest), check: None, shards })
            }
            checked => Ok(Report { ingest: Some(ingest), check: Some(checked?), shards: None }),
        }
    })?;
    let mut text: Vec<String> = reports.iter().map(Report::to_string).collect();
    if let Some((what, false)) = &parts {
        let mine = ws.raw_dataset("mine");
        let message = format!(
            "warning: read as {} data sets. Where they are {what} of one, put them into its folder, {}",
            present.len(),
            mine.join(&present[0]).display()
        );
        text.insert(0, message);
    }
    globals.print(&reports, text.join("\n\n"))?;
    failed.into_result("ingested")?;
    Ok(if parts.is_some() || reports.iter().any(|r| r.findings() > 0) { Outcome::Findings } else { Outcome::Done })
}

impl Report {
    fn findings(&self) -> u64 {
        self.ingest.as_ref().map_or(0, |i| i.findings) + self.check.as_ref().map_or(0, |c| c.findings)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.ingest.as_ref().map(ToString::to_string),
            self.check.as_ref().map(ToString::to_string),
            self.shards.as_ref().map(ToString::to_string),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("\n"))
    }
}
