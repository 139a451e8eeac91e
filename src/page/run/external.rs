//! The external validations of a run on its page: the results of its models on another data set.

use crate::class::Class;
use crate::evaluate::curves;
use crate::figure::run_plots;
use crate::page::parts;
use crate::predict::external::Validation;
use crate::report::{Sheet, notes, thousands};
use crate::rows::PredictionRow;
use crate::run::{ModelId, Results};
use crate::scores::Metric;
use crate::table;
use crate::workspace::Workspace;
use minijinja::{Value, context};

/// The template values of one validation.
pub(super) fn section(ws: &Workspace, run: &Results, validation: &Validation) -> Value {
    let (about, classes) = (&validation.about, run.classes());
    let own = &run.record.dataset;
    let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.1} %", 100.0 * v));
    let images = |predictions: &[PredictionRow]| thousands(predictions.len() as u64);
    let interval = validation.over_images(Metric::BalancedAccuracy);
    let interval =
        interval.map_or(String::new(), |i| format!("95 % interval {}: {} %", notes::over(i), notes::range(i)));
    // Compares single models on both data sets: the models together are better than each alone.
    let folds: Vec<u32> = about.models.iter().filter_map(|id| id.fold()).collect();
    let on_own = run.mean(Metric::BalancedAccuracy, &folds);
    let on_external = validation.single_models().map(|[_, mean, _]| mean);
    let change = match (on_external, on_own) {
        (Some(external), Some(own)) => format!("{:+.1} points", 100.0 * (external - own)),
        _ => "-".into(),
    };
    let single = format!("{} on {}, {} on {own}", percent(on_external), about.dataset, percent(on_own));
    let without_flagged = format!("accuracy without them: {}", percent(validation.accuracy_without_flagged()));
    let recall = |class: Class| {
        let of_class: Vec<_> = validation.predictions.iter().filter(|p| p.truth == class).cloned().collect();
        let value = validation.value(Metric::Recall, Some(class));
        let on_own = run.value(None, Metric::Recall, Some(class));
        vec![run.classes().title(class), images(&of_class), percent(value), percent(on_own)]
    };
    let columns = ["Recall", "Images", &about.dataset, own].map(String::from);
    let mut confusion = run_plots::confusion(classes, &validation.metrics);
    confusion.caption = "All models together: one row per true class, one column per predicted class; percentages are \
                         of the row."
        .into();
    let now = match table::file_hash(&ws.manifest(&about.dataset)) {
        Ok(hash) if hash == about.manifest => None,
        Ok(_) => Some(format!("{} has changed since this validation", about.dataset)),
        Err(error) => {
            Some(format!("Whether {} has changed since this validation is not known: {error}", about.dataset))
        }
    };
    let left_out = about.coverage.notes(&about.dataset).into_iter().map(|note| parts::capitalised(&note));
    let unlike = about.unlike.as_ref().map(|unlike| parts::capitalised(&unlike.to_string()));
    let notes: Vec<String> =
        left_out.chain(validation.rare_classes()).chain(unlike).chain(about.note.clone()).chain(now).collect();
    let coverage = curves::coverage(classes, &validation.predictions);
    let reliability = curves::reliability(classes, &validation.predictions);
    context! {
        name => about.dataset.clone(),
        models => match about.models.as_slice() {
            [ModelId::All] => "the model of all images".to_string(),
            [ModelId::Fold(fold)] => format!("the model of fold {fold}"),
            models => format!("the models of {} folds together", models.len()),
        },
        notes => notes,
        items => vec![
            parts::item("Balanced accuracy", percent(validation.value(Metric::BalancedAccuracy, None)), interval),
            parts::item("Change of a single model", change, single),
            parts::item(
                "Accuracy",
                percent(validation.value(Metric::Accuracy, None)),
                format!("{} images", images(&validation.predictions)),
            ),
            parts::item("Flagged cells", thousands(validation.flagged()), without_flagged),
        ],
        sheet => parts::sheet(&Sheet::plain(
            "external",
            &format!("Recall of each class on {} and on {own}", about.dataset),
            columns,
            classes.iter().map(recall),
        )),
        plots => parts::figures([confusion, run_plots::reliability(&reliability), run_plots::coverage(&coverage)]),
    }
}
