//! Trains one model of a network, epoch by epoch, and predicts the fold's test images.

use super::curves;
use super::folder::{is_predicted, write_predictions};
use super::init::Start;
use super::plan::{Plan, Target};
use crate::batch::{Normalisation, Normalise, Tensors, View};
use crate::class::Class;
use crate::context::Context;
use crate::dataset::{self, Dataset};
use crate::error::{Error, Input, Result};
use crate::models::{Batch, Model, Objective, Pixels};
use crate::nn::Precision;
use crate::nn::device::Device;
use crate::rows::{EpochRow, PredictionRow};
use crate::run::checkpoint::{self, Epoch, Meta};
use crate::run::claim::Claim;
use crate::run::{
    self, CellSizes, LossKind, ModelId, NetworkSettings, OwnSplit, Recipe, Record, RunDir, Sampling, SizedCell,
    TrainedImages, timings,
};
use crate::seed;
use crate::split::{self, Splits};
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Images predicted at a time.
const PREDICT_BATCH: usize = 64;
/// How often training on a GPU writes its checkpoint, at most.
const SAVED_EVERY: Duration = Duration::from_secs(10);

/// Everything that the models of a run are trained with.
pub(super) struct Data {
    settings: NetworkSettings,
    tensors: Tensors,
    pub splits: Splits,
    class_of: HashMap<String, Class>,
    pub record: Record,
    hash: String,
    start: Option<Start>,
    /// What is not known about the weights to start from.
    pub note: Option<String>,
    device: Device,
}

/// An image to train on or to test.
struct Image<'a> {
    id: &'a str,
    /// Its row in the tensors.
    row: usize,
    class: Class,
}

impl Data {
    pub fn load(
        ws: &Workspace,
        dataset: &str,
        settings: &NetworkSettings,
        seed: u64,
        plan: &Plan,
        ctx: &Context,
    ) -> Result<Self> {
        let splits = split::read(ws, dataset)?;
        let Dataset { classes, cells, .. } = Dataset::read(ws, dataset)?;
        let tensors = match plan.target {
            Target::NoModel => Tensors::load_some(ws, dataset, &plan.preprocess, &BTreeSet::new())?,
            _ => Tensors::load(ws, dataset, &plan.preprocess)?,
        };
        let find = |source| Start::find(ws, source, &settings.model, &classes);
        let start = plan.init.as_ref().map(find).transpose()?;
        let note = match &start {
            Some(start) if plan.target != Target::AllImages => {
                let tested = cells.iter().filter(|r| splits.is_tested(&r.image_id));
                start.check_leak(ws, &tested.cloned().collect::<Vec<_>>(), dataset, ctx)?
            }
            _ => None,
        };
        let images = TrainedImages::of(&cells, &plan.preprocess);
        let class_of = cells.into_iter().filter_map(|r| Some((r.image_id, r.class?))).collect();
        let inputs = BTreeMap::from([
            (Input::Manifest.name().into(), table::file_hash(&ws.manifest(dataset))?),
            (Input::Splits.name().into(), table::file_hash(&ws.splits(dataset))?),
            (Input::Tensors.name().into(), tensors.hash.clone()),
        ]);
        let record = Record {
            version: Record::VERSION,
            dataset: dataset.into(),
            classes,
            model: settings.model.clone(),
            pipeline: plan.pipeline.clone(),
            seed,
            folds: splits.folds,
            features: None,
            preprocess: Some(plan.preprocess.clone()),
            images,
            recipe: Recipe::Network(settings.clone()),
            inputs,
            init: start.as_ref().map(|s| s.init.clone()),
            own_split: OwnSplit::of(&splits),
        };
        let (device, hash) = (plan.device, record.hash());
        Ok(Self { settings: settings.clone(), tensors, splits, class_of, record, hash, start, note, device })
    }

    /// Builds a network and loads the weights to start from, to find out whether both are possible; returns the number
    /// of its parameters.
    pub fn check(&self) -> Result<usize> {
        let mut model = self.build(ModelId::Fold(0))?;
        if let Some(start) = &self.start {
            start.apply(model.as_mut())?;
        }
        Ok(model.parameters())
    }

