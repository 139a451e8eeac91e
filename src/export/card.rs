//! The model card: architecture, training data, results and limits (Mitchell et al. 2019, "Model Cards for Model
//! Reporting"), with Hugging Face's metadata.

use super::config::{Config, Format};
use crate::preprocess::Cut;
use crate::run::{ModelId, Recipe, Record, Results, model_title};
use crate::scores::Metric;
use crate::text;

/// The card of exported classical classifiers as Markdown.
pub fn of_classifiers(record: &Record, run: &str, ids: &[ModelId], results: Option<&Results>, example: &str) -> String {
    let balanced = |fold| {
        let value = results.and_then(|results| results.value(fold, Metric::BalancedAccuracy, None));
        value.map_or("not evaluated".into(), |v| format!("{:.2} %", 100.0 * v))
    };
    let row = |id: &ModelId| match id.fold() {
        Some(fold) => format!("| `{}.onnx` | all folds but {fold} | {} |\n", id.folder_name(), balanced(Some(fold))),
        None => format!("| `{}.onnx` | all images | none: no image was left to test it |\n", id.folder_name()),
    };
    let rows: String = ids.iter().map(row).collect();
    let Record { model, dataset, pipeline, seed, .. } = record;
    let (title, version) = (model_title(model), env!("CARGO_PKG_VERSION"));
    let classes = record.classes.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ");
    format!(
        "---
library_name: onnx
tags: [haematology, microscopy, {model}]
---

# {title}, fitted on {dataset}

{} classes, in the order of the output: {classes}.

| file | fitted on | balanced accuracy on the fold left out |
| --- | --- | --- |
{rows}
- Run `{run}`, recipe `{pipeline}`, seed {seed}; fitted with wbc {version}. If you have the models of several folds,
  average their probabilities.
- Input `features`: float32 `[n, features]`, as `wbc features` measures them, in the order under `config` in the file's
  metadata; NaN where a feature is not defined. The graph fills gaps and standardises. Output `probabilities`: float32.
- The probabilities are those of the classifier; `wbc predict` also calibrates them by a temperature.
- `{example}` shows how to load the files.

## Limits

- For research use, not for diagnosis.
- The model knows {} classes. It assigns one of them to any other cell too, and to anything that is not a cell.
- Colours and sizes are measured as the images have them: the figures hold for images of the same laboratory, stain,
  magnification and camera.
- Whether these files may be distributed depends on the licence of the images.
",
        record.classes.len(),
        record.classes.len(),
    )
}

/// The card of the exported `models` as Markdown.
pub fn text(
    record: &Record,
    models: &[(ModelId, Config)],
    results: Option<&Results>,
    format: Format,
    example: &str,
) -> String {
    let (config, folds) = (&models[0].1, record.folds);
    let percent = |value: Option<f64>| value.map_or("not defined".into(), |v| format!("{:.2} %", 100.0 * v));
    let balanced = |fold| results.map(|results| percent(results.value(fold, Metric::BalancedAccuracy, None)));
    let mut rows = String::new();
    for (id, _) in models {
        let (trained_on, tested) = match id.fold() {
            Some(fold) => {
                let trained_on = match record.is_given_split() {
                    true => "the data set's own training images".into(),
                    false => format!("all folds but {fold}"),
                };
                (trained_on, balanced(Some(fold)).unwrap_or("not evaluated".into()))
            }
            None => ("all images".into(), "none: no image was left to test it".into()),
        };
        rows += &format!("| `{}.{}` | {trained_on} | {tested} |\n", id.folder_name(), format.extension());
    }
    let mean = match balanced(None) {
        Some(value) => format!("Mean over the evaluated folds: balanced accuracy {value}.\n"),
        None => String::new(),
    };
    let (training, views) = match &record.recipe {
        Recipe::Network(s) => (
            format!(
                "{}, batch {}, learning rate {}, {}",
                text::of(s.epochs.into(), "epoch"),
                s.batch,
                s.learning_rate,
                s.precision.name()
            ),
            s.test_views,
        ),
        Recipe::Classical(_) => (String::new(), 1),
    };
    let sized = match &record.recipe {
        Recipe::Network(s) if s.cell_size > 0.0 => {
            ", and has the sizes of the cells of a folder count beside their pixels, which these files do not"
        }
        _ => "",
    };
    let outputs = config.classes.len();
    let input = match format {
        Format::Onnx => format!(
            "Input `images`: uint8 `[n, size, size, 3]`, RGB, 0 to 255; the graph normalises them. \
             Outputs `logits` and `probabilities`: float32 `[n, {outputs}]`."
        ),
        Format::Safetensors => "Arrays have PyTorch's names, order and shapes (those of torchvision for ResNet50). \
             Input: float32 `[n, 3, size, size]`, normalised by the values under `config` in the file's metadata."
            .into(),
    };
    let library = if format == Format::Onnx { "onnx" } else { "pytorch" };
    let preprocess = &config.preprocess;
    let cut = match preprocess.cut {
        Cut::Auto | Cut::Centre => format!(
            "An image shows one cell, in the middle: its central square of {} px is cut out.",
            preprocess.centre_px
        ),
        Cut::Whole => "An image shows one cell, which fills it, and is taken whole.".into(),
        Cut::Box => format!(
            "An image has to be cut around its cell: a square with a margin of {} of the cell's longer side.",
            preprocess.margin
        ),
        Cut::Cell => "Only wbc can prepare the images: it segments the cells.".into(),
    };
    let tested_on = if record.is_given_split() { "the data set's own test images" } else { "the fold left out" };
    let Config { run, version, classes, .. } = config;
    let (model, dataset, pipeline, seed) = (&record.model, &record.dataset, &record.pipeline, record.seed);
    let (title, size_px) = (model_title(model), config.preprocess.size_px);
    let classes = classes.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ");
    let (of, tag) = match record.classes.is_wbc5() {
        true => (" for white blood cells", "white-blood-cells, "),
        false => ("", ""),
    };
    let s = if views == 1 { "" } else { "s" };
    format!(
        "---
library_name: {library}
pipeline_tag: image-classification
tags: [haematology, {tag}microscopy, {model}]
---

# {title}{of}, trained on {dataset}

{outputs} classes, in the order of the outputs: {classes}.

| file | trained on | balanced accuracy on {tested_on} |
| --- | --- | --- |
{rows}
{mean}
- Run `{run}`, recipe `{pipeline}`, seed {seed}, {folds} folds, {training}; trained with wbc {version}. If you have the
  models of several folds, average their probabilities.
- The probabilities are those of the network for the image as it is. `wbc predict` also calibrates them by a temperature
  and averages over rotated and flipped views where the recipe says so{sized}, so its results differ. The figures above
  are over {views} view{s}.
- {input}
- Images of {size_px} px. {cut} `{example}` shows how to load the files.

## Limits

- For research use, not for diagnosis.
- The model knows {outputs} classes. It assigns one of them to any other cell too, and to anything that is not a cell.
- The figures hold for images of the same laboratory, stain and camera. For others expect a much lower accuracy, and
  measure it.
- Whether these weights may be distributed depends on the licence of the images.
"
    )
}
