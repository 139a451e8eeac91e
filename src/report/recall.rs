//! Tables 3 to 6: recall of each class and fold, the share of the class's test images that are predicted correctly.

use super::paper::{self, CrossValidation};
use super::runs::{self, RunKind, is_lisc};
use super::{Request, Sheet, Table, notes};
use crate::class::Class;
use crate::error::Result;
use crate::run::{Recipe, Record, Results, model_title};
use crate::scores::Metric;
use crate::workspace::Workspace;

/// Table 3: W-Net.
pub(super) static WNET: Recall = Recall {
    number: 3,
    doc: "W-Net: recall of each class and fold",
    kind: RunKind { model: "wnet", init: false, lisc: false },
    paper: &paper::WNET_CUK,
    caveats: &[
        "The paper's text differs from its Table 3, which is shown here: lymphocytes 95 % (97 % in the table), and 206 \
         test neutrophils per fold (a tenth of 2,006 is 200 or 201)",
        notes::WNET_RECIPE,
        notes::CUK,
    ],
};

/// Table 4: ResNet50.
pub(super) static RESNET50: Recall = Recall {
    number: 4,
    doc: "ResNet50: recall of each class and fold",
    kind: RunKind { model: "resnet50", init: false, lisc: false },
    paper: &paper::RESNET50_CUK,
    caveats: &[
        "The paper's ResNet50 varies between 0 and 100 % from fold to fold, like a network that has not learnt: doing \
         better is no achievement",
        notes::CUK,
    ],
};

/// Table 5: W-Net on LISC alone.
pub(super) static LISC: Recall = Recall {
    number: 5,
    doc: "W-Net on LISC, from scratch",
    kind: RunKind { model: "wnet", init: false, lisc: true },
    paper: &paper::WNET_LISC,
    caveats: &[notes::WNET_RECIPE, notes::LISC],
};

/// Table 6: W-Net on one data set, then on LISC.
pub(super) static FURTHER: Recall = Recall {
    number: 6,
    doc: "W-Net trained on one data set, then on LISC",
    kind: RunKind { model: "wnet", init: true, lisc: true },
    paper: &paper::WNET_CUK_LISC,
    caveats: &[
        notes::WNET_RECIPE,
        notes::LISC,
        "The paper's run started from W-Net trained on its CUK images, which are not public",
    ],
};

/// One of Tables 3 to 6.
pub(super) struct Recall {
    number: u32,
    doc: &'static str,
    kind: RunKind,
    paper: &'static CrossValidation,
    /// Notes on the paper's figures.
    caveats: &'static [&'static str],
}

impl Table for Recall {
    fn number(&self) -> u32 {
        self.number
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn build(&self, ws: &Workspace, request: &Request) -> Result<Sheet> {
        let run = runs::choose(ws, request, &self.kind, |record| !request.own_table_only || self.is_own(record))?;
        let record = &run.record;
        let folds = record.folds as usize;
        let classes = run.classes();
        let recalls = classes.iter().map(|class| row(&run, &classes.title(class), Metric::Recall, Some(class)));
        let mut rows: Vec<Vec<String>> =
            recalls.chain([row(&run, "Aver. Accuracy", Metric::BalancedAccuracy, None)]).collect();
        let columns = (0..folds).map(|f| format!("Fold-{f}")).chain(["Aver.".into()]);
        let mut columns: Vec<String> = std::iter::once("Class".into()).chain(columns).collect();
        let is_network = matches!(record.recipe, Recipe::Network(_));
        let like_paper = classes.is_wbc5() && is_network;
        if like_paper {
            columns.insert(1, "Source".into());
            rows.iter_mut().for_each(|row| row.insert(1, "wbc".into()));
            let CrossValidation(paper) = self.paper;
            let both = rows.into_iter().zip(paper).flat_map(|(row, figures)| [row, paper_row(figures, folds)]);
            rows = both.collect();
        }
        let start = match &record.init {
            Some(init) => format!(" after training on {}", init.dataset.as_deref().unwrap_or(&init.from)),
            None if self.kind.lisc => " from scratch".into(),
            None => String::new(),
        };
        let title = format!(
            "{folds}-fold cross-validation of {} on {}{start}, classification accuracy (%)",
            model_title(&record.model),
            record.dataset
        );
        let mut notes = notes::of_run(ws, &run, if like_paper { self.caveats } else { &[] });
        if !is_network {
            notes.summary.insert(0, notes::other_model(record));
        } else if !like_paper {
            notes.summary.insert(0, notes::other_classes(classes));
        }
        Ok(Sheet {
            table: Some(self.number),
            label: self.number.to_string(),
            title,
            run: Some(run.name),
            columns,
            left: if like_paper { &[0, 1] } else { &[0] },
            rows,
            summary: notes.summary,
            notes: notes.details,
        })
    }
}

impl Recall {
    /// Whether a run belongs to this table: of the tables that it fits, the one for its data set, or the first.
    fn is_own(&self, record: &Record) -> bool {
        let fitting = || [&WNET, &RESNET50, &LISC, &FURTHER].into_iter().filter(|t| t.kind.fits(record));
        let own = fitting().find(|t| t.kind.lisc == is_lisc(&record.dataset)).or_else(|| fitting().next());
        own.is_some_and(|t| t.number == self.number)
    }
}

/// A row of the run: percent with one decimal, "-" where a fold is not trained or has no image of the class.
fn row(run: &Results, name: &str, metric: Metric, class: Option<Class>) -> Vec<String> {
    let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let folds = (0..run.record.folds).map(Some).chain([None]);
    std::iter::once(name.into()).chain(folds.map(|f| cell(run.value(f, metric, class)))).collect()
}

/// A row of the paper. Its folds are shown only where the run has as many.
fn paper_row(figures: &[u32; paper::FOLDS + 1], folds: usize) -> Vec<String> {
    let cell = |fold: usize| if folds == paper::FOLDS { figures[fold].to_string() } else { "-".into() };
    let cells = (0..folds).map(cell).chain([figures[paper::FOLDS].to_string()]);
    ["".into(), "paper".into()].into_iter().chain(cells).collect()
}