    /// The epochs of a model where it is finished.
    pub fn finished(&self, dir: &RunDir, id: ModelId) -> Result<Option<Vec<EpochRow>>> {
        let meta = checkpoint::finished(dir, id, &self.hash)?;
        let predicted = id == ModelId::All || is_predicted(dir, id, &self.record, &self.splits)?;
        let rows = |meta: Meta| match id {
            ModelId::Fold(fold) => meta.epochs.iter().map(|epoch| epoch.row(fold)).collect(),
            ModelId::All => Vec::new(),
        };
        Ok(meta.filter(|_| predicted).map(rows))
    }

    /// The class of every image that a model may be trained on.
    pub fn classes(&self) -> impl Iterator<Item = Class> + '_ {
        ModelId::All.training_images(&self.splits).filter_map(|id| self.class_of.get(id).copied())
    }

    fn build(&self, id: ModelId) -> Result<Box<dyn Model>> {
        let Record { seed, folds, .. } = self.record;
        self.settings.build(self.tensors.size_px, self.record.classes.len(), seed, id.seed_key(folds), self.device)
    }

    /// # Errors
    /// [`Error::Data`] where the split has an image that was not preprocessed: none may be left out unnoticed.
    fn images<'a>(&'a self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<Image<'a>>> {
        ids.map(|id| match (self.tensors.row(id), self.class_of.get(id)) {
            (Some(row), Some(class)) => Ok(Image { id, row, class: *class }),
            _ => {
                Err(Error::data(&self.record.dataset, "a tensor of every image of the split", format!("none of {id}"))
                    .with_hint("Check and split the data set, then preprocess it again"))
            }
        })
        .collect()
    }

    /// Logs how much there is to train and an estimate of the time, from a few steps of a network that is thrown away.
    pub fn announce(&self, models: &[ModelId], ctx: &Context) -> Result<()> {
        let settings = &self.settings;
        match (settings.precision, self.device) {
            (Precision::Tf32, Device::Cpu) => {
                ctx.progress.log("train.precision = \"tf32\" has no effect on the CPU: numbers are f32");
            }
            (Precision::Bf16, Device::Cpu) if Precision::bf16_instructions().is_none() => {
                let faster = "train.precision = \"f32\" is faster here";
                ctx.progress.log(&format!("this processor has no instructions for bf16: {faster}"));
            }
            _ => (),
        }
        let mut model = self.build(ModelId::Fold(0))?;
        let train = self.images(models[0].training_images(&self.splits))?;
        let rows: Vec<usize> = train.iter().map(|image| image.row).take(settings.batch).collect();
        let labels = vec![0; rows.len()];
        let keys = vec![0; rows.len()];
        let normalise = Normalise { kind: Normalisation::Unit, mean: [0.0; 3], deviation: [255.0; 3] };
        let mut best = Duration::MAX;
        for t in 1..=4 {
            let start = Instant::now();
            let mut x = model.pixels(rows.len() * self.tensors.size_px * self.tensors.size_px * 3)?;
            self.tensors.fill(&rows, |_| View::turned(5), &normalise, &mut x);
            model.train(Batch { x, labels: &labels, keys: &keys, objective: Objective::default() }, t, 1e-6)?;
            best = best.min(start.elapsed());
        }
        let images: usize = models.iter().map(|id| id.training_images(&self.splits).count()).sum();
        let steps = (images * settings.epochs as usize) as f64 / rows.len().max(1) as f64;
        let seconds = steps * best.as_secs_f64();
        let what = match models {
            [ModelId::All] => "one model of all images".into(),
            folds => format!("{} of {} folds", folds.len(), self.record.folds),
        };
        ctx.progress.log(&format!(
            "{}: {what}, {} of about {}, batch {}: about {} on {}",
            settings.model,
            text::of(settings.epochs.into(), "epoch"),
            text::of((images / models.len()) as u64, "image"),
            settings.batch,
            crate::progress::human(seconds),
            match self.device {
                Device::Cpu => text::of(rayon::current_num_threads() as u64, "thread"),
                device => device.to_string(),
            },
        ));
        Ok(())
    }

    /// Trains one model, from its checkpoint where there is one, and predicts its test images.
    pub fn train(&self, dir: &RunDir, id: ModelId, claim: &Claim, logs: &[curves::Log], ctx: &Context) -> Result<()> {
        let (record, settings) = (&self.record, &self.settings);
        let train = self.images(id.training_images(&self.splits))?;
        if train.is_empty() {
            return Err(Error::data(&record.dataset, format!("training images in fold {id}"), "none")
                .with_hint("Split the data set and preprocess it again"));
        }
        let mut model = self.build(id)?;
        let mut meta = self.begin(dir, id, model.as_mut(), &train, ctx)?;
        if meta.finished {
            // Its predictions are missing or damaged.
            return self.write_predictions(dir, model.as_ref(), &meta);
        }
        let steps = train.len().div_ceil(settings.batch) as u64;
        let total = steps * u64::from(settings.epochs);
        let what = match id {
            ModelId::Fold(fold) => format!("fold {fold} of {}", record.folds),
            ModelId::All => "all images".into(),
        };
        let images = train.len() as u64 * u64::from(settings.epochs - meta.epoch);
        let task = ctx.progress.task(&what, Some(images), "images");
        let (mut saved, mut times) = (Instant::now(), Vec::new());
        while meta.epoch < settings.epochs {
            let start = Instant::now();
            let epoch = self.train_epoch(model.as_mut(), &meta, &train, steps, total, ctx)?;
            meta.epoch = epoch.epoch;
            let line = format!(
                "{what}, epoch {:>3}: loss {:.4}, train accuracy {:.1} %",
                epoch.epoch,
                epoch.train_loss,
                100.0 * epoch.train_accuracy
            );
            task.note(&format!("epoch {} loss {:.3}", epoch.epoch, epoch.train_loss));
            meta.epochs.push(epoch);
            claim.require()?;
            if meta.epoch == settings.epochs {
                self.write_predictions(dir, model.as_ref(), &meta)?;
                meta.finished = true;
            }
            // On a GPU an epoch may take a second; writing the weights after each would take as long.
            let due = meta.finished || self.device == Device::Cpu || saved.elapsed() >= SAVED_EVERY;
            if due {
                checkpoint::save(&dir.checkpoint(id), model.as_ref(), &meta)?;
                saved = Instant::now();
            }
            let elapsed = start.elapsed().as_secs_f64();
            times.push((meta.epoch, elapsed));
            if due {
                for (epoch, elapsed) in times.drain(..) {
                    timings::append(dir, id, epoch, train.len(), elapsed, self.device)?;
                }
                curves::write(dir, record, &[id], logs)?;
            }
            ctx.progress.log(&format!("{line}, {:.0} images/s", train.len() as f64 / elapsed));
        }
        Ok(())
    }

    /// Loads the checkpoint of an interrupted training into `model`, or the weights to start from.
    fn begin(&self, dir: &RunDir, id: ModelId, model: &mut dyn Model, train: &[Image], ctx: &Context) -> Result<Meta> {
        let path = dir.checkpoint(id);
        if let Some(meta) = checkpoint::meta(&path)?.filter(|meta| meta.run == self.hash) {
            checkpoint::load(&path, model, &meta)?;
            let epochs = self.settings.epochs;
            ctx.progress.log(&match meta.finished {
                true => format!("{}: predicting its test images again", id.title()),
                false => format!("{}: resuming after epoch {} of {epochs}", id.title(), meta.epoch),
            });
            return Ok(meta);
        }
        if let Some(start) = &self.start {
            for note in start.apply(model)? {
                ctx.progress.log(&format!("{}: {note}", start.init.from));
            }
        }
        let rows: Vec<usize> = train.iter().map(|image| image.row).collect();
        Ok(Meta {
            run: self.hash.clone(),
            model: self.settings.model.clone(),
            classes: self.record.classes.clone(),
            size_px: self.tensors.size_px,
            id,
            epoch: 0,
            finished: false,
            normalise: Normalise::fit(self.settings.normalise, &self.tensors, &rows),
            cell_sizes: self.cell_sizes(train, ctx),
            epochs: Vec::new(),
        })
    }

    /// The sizes of the training cells, where they are to count.
    fn cell_sizes<'a>(&self, train: &[Image<'a>], ctx: &Context) -> Option<CellSizes> {
        if self.settings.cell_size == 0.0 {
            return None;
        }
        let sized = |image: &Image<'a>| {
            let diameters_px = self.tensors.diameters_px(image.row)?;
            let (dataset, class) = (dataset::of_image(image.id), self.record.position(image.class));
            Some(SizedCell { dataset, class, diameters_px })
        };
        let cells: Vec<SizedCell> = train.iter().filter_map(sized).collect();
        let sizes = CellSizes::fit(&cells, self.record.classes.len());
        if sizes.is_none() {
            ctx.progress.log("the sizes of cells do not count: too few training cells were found by segmentation");
        }
        sizes
    }

    fn train_epoch(
        &self,
        model: &mut dyn Model,
        meta: &Meta,
        train: &[Image],
        steps: u64,
        total: u64,
        ctx: &Context,
    ) -> Result<Epoch> {
        let (settings, seed, fold) = (&self.settings, self.record.seed, meta.id.seed_key(self.record.folds));
        let epoch = u64::from(meta.epoch) + 1;
        let labels: Vec<usize> = train.iter().map(|image| self.record.position(image.class)).collect();
        let mut counts = vec![0; self.record.classes.len()];
        labels.iter().for_each(|label| counts[*label] += 1);
        let class_weights = match &settings.class_weight {
            Some(class_weight) => class_weight.weights(&self.record.classes, &counts)?,
            None => Vec::new(),
        };
        let focal_gamma = (settings.loss == LossKind::Focal).then_some(settings.focal_gamma);
        let mut order: Vec<usize> = match settings.sampling {
            Sampling::Shuffled => (0..train.len()).collect(),
            Sampling::Balanced => balanced(&labels, &mut seed::rng(seed, "sampling", fold, epoch, 0)),
            Sampling::Laboratory => balanced(&laboratories(train), &mut seed::rng(seed, "sampling", fold, epoch, 0)),
        };
        shuffle(&mut order, &mut seed::rng(seed, "shuffle", fold, epoch, 0));
        let image = |drawn: usize| drawn % train.len();
        let len = self.tensors.size_px * self.tensors.size_px * 3;
        let prepare = |chunk: &[usize], mut x: Pixels| {
            let rows: Vec<usize> = chunk.iter().map(|i| train[image(*i)].row).collect();
            let view = |k: usize| settings.augment.view(&mut seed::rng(seed, "augment", fold, epoch, chunk[k] as u64));
            self.tensors.fill(&rows, view, &meta.normalise, &mut x);
            x
        };
        let (mut loss, mut correct, mut rate) = (0.0, 0, 0.0);
        let mut step = |model: &mut dyn Model, step: usize, chunk: &[usize], x: Pixels| -> Result<()> {
            ctx.check_stop()?;
            let labels: Vec<usize> = chunk.iter().map(|i| labels[image(*i)]).collect();
            let weights: Vec<f32> =
                labels.iter().filter_map(|label| class_weights.get(*label)).map(|weight| *weight as f32).collect();
            let objective = Objective { weights: &weights, focal_gamma };
            let keys: Vec<u64> = chunk.iter().map(|i| seed::key(seed, "dropout", fold, epoch, *i as u64)).collect();
            let t = (epoch - 1) * steps + step as u64;
            rate = settings.schedule.rate(settings.learning_rate, t, total);
            let done = model.train(Batch { x, labels: &labels, keys: &keys, objective }, t + 1, rate)?;
            loss += f64::from(done.loss) * chunk.len() as f64;
            correct += done.correct;
            ctx.progress.advance(chunk.len() as u64);
            Ok(())
        };
        let chunks: Vec<&[usize]> = order.chunks(settings.batch).collect();
        match self.device {
            Device::Cpu => chunks.iter().enumerate().try_for_each(|(i, chunk)| {
                let x = prepare(chunk, model.pixels(chunk.len() * len)?);
                step(model, i, chunk, x)
            })?,
            // The CPU prepares a batch while the device trains on the one before.
            Device::Cuda(_) => std::thread::scope(|scope| {
                let prepare = &prepare;
                let start = |model: &dyn Model, i: usize| match chunks.get(i) {
                    Some(chunk) => {
                        let x = model.pixels(chunk.len() * len)?;
                        Ok(Some(scope.spawn(move || prepare(chunk, x))))
                    }
                    None => Ok(None),
                };
                let mut next = start(model, 0)?;
                for (i, chunk) in chunks.iter().enumerate() {
                    let x = next.take().expect("every batch is prepared").join();
                    next = start(model, i + 1)?;
                    step(model, i, chunk, x.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))?;
                }
                Ok::<(), Error>(())
            })?,
        }
        Ok(Epoch {
            epoch: epoch as u32,
            steps: epoch * steps,
            images: train.len() as u64,
            learning_rate: rate,
            train_loss: loss / train.len() as f64,
            train_accuracy: correct as f64 / train.len() as f64,
        })
    }

    /// Predicts the test images of a fold, and the held-out test set.
    fn write_predictions(&self, dir: &RunDir, model: &dyn Model, meta: &Meta) -> Result<()> {
        let ModelId::Fold(fold) = meta.id else { return Ok(()) };
        let predict = |images: Vec<Image>| self.predict(model, meta, fold, &images);
        let test = predict(self.images(self.splits.test(fold))?)?;
        let held_out = predict(self.images(self.splits.held_out())?)?;
        write_predictions(dir, &self.record, fold, &test, &held_out)
    }

    fn predict(&self, model: &dyn Model, meta: &Meta, fold: u32, images: &[Image]) -> Result<Vec<PredictionRow>> {
        let mut probabilities = Vec::with_capacity(images.len());
        for images in images.chunks(PREDICT_BATCH) {
            let rows: Vec<usize> = images.iter().map(|image| image.row).collect();
            let inferred = run::infer(model, &meta.normalise, self.settings.test_views, &self.tensors, &rows)?;
            probabilities.extend(inferred.probabilities);
        }
        if let Some(sizes) = &meta.cell_sizes {
            let diameters: Vec<_> = images.iter().map(|image| self.tensors.diameters_px(image.row)).collect();
            let datasets: Vec<&str> = images.iter().map(|image| dataset::of_image(image.id)).collect();
            sizes.weigh(self.settings.cell_size, &mut probabilities, &diameters, &datasets, false);
        }
        let row = |(image, p): (&Image, _)| PredictionRow::new(image.id.into(), fold, image.class, p);
        Ok(images.iter().zip(probabilities).map(row).collect())
    }
}

