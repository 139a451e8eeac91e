//! The model card: what the weights are, what they were trained on, what they reached and what nobody should think they do
//! (Mitchell et al. 2019, "Model Cards for Model Reporting"; the head is Hugging Face's).

use super::{Config, Format};
use crate::run::{ModelId, Recipe, Record, Results, model_title};
use crate::scores::Metric;

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
        let (seen, tested) = match id.fold() {
            Some(fold) => (format!("all folds but {fold}"), balanced(Some(fold)).unwrap_or("not evaluated".into())),
            None => ("all images".into(), "nothing was left to test it on".into()),
        };
        rows += &format!("| `{}.{}` | {seen} | {tested} |\n", id.folder_name(), format.extension());
    }
    let mean = match balanced(None) {
        Some(value) => format!("Mean over the folds that were evaluated: balanced accuracy {value}.\n"),
        None => String::new(),
    };
    let training = match &record.recipe {
        Recipe::Network(s) => format!("{} epochs, batch {}, learning rate {}", s.epochs, s.batch, s.learning_rate),
        Recipe::Classical(_) => String::new(),
    };
    let views = match &record.recipe {
        Recipe::Network(s) => s.test_views,
        Recipe::Classical(_) => 1,
    };
    let input = match format {
        Format::Onnx => {
            "`pictures`: uint8 `[n, size, size, 3]`, RGB, 0 to 255; normalising is inside the graph. Outputs: `logits` and \
                         `probabilities`, float32 `[n, 5]`."
        }
        Format::Safetensors => {
            "Arrays have PyTorch's names, order and shapes (ResNet50's are torchvision's). Input: float32 `[n, 3, size, size]`, \
                                normalised by the constants under `config` in the file's metadata."
        }
    };
    format!(
        "---\nlibrary_name: {}\npipeline_tag: image-classification\ntags: [haematology, white-blood-cells, microscopy, {}]\n---\n\n\
         # {} for white blood cells, trained on {}\n\n\
         Five classes, in the order of the outputs: {}.\n\n\
         | file | trained on | balanced accuracy on the fold it never saw |\n| --- | --- | --- |\n{rows}\n{mean}\n\
         - Run `{}`, recipe `{}`, seed {}, {folds} folds, {training}; trained by wbc {}. Models of several folds are best averaged.\n\
         - Probabilities are the network's own, of the picture as it is. `wbc predict` calibrates them by a temperature and averages \
         over turned views where the recipe says so (the figures above are over {} view{}): the two differ.\n\
         - {input}\n\
         - Size {} px; cut: `{}`. A picture is one cell, in the middle. `{example}` shows how to load it.\n\n\
         ## What it does not do\n\n\
         - For research use, not for diagnosis.\n\
         - It knows five classes: any other cell, and anything that is no cell, is called one of the five.\n\
         - The figures hold for images of the same laboratory, stain and camera. Elsewhere expect much less, and measure.\n\
         - Whether these weights may be passed on is for the licence of the images to say.\n",
        if format == Format::Onnx { "onnx" } else { "pytorch" },
        record.model,
        model_title(&record.model),
        record.dataset,
        config.classes.join(", "),
        config.run,
        record.pipeline,
        record.seed,
        config.version,
        views,
        if views == 1 { "" } else { "s" },
        config.preprocess.size_px,
        serde_json::to_value(config.preprocess.cut).expect("a name").as_str().unwrap_or_default(),
    )
}
