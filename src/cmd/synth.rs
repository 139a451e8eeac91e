//! `wbc synth`: generates a data set of synthetic cells.

use super::{Globals, Outcome};
use crate::synth::{self, Images, Layout};

/// Generates a data set of synthetic cells in data/raw/<NAME>/, for trying wbc, for tests and for timings. A file
/// SYNTHETIC.json in the folder marks the images as synthetic.
#[derive(clap::Args)]
pub struct Args {
    /// Arrangement of the files: cuk (360 x 361 JPEG) or lisc (720 x 576 BMP frames with masks)
    #[arg(long, default_value = "cuk", value_parser = layout)]
    layout: Layout,
    /// Number of images, with the paper's class shares, or one number per class: NE,EO,BA,LY,MO
    /// and, if wanted, immature granulocytes, erythroblasts and platelets
    #[arg(long, value_name = "N", default_value = "600")]
    images: Images,
    /// Name of the new data set [default: synthetic, or synthetic-lisc]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

fn layout(text: &str) -> Result<Layout, String> {
    [Layout::Cuk, Layout::Lisc]
        .into_iter()
        .find(|layout| layout.name() == text)
        .ok_or_else(|| "expected cuk or lisc".to_string())
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let settings = synth::Settings { layout: args.layout, images: args.images };
    let name = args.name.or(globals.dataset.clone()).unwrap_or_else(|| args.layout.default_dataset().into());
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let summary = synth::run(&globals.workspace(), &name, &settings, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
