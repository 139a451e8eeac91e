//! Compare: two runs on the same test images, by their prediction rows: differences, significance tests and a
//! conclusion.
//!
//! Images are joined by `image_id`. Each pair of predictions has one of four outcomes: both correct, only the first,
//! only the second, neither. Everything follows from the number of outcomes per fold and class; [`crate::statistics`]
//! has the methods and their sources. Both runs must have the same folds, as other folds mean other training images.

use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::evaluate::test_to_train;
use crate::rows::PredictionRow;
use crate::run::{self, Record, RunDir, model_title};
use crate::scores::{Metric, Scores};
use crate::statistics;
use crate::workspace::Workspace;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

mod comparison;
mod sheets;
mod text;

pub use comparison::{Comparison, LeftOut, Outcomes, OverFolds, Score, Side};

/// Compares two runs. `ctx.seed` is the seed of the bootstrap.
///
/// # Errors
/// [`Error::Setting`] where the runs do not have the same data set and folds, [`Error::Missing`] where a run does not
/// exist or has no finished fold, [`Error::Format`] where their predictions do not have the same images.
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
    let of_first =
        |strata: &[[u64; 4]]| Scores::by_fold(strata, a.record.classes.len(), |[both, first, ..]| both + first);
    let of_second =
        |strata: &[[u64; 4]]| Scores::by_fold(strata, a.record.classes.len(), |[both, _, second, _]| both + second);
    let by_fold = [of_first(&strata), of_second(&strata)];
    let means = [Scores::mean(&by_fold[0]).values(), Scores::mean(&by_fold[1]).values()];
    let keys = Scores::keys(&a.record.classes);
    let difference = |strata: &[[u64; 4]]| -> Vec<Option<f64>> {
        let mean = |folds: &[Scores]| Scores::mean(folds).values();
        let (first, second) = (mean(&of_first(strata)), mean(&of_second(strata)));
        first.iter().zip(second).map(|(first, second)| Some((*first)? - second?)).collect()
    };
    let intervals = statistics::bootstrap(&strata, ctx.seed, difference);
    let score = |(i, (metric, class)): (usize, (Metric, Option<Class>))| {
        let (first, second) = (means[0][i]?, means[1][i]?);
        let interval = intervals[i].filter(|interval| interval.low < interval.high);
        Some(Score { metric, class, first, second, difference: first - second, interval })
    };
    let over_folds = |i: usize| {
        let pairs = by_fold[0].iter().zip(&by_fold[1]);
        let differences: Vec<f64> =
            pairs.filter_map(|(first, second)| Some(first.values()[i]? - second.values()[i]?)).collect();
        OverFolds {
            metric: keys[i].0,
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
        scores: keys.iter().copied().enumerate().filter_map(score).collect(),
        outcomes,
        mcnemar: statistics::mcnemar(outcomes.first_only, outcomes.second_only),
        over_folds: vec![over_folds(0), over_folds(1)],
        conclusion: String::new(),
        summary: Vec::new(),
        notes: Vec::new(),
    };
    comparison.conclusion = text::conclusion(&comparison, only_seed_differs(&a.record, &b.record));
    comparison.summary = text::summary(&comparison, ws);
    comparison.notes = text::notes(&comparison, [&a.record, &b.record]);
    Ok(comparison)
}

/// The finished folds of a run.
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
    Error::setting("run", format!("two runs with {expected}"), got)
}

/// Checks that both runs tested the same images in the same folds.
fn comparable(a: &Run, b: &Run) -> Result<()> {
    let (x, y) = (&a.record, &b.record);
    if a.path == b.path {
        return Err(differ("different names", "the same run twice".into()));
    }
    if x.dataset != y.dataset {
        return Err(differ("one data set", format!("{} and {}", x.dataset, y.dataset)));
    }
    let (first, second): (BTreeSet<Class>, BTreeSet<Class>) = (x.classes.iter().collect(), y.classes.iter().collect());
    if first != second {
        return Err(differ("the same classes", format!("{} and {}", x.classes, y.classes)));
    }
    if x.folds != y.folds {
        return Err(differ("the same number of folds", format!("{} and {}", x.folds, y.folds)));
    }
    match (x.input(Input::Splits), y.input(Input::Splits)) {
        (Some(first), Some(second)) if first == second => Ok(()),
        (first, second) => {
            let short = |hash: Option<&str>| hash.map_or("none", |h| h.get(..8).unwrap_or(h)).to_string();
            let got = format!(
                "splits.parquet {} and {} (the images were split again in between; train both runs on the same split)",
                short(first),
                short(second)
            );
            Err(differ("one split", got))
        }
    }
}

/// Whether two runs differ only in the seed.
fn only_seed_differs(a: &Record, b: &Record) -> bool {
    a.seed != b.seed && Record { seed: b.seed, ..a.clone() } == *b
}

/// Images of each of `folds` and class, by outcome: both correct, only the first, only the second, neither.
fn join(a: &Run, b: &Run, folds: &[u32]) -> Result<Vec<[u64; 4]>> {
    let in_folds = |run: &Run| run.predictions.iter().filter(|row| folds.binary_search(&row.fold).is_ok()).count();
    let second_rows: HashMap<&str, &PredictionRow> =
        b.predictions.iter().map(|row| (row.image_id.as_str(), row)).collect();
    let mismatch = |item: &str, expected: String, got: String| {
        Error::format(&b.path, item, format!("{expected}, as in {}", a.path.display()), got)
    };
    let (first, second) = (in_folds(a), in_folds(b));
    if first != second {
        return Err(mismatch("test images", first.to_string(), second.to_string()));
    }
    let classes = &a.record.classes;
    let mut strata = vec![[0; 4]; folds.len() * classes.len()];
    for row in &a.predictions {
        let Ok(fold) = folds.binary_search(&row.fold) else { continue };
        let describe = |row: &PredictionRow| format!("a {} of fold {}", row.truth, row.fold);
        let second = match second_rows.get(row.image_id.as_str()) {
            Some(second) if (second.fold, second.truth) == (row.fold, row.truth) => second,
            second => {
                let got = second.map_or("no such image".into(), |second| describe(second));
                return Err(mismatch(&row.image_id, describe(row), got));
            }
        };
        let correct = |run: &Run, row: &PredictionRow| run.record.classes.likeliest(&row.probabilities) == row.truth;
        let outcome = match (correct(a, row), correct(b, second)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let Some(class) = classes.index(row.truth) else {
            let expected = format!("a class among {classes}");
            return Err(Error::format(&a.path, &row.image_id, expected, row.truth));
        };
        strata[fold * classes.len() + class][outcome] += 1;
    }
    Ok(strata)
}
