//! What a run consists of: its record, its checkpoints and classifiers; and the pipelines that people write.

use crate::batch::{Normalisation, Normalise};
use crate::class::Classes;
use crate::classical::{self, Samples, Scale};
use crate::error::Result;
use crate::models::{Batch, Inference, Model, StateArray, Step};
use crate::pipeline::{BUILT_IN, Pipeline};
use crate::run::{FittedModel, ModelId, Record, RunDir, checkpoint};
use crate::workspace::Workspace;
use crate::{features, harness, integrity};
use std::collections::BTreeMap;

fn workspace() -> Workspace {
    Workspace::new(harness::folder())
}

/// The folder of a run with one model.
fn dir(run: &str) -> RunDir {
    let dir = RunDir::new(&workspace(), run);
    std::fs::create_dir_all(dir.model(ModelId::Fold(0))).expect("a folder");
    dir
}

/// Reads a `run.json`, and writes and reads it again.
pub fn record(bytes: &[u8]) {
    let bytes = harness::resealed(bytes, |file| Ok(0..file.get_ref().len() as u64));
    std::fs::write(dir("r").record(), bytes).expect("a file");
    let Ok(record) = Record::read(&workspace(), "r") else { return };
    let again: Record = integrity::from_json(integrity::json(&record).as_bytes()).expect("it was written by wbc");
    assert_eq!(again.hash(), record.hash());
    let _ = Pipeline::of_run(&record).to_toml();
}

/// Reads a pipeline, and writes and reads it again.
pub fn pipeline(bytes: &[u8]) {
    let path = harness::write("pipeline.toml", bytes);
    let Ok(pipeline) = Pipeline::load(path.to_str().expect("a path in UTF-8")) else { return };
    let _ = pipeline.validate();
    let Ok(text) = pipeline.to_toml() else { return };
    let again: Pipeline = toml::from_str(&text).expect("it was written by wbc");
    assert_eq!(again.to_toml().expect("it was possible before"), text);
}

/// Reads a checkpoint into a network of two arrays.
pub fn checkpoint(bytes: &[u8]) {
    let bytes = harness::resealed(bytes, integrity::safetensors_header);
    let path = harness::write("checkpoint.safetensors", &bytes);
    let _ = checkpoint::is_intact(&path);
    if let Ok(Some(meta)) = checkpoint::meta(&path) {
        let _ = checkpoint::load(&path, &mut Small, &meta);
    }
}

/// Reads a fitted classifier, whose kind is the first byte, and uses it.
pub fn classifier(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let Some(entry) = classical::CLASSIFIERS.get(usize::from(*kind)) else { return };
    let dir = dir(entry.name);
    if !dir.record().exists() {
        std::fs::write(dir.record(), integrity::json(&record_of(entry.name))).expect("a file");
    }
    let bytes = harness::resealed(bytes, integrity::safetensors_header);
    std::fs::write(dir.classifier(ModelId::Fold(0)), bytes).expect("a file");
    if let Ok(model) = FittedModel::open(&workspace(), entry.name, ModelId::Fold(0)) {
        let cell = vec![Some(0.5); features::names().len()];
        if let Ok(probabilities) = model.probabilities(&cell) {
            assert_eq!(probabilities.len(), Classes::wbc5().len());
        }
        model.features();
    }
}

/// A network of two arrays.
struct Small;

impl Model for Small {
    fn size_px(&self) -> usize {
        32
    }

    fn train(&mut self, _: Batch, _: u64, _: f64) -> Result<Step> {
        unreachable!("it is only read")
    }

    fn infer(&self, _: &[f32], _: usize) -> Result<Inference> {
        unreachable!("it is only read")
    }

    fn state(&self, _: bool) -> Vec<StateArray<'_>> {
        let array = |name: &str, shape: Vec<usize>| {
            let bytes = 4 * shape.iter().product::<usize>();
            StateArray { name: name.into(), shape, bytes: Box::new(move || vec![1; bytes]) }
        };
        vec![array("a", vec![2]), array("b", vec![1, 3])]
    }

    fn load(&mut self, _: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        assert_eq!(take("a", &[2])?.len(), 2);
        assert_eq!(take("b", &[1, 3])?.len(), 3);
        Ok(())
    }

    fn parameters(&self) -> usize {
        5
    }
}

/// The record of a run of a model with its usual settings.
fn record_of(model: &str) -> Record {
    let is_network = classical::find(model).is_none();
    Record {
        version: Record::VERSION,
        dataset: "d".into(),
        classes: Classes::wbc5(),
        model: model.into(),
        pipeline: "quick".into(),
        seed: 1,
        folds: 5,
        preprocess: is_network.then(Default::default),
        images: None,
        features: (!is_network).then(Default::default),
        recipe: serde_json::from_value(serde_json::json!({ "model": model })).expect("a model"),
        inputs: BTreeMap::from([("manifest".to_string(), "a".to_string())]),
        init: None,
        own_split: None,
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let plain = |model: &&str| serde_json::to_vec(&record_of(model)).expect("plain data");
    let sealed = |model: &&str| integrity::json(&record_of(model)).into_bytes();
    let models = ["wnet", "resnet50", "knn", "svm", "forest"];
    models.iter().map(plain).chain(models.iter().map(sealed)).collect()
}

pub fn pipeline_seeds() -> Vec<Vec<u8>> {
    BUILT_IN.iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}

pub fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let meta = |finished| checkpoint::Meta {
        run: "0".repeat(64),
        model: "wnet".into(),
        classes: Classes::wbc5(),
        size_px: 32,
        id: ModelId::Fold(0),
        epoch: 1,
        finished,
        normalise: Normalise { kind: Normalisation::default(), mean: [1.0; 3], deviation: [2.0; 3] },
        cell_sizes: None,
        epochs: vec![checkpoint::Epoch {
            epoch: 1,
            steps: 2,
            images: 3,
            learning_rate: 0.1,
            train_loss: 1.5,
            train_accuracy: 0.5,
        }],
    };
    let path = dir("r").checkpoint(ModelId::Fold(0));
    let saved = |finished| {
        checkpoint::save(&path, &Small, &meta(finished)).expect("a checkpoint");
        std::fs::read(&path).expect("a checkpoint")
    };
    vec![saved(false), saved(true)]
}

pub fn classifier_seeds() -> Vec<Vec<u8>> {
    let width = features::names().len();
    let cells: Vec<Vec<Option<f64>>> =
        (0..12).map(|cell| (0..width).map(|k| Some(((cell * 7 + k * 5) % 11) as f64)).collect()).collect();
    let scale = Scale::fit(&cells.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let x: Vec<Vec<f64>> = cells.iter().map(|cell| scale.apply(cell)).collect();
    let x: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
    let fitted = |(kind, entry): (usize, &classical::Entry)| {
        let record = record_of(entry.name);
        let crate::run::Recipe::Classical(settings) = &record.recipe else { unreachable!("a classifier") };
        let samples = Samples {
            x: &x,
            classes: &[0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4, 4],
            count: 5,
            held_out_by: &[0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2],
            inner_folds: 3,
            key: 1,
            calibrate: false,
            class_weights: &[],
        };
        let classifier = settings.fit(&settings.choices()[0], &samples).expect("a classifier");
        let dir = dir(entry.name);
        let model = FittedModel { record: record.clone(), id: ModelId::Fold(0), scale: scale.clone(), classifier };
        model.save(&dir).expect("a classifier");
        [&[kind as u8], std::fs::read(dir.classifier(ModelId::Fold(0))).expect("a classifier").as_slice()].concat()
    };
    classical::CLASSIFIERS.iter().enumerate().map(fitted).collect()
}
