//! Tables 3 to 6: classes by folds, the share of each class's test images that were classified right.

use super::paper::{self, CrossValidation};
use super::runs::{self, Fits, is_lisc};
use super::{Sheet, Table, Wanted, notes};
use crate::class::Class;
use crate::error::Result;
use crate::run::{Record, Results, model_title};
use crate::scores::Metric;
use crate::workspace::Workspace;

/// Table 3: W-Net.
pub static WNET: Recall = Recall {
    number: 3,
    doc: "W-Net, accuracy a class and fold",
    fits: Fits { model: "wnet", init: false, lisc: false },
    paper: &paper::WNET_CUK,
    caveats: &[
        "The paper's text differs from its Table 3, which is what stands here: lymphocytes 95 % (97 % in the table), \
         206 test neutrophils a fold (a tenth of 2,006 is 200 or 201)",
        notes::WNET_RECIPE,
        notes::CUK,
    ],
};

/// Table 4: ResNet50.
pub static RESNET50: Recall = Recall {
    number: 4,
    doc: "ResNet50, accuracy a class and fold",
    fits: Fits { model: "resnet50", init: false, lisc: false },
    paper: &paper::RESNET50_CUK,
    caveats: &[
        "The paper's ResNet50 swings between 0 and 100 % from fold to fold, as one that has not learnt does: being above \
         it is no merit",
        notes::CUK,
    ],
};

/// Table 5: W-Net on LISC alone.
pub static LISC: Recall = Recall {
    number: 5,
    doc: "W-Net on LISC from scratch",
    fits: Fits { model: "wnet", init: false, lisc: true },
    paper: &paper::WNET_LISC,
    caveats: &[notes::WNET_RECIPE, notes::LISC],
};

/// Table 6: W-Net on one data set, then on LISC.
pub static FURTHER: Recall = Recall {
    number: 6,
    doc: "W-Net trained on one data set, then on LISC",
    fits: Fits { model: "wnet", init: true, lisc: true },
    paper: &paper::WNET_CUK_LISC,
    caveats: &[
        notes::WNET_RECIPE,
        notes::LISC,
        "The paper's started from W-Net trained on its CUK images, which are not public",
    ],
};

/// One of Tables 3 to 6.
pub struct Recall {
    number: u32,
    doc: &'static str,
    fits: Fits,
    paper: &'static CrossValidation,
    /// What must be known of the paper's figures.
    caveats: &'static [&'static str],
}

impl Table for Recall {
    fn number(&self) -> u32 {
        self.number
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn build(&self, ws: &Workspace, wanted: &Wanted) -> Result<Sheet> {
        let run = runs::choose(ws, wanted, &self.fits, |record| !wanted.own || self.is_own(record))?;
        let record = &run.record;
        let folds = record.folds as usize;
        let mut rows = Vec::new();
        for class in Class::ALL {
            let ours = row(&run, class.title(), Metric::Recall, Some(class));
            let i = class.index();
            rows.extend([ours, papers(&self.paper.cells[i], self.paper.classes[i], folds)]);
        }
        let ours = row(&run, "Aver. Accuracy", Metric::BalancedAccuracy, None);
        rows.extend([ours, papers(&self.paper.folds, self.paper.all, folds)]);
        let columns = ["Class", "Of"].map(String::from).into_iter();
        let columns = columns.chain((0..folds).map(|f| format!("Fold-{f}"))).chain(["Aver.".into()]).collect();
        let start = match &record.init {
            Some(init) => format!(" after training on {}", init.dataset.as_deref().unwrap_or(&init.from)),
            None if self.fits.lisc => " from scratch".into(),
            None => String::new(),
        };
        let title = format!(
            "{folds}-fold cross-validation of {} on {}{start}, classification accuracy (%)",
            model_title(&record.model),
            record.dataset
        );
        let notes = notes::of_run(ws, &run, self.caveats);
        Ok(Sheet {
            table: Some(self.number),
            label: self.number.to_string(),
            title,
            run: Some(run.name),
            columns,
            left: &[0, 1],
            rows,
            notes,
        })
    }
}

impl Recall {
    /// Whether this is the table of a run: of those for its kind, the one whose data set fits, or the first.
    fn is_own(&self, record: &Record) -> bool {
        let kin = || [&WNET, &RESNET50, &LISC, &FURTHER].into_iter().filter(|t| t.fits.fits(record));
        let home = kin().find(|t| t.fits.lisc == is_lisc(&record.dataset)).or_else(|| kin().next());
        home.is_some_and(|t| t.number == self.number)
    }
}

/// One of our rows: percent with one decimal, "-" where a fold is not trained or has no image of the class.
fn row(run: &Results, name: &str, metric: Metric, class: Option<Class>) -> Vec<String> {
    let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let folds = (0..run.record.folds).map(Some).chain([None]);
    [name.into(), "wbc".into()].into_iter().chain(folds.map(|f| cell(run.value(f, metric, class)))).collect()
}

/// A row of the paper's figures; its folds only where ours are as many.
fn papers(cells: &[u32; paper::FOLDS], average: u32, folds: usize) -> Vec<String> {
    let cell = |fold: usize| if folds == paper::FOLDS { cells[fold].to_string() } else { "-".into() };
    ["".into(), "paper".into()].into_iter().chain((0..folds).map(cell)).chain([average.to_string()]).collect()
}
