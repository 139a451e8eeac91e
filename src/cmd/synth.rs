//! `wbc synth`: draws a data set of cells.

use super::{Globals, Outcome};
use crate::synth::{self, Images, Layout};

/// Draws a data set of cells into data/raw/<NAME>/. The pictures are drawn, not photographed: they are for a first
/// try, for tests and for timings, and a file SYNTHETIC.json beside them says so.
#[derive(clap::Args)]
pub struct Args {
    /// Folders and files as in this data set: cuk (360x361 JPEG) or lisc (720x576 BMP frames with masks)
    #[arg(long, default_value = "cuk", value_parser = layout)]
    layout: Layout,
    /// Tensors in all, with the paper's class shares; or of each class: NE,EO,BA,LY,MO
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
