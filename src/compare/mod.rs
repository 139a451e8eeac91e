//! Compare: the prediction rows of two runs on the same test images → what differs, how sure that is, and in words.
//!
//! Images are joined by `image_id`, fold by fold, and each pair of predictions is one of four outcomes: both right, the
//! first alone, the second alone, neither. Everything here follows from these counts a fold and class; the methods and
//! their sources are in [`crate::statistics`]. Which folds an image is in must be the same for both: a difference in
//! folds is a difference in training images.

use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::evaluate::test_to_train;
use crate::report::notes;
use crate::rows::PredictionRow;
use crate::run::{self, Record, RunDir, model_title};
use crate::scores::{Metric, Scores};
use crate::statistics::{self, CorrectedT, Interval, McNemar, Wilcoxon};
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

mod sheets;
mod words;

/// One of the two runs.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub run: String,
    pub model: String,
    pub pipeline: String,
    pub seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_px: Option<u32>,
}

/// A fold that only one run has finished.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    pub fold: u32,
    /// The run that has not finished it.
    pub missing_in: String,
}

/// A score of both runs, 0 to 1, as mean over folds.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    pub metric: Metric,
    pub class: Option<Class>,
    pub first: f64,
    pub second: f64,
    /// First minus second.
    pub difference: f64,
    /// Its interval: percentile bootstrap of image pairs within fold and class. None where no image tells the two apart:
    /// resampling shows no width.
    pub interval: Option<Interval>,
}

/// Images by who classified them right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    pub both: u64,
    pub first_only: u64,
    pub second_only: u64,
    pub neither: u64,
}

/// Tests of the folds' differences in one metric, first minus second.
#[derive(Clone, Debug, Serialize)]
pub struct OverFolds {
    pub metric: Metric,
    pub differences: Vec<f64>,
    /// None of one fold, or where all folds differ by the same.
    pub corrected_t: Option<CorrectedT>,
    pub wilcoxon: Wilcoxon,
}

/// Two runs, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub dataset: String,
    pub first: Side,
    pub second: Side,
    pub images: u64,
    /// The folds that both have finished.
    pub folds: Vec<u32>,
    pub left_out: Vec<LeftOut>,
    pub scores: Vec<Score>,
    pub outcomes: Outcomes,
    pub mcnemar: McNemar,
    pub over_folds: Vec<OverFolds>,
    /// What it comes to, in plain words.
    pub conclusion: String,
    /// What must be known to read it.
    pub notes: Vec<String>,
}

/// Compares two runs. `ctx.seed` is the bootstrap's.
///
/// # Errors
/// [`Error::Setting`] where the runs are not on the same images and folds, [`Error::Missing`] where one is not there or has
/// no finished fold, [`Error::Format`] where their predictions disagree on what an image is.
pub fn run(ws: &Workspace, first: &str, second: &str, ctx: &Context) -> Result<Comparison> {
    let runs = [Run::load(ws, first)?, Run::load(ws, second)?];
    let [a, b] = &runs;
    comparable(a, b)?;
    let folds: Vec<u32> = a.folds.intersection(&b.folds).copied().collect();
    if folds.is_empty() {
        let list = |run: &Run| run.folds.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let got = format!("fold {} of {first} and fold {} of {second}", list(a), list(b));
        return Err(differ("a fold that both have finished", got));
    }
    let strata = join(a, b, &folds)?;
    let of_first = |strata: &[[u64; 4]]| Scores::by_fold(strata, |[both, first, ..]| both + first);
    let of_second = |strata: &[[u64; 4]]| Scores::by_fold(strata, |[both, _, second, _]| both + second);
    let found = [of_first(&strata), of_second(&strata)];
    let means = [Scores::mean(&found[0]).values(), Scores::mean(&found[1]).values()];
    let difference = |strata: &[[u64; 4]]| -> [Option<f64>; Scores::COUNT] {
        let mean = |folds: &[Scores]| Scores::mean(folds).values();
        let (first, second) = (mean(&of_first(strata)), mean(&of_second(strata)));
        std::array::from_fn(|i| Some(first[i]? - second[i]?))
    };
    let intervals = statistics::bootstrap(&strata, ctx.seed, difference);
    let score = |(i, (metric, class)): (usize, (Metric, Option<Class>))| {
        let (first, second) = (means[0][i]?, means[1][i]?);
        let interval = intervals[i].filter(|interval| interval.low < interval.high);
        Some(Score { metric, class, first, second, difference: first - second, interval })
    };
    let over_folds = |i: usize| {
        let pairs = found[0].iter().zip(&found[1]);
        let differences: Vec<f64> =
            pairs.filter_map(|(first, second)| Some(first.values()[i]? - second.values()[i]?)).collect();
        OverFolds {
            metric: Scores::keys()[i].0,
            corrected_t: statistics::corrected_t(&differences, test_to_train(a.record.folds)),
            wilcoxon: statistics::wilcoxon(&differences),
            differences,
        }
    };
    let sum = |k: usize| strata.iter().map(|counts| counts[k]).sum();
    let outcomes = Outcomes { both: sum(0), first_only: sum(1), second_only: sum(2), neither: sum(3) };
    let lacks = |run: &Run, name: &str| {
        let missing = a.folds.union(&b.folds).filter(|fold| !run.folds.contains(fold));
        missing.map(|fold| LeftOut { fold: *fold, missing_in: name.into() }).collect::<Vec<_>>()
    };
    let mut comparison = Comparison {
        dataset: a.record.dataset.clone(),
        first: a.side(first),
        second: b.side(second),
        images: strata.as_flattened().iter().sum(),
        left_out: [lacks(a, first), lacks(b, second)].concat(),
        folds,
        scores: Scores::keys().into_iter().enumerate().filter_map(score).collect(),
        outcomes,
        mcnemar: statistics::mcnemar(outcomes.first_only, outcomes.second_only),
        over_folds: vec![over_folds(0), over_folds(1)],
        conclusion: String::new(),
        notes: Vec::new(),
    };
    comparison.conclusion = words::conclusion(&comparison, seed_alone(&a.record, &b.record));
    comparison.notes = words::notes(&comparison);
    for (name, run) in [(first, a), (second, b)] {
        comparison.notes.extend(notes::init(&run.record).map(|note| format!("{name}: {note}")));
    }
    if notes::is_synthetic(ws, &comparison.dataset) {
        comparison.notes.push(notes::SYNTHETIC.into());
    }
    Ok(comparison)
}