/// The number of each image's data set.
fn laboratories(images: &[Image]) -> Vec<usize> {
    let names: BTreeSet<&str> = images.iter().map(|image| dataset::of_image(image.id)).collect();
    let number: BTreeMap<&str, usize> = names.into_iter().enumerate().map(|(i, name)| (name, i)).collect();
    images.iter().map(|image| number[dataset::of_image(image.id)]).collect()
}

/// As many draws as there are images, equally many of each label (a class, a data set) that occurs. A draw is the
/// image's number, plus the number of images for each time that it was drawn before, so that every draw has its own
/// augmentation and dropout. Images of a label are drawn in a random order, again and again.
fn balanced(labels: &[usize], rng: &mut seed::Pcg64) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |largest| largest + 1);
    let mut images: Vec<Vec<usize>> = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(image, label)| images[*label].push(image));
    images.retain(|images| !images.is_empty());
    let mut draws = Vec::with_capacity(labels.len());
    let present = images.len();
    for (i, images) in images.iter_mut().enumerate() {
        shuffle(images, rng);
        let share = labels.len() * (i + 1) / present - labels.len() * i / present;
        draws.extend((0..share).map(|draw| images[draw % images.len()] + draw / images.len() * labels.len()));
    }
    draws
}

/// Fisher and Yates with the project's own generator, so that an update of a library does not change results.
fn shuffle(order: &mut [usize], rng: &mut seed::Pcg64) {
    for i in (1..order.len()).rev() {
        let j = ((u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_sampling_draws_every_class_equally_often() {
        // 60, 30 and 9 images of three of four classes.
        let labels: Vec<usize> = (0..99)
            .map(|i| {
                if i < 60 {
                    0
                } else if i < 90 {
                    1
                } else {
                    3
                }
            })
            .collect();
        let draws = balanced(&labels, &mut seed::rng(1, "test", 0, 0, 0));
        let mut counts = [0; 4];
        draws.iter().for_each(|draw| counts[labels[draw % 99]] += 1);
        assert_eq!(counts, [33, 33, 0, 33]);
        let distinct: std::collections::BTreeSet<&usize> = draws.iter().collect();
        assert_eq!(distinct.len(), 99, "a repeated image has other random changes");
        let rare = draws.iter().map(|draw| draw % 99).filter(|image| *image >= 90);
        let rare: std::collections::BTreeSet<usize> = rare.collect();
        assert_eq!(rare.len(), 9, "every image of a rare class is drawn");
    }
}