/// A run as far as it is finished.
struct Run {
    record: Record,
    path: PathBuf,
    predictions: Vec<PredictionRow>,
    folds: BTreeSet<u32>,
}

impl Run {
    fn load(ws: &Workspace, name: &str) -> Result<Self> {
        let record = Record::read(ws, name)?;
        let path = RunDir::new(ws, name).predictions();
        let predictions = run::predictions(ws, name)?;
        let folds: BTreeSet<u32> = predictions.iter().map(|row| row.fold).collect();
        Ok(Self { record, path, predictions, folds })
    }

    fn side(&self, run: &str) -> Side {
        let size_px = self.record.size_px();
        let Record { model, pipeline, seed, .. } = self.record.clone();
        Side { run: run.into(), model: model_title(&model).into(), pipeline, seed, size_px }
    }
}

fn differ(expected: &str, got: String) -> Error {
    Error::Setting { key: "run".into(), expected: format!("two runs with {expected}"), got }
}

/// Whether both runs tested the same images in the same folds.
fn comparable(a: &Run, b: &Run) -> Result<()> {
    let (x, y) = (&a.record, &b.record);
    if a.path == b.path {
        return Err(differ("different names", "the same run twice".into()));
    }
    if x.dataset != y.dataset {
        return Err(differ("one data set", format!("{} and {}", x.dataset, y.dataset)));
    }
    if x.folds != y.folds {
        return Err(differ("as many folds", format!("{} and {}", x.folds, y.folds)));
    }
    match (x.inputs.get("splits"), y.inputs.get("splits")) {
        (Some(one), Some(other)) if one == other => Ok(()),
        (one, other) => {
            let short = |hash: Option<&String>| hash.map_or("none", |h| h.get(..8).unwrap_or(h)).to_string();
            let got = format!(
                "splits.parquet {} and {} (the split was made again between them: train both on the one that is there)",
                short(one),
                short(other)
            );
            Err(differ("one split", got))
        }
    }
}

/// Whether two runs are the same experiment but for the seed.
fn seed_alone(a: &Record, b: &Record) -> bool {
    a.seed != b.seed && Record { seed: b.seed, ..a.clone() } == *b
}

/// Images of each of `folds` and class by outcome: both right, the first alone, the second alone, neither.
fn join(a: &Run, b: &Run, folds: &[u32]) -> Result<Vec<[u64; 4]>> {
    let shared = |run: &Run| run.predictions.iter().filter(|row| folds.binary_search(&row.fold).is_ok()).count();
    let others: HashMap<&str, &PredictionRow> = b.predictions.iter().map(|row| (row.image_id.as_str(), row)).collect();
    let wrong = |item: &str, expected: String, got: String| Error::Format {
        path: b.path.clone(),
        item: item.into(),
        expected: format!("{expected}, as in {}", a.path.display()),
        got,
    };
    let (mine, theirs) = (shared(a), shared(b));
    if mine != theirs {
        return Err(wrong("test images", mine.to_string(), theirs.to_string()));
    }
    let mut strata = vec![[0; 4]; folds.len() * Class::COUNT];
    for row in &a.predictions {
        let Ok(fold) = folds.binary_search(&row.fold) else { continue };
        let says = |row: &PredictionRow| format!("a {} of fold {}", row.truth, row.fold);
        let other = match others.get(row.image_id.as_str()) {
            Some(other) if (other.fold, other.truth) == (row.fold, row.truth) => other,
            found => {
                let got = found.map_or("no such image".into(), |other| says(other));
                return Err(wrong(&row.image_id, says(row), got));
            }
        };
        let outcome = match (row.predicted() == row.truth, other.predicted() == row.truth) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        strata[fold * Class::COUNT + row.truth.index()][outcome] += 1;
    }
    Ok(strata)
}
